// SPDX-License-Identifier: MIT
#include "refhv/client/patience.hpp"

#include "refhv/client/target.hpp"

#include <cstdlib>

namespace refhv::client {

std::chrono::milliseconds patience(std::chrono::milliseconds standard) {
    constexpr double longest = 1e6;
    const char* text = std::getenv("REFHV_PATIENCE");
    if (text == nullptr || *text == '\0') {
        return standard;
    }
    char* end = nullptr;
    const double factor = std::strtod(text, &end);
    if (*end != '\0' || !(factor > 0 && factor <= longest)) {
        throw TargetUnusable("REFHV_PATIENCE is '" + std::string(text) +
                             "': set it to a number above 0 by which to multiply all waits, or unset it");
    }
    return std::chrono::ceil<std::chrono::milliseconds>(factor * standard);
}

} // namespace refhv::client
