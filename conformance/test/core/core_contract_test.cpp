// SPDX-License-Identifier: MIT
// What a request must not reach, on a platform that somebody else works on.
#include "conformance/test/core/contract_fixture.hpp"
#include "conformance/test/core/outside_model.hpp"

namespace refhv {
namespace {

// On CPU 1, once, when the first word of guest memory says so.
abi::Peer peer_that(abi::PeerAct act) {
    abi::Peer peer{};
    peer.act = static_cast<u16>(act);
    peer.cpu = 1;
    peer.count = 1;
    peer.mark = base;
    return peer;
}

// Arenas of a mebibyte, in which this or that does not fit.
TEST_F(Contract, a_refused_snapshot_or_vm_leaves_nothing_behind) {
    unsigned refused_snapshots = 0, refused_vms = 0;
    for (u64 pages = 90; pages < 260; ++pages) { // the last ones have no memory at all
        core_ = fake::make_core(1);
        const u64 before = core_->pages_in_use();
        if (create(vm(0, pages)) != Outcome::ok) {
            ++refused_vms;
            EXPECT_EQ(core_->pages_in_use(), before) << pages << " pages";
            continue;
        }
        const Outcome first = outcome(Batch().add<Op::snapshot>({}));
        const Outcome second = outcome(Batch().add<Op::snapshot>({}));
        EXPECT_EQ(first, second) << pages;
        refused_snapshots += first != Outcome::ok ? 1 : 0;
        EXPECT_EQ(outcome(Batch().add<Op::restore>({})),
                  first == Outcome::ok ? Outcome::ok : Outcome::bad_request);
        EXPECT_EQ(outcome(Batch().add<Op::vm_destroy>({})), Outcome::ok);
        EXPECT_EQ(core_->pages_in_use(), before) << pages << " pages";
    }
    EXPECT_GT(refused_snapshots, 10u);
    EXPECT_GT(refused_vms, 1u);
}

TEST_F(Contract, a_cpu_leaves_with_its_last_vm) {
    auto& left = fake::VmxCpu::left;
    ASSERT_EQ(create(vm(0)), Outcome::ok);
    ASSERT_EQ(create(vm(1)), Outcome::ok);
    left.clear();
    ASSERT_EQ(outcome(Batch().add<Op::vm_destroy>({.vm = 0, .zero = 0})), Outcome::ok);
    EXPECT_FALSE(core_->leave(0).ok());
    EXPECT_FALSE(core_->leave(platform::most_cpus).ok());
    EXPECT_TRUE(left.empty());
    ASSERT_EQ(outcome(Batch().add<Op::vm_destroy>({.vm = 1, .zero = 0})), Outcome::ok);
    EXPECT_EQ(left, std::vector<u32>{0});
    EXPECT_TRUE(core_->leave(0).ok()) << "it is free a second time";
}

TEST_F(Contract, an_operation_whose_reply_does_not_fit_has_not_happened) {
    ASSERT_EQ(create(vm(0, 256)), Outcome::ok);
    for (u64 room = 0; room < 48; room += 8) {
        const u64 size = abi::max_frame_payload - 8 - 152 - 8 - room;
        Batch b;
        b.add<Op::mem_read>({.vm = 0, .zero = 0, .gpa = base, .size = size}).add<Op::vm_create>(vm(1, 1));
        const auto replies = send(b);
        ASSERT_EQ(replies.at(0).outcome, Outcome::ok);
        const bool created = replies.size() > 1 && replies[1].outcome == Outcome::ok;
        EXPECT_EQ(outcome(Batch().add<Op::vm_destroy>({.vm = 1, .zero = 0})) == Outcome::ok, created) << room;
    }
}

TEST_F(Contract, states_whose_load_would_fault_the_host_are_refused) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    constexpr u64 high = u64{1} << 32, not_canonical = u64{1} << 47;
    const auto with = [](auto change) {
        abi::GuestState s{};
        change(s);
        return s;
    };
    using State = abi::GuestState;
    for (const State& s :
         {with([](State& x) { x.cr8 = 16; }), with([](State& x) { x.cr8 = ~u64{0}; }),
          with([](State& x) { x.dr6 = high; }), with([](State& x) { x.lstar = not_canonical; }),
          with([](State& x) { x.cstar = not_canonical; }),
          with([](State& x) { x.kernel_gs_base = ~not_canonical; }), with([](State& x) { x.sfmask = high; }),
          with([](State& x) { x.tsc_aux = high; })}) {
        EXPECT_EQ(load(s), Outcome::bad_request);
    }
    EXPECT_EQ(load(with([](State& x) {
                  x.cr8 = 15;
                  x.dr6 = 0xffff'0ff0;
                  x.lstar = ~u64{0} << 47;
                  x.cstar = not_canonical - 1;
                  x.kernel_gs_base = 0;
                  x.sfmask = x.tsc_aux = high - 1;
                  x.dr[0] = not_canonical;
                  x.star = ~u64{0};
                  x.sysenter_eip = not_canonical; // a VM entry checks it
              })),
              Outcome::ok);
}

// SDM 1 13.3
TEST_F(Contract, only_what_xsetbv_takes_is_an_xcr0) {
    constexpr StateRules cpu{true, 0x600ff}, old_cpu{true, 3};
    const auto answer = [](const StateRules& rules, u64 xcr0) {
        abi::GuestState s{};
        s.xcr0 = xcr0;
        return rules.check(s).outcome;
    };
    for (const u64 good : {1u, 3u, 7u, 0x1fu, 0xe7u, 0xffu, 0x60007u}) {
        EXPECT_EQ(answer(cpu, good), Outcome::ok) << std::hex << good;
    }
    for (const u64 bad : {2u, 5u, 0xfu, 0x17u, 0x27u, 0xe3u, 0x20001u, 0x40001u}) {
        EXPECT_EQ(answer(cpu, bad), Outcome::bad_request) << std::hex << bad;
    }
    EXPECT_EQ(answer(cpu, 0x103), Outcome::unsupported);
    EXPECT_EQ(answer(old_cpu, 7), Outcome::unsupported);
    EXPECT_EQ(answer(cpu, 0), Outcome::ok) << "the host's";
    EXPECT_EQ(answer({false, 0}, 2), Outcome::ok) << "a host without XSAVE loads none";
}

TEST_F(Contract, msrs_of_the_host_are_not_read_either) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto reads = [&](u32 msr) {
        return outcome(
            Batch().add<Op::msr_intercept>({.vm = 0, .msr = msr, .read = 0, .write = 1, .zero = {}}));
    };
    EXPECT_EQ(reads(0x1d9), Outcome::ok) << "the image permits it";
    be_production();
    EXPECT_EQ(reads(0x1d9), Outcome::unsupported);
    EXPECT_EQ(reads(x86::msr::kernel_gs_base), Outcome::ok) << "the guest's own";
}

TEST_F(Contract, a_platform_that_does_not_permit_them_sees_no_peers_native_guests_or_shutdown) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto peer = [&](abi::PeerAct act, u64 count) {
        abi::Run what{};
        what.peer = peer_that(act);
        what.peer.vector = 40;
        what.peer.notification = 41;
        what.peer.count = count;
        what.peer.address = base + 64;
        return outcome(Batch().add<Op::run>(what));
    };
    EXPECT_EQ(peer(abi::PeerAct::nmi, abi::max_peer_nmis + 1), Outcome::bad_request) << "however permissive";
    EXPECT_EQ(peer(abi::PeerAct::nmi, 1), Outcome::exited);
    for (const auto act : {abi::PeerAct::init, abi::PeerAct::start_up}) {
        EXPECT_EQ(peer(act, abi::max_peer_nmis + 1), Outcome::bad_request) << static_cast<int>(act);
        EXPECT_EQ(peer(act, 1), Outcome::exited) << "VMX blocks them: " << static_cast<int>(act);
    }
    abi::VmCreate in_ring_0 = vm(1);
    in_ring_0.mode = static_cast<u8>(abi::Mode::native);
    ASSERT_EQ(create(in_ring_0), Outcome::ok);
    abi::Run reset{};
    reset.vm = 1;
    reset.peer = peer_that(abi::PeerAct::init);
    EXPECT_EQ(outcome(Batch().add<Op::run>(reset)), Outcome::unsupported) << "it would reset the CPU";
    ASSERT_EQ(outcome(Batch().add<Op::vm_destroy>({.vm = 1, .zero = 0})), Outcome::ok);
    be_production();
    for (const auto act : {abi::PeerAct::nmi, abi::PeerAct::interrupt, abi::PeerAct::post, abi::PeerAct::init,
                           abi::PeerAct::start_up}) {
        EXPECT_EQ(peer(act, 1), Outcome::unsupported) << static_cast<int>(act);
    }
    EXPECT_EQ(peer(abi::PeerAct::write, 1), Outcome::exited) << "a store to the VM's own memory";
    abi::VmCreate native = vm(1);
    native.mode = static_cast<u8>(abi::Mode::native);
    EXPECT_EQ(create(native), Outcome::unsupported);
    const auto end = send(Batch().add<Op::shutdown>({.version = abi::version, .zero = {}})).at(0);
    EXPECT_EQ(end.outcome, Outcome::unsupported);
    EXPECT_NE(end.text().find("shutdown"), std::string::npos) << end.text();
    EXPECT_FALSE(core_->shutdown_asked());
}

TEST_F(Contract, vms_are_their_owners) {
    const auto ask = [&](Owner owner, const Batch& b) {
        const usize size = core_->execute(b.payload(), out_, owner);
        return client::parse_replies({out_.data(), size}).at(0).outcome;
    };
    const u64 before = core_->pages_in_use();
    EXPECT_EQ(ask(1, Batch().add<Op::vm_create>(vm())), Outcome::ok);
    const u64 with_one = core_->pages_in_use();
    EXPECT_EQ(ask(2, Batch().add<Op::state_get>({})), Outcome::bad_request) << "no VM in this slot";
    EXPECT_EQ(ask(2, Batch().add<Op::vm_destroy>({})), Outcome::bad_request);
    EXPECT_EQ(ask(2, Batch().add<Op::vm_create>(vm())), Outcome::ok) << "a slot of the same number";
    abi::Run with_peer{};
    with_peer.peer = peer_that(abi::PeerAct::guest);
    with_peer.peer.value = 1; // the slot
    EXPECT_EQ(ask(1, Batch().add<Op::vm_create>(vm(1))), Outcome::ok);
    EXPECT_EQ(ask(2, Batch().add<Op::run>(with_peer)), Outcome::bad_request) << "another's guest as the peer";
    EXPECT_EQ(ask(2, Batch().add<Op::vm_create>(vm(3))), Outcome::ok);
    EXPECT_EQ(ask(3, Batch().add<Op::vm_create>(vm())), Outcome::exhausted) << "four in all";
    core_->close(2);
    EXPECT_EQ(ask(2, Batch().add<Op::state_get>({})), Outcome::bad_request);
    EXPECT_EQ(ask(1, Batch().add<Op::state_get>({})), Outcome::ok);
    EXPECT_EQ(ask(1, Batch().add<Op::vm_destroy>({.vm = 1, .zero = 0})), Outcome::ok);
    EXPECT_EQ(core_->pages_in_use(), with_one);
    core_->close(1);
    EXPECT_EQ(core_->pages_in_use(), before);
}

class ContractEntries : public Contract {
  protected:
    static constexpr u64 large = 1u << 7, all = 7;
    ContractEntries() { fake::permissions = {}; }
    Outcome write(u32 level, u64 value, u32 flags = 0) {
        const abi::NestedEntry e{.vm = 0,
                                 .flags = flags | abi::nested_entry_write,
                                 .gpa = base,
                                 .level = level,
                                 .count = 1,
                                 .value = value,
                                 .step = 0};
        const Outcome o = outcome(Batch().add<Op::nested_entry>(e));
        EXPECT_STREQ(fake::OutsideModel(fake::controls[0]).fault(), nullptr);
        return o;
    }
    u64 read(u32 level) {
        const abi::NestedEntry e{
            .vm = 0, .flags = 0, .gpa = base, .level = level, .count = 1, .value = 0, .step = 0};
        return send(Batch().add<Op::nested_entry>(e)).at(0).as<abi::NestedEntryReply>().entry;
    }
};

TEST_F(ContractEntries, lead_to_guest_memory_or_to_the_cores_tables) {
    ASSERT_EQ(create(vm(0, 1024)), Outcome::ok);
    EXPECT_EQ(write(2, base | all), Outcome::bad_request) << "guest memory as a table";
    EXPECT_EQ(write(4, base | all), Outcome::bad_request);
    EXPECT_EQ(write(2, all | large, abi::nested_entry_table), Outcome::unsupported) << "our table as a leaf";
    EXPECT_EQ(write(3, all | large, abi::nested_entry_table), Outcome::unsupported);
    EXPECT_EQ(write(2, all, abi::nested_entry_table), Outcome::ok);
    EXPECT_EQ(write(1, base | all, abi::nested_entry_raw), Outcome::unsupported);
    EXPECT_EQ(write(1, 0x5000 | 1u << 10), Outcome::bad_request)
        << "present under mode-based execute control";
    EXPECT_EQ(write(1, 0x5000), Outcome::ok) << "not present";
    EXPECT_EQ(write(1, base + page_size + all), Outcome::ok);
    EXPECT_EQ(write(2, base + 0x20'0000 + all + large), Outcome::ok);
    EXPECT_EQ(write(2, base + 0x40'0000 + all + large), Outcome::bad_request) << "behind the 4 MBytes";
}

TEST_F(ContractEntries, addresses_are_guest_physical_both_ways) {
    const auto created = send(Batch().add<Op::vm_create>(vm())).at(0);
    EXPECT_EQ(created.as<abi::VmCreateReply>().hpa_base, base);
    EXPECT_EQ(read(1) & vmx::EptFormat::address_mask, base);
    EXPECT_EQ(read(2) & vmx::EptFormat::address_mask, 0u) << "the core's own";
    fake::permissions = permit_all;
    EXPECT_EQ(read(1) & vmx::EptFormat::address_mask, fake::controls[0].memory.hpa_base);
    EXPECT_NE(read(2) & vmx::EptFormat::address_mask, 0u);
}

TEST_F(ContractEntries, a_table_that_is_not_present_keeps_its_address_to_itself) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (const u32 level : {2u, 3u, 4u}) {
        EXPECT_EQ(write(level, 0, abi::nested_entry_table), Outcome::ok);
        EXPECT_EQ(read(level) & vmx::EptFormat::address_mask, 0u) << level;
        EXPECT_EQ(write(level, 7, abi::nested_entry_table), Outcome::ok);
    }
}

} // namespace
} // namespace refhv
