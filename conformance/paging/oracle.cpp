// SPDX-License-Identifier: MIT
#include "conformance/paging/oracle.hpp"

namespace refhv::front {

namespace {

constexpr u16 error_p = 1, error_wr = 2, error_us = 4, error_rsvd = 8, error_id = 16, error_pk = 32;
constexpr u16 all_accessed = 0x1f00;

[[nodiscard]] constexpr u16 accessed(unsigned level) {
    return static_cast<u16>(result_accessed_1 << (level - 1));
}

// SDM 3A tables 4-14 to 4-20; APM 2 figures 5-18 to 5-27. The engine's addresses are below 2^32, so only the
// extra bit can be a reserved address bit.
[[nodiscard]] bool is_reserved(const PagingMachine& m, unsigned level, unsigned leaf, unsigned bit) {
    constexpr unsigned ps = 7, global = 8, pat_large = 12;
    if (bit == 0) {
        return false;
    }
    if (bit >= m.physical_bits && bit <= 51) {
        return true;
    }
    if (level == leaf) {
        const unsigned size_bits = 12 + 9 * (level - 1);
        return level > 1 && bit > pat_large && bit < size_bits;
    }
    return (level >= 4 && bit == ps) || (m.amd && level >= 3 && bit == global);
}

struct Rights {
    bool write = true, user = true, execute = true; // what every entry on the way allows
};

// SDM 3A 4.6.1; APM 2 5.6.
[[nodiscard]] bool allowed(const Rights& r, u64 control, Try t) {
    const bool wp = (control & control_wp) != 0, nxe = (control & control_nxe) != 0;
    if (is_user(t)) {
        return r.user && (!is_write(t) || r.write) && (!is_fetch(t) || r.execute || !nxe);
    }
    if (is_fetch(t)) {
        return !(r.user && (control & control_smep) != 0) && (r.execute || !nxe);
    }
    const bool shut_out = r.user && (control & control_smap) != 0 && (control & control_ac) == 0;
    return !shut_out && (!is_write(t) || r.write || !wp);
}

// SDM 3A 4.6.2; APM 2 5.6.7. Protection keys concern data accesses to user-mode addresses.
[[nodiscard]] bool forbidden_by_key(const Rights& r, EntryCode leaf, u64 control, Try t) {
    if ((control & control_pke) == 0 || !r.user || is_fetch(t)) {
        return false;
    }
    const u32 pkru = static_cast<u32>(control >> 32) >> (2 * key_of(leaf));
    const bool access_disabled = (pkru & 1) != 0, write_disabled = (pkru & 2) != 0;
    const bool wp = (control & control_wp) != 0;
    return access_disabled || (write_disabled && is_write(t) && (is_user(t) || wp));
}

// SDM 3A 4.7: W/R and U/S describe the access; I/D is told where NX or SMEP are in use.
[[nodiscard]] u16 describe(u64 control, Try t) {
    const bool tells_fetch = (control & (control_nxe | control_smep)) != 0;
    return static_cast<u16>((is_write(t) ? error_wr : 0) | (is_user(t) ? error_us : 0) |
                            (is_fetch(t) && tells_fetch ? error_id : 0));
}

} // namespace

Predicted predict(const PagingMachine& m, const EntrySet& set, u64 control, Try access) {
    Rights rights;
    u16 used = 0;
    const auto fault = [&](u16 bits, u16 open) {
        // Whether a walk that ends in a fault has set accessed flags is model-specific (SDM 3A 6.15, #PF), in
        // entries that it could use; nothing else may have changed, and a dirty flag tells of a write that
        // happened.
        return Predicted{static_cast<u16>(result_fault | bits | describe(control, access)),
                         static_cast<u16>(~(used | open))};
    };
    for (unsigned level = m.levels; level >= set.leaf; --level) {
        const EntryCode e = set.entry[level];
        if ((e & entry_p) == 0) {
            return fault(0, 0);
        }
        const bool nx_is_reserved = (control & control_nxe) == 0;
        const bool size_not_offered = level == 3 && level == set.leaf && !m.has_1g_pages;
        if (size_not_offered || is_reserved(m, level, set.leaf, extra_bit_of(e)) ||
            (nx_is_reserved && (e & entry_nx) != 0)) {
            return fault(error_p | error_rsvd, 0);
        }
        used |= accessed(level);
        rights.write = rights.write && (e & entry_rw) != 0;
        rights.user = rights.user && (e & entry_us) != 0;
        rights.execute = rights.execute && (e & entry_nx) == 0;
    }
    const bool by_rights = allowed(rights, control, access);
    const bool by_key = !forbidden_by_key(rights, set.entry[set.leaf], control, access);
    if (by_rights && by_key) {
        const bool was_dirty = m.has_cet && (set.entry[set.leaf] & entry_rw) == 0;
        return {static_cast<u16>(used | (is_write(access) && !was_dirty ? result_dirty : 0)),
                static_cast<u16>(result_fault | result_strange | all_accessed | result_dirty)};
    }
    // The APM does not say what PK is where another right is missing too.
    const u16 open = m.amd && !by_rights && !by_key ? error_pk : 0;
    return fault(static_cast<u16>(error_p | (by_key ? 0 : error_pk)), open);
}

} // namespace refhv::front
