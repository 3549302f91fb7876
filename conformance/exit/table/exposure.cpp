// SPDX-License-Identifier: MIT
// Instructions that a guest has only where a control or a bit of a control register gives them: invalid
// without it, before their privilege and their operands are looked at, and there with it.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u8 ud = 6, nm = 7;

// What a secondary processor-based control gives (SDM 3C 26.3).
struct Given {
    const char* name;
    const char* code;
    u64 control;
    bool on_runs = true; // with the control, in ring 0 of 64-bit mode, it goes on
    bool only_64 = false;
};

constexpr u64 rdtscp = 1u << 3, invpcid = 1u << 12, vm_functions = 1u << 13, xsaves = 1u << 20,
              user_wait = 1u << 26, pconfig = 1u << 27;
constexpr u64 tsd = 1u << 2, osfxsr = 1u << 9, fsgsbase = 1u << 16, osxsave = 1u << 18, pke = 1u << 22;
constexpr u64 cr0_em = 1u << 2, cr0_ts = 1u << 3;

const std::vector<Given> given{
    {"RDTSCP", "0f 01 f9", rdtscp},
    {"RDPID", "f3 0f c7 f8", rdtscp},
    {"INVPCID", "66 0f 38 82 07", invpcid},
    {"XSAVES", "0f c7 2f", xsaves},
    {"XRSTORS", "0f c7 1f", xsaves, false},
    {"TPAUSE", "66 0f ae f7", user_wait},
    {"UMWAIT", "f2 0f ae f7", user_wait},
    {"UMONITOR", "f3 0f ae f7", user_wait},
    {"VMFUNC", "0f 01 d4", vm_functions, false},
    {"PCONFIG", "0f 01 c5", pconfig, false},
    {"RDMSRLIST", "f2 0f 01 c6", 0, false, true},
    {"WRMSRLIST", "f3 0f 01 c6", 0, false, true},
};

// CPUID.07H:ECX and CPUID.(0DH,1):EAX, of those that a control alone does not say to be there.
bool cpu_has(const client::HelloInfo& hello, const std::string& name) {
    if (name == "RDPID") {
        return (cpuid(hello, 7, 0, 2) >> 22 & 1) != 0;
    }
    return name != "RDTSCP" || (cpuid(hello, 0x8000'0001, 0, 3) >> 27 & 1) != 0;
}

u64 settable_cr4(const client::HelloInfo& hello) {
    return (cpuid(hello, 1, 0, 2) >> 26 & 1) != 0 ? osxsave : 0;
}

Probe without_control(Prober& prober, const client::HelloInfo& hello, const Given& g, Kind kind) {
    constexpr u64 others = rdtscp | invpcid | xsaves | user_wait;
    Probe p(std::string(g.name) + " without its control, " + std::string(machine::name_of(kind)), kind,
            machine::hex(g.code));
    const u64 may = others & offered(hello, vmcs::secondary_controls);
    p.set(vmcs::secondary_controls, (prober.base(vmcs::secondary_controls) | may) & ~g.control);
    p.state.cr4 |= settable_cr4(hello) | tsd;
    p.state.gpr[abi::rdi] = machine::data + 1; // what it would refuse, too
    p.state.gpr[abi::rcx] = ~u64{0};
    return p;
}

} // namespace

TEST_F(ExitTable, vmx_instructions_without_their_control_are_invalid) {
    const Section section{.sdm = "SDM 3C 26.1.1, 26.3"};
    claim(section, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        for (const Given& g : given) {
            for (const Kind kind : kinds(prober)) {
                if (machine::is_real(kind) || (g.only_64 && !machine::is_64(kind)) ||
                    (g.control == xsaves && machine::is_user(kind))) {
                    continue;
                }
                Probe p = without_control(prober, hello(), g, kind);
                const Due due = faults(p, true, ud);
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// "Determined first by the setting of the control": before the privilege level.
TEST_F(ExitTable, vmx_xsaves_without_its_control_is_invalid_at_cpl_3_too) {
    const Section section{.sdm = "SDM 3C 26.1.1, 26.3"};
    claim(section, [&] {
        if (settable_cr4(hello()) == 0) {
            GTEST_SKIP() << "no XSAVE";
        }
        Prober prober(host());
        std::vector<Row> rows;
        for (const Given& g : given) {
            for (const Kind kind : {Kind::paged32_user, Kind::long64_user}) {
                if (g.control == xsaves) {
                    Probe p = without_control(prober, hello(), g, kind);
                    const Due due = faults(p, true, ud);
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// The premise of the claim above.
TEST_F(ExitTable, vmx_instructions_with_their_control_are_there) {
    const Section section{.sdm = "SDM 3C 26.3"};
    claim(section, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        for (const Given& g : given) {
            if (!g.on_runs || (offered(hello(), vmcs::secondary_controls) & g.control) == 0 ||
                !cpu_has(hello(), g.name)) {
                continue;
            }
            Probe p(std::string(g.name) + " with its control", Kind::long64, machine::hex(g.code));
            p.set(vmcs::secondary_controls, prober.base(vmcs::secondary_controls) | g.control);
            p.state.cr4 |= settable_cr4(hello());
            // INVPCID: everything. XSAVES: no component. TPAUSE and UMWAIT: until a moment that is past.
            p.state.gpr[abi::rdi] = machine::data;
            p.state.gpr[abi::rax] = g.control == invpcid ? 2 : 0;
            p.state.gpr[abi::rdx] = 0;
            p.memory.push_back({machine::data, std::vector<u8>(1024)});
            if (g.control == user_wait) { // bits 31:1 of the state must be 0
                p.state.gpr[abi::rdi] = g.code[0] == 'f' && g.code[1] == '3' ? machine::data : 0;
            }
            Due due = runs(p, true);
            due.registers = false;
            due.rflags_mask &= ~u64{0x8d5}; // CF of TPAUSE, and what is beside it
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// The guest's own CR4 and CR0, not what a read shadow shows of them.
TEST_F(ExitTable, instructions_without_their_bit_of_cr4_or_cr0_fault) {
    const Section section{"SDM 3C 25.6.6; SDM 2, each instruction", "APM 3 and 4, each instruction"};
    claim(section, [&] {
        Prober prober(host());
        struct Bit {
            const char* name;
            const char* code;
            u64 cr4, cr0; // set
            std::optional<u8> fault;
            u64 shown = 0; // of CR4, in the read shadow
            bool only_64 = false;
        };
        const bool has_xsave = settable_cr4(hello()) != 0;
        const bool has_fsgsbase = (cpuid(hello(), 7, 0, 1) & 1) != 0;
        const bool has_pke = (cpuid(hello(), 7, 0, 2) >> 3 & 1) != 0;
        std::vector<Bit> bits{
            {"XORPS, CR4.OSFXSR = 0", "0f 57 c0", 0, 0, ud},
            {"XORPS, CR4.OSFXSR = 1", "0f 57 c0", osfxsr, 0, {}},
            {"XORPS, OSFXSR shown alone", "0f 57 c0", 0, 0, ud, osfxsr},
            {"XORPS, CR0.EM = 1", "0f 57 c0", osfxsr, cr0_em, ud},
            {"XORPS, CR0.TS = 1", "0f 57 c0", osfxsr, cr0_ts, nm},
            {"FNOP, CR0.EM = 1", "d9 d0", 0, cr0_em, nm},
            {"FNOP, CR0.TS = 1", "d9 d0", 0, cr0_ts, nm},
            {"FNOP", "d9 d0", 0, 0, {}},
        };
        if (has_xsave) {
            bits.insert(bits.end(), {{"XGETBV, CR4.OSXSAVE = 0", "0f 01 d0", 0, 0, ud},
                                     {"XGETBV, CR4.OSXSAVE = 1", "0f 01 d0", osxsave, 0, {}},
                                     {"XGETBV, OSXSAVE shown alone", "0f 01 d0", 0, 0, ud, osxsave}});
        }
        if (has_fsgsbase) {
            bits.insert(bits.end(),
                        {{"RDFSBASE, CR4.FSGSBASE = 0", "f3 48 0f ae c0", 0, 0, ud, 0, true},
                         {"RDFSBASE, CR4.FSGSBASE = 1", "f3 48 0f ae c0", fsgsbase, 0, {}, 0, true},
                         {"WRGSBASE, FSGSBASE shown alone", "f3 48 0f ae d8", 0, 0, ud, fsgsbase, true}});
        }
        if (has_pke) {
            bits.insert(bits.end(), {{"RDPKRU, CR4.PKE = 0", "0f 01 ee", 0, 0, ud},
                                     {"RDPKRU, CR4.PKE = 1", "0f 01 ee", pke, 0, {}}});
        }
        std::vector<Row> rows;
        for (const Bit& b : bits) {
            for (const Kind kind :
                 {Kind::paged32, Kind::paged32_user, Kind::compat32, Kind::long64, Kind::long64_user}) {
                if (!prober.offers(kind) || (b.only_64 && !machine::is_64(kind)) ||
                    (b.shown != 0 && !on_vmx())) {
                    continue;
                }
                Probe p(std::string(b.name) + ", " + std::string(machine::name_of(kind)), kind,
                        machine::hex(b.code));
                p.state.gpr[abi::rcx] = 0; // of XGETBV and RDPKRU
                p.state.cr4 = (p.state.cr4 & ~(osfxsr | osxsave | fsgsbase | pke)) | b.cr4;
                p.state.cr0 = (p.state.cr0 & ~(cr0_em | cr0_ts)) | b.cr0;
                if (b.shown != 0) {
                    p.set(vmcs::cr4_mask, prober.base(vmcs::cr4_mask) | b.shown, 8);
                    p.set(vmcs::cr4_shadow, p.state.cr4 | b.shown, 8);
                }
                Due due = b.fault ? faults(p, on_vmx(), *b.fault) : runs(p, on_vmx());
                due.registers = false;
                due.control = b.shown == 0;
                due.rflags_mask &= ~u64{0x8d5};
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

} // namespace refhv::front
