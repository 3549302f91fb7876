// SPDX-License-Identifier: MIT
// What every exit saves and clears, field by field, whatever its class.
#include "conformance/exit/classes.hpp"

#include <random>

namespace refhv::front {

using client::Guest;
namespace layout = client::layout;

namespace {

constexpr u64 rflags_rf = 1u << 16, not_canonical = u64{1} << 63;
constexpr u32 valid = 1u << 31;
constexpr u64 patterns = 0x0123'4567'89ab'cdef;

// VMX: what an exit tells of events (SDM 3C 25.9), and the guest's state that is in no register.
enum VmxField : u32 {
    entry_interruption_info = 0x4016,
    exit_interruption_info = 0x4404,
    exit_interruption_error = 0x4406,
    vectoring_info = 0x4408,
    exit_length = 0x440c,
    link_pointer = 0x2800,
    guest_debugctl = 0x2802,
};

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

// Segments of 64-bit mode as legal as they are uncommon (SDM 3C 27.3.1.2; SVM checks less).
class Segments {
  public:
    explicit Segments(u32 seed) : random_(seed) {}
    void set(abi::GuestState& s) {
        constexpr u32 accessed_code_or_data = 0x10, present = 0x80, unusable = 0x1'0000;
        for (const auto i : {abi::es, abi::ds, abi::fs, abi::gs}) {
            const u32 rpl = pick(4);
            const u32 dpl = rpl + pick(4 - rpl);
            constexpr u32 types[] = {1, 3, 5, 7, 11};
            s.segment[i] = {.base = i >= abi::fs ? address() : pick(~0u),
                            .limit = 0,
                            .rights = types[pick(5)] | accessed_code_or_data | dpl << 5 | present |
                                      pick(2) << 12 | pick(2) << 14,
                            .selector = static_cast<u16>(pick(0x2000) << 3 | pick(2) << 2 | rpl),
                            .zero = {}};
            set_limit(s.segment[i]);
        }
        s.segment[abi::ldtr] = {.base = address(),
                                .limit = 0,
                                .rights = 2 | present,
                                .selector = static_cast<u16>(pick(0x2000) << 3),
                                .zero = {}};
        set_limit(s.segment[abi::ldtr]);
        if (pick(4) == 0) {
            s.segment[abi::ldtr] = {.base = 0, .limit = 0, .rights = unusable, .selector = 0, .zero = {}};
        }
        s.segment[abi::tr] = {.base = layout::tss,
                              .limit = 0x67 + pick(0x100),
                              .rights = 11 | present | pick(2) << 12,
                              .selector = static_cast<u16>((1 + pick(0x1ffe)) << 3),
                              .zero = {}};
        s.gdtr = {layout::gdt, absent_data + 7u + pick(0x1000), 0};
        s.idtr = {layout::idt, layout::idt_limit + pick(0x4000), 0};
        s.star = u64{pick(~0u)} << 32 | pick(~0u);
        s.lstar = address();
        s.cstar = address();
        s.sfmask = pick(~0u);
        s.kernel_gs_base = address();
        s.sysenter_cs = pick(0xffff);
        s.sysenter_esp = address();
        s.sysenter_eip = address();
    }

  private:
    u32 pick(u32 below) { return below == 0 ? 0 : static_cast<u32>(random_() % below); }
    u64 address() { // canonical
        const u64 low = (u64{pick(~0u)} << 32 | pick(~0u)) & 0x7fff'ffff'ffff;
        return pick(2) != 0 ? low : ~low;
    }
    void set_limit(abi::Segment& s) { // in bytes, or in pages
        constexpr u32 granularity = 1u << 15;
        if (pick(2) != 0) {
            s.limit = pick(~0u) | 0xfff;
            s.rights |= granularity;
        } else {
            s.limit = pick(1u << 20);
        }
    }
    std::mt19937 random_;
};

void expect_segment(const abi::Segment& due, const abi::Segment& seen, const char* name) {
    EXPECT_EQ(seen.selector, due.selector) << name << " selector";
    EXPECT_EQ(seen.rights, due.rights) << name << " access rights";
    if ((due.rights >> 16 & 1) == 0) { // usable; else undefined (SDM 3C 28.3.2)
        EXPECT_EQ(seen.base, due.base) << name << " base";
        EXPECT_EQ(seen.limit, due.limit) << name << " limit";
    }
}

void expect_same(const abi::GuestState& due, const abi::GuestState& seen) {
    for (unsigned i = 0; i < 16; ++i) {
        EXPECT_EQ(seen.gpr[i], due.gpr[i]) << "general register " << i;
    }
    EXPECT_EQ(seen.rflags & ~rflags_rf, due.rflags & ~rflags_rf) << "RFLAGS";
    EXPECT_EQ(seen.cr0, due.cr0);
    EXPECT_EQ(seen.cr2, due.cr2) << "CR2; an exit by #PF leaves it alone, too";
    EXPECT_EQ(seen.cr3, due.cr3);
    EXPECT_EQ(seen.cr4, due.cr4);
    EXPECT_EQ(seen.efer, due.efer);
    EXPECT_EQ(seen.dr6, due.dr6);
    EXPECT_EQ(seen.dr7, due.dr7);
    EXPECT_EQ(seen.pat, due.pat);
    constexpr const char* names[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};
    for (unsigned i = 0; i < 8; ++i) {
        expect_segment(due.segment[i], seen.segment[i], names[i]);
    }
    EXPECT_EQ(seen.gdtr.base, due.gdtr.base);
    EXPECT_EQ(seen.gdtr.limit, due.gdtr.limit);
    EXPECT_EQ(seen.idtr.base, due.idtr.base);
    EXPECT_EQ(seen.idtr.limit, due.idtr.limit);
    EXPECT_EQ(seen.star, due.star);
    EXPECT_EQ(seen.lstar, due.lstar);
    EXPECT_EQ(seen.cstar, due.cstar);
    EXPECT_EQ(seen.sfmask, due.sfmask);
    EXPECT_EQ(seen.kernel_gs_base, due.kernel_gs_base);
    EXPECT_EQ(seen.sysenter_cs, due.sysenter_cs);
    EXPECT_EQ(seen.sysenter_esp, due.sysenter_esp);
    EXPECT_EQ(seen.sysenter_eip, due.sysenter_eip);
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
            Segments(seed).set(guest.state);
            const auto r = guest.run({});
            expect_exit(r, c.reason, layout::code + c.at);
            expect_same(guest.state, r.reply.state);
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
                                         {link_pointer, 8},
                                         {guest_debugctl, 8}};
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
        const Guest::FieldOf fields[] = {
            {exit_interruption_info, 4}, {exit_interruption_error, 4}, {vectoring_info, 4}, {exit_length, 4}};
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
            EXPECT_EQ(guest.read_field(entry_interruption_info, 4, false) & valid, 0u);
            EXPECT_EQ(guest.read_field(vectoring_info, 4, false) & valid, 0u) << "delivery was over";
        } else {
            constexpr u32 event_injection = 0xa8;
            EXPECT_EQ(guest.read_field(event_injection, 8, false) & valid, 0u) << "EVENTINJ.V";
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
        constexpr u32 nrips = 1u << 3, offset = 0xc8;
        if ((cpuid(hello(), 0x8000'000a, 0, 3) & nrips) == 0) {
            GTEST_SKIP() << "no next RIP (CPUID Fn8000_000A_EDX[NRIPS])";
        }
        Guest guest = guest_of(c);
        fill(guest, c);
        expect_exit(guest.run({}), c.reason, layout::code + c.at);
        EXPECT_EQ(guest.read_field(offset, 8, false), c.length != 0 ? layout::code + c.length : 0);
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
            expect_exit(guest.run({}), c.reason, layout::code);
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
