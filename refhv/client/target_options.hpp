// SPDX-License-Identifier: MIT
// The part of a target's name behind its form: KEY=VALUE, with commas between them.
#pragma once

#include <chrono>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace refhv::client {

class TargetOptions {
  public:
    struct Key {
        std::string_view name;
        // What is no key may follow the value, as in cpu=max,-x2apic,accel=tcg: values of QEMU have commas.
        bool takes_more = false;
    };

    // Throws BadTargetName: a key that is not in `keys`, one twice, one without a value.
    TargetOptions(std::string_view text, std::initializer_list<Key> keys);

    [[nodiscard]] bool has(std::string_view key) const { return values_.contains(std::string(key)); }
    [[nodiscard]] std::string get(std::string_view key, std::string_view otherwise = {}) const;
    // Throws BadTargetName unless the value is a whole number within these bounds.
    [[nodiscard]] unsigned number(std::string_view key, unsigned otherwise, unsigned least,
                                  unsigned most) const;

  private:
    std::map<std::string, std::string> values_;
};

// The pieces between the separators; empty ones too.
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);

// A whole number within these bounds. Throws BadTargetName, naming `what`.
[[nodiscard]] unsigned number_in(std::string_view text, std::string_view what, unsigned least, unsigned most);

} // namespace refhv::client
