// SPDX-License-Identifier: MIT
// The VMX capability MSRs by themselves and against each other (SDM 3D appendix A).
#include "conformance/operations/vmx_case.hpp"
#include "refhv/front/controls.hpp"
#include "refhv/x86/registers.hpp"

#include <algorithm>
#include <map>

namespace refhv::front::root {

namespace {

namespace m = x86::msr;

// Controls whose default is 1: the plain MSRs say that they must be (SDM 3D A.2).
constexpr u64 bits(std::initializer_list<unsigned> numbers) {
    u64 set = 0;
    for (const unsigned number : numbers) {
        set |= u64{1} << number;
    }
    return set;
}
struct ControlMsr {
    const char* name;
    u32 plain, exact;
    u64 default1;
};
constexpr ControlMsr control_msrs[] = {
    {"pin-based controls", m::vmx_pin, m::vmx_true_pin, bits({1, 2, 4})},
    {"primary processor-based controls", m::vmx_proc, m::vmx_true_proc,
     bits({1, 4, 5, 6, 8, 13, 14, 15, 16, 26})},
    {"exit controls", m::vmx_exit, m::vmx_true_exit,
     bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 16, 17})},
    {"entry controls", m::vmx_entry, m::vmx_true_entry, bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 12})}};

constexpr u64 low(u64 msr) {
    return msr & 0xffff'ffff;
}
constexpr bool bit(u64 value, unsigned number) {
    return (value >> number & 1) != 0;
}

} // namespace

class VmxCapabilities : public VmxRoot {
  protected:
    // The MSRs are read anew, and are as the greeting has them; those that it has not are #GP(0).
    void capability_claim(const char* section, const std::function<void(Differences&)>& body) {
        root_claim(section, [&](VmxProgram& p, Differences& d) {
            for (u32 index = m::vmx_basic; index <= m::vmx_proc3; ++index) {
                const u64 known = msr(hello(), index);
                End due = is_in_greeting(index) ? runs() : faults(general_protection);
                if (is_in_greeting(index)) {
                    due.rax = known & 0xffff'ffff;
                    due.rdx = known >> 32;
                }
                p.add("RDMSR of " + hex(index), vmx_code::rdmsr(), {.rcx = index}, due);
            }
            const auto results = p.run(d);
            for (usize i = 0; i < results.size(); ++i) {
                if (results[i].vector == Result::no_vector) {
                    msrs_[m::vmx_basic + static_cast<u32>(i)] = results[i].rdx << 32 | results[i].rax;
                }
            }
            body(d);
        });
    }
    [[nodiscard]] bool exists(u32 index) const { return msrs_.contains(index); }
    [[nodiscard]] u64 of(u32 index) const { return exists(index) ? msrs_.at(index) : 0; }
    static bool is_in_greeting(u32 index) {
        return std::ranges::any_of(
            hello().msrs, [&](const abi::MsrValue& v) { return v.index == index && v.present != 0; });
    }
    [[nodiscard]] bool is_true() const { return bit(of(m::vmx_basic), 55); }
    static u64 first() { return offered(hello(), vmcs::proc_controls); }
    static u64 second() { return bit(first(), 31) ? offered(hello(), vmcs::secondary_controls) : 0; }
    static u64 pin() { return offered(hello(), vmcs::pin_controls); }

    // Reserved bits of an MSR are 0.
    static void expect_clear(Differences& d, const char* name, u64 value, u64 reserved) {
        if ((value & reserved) != 0) {
            d.add(name, ": reserved bits ", std::hex, value & reserved, " are 1");
        }
    }
    static void implies(Differences& d, bool what, bool other, const char* text) {
        if (what && !other) {
            d.add(text);
        }
    }

  private:
    std::map<u32, u64> msrs_;
};

TEST_F(VmxCapabilities, basic) {
    capability_claim("SDM 3D A.1", [&](Differences& d) {
        const u64 basic = of(m::vmx_basic), size = basic >> 32 & 0x1fff, type = basic >> 50 & 15;
        expect_clear(d, "IA32_VMX_BASIC", basic,
                     u64{1} << 31 | u64{7} << 45 | u64{1} << 57 | u64{0x1f} << 59);
        if (size == 0 || size > 4096) {
            d.add("a VMCS region has ", size, " bytes; due 1 to 4096");
        }
        if (type != 0 && type != 6) {
            d.add("memory type ", type, "; due 0 (UC) or 6 (WB)");
        }
        implies(d, true, !bit(basic, 48), "bit 48 is 1 on a CPU with Intel 64 architecture");
        for (const ControlMsr& c : control_msrs) {
            implies(d, exists(c.exact), is_true(), "a TRUE MSR exists without bit 55");
            implies(d, is_true(), exists(c.exact), "bit 55 without a TRUE MSR");
        }
    });
}

TEST_F(VmxCapabilities, controls) {
    capability_claim("SDM 3D A.2 to A.5", [&](Differences& d) {
        for (const ControlMsr& c : control_msrs) {
            const u64 plain = of(c.plain), exact = is_true() ? of(c.exact) : plain;
            for (const u64 value : {plain, exact}) {
                if ((low(value) & ~(value >> 32)) != 0) {
                    d.add(c.name, std::hex, ": must be 1 and may not: ", low(value) & ~(value >> 32));
                }
            }
            if ((c.default1 & ~low(plain)) != 0) {
                d.add(c.name, std::hex,
                      ": default1 controls that may be 0 by the plain MSR: ", c.default1 & ~low(plain));
            }
            // Others than default1 say the same in both; a TRUE MSR forces no more.
            if (((low(plain) ^ low(exact)) & ~c.default1) != 0 || (low(exact) & ~low(plain)) != 0) {
                d.add(c.name, std::hex, ": bits 31:0 are ", low(plain), " and ", low(exact),
                      " in the TRUE MSR");
            }
            if (plain >> 32 != exact >> 32) {
                d.add(c.name, std::hex, ": bits 63:32 are ", plain >> 32, " and ", exact >> 32,
                      " in the TRUE MSR");
            }
        }
        // Secondary and tertiary controls may always be 0.
        if (exists(m::vmx_proc2)) {
            expect_clear(d, "IA32_VMX_PROCBASED_CTLS2", of(m::vmx_proc2), 0xffff'ffff);
        }
        implies(d, bit(first(), 31), exists(m::vmx_proc2), "secondary controls without their MSR");
        implies(d, exists(m::vmx_proc2), bit(first(), 31), "an MSR of secondary controls without them");
    });
}

TEST_F(VmxCapabilities, miscellaneous_data) {
    capability_claim("SDM 3D A.6", [&](Differences& d) {
        const u64 misc = of(m::vmx_misc);
        expect_clear(d, "IA32_VMX_MISC", misc, u64{0x1f} << 9 | u64{1} << 31);
        implies(d, bit(second(), 7), bit(misc, 5), "unrestricted guest without storing EFER.LMA (bit 5)");
        const u64 targets = misc >> 16 & 0x1ff;
        implies(d, true, targets <= 256, "more than 256 CR3-target values");
        implies(d, bit(misc, 28) || misc >> 32 != 0, bit(of(m::vmx_basic), 49),
                "bits of dual-monitor treatment without IA32_VMX_BASIC[49]");
    });
}

TEST_F(VmxCapabilities, fixed_bits) {
    capability_claim("SDM 3D A.7, A.8; SDM 3C 24.8", [&](Differences& d) {
        const u64 zero0 = of(m::vmx_cr0_fixed0), zero1 = of(m::vmx_cr0_fixed1);
        const u64 four0 = of(m::vmx_cr4_fixed0), four1 = of(m::vmx_cr4_fixed1);
        d.expect("CR0", "fixed to 1 in FIXED0 and to 0 in FIXED1", zero0 & ~zero1, 0);
        d.expect("CR4", "fixed to 1 in FIXED0 and to 0 in FIXED1", four0 & ~four1, 0);
        constexpr u64 pe_ne_pg = x86::cr0::pe | x86::cr0::ne | x86::cr0::pg;
        d.expect("CR0", "PE, NE and PG fixed to 1", zero0 & pe_ne_pg, pe_ne_pg);
        d.expect("CR4", "VMXE fixed to 1", four0 & x86::cr4::vmxe, x86::cr4::vmxe);
        // Bits of features that CPUID has may be 1.
        struct Owned {
            const char* name;
            u64 cr4;
            u32 leaf, reg;
            unsigned number;
        };
        constexpr Owned owned[] = {{"PCIDE", x86::cr4::pcide, 1, 2, 17},
                                   {"OSXSAVE", x86::cr4::osxsave, 1, 2, 26},
                                   {"FSGSBASE", x86::cr4::fsgsbase, 7, 1, 0},
                                   {"SMEP", x86::cr4::smep, 7, 1, 7},
                                   {"SMAP", x86::cr4::smap, 7, 1, 20},
                                   {"PKE", x86::cr4::pke, 7, 2, 3},
                                   {"UMIP", x86::cr4::umip, 7, 2, 2},
                                   {"LA57", x86::cr4::la57, 7, 2, 16},
                                   {"PSE", x86::cr4::pse, 1, 3, 3},
                                   {"PAE", x86::cr4::pae, 1, 3, 6},
                                   {"PGE", x86::cr4::pge, 1, 3, 13},
                                   {"MCE", x86::cr4::mce, 1, 3, 7},
                                   {"DE", x86::cr4::de, 1, 3, 2}};
        for (const Owned& o : owned) {
            if (bit(cpuid(hello(), o.leaf, 0, o.reg), o.number) != ((four1 & o.cr4) != 0)) {
                d.add("CR4.", o.name, " may be 1 in VMX operation: ", (four1 & o.cr4) != 0,
                      "; its feature is there: ", (four1 & o.cr4) == 0);
            }
        }
    });
}

TEST_F(VmxCapabilities, vmcs_enumeration) {
    capability_claim("SDM 3D A.9", [&](Differences& d) {
        expect_clear(d, "IA32_VMX_VMCS_ENUM", of(m::vmx_vmcs_enum), ~u64{0x3fe});
    });
}

TEST_F(VmxCapabilities, ept_and_vpid) {
    capability_claim("SDM 3D A.10", [&](Differences& d) {
        const u64 cap = of(m::vmx_ept_vpid);
        const bool ept = bit(second(), 1), vpid = bit(second(), 5);
        d.expect("IA32_VMX_EPT_VPID_CAP", "exists", exists(m::vmx_ept_vpid) ? 1 : 0, ept || vpid ? 1 : 0);
        constexpr u64 known =
            bits({0, 6, 7, 8, 14, 16, 17, 20, 21, 22, 23, 25, 26, 32, 40, 41, 42, 43}) | u64{0x3f} << 48;
        expect_clear(d, "IA32_VMX_EPT_VPID_CAP", cap, ~known);
        implies(d, ept, bit(cap, 6) || bit(cap, 7), "EPT without a page-walk length");
        implies(d, ept, bit(cap, 8) || bit(cap, 14), "EPT without a memory type for its tables");
        implies(d, bit(cap, 20), bit(cap, 25) || bit(cap, 26), "INVEPT without a type");
        implies(d, bit(cap, 32), (cap >> 40 & 15) != 0, "INVVPID without a type");
        implies(d, (cap >> 25 & 3) != 0, bit(cap, 20), "types of INVEPT without it");
        implies(d, (cap >> 40 & 15) != 0, bit(cap, 32), "types of INVVPID without it");
        implies(d, bit(cap, 20), ept, "INVEPT without EPT");
        implies(d, bit(cap, 32), vpid, "INVVPID without VPIDs");
        implies(d, bit(second(), 17), bit(cap, 21),
                "page-modification logging without accessed and dirty flags");
    });
}

// A control whose 1-setting an entry refuses unless another is 1 is of no use without that one.
TEST_F(VmxCapabilities, controls_come_with_those_that_they_need) {
    capability_claim("SDM 3C 27.2.1.1, 27.2.1.2", [&](Differences& d) {
        const bool ept = bit(second(), 1), tpr_shadow = bit(first(), 21);
        implies(d, bit(pin(), 5), bit(pin(), 3), "virtual NMIs without NMI exiting");
        implies(d, bit(first(), 22), bit(pin(), 5), "NMI-window exiting without virtual NMIs");
        implies(d, bit(second(), 4), tpr_shadow, "virtualize x2APIC mode without the TPR shadow");
        implies(d, bit(second(), 8), tpr_shadow, "APIC-register virtualization without the TPR shadow");
        implies(d, bit(second(), 9), tpr_shadow, "virtual-interrupt delivery without the TPR shadow");
        implies(d, bit(second(), 9), bit(pin(), 0), "virtual-interrupt delivery without interrupt exiting");
        implies(d, bit(pin(), 7), bit(second(), 9), "posted interrupts without virtual-interrupt delivery");
        const u64 exits = offered(hello(), vmcs::exit_controls);
        implies(d, bit(pin(), 7), bit(exits, 15), "posted interrupts without acknowledge on exit");
        for (const unsigned needs_ept : {7u, 17u, 22u, 23u, 24u}) {
            implies(d, bit(second(), needs_ept), ept,
                    "a secondary control (7, 17, 22, 23 or 24) without EPT");
        }
        implies(d, bit(exits, 22), bit(pin(), 6), "saving the preemption timer without it");
        const u64 functions = bit(second(), 13) ? of(m::vmx_vmfunc) : 0;
        implies(d, bit(functions, 0), ept, "EPTP switching without EPT");
        d.expect("IA32_VMX_VMFUNC", "exists", exists(m::vmx_vmfunc) ? 1 : 0, bit(second(), 13) ? 1 : 0);
        implies(d, bit(second(), 25), bit(first(), 3), "TSC scaling without TSC offsetting");
        // IA-32e mode, and the controls of instructions that CPUID has or has not.
        implies(d, true, bit(exits, 9), "a CPU with Intel 64 architecture has no 64-bit host");
        implies(d, true, bit(offered(hello(), vmcs::entry_controls), 9), "… and no IA-32e guest");
        struct Owned {
            const char* text;
            unsigned control;
            u32 leaf, subleaf, reg;
            unsigned number;
        };
        constexpr Owned owned[] = {
            {"RDTSCP", 3, 0x8000'0001, 0, 3, 27}, {"INVPCID", 12, 7, 0, 1, 10},
            {"RDRAND exiting", 11, 1, 0, 2, 30},  {"RDSEED exiting", 16, 7, 0, 1, 18},
            {"XSAVES", 20, 0xd, 1, 0, 3},         {"user wait and pause", 26, 7, 0, 2, 5}};
        for (const Owned& o : owned) {
            if (bit(second(), o.control) && !bit(cpuid(hello(), o.leaf, o.subleaf, o.reg), o.number)) {
                d.add("secondary control ", o.control, " (", o.text, ") without its instruction");
            }
        }
    });
}

} // namespace refhv::front::root
