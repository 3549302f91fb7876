// SPDX-License-Identifier: MIT
// Which emulator is installed, as its own program tells. Versions of one emulator are subjects of their own:
// what one gets wrong another may have mended.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace refhv::client {

struct Emulator {
    std::string name;    // "bochs", "qemu"; empty: the target runs on no emulator
    std::string version; // "2.7", "10.0.13": numbers and points only; empty: the program did not tell
    std::string banner;  // the whole line in which it tells
};

// "qemu 10.0.13", "qemu of a version that it does not tell".
[[nodiscard]] std::string describe(const Emulator& emulator);

// What a program prints, on standard output and error together, when it is called like this (argv[0] is its
// path): the first 64 KiB that come within 10 s (before REFHV_PATIENCE), empty if it cannot be started. A
// process asks the same question once.
[[nodiscard]] std::string answer_of(const std::vector<std::string>& argv);

// From such an answer: the version is what follows `prefix` in the first line that has it.
[[nodiscard]] Emulator emulator_in(std::string_view answer, std::string name, std::string_view prefix);

// Does the answer hold this word, with blanks or an end of the text on both sides?
[[nodiscard]] bool has_word(std::string_view answer, std::string_view word);

} // namespace refhv::client
