// SPDX-License-Identifier: MIT
// Rows for CET state, protection keys, user interrupts and the tertiary controls.
#include "conformance/entry/table/vmx_tables.hpp"

namespace refhv::front::vmx_entry {

namespace {

// What one side of an entry loads: a control, and the fields behind it.
struct Side {
    u32 controls;
    u64 load;
    u32 s_cet, ssp, table;
};
constexpr Side guest_side{entry_controls, entry_load_cet, s_cet, ssp, interrupt_ssp_table};
constexpr Side host_side{exit_controls, exit_load_cet, host_s_cet, host_ssp, host_interrupt_ssp_table};

// Whatever the guest has, the exit takes away.
[[nodiscard]] Change cleared_by_the_exit(const Rows& rows) {
    return {{exit_controls, rows.base[exit_controls] | exit_load_cet},
            {host_s_cet, 0},
            {host_ssp, 0},
            {host_interrupt_ssp_table, 0}};
}

void put(Change& change, u32 field, u64 value) {
    const auto at =
        std::find_if(change.begin(), change.end(), [&](const FieldValue& f) { return f.field == field; });
    at != change.end() ? at->value = value : change.emplace_back(FieldValue{field, value}).value;
}

// Without what it leaves as it is.
void add_changes(Rows& rows, Change row) {
    std::erase_if(row, [&](const FieldValue& f) { return f.value == rows.base[f.field]; });
    if (!row.empty()) {
        rows.add(std::move(row));
    }
}

// All of a side is legal but for what `field` has; now and then the control is 0, and no value matters.
void add(Rows& rows, const Side& side, u32 field, u64 value) {
    Change row = cleared_by_the_exit(rows);
    put(row, side.controls, rows.base[side.controls] | side.load);
    for (const u32 other : {side.s_cet, side.ssp, side.table}) {
        put(row, other, 0);
    }
    put(row, field, value);
    add_changes(rows, row);
    if (rows.below(4) == 0) {
        put(row, side.controls, rows.base[side.controls] & ~side.load);
        add_changes(rows, std::move(row));
    }
}

[[nodiscard]] std::vector<u64> addresses(Rows& rows) {
    auto all = linear_addresses(rows.machine.linear_bits);
    for (unsigned i = 0; i < 8; ++i) {
        all.push_back(static_cast<u64>(static_cast<i64>(rows.random()) >> 17)); // canonical in every width
        all.push_back(rows.random() | u64{1} << 61 | u64{1} << 63);
        all.back() &= ~(u64{1} << 62); // and in none
    }
    return all;
}

// The guest's may lie between the canonical halves: shadow_stack_rows.
void add_ssp(Rows& rows, const Side& side, u64 address) {
    const i64 beyond = static_cast<i64>(address) >> rows.machine.linear_bits;
    const bool legal_in_a_guest = beyond == 0 || beyond == -1;
    if (side.ssp == host_ssp || rows.machine.is_canonical(address) || !legal_in_a_guest) {
        add(rows, side, side.ssp, address);
    }
}

void side_rows(Rows& rows, const Side& side) {
    for (const u64 address : addresses(rows)) {
        add(rows, side, side.s_cet, address & ~u64{0xfff});
        add_ssp(rows, side, address & ~u64{3});
        add(rows, side, side.table, address);
    }
    for (unsigned bit = 0; bit < 12; ++bit) {
        add(rows, side, side.s_cet, u64{1} << bit);
        add(rows, side, side.s_cet, s_cet_suppress | u64{1} << bit);
        add(rows, side, side.s_cet, s_cet_tracker | u64{1} << bit);
        add(rows, side, side.ssp, u64{1} << bit);
        add(rows, side, side.table, u64{1} << bit);
    }
    for (unsigned bit = 0; bit < 6; ++bit) {
        add(rows, side, side.s_cet, s_cet_suppress | s_cet_tracker | u64{1} << bit);
    }
    for (unsigned i = 0; i < 32; ++i) {
        const u64 high = rows.one_of(addresses(rows)) & ~u64{0xfff}, low = rows.random() & 0xfff;
        add(rows, side, side.s_cet, low);
        add(rows, side, side.s_cet, high | (low & ~s_cet_reserved));
        add_ssp(rows, side, i % 2 == 0 ? (rows.random() & 0xfff'ffff'ffff) : high | (low & 0xffc));
    }
    add(rows, side, side.s_cet, ~u64{0} & ~s_cet_reserved & ~s_cet_suppress);
    add(rows, side, side.s_cet, ~u64{0} & ~s_cet_reserved & ~s_cet_tracker);
    add(rows, side, side.ssp, ~u64{3});
    add(rows, side, side.ssp, ~u64{7});
}

[[nodiscard]] bool is_offered(const Rows& rows) {
    return rows.machine.entry.offers(entry_load_cet) && rows.machine.exit.offers(exit_load_cet);
}

} // namespace

// What need not be canonical in the guest: bit N-1 may differ from those above it.
void shadow_stack_rows(Rows& rows) {
    const u64 odd = u64{1} << (rows.machine.linear_bits - 1);
    for (const u64 address : {odd, odd | 8, odd | (odd - 8), ~odd & ~u64{7}, ~odd - 0xfff}) {
        if (is_offered(rows)) {
            add(rows, guest_side, ssp, address & ~u64{3});
        }
    }
}

void protected_cet_rows(Rows& rows) {
    if (!is_offered(rows)) {
        return;
    }
    for (unsigned bit = 0; bit < 64; ++bit) {
        add(rows, guest_side, ssp, u64{1} << bit);
    }
    for (const u64 address :
         {u64{0xffff'fffc}, u64{0x7fff'fff8}, u64{0xffff'ffff} << 32, ~u64{0} << 47, ~u64{7}}) {
        add(rows, guest_side, ssp, address);
    }
}

void cet_rows(Rows& rows) {
    if (!is_offered(rows)) {
        return;
    }
    side_rows(rows, guest_side);
    const u64 compatibility = (rows.base[cs_rights] & ~(u64{1} << 13)) | 1u << 14; // CS.L = 0, CS.D = 1
    for (unsigned bit = 30; bit < 64; ++bit) {
        Change row = cleared_by_the_exit(rows);
        put(row, entry_controls, rows.base[entry_controls] | entry_load_cet);
        put(row, cs_rights, compatibility);
        put(row, ssp, u64{1} << bit);
        add_changes(rows, std::move(row));
    }
    side_rows(rows, host_side);
    if ((rows.machine.cr4_fixed1 & cr4_cet) != 0) {
        // With the feature on: what the guest does then is another claim's, it has a NOP and a HLT.
        for (unsigned i = 0; i < 64; ++i) {
            Change row = cleared_by_the_exit(rows);
            put(row, entry_controls, rows.base[entry_controls] | entry_load_cet);
            put(row, cr4, rows.base[cr4] | cr4_cet);
            put(row, cr0, i % 4 == 0 ? rows.base[cr0] & ~cr0_wp : rows.base[cr0] | cr0_wp);
            put(row, s_cet, rows.random() & (i % 2 == 0 ? 0x43f : 0xc3f));
            put(row, ssp, rows.random() & 0x7ffc);
            put(row, interrupt_ssp_table, 0);
            add_changes(rows, std::move(row));
        }
        for (const u64 wp : {u64{0}, cr0_wp}) {
            Change row = cleared_by_the_exit(rows);
            put(row, host_cr4, rows.base[host_cr4] | cr4_cet);
            put(row, host_cr0, (rows.base[host_cr0] & ~cr0_wp) | wp);
            add_changes(rows, std::move(row));
        }
        // Whose exit undoes that.
        rows.add({{host_cr4, rows.base[host_cr4]}, {host_cr0, rows.base[host_cr0]}});
    }
    add_changes(rows, cleared_by_the_exit(rows)); // nothing of it stays
}

// Guest and host alike; the last exit loads 0.
void key_rows(Rows& rows) {
    if (rows.machine.entry.offers(entry_load_pkrs) && rows.machine.exit.offers(exit_load_pkrs)) {
        const u64 loads = rows.base[exit_controls] | exit_load_pkrs;
        const auto add_pair = [&](u64 value) {
            for (const u64 guest : {u64{0}, entry_load_pkrs}) {
                rows.add({{entry_controls, (rows.base[entry_controls] & ~entry_load_pkrs) | guest},
                          {exit_controls, loads},
                          {pkrs, value},
                          {host_pkrs, 0}});
            }
            rows.add({{exit_controls, loads}, {host_pkrs, value}});
            rows.add({{exit_controls, rows.base[exit_controls] & ~exit_load_pkrs}, {host_pkrs, value}});
        };
        for (unsigned bit = 0; bit < 64; bit += bit < 28 ? 5 : 1) {
            add_pair(u64{1} << bit);
        }
        for (unsigned i = 0; i < 8; ++i) {
            add_pair(rows.random());
            add_pair(rows.random() & 0xffff'ffff);
        }
        rows.add({{exit_controls, loads}, {host_pkrs, 0}});
    }
    if (rows.machine.entry.offers(entry_load_uinv)) {
        const u64 clears = rows.machine.exit.may & exit_clear_uinv;
        for (unsigned bit = 0; bit < 16; ++bit) {
            for (const u64 loads : {u64{0}, entry_load_uinv}) {
                rows.add({{entry_controls, (rows.base[entry_controls] & ~entry_load_uinv) | loads},
                          {exit_controls, rows.base[exit_controls] | clears},
                          {uinv, u64{1} << bit}});
            }
        }
    }
}

void tertiary_rows(Rows& rows) {
    const u64 offered = rows.machine.proc3;
    if (!rows.machine.proc.offers(proc_tertiary)) {
        return;
    }
    const auto add = [&](u64 value) {
        for (const u64 activated : {u64{0}, proc_tertiary}) {
            rows.add({{proc_controls, (rows.base[proc_controls] & ~proc_tertiary) | activated},
                      {tertiary_controls, value}});
        }
        if (rows.below(4) == 0) { // they do not depend on the secondary ones
            rows.add({{proc_controls, (rows.base[proc_controls] & ~proc_secondary) | proc_tertiary},
                      {tertiary_controls, value}});
        }
    };
    for (unsigned bit = 0; bit < 64; ++bit) {
        add(u64{1} << bit);
        if (bit % 4 == 0) {
            add(offered | u64{1} << bit);
        }
    }
    for (unsigned i = 0; i < 16; ++i) {
        add(rows.random() & offered);
        add(rows.random());
    }
    add(0);
    add(offered);
    add(~offered);
    add(~u64{0});
}

} // namespace refhv::front::vmx_entry
