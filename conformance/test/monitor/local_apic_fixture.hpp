// SPDX-License-Identifier: MIT
// An enabled local APIC with everything that it says to the outside written down.
#pragma once

#include "refhv/monitor/device/local_apic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace refhv::monitor::test {

class LocalApicFixture : public ::testing::Test {
  protected:
    LocalApicFixture() { out(0xf0, 0x1ff); }

    u32 in(u64 at) { return static_cast<u32>(apic.read(at, 4)); }
    void out(u64 at, u32 value) { apic.write(at, 4, value); }
    u32 errors() {
        out(0x280, 0);
        return in(0x280);
    }
    void command(u64 value) {
        out(0x310, static_cast<u32>(value >> 32));
        out(0x300, static_cast<u32>(value));
    }
    void to_x2apic() { EXPECT_TRUE(apic.write_msr(0x1b, 0xfee0'0d00)); }
    // Vectors in the order in which the CPU takes them, each with its EOI.
    std::vector<unsigned> taken() {
        std::vector<unsigned> vectors;
        while (apic.pending() && vectors.size() < 300) {
            vectors.push_back(apic.acknowledge());
            out(0xb0, 0);
        }
        return vectors;
    }

    std::vector<unsigned> ended;
    std::vector<std::pair<Delivery, unsigned>> signals;
    LocalApic apic{{.signal = [this](Delivery d, u8 vector) { signals.emplace_back(d, vector); },
                    .end_of_interrupt = [this](u8 vector) { ended.push_back(vector); },
                    .time_of_tsc = [](u64 tsc) { return tsc / 2; },
                    .address_bits = 40,
                    .id = 3}};
};

using Vectors = std::vector<unsigned>;

} // namespace refhv::monitor::test
