// SPDX-License-Identifier: MIT
// What local APICs are sent: by an I/O APIC, and by each other (SDM 3A 11.6.1, 11.11).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::monitor {

enum class Delivery : u8 {
    fixed = 0,
    lowest_priority = 1,
    smi = 2,
    nmi = 4,
    init = 5,
    startup = 6,
    external = 7
};

struct ApicMessage {
    u32 destination = 0; // 8 bits in xAPIC mode
    bool logical = false;
    Delivery delivery = Delivery::fixed;
    u8 vector = 0;
    bool level = false; // level-triggered: its end is told to the I/O APIC
};

} // namespace refhv::monitor
