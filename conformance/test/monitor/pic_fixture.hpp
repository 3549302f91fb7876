// SPDX-License-Identifier: MIT
// A pair of 8259A, initialized as a PC does it: vectors 30H and 38H.
#pragma once

#include "refhv/monitor/device/pic_pair.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace refhv::monitor::test {

class PicFixture : public ::testing::Test {
  protected:
    PicFixture() { initialize(1); }

    void initialize(u8 icw4) {
        for (const u64 at : {0, 2}) {
            pics.write(at, 1, 0x11);
            pics.write(at + 1, 1, at == 0 ? 0x30 : 0x38);
            pics.write(at + 1, 1, at == 0 ? 4 : 2);
            pics.write(at + 1, 1, icw4);
        }
    }
    u8 irr(unsigned chip = 0) { return status(chip, 0xa); }
    u8 isr(unsigned chip = 0) { return status(chip, 0xb); }
    u8 status(unsigned chip, u8 ocw3) {
        command(ocw3, chip);
        return static_cast<u8>(pics.read(2 * chip, 1));
    }
    void command(u8 value, unsigned chip = 0) { pics.write(2 * chip, 1, value); }
    void mask(u8 value, unsigned chip = 0) { pics.write(2 * chip + 1, 1, value); }
    void pulse(unsigned irq) {
        pics.set(irq, false);
        pics.set(irq, true);
    }
    // Vectors that the CPU takes until INTR falls, each with the EOI of its ISR.
    std::vector<unsigned> taken(u8 eoi = 0x20) {
        std::vector<unsigned> vectors;
        while (pics.pending() && vectors.size() < 20) {
            vectors.push_back(pics.acknowledge());
            if (vectors.back() >= 0x38) {
                command(eoi, 1);
            }
            command(eoi);
        }
        return vectors;
    }

    PicPair pics;
};

using Vectors = std::vector<unsigned>;

} // namespace refhv::monitor::test
