// SPDX-License-Identifier: MIT
// An IN or OUT that exited, in the words of both vendors (SDM 3C table 28-5; APM 2 15.10.2).
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv::monitor {

struct PortAccess {
    u16 port;
    unsigned size;
    bool in, string, repeated;

    [[nodiscard]] static constexpr PortAccess of(const abi::Exit& exit, abi::Vendor vendor) {
        const u64 q = exit.qualification;
        const auto bit = [q](unsigned n) { return (q >> n & 1) != 0; };
        const u16 port = static_cast<u16>(q >> 16);
        if (vendor == abi::Vendor::vmx) {
            return {port, static_cast<unsigned>(q & 7) + 1, bit(3), bit(4), bit(5)};
        }
        return {port, static_cast<unsigned>(q >> 4 & 7), bit(0), bit(2), bit(3)};
    }
};

} // namespace refhv::monitor
