// SPDX-License-Identifier: MIT
#include "conformance/test/silicon/machine.hpp"

#include "refhv/x86/registers.hpp"

#include <utility>

namespace refhv::silicon {

namespace {

using namespace x86;

// Memory of the host's own: 16 descriptors, and a TSS with an I/O map, so that its limit is not the least
// one.
alignas(16) u64 gdt[16];
alignas(16) u64 idt[512];
alignas(16) u8 tss[0x2070];

constexpr u64 busy_bit = u64{1} << 41, code64 = 0x00af'9b00'0000'ffff, data64 = 0x00cf'9300'0000'ffff,
              user_data = 0x00cf'f300'0000'ffff;
constexpr u16 code_selector = 8, data_selector = 16, tss_selector = 32;

void describe_tss(u64 base, u64 limit) {
    constexpr u64 available = 0x89;
    gdt[4] = (limit & 0xffff) | (base & 0xff'ffff) << 16 | available << 40 | (limit >> 16 & 0xf) << 48 |
             (base >> 24 & 0xff) << 56;
    gdt[5] = base >> 32;
}

u64 cpuid_key(u32 leaf, u32 subleaf) {
    return u64{leaf} << 32 | subleaf;
}

void common_leaves(Machine& m) {
    const auto leaf = [&](u32 l, u32 a, u32 b, u32 c, u32 d) {
        m.cpuid[cpuid_key(l, 0)] = {l, 0, a, b, c, d};
    };
    constexpr u32 vmx = 1u << 5, xsave = 1u << 26, pku = 1u << 3, la57 = 1u << 16, shadow_stacks = 1u << 7;
    leaf(0, 0xd, 0, 0, 0);
    leaf(1, 0x0080'0f00, 0, xsave | vmx, 0);             // family 17H
    leaf(7, 0, 0, pku | la57 | shadow_stacks, 1u << 26); // EDX: IA32_SPEC_CTRL
    leaf(0xd, 7, 0x340, 0x340, 0);
    m.cpuid[cpuid_key(0xd, 1)] = {0xd, 1, 3u << 3, 0, 0x1800, 0}; // XSAVES, with CET in IA32_XSS; XFD
    leaf(0x8000'0000, 0x8000'0021, 0, 0, 0);
    leaf(0x8000'0001, 0, 0, 1u << 2, 1u << 27 | 1u << 20); // SVM, RDTSCP, NX
    leaf(0x8000'0008, 0x3930, 0, 0, 0);
    leaf(0x8000'000a, 1, 8, 0, 0x9); // 8 ASIDs; nested paging, nRIP
}

} // namespace

Machine& machine() {
    static Machine m;
    return m;
}

void fault(u8 vector, std::string by) {
    throw HostFault{vector, std::move(by)};
}

bool is_canonical(u64 address) {
    const u64 top = address >> 47;
    return top == 0 || top == 0x1'ffff;
}

void Machine::reset(Vendor vendor) {
    *this = {};
    for (u64& d : gdt) {
        d = 0;
    }
    gdt[code_selector / 8] = code64;
    gdt[data_selector / 8] = data64;
    gdt[3] = user_data;
    describe_tss(reinterpret_cast<u64>(tss), sizeof tss - 1);
    cr0 = cr0::pe | cr0::mp | cr0::et | cr0::ne | cr0::wp | cr0::pg;
    cr3 = 0x1000;
    cr4 = cr4::pae | cr4::mce | cr4::osxsave | cr4::osfxsr;
    cr4_allowed = 0xffff'ffff;
    xcr0 = 7;
    xcr0_allowed = 7;
    rflags = rflags_bits::fixed;
    dr6 = 0xffff'0ff0;
    dr7 = 0x400;
    gdtr = {sizeof gdt - 1, reinterpret_cast<u64>(gdt)};
    idtr = {sizeof idt - 1, reinterpret_cast<u64>(idt)};
    const u16 own[6] = {data_selector, code_selector, data_selector, data_selector, 0, 0};
    for (unsigned i = 0; i < 6; ++i) {
        selectors[i] = own[i];
    }
    constexpr u64 upper = ~u64{0} << 32;
    msrs[msr::efer] = {efer::sce | efer::lme | efer::lma | efer::nxe, ~u64{0x5d01}};
    msrs[msr::pat] = {0x0007'0406'0007'0406};
    msrs[msr::star] = {0x0010'0008'0000'0000};
    for (const u32 index : {msr::lstar, msr::cstar, msr::kernel_gs_base, msr::fs_base, msr::gs_base,
                            msr::sysenter_esp, msr::sysenter_eip}) {
        msrs[index] = {0, 0, true};
    }
    msrs[msr::gs_base].value = 0xffff'8880'0000'0000;
    msrs[msr::sysenter_cs] = {};
    msrs[msr::sfmask] = {0x4'7700, upper};
    msrs[msr::tsc_aux] = {3, upper};
    msrs[msr::debugctl] = {};
    msrs[msr::xss] = {0, ~u64{0x1800}};
    msrs[msr::spec_ctrl] = {1};
    msrs[msr::xfd_err] = {0};
    msrs[0x6a0] = {0}; // IA32_U_CET
    common_leaves(*this);
    if (vendor == Vendor::amd) {
        constexpr u32 vm_cr = msr::vm_cr, hsave = msr::vm_hsave_pa;
        msrs[vm_cr] = {};
        msrs[hsave] = {0, 0xfff};
    }
    load_task(tss_selector);
}

u64 Machine::rdmsr(u32 index) {
    step("rdmsr");
    const auto at = msrs.find(index);
    if (at == msrs.end()) {
        fault(general_protection, "RDMSR " + std::to_string(index));
    }
    return at->second.value;
}

void Machine::wrmsr(u32 index, u64 value) {
    const auto at = msrs.find(index);
    if (at == msrs.end() || (value & at->second.reserved) != 0 ||
        (at->second.canonical && !is_canonical(value))) {
        fault(general_protection, "WRMSR " + std::to_string(index));
    }
    at->second.value = value;
    step("wrmsr");
}

void Machine::write_cr0(u64 value) {
    if (value >> 32 != 0 || ((value & cr0::nw) != 0 && (value & cr0::cd) == 0) ||
        ((value & cr0::pg) != 0 && (value & cr0::pe) == 0)) {
        fault(general_protection, "MOV to CR0");
    }
    cr0 = value | cr0::et;
    step("mov cr0");
}

void Machine::write_cr4(u64 value) {
    if ((value & ~cr4_allowed) != 0 || ((value ^ cr4) & cr4::la57) != 0) {
        fault(general_protection, "MOV to CR4");
    }
    cr4 = value;
    step("mov cr4");
}

void Machine::write_cr8(u64 value) {
    if (value > 15) {
        fault(general_protection, "MOV to CR8");
    }
    cr8 = value;
    step("mov cr8");
}

void Machine::write_dr6(u64 value) {
    if (value >> 32 != 0) {
        fault(general_protection, "MOV to DR6");
    }
    dr6 = value | 0xffff'0ff0;
    step("mov dr6");
}

void Machine::write_dr7(u64 value) {
    if (value >> 32 != 0) {
        fault(general_protection, "MOV to DR7");
    }
    dr7 = (value | 0x400) & ~u64{0xd000};
    step("mov dr7");
}

void Machine::xsetbv(u32 index, u64 value) {
    constexpr u64 x87 = 1, sse = 2, avx = 4;
    if ((cr4 & cr4::osxsave) == 0) {
        fault(6, "XSETBV");
    }
    if (index != 0 || (value & ~xcr0_allowed) != 0 || (value & x87) == 0 || (value & (sse | avx)) == avx) {
        fault(general_protection, "XSETBV");
    }
    xcr0 = value;
    step("xsetbv");
}

u64 Machine::descriptor(u16 selector) {
    const u16 at = selector & 0xfff8;
    if ((selector & 4) != 0 && ldtr != 0) {
        return user_data; // of whatever process has an LDT
    }
    if ((selector & 4) != 0 || at + 7 > gdtr.limit || at == 0) {
        fault(general_protection, "a selector outside the GDT");
    }
    return *reinterpret_cast<const u64*>(gdtr.base + at);
}

// Loading FS or GS makes their base that of the descriptor; a null selector clears it (SDM 2B MOV; APM 3 MOV
// keeps it).
void Machine::load_segment(Selector which, u16 selector) {
    u64 base = 0;
    if ((selector & 0xfffc) != 0) {
        const u64 d = descriptor(selector);
        base = (d >> 16 & 0xff'ffff) | (d >> 56) << 24;
    }
    selectors[which] = selector;
    if (which == fs || which == gs) {
        msrs[which == fs ? msr::fs_base : msr::gs_base].value = base;
    }
    step(which == gs ? "mov gs" : "mov sreg");
}

// LTR wants an available TSS, and makes it a busy one (SDM 2A LTR).
void Machine::load_task(u16 selector) {
    const u64 d = descriptor(selector);
    if ((d >> 40 & 0x1f) != 9) {
        fault(general_protection, "LTR of a TSS that is busy, or none");
    }
    auto* const in_memory = reinterpret_cast<u64*>(gdtr.base + (selector & 0xfff8));
    in_memory[0] |= busy_bit;
    tr = {selector, (d >> 16 & 0xff'ffff) | (d >> 56) << 24 | in_memory[1] << 32,
          static_cast<u32>((d & 0xffff) | (d >> 32 & 0xf'0000))};
    step("ltr");
}

void Machine::swapgs() {
    std::swap(msrs[msr::gs_base].value, msrs[msr::kernel_gs_base].value);
    step("swapgs");
}

} // namespace refhv::silicon
