// SPDX-License-Identifier: MIT
// Seeded faults of behaviour: each makes the subject look as if it did one thing wrong, by a change of what
// is asked of it (a control that it then does not know of, an event that it loses) or of what it answers (a
// qualification, a register, a field). Claims must see it.
#pragma once

#include "refhv/contract/abi.hpp"

#include <span>
#include <vector>

namespace refhv::front {

// Of which CPUs.
enum class Maker : u8 {
    both,
    vmx,
    svm,
};

// What is changed, where it changes anything; the rest is null.
struct FaultChange {
    u64 (*write)(u32 field, u64 value) = nullptr; // fields as they are written, those of entry probes too
    u64 (*read)(u32 field, u64 value) = nullptr;  // fields as they are read
    void (*intercept)(abi::InterceptSet&) = nullptr;
    void (*invalidate)(abi::Invalidate&) = nullptr;
    void (*run)(abi::Run&) = nullptr;
    void (*end)(abi::RunReply&) = nullptr; // of a run that exited, or was ended between exits
    void (*exit)(abi::Exit&) = nullptr;    // that one's, and each one that was logged
    void (*probe)(abi::ProbeResult&) = nullptr;
    void (*nested)(abi::NestedEntryReply&) = nullptr;
    void (*memory)(u64 gpa, u64& word) = nullptr; // guest memory as it is read, whole words of 8 bytes
};

struct Fault {
    const char* name;   // the field's or the event's, and what is wrong with it
    const char* claims; // that should see it: GoogleTest's patterns
    FaultChange change;
};

struct FaultTable {
    Maker maker;
    std::span<const Fault> rows;
};
[[nodiscard]] const std::vector<FaultTable>& seeded_faults();

} // namespace refhv::front
