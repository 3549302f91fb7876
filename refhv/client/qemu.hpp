// SPDX-License-Identifier: MIT
// Launches the bootable image in QEMU's software emulation, which has SVM and no VMX.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/client/target.hpp"

namespace refhv::client::qemu {

// From launch to hello; measured: 0.1 s.
inline constexpr std::chrono::milliseconds hello_patience{10'000};

// An instruction that exits is given back its tick: it has not been executed. REP looks at the count once
// more.
inline constexpr TickRules tick_rules{.step = 1, .exiting_counts = false, .string_end_counts = true};

// The installed one. Throws TargetUnusable if the program (REFHV_QEMU, else qemu-system-x86_64 in PATH) is
// not there.
[[nodiscard]] Emulator identify();

// Throws TargetUnusable if the program or the image is not there.
void check();

// Starts the image; a TSC tick is an instruction. Throws as check() does, and SpawnFailed.
[[nodiscard]] Machine launch();
[[nodiscard]] Machine launch_with_three_cpus();
// The same machine whose TSC follows the host's: time is the emulator's own, walks of page tables included.
[[nodiscard]] Machine launch_by_the_clock();

} // namespace refhv::client::qemu
