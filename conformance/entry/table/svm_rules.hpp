// SPDX-License-Identifier: MIT
// The checks of VMRUN (APM 2 15.5.1, 15.20) as a function from a VMCB to the statements that it breaks. No
// CPU and no target in it: the oracle of the tables.
#pragma once

#include "refhv/contract/types.hpp"

#include <string>
#include <vector>

namespace refhv::front::svm_entry {

// Offsets into the VMCB (APM 2 appendix B) of what the checks look at, or what the tables change besides.
enum Field : u32 {
    cr_intercepts = 0x000,
    dr_intercepts = 0x004,
    intercept_1 = 0x00c,
    intercept_2 = 0x010,
    intercept_3 = 0x014,
    io_map = 0x040,
    msr_map = 0x048,
    tsc_offset = 0x050,
    asid = 0x058,
    interrupt_control = 0x060,
    interrupt_shadow = 0x068,
    event = 0x0a8,
    segments = 0x400, // ES, CS, SS, DS, FS, GS, GDTR, LDTR, IDTR, TR: selector, attributes, limit, base
    cs_attributes = 0x412,
    cpl = 0x4cb,
    efer = 0x4d0,
    cr4 = 0x548,
    cr3 = 0x550,
    cr0 = 0x558,
    dr7 = 0x560,
    dr6 = 0x568,
    rflags = 0x570,
    rip = 0x578,
    rsp = 0x5d8,
    rax = 0x5f8,
};
inline constexpr u32 segment_count = 10, segment_bytes = 16, attributes_at = 2, limit_at = 4, base_at = 8;

[[nodiscard]] u16 width_of(u32 field); // bytes
[[nodiscard]] std::string name_of_field(u32 field);

struct FieldValue {
    u32 field;
    u64 value;
};
using Change = std::vector<FieldValue>;

// What the checks look at.
struct State {
    u64 intercept_2, io_map, msr_map, asid, event, cs_attributes, efer, cr4, cr3, cr0, dr7, dr6;

    [[nodiscard]] State with(const Change& change) const;
    // The fields of that order.
    [[nodiscard]] static const std::vector<u32>& fields();
};

struct Machine {
    unsigned physical_bits, linear_bits;
    u64 cr4_features; // bits of CR4 that this CPU has
    bool next_rip;    // software interrupts can be injected
    u32 asids;
};

enum class Rule : u8 {
#define RULE(name, section) name,
#include "conformance/entry/table/svm_rules.inc"
#undef RULE
    count_
};

[[nodiscard]] const char* name_of(Rule rule);

// Those that the state breaks. Empty: VMRUN must enter.
[[nodiscard]] std::vector<Rule> broken_rules(const State& state, const Machine& machine);

inline constexpr u64 event_valid = 1u << 31, event_has_error = 1u << 11;
inline constexpr u64 efer_lme = 1u << 8, efer_lma = 1u << 10, efer_svme = 1u << 12;
inline constexpr u64 cr0_pe = 1, cr0_wp = 1u << 16, cr0_nw = 1u << 29, cr0_cd = 1u << 30, cr0_pg = 1u << 31;
inline constexpr u64 cr4_pae = 1u << 5, cr4_la57 = 1u << 12, cr4_cet = 1u << 23;
inline constexpr u64 attribute_l = 1u << 9, attribute_d = 1u << 10;

// Bits of CR4 that no CPU of AMD's has; and those that are a feature's.
inline constexpr u64 cr4_reserved = ~u64{0x1ff'ffff} | 1u << 13 | 1u << 14 | 1u << 15 | 1u << 19;
inline constexpr u64 cr4_optional = 1u << 11 | 1u << 12 | 1u << 16 | 1u << 17 | 1u << 18 | 1u << 20 |
                                    1u << 21 | 1u << 22 | 1u << 23 | 1u << 24;
// Bits of EFER that none has.
inline constexpr u64 efer_reserved = ~u64{0x3f'ffff} | 1u << 9 | 1u << 16 | 1u << 19;
// Bits 63:52 of CR3.
inline constexpr u64 cr3_reserved = u64{0xfff} << 52;
inline constexpr u64 io_map_bytes = 0x3000, msr_map_bytes = 0x2000;

} // namespace refhv::front::svm_entry
