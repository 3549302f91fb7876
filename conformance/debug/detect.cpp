// SPDX-License-Identifier: MIT
// General detect, the registers' fixed and reserved bits, and INT1.
#include "conformance/debug/case.hpp"

namespace refhv::front {

using abi::Reason;
namespace layout = client::layout;

namespace {

class DebugRegisters : public DebugArmed {};
class DebugDetect : public DebugArmed {};
class DebugInt1 : public Debug {};

// mov to or from DR n by RAX.
Code access(bool write, unsigned number) {
    Code code;
    code.add({0x0f, write ? 0x23u : 0x21u, 0xc0u | number << 3});
    return code;
}

constexpr unsigned numbers[] = {0, 1, 2, 3, 6, 7};

} // namespace

// Before the access, with GD cleared for the handler, which is why the second one goes through.
TEST_F(DebugDetect, faults_at_every_access_and_clears_itself) {
    claim({"SDM 3B 18.2.4, 18.3.1.3", "APM 2 13.1.1.4"}, [&] {
        u64 tried = 0;
        for (const bool write : {false, true}) {
            for (const unsigned number : numbers) {
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message() << (write ? "to" : "from") << " DR" << number);
                const Code code = access(write, number);
                DebugGuest guest(host(), client::Plan{});
                guest.load(code.code());
                guest.state.gpr[abi::rax] = number == 7 ? debug::dr7_fixed : 0;
                guest.state.dr7 = debug::dr7_fixed | debug::general_detect;
                const auto r = guest.run_and_read();
                expect_traps(r, {{layout::code, debug::detected}});
                if (r.traps.size() == 1) {
                    EXPECT_EQ(r.traps[0].dr7, debug::dr7_fixed) << "GD is off in the handler";
                }
                ++tried;
            }
        }
        combinations(tried);
    });
}

// Of all debug exceptions only an instruction breakpoint is a fault that does not set RF.
TEST_F(DebugDetect, vmx_pushes_rf_as_a_fault_does) {
    claim({.sdm = "SDM 3B 18.3.1.1"}, [&] {
        const Code code = access(true, 0);
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        guest.state.dr7 = debug::dr7_fixed | debug::general_detect;
        const auto r = guest.run_and_read();
        ASSERT_EQ(r.traps.size(), 1u);
        EXPECT_EQ(r.traps[0].rflags & debug::rflags_rf, debug::rflags_rf);
    });
}

TEST_F(DebugDetect, exits_with_its_cause_where_debug_exceptions_are_intercepted) {
    claim({"SDM 3C 28.1, 28.2.1 table 28-1", "APM 2 15.12.2"}, [&] {
        for (const unsigned number : numbers) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(number);
            const Code code = access(true, number);
            DebugGuest guest(host(), intercepting_debug());
            guest.load(code.code());
            guest.state.dr7 = debug::dr7_fixed | debug::general_detect;
            const auto r = guest.run({});
            expect_debug_exit(r, layout::code, debug::detected);
            const u64 due = on_vmx() ? debug::dr7_fixed | debug::general_detect : debug::dr7_fixed;
            EXPECT_EQ(r.reply.state.dr7, due) << "VMX leaves GD, SVM saves what a handler would see";
        }
        combinations(std::size(numbers));
    });
}

// The fixed bits read as fixed, whatever was loaded by the entry or written by the guest.
TEST_F(DebugRegisters, read_their_fixed_bits) {
    claim({"SDM 3B 18.2.3, 18.2.4", "APM 2 13.1.1.3, 13.1.1.4"}, [&] {
        Code code;
        code.add({0x0f, 0x23, 0xf0, 0x0f, 0x23, 0xf9}); // mov %rax, %dr6; mov %rcx, %dr7
        code.add({0x0f, 0x21, 0xf3, 0x0f, 0x21, 0xfa}); // mov %dr6, %rbx; mov %dr7, %rdx
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        constexpr u64 dr6_writable = 0xe00f, dr7_writable = 0xffff'03ff;
        u64 tried = 0;
        for (unsigned bit = 0; bit < 32; ++bit) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(bit);
            const u64 value = u64{1} << bit;
            if (value == debug::general_detect || bit == 11 || bit == 12 || bit == 16) {
                continue; // GD faults; RTM and bus-lock bits are a CPU's own
            }
            guest.state.gpr[abi::rax] = value;
            guest.state.gpr[abi::rcx] = value & ~u64{0xff};
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rbx], debug::dr6_clear | (value & dr6_writable)) << "DR6";
            EXPECT_EQ(r.reply.state.gpr[abi::rdx], debug::dr7_fixed | (value & ~u64{0xff} & dr7_writable))
                << "DR7";
            ++tried;
        }
        combinations(tried);
    });
}

// Bit 12, 14 and 15 of DR7 are 0 and bit 10 is 1, whatever the VMCS has.
TEST_F(DebugRegisters, vmx_entry_loads_the_fixed_bits_of_dr7) {
    claim({.sdm = "SDM 3C 27.3.2.1"}, [&] {
        Code code;
        code.add({0x0f, 0x21, 0xfa}); // mov %dr7, %rdx
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        for (const u64 value : {u64{0}, u64{1} << 12, u64{1} << 14, u64{1} << 15, u64{0xd000},
                                u64{0xffff'0300} | 0xd000, u64{0x400}}) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(value);
            guest.field(vmcs::guest_dr7, 8, value);
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.reply.state.gpr[abi::rdx], (value & ~u64{0xd000}) | debug::dr7_fixed);
        }
        combinations(7);
    });
}

TEST_F(DebugRegisters, refuse_their_upper_half) {
    claim({"SDM 3B 18.2", "APM 2 13.1.1"}, [&] {
        u64 tried = 0;
        for (const unsigned number : {6u, 7u}) {
            for (const unsigned bit : {32u, 33u, 47u, 62u, 63u}) {
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message() << "DR" << number << ", bit " << bit);
                const Code code = access(true, number);
                DebugGuest guest(host(), client::Plan{});
                guest.load(code.code());
                guest.state.gpr[abi::rax] = u64{1} << bit | debug::dr7_fixed;
                const auto r = guest.run({});
                EXPECT_EQ(r.exceptions.count, 1u);
                EXPECT_EQ(r.exceptions.vector, 13u);
                EXPECT_EQ(r.exceptions.error, 0u);
                ++tried;
            }
        }
        combinations(tried);
    });
}

// DR4 and DR5 are DR6 and DR7, or with CR4.DE no instruction.
TEST_F(DebugRegisters, of_numbers_4_and_5_follow_cr4_de) {
    claim({"SDM 3B 18.2.2", "APM 2 13.1.1.2"}, [&] {
        constexpr u64 debug_extensions = 1u << 3;
        for (const unsigned number : {4u, 5u}) {
            for (const bool extensions : {false, true}) {
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message() << "DR" << number << ", DE " << extensions);
                const Code code = access(false, number);
                DebugGuest guest(host(), client::Plan{});
                guest.load(code.code());
                guest.state.cr4 |= extensions ? debug_extensions : 0;
                guest.state.dr6 = debug::dr6_clear | 5;
                guest.state.dr7 = debug::dr7_fixed | 0x300;
                const auto r = guest.run({});
                if (extensions) {
                    EXPECT_EQ(r.exceptions.count, 1u);
                    EXPECT_EQ(r.exceptions.vector, 6u);
                } else {
                    expect_stopped(r);
                    EXPECT_EQ(r.reply.state.gpr[abi::rax], number == 4 ? guest.state.dr6 : guest.state.dr7);
                }
            }
        }
        combinations(4);
    });
}

// DR0 to DR3 and DR6 come in and go out, each with a value of its own.
TEST_F(DebugRegisters, are_the_guests) {
    claim({"SDM 3C 33.2", "APM 2 15.5.1, 15.6"}, [&] {
        Code code;
        code.add({0x0f, 0x21, 0xc0, 0x0f, 0x21, 0xcb, 0x0f, 0x21, 0xd1, 0x0f, 0x21, 0xda, 0x0f, 0x21, 0xf6});
        code.add({0x48, 0x8d, 0x78, 0x01, 0x0f, 0x23, 0xc7}); // lea 1(%rax), %rdi; mov %rdi, %dr0
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        guest.state.dr[0] = 0x1111'2222'3333;
        guest.state.dr[1] = 0xffff'8000'0000'0001;
        guest.state.dr[2] = 0x7fff'ffff'ffff;
        guest.state.dr[3] = 5;
        guest.state.dr6 = debug::dr6_clear | 0xa;
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.reply.state.gpr[abi::rax], guest.state.dr[0]);
        EXPECT_EQ(r.reply.state.gpr[abi::rbx], guest.state.dr[1]);
        EXPECT_EQ(r.reply.state.gpr[abi::rcx], guest.state.dr[2]);
        EXPECT_EQ(r.reply.state.gpr[abi::rdx], guest.state.dr[3]);
        EXPECT_EQ(r.reply.state.gpr[abi::rsi], guest.state.dr6);
        EXPECT_EQ(r.reply.state.dr[0], guest.state.dr[0] + 1) << "as the guest wrote it";
        EXPECT_EQ(r.reply.state.dr[3], guest.state.dr[3]);
        EXPECT_EQ(r.reply.state.dr6, guest.state.dr6);
    });
}

// INT1 (F1H): a trap by vector 1 that is no debug exception.
TEST_F(DebugInt1, is_vector_1_behind_itself_and_leaves_dr6) {
    claim({"SDM 3A 6.4.4; SDM 2A INT n", "APM 3 INT1; APM 2 8.2.2"}, [&] {
        Code code;
        code.add({0x90, 0xf1});
        const u64 after = code.here();
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        expect_traps(guest.run_and_read(), {{after, 0}});
    });
}

TEST_F(DebugInt1, vmx_exits_as_a_privileged_software_exception) {
    claim({.sdm = "SDM 3C 26.2, 28.2.2, 28.2.5"}, [&] {
        Code code;
        code.add({0x90});
        const u64 at = code.add({0xf1});
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        const auto r = guest.run({});
        expect_exit(r, Reason::exception, at);
        constexpr u32 privileged_software = 0x8000'0501;
        EXPECT_EQ(r.reply.exit.interruption_info, privileged_software);
        EXPECT_EQ(r.reply.exit.instruction_length, 1u);
        EXPECT_EQ(r.reply.exit.qualification, 0u) << "no cause of a debug exception";
        EXPECT_EQ(r.reply.state.dr6, debug::dr6_clear);
    });
}

// Its intercept is its own: that of #DB does not see it.
TEST_F(DebugInt1, svm_has_an_intercept_of_its_own) {
    claim({.apm = "APM 2 15.9, 15.12.2"}, [&] {
        Code code;
        code.add({0x90});
        const u64 at = code.add({0xf1});
        const u64 after = code.here();
        for (const bool debug_exceptions : {false, true}) {
            for (const bool own : {false, true}) {
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message() << "#DB " << debug_exceptions << ", ICEBP " << own);
                DebugGuest guest(host(), debug_exceptions ? intercepting_debug() : client::Plan{});
                guest.load(code.code());
                if (own) {
                    constexpr u64 icebp = 1u << 8;
                    change(guest, vmcb::intercept_2, icebp);
                }
                const auto r = guest.run_and_read();
                if (own) {
                    constexpr u64 exit_code = 0x88;
                    EXPECT_EQ(r.reply.exit.raw_reason, exit_code);
                    EXPECT_EQ(r.reply.state.rip, at);
                    EXPECT_EQ(r.traps.size(), 0u);
                } else {
                    expect_traps(r, {{after, 0}});
                }
            }
        }
        combinations(4);
    });
}

} // namespace refhv::front
