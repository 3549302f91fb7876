// SPDX-License-Identifier: MIT
// What a guest of SVM cannot have, whatever its client asks (refhv/svm/floor.hpp), and events of its own.
#include "conformance/test/silicon/svm_fixture.hpp"

namespace refhv::silicon {

namespace {

using svm::ExitCode;
namespace cr4 = x86::cr4;

constexpr u64 valid = 1u << 31, error_valid = 1u << 11, exception = 3u << 8;

class SvmFloor : public SvmTest {
  protected:
    void expect_answered() {
        ASSERT_EQ(enter(), Entered::exited);
        EXPECT_TRUE(vcpu_->translate(exit_)) << "exit code " << exit_.raw_reason;
    }
    void offer_decode_assists() { machine().cpuid[u64{0x8000'000a} << 32].edx |= 1u << 7; }
    [[nodiscard]] u64 next() {
        svm().injected.clear();
        (void)enter();
        return svm().injected.empty() ? 0 : svm().injected.back();
    }
};

TEST_F(SvmFloor, exceptions_that_could_loop_in_delivery_exit_and_are_the_guests_again) {
    create();
    begin();
    for (const u8 vector : {u8{1}, u8{17}}) {
        svm().then([=](SvmGuest& g) { g.raise(vector); });
        expect_answered();
        EXPECT_EQ(next() & 0xff, vector);
    }
    EXPECT_TRUE(svm().delivered.empty());
    EXPECT_EQ(end(), 0u);
}

TEST_F(SvmFloor, machine_checks_and_signals_to_the_cpu_are_the_hosts) {
    create();
    begin();
    svm().then([](SvmGuest& g) {
        EXPECT_NE(machine().cr4 & cr4::mce, 0u);
        g.raise(18);
    });
    expect_answered();
    EXPECT_EQ(asked.machine_checks, 1u);
    svm().then([](SvmGuest& g) { g.event(svm::intercept_1::smi, ExitCode::smi); });
    svm().then([](SvmGuest& g) { g.event(svm::intercept_1::init, ExitCode::init); });
    expect_answered();
    expect_answered();
    EXPECT_TRUE(svm().delivered.empty());
    EXPECT_EQ(end(), 0u);
}

// A policy that steps over exceptions, one of which is its client's to intercept, is no way around it.
TEST_F(SvmFloor, a_machine_check_is_the_hosts_even_where_a_policy_steps_over_exceptions) {
    create();
    abi::InterceptReply reply{};
    vcpu_->intercept({.vm = 0, .exceptions = 1u << 18 | 1u << 6, .set = 0}, reply);
    policy_.reactions[static_cast<usize>(abi::Reason::exception)] = {abi::Action::advance, 2};
    begin();
    svm().then([](SvmGuest& g) { g.raise(6); });
    svm().then([](SvmGuest& g) { g.raise(18); });
    u64 handled = 0;
    (void)vcpu_->enter(0, counts_, handled, exit_, refusal_); // the first VMRUN flushes, and comes back
    EXPECT_EQ(exit_.vector, 6);
    svm().then([](SvmGuest& g) { g.raise(6); });
    for (unsigned i = 0; i < 2 && reason() == abi::Reason::exception; ++i) {
        (void)vcpu_->enter(1u << 10, counts_, handled, exit_, refusal_);
        EXPECT_EQ(vcpu_->translate(exit_), i == 0);
    }
    EXPECT_EQ(handled, 1u) << "the #UD, in the world switch";
    EXPECT_EQ(asked.machine_checks, 1u);
    EXPECT_EQ(end(), 0u);
}

TEST_F(SvmFloor, invd_exits) {
    create();
    abi::InterceptReply reply{};
    vcpu_->intercept({}, reply);
    EXPECT_NE(reply.forced & u64{1} << static_cast<u8>(abi::Intercept::invd), 0u);
    svm().then([](SvmGuest& g) { g.invd(); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::invd);
    EXPECT_FALSE(svm().lost_caches);
}

TEST_F(SvmFloor, xsetbv_exits) {
    state_.cr4 |= cr4::osxsave;
    create();
    svm().then([](SvmGuest& g) { g.xsetbv(1); });
    EXPECT_EQ(run_once(), 0u);
    EXPECT_EQ(reason(), abi::Reason::xsetbv);
}

TEST_F(SvmFloor, cr4_has_the_hosts_mce_and_no_bit_that_uses_msrs_of_the_host) {
    offer_decode_assists();
    create();
    begin();
    const u64 wanted = state_.cr4 | cr4::tsd;
    svm().then([=](SvmGuest& g) { g.mov_to_cr4(wanted | u64{1} << 23); });
    expect_answered();
    EXPECT_EQ(next() & 0xff, 13u);
    svm().then([=](SvmGuest& g) { g.mov_to_cr4(wanted); });
    expect_answered();
    svm().then([](SvmGuest& g) {
        EXPECT_EQ(machine().cr4, long_mode_guest().cr4 | cr4::tsd | cr4::mce);
        g.exit(static_cast<ExitCode>(0x04), u64{1} << 63 | 3); // MOV RBX, CR4
    });
    expect_answered();
    EXPECT_EQ(end(), 0u);
    vcpu_->store(memory_, state_);
    EXPECT_EQ(state_.cr4, wanted);
    EXPECT_EQ(state_.gpr[abi::rbx], wanted);
    state_.cr4 |= u64{1} << 23;
    EXPECT_FALSE(vcpu_->load(memory_, state_).ok());
}

TEST_F(SvmFloor, raw_fields_do_not_reach_below_it) {
    create();
    abi::FieldReply reply{};
    permissions = permit_all; // else the requests would be refused before
    const auto zero = [&](usize at, u32 width) {
        ASSERT_TRUE(
            vcpu_
                ->field(memory_,
                        {.vm = 0, .field = static_cast<u32>(at), .width = width, .zero = 0, .value = 0}, true,
                        reply)
                .ok());
    };
    for (const usize at : {usize{0}, usize{8}, usize{0xc}, usize{0x10}, usize{0x58}, usize{0x90}}) {
        zero(at, 4);
    }
    zero(0x60, 8);
    abi::Field extensions{.vm = 0, .field = 0xb8, .width = 8, .zero = 0, .value = 3};
    ASSERT_TRUE(vcpu_->field(memory_, extensions, true, reply).ok());
    permissions = {};
    svm().then([](SvmGuest& g) {
        using namespace svm;
        const Vmcb& v = g.vmcb;
        EXPECT_EQ(v.intercept_exceptions, 1u << 1 | 1u << 17 | 1u << 18);
        EXPECT_EQ(v.intercept_1 & 0xf, 0xfu);
        EXPECT_NE(v.intercept_1 & intercept_1::msr, 0u);
        EXPECT_NE(v.intercept_1 & intercept_1::invd, 0u);
        EXPECT_NE(v.intercept_1 & intercept_1::ioio, 0u);
        EXPECT_NE(v.intercept_2 & intercept_2::xsetbv, 0u);
        EXPECT_NE(v.interrupt_control & interrupt_control::v_intr_masking, 0u);
        EXPECT_EQ(v.nested_control & 7, 1u);
        EXPECT_EQ(v.virtualization_extensions, 0u);
        g.mov_to_cr8(15);
    });
    begin();
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_EQ(end(), 0u);
    EXPECT_EQ(machine().cr8, 0u);
}

TEST_F(SvmFloor, a_second_fault_in_delivery_becomes_a_double_fault) {
    permissions = permit_all;
    create();
    abi::InterceptReply reply{};
    vcpu_->intercept({.vm = 0, .exceptions = ~0u, .set = 0}, reply);
    begin();
    const auto inject = [&](u64 first, u8 second) {
        svm().then([=](SvmGuest& g) {
            g.raise(second, 0x18);
            g.vmcb.exit_int_info = first;
        });
        EXPECT_EQ(enter(), Entered::exited);
        return vcpu_->inject(exit_);
    };
    EXPECT_TRUE(inject(valid | exception | error_valid | 13, 11));
    EXPECT_EQ(next(), valid | exception | error_valid | 8);
    EXPECT_TRUE(inject(valid | exception | error_valid | 13, 14));
    EXPECT_EQ(next() & 0xff, 14u);
    EXPECT_FALSE(inject(valid | exception | error_valid | 8, 13));
    EXPECT_EQ(end(), 0u);
}

TEST_F(SvmFloor, what_an_exit_cut_short_is_delivered_anew_unless_its_instruction_is) {
    create();
    begin();
    const auto again = [&](u64 cut) {
        svm().then([=](SvmGuest& g) {
            g.exit(ExitCode::npf);
            g.vmcb.exit_int_info = cut;
        });
        EXPECT_EQ(enter(), Entered::exited);
        EXPECT_TRUE(vcpu_->redeliver(exit_));
        return next();
    };
    constexpr u64 software = 4u << 8;
    EXPECT_EQ(again(valid | 0x20), valid | 0x20);
    EXPECT_EQ(again(valid | 3), valid | 3) << "an external interrupt";
    EXPECT_EQ(again(valid | exception | error_valid | 14 | u64{2} << 32),
              valid | exception | error_valid | 14 | u64{2} << 32);
    EXPECT_EQ(again(valid | exception | 3), 0u) << "INT3";
    EXPECT_EQ(again(valid | software | 0x80), 0u) << "INT n";
    EXPECT_EQ(end(), 0u);
}

TEST_F(SvmFloor, an_answered_instruction_traps_where_the_guest_steps) {
    state_.rflags |= x86::rflags_bits::tf;
    create();
    begin();
    svm().then([](SvmGuest& g) { g.exit(ExitCode::cpuid); });
    EXPECT_EQ(enter(), Entered::exited);
    EXPECT_TRUE(vcpu_->advance(exit_, {.action = abi::Action::advance, .length = 2}));
    svm().then([](SvmGuest& g) {
        EXPECT_NE(g.vmcb.dr6 & 1u << 14, 0u);
        g.exit(ExitCode::hlt);
    });
    EXPECT_EQ(next(), valid | exception | 1);
    EXPECT_EQ(end(), 0u);
}

TEST_F(SvmFloor, stamps_are_refused_where_lfence_orders_nothing) {
    constexpr u64 serializing = 2;
    const auto accepts_stamps = [&](const Msr& de_cfg, Permissions permitted) {
        machine().msrs[x86::msr::de_cfg] = de_cfg;
        machine().msrs[x86::msr::efer].value &= ~x86::efer::svme;
        permissions = permitted;
        create();
        abi::HostStamp stamps[4]{};
        const bool accepted = vcpu_->begin(memory_, {policy_, 0, stamps + 1}).ok();
        if (accepted) {
            vcpu_->end();
        }
        return accepted;
    };
    EXPECT_TRUE(accepts_stamps({0}, permit_all)); // it is made to
    EXPECT_EQ(machine().msrs[x86::msr::de_cfg].value, serializing);
    EXPECT_FALSE(accepts_stamps({0, serializing}, permit_all)); // and cannot be
    EXPECT_FALSE(accepts_stamps({0}, {})); // a machine that somebody works on keeps its MSR
    EXPECT_EQ(machine().msrs[x86::msr::de_cfg].value, 0u);
    EXPECT_TRUE(accepts_stamps({serializing}, {}));
    machine().msrs[x86::msr::de_cfg] = {0, 2}; // family 0FH has no such thing
    machine().cpuid[u64{1} << 32].eax = 0xf00;
    machine().msrs[x86::msr::efer].value &= ~x86::efer::svme;
    create();
    EXPECT_TRUE(cpu_->orders_stamps(0));
}

} // namespace
} // namespace refhv::silicon
