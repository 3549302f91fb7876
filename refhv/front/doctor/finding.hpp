// SPDX-License-Identifier: MIT
// One condition for trustworthy numbers, and how this machine stands.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace refhv::front::doctor {

enum class State {
    ok,
    warn,    // numbers can be had, and suffer from it or do not tell what is wanted
    blocked, // something that refhv does on other machines cannot be done
};

struct Finding {
    std::string name; // of the condition: "governor"
    State state;
    std::string text; // what was found, one line
    std::string mend; // what mends it: a command, or what to do where no command does; empty if OK
};

using Findings = std::vector<Finding>;

[[nodiscard]] std::string join(std::initializer_list<std::string_view> parts);

[[nodiscard]] constexpr const char* name_of(State state) {
    return state == State::ok ? "OK" : state == State::warn ? "WARN" : "BLOCKED";
}

} // namespace refhv::front::doctor
