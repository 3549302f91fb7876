// SPDX-License-Identifier: MIT
// The core's decoder on fake hardware: requests are answered, never trusted.
#include "conformance/test/core/core_fixture.hpp"

namespace refhv {
namespace {

TEST_F(CoreTest, hello_says_what_the_machine_is) {
    const auto replies = send(Batch().add(Op::hello, abi::Hello{abi::version, {}}));
    ASSERT_EQ(replies.at(0).outcome, Outcome::ok);
    const auto h = replies[0].as<abi::HelloReply>();
    EXPECT_EQ(h.version, abi::version);
    EXPECT_EQ(h.vendor, static_cast<u16>(abi::Vendor::vmx));
    EXPECT_GT(h.cpuid_count, 2u);
    EXPECT_EQ(replies[0].body.size(), sizeof h + h.cpuid_count * sizeof(abi::CpuidLeaf) +
                                          h.msr_count * sizeof(abi::MsrValue) +
                                          h.cpu_info_count * sizeof(abi::CpuInfo));
    EXPECT_EQ(h.cpu_info_count, h.cpus);
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

TEST_F(CoreTest, every_operation_refuses_a_short_body_and_a_slot_without_a_vm) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Operations::each([&]<class Row>(Row row) {
        typename Row::Body body{};
        const std::span<const u8> bytes{reinterpret_cast<const u8*>(&body), sizeof body};
        const auto cut = send(Batch().add_raw(row.number, bytes.first(sizeof body - 1), {})).at(0);
        EXPECT_EQ(cut.outcome, Outcome::bad_request) << row.name;
        EXPECT_EQ(cut.text(), "the operation's body is shorter than its form") << row.name;
        if constexpr (Row::subject == abi::Subject::vm) {
            for (const u32 slot : {1u, abi::max_vms, ~0u}) {
                body.vm = slot;
                EXPECT_EQ(send(Batch().add(row.number, body)).at(0).text(), "no VM in this slot") << row.name;
            }
        }
    });
    const auto unknown = send(Batch().add(static_cast<Op>(99), abi::VmRef{})).at(0);
    EXPECT_EQ(unknown.text(), "no such operation in this version");
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
