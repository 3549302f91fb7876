// SPDX-License-Identifier: MIT
// What a claim that tries a table found wrong: a failure for each of the first ten, and how many more there
// are.
#pragma once

#include "refhv/contract/types.hpp"

#include <gtest/gtest.h>
#include <sstream>
#include <string>

namespace refhv::front {

class Differences {
  public:
    // `section` stands before every line; empty: none.
    explicit Differences(std::string section = "") : section_(std::move(section)) {}
    Differences(const Differences&) = delete;
    Differences& operator=(const Differences&) = delete;
    ~Differences();

    template <class... Parts>
    void add(const Parts&... parts) {
        std::ostringstream text;
        (text << ... << parts);
        add_text(text.str());
    }
    // One, if they differ. `row` is what the table calls its row, `field` what of it.
    void expect(const std::string& row, const char* field, u64 got, u64 due);

  private:
    void add_text(const std::string& text);

    std::string section_;
    unsigned count_ = 0;
};

} // namespace refhv::front
