// SPDX-License-Identifier: MIT
// What every exit saves and clears, field by field, whatever its class.
#include "conformance/exit/classes.hpp"
#include "conformance/exit/uncommon_state.hpp"
#include "conformance/probe/due.hpp"

namespace refhv::front {

using client::Guest;
namespace layout = client::layout;

namespace {

constexpr u64 rflags_rf = 1u << 16, not_canonical = u64{1} << 63;
constexpr u32 valid = 1u << 31;
constexpr u64 patterns = 0x0123'4567'89ab'cdef;

void fill(Guest& guest, const ExitClass& c) {
    constexpr u64 descriptor = 0x0000'1200'0000'ffff; // data, writable, DPL 0, P = 0
    guest.write(layout::gdt + absent_data, {reinterpret_cast<const u8*>(&descriptor), sizeof descriptor});
    guest.state.gdtr.limit = absent_data + 7;
    auto& gpr = guest.state.gpr;
    for (unsigned i = 0; i < 16; ++i) {
        if (i != abi::rsp) {
            gpr[i] = patterns * (2 * i + 1);
        }
    }
    gpr[abi::rcx] = not_canonical;
    gpr[abi::rdx] = 0;
    gpr[abi::rax] = 0xfff8; // a selector beyond the GDT
    gpr[abi::rsi] = gpr[abi::rdi] = REFHV_SCRATCH;
    gpr[abi::r8] = absent_data;
    guest.state.rflags = 2 | 0x8d5; // the status flags
    guest.load({c.code.data(), c.code.data() + c.code.size()});
    if (c.prepare != nullptr) {
        c.prepare(guest);
    }
}

class ExitSaves : public Intr {
  protected:
    void registers(const ExitClass& c);
    void resume_flag(const ExitClass& c);
    void no_other_state(const ExitClass& c);
    void its_events(const ExitClass& c);
    void no_event_again(const ExitClass& c);
    void error_code_and_no_event(const ExitClass& c);
    void next_rip(const ExitClass& c);
    void shadow(const ExitClass& c);

  private:
    // A guest of that class; SKIPs where the CPU cannot be asked for it.
    static Guest guest_of(const ExitClass& c) {
        Guest guest(host(), c.plan);
        if ((guest.settle().unsupported & c.plan.intercepts) != 0) {
            throw client::Refused(abi::Op::intercept, abi::Outcome::unsupported,
                                  "this CPU cannot intercept it");
        }
        return guest;
    }
};

} // namespace

void ExitSaves::registers(const ExitClass& c) {
    claim({"SDM 3C 28.3.1, 28.3.2, 28.3.3; 28.1", "APM 2 15.6, 15.7.1, 15.5.2"}, [&] {
        constexpr u64 states = 4;
        Guest guest = guest_of(c);
        for (u32 seed = 1; seed <= states && !HasFailure(); ++seed) {
            SCOPED_TRACE(testing::Message() << "state " << seed);
            fill(guest, c);
            guest.state.cr2 = 0x7654'3210'0000 + seed;
            guest.state.pat = 0x0007'0406'0007'0406 ^ (seed & 1) << 24;
            guest.state.dr7 = 0x400 | (seed & 1) << 9;
            UncommonState(seed).set(guest.state);
            const auto r = guest.run({});
            expect_exit(r, c.reason, layout::code + c.at);
            Due due;
            due.state = guest.state;
            due.state.rip = layout::code + c.at;
            Differences differences;
            hold_state(differences, c.name, r.reply.state, due);
        }
        combinations(states);
    });
}

void ExitSaves::resume_flag(const ExitClass& c) {
    claim({.sdm = "SDM 3C 28.3.3"}, [&] {
        Guest guest = guest_of(c);
        for (const u64 before : {u64{0}, rflags_rf}) {
            SCOPED_TRACE(testing::Message() << "RF before it " << (before >> 16));
            fill(guest, c);
            guest.state.rflags |= before;
            const auto r = guest.run({});
            expect_exit(r, c.reason, layout::code + c.at);
            const u64 due = c.rf == SavedRf::zero ? 0 : c.rf == SavedRf::one ? rflags_rf : before;
            EXPECT_EQ(r.reply.state.rflags & rflags_rf, due);
        }
        combinations(2);
    });
}

void ExitSaves::no_other_state(const ExitClass& c) {
    claim({.sdm = "SDM 3C 28.3.4, 25.4.2"}, [&] {
        Guest guest = guest_of(c);
        fill(guest, c);
        expect_exit(guest.run({}), c.reason, layout::code + c.at);
        const Guest::FieldOf fields[] = {{vmcs::activity, 4},
                                         {vmcs::interruptibility, 4},
                                         {vmcs::pending_debug, 8},
                                         {vmcs::link_pointer, 8},
                                         {vmcs::guest_debugctl, 8}};
        const auto seen = guest.read_fields(fields);
        EXPECT_EQ(seen[0], 0u) << "activity state";
        EXPECT_EQ(seen[1], 0u) << "interruptibility state";
        EXPECT_EQ(seen[2], 0u) << "pending debug exceptions";
        EXPECT_EQ(seen[3], ~u64{0}) << "VMCS link pointer";
        EXPECT_EQ(seen[4], 0u) << "IA32_DEBUGCTL";
    });
}

void ExitSaves::its_events(const ExitClass& c) {
    claim({.sdm = "SDM 3C 28.2.2, 28.2.4, 28.2.5"}, [&] {
        Guest guest = guest_of(c);
        fill(guest, c);
        expect_exit(guest.run({}), c.reason, layout::code + c.at);
        const Guest::FieldOf fields[] = {{vmcs::exit_interruption_info, 4},
                                         {vmcs::exit_interruption_error, 4},
                                         {vmcs::vectoring_info, 4},
                                         {vmcs::exit_length, 4}};
        const auto seen = guest.read_fields(fields);
        if (c.event != 0) {
            EXPECT_EQ(seen[0], c.event) << "VM-exit interruption information";
        } else {
            EXPECT_EQ(seen[0] & valid, 0u) << "VM-exit interruption information, valid";
        }
        if (c.error) {
            EXPECT_EQ(seen[1], *c.error) << "VM-exit interruption error code";
        }
        EXPECT_EQ(seen[2] & valid, 0u) << "IDT-vectoring information, valid";
        if (c.length != 0) {
            EXPECT_EQ(seen[3], c.length) << "VM-exit instruction length";
        }
    });
}

// The event that the entry injected is delivered; the exit, from its handler, clears the field's valid bit.
void ExitSaves::no_event_again(const ExitClass& c) {
    claim({"SDM 3C 25.8.3, 28.2", "APM 2 15.20"}, [&] {
        Guest guest = guest_of(c);
        fill(guest, c);
        // The handler is the class's own code: its gate leads there, and the entry elsewhere.
        guest.gate(free_vector, layout::code);
        guest.state.rip = layout::stop;
        inject(guest, {.type = EventType::external_interrupt, .vector = free_vector});
        guest.state.rflags |= rflags_if;
        const auto r = guest.run({});
        expect_exit(r, c.reason, layout::code);
        if (on_vmx()) {
            EXPECT_EQ(guest.read_field(vmcs::entry_interruption_info, 4, false) & valid, 0u);
            EXPECT_EQ(guest.read_field(vmcs::vectoring_info, 4, false) & valid, 0u) << "delivery was over";
        } else {
            EXPECT_EQ(guest.read_field(vmcb::event_injection, 8, false) & valid, 0u) << "EVENTINJ.V";
            EXPECT_EQ(r.reply.exit.vectoring & valid, 0u) << "EXITINTINFO.V";
        }
    });
}

void ExitSaves::error_code_and_no_event(const ExitClass& c) {
    claim({.apm = "APM 2 15.7.2, 15.12, 15.21.5"}, [&] {
        Guest guest = guest_of(c);
        fill(guest, c);
        const auto r = guest.run({});
        expect_exit(r, c.reason, layout::code + c.at);
        EXPECT_EQ(r.reply.exit.vectoring & valid, 0u) << "EXITINTINFO.V";
        if (c.error) {
            EXPECT_EQ(r.reply.exit.qualification, *c.error) << "EXITINFO1: the error code";
        }
        EXPECT_EQ(guest.read_field(vmcb::interrupt_shadow, 8, false) & 1, 0u);
    });
}

void ExitSaves::next_rip(const ExitClass& c) {
    claim({.apm = "APM 2 15.7.1"}, [&] {
        constexpr u32 nrips = 1u << 3;
        if ((cpuid(hello(), 0x8000'000a, 0, 3) & nrips) == 0) {
            GTEST_SKIP() << "no next RIP (CPUID Fn8000_000A_EDX[NRIPS])";
        }
        Guest guest = guest_of(c);
        fill(guest, c);
        expect_exit(guest.run({}), c.reason, layout::code + c.at);
        EXPECT_EQ(guest.read_field(vmcb::next_rip, 8, false), c.length != 0 ? layout::code + c.length : 0);
    });
}

// Blocking by STI and by MOV SS holds to the end of an instruction; one that exits does not end.
void ExitSaves::shadow(const ExitClass& c) {
    claim({"SDM 3C 28.3.4; SDM 3A 6.8.3", "APM 2 15.7.1, 15.21.5"}, [&] {
        Guest guest = guest_of(c);
        const u32 field = on_vmx() ? vmcs::interruptibility : vmcb::interrupt_shadow;
        const u32 width = on_vmx() ? 4 : 8;
        for (const u64 loaded : {u64{0}, vmcs::blocking_by_sti, vmcs::blocking_by_mov_ss}) {
            if (on_svm() && loaded > 1) {
                continue;
            }
            SCOPED_TRACE(loaded);
            fill(guest, c);
            guest.state.rflags |= rflags_if;
            guest.field(field, width, loaded);
            const auto r = guest.run({});
            expect_exit(r, c.reason, layout::code);
            EXPECT_EQ(r.reply.state.interrupt_shadow, loaded != 0 ? 1u : 0u);
            EXPECT_EQ(guest.read_field(field, width, false) & 3, loaded);
        }
        combinations(on_vmx() ? 3 : 2);
    });
}

#define SAVED_CLAIM(name, does)                                                                              \
    TEST_F(ExitSaves, name##_##does) {                                                                       \
        does(exit_class(#name));                                                                             \
    }
#define SAVED_CLAIMS(name)                                                                                   \
    SAVED_CLAIM(name, registers)                                                                             \
    SAVED_CLAIM(name, no_event_again)                                                                        \
    SAVED_CLAIM(name, shadow)                                                                                \
    SAVED_CLAIM(name, error_code_and_no_event)                                                               \
    SAVED_CLAIM(name, next_rip)
#define SAVED_CLAIMS_VMX(name)                                                                               \
    SAVED_CLAIM(name, resume_flag)                                                                           \
    SAVED_CLAIM(name, no_other_state)                                                                        \
    SAVED_CLAIM(name, its_events)

REFHV_EXIT_CLASSES(SAVED_CLAIMS)
REFHV_EXIT_CLASSES(SAVED_CLAIMS_VMX)
REFHV_VMX_EXIT_CLASSES(SAVED_CLAIMS_VMX)

} // namespace refhv::front
