// SPDX-License-Identifier: MIT
#include "refhv/svm/vmcb_rules.hpp"

namespace refhv::svm {

namespace {

constexpr VmcbRule free(u32 offset, u32 end) {
    return {offset, end - offset, Access::free, Permit::unlisted_fields, false, false, 0};
}
constexpr VmcbRule bits(u32 offset, u32 size, Permit permit, u64 may) {
    return {offset, size, Access::bits, permit, false, false, may};
}
constexpr VmcbRule denied(u32 offset, u32 end, Permit permit) {
    return {offset, end - offset, Access::denied, permit, false, false, 0};
}
constexpr VmcbRule translation(VmcbRule r) {
    r.translation = true;
    return r;
}
constexpr VmcbRule secret(VmcbRule r) {
    r.secret = true;
    return r;
}

// Not among the bits that may change: the host's interrupts, NMIs, SMIs, INIT, ports and MSRs, shutdown, and
// the instructions of SVM itself, whose operands are host-physical.
constexpr u32 free_intercept_1 =
    ~(intercept_1::intr | intercept_1::nmi | intercept_1::smi | intercept_1::init | intercept_1::ioio |
      intercept_1::msr | intercept_1::shutdown | intercept_1::invlpga | intercept_1::task_switch |
      intercept_1::ferr_freeze);
constexpr u32 free_intercept_2 = ~(intercept_2::vmrun | intercept_2::vmload | intercept_2::vmsave |
                                   intercept_2::stgi | intercept_2::clgi | intercept_2::skinit);
// V_TPR, V_IRQ, V_GIF, V_NMI with its mask, priority, V_IGN_TPR, the enables of V_NMI and V_GIF, the vector.
// Not V_INTR_MASKING, by which the guest's IF is not the CPU's, and AVIC, whose tables hold host-physical
// addresses and APIC IDs.
constexpr u64 free_interrupt_control = 0x1ff | 1u << 9 | 3u << 11 | interrupt_control::v_intr_prio |
                                       interrupt_control::v_ign_tpr | 1u << 25 |
                                       interrupt_control::v_nmi_enable | interrupt_control::v_intr_vector;
constexpr u64 guest_mode_execute_trap = 1u << 3; // of nested control; not NP_ENABLE and SEV

// In order of the offsets.
constexpr VmcbRule rules[] = {
    translation(free(0x000, 0x004)), // CR intercepts
    free(0x004, 0x008),              // DR intercepts
    translation(free(0x008, 0x00c)), // exception intercepts
    translation(bits(0x00c, 4, Permit::interrupts, free_intercept_1)),
    bits(0x010, 4, Permit::world_switch, free_intercept_2),
    translation(free(0x014, 0x018)),                                           // INVPCID and others
    free(0x03c, 0x040),                                                        // PAUSE filter
    secret(denied(0x040, 0x050, Permit::permission_maps)), free(0x050, 0x058), // TSC offset
    denied(0x058, 0x05c, Permit::translations),                                // ASID
    translation(free(0x05c, 0x05d)),                                           // TLB_CONTROL
    bits(0x060, 8, Permit::interrupts, free_interrupt_control),
    free(0x068, 0x090), // interrupt shadow, exit information
    bits(0x090, 8, Permit::world_switch, guest_mode_execute_trap),
    free(0x098, 0x0a0),                                       // AVIC's APIC address, guest-physical
    secret(denied(0x0a0, 0x0a8, Permit::physical_addresses)), // GHCB
    free(0x0a8, 0x0b0),                                       // EVENTINJ
    secret(denied(0x0b0, 0x0b8, Permit::translations)),       // nested CR3
    // Virtual VMLOAD and VMSAVE, IBS, performance counters; and of last branches, whose stack and LBR_SELECT
    // no #VMEXIT gives back to the host (APM 2 15.23.1).
    denied(0x0b8, 0x0c0, Permit::world_switch), free(0x0c0, 0x0e0), // clean bits, nRIP, instruction bytes
    secret(denied(0x0e0, 0x0e8, Permit::physical_addresses)),       // AVIC's backing page
    secret(denied(0x0f0, 0x100, Permit::physical_addresses)),       // AVIC's tables
    secret(denied(0x108, 0x110, Permit::physical_addresses)),       // VMSA
    free(0x400, 0x4a0),                                             // segments, GDTR, IDTR
    free(0x4cb, 0x4cc),                                             // CPL
    translation(free(0x4d0, 0x4d8)),                                // EFER
    translation(free(0x548, 0x560)),                                // CR4, CR3, CR0
    free(0x560, 0x580),                                             // DR7, DR6, RFLAGS, RIP
    free(0x5d8, 0x648),                                             // RSP to CR2
    free(0x668, 0x698),                                             // PAT, DBGCTL, last branches
};
static_assert([] {
    for (usize i = 1; i < sizeof rules / sizeof rules[0]; ++i) {
        if (rules[i].offset < rules[i - 1].offset + rules[i - 1].size) {
            return false;
        }
    }
    return true;
}());
static_assert(offsetof(Vmcb, tsc_offset) == 0x50 && offsetof(Vmcb, avic_apic_bar) == 0x98);
static_assert(offsetof(Vmcb, ghcb) == 0xa0 && offsetof(Vmcb, virtualization_extensions) == 0xb8);
static_assert(offsetof(Vmcb, interrupt_shadow) == 0x68 && offsetof(Vmcb, last_excp_to) == 0x690);

constexpr VmcbRule unlisted = {0, 0, Access::denied, Permit::unlisted_fields, false, true, 0};

// Of one byte of a rule.
u8 may_change(const VmcbRule& rule, u32 offset) {
    return rule.access == Access::bits ? static_cast<u8>(rule.argument >> (8 * (offset - rule.offset))) : 0;
}

} // namespace

const VmcbRule& rule_of(u32 offset) {
    for (const VmcbRule& r : rules) {
        if (offset >= r.offset && offset - r.offset < r.size) {
            return r;
        }
    }
    return unlisted;
}

Status admit_write(const GuestMemory& memory, const Vmcb& vmcb, u32 offset, u32 width, u64 value) {
    const Permissions permitted = platform::permissions();
    const bool nested = memory.mode == abi::Mode::nested;
    for (u32 i = 0; i < width; ++i) {
        const VmcbRule& rule = rule_of(offset + i);
        if (rule.translation && !nested && !permitted.has(Permit::translations)) {
            return refuse(Permit::translations);
        }
        const u8 now = reinterpret_cast<const u8*>(&vmcb)[offset + i];
        const u8 changed = static_cast<u8>(value >> (8 * i)) ^ now;
        if (rule.access != Access::free && !permitted.has(rule.permit) &&
            (changed & ~may_change(rule, offset + i)) != 0) {
            return refuse(rule.permit);
        }
    }
    return {};
}

Status admit_read(const GuestMemory& memory, u32 offset, u32 width) {
    const Permissions permitted = platform::permissions();
    const bool nested = memory.mode == abi::Mode::nested;
    for (u32 i = 0; i < width; ++i) {
        const VmcbRule& rule = rule_of(offset + i);
        if (rule.translation && !nested && !permitted.has(Permit::translations)) {
            return refuse(Permit::translations);
        }
        if (rule.secret && !permitted.has(rule.permit)) {
            return refuse(rule.permit);
        }
    }
    return {};
}

} // namespace refhv::svm
