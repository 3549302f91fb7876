// SPDX-License-Identifier: MIT
#include "refhv/front/differences.hpp"

namespace refhv::front {

namespace {
constexpr unsigned most_printed = 10;
}

Differences::~Differences() {
    if (count_ > most_printed) {
        ADD_FAILURE() << (section_.empty() ? "" : section_ + ": ") << "and " << count_ - most_printed
                      << " more";
    }
}

void Differences::expect(const std::string& row, const char* field, u64 got, u64 due) {
    if (got != due) {
        add(row, ": ", field, " is ", std::hex, got, "H, due is ", due, "H");
    }
}

void Differences::add_text(const std::string& text) {
    if (++count_ <= most_printed) {
        ADD_FAILURE() << (section_.empty() ? "" : section_ + ": ") << text;
    }
}

} // namespace refhv::front
