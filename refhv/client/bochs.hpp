// SPDX-License-Identifier: MIT
// Launches the bootable image in Bochs, which has VMX or SVM by the CPU model that it is given.
//
// Bochs's only display without a screen (rfb) listens on every interface, port 5900 and up, with no password.
// So it runs in an empty network namespace or not at all, and its serial line is a pseudo-terminal.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/client/target.hpp"

#include <string>

namespace refhv::client::bochs {

// From launch to hello; measured: 0.9 s.
inline constexpr std::chrono::milliseconds hello_patience{20'000};

// With more than one CPU, Bochs' debugger loop lets each run five instructions in turn, then moves the time.
[[nodiscard]] constexpr TickRules tick_rules(unsigned cpus) {
    return {.step = cpus == 1 ? 1u : 5u};
}

struct Setup {
    std::string model = "corei7_skylake_x"; // of `bochs-bin --help cpu`
    unsigned cpus = 1;
    std::string binary;                                      // empty: REFHV_BOCHS, else bochs-bin in PATH
    std::string bios = "/usr/share/bochs/BIOS-bochs-latest"; // its package: bochsbios
    std::string vga_bios = "/usr/share/vgabios/vgabios.bin"; // vgabios
};

// The installed one. Throws TargetUnusable if the program is not there.
[[nodiscard]] Emulator identify(const Setup& setup = {});

// Throws TargetUnusable if the program, its ROMs, the image or the namespace cannot be had, or if the program
// has no such CPU model.
void check(const Setup& setup);

// Starts the image; a TSC tick is an instruction. Throws as check() does, and SpawnFailed.
[[nodiscard]] Machine launch(const Setup& setup);

} // namespace refhv::client::bochs
