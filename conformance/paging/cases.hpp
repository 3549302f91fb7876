// SPDX-License-Identifier: MIT
// The combinations of the exhaustive paging table, in batches by subject.
#pragma once

#include "conformance/paging/case.hpp"

namespace refhv::front {

using PagingBatches = std::vector<PagingBatch>;

// P, R/W, U/S and XD of the entry that maps a page of `leaf`, all sixteen; with every upper entry allowing
// everything, and with one of them taking each combination of rights away or not present. Under every WP,
// NXE, SMEP and SMAP, the last with and without RFLAGS.AC, as far as the machine has them. XD under NXE = 0
// is not among them:
[[nodiscard]] PagingBatches rights_batches(const PagingMachine& machine, unsigned leaf);
// The rest of that product, where XD is a reserved bit.
[[nodiscard]] PagingBatches xd_without_nxe_batches(const PagingMachine& machine, unsigned leaf);

// Bits that every CPU reserves, one at a time, at every level of a walk to a page of every size, under rights
// that would allow and that would not.
[[nodiscard]] PagingBatches reserved_bits_batches(const PagingMachine& machine);

// Bits that a CPU ignores, at every level: 9 to 11, 52 to 58, the key without CR4.PKE, PAT and G where a page
// is mapped.
[[nodiscard]] PagingBatches ignored_bits_batches(const PagingMachine& machine);

// Bit 8 of entries that point to tables: ignored, or reserved above the page directory (PagingMachine::amd).
[[nodiscard]] PagingBatches global_above_leaf_batches(const PagingMachine& machine);

// Keys and PKRU for user and supervisor pages, writable and not, with CR4.PKE on and off. The probe is a part
// of it that binds nothing but key 1, which no page of the engine's own has.
[[nodiscard]] PagingBatches protection_keys_probe(const PagingMachine& machine);
[[nodiscard]] PagingBatches protection_keys_batches(const PagingMachine& machine);

} // namespace refhv::front
