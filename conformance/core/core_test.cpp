// SPDX-License-Identifier: MIT
// The core's decoder and run loop on fake hardware: requests are answered, never trusted.
#include "conformance/core/fake_hardware.hpp"
#include "refhv/client/batch.hpp"

#include <gtest/gtest.h>

namespace refhv {
namespace {

using abi::Op;
using abi::Outcome;
using client::Batch;

constexpr u64 base = 0x4000'0000;

class CoreTest : public ::testing::Test {
  protected:
    CoreTest() : core_(fake::make_core()), out_(abi::max_frame_payload) {}

    std::vector<client::Reply> send(std::span<const u8> payload) {
        const usize size = core_->execute(payload, out_);
        EXPECT_LE(size, out_.size());
        return client::parse_replies({out_.data(), size});
    }
    std::vector<client::Reply> send(const Batch& batch) { return send(batch.payload()); }

    static abi::VmCreate vm(u32 slot = 0, u64 pages = 16) {
        return {.vm = slot,
                .mode = 2,
                .nested_page_size = 0,
                .tag_policy = 0,
                .zero = 0,
                .pages = pages,
                .gpa_base = base};
    }
    Outcome create(const abi::VmCreate& what) { return send(Batch().add(Op::vm_create, what)).at(0).outcome; }

    // Runs a guest that exits `exits` times with `reason`, then halts.
    client::Reply run(abi::Reason reason, u64 exits, abi::Run what, abi::Action action) {
        abi::StateSet state{};
        state.state.gpr[abi::rax] = static_cast<u64>(reason);
        state.state.gpr[abi::rcx] = exits;
        const abi::PolicyEntry entry{static_cast<u16>(reason), static_cast<u8>(action), 2, 0};
        Batch b;
        b.add(Op::state_set, state)
            .add(Op::policy, abi::PolicySet{0, 1}, {reinterpret_cast<const u8*>(&entry), sizeof entry})
            .add(Op::run, what);
        return send(b).at(2);
    }

    std::unique_ptr<fake::Core> core_;
    std::vector<u8> out_;
};

TEST_F(CoreTest, hello_says_what_the_machine_is) {
    const auto replies = send(Batch().add(Op::hello, abi::Hello{abi::version, {}}));
    ASSERT_EQ(replies.at(0).outcome, Outcome::ok);
    const auto h = replies[0].as<abi::HelloReply>();
    EXPECT_EQ(h.version, abi::version);
    EXPECT_EQ(h.vendor, static_cast<u16>(abi::Vendor::vmx));
    EXPECT_GT(h.cpuid_count, 2u);
    EXPECT_EQ(replies[0].body.size(),
              sizeof h + h.cpuid_count * sizeof(abi::CpuidLeaf) + h.msr_count * sizeof(abi::MsrValue));
}

TEST_F(CoreTest, another_version_is_refused_in_words) {
    const auto replies = send(Batch().add(Op::hello, abi::Hello{abi::version + 1, {}}));
    EXPECT_EQ(replies.at(0).outcome, Outcome::wrong_version);
    EXPECT_FALSE(replies[0].text().empty());
}

TEST_F(CoreTest, locked_hardware_is_said_in_words) {
    fake::VmxCpu::status = abi::BackendStatus::locked_by_firmware;
    core_ = fake::make_core();
    fake::VmxCpu::status = abi::BackendStatus::usable;
    const auto h = send(Batch().add(Op::hello, abi::Hello{abi::version, {}})).at(0).as<abi::HelloReply>();
    EXPECT_EQ(h.status, static_cast<u16>(abi::BackendStatus::locked_by_firmware));
    EXPECT_STREQ(h.note, "fake VMX");
    const auto refused = send(Batch().add(Op::vm_create, vm()));
    EXPECT_EQ(refused.at(0).outcome, Outcome::unsupported);
    EXPECT_EQ(refused[0].text(), "fake VMX");
}

TEST_F(CoreTest, memory_reads_back_what_was_written) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const std::vector<u8> data{1, 2, 3, 4, 5};
    Batch b;
    b.add(Op::mem_write, abi::MemRange{0, 0, base + 0xffe, data.size()}, data)
        .add(Op::mem_read, abi::MemRange{0, 0, base + 0xffd, 7});
    const auto replies = send(b);
    ASSERT_EQ(replies.at(1).outcome, Outcome::ok);
    EXPECT_EQ(std::vector<u8>(replies[1].body.begin(), replies[1].body.end()),
              (std::vector<u8>{0, 1, 2, 3, 4, 5, 0}));
}

TEST_F(CoreTest, fill_makes_a_page_table_and_relocates_it_natively_only) {
    for (const u8 mode : {u8{1}, u8{2}}) {
        abi::VmCreate what = vm(mode);
        what.mode = mode;
        const auto created = send(Batch().add(Op::vm_create, what));
        const u64 hpa = created.at(0).as<abi::VmCreateReply>().hpa_base;
        Batch b;
        b.add(Op::mem_fill64, abi::MemFill64{mode, 1, base, base + 3, 4096, 4})
            .add(Op::mem_read, abi::MemRange{mode, 0, base, 32});
        const auto entries = send(b).at(1).tail<u64>(0, 4);
        const u64 first = mode == 1 ? hpa + 3 : base + 3;
        EXPECT_EQ(entries, (std::vector<u64>{first, first + 4096, first + 8192, first + 12288})) << int{mode};
    }
}

TEST_F(CoreTest, ranges_outside_guest_memory_are_refused) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const u64 end = base + 16 * page_size;
    for (const auto& [gpa, size] : std::vector<std::pair<u64, u64>>{{base - 1, 1},
                                                                    {end, 1},
                                                                    {end - 1, 2},
                                                                    {base, ~u64{0}},
                                                                    {~u64{0}, 1},
                                                                    {0, ~u64{0}},
                                                                    {end - 8, ~u64{7}}}) {
        EXPECT_EQ(send(Batch().add(Op::mem_read, abi::MemRange{0, 0, gpa, size})).at(0).outcome,
                  Outcome::bad_request)
            << std::hex << gpa << " " << size;
        EXPECT_EQ(
            send(Batch().add(Op::mem_fill64, abi::MemFill64{0, 0, gpa & ~u64{7}, 0, 0, size})).at(0).outcome,
            Outcome::bad_request)
            << std::hex << gpa << " " << size;
    }
}

TEST_F(CoreTest, a_reply_that_does_not_fit_is_refused_and_the_rest_is_still_answered) {
    ASSERT_EQ(create(vm(0, 1024)), Outcome::ok);
    Batch b;
    b.add(Op::mem_read, abi::MemRange{0, 0, base, 1024 * page_size}).add(Op::vm_destroy, abi::VmRef{0, 0});
    const auto replies = send(b);
    ASSERT_EQ(replies.size(), 2u);
    EXPECT_EQ(replies[0].outcome, Outcome::bad_request);
    EXPECT_EQ(replies[1].outcome, Outcome::skipped);
}

TEST_F(CoreTest, slots_modes_sizes_and_alignments_are_checked) {
    EXPECT_EQ(create(vm(abi::max_vms)), Outcome::bad_request);
    EXPECT_EQ(create(vm(0, 0)), Outcome::bad_request);
    EXPECT_EQ(create(vm(0, u64{1} << 52)), Outcome::bad_request);
    EXPECT_EQ(create(vm(0, 1u << 20)), Outcome::exhausted);
    abi::VmCreate odd = vm();
    odd.gpa_base = base + 0x800;
    EXPECT_EQ(create(odd), Outcome::bad_request);
    odd = vm();
    odd.nested_page_size = 1;
    EXPECT_EQ(create(odd), Outcome::bad_request) << "16 pages are no multiple of 2 MBytes";
    odd.nested_page_size = 9;
    EXPECT_EQ(create(odd), Outcome::bad_request);
    odd = vm();
    odd.mode = 5;
    EXPECT_EQ(create(odd), Outcome::unsupported);
    EXPECT_EQ(create(vm()), Outcome::ok);
    EXPECT_EQ(create(vm()), Outcome::bad_request) << "the slot is taken";
    EXPECT_EQ(send(Batch().add(Op::vm_destroy, abi::VmRef{1, 0})).at(0).outcome, Outcome::bad_request);
}

TEST_F(CoreTest, destroy_gives_everything_back) {
    for (int i = 0; i < 200; ++i) { // 200 times 8 MBytes out of 16
        ASSERT_EQ(create(vm(0, 2048)), Outcome::ok) << i;
        ASSERT_EQ(send(Batch().add(Op::vm_destroy, abi::VmRef{0, 0})).at(0).outcome, Outcome::ok);
    }
}

TEST_F(CoreTest, snapshot_and_restore_bring_memory_back) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    EXPECT_EQ(send(Batch().add(Op::restore, abi::VmRef{0, 0})).at(0).outcome, Outcome::bad_request);
    Batch b;
    b.add(Op::mem_fill64, abi::MemFill64{0, 0, base, 7, 0, 1})
        .add(Op::snapshot, abi::VmRef{0, 0})
        .add(Op::mem_fill64, abi::MemFill64{0, 0, base, 9, 0, 1})
        .add(Op::restore, abi::VmRef{0, 0})
        .add(Op::mem_read, abi::MemRange{0, 0, base, 8});
    EXPECT_EQ(send(b).at(4).as<u64>(), 7u);
}

TEST_F(CoreTest, a_run_counts_its_exits_and_stops_at_the_first_without_a_policy) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (const abi::Reason reason :
         {abi::Reason::cpuid, abi::Reason::rdmsr}) { // answered fast, answered by the loop
        const auto reply = run(reason, 1000, {}, abi::Action::advance);
        ASSERT_EQ(reply.outcome, Outcome::exited);
        const auto r = reply.as<abi::RunReply>();
        EXPECT_EQ(r.counts[static_cast<usize>(reason)], 1000u);
        EXPECT_EQ(r.counts[static_cast<usize>(abi::Reason::hlt)], 1u);
        EXPECT_EQ(r.handled, 1000u);
        EXPECT_EQ(r.entries, 1001u);
        EXPECT_EQ(r.exit.reason, static_cast<u16>(abi::Reason::hlt));
    }
}

TEST_F(CoreTest, repeats_end_a_run_exactly) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (const abi::Reason reason : {abi::Reason::cpuid, abi::Reason::rdmsr}) {
        for (const u64 repeats : {u64{1}, u64{2}, u64{10}, u64{999}}) {
            abi::Run what{};
            what.repeats = repeats;
            const auto reply = run(reason, 1000, what, abi::Action::advance);
            ASSERT_EQ(reply.outcome, Outcome::repeats_done);
            EXPECT_EQ(reply.as<abi::RunReply>().handled, repeats);
            EXPECT_EQ(reply.as<abi::RunReply>().counts[static_cast<usize>(reason)], repeats);
        }
    }
}

TEST_F(CoreTest, a_guest_that_exits_for_ever_meets_its_deadline) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Run what{};
    what.deadline = 1'000'000;
    EXPECT_EQ(run(abi::Reason::rdmsr, ~u64{0}, what, abi::Action::resume).outcome, Outcome::deadline);
    EXPECT_EQ(run(abi::Reason::cpuid, ~u64{0}, what, abi::Action::advance).outcome, Outcome::deadline)
        << "exits that assembly answers count too";
}

TEST_F(CoreTest, a_refused_entry_is_data) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::StateSet state{};
    state.state.rip = 0xbad;
    Batch b;
    b.add(Op::state_set, state).add(Op::run, abi::Run{}).add(Op::state_get, abi::VmRef{0, 0});
    const auto replies = send(b);
    EXPECT_EQ(replies.at(1).outcome, Outcome::entry_refused);
    EXPECT_EQ(replies.at(2).outcome, Outcome::ok) << "the batch goes on";
}

TEST_F(CoreTest, host_stamps_need_a_limit_and_room) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Run what{};
    what.flags = abi::run_host_stamps;
    what.max_stamps = 10;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request);
    what.repeats = 11;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request);
    what.repeats = 10;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::exited);
    what.max_stamps = 1u << 30;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request);
}

TEST_F(CoreTest, policies_are_checked) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto set = [&](abi::PolicyEntry e, u32 count = 1) {
        return send(Batch().add(Op::policy, abi::PolicySet{0, count},
                                {reinterpret_cast<const u8*>(&e), sizeof e}))
            .at(0)
            .outcome;
    };
    EXPECT_EQ(set({11, 1, 2, 0}), Outcome::ok);
    EXPECT_EQ(set({999, 1, 2, 0}), Outcome::bad_request);
    EXPECT_EQ(set({11, 9, 2, 0}), Outcome::bad_request);
    EXPECT_EQ(set({11, 1, 16, 0}), Outcome::bad_request);
    EXPECT_EQ(set({11, 1, 2, 0}, 2), Outcome::bad_request);
    EXPECT_EQ(set({12, 2, 2, 0}), Outcome::unsupported) << "the fake emulates cpuid only";
}

TEST_F(CoreTest, only_what_can_be_mapped_is_mapped_and_retried) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (u16 reason = 0; reason < static_cast<u16>(abi::Reason::count_); ++reason) {
        const abi::PolicyEntry e{reason, static_cast<u8>(abi::Action::map_and_retry), 0, 0};
        const bool can = reason == 43 || reason == 44 || reason == 47;
        EXPECT_EQ(
            send(Batch().add(Op::policy, abi::PolicySet{0, 1}, {reinterpret_cast<const u8*>(&e), sizeof e}))
                .at(0)
                .outcome,
            can ? Outcome::ok : Outcome::bad_request)
            << reason;
    }
}

TEST_F(CoreTest, a_run_logs_the_exits_that_were_handled_and_the_last) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Run what{};
    what.flags = abi::run_log_exits;
    what.max_exits = 10;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request)
        << "no limit of repeats";
    what.repeats = 11;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request);
    what.repeats = 10;
    const auto all = run(abi::Reason::rdmsr, 5, what, abi::Action::advance);
    ASSERT_EQ(all.outcome, Outcome::exited);
    ASSERT_EQ(all.as<abi::RunReply>().exit_count, 6u);
    const auto exits = all.tail<abi::Exit>(sizeof(abi::RunReply), 6);
    EXPECT_EQ(exits[4].reason, static_cast<u16>(abi::Reason::rdmsr));
    EXPECT_EQ(exits[5].reason, static_cast<u16>(abi::Reason::hlt));
    const auto full = run(abi::Reason::rdmsr, 50, what, abi::Action::advance);
    EXPECT_EQ(full.outcome, Outcome::repeats_done);
    EXPECT_EQ(full.as<abi::RunReply>().exit_count, 10u);
    what.flags |= abi::run_host_stamps;
    what.max_stamps = 10;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request)
        << "stamps and exits";
    what.flags = 1u << 2;
    EXPECT_EQ(run(abi::Reason::rdmsr, 5, what, abi::Action::advance).outcome, Outcome::bad_request);
}

TEST_F(CoreTest, requests_for_nested_entries_are_checked) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto ask = [&](u32 flags, u64 gpa, u32 level, u32 count) {
        return send(Batch().add(Op::nested_entry, abi::NestedEntry{0, flags, gpa, level, count, 0, 0}))
            .at(0)
            .outcome;
    };
    constexpr u32 write = abi::nested_entry_write;
    EXPECT_EQ(ask(0, base, 1, 1), Outcome::ok);
    EXPECT_EQ(ask(write, base, 4, 1), Outcome::ok);
    EXPECT_EQ(ask(write, base, 1, 16), Outcome::ok);
    EXPECT_EQ(ask(write, base, 1, 17), Outcome::bad_request) << "beyond the 16 pages";
    EXPECT_EQ(ask(write, base, 1, 0), Outcome::bad_request);
    EXPECT_EQ(ask(write, base, 4, ~0u), Outcome::bad_request);
    EXPECT_EQ(ask(0, base, 1, 2), Outcome::bad_request);
    EXPECT_EQ(ask(0, base, 0, 1), Outcome::bad_request);
    EXPECT_EQ(ask(0, base, 5, 1), Outcome::bad_request);
    EXPECT_EQ(ask(0, base - 1, 1, 1), Outcome::bad_request);
    EXPECT_EQ(ask(write, ~u64{0}, 4, 2), Outcome::bad_request);
    EXPECT_EQ(ask(8, base, 1, 1), Outcome::bad_request);
    EXPECT_EQ(ask(abi::nested_entry_raw | abi::nested_entry_table, base, 2, 1), Outcome::bad_request);
    EXPECT_EQ(ask(abi::nested_entry_table, base, 1, 1), Outcome::bad_request) << "no table below level 1";
}

TEST_F(CoreTest, requests_to_invalidate_are_checked) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto ask = [&](u16 kind, u16 flags, u32 repeats) {
        return send(Batch().add(Op::invalidate, abi::Invalidate{0, kind, flags, repeats, 0, 0, 0}))
            .at(0)
            .outcome;
    };
    EXPECT_EQ(ask(1, 0, 1), Outcome::ok);
    EXPECT_EQ(ask(7, abi::invalidate_tag, abi::max_invalidations), Outcome::ok);
    EXPECT_EQ(ask(7, 0, abi::max_invalidations + 1), Outcome::bad_request);
    EXPECT_EQ(ask(7, 0, 0), Outcome::bad_request);
    EXPECT_EQ(ask(8, 0, 2), Outcome::bad_request) << "nothing to repeat";
    EXPECT_EQ(ask(0, 0, 1), Outcome::bad_request);
    EXPECT_EQ(ask(12, 0, 1), Outcome::bad_request);
    EXPECT_EQ(ask(1, 2, 1), Outcome::bad_request);
}

TEST_F(CoreTest, torn_operations_are_answered) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    Batch b;
    b.add(Op::state_set, abi::StateSet{});
    const std::span<const u8> whole = b.payload();
    for (usize cut = 1; cut < whole.size(); ++cut) {
        const auto replies = send(whole.first(cut));
        ASSERT_EQ(replies.size(), 1u) << cut;
        EXPECT_EQ(replies[0].outcome, Outcome::bad_request) << cut;
    }
}

TEST_F(CoreTest, passing_an_msr_of_the_hosts_through_is_refused) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto ask = [&](u32 msr) {
        return send(Batch().add(Op::msr_intercept, abi::MsrIntercept{0, msr, 1, 0, {}})).at(0).outcome;
    };
    EXPECT_EQ(ask(x86::msr::kernel_gs_base), Outcome::ok);
    EXPECT_EQ(ask(x86::msr::efer), Outcome::unsupported);
}

} // namespace
} // namespace refhv
