// SPDX-License-Identifier: MIT
// Tries a whole batch of the paging table inside one guest run: the guest edits its own paging-structure
// entries, sets CR0, CR4, EFER, PKRU and RFLAGS.AC, makes the access in ring 0 or ring 3, and writes down
// what came of it.
#pragma once

#include "conformance/paging/case.hpp"
#include "refhv/client/guest/vm.hpp"

namespace refhv::front {

// A run that did not come to its end: a broken engine or a core that lost its guest. No finding about paging.
struct EngineStopped : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Results in the order controls, sets, tries (the last fastest). Throws EngineStopped, client::Refused,
// client::TargetMiss; std::length_error if the batch does not fit the guest's memory.
[[nodiscard]] std::vector<u16> try_all(client::GuestHost& host, abi::Mode mode, const PagingMachine& machine,
                                       const PagingBatch& batch);

} // namespace refhv::front
