// SPDX-License-Identifier: MIT
// What a manual says of the end of a probe, and how that is held against what came.
#pragma once

#include "conformance/probe/prober.hpp"
#include "refhv/front/differences.hpp"

#include <optional>
#include <sstream>

namespace refhv::front {

// Bits of a field that an exit defines.
struct Bits {
    u64 value;
    u64 mask = ~u64{0};
};

// What a part of guest memory holds behind the run: little-endian, up to 8 bytes.
struct Slot {
    const char* name;
    u64 gpa;
    u32 width;
    u64 value;
    u64 mask = ~u64{0};
};

struct Due {
    u64 raw = 0;                             // VMX: basic exit reason. SVM: EXITCODE
    std::optional<Bits> qualification{};     // VMX: exit qualification. SVM: EXITINFO1
    std::optional<Bits> info{};              // VMX: VM-exit instruction information. SVM: EXITINFO2
    std::optional<u64> length{};             // VMX, and SVM where it saves the next RIP
    std::optional<Bits> interruption{};      // VMX: VM-exit interruption information
    std::optional<u64> error{};              // VMX: VM-exit interruption error code
    std::optional<u64> linear{}, physical{}; // VMX: guest-linear address; guest-physical address
    std::optional<Bits> vectoring{};         // VMX: IDT-vectoring information. SVM: EXITINTINFO
    abi::GuestState state{};                 // as it is left
    std::vector<Slot> slots{};
    std::vector<u64> fields{};                              // of Probe::read_fields, each in its place
    u64 rflags_mask = ~u64{1u << 16};                       // RF has claims of its own
    bool registers = true, segments = true, control = true; // what of the state is compared
    bool rights = true;                                     // access rights among the segments
};

// The exit that ended the probe.
void hold(Differences& differences, const std::string& name, const ProbeResult& r, const Due& due,
          bool on_vmx, bool has_next_rip);
// From the first of these bytes of guest memory to behind the last.
[[nodiscard]] std::pair<u64, u64> extent_of(const std::vector<Slot>& slots);
// Guest memory, which was read as one piece behind what the probe itself reads back, and fields.
void hold_slots(Differences& differences, const Probe& probe, const ProbeResult& r, const Due& due);
void hold_fields(Differences& differences, const Probe& probe, const ProbeResult& r, const Due& due);
void hold_state(Differences& differences, const std::string& name, const abi::GuestState& got,
                const Due& due);

// The exits that the probes themselves need.
[[nodiscard]] constexpr u64 hlt_exit(bool on_vmx) {
    return on_vmx ? 12 : 0x78;
}
// The exception of this vector, intercepted.
[[nodiscard]] constexpr u64 exception_exit(bool on_vmx, u8 vector) {
    return on_vmx ? 0 : 0x40 + vector;
}

// Goes on to the HLT behind it.
[[nodiscard]] Due runs(const Probe& probe, bool on_vmx);
// Exits at the instruction; all of it as it was.
[[nodiscard]] Due exits(const Probe& probe, u64 raw, std::optional<Bits> qualification = {});
// The hardware exception comes before anything else. Its error code, if it has one, is delivered in every
// mode but real mode.
[[nodiscard]] Due faults(const Probe& probe, bool on_vmx, u8 vector, u32 error = 0);

} // namespace refhv::front
