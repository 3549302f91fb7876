// SPDX-License-Identifier: MIT
// The core's run loop and nested tables on fake hardware.
#include "conformance/test/core/core_fixture.hpp"

namespace refhv {
namespace {

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
    EXPECT_EQ(set({13, 2, 2, 0}), Outcome::unsupported) << "the fake emulates cpuid only";
}

TEST_F(CoreTest, only_events_that_both_vendors_take_are_delivered) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    constexpr u32 interrupt = 0, nmi = 2 << 8, exception = 3 << 8, error = 1 << 11;
    const auto outcome = [&](u32 event) {
        const abi::PolicyEntry e{static_cast<u16>(abi::Reason::cpuid), static_cast<u8>(abi::Action::deliver),
                                 2, event};
        return send(
                   Batch().add(Op::policy, abi::PolicySet{0, 1}, {reinterpret_cast<const u8*>(&e), sizeof e}))
            .at(0)
            .outcome;
    };
    for (const u32 good : {interrupt | 0, interrupt | 255, nmi | 2, exception | 6, exception | error | 13,
                           exception | error | 8, exception | 16}) {
        EXPECT_EQ(outcome(good), Outcome::ok) << std::hex << good;
    }
    for (const u32 bad :
         {interrupt | error | 32, nmi | 3, nmi | error | 2, exception | 13, exception | error | 6,
          exception | 2, exception | 32, 1u << 8 | 32, 4u << 8 | 3, 7u << 8, 1u << 31}) {
        EXPECT_EQ(outcome(bad), Outcome::bad_request) << std::hex << bad;
    }
    constexpr u32 when_open = 1 << 12, virtually = 2 << 12; // of which the fake can the first
    EXPECT_EQ(outcome(when_open | interrupt | 0), Outcome::ok);
    EXPECT_EQ(outcome(when_open | nmi | 2), Outcome::ok);
    EXPECT_EQ(outcome(virtually | interrupt | 16), Outcome::unsupported);
    for (const u32 bad : {when_open | exception | 6, virtually | exception | 6, virtually | nmi | 2,
                          virtually | interrupt | 15, 3u << 12 | interrupt | 32}) {
        EXPECT_EQ(outcome(bad), Outcome::bad_request) << std::hex << bad;
    }
}

TEST_F(CoreTest, a_run_brings_its_event_and_says_whether_it_came) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    constexpr u32 when_open = 1 << 12, virtually = 2 << 12;
    const auto with = [&](u32 event, u32 error = 0) {
        abi::Run what{};
        what.event = event;
        what.event_error = error;
        fake::delivered = 0;
        return run(abi::Reason::rdmsr, 3, what, abi::Action::advance);
    };
    const auto at_once = with(0x51);
    ASSERT_EQ(at_once.outcome, Outcome::exited);
    EXPECT_EQ(fake::delivered, 0x51u);
    EXPECT_EQ(at_once.as<abi::RunReply>().events, 1u);
    EXPECT_EQ(with(0).as<abi::RunReply>().events, 0u) << "none asked for";
    const auto waits = with(when_open | 0x51); // the fake's guest opens no window
    EXPECT_EQ(fake::delivered, 0u);
    EXPECT_EQ(waits.as<abi::RunReply>().events, 0u);
    EXPECT_EQ(with(1u << 8 | 32).outcome, Outcome::bad_request) << "no such type";
    EXPECT_EQ(with(0x51, 1).outcome, Outcome::bad_request) << "interrupts have no error code";
    constexpr u32 page_fault = 14 | 3 << 8 | 1 << 11;
    EXPECT_EQ(with(page_fault, 6).outcome, Outcome::exited);
    EXPECT_EQ(fake::delivered_error, 6u);
    EXPECT_EQ(with(virtually | 0x51).outcome, Outcome::unsupported) << "the fake cannot";
    const auto opens = run(
        abi::Reason::interrupt_window, 1,
        [] {
            abi::Run what{};
            what.event = when_open | 0x51;
            return what;
        }(),
        abi::Action::stop);
    EXPECT_EQ(opens.as<abi::RunReply>().events, 1u) << "its window is the run's own, whatever the policy";
    EXPECT_EQ(fake::delivered & 0xff, 0x51u);
}

TEST_F(CoreTest, a_run_knows_whether_others_have_written_memory_since_the_last) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto runs_changed = [&] {
        fake::Vcpu::memory_changed = false;
        EXPECT_EQ(run(abi::Reason::rdmsr, 1, {}, abi::Action::advance).outcome, Outcome::exited);
        return fake::Vcpu::memory_changed;
    };
    const auto fill = [&] {
        EXPECT_EQ(
            send(Batch().add(
                     Op::mem_fill64,
                     abi::MemFill64{.vm = 0, .relocate = 0, .gpa = base, .start = 0, .step = 0, .count = 1}))
                .at(0)
                .outcome,
            Outcome::ok);
    };
    EXPECT_TRUE(runs_changed()) << "new";
    EXPECT_FALSE(runs_changed());
    fill();
    EXPECT_TRUE(runs_changed());
    fill();
    abi::Run refused{};
    refused.flags = abi::run_host_stamps; // without a limit of repeats
    EXPECT_EQ(run(abi::Reason::rdmsr, 1, refused, abi::Action::advance).outcome, Outcome::bad_request);
    EXPECT_TRUE(runs_changed()) << "what never ran has seen nothing";
    EXPECT_FALSE(runs_changed());
}

TEST_F(CoreTest, a_native_guest_is_refused_what_only_virtualization_can) {
    abi::VmCreate native = vm();
    native.mode = static_cast<u8>(abi::Mode::native);
    ASSERT_EQ(create(native), Outcome::ok);
    ASSERT_EQ(create(vm(1)), Outcome::ok);
    const auto both = [&](Op op, auto what) { // the first is native
        const auto first = send(Batch().add(op, what)).at(0).outcome;
        what.vm = 1;
        EXPECT_EQ(send(Batch().add(op, what)).at(0).outcome, Outcome::ok) << static_cast<int>(op);
        return first;
    };
    EXPECT_EQ(both(Op::field_read, abi::Field{}), Outcome::unsupported);
    EXPECT_EQ(both(Op::field_write, abi::Field{}), Outcome::unsupported);
    EXPECT_EQ(both(Op::intercept, abi::InterceptSet{}), Outcome::unsupported);
    EXPECT_EQ(
        both(Op::msr_intercept, abi::MsrIntercept{.vm = 0, .msr = 0, .read = 1, .write = 1, .zero = {}}),
        Outcome::unsupported);
    EXPECT_EQ(both(Op::io_intercept, abi::IoIntercept{.vm = 0, .first = 0, .on = 1, .count = 1, .zero = 0}),
              Outcome::unsupported);
    abi::NestedProtect protect{};
    protect.gpa = base;
    protect.pages = 1;
    EXPECT_EQ(both(Op::nested_protect, protect), Outcome::unsupported);
    EXPECT_EQ(both(Op::nested_entry, abi::NestedEntry{0, 0, base, 1, 1, 0, 0}), Outcome::unsupported);
    EXPECT_EQ(both(Op::invalidate, abi::Invalidate{0, 1, 0, 1, 0, 0, 0}), Outcome::unsupported);
    abi::Run extra{};
    extra.extras = abi::extra_bit(abi::Extra::general_registers);
    EXPECT_EQ(send(Batch().add(Op::run, extra)).at(0).outcome, Outcome::unsupported);
    abi::Run stamps{};
    stamps.flags = abi::run_host_stamps;
    stamps.max_stamps = 1;
    stamps.repeats = 1;
    EXPECT_EQ(send(Batch().add(Op::run, stamps)).at(0).outcome, Outcome::unsupported);
    const auto policy = [&](abi::Reason reason, abi::Action action, u32 slot) {
        const abi::PolicyEntry e{static_cast<u16>(reason), static_cast<u8>(action), 2, 0};
        return send(Batch().add(Op::policy, abi::PolicySet{slot, 1},
                                {reinterpret_cast<const u8*>(&e), sizeof e}))
            .at(0)
            .outcome;
    };
    const std::pair<abi::Reason, abi::Action> actions[] = {
        {abi::Reason::cpuid, abi::Action::emulate},
        {abi::Reason::hlt, abi::Action::emulate},
        {abi::Reason::cpuid, abi::Action::deliver},
        {abi::Reason::nested_violation, abi::Action::map_and_retry}};
    for (const auto& [reason, action] : actions) {
        EXPECT_EQ(policy(reason, action, 0), Outcome::unsupported) << static_cast<int>(action);
        EXPECT_EQ(policy(reason, action, 1), Outcome::ok) << static_cast<int>(action);
    }
    for (const abi::Action action : {abi::Action::advance, abi::Action::resume}) {
        const auto reply = run(abi::Reason::rdmsr, 5, {}, action);
        ASSERT_EQ(reply.outcome, Outcome::exited);
        EXPECT_EQ(reply.as<abi::RunReply>().handled, 5u) << "it runs";
    }
    fake::arrived = 0x40;
    EXPECT_EQ(run(abi::Reason::external_interrupt, 5, {}, abi::Action::inject).outcome, Outcome::exited);
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

TEST_F(CoreTest, requests_for_extras_are_checked) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto ask = [&](u64 extras, u32 count = 0) {
        abi::Run what{};
        what.extras = extras;
        what.extra_count = count;
        return run(abi::Reason::cpuid, 5, what, abi::Action::advance).outcome;
    };
    EXPECT_EQ(ask(abi::extra_bit(abi::Extra::general_registers)), Outcome::exited);
    EXPECT_EQ(fake::Vcpu::extras, abi::extra_bit(abi::Extra::general_registers));
    EXPECT_EQ(ask(0), Outcome::exited);
    EXPECT_EQ(fake::Vcpu::extras, 0u) << "they are of one run";
    EXPECT_EQ(ask(0, 1), Outcome::bad_request) << "a number of nothing";
    EXPECT_EQ(ask(u64{1} << static_cast<u8>(abi::Extra::count_)), Outcome::bad_request);
    EXPECT_EQ(ask(~u64{0}), Outcome::bad_request);
    EXPECT_EQ(ask(fake::Vcpu::no_extra), Outcome::unsupported) << "the backend's own refusal";
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

} // namespace
} // namespace refhv
