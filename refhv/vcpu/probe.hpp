// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv {

// Whether a vendor's virtualization can be used on this machine.
struct Probe {
    abi::BackendStatus status;
    const char* note; // in words, for a person
};

} // namespace refhv
