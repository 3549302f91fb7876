// SPDX-License-Identifier: MIT
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv::client {

// "vmx", "svm" or "none", as records and TargetInfo::backend have it.
[[nodiscard]] inline const char* name_of(abi::Vendor vendor) {
    switch (vendor) {
    case abi::Vendor::vmx:
        return "vmx";
    case abi::Vendor::svm:
        return "svm";
    case abi::Vendor::none:
        break;
    }
    return "none";
}

} // namespace refhv::client
