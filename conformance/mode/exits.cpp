// SPDX-License-Identifier: MIT
// Instructions that exit, in every mode: the reason, the length, RIP; all else as it was; and which fault
// comes before the exit. VMX: SDM 3C 26.1.1 to 26.1.3, 28.2. SVM: APM 2 15.9, table 15-7.
#include "conformance/mode/case.hpp"
#include "conformance/probe/controls.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

const Section section{"SDM 3C 26.1.1, 26.1.2, 26.1.3, 28.2.1, 28.2.5", "APM 2 15.7.1, 15.9"};

// Who may execute it.
enum class Need : u8 {
    any,             // in every mode, at every CPL
    ring0,           // #GP elsewhere
    ring0_or_ud,     // #UD elsewhere
    protected_any,   // #UD in real and virtual-8086 mode
    protected_ring0, // likewise, and #GP at CPL > 0
    vmx,             // #UD in real, virtual-8086 and compatibility mode; any CPL (SDM 3C 31.3)
};

struct Instruction {
    const char* name;
    const char* bytes; // the same in 16-, 32- and 64-bit code; memory operands are [BX], [EDI], [RDI]
    Need need;
    int vmx, svm; // exit reason, EXITCODE; -1: none
    std::optional<u64> qualification{};
    std::optional<u64> info1{}; // SVM
    const char* feature = "";   // see has()
    bool memory = false;        // the qualification is the operand's linear address
    const char* alone = "";     // the claim of its own that it is in
};

constexpr Instruction instructions[] = {
    {"CPUID", "0f a2", Need::any, 10, 0x72, 0},
    {"HLT", "f4", Need::ring0, 12, 0x78, 0},
    {"INVD", "0f 08", Need::ring0, 13, 0x76, 0, {}, "", false, "invd"},
    {"WBINVD", "0f 09", Need::ring0, 54, 0x89, 0, {}, "wbinvd"},
    {"INVLPG", "0f 01 3f", Need::ring0, 14, 0x79, {}, {}, "", true},
    {"RDPMC", "0f 33", Need::ring0, 15, 0x6f, 0, {}, "rdpmc"},
    {"RDTSC", "0f 31", Need::any, 16, 0x6e, 0},
    {"RDTSCP", "0f 01 f9", Need::any, 51, 0x87, 0, {}, "rdtscp", false, "rdtscp"},
    {"RDMSR", "0f 32", Need::ring0, 31, 0x7c, {}, 0},
    {"WRMSR", "0f 30", Need::ring0, 32, 0x7c, {}, 1},
    {"VMCALL", "0f 01 c1", Need::any, 18, -1, 0},
    {"VMMCALL", "0f 01 d9", Need::any, -1, 0x81},
    {"MONITOR", "0f 01 c8", Need::ring0_or_ud, 39, 0x8a, 0, {}, "monitor"},
    {"MWAIT", "0f 01 c9", Need::ring0_or_ud, 36, 0x8b, {}, {}, "monitor"},
    {"PAUSE", "f3 90", Need::any, 40, 0x77, 0},
    {"SGDT", "0f 01 07", Need::any, 46, 0x67, 0, {}, "descriptors"},
    {"SIDT", "0f 01 0f", Need::any, 46, 0x66, 0, {}, "descriptors"},
    {"LGDT", "0f 01 17", Need::ring0, 46, 0x6b, 0, {}, "descriptors"},
    {"LIDT", "0f 01 1f", Need::ring0, 46, 0x6a, 0, {}, "descriptors"},
    {"SLDT", "0f 00 c0", Need::protected_any, 47, 0x68, 0, {}, "descriptors"},
    {"STR", "0f 00 c8", Need::protected_any, 47, 0x69, 0, {}, "descriptors"},
    {"LLDT", "0f 00 d0", Need::protected_ring0, 47, 0x6c, 0, {}, "descriptors"},
    {"LTR", "0f 00 d8", Need::protected_ring0, 47, 0x6d, 0, {}, "descriptors"},
    {"XSETBV", "0f 01 d1", Need::ring0, 55, 0x8d, 0, {}, "xsave", false, "xsetbv"},
    {"RDRAND", "0f c7 f0", Need::any, 57, -1, 0, {}, "rdrand"},
    {"RDSEED", "0f c7 f8", Need::any, 61, -1, 0, {}, "rdseed"},
    {"MOV from CR3", "0f 20 d8", Need::ring0, 28, 0x03, 0x13},
    {"MOV to CR3", "0f 22 d8", Need::ring0, 28, 0x13, 0x03},
    {"MOV from DR7", "0f 21 f8", Need::ring0, 29, 0x27, 0x17},
    {"MOV to DR7", "0f 23 f8", Need::ring0, 29, 0x37, 0x07},
    {"MOV from CR0", "0f 20 c0", Need::ring0, -1, 0x00},
    {"MOV from CR4", "0f 20 e0", Need::ring0, -1, 0x04},
    {"MOV to CR0", "0f 22 c0", Need::ring0, -1, 0x10},
    {"CLTS", "0f 06", Need::ring0, -1, 0x10},
    {"SMSW", "0f 01 e0", Need::any, -1, 0x00},
    {"LMSW", "0f 01 f0", Need::ring0, -1, 0x10},
    {"VMCLEAR", "66 0f c7 37", Need::vmx, 19, -1, 0},
    {"VMLAUNCH", "0f 01 c2", Need::vmx, 20, -1, 0},
    {"VMPTRLD", "0f c7 37", Need::vmx, 21, -1, 0},
    {"VMPTRST", "0f c7 3f", Need::vmx, 22, -1, 0},
    {"VMREAD", "0f 78 07", Need::vmx, 23, -1, 0},
    {"VMRESUME", "0f 01 c3", Need::vmx, 24, -1, 0},
    {"VMWRITE", "0f 79 07", Need::vmx, 25, -1, 0},
    {"VMXOFF", "0f 01 c4", Need::vmx, 26, -1, 0},
    {"VMXON", "f3 0f c7 37", Need::vmx, 27, -1, 0},
    {"INVEPT", "66 0f 38 80 07", Need::vmx, 50, -1, 0},
    {"INVVPID", "66 0f 38 81 07", Need::vmx, 53, -1, 0, {}, "vpid"},
    {"INVPCID", "66 0f 38 82 07", Need::ring0, 58, 0xa2, 0, {}, "invpcid", false, "invpcid"},
    {"PUSHF", "9c", Need::any, -1, 0x70},
    {"POPF", "9d", Need::any, -1, 0x71},
    {"IRET", "cf", Need::any, -1, 0x74},
    {"INT 42H", "cd 42", Need::any, -1, 0x75},
    {"INVLPGA", "0f 01 df", Need::protected_ring0, -1, 0x7a, {}, {}, "", false, "svm"},
    {"VMRUN", "0f 01 d8", Need::protected_ring0, -1, 0x80, {}, {}, "", false, "svm"},
    {"VMLOAD", "0f 01 da", Need::protected_ring0, -1, 0x82, {}, {}, "", false, "svm"},
    {"VMSAVE", "0f 01 db", Need::protected_ring0, -1, 0x83, {}, {}, "", false, "svm"},
    {"STGI", "0f 01 dc", Need::protected_ring0, -1, 0x84, {}, {}, "", false, "svm"},
    {"CLGI", "0f 01 dd", Need::protected_ring0, -1, 0x85, {}, {}, "", false, "svm"},
    {"ICEBP", "f1", Need::any, -1, 0x88, {}, {}, "", false, "icebp"},
};

bool has(const client::HelloInfo& hello, std::string_view feature, bool vmx) {
    const auto bit = [&](u32 leaf, unsigned reg, unsigned n) {
        return (cpuid(hello, leaf, 0, reg) >> n & 1) != 0;
    };
    const auto control = [&](unsigned n) {
        return !vmx || (offered(hello, vmcs::secondary_controls) >> n & 1) != 0;
    };
    return feature.empty()            ? true
           : feature == "wbinvd"      ? control(6)
           : feature == "descriptors" ? control(2)
           : feature == "rdtscp"      ? bit(0x8000'0001, 3, 27) && control(3)
           : feature == "monitor"     ? bit(1, 2, 3)
           : feature == "xsave"       ? bit(1, 2, 26)
           : feature == "rdrand"      ? bit(1, 2, 30) && control(11)
           : feature == "rdseed"      ? bit(7, 1, 18) && control(16)
           : feature == "vpid"        ? control(5)
           : feature == "invpcid"     ? bit(7, 1, 10) && control(12) && (vmx || bit(0x8000'000a, 3, 0))
                                      : feature == "rdpmc";
}

// The fault that comes before the exit.
std::optional<u8> fault_of(Need need, Kind kind, bool exits_first) {
    constexpr u8 ud = 6, gp = 13;
    const bool user = machine::is_user(kind), real = machine::is_real(kind), v86 = kind == Kind::v86;
    switch (need) {
    case Need::any:
        return {};
    case Need::ring0:
        return user && !exits_first ? std::optional(gp) : std::nullopt;
    case Need::ring0_or_ud:
        return user ? std::optional(ud) : std::nullopt;
    case Need::protected_any:
        return real || v86 ? std::optional(ud) : std::nullopt;
    case Need::vmx:
        return real || v86 || (machine::is_long(kind) && !machine::is_64(kind)) ? std::optional(ud)
                                                                                : std::nullopt;
    case Need::protected_ring0:
        return real || v86 ? std::optional(ud) : user ? std::optional(gp) : std::nullopt;
    }
    return {};
}

Probe probe_of(const Instruction& i, Kind kind, const std::vector<RawField>& controls) {
    Probe p(named(kind, i.name), kind, machine::hex(i.bytes));
    constexpr u64 offset = 0x2340, osxsave = 1u << 18;
    abi::GuestState& s = p.state;
    s.gpr[abi::rax] = 0x400; // a DR7, a limit-abiding offset
    s.gpr[abi::rcx] = 0;
    s.gpr[abi::rdx] = 0;
    s.gpr[abi::rbx] = s.gpr[abi::rdi] = offset;
    s.cr4 |= std::string_view(i.feature) == "xsave" ? osxsave : 0;
    const std::string_view name = i.name;
    if (name == "MOV to CR0" || name == "LMSW") {
        s.gpr[abi::rax] = s.cr0;
    } else if (name.starts_with("VMRUN") || name == "VMLOAD" || name == "VMSAVE") {
        s.gpr[abi::rax] = machine::spare; // any other is #GP
    } else if (name == "MOV to CR3") {
        s.gpr[abi::rax] = s.cr3;
    }
    p.fields = controls;
    return p;
}

} // namespace

void GuestMode::hold_instructions(const std::vector<Kind>& modes, Prober& prober, std::string_view which) {
    const bool vmx = on_vmx();
    const auto controls = every_instruction_exits(prober, hello(), vmx);
    std::vector<Row> rows;
    for (const Kind kind : modes) {
        // Of modes that decode alike, one does.
        const bool alike = kind == Kind::big_real || kind == Kind::paged16 || kind == Kind::pae_user ||
                           kind == Kind::compat32_user ||
                           (!vmx && (kind == Kind::unpaged16 || kind == Kind::pae));
        if (alike) {
            continue;
        }
        for (const Instruction& i : instructions) {
            const int raw = vmx ? i.vmx : i.svm;
            if (raw < 0 || i.alone != which || !has(hello(), i.feature, vmx)) {
                continue;
            }
            Probe p = probe_of(i, kind, controls);
            // Before any fault of privilege: the intercept of XSETBV (APM 2 table 15-7), and MOV DR (SDM
            // 3C 26.1.3).
            const bool first = vmx ? raw == 29 : raw == 0x8d;
            if (const auto vector = fault_of(i.need, kind, first)) {
                const Due due = faults(p, vmx, *vector);
                rows.push_back({std::move(p), due});
                continue;
            }
            Due due = exits(p, static_cast<u64>(raw));
            const auto& q = vmx ? i.qualification : i.info1;
            if (q) {
                due.qualification = Bits{*q};
            }
            if (vmx && i.memory) {
                due.qualification = Bits{p.state.segment[abi::ds].base + p.state.gpr[abi::rbx]};
            }
            rows.push_back({std::move(p), due});
        }
    }
    if (rows.empty()) {
        GTEST_SKIP() << "this CPU has none of these exits";
    }
    hold_rows(prober, rows, section_of(section));
}

TEST_F(GuestMode, instructions_exit_or_fault_as_the_mode_has_it) {
    claim(section, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "");
    });
}

// Claims of their own, because emulators are known to be wrong about them.
TEST_F(GuestMode, invd_exits_in_every_mode) {
    claim(section, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "invd");
    });
}

TEST_F(GuestMode, rdtscp_exits_in_every_mode) {
    claim(section, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "rdtscp");
    });
}

TEST_F(GuestMode, invpcid_exits_in_every_mode) {
    claim(section, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "invpcid");
    });
}

TEST_F(GuestMode, svm_instructions_exit_in_protected_mode_at_cpl_0) {
    claim({.apm = section.apm}, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "svm");
    });
}

// VMX: #UD and #GP come first. SVM: the intercept comes before #GP.
TEST_F(GuestMode, xsetbv_exits_in_every_mode) {
    claim(section, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "xsetbv");
    });
}

TEST_F(GuestMode, svm_icebp_exits_in_every_mode) {
    claim({.apm = section.apm}, [&] {
        Prober prober(host());
        hold_instructions(kinds(prober), prober, "icebp");
    });
}

} // namespace refhv::front
