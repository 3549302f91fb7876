// SPDX-License-Identifier: MIT
// The contract: what a client may ask of the core and what the core answers.
//
// A payload (see frame.hpp) is a sequence of operations. Each is an OpHeader, a fixed body and, for some,
// data after the body; `size` counts body and data, and the next header starts at the next multiple of 8. The
// core answers every operation, in order, with a ReplyHeader and a body of its own. After the first operation
// that is not `ok` the rest of the batch is answered `skipped`, except that a run which ended (exited,
// repeats_done, deadline, entry_refused) is no error and the batch goes on. What a client's wish has
// `stopped` ends its batch.
//
// Everything is little-endian, naturally aligned, without implicit padding; both sides compile this header
// and the assertions in it. A change of layout or meaning raises `version`.
#pragma once

#include "refhv/contract/extras.hpp"
#include "refhv/contract/operations.hpp"
#include "refhv/contract/ops.hpp"
#include "refhv/contract/run.hpp"
#include "refhv/contract/vocabulary.hpp"

namespace refhv::abi {

inline constexpr u16 version = 7;

inline constexpr u32 max_vms = 4;                  // VM slots, numbered by the client
inline constexpr u32 max_frame_payload = 1u << 20; // bytes, either direction
inline constexpr u32 max_again = 1024;             // bytes of an operation that can be had again
inline constexpr u64 max_fill_count = 1u << 24;    // entries in one fill64
inline constexpr u64 max_entry_count = 1u << 16;   // entries in one nested_entry
inline constexpr u32 max_invalidations =
    1u << 12; // instructions in one invalidate, which runs with interrupts off

inline constexpr u32 max_probe_fields = 64; // of one entry probe

inline constexpr u64 max_peer_nmis = 1u << 20; // of one run

[[nodiscard]] constexpr u64 align8(u64 n) {
    return (n + 7) & ~u64{7};
}

} // namespace refhv::abi
