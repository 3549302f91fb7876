// SPDX-License-Identifier: MIT
// Launches the bootable image in QEMU: its software emulation, which has SVM and no VMX, or with the
// accelerator that a user names.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/client/target.hpp"

namespace refhv::client::qemu {

// From launch to hello; measured: 0.1 s.
inline constexpr std::chrono::milliseconds hello_patience{10'000};

// CPUID leaf 4000_0000H of its software emulation.
inline constexpr std::string_view tcg_signature = "TCGTCGTCGTCG";

// An instruction that exits is given back its tick: it has not been executed. REP looks at the count once
// more.
inline constexpr TickRules tick_rules{.step = 1, .exiting_counts = false, .string_end_counts = true};

struct Setup {
    std::string binary;              // a path, or a name in PATH; empty: REFHV_QEMU, else qemu-system-x86_64
    std::string accelerator = "tcg"; // with its properties, as -accel takes it
    std::string cpu;                 // as -cpu takes it; empty: max under TCG, host elsewhere
    std::string machine;             // as -machine takes it; empty: QEMU's default
    std::string cpus = "1";          // as -smp takes it
    std::string memory = "3072";     // as -m takes it
    bool counts = false;             // a TSC tick is an instruction (-icount); TCG only

    [[nodiscard]] bool emulates() const { return accelerator.starts_with("tcg"); }
};

// The installed one. Throws TargetUnusable if the program is not there.
[[nodiscard]] Emulator identify(const Setup& setup = {});

// Throws TargetUnusable if the program or the image is not there.
void check(const Setup& setup = {});

[[nodiscard]] Machine launch(const Setup& setup);

// Starts the image; a TSC tick is an instruction. Throws as check() does, and SpawnFailed.
[[nodiscard]] Machine launch();
[[nodiscard]] Machine launch_with_three_cpus();
// The same machine whose TSC follows the host's: time is the emulator's own, walks of page tables included.
[[nodiscard]] Machine launch_by_the_clock();

} // namespace refhv::client::qemu
