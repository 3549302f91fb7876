// SPDX-License-Identifier: MIT
// Which comes first, a fault or the exit, and which conditions of the instruction itself come before either.
// VMX: SDM 3C 26.1.1, 26.1.3. SVM: APM 2 15.9 table 15-7, 15.10.2, 15.11.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

const Section section{"SDM 3C 26.1.1, 26.1.3", "APM 2 15.9, 15.10.2"};
constexpr u8 ud = 6, gp = 13;
constexpr u64 tsd = 1u << 2, de = 1u << 3, pce = 1u << 8;
constexpr u64 iopl0 = 0, iopl3 = 3u << 12;

} // namespace

// I/O at CPL 3: the permission bitmap of the TSS comes before the exit, unless IOPL allows it.
TEST_F(ExitTable, io_exits_come_behind_iopl_and_the_tss) {
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        std::vector<Row> rows;
        struct Case {
            const char* name;
            u64 iopl;
            u32 denied; // a port whose bit in the bitmap is set; ~0: none
            u32 port, size;
            bool faults;
            u16 limit = machine::tss_limit;
        };
        constexpr u32 none = ~0u;
        const Case cases[] = {
            {"IOPL 3", iopl3, 0x1230, 0x1230, 1, false},
            {"bitmap clear", iopl0, none, 0x1230, 1, false},
            {"bit set", iopl0, 0x1230, 0x1230, 1, true},
            {"neighbour's bit set", iopl0, 0x1231, 0x1230, 1, false},
            {"second byte's bit set", iopl0, 0x1231, 0x1230, 2, true},
            {"fourth byte's bit set", iopl0, 0x1233, 0x1230, 4, true},
            {"fifth byte's bit set", iopl0, 0x1234, 0x1230, 4, false},
            {"across a byte of the bitmap", iopl0, 0x1238, 0x1237, 2, true},
            {"last port", iopl0, none, 0xffff, 1, false},
            {"beyond the limit of the TSS", iopl0, none, 0x1230, 1, true,
             machine::io_bitmap + 0x1230 / 8 - 1},
            {"the second byte beyond the limit", iopl0, none, 0x1230, 1, true,
             machine::io_bitmap + 0x1230 / 8},
            {"within the limit", iopl0, none, 0x1230, 1, false, machine::io_bitmap + 0x1230 / 8 + 1},
        };
        for (const Kind kind : {Kind::paged32_user, Kind::long64_user}) {
            u32 before = 0;
            for (const Case& c : cases) {
                const char* const code = c.size == 1 ? "ec" : c.size == 2 ? "66 ed" : "ed";
                Probe p(std::string(machine::name_of(kind)) + ": IN, " + c.name, kind, machine::hex(code));
                p.state.rflags |= c.iopl;
                p.state.gpr[abi::rdx] = c.port;
                p.state.segment[abi::tr].limit = c.limit;
                p.memory.push_back({machine::tss + machine::io_bitmap + before / 8, {0}});
                if (c.denied != none) {
                    before = c.denied;
                    p.memory.push_back({machine::tss + machine::io_bitmap + c.denied / 8,
                                        {static_cast<u8>(1u << (c.denied & 7))}});
                }
                const Due due = c.faults ? faults(p, vmx, gp) : exits(p, vmx ? 30 : 0x7b);
                rows.push_back({std::move(p), due});
            }
            Probe tidy("no denied port", kind, {0x90});
            tidy.memory = {{machine::tss + machine::io_bitmap + before / 8, {0}}};
            const Due due = runs(tidy, vmx);
            rows.push_back({std::move(tidy), due});
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// Bits of CR4 that make an instruction privileged, or invalid, come before its exit.
TEST_F(ExitTable, exits_come_behind_the_conditions_of_cr4) {
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        const auto controls = every_instruction_exits(prober, hello(), vmx);
        std::vector<Row> rows;
        const auto add = [&](const char* name, Kind kind, const char* code, u64 cr4, std::optional<u8> fault,
                             u64 raw) {
            Probe p(std::string(name) + ", " + std::string(machine::name_of(kind)), kind, machine::hex(code));
            p.fields = controls;
            p.state.cr4 |= cr4;
            p.state.gpr[abi::rcx] = p.state.gpr[abi::rdx] = 0;
            p.state.gpr[abi::rax] = 1;
            const Due due = fault ? faults(p, vmx, *fault) : exits(p, raw);
            rows.push_back({std::move(p), due});
        };
        const u64 rdtsc = vmx ? 16 : 0x6e, rdpmc = vmx ? 15 : 0x6f;
        for (const Kind kind : {Kind::paged32, Kind::paged32_user, Kind::long64, Kind::long64_user}) {
            const bool user = machine::is_user(kind);
            add("RDTSC, CR4.TSD = 1", kind, "0f 31", tsd, user ? std::optional(gp) : std::nullopt, rdtsc);
            add("RDTSC, CR4.TSD = 0", kind, "0f 31", 0, {}, rdtsc);
            add("RDPMC, CR4.PCE = 0", kind, "0f 33", 0, user ? std::optional(gp) : std::nullopt, rdpmc);
            add("RDPMC, CR4.PCE = 1", kind, "0f 33", pce, {}, rdpmc);
            if (vmx) {
                add("GETSEC, CR4.SMXE = 0", kind, "0f 37", 0, ud, 0);
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// #UD comes before everything, #GP at CPL 3 among it.
TEST_F(ExitTable, xsetbv_without_osxsave_is_invalid) {
    const Section xsetbv{"SDM 3C 26.1.1; SDM 2D XSETBV", "APM 2 15.9"};
    claim(xsetbv, [&] {
        Prober prober(host());
        if ((cpuid(hello(), 1, 0, 2) >> 26 & 1) == 0) {
            GTEST_SKIP() << "no XSAVE";
        }
        const auto controls = every_instruction_exits(prober, hello(), on_vmx());
        std::vector<Row> rows;
        for (const Kind kind : {Kind::paged32, Kind::paged32_user, Kind::long64, Kind::long64_user}) {
            Probe p("XSETBV, CR4.OSXSAVE = 0, " + std::string(machine::name_of(kind)), kind,
                    machine::hex("0f 01 d1"));
            p.fields = controls;
            p.state.gpr[abi::rcx] = p.state.gpr[abi::rdx] = 0;
            p.state.gpr[abi::rax] = 1;
            const Due due = faults(p, on_vmx(), ud);
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section_of(xsetbv));
    });
}

// DR4 and DR5 are DR6 and DR7, or invalid; SVM checks that before its intercept, VMX exits before it.
TEST_F(ExitTable, mov_dr_exits_against_cr4_de) {
    const Section debug{"SDM 3C 26.1.3", "APM 2 15.9; APM 3 MOV DRn"};
    claim(debug, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        const auto controls = every_instruction_exits(prober, hello(), vmx);
        std::vector<Row> rows;
        for (const unsigned dr : {4u, 5u}) {
            for (const bool write : {false, true}) {
                Probe p("MOV DR" + std::to_string(dr) + (write ? ", write" : ", read") + " under CR4.DE",
                        Kind::paged32,
                        {0x0f, static_cast<u8>(write ? 0x23 : 0x21), static_cast<u8>(0xc0 | dr << 3)});
                p.state.cr4 |= de;
                p.state.gpr[abi::rax] = 0x400;
                Probe plain = p;
                const Due fault = faults(plain, vmx, ud); // not intercepted
                rows.push_back({std::move(plain), fault});
                p.fields = controls;
                p.name += ", intercepted";
                const Due due = vmx ? exits(p, 29, Bits{dr | (write ? 0u : 0x10u)}) : faults(p, vmx, ud);
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section_of(debug));
    });
}

// What depends on the value alone comes behind a VMX exit; SVM's table says it of each instruction by itself.
TEST_F(ExitTable, exits_come_before_faults_of_the_operand) {
    const Section operands{"SDM 3C 26.1.1", "APM 2 15.9, 15.11"};
    claim(operands, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        const auto controls = every_instruction_exits(prober, hello(), vmx);
        std::vector<Row> rows;
        const auto add = [&](const char* name, const char* code, u64 raw, auto prepare) {
            Probe p(name, Kind::long64, machine::hex(code));
            p.fields = controls;
            prepare(p);
            const Due due = exits(p, raw);
            rows.push_back({std::move(p), due});
        };
        const auto set = [](u64 rax, u64 rcx, u64 rdx) {
            return [=](Probe& p) {
                p.state.gpr[abi::rax] = rax;
                p.state.gpr[abi::rcx] = rcx;
                p.state.gpr[abi::rdx] = rdx;
            };
        };
        add("RDMSR of no MSR", "0f 32", vmx ? 31 : 0x7c, set(0, 0x3fff'0000, 0));
        add("WRMSR of no MSR", "0f 30", vmx ? 32 : 0x7c, set(0, 0x3fff'0000, 0));
        add("WRMSR of a value that is refused", "0f 30", vmx ? 32 : 0x7c, set(~u64{0}, 0xc000'0080, ~u64{0}));
        if (vmx) {
            add("MOV to CR3 with reserved bits", "0f 22 d8", 28, set(~u64{0}, 0, 0));
            add("MOV to CR8 with reserved bits", "44 0f 22 c0", 28, set(~u64{0}, 0, 0));
            add("MOV to DR7 with reserved bits", "0f 23 f8", 29, set(~u64{0}, 0, 0));
            add("RDPMC of no counter", "0f 33", 15, set(0, 0x7fff'ffff, 0));
            add("LLDT of a selector beyond the GDT", "0f 00 d0", 47, set(0xfff8, 0, 0));
            add("LTR of a null selector", "0f 00 d8", 47, set(0, 0, 0));
            add("LGDT of a non-canonical address", "0f 01 17", 46,
                [](Probe& p) { p.state.gpr[abi::rdi] = u64{1} << 63; });
            add("MOV to CR0 with reserved bits that a mask holds", "0f 22 c0", 28, [](Probe& p) {
                p.state.gpr[abi::rax] = ~u64{0};
                p.set(vmcs::cr0_mask, ~u64{0});
            });
        } else { // memory is not touched before the intercept
            add("LGDT of unmapped memory", "0f 01 17", 0x6b,
                [](Probe& p) { p.state.gpr[abi::rdi] = 0x7f00'0000; });
            add("SIDT to unmapped memory", "0f 01 0f", 0x66,
                [](Probe& p) { p.state.gpr[abi::rdi] = 0x7f00'0000; });
            add("IRET with an empty stack", "48 cf", 0x74,
                [](Probe& p) { p.state.gpr[abi::rsp] = 0x7f00'0000; });
            add("PUSHF on unmapped memory", "9c", 0x70,
                [](Probe& p) { p.state.gpr[abi::rsp] = 0x7f00'0000; });
            add("POPF from unmapped memory", "9d", 0x71,
                [](Probe& p) { p.state.gpr[abi::rsp] = 0x7f00'0000; });
            add("INT n beyond the IDT", "cd ff", 0x75, [](Probe& p) { p.state.idtr.limit = 0; });
        }
        hold_rows(prober, rows, section_of(operands));
    });
}

} // namespace refhv::front
