// SPDX-License-Identifier: MIT
// How an operation ended.
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv {

// A step that failed, with a reason for the client.
struct Status {
    abi::Outcome outcome = abi::Outcome::ok;
    const char* text = nullptr;
    [[nodiscard]] bool ok() const { return outcome == abi::Outcome::ok; }
};

[[nodiscard]] inline Status refuse(abi::Outcome outcome, const char* text) {
    return {outcome, text};
}

} // namespace refhv
