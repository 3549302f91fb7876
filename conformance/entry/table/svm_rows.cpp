// SPDX-License-Identifier: MIT
#include "conformance/entry/table/svm_rows.hpp"

#include <algorithm>

namespace refhv::front::svm_entry {

namespace {

class Rows {
  public:
    Rows(const State& start, const Machine& m) : base(start), machine(m) {}

    const State& base;
    const Machine& machine;
    Random random{table_seed};

    void add(Change change) { rows_.push_back(std::move(change)); }
    void set(u32 field, u64 value) { add({{field, value}}); }
    void flip(u32 field, u64 of, u64 bits) {
        for (unsigned bit = 0; bit < 64; ++bit) {
            if ((bits >> bit & 1) != 0) {
                set(field, of ^ u64{1} << bit);
            }
        }
    }
    [[nodiscard]] std::vector<Change> take() { return std::move(rows_); }
    [[nodiscard]] u64 below(u64 n) { return random() % n; }

  private:
    std::vector<Change> rows_;
};

constexpr u64 all = ~u64{0}, upper_half = all << 32;

void register_rows(Rows& rows) {
    const State& b = rows.base;
    // Not PE by itself: a subject may not survive long mode without protection.
    rows.flip(cr0, b.cr0, all & ~u64{cr0_pe});
    for (u64 i = 0; i < 4; ++i) {
        rows.set(cr0, (b.cr0 & ~(cr0_cd | cr0_nw)) | (i & 1 ? cr0_cd : 0) | (i & 2 ? cr0_nw : 0));
    }
    rows.flip(cr3, b.cr3, cr3_reserved | 0x18);
    rows.set(cr3, b.cr3 | cr3_reserved);
    rows.flip(cr4, b.cr4, all & ~u64{cr4_la57 | cr4_cet}); // another walk; a feature with state of its own
    rows.flip(efer, b.efer, efer_reserved | efer_svme | 1u << 11 | 1);
    rows.flip(dr6, b.dr6, all);
    rows.flip(dr7, b.dr7, all & ~u64{0x2000});
    for (const u32 field : {cr0, dr6, dr7}) {
        rows.set(field, (field == cr0 ? b.cr0 : field == dr6 ? b.dr6 : b.dr7) | upper_half);
    }
    for (const u64 address :
         linear_addresses(rows.machine.linear_bits)) { // #GP in the guest: no check of VMRUN's
        rows.set(rip, address);
        rows.set(rsp, address);
    }
    for (const u64 value : {u64{0}, u64{1}, u64{0x5a5a}, all, u64{1} << 63}) {
        rows.set(rax, value);
    }
    for (unsigned bit = 0; bit < 22; ++bit) { // not VM: another kind of guest
        if (bit != 1 && bit != 3 && bit != 5 && bit != 15 && bit != 17) {
            rows.set(rflags, 2 | u64{1} << bit);
        }
    }
    for (u64 i = 0; i < 4; ++i) {
        rows.set(cs_attributes, (b.cs_attributes & ~u64{attribute_l | attribute_d}) |
                                    (i & 1 ? attribute_l : 0) | (i & 2 ? attribute_d : 0));
    }
}

void control_rows(Rows& rows) {
    const State& b = rows.base;
    constexpr u64 all_32 = 0xffff'ffff, hlt = 1u << 24, asked_for = 0x1f; // what ends these guests
    rows.flip(cr_intercepts, 0, all_32);
    rows.flip(dr_intercepts, 0, all_32);
    rows.set(intercept_1, all_32);
    for (unsigned bit = 5; bit < 32; ++bit) {
        rows.set(intercept_1, asked_for | hlt | u64{1} << bit);
    }
    rows.flip(intercept_2, b.intercept_2, 0x3fff);
    rows.set(intercept_2, 0);
    rows.set(intercept_2, 1);
    rows.set(intercept_2, 0x3ffe);
    const u64 end = u64{1} << rows.machine.physical_bits;
    struct Map {
        u32 field;
        u64 good, bytes;
    };
    for (const auto& [field, good, bytes] :
         {Map{io_map, b.io_map, io_map_bytes}, Map{msr_map, b.msr_map, msr_map_bytes}}) {
        for (unsigned bit = rows.machine.physical_bits; bit < 64; ++bit) {
            rows.set(field, good | u64{1} << bit);
        }
        // A table that ends with the last address: "extends to" leaves that open.
        for (u64 page = 1; page <= 5; ++page) {
            if (page * page_size != bytes) {
                rows.set(field, end - page * page_size);
                rows.set(field, end - page * page_size + 0xfff);
            }
        }
        for (const u64 low : {1, 8, 0x7ff, 0x800, 0xfff}) { // not looked at
            rows.set(field, good | low);
        }
        rows.set(field, all);
    }
    for (const u64 id : {u64{0}, u64{1}, u64{2}, u64{rows.machine.asids} - 1}) {
        rows.set(asid, id);
    }
    for (const u64 offset : {u64{1}, all, u64{1} << 63}) {
        rows.set(tsc_offset, offset);
    }
    constexpr u64 masking = u64{1} << 24;
    for (const unsigned bit : {0u, 1u, 2u, 3u, 8u, 16u, 17u, 18u, 19u, 20u, 32u, 35u, 39u}) {
        rows.set(interrupt_control, masking | u64{1} << bit);
    }
    rows.set(interrupt_shadow, 1);
}

// Vectors of type 3 that the manual leaves open are left out: reserved ones, and #OF, which INTO cannot raise
// in 64-bit mode. Software interrupts need the next RIP.
[[nodiscard]] bool is_open(u64 type, u64 vector) {
    constexpr u64 exceptions = 0x0007'7de3; // 0, 1, 5 to 8, 10 to 14, 16 to 18
    return type == 3 && vector < 32 && vector != 2 && (exceptions >> vector & 1) == 0;
}

void event_rows(Rows& rows) {
    for (u64 type = 0; type < 8; ++type) {
        for (u64 vector = 0; vector < 256; ++vector) {
            const bool sampled = type != 3 && vector > 33 && vector < 250 && vector % 16 > 1;
            if (is_open(type, vector) || sampled || (type == 4 && !rows.machine.next_rip)) {
                continue;
            }
            const u64 info = event_valid | type << 8 | vector;
            rows.set(event, info);
            if (type == 3 || vector % 8 == 0) {
                rows.set(event, info | event_has_error | u64{0x18} << 32);
            }
            if (vector % 4 == 0) {
                rows.set(event, info & ~event_valid); // nothing is injected
            }
        }
    }
    // In compatibility mode BOUND exists.
    for (const u64 vector : {0, 2, 5, 6, 13, 32}) {
        rows.add({{event, event_valid | 3 << 8 | vector},
                  {cs_attributes, (rows.base.cs_attributes & ~u64{attribute_l}) | attribute_d}});
    }
}

// "Only some of the attribute bits are observed": any value of the others enters.
void segment_rows(Rows& rows) {
    constexpr u32 cs_index = 1;
    const auto linear = linear_addresses(rows.machine.linear_bits);
    for (u32 i = 0; i < segment_count; ++i) {
        const u32 at = segments + i * segment_bytes;
        for (unsigned k = 0; k < 40; ++k) {
            const u64 attributes = rows.random() & 0xfff;
            if (i != cs_index) {
                rows.set(at + attributes_at, attributes);
            }
            rows.set(at + limit_at, rows.random() >> rows.below(64));
        }
        for (const u64 selector : {0, 1, 2, 3, 4, 7, 0xfff8, 0xffff}) {
            rows.set(at, selector);
        }
        for (const u64 address : linear) { // sign-extended, not refused
            rows.set(at + base_at, address);
        }
    }
    for (u64 dpl = 0; dpl < 4; ++dpl) {
        for (u64 level = 0; level < 4; ++level) {
            rows.add({{cs_attributes, (rows.base.cs_attributes & ~u64{0x60}) | dpl << 5}, {cpl, level}});
        }
    }
}

void mixture_rows(Rows& rows) {
    std::vector<Change> single;
    for (const Table table : {registers, controls, events, segments_of_any_kind}) {
        for (Change& change : rows_of(table, rows.base, rows.machine)) {
            single.push_back(std::move(change));
        }
    }
    for (unsigned i = 0; i < 1200; ++i) {
        Change mixed = single[rows.below(single.size())];
        for (u64 more = 1 + rows.below(3); more != 0; --more) {
            const FieldValue f = single[rows.below(single.size())].front();
            if (std::none_of(mixed.begin(), mixed.end(),
                             [&](const FieldValue& g) { return g.field == f.field; })) {
                mixed.push_back(f);
            }
        }
        rows.add(std::move(mixed));
    }
}

void last_rows(Rows& rows) {
    const State& b = rows.base;
    const u64 real = b.cr0 & ~u64{cr0_pe};
    rows.add({{cr0, real}, {efer, b.efer & ~(efer_lme | efer_lma)}}); // 15.19
    rows.set(cr0, real);
    rows.set(cr0, real & ~u64{cr0_wp});
}

} // namespace

std::vector<Change> rows_of(Table table, const State& base, const Machine& machine) {
    constexpr void (*fills[])(Rows&) = {register_rows, control_rows, event_rows,
                                        segment_rows,  mixture_rows, last_rows};
    Rows rows(base, machine);
    fills[table](rows);
    return rows.take();
}

} // namespace refhv::front::svm_entry
