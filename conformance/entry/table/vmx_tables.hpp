// SPDX-License-Identifier: MIT
// Tables of VM entries: what each changes of a state that enters. What is due the model says (vmx_rules.hpp).
#pragma once

#include "conformance/entry/table/rows.hpp"
#include "conformance/entry/table/vmx_rules.hpp"

namespace refhv::front::vmx_entry {

enum Table : u32 {
    controls = 1u << 0,
    addresses = 1u << 1,
    combinations = 1u << 2,
    events = 1u << 3,
    host = 1u << 4,
    registers = 1u << 5,
    segments = 1u << 6,
    rights_64 = 1u << 7, // access rights in 64-bit mode
    non_register = 1u << 8,
    mixtures = 1u << 9,
    protected_mode = 1u << 10, // PAE paging
    rights_32 = 1u << 11,
    pae = 1u << 12,
    unrestricted_32 = 1u << 13, // as protected_mode, with "unrestricted guest"
    virtual_8086 = 1u << 14,
    real = 1u << 15, // "unrestricted guest", CR0.PE = 0
    events_real = 1u << 16,
    rings = 1u << 17, // of an unrestricted guest
    rings_real = 1u << 18,
    cet = 1u << 19,
    shadow_stacks = 1u << 20, // SSP between the canonical halves
    cet_32 = 1u << 21,        // SSP outside IA-32e mode
    keys = 1u << 22,          // IA32_PKRS, and UINV
    tertiary = 1u << 23,
    other_events = 1u << 24, // type 7
    end_of_tables = 1u << 25,
    sturdy_tables = other_events - 1,
    rights = rights_64 | rights_32,
};

// The state that a table starts from.
enum class Base : u8 {
    long_mode,
    protected_pae,
    unrestricted_pae,
    virtual_8086,
    real_mode,
};
[[nodiscard]] Base base_of_table(Table table);
[[nodiscard]] const char* name_of_table(Table table);

struct Pages {
    u64 a, b; // host-physical addresses of two pages that nothing else uses, zeroed
    u64 msrs; // of a page of harmless MSR entries
};

class Rows {
  public:
    Rows(const State& start, const Machine& m, const Pages& free) : base(start), machine(m), pages(free) {}

    const State& base;
    const Machine& machine;
    const Pages& pages;
    Random random{table_seed};

    void add(Change change) { rows_.push_back(std::move(change)); }
    void set(u32 field, u64 value) { add({{field, value}}); }
    // Each of these bits changed by itself.
    void flip(u32 field, u64 bits) {
        for (unsigned bit = 0; bit < 64; ++bit) {
            if ((bits >> bit & 1) != 0) {
                set(field, base[field] ^ u64{1} << bit);
            }
        }
    }
    [[nodiscard]] std::vector<Change> take() { return std::move(rows_); }
    [[nodiscard]] u64 below(u64 n) { return random() % n; }
    template <class T>
    [[nodiscard]] T one_of(const std::vector<T>& values) {
        return values[below(values.size())];
    }
    [[nodiscard]] bool offers_secondary(u64 bits) const { return machine.proc2.offers(bits); }

  private:
    std::vector<Change> rows_;
};

void control_rows(Rows& rows);
void address_rows(Rows& rows);
void combination_rows(Rows& rows);
void event_rows(Rows& rows);
void real_event_rows(Rows& rows);
void other_event_rows(Rows& rows);
void ring_rows(Rows& rows);
void host_rows(Rows& rows);
void cet_rows(Rows& rows);
void shadow_stack_rows(Rows& rows);
void protected_cet_rows(Rows& rows);
void key_rows(Rows& rows);
void tertiary_rows(Rows& rows);
void register_rows(Rows& rows);
void protected_rows(Rows& rows);
void pae_rows(Rows& rows);
void segment_rows(Rows& rows);
void rights_rows(Rows& rows);
void unrestricted_rows(Rows& rows);
void virtual_8086_rows(Rows& rows);
void virtual_8086_elsewhere(Rows& rows);
void real_rows(Rows& rows);
void non_register_rows(Rows& rows);
void mixture_rows(Rows& rows);

[[nodiscard]] std::vector<Change> rows_of(Table table, const State& base, const Machine& machine,
                                          const Pages& pages);

} // namespace refhv::front::vmx_entry
