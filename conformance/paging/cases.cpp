// SPDX-License-Identifier: MIT
#include "conformance/paging/cases.hpp"

#include <algorithm>

namespace refhv::front {

namespace {

constexpr EntryCode everything = entry_p | entry_rw | entry_us;
constexpr unsigned page_sizes = 3; // as levels 1 to 3

[[nodiscard]] EntrySet open_set(const PagingMachine& m, unsigned leaf, EntryCode leaf_entry = everything) {
    EntrySet set{.entry = {}, .leaf = static_cast<u16>(leaf), .zero = 0};
    for (unsigned level = leaf; level <= m.levels; ++level) {
        set.entry[level] = level == leaf ? leaf_entry : everything;
    }
    return set;
}

// Every combination of the control bits that the machine has and that are asked for. AC counts only beside
// SMAP.
[[nodiscard]] std::vector<u64> controls(const PagingMachine& m, u64 wanted) {
    u64 has = control_wp | control_nxe | control_ac;
    has |= (m.has_smep ? control_smep : 0) | (m.has_smap ? control_smap : 0);
    std::vector<u64> out;
    for (u64 bits = 0; bits < control_pke; ++bits) {
        const bool idle_ac = (bits & control_ac) != 0 && (bits & control_smap) == 0;
        if ((bits & ~(wanted & has)) == 0 && !idle_ac) {
            out.push_back(bits);
        }
    }
    return out;
}
constexpr u64 all_controls = control_wp | control_nxe | control_smep | control_smap | control_ac;

[[nodiscard]] std::vector<unsigned> sizes(const PagingMachine& m) {
    return m.has_1g_pages ? std::vector{1u, 2u, 3u} : std::vector{1u, 2u};
}

// A set for every size of page, every level of its walk, every bit that `bits` names there, and leaf rights
// that allow everything, nothing to the user, no write, no fetch, nothing at all.
template <class Bits>
[[nodiscard]] std::vector<EntrySet> sets_with_bits(const PagingMachine& m, Bits bits) {
    std::vector<EntrySet> out;
    for (const unsigned leaf : sizes(m)) {
        for (unsigned level = leaf; level <= m.levels; ++level) {
            for (const unsigned bit : bits(level, leaf)) {
                for (const EntryCode rights :
                     {EntryCode{everything}, EntryCode{entry_p | entry_rw}, EntryCode{entry_p | entry_us},
                      EntryCode{everything | entry_nx}, EntryCode{entry_rw | entry_us}}) {
                    EntrySet set = open_set(m, leaf, rights);
                    set.entry[level] = with_bit(set.entry[level], bit);
                    out.push_back(set);
                }
            }
        }
    }
    return out;
}

[[nodiscard]] bool has_xd(const EntrySet& set) {
    return std::any_of(set.entry.begin(), set.entry.end(), [](EntryCode e) { return (e & entry_nx) != 0; });
}

// XD under NXE = 0 is a reserved bit and has claims of its own.
[[nodiscard]] PagingBatches without_reserved_xd(const PagingBatch& all) {
    PagingBatch with_nxe{all.sets, {}}, without{all.sets, {}};
    std::erase_if(without.sets, has_xd);
    for (const u64 c : all.controls) {
        ((c & control_nxe) != 0 ? with_nxe : without).controls.push_back(c);
    }
    return {with_nxe, without};
}

[[nodiscard]] std::vector<EntrySet> rights_sets(const PagingMachine& m, unsigned leaf) {
    std::vector<EntrySet> sets;
    for (EntryCode rights = 0; rights < 16; ++rights) {
        const EntrySet open = open_set(m, leaf, rights);
        sets.push_back(open);
        for (unsigned level = leaf + 1; level <= m.levels; ++level) {
            for (EntryCode taken = 0; taken < 8;
                 ++taken) { // bit 0: no writing, 1: no user, 2: no execution; 0: absent
                EntrySet set = open;
                const EntryCode data = static_cast<EntryCode>(everything ^ ((taken & 3) << 1));
                set.entry[level] = taken == 0         ? EntryCode{entry_rw | entry_us}
                                   : (taken & 4) != 0 ? static_cast<EntryCode>(data | entry_nx)
                                                      : data;
                sets.push_back(set);
            }
        }
    }
    return sets;
}

[[nodiscard]] constexpr u64 pkru(unsigned key, u64 bits) {
    return bits << (2 * key) << 32;
}

[[nodiscard]] std::vector<EntrySet> keyed_sets(const PagingMachine& m, unsigned leaf,
                                               std::initializer_list<unsigned> keys) {
    std::vector<EntrySet> sets;
    for (const unsigned key : keys) {
        for (EntryCode rights = 0; rights < 16; ++rights) {
            EntrySet set = open_set(m, leaf, with_key(rights, key));
            sets.push_back(set);
            // A supervisor address by an upper entry.
            set.entry[m.levels] = static_cast<EntryCode>(set.entry[m.levels] & ~entry_us);
            sets.push_back(set);
        }
    }
    return sets;
}

} // namespace

PagingBatches rights_batches(const PagingMachine& m, unsigned leaf) {
    return without_reserved_xd({rights_sets(m, leaf), controls(m, all_controls)});
}

PagingBatches xd_without_nxe_batches(const PagingMachine& m, unsigned leaf) {
    PagingBatch batch{rights_sets(m, leaf), controls(m, all_controls & ~control_nxe)};
    std::erase_if(batch.sets, [](const EntrySet& set) { return !has_xd(set); });
    return {batch};
}

PagingBatches reserved_bits_batches(const PagingMachine& m) {
    const auto bits = [&](unsigned level, unsigned leaf) {
        std::vector<unsigned> out;
        for (unsigned bit = m.physical_bits; bit <= 51; ++bit) {
            out.push_back(bit);
        }
        for (unsigned bit = 13; level == leaf && level > 1 && bit < 12 + 9 * (level - 1); ++bit) {
            out.push_back(bit);
        }
        if (level >= 4) {
            out.push_back(7);
        }
        return out;
    };
    PagingBatch batch{sets_with_bits(m, bits), controls(m, control_wp | control_nxe)};
    for (EntryCode rights = 0; !m.has_1g_pages && rights < 16; ++rights) {
        batch.sets.push_back(open_set(m, page_sizes, rights));
    }
    return {batch};
}

PagingBatches ignored_bits_batches(const PagingMachine& m) {
    const auto bits = [](unsigned level, unsigned leaf) {
        std::vector<unsigned> out{9, 10, 11, 52, 53, 54, 55, 56, 57, 58, 59, 62};
        if (level == leaf) {
            out.push_back(8);
            out.push_back(level == 1 ? 7 : 12); // PAT
        } else {
            out.push_back(6); // the dirty flag has no meaning there
        }
        return out;
    };
    return without_reserved_xd({sets_with_bits(m, bits), controls(m, control_wp | control_nxe)});
}

PagingBatches global_above_leaf_batches(const PagingMachine& m) {
    const auto bits = [](unsigned level, unsigned leaf) {
        return level == leaf ? std::vector<unsigned>{} : std::vector<unsigned>{8};
    };
    return without_reserved_xd({sets_with_bits(m, bits), controls(m, control_wp | control_nxe)});
}

PagingBatches protection_keys_probe(const PagingMachine& m) {
    PagingBatch batch{keyed_sets(m, 1, {1}), {}};
    for (const u64 c : {control_nxe, control_nxe | control_wp}) {
        for (const u64 bits : {u64{1}, u64{2}}) {
            batch.controls.push_back(c | control_pke | pkru(1, bits));
        }
    }
    return {batch};
}

PagingBatches protection_keys_batches(const PagingMachine& m) {
    std::vector<u64> wanted;
    for (const u64 c : controls(m, control_wp | control_nxe | control_smap | control_ac)) {
        for (const u64 bits : {u64{0}, u64{1}, u64{2}, u64{3}}) { // AD, WD
            wanted.push_back(c | control_pke | pkru(1, bits) | pkru(15, bits ^ 3) | pkru(0, bits & 2));
        }
        wanted.push_back(c | pkru(1, 3)); // without CR4.PKE the register means nothing
    }
    PagingBatches all;
    for (const unsigned leaf : sizes(m)) {
        const auto some = without_reserved_xd({keyed_sets(m, leaf, {0, 1, 8, 15}), wanted});
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

} // namespace refhv::front
