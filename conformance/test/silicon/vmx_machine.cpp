// SPDX-License-Identifier: MIT
#include "conformance/test/silicon/vmx_machine.hpp"

#include "refhv/core/platform.hpp"
#include "refhv/vmx/capabilities.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::silicon {

using vmx::Field;
namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
namespace msr = x86::msr;

namespace {

constexpr u32 valid = 1u << 31, type_nmi = 2u << 8;
// CR0 bits that neither entries nor exits touch (SDM 3C 27.3.2.1, 28.5.1).
constexpr u64 kept_cr0 = cr0::et | cr0::nw | cr0::cd | 0x1ff2'ffc0;

u64 allowed(u32 must, u32 may) {
    return must | u64{may} << 32;
}

bool fits(u64 value, u64 capability) {
    const auto must = static_cast<u32>(capability), may = static_cast<u32>(capability >> 32);
    return (value & must) == must && (value & ~u64{may}) == 0;
}

} // namespace

VmxMachine& vmx() {
    static VmxMachine m;
    return m;
}

void VmxMachine::reset() {
    *this = {};
    auto& msrs = machine().msrs;
    constexpr u32 all = ~0u;
    msrs[msr::feature_control] = {5};
    msrs[msr::vmx_basic] = {u64{1} << 55 | 0x12};
    msrs[msr::vmx_true_pin] = {allowed(0x16, 0xff)};
    msrs[msr::vmx_true_proc] = {allowed(0x0400'6172, all)};
    msrs[msr::vmx_true_exit] = {allowed(0x3'6dfb, all)};
    msrs[msr::vmx_true_entry] = {allowed(0x11fb, 0xf'ffff)};
    msrs[msr::vmx_misc] = {};
    msrs[msr::vmx_cr0_fixed0] = {0x8000'0021};
    msrs[msr::vmx_cr0_fixed1] = {0xffff'ffff};
    msrs[msr::vmx_cr4_fixed0] = {0x2000};
    msrs[msr::vmx_cr4_fixed1] = {0xff'ffff};
    msrs[msr::vmx_proc2] = {allowed(0, all)};
    msrs[msr::vmx_ept_vpid] = {1 | 1u << 6 | 1u << 14 | 3u << 16 | 1u << 20 | 3u << 25 | u64{0xf01} << 32};
}

VmxResult VmxMachine::vmxon(u64 region) {
    const Machine& m = machine();
    if (vmxon_faults || (m.cr4 & cr4::vmxe) == 0) {
        fault(general_protection, "VMXON");
    }
    const auto* const revision = static_cast<const u32*>(platform::to_virtual(region));
    if (*revision != (machine().msrs[msr::vmx_basic].value & 0x7fff'ffff) || operating_) {
        return VmxResult::fail_invalid;
    }
    operating_ = true;
    return VmxResult::succeed;
}

VmxResult VmxMachine::vmclear(u64 region) {
    regions_[region].launched = false;
    if (current_ == region) {
        current_ = 0;
    }
    return VmxResult::succeed;
}

VmxResult VmxMachine::vmptrld(u64 region) {
    current_ = region;
    return VmxResult::succeed;
}

VmxResult VmxMachine::vmread(u64 encoding, u64& value) {
    if (current_ == 0) {
        return VmxResult::fail_invalid;
    }
    value = regions_[current_].fields[encoding];
    return VmxResult::succeed;
}

VmxResult VmxMachine::vmwrite(u64 encoding, u64 value) {
    if (current_ == 0) {
        return VmxResult::fail_invalid;
    }
    constexpr u64 read_only = 1; // field type, bits 11:10
    if ((encoding >> 10 & 3) == read_only) {
        set(Field::instruction_error, 13);
        return VmxResult::fail_valid;
    }
    regions_[current_].fields[encoding] = value;
    return VmxResult::succeed;
}

u32 VmxMachine::refuse_entry(u32 error) {
    set(Field::instruction_error, error);
    return 1;
}

// SDM 3C 27.2.1.1, as far as a mistake of ours would show.
const char* VmxMachine::wrong_controls() {
    auto& msrs = machine().msrs;
    const u64 pin = get(Field::pin_based_controls), proc = get(Field::proc_based_controls);
    if (!fits(pin, msrs[msr::vmx_true_pin].value) || !fits(proc, msrs[msr::vmx_true_proc].value) ||
        !fits(get(Field::secondary_controls), msrs[msr::vmx_proc2].value) ||
        !fits(get(Field::exit_controls), msrs[msr::vmx_true_exit].value) ||
        !fits(get(Field::entry_controls), msrs[msr::vmx_true_entry].value)) {
        return "capability MSRs";
    }
    if ((proc & vmx::proc::nmi_window) != 0 && (pin & vmx::pin::virtual_nmis) == 0) {
        return "NMI window without virtual NMIs";
    }
    if ((pin & vmx::pin::virtual_nmis) != 0 && (pin & vmx::pin::nmi) == 0) {
        return "virtual NMIs without NMI exiting";
    }
    constexpr u64 error_valid = 1u << 11;
    const u64 info = get(Field::entry_interruption_info);
    if ((info & valid) != 0 && (info & error_valid) != 0 && (get(Field::guest_cr0) & cr0::pe) == 0) {
        return "an error code in real mode";
    }
    constexpr u64 tpr_shadow = 1u << 21;
    if ((proc & tpr_shadow) != 0 &&
        (get(Field::virtual_apic_address) == 0 || get(Field::virtual_apic_address) % page_size != 0)) {
        return "virtual-APIC address";
    }
    return nullptr;
}

// SDM 3C 27.3.1.5
bool VmxMachine::wrong_guest_state() {
    const u64 info = get(Field::entry_interruption_info), blocking = get(Field::guest_interruptibility);
    const bool injects_nmi = (info & valid) != 0 && (info & 0x700) == type_nmi;
    const bool virtual_nmis = (get(Field::pin_based_controls) & vmx::pin::virtual_nmis) != 0;
    const u64 flags = get(Field::guest_rflags);
    const bool interrupts = (flags & x86::rflags_bits::interrupt) != 0;
    const bool steps = (flags & x86::rflags_bits::tf) != 0 && (get(Field::guest_debugctl) & 2) == 0;
    const bool single_step = (get(Field::guest_pending_debug) >> 14 & 1) != 0;
    return (injects_nmi && virtual_nmis && (blocking & 8) != 0) || ((blocking & 1) != 0 && !interrupts) ||
           ((blocking & 3) != 0 && steps != single_step);
}

void VmxMachine::load_guest() {
    Machine& m = machine();
    const u64 entry = get(Field::entry_controls);
    m.cr0 = (m.cr0 & kept_cr0) | (get(Field::guest_cr0) & ~kept_cr0);
    m.cr3 = get(Field::guest_cr3);
    m.cr4 = get(Field::guest_cr4);
    if ((entry & vmx::entry_control::load_debug) != 0) {
        m.dr7 = get(Field::guest_dr7);
        m.msrs[msr::debugctl].value = get(Field::guest_debugctl);
    }
    if ((entry & vmx::entry_control::load_efer) != 0) {
        m.msrs[msr::efer].value = get(Field::guest_efer);
    }
    if ((entry & vmx::entry_control::load_pat) != 0) {
        m.msrs[msr::pat].value = get(Field::guest_pat);
    }
    m.msrs[msr::fs_base].value = get(segment_field(Field::guest_es_base, 4));
    m.msrs[msr::gs_base].value = get(segment_field(Field::guest_es_base, 5));
    m.msrs[msr::sysenter_cs].value = get(Field::guest_sysenter_cs);
    m.msrs[msr::sysenter_esp].value = get(Field::guest_sysenter_esp);
    m.msrs[msr::sysenter_eip].value = get(Field::guest_sysenter_eip);
    m.gdtr = {static_cast<u16>(get(Field::guest_gdtr_limit)), get(Field::guest_gdtr_base)};
    m.idtr = {static_cast<u16>(get(Field::guest_idtr_limit)), get(Field::guest_idtr_base)};
    m.rflags = get(Field::guest_rflags);
}

// SDM 3C 28.3 (saving) and 28.5 (loading).
void VmxMachine::exit_to_host() {
    Machine& m = machine();
    const u64 controls = get(Field::exit_controls);
    set(Field::guest_cr0, m.cr0);
    set(Field::guest_cr3, m.cr3);
    set(Field::guest_cr4, m.cr4);
    if ((controls & vmx::exit_control::save_debug) != 0) {
        set(Field::guest_dr7, m.dr7);
        set(Field::guest_debugctl, m.msrs[msr::debugctl].value);
    }
    if ((controls & vmx::exit_control::save_efer) != 0) {
        set(Field::guest_efer, m.msrs[msr::efer].value);
    }
    if ((controls & vmx::exit_control::save_pat) != 0) {
        set(Field::guest_pat, m.msrs[msr::pat].value);
    }
    set(Field::entry_interruption_info, get(Field::entry_interruption_info) & ~u64{valid});

    m.cr0 = (m.cr0 & kept_cr0) | (get(Field::host_cr0) & ~kept_cr0);
    m.cr3 = get(Field::host_cr3);
    m.cr4 = get(Field::host_cr4);
    m.dr7 = 0x400;
    m.msrs[msr::debugctl].value = 0;
    m.msrs[msr::sysenter_cs].value = get(Field::host_sysenter_cs);
    m.msrs[msr::sysenter_esp].value = get(Field::host_sysenter_esp);
    m.msrs[msr::sysenter_eip].value = get(Field::host_sysenter_eip);
    m.msrs[msr::fs_base].value = get(Field::host_fs_base);
    m.msrs[msr::gs_base].value = get(Field::host_gs_base);
    if ((controls & vmx::exit_control::load_efer) != 0) {
        m.msrs[msr::efer].value = get(Field::host_efer);
    }
    if ((controls & vmx::exit_control::load_pat) != 0) {
        m.msrs[msr::pat].value = get(Field::host_pat);
    }
    constexpr Field host_selectors[6] = {Field::host_es_selector, Field::host_cs_selector,
                                         Field::host_ss_selector, Field::host_ds_selector,
                                         Field::host_fs_selector, Field::host_gs_selector};
    for (unsigned i = 0; i < 6; ++i) {
        m.selectors[i] = static_cast<u16>(get(host_selectors[i]));
    }
    m.tr = {static_cast<u16>(get(Field::host_tr_selector)), get(Field::host_tr_base), 0x67};
    m.ldtr = 0;
    m.gdtr = {0xffff, get(Field::host_gdtr_base)};
    m.idtr = {0xffff, get(Field::host_idtr_base)};
    m.rflags = 2;
    m.step("VM exit");
}

u32 VmxMachine::enter(u64* gpr, bool resume) {
    if (current_ == 0) {
        return 2;
    }
    if (regions_[current_].launched != resume) {
        return refuse_entry(resume ? 5 : 4);
    }
    if (wrong_controls() != nullptr) {
        return refuse_entry(7);
    }
    constexpr u64 entry_failed = u64{1} << 31;
    if (wrong_guest_state()) {
        set(Field::exit_reason, entry_failed | static_cast<u64>(vmx::BasicExit::entry_guest_state));
        return 0;
    }
    regions_[current_].launched = true;
    if (const u64 info = get(Field::entry_interruption_info); (info & valid) != 0) {
        injected.push_back({static_cast<u32>(info), static_cast<u32>(get(Field::entry_exception_error))});
        const bool virtual_nmis = (get(Field::pin_based_controls) & vmx::pin::virtual_nmis) != 0;
        nmis_blocked = nmis_blocked || ((info & 0x700) == type_nmi && !virtual_nmis);
    }
    load_guest();
    set(Field::vectoring_info, 0);
    VmxGuest guest(*this, gpr);
    while (!guest.exited()) {
        if (program_.empty()) {
            guest.exit(vmx::BasicExit::vmcall, 0, 3);
            break;
        }
        const Step step = std::move(program_.front());
        program_.pop_front();
        step(guest);
    }
    exit_to_host();
    return 0;
}

} // namespace refhv::silicon
