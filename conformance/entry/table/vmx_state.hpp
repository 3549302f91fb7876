// SPDX-License-Identifier: MIT
// The fields of a VMCS as data: what the checks of SDM 3C chapter 27 look at, and nothing of a CPU.
#pragma once

#include "refhv/contract/types.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace refhv::front::vmx_entry {

// Encodings: SDM 3D appendix B.
enum Field : u32 {
    vpid = 0x0000,
    posted_vector = 0x0002,
    uinv = 0x0814,
    es_selector = 0x0800,
    cs_selector = 0x0802,
    ss_selector = 0x0804,
    ldtr_selector = 0x080c,
    tr_selector = 0x080e,
    host_es_selector = 0x0c00,
    host_cs_selector = 0x0c02,
    host_ss_selector = 0x0c04,
    host_tr_selector = 0x0c0c,
    io_bitmap_a = 0x2000,
    io_bitmap_b = 0x2002,
    msr_bitmap = 0x2004,
    exit_store_address = 0x2006,
    exit_load_address = 0x2008,
    entry_load_address = 0x200a,
    pml_address = 0x200e,
    virtual_apic_address = 0x2012,
    apic_access_address = 0x2014,
    posted_descriptor = 0x2016,
    function_controls = 0x2018,
    ept_pointer = 0x201a,
    eptp_list = 0x2024,
    vmread_bitmap = 0x2026,
    vmwrite_bitmap = 0x2028,
    ve_information = 0x202a,
    tsc_multiplier = 0x2032,
    tertiary_controls = 0x2034,
    link_pointer = 0x2800,
    debugctl = 0x2802,
    pat = 0x2804,
    efer = 0x2806,
    perf_global = 0x2808,
    pdpte0 = 0x280a,
    pkrs = 0x2818,
    host_pat = 0x2c00,
    host_efer = 0x2c02,
    host_pkrs = 0x2c06,
    pin_controls = 0x4000,
    proc_controls = 0x4002,
    cr3_target_count = 0x400a,
    exit_controls = 0x400c,
    exit_store_count = 0x400e,
    exit_load_count = 0x4010,
    entry_controls = 0x4012,
    entry_load_count = 0x4014,
    event = 0x4016,
    event_error = 0x4018,
    event_length = 0x401a,
    tpr_threshold = 0x401c,
    secondary_controls = 0x401e,
    es_limit = 0x4800,
    ldtr_limit = 0x480c,
    tr_limit = 0x480e,
    gdtr_limit = 0x4810,
    idtr_limit = 0x4812,
    es_rights = 0x4814,
    cs_rights = 0x4816,
    ss_rights = 0x4818,
    ldtr_rights = 0x4820,
    tr_rights = 0x4822,
    interruptibility = 0x4824,
    activity = 0x4826,
    cr0 = 0x6800,
    cr3 = 0x6802,
    cr4 = 0x6804,
    es_base = 0x6806,
    fs_base = 0x680e,
    ldtr_base = 0x6812,
    tr_base = 0x6814,
    gdtr_base = 0x6816,
    idtr_base = 0x6818,
    dr7 = 0x681a,
    rip = 0x681e,
    rflags = 0x6820,
    pending_debug = 0x6822,
    sysenter_esp = 0x6824,
    sysenter_eip = 0x6826,
    s_cet = 0x6828,
    ssp = 0x682a,
    interrupt_ssp_table = 0x682c,
    host_cr0 = 0x6c00,
    host_cr3 = 0x6c02,
    host_cr4 = 0x6c04,
    host_fs_base = 0x6c06,
    host_gs_base = 0x6c08,
    host_tr_base = 0x6c0a,
    host_gdtr_base = 0x6c0c,
    host_idtr_base = 0x6c0e,
    host_sysenter_esp = 0x6c10,
    host_sysenter_eip = 0x6c12,
    host_rip = 0x6c16,
    host_s_cet = 0x6c18,
    host_ssp = 0x6c1a,
    host_interrupt_ssp_table = 0x6c1c,
};

// ES, CS, SS, DS, FS, GS, LDTR, TR, in the order of their encodings.
enum Segment : u32 {
    es,
    cs,
    ss,
    ds,
    fs,
    gs,
    ldtr,
    tr
};
[[nodiscard]] constexpr Field selector_of(u32 segment) {
    return static_cast<Field>(es_selector + 2 * segment);
}
[[nodiscard]] constexpr Field limit_of(u32 segment) {
    return static_cast<Field>(es_limit + 2 * segment);
}
[[nodiscard]] constexpr Field rights_of(u32 segment) {
    return static_cast<Field>(es_rights + 2 * segment);
}
[[nodiscard]] constexpr Field base_of(u32 segment) {
    return static_cast<Field>(es_base + 2 * segment);
}

// All that the model knows.
[[nodiscard]] const std::vector<u32>& modelled_fields();
[[nodiscard]] std::string name_of_field(u32 field);

// The bits that a field of this encoding has (SDM 3C 25.11.2).
[[nodiscard]] constexpr u64 width_mask(u32 field) {
    const u32 width = field >> 13 & 3;
    return width == 0 ? 0xffff : width == 2 ? 0xffff'ffff : ~u64{0};
}

struct FieldValue {
    u32 field;
    u64 value;
};
using Change = std::vector<FieldValue>;

// Fields and their values; a field that is not there is 0.
class State {
  public:
    [[nodiscard]] u64 operator[](u32 field) const {
        const auto at = find(field);
        return at != values_.end() && at->first == field ? at->second : 0;
    }
    void set(u32 field, u64 value) {
        const auto at = std::lower_bound(values_.begin(), values_.end(), std::pair<u32, u64>{field, 0});
        if (at != values_.end() && at->first == field) {
            at->second = value & width_mask(field);
        } else {
            values_.insert(at, {field, value & width_mask(field)});
        }
    }
    [[nodiscard]] State with(const Change& change) const {
        State changed = *this;
        for (const FieldValue& f : change) {
            changed.set(f.field, f.value);
        }
        return changed;
    }

  private:
    [[nodiscard]] std::vector<std::pair<u32, u64>>::const_iterator find(u32 field) const {
        return std::lower_bound(values_.begin(), values_.end(), std::pair<u32, u64>{field, 0});
    }
    std::vector<std::pair<u32, u64>> values_; // sorted
};

// What of a CPU the checks depend on: capability MSRs (SDM 3D appendix A) and CPUID.
struct Machine {
    struct Allowed {
        u32 must, may; // bits that must be 1, bits that may be 1
        [[nodiscard]] bool offers(u64 bits) const { return (may & bits) == bits; }
        [[nodiscard]] bool takes(u64 value) const { return (must & ~value) == 0 && (value & ~u64{may}) == 0; }
    };
    Allowed pin, proc, proc2, exit, entry;
    u64 proc3; // IA32_VMX_PROCBASED_CTLS3: bits that may be 1
    u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    u64 misc, ept_vpid, functions; // IA32_VMX_MISC, IA32_VMX_EPT_VPID_CAP, IA32_VMX_VMFUNC
    bool any_error_code;           // IA32_VMX_BASIC[56]
    unsigned physical_bits, linear_bits;
    bool execute_disable; // EFER.NXE is offered
    bool sgx, rtm, bus_lock;

    [[nodiscard]] bool is_physical(u64 address) const { return address >> physical_bits == 0; }
    [[nodiscard]] bool is_canonical(u64 address) const {
        const i64 high = static_cast<i64>(address) >> (linear_bits - 1);
        return high == 0 || high == -1;
    }
};

} // namespace refhv::front::vmx_entry
