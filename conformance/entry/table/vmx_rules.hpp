// SPDX-License-Identifier: MIT
// The checks of a VM entry (SDM 3C 27.2, 27.3.1) as a function from a VMCS to the statements that it breaks.
// No CPU and no target in it: the oracle of the tables.
#pragma once

#include "conformance/entry/table/vmx_state.hpp"

namespace refhv::front::vmx_entry {

// What a state that breaks a rule ends in. 7 and 8: VM-instruction errors (31.4); 33: basic exit reason.
enum class Kind : u8 {
    control, // 7
    host,    // 8
    either,  // 7 or 8: the manual puts the check under both
    guest,   // 33, qualification 0
    pdpte,   // 33, qualification 2
    link,    // 33, qualification 4
};

enum class Rule : u8 {
#define RULE(name, kind, section, where) name,
#include "conformance/entry/table/vmx_rules.inc"
#undef RULE
    count_
};

struct RuleInfo {
    const char* name;
    Kind kind;
    const char* section; // of SDM 3C
};
[[nodiscard]] const RuleInfo& info_of(Rule rule);

// Those that the state breaks, each once. Empty: the entry must succeed.
[[nodiscard]] std::vector<Rule> broken_rules(const State& state, const Machine& machine);

// The parts of broken_rules.
class Check {
  public:
    Check(const State& state, const Machine& machine, std::vector<Rule>& broken)
        : s(state), m(machine), broken_(broken) {}
    void controls();
    void processor_controls();
    void apic_controls();
    void ept_controls();
    void exit_and_entry_controls();
    void event();
    void host();
    void control_registers();
    void model_specific_registers();
    void segments();
    void cet_state();
    void host_cet_state();
    void virtual_8086();
    void code_segment();
    void stack_segment();
    void data_segments();
    void segment_bits(u32 segment);
    void task_register();
    void local_descriptor_table();
    void descriptor_tables();
    void rip_and_rflags();
    void activity();
    void interruptibility();
    void pending_debug();
    void link_and_pdptes();

  private:
    void must(bool holds, Rule rule) {
        if (!holds && std::find(broken_.begin(), broken_.end(), rule) == broken_.end()) {
            broken_.push_back(rule);
        }
    }
    [[nodiscard]] bool is(u32 field, u64 bits) const { return (s[field] & bits) == bits; }
    [[nodiscard]] u64 secondary() const; // as the CPU takes them
    [[nodiscard]] bool is_page(u32 field) const {
        return s[field] % page_size == 0 && m.is_physical(s[field]);
    }
    [[nodiscard]] bool granularity_fits(u32 segment) const;
    [[nodiscard]] bool injects(u64 type) const;
    [[nodiscard]] bool usable(u32 segment) const;
    [[nodiscard]] bool ia32e() const;
    [[nodiscard]] bool in_64_bit_mode() const;
    [[nodiscard]] bool unrestricted() const;
    [[nodiscard]] bool will_be_virtual_8086() const;
    [[nodiscard]] bool tracks_and_suppresses(u32 field) const;
    void msr_area(u32 count, u32 address, Rule rule);

    const State& s;
    const Machine& m;
    std::vector<Rule>& broken_;
};

// Bits that several checks look at.
inline constexpr u64 pin_interrupts = 1u << 0, pin_nmi = 1u << 3, pin_virtual_nmis = 1u << 5,
                     pin_timer = 1u << 6, pin_posted = 1u << 7;
inline constexpr u64 proc_tpr_shadow = 1u << 21, proc_nmi_window = 1u << 22, proc_io_bitmaps = 1u << 25,
                     proc_monitor_trap = 1u << 27, proc_tertiary = 1u << 17, proc_msr_bitmaps = 1u << 28,
                     proc_secondary = 1u << 31;
inline constexpr u64 proc2_apic_accesses = 1u << 0, proc2_ept = 1u << 1, proc2_x2apic = 1u << 4,
                     proc2_vpid = 1u << 5, proc2_unrestricted = 1u << 7, proc2_apic_registers = 1u << 8,
                     proc2_interrupt_delivery = 1u << 9, proc2_functions = 1u << 13,
                     proc2_shadowing = 1u << 14, proc2_pml = 1u << 17, proc2_ve = 1u << 18,
                     proc2_mode_based = 1u << 22, proc2_tsc_scaling = 1u << 25;
inline constexpr u64 exit_host_64 = 1u << 9, exit_ack_interrupt = 1u << 15, exit_load_pat = 1u << 19,
                     exit_load_efer = 1u << 21, exit_save_timer = 1u << 22, exit_load_cet = 1u << 28,
                     exit_load_pkrs = 1u << 29, exit_clear_uinv = 1u << 27;
inline constexpr u64 entry_load_debug = 1u << 2, entry_ia32e = 1u << 9, entry_smm = 1u << 10,
                     entry_dual_monitor = 1u << 11, entry_load_pat = 1u << 14, entry_load_efer = 1u << 15,
                     entry_load_cet = 1u << 20, entry_load_uinv = 1u << 19, entry_load_pkrs = 1u << 22;
inline constexpr u64 cr0_pe = 1, cr0_wp = 1u << 16, cr0_nw = 1u << 29, cr0_cd = 1u << 30, cr0_pg = 1u << 31;
inline constexpr u64 cr4_pae = 1u << 5, cr4_pcide = 1u << 17, cr4_cet = 1u << 23;
inline constexpr u64 efer_sce = 1, efer_lme = 1u << 8, efer_lma = 1u << 10, efer_nxe = 1u << 11;
inline constexpr u64 s_cet_reserved = 0x3c0, s_cet_suppress = 1u << 10, s_cet_tracker = 1u << 11;
inline constexpr u64 rflags_tf = 1u << 8, rflags_if = 1u << 9, rflags_vm = 1u << 17;
inline constexpr u64 event_valid = 1u << 31, event_delivers_error = 1u << 11;
inline constexpr u64 unusable_bit = 1u << 16;
inline constexpr u64 by_sti = 1, by_mov_ss = 2, by_smi = 4, by_nmi = 8, enclave = 16;

// Bits 7:4 of VTPR in the virtual-APIC page of these tables.
inline constexpr u64 virtual_task_priority = 5;

enum EventType : u64 {
    external_interrupt = 0,
    reserved_type = 1,
    nmi = 2,
    hardware_exception = 3,
    software_interrupt = 4,
    privileged_software = 5,
    software_exception = 6,
    other_event = 7,
};

} // namespace refhv::front::vmx_entry
