// SPDX-License-Identifier: MIT
// What every device of the machine monitor is put through: accesses at random, and a snapshot that goes on in
// another.
#pragma once

#include "refhv/monitor/device/device.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

namespace refhv::monitor::test {

using Random = std::mt19937_64;
using Log = std::vector<u64>;

struct Subject {
    // A new device that writes down in the log whatever it says to the outside.
    std::function<std::unique_ptr<Device>(Log&)> make;
    u64 extent = 8; // bytes of registers; accesses go a little beyond
    // What the outside does to it at times.
    std::function<void(Device&, u64 random)> act = {};
    // Addresses worth more than others.
    std::vector<u64> favourites = {};
};

// One of a sequence of random steps; the same random numbers make the same step on an equal device.
inline u64 step(Subject& subject, Device& device, Random& random, Time& now) {
    const u64 dice = random(), where = random(), what = random();
    if (dice % 16 == 0) {
        const auto due = device.due();
        now = dice & 64 && due ? std::max(now, *due) : now + (what >> (20 + where % 44));
        now = std::min<Time>(now, Time{1} << 62);
        device.pass(now);
        EXPECT_TRUE(!device.due() || *device.due() > now) << "due at " << *device.due() << ", now " << now;
        return now;
    }
    if (dice % 16 == 1 && subject.act) {
        subject.act(device, what);
        return 0;
    }
    const unsigned size = dice & 128 ? 1 : 1U << (where >> 60 & 3);
    u64 offset = where % (subject.extent + 4);
    if (!subject.favourites.empty() && (dice & 256) != 0) {
        offset = subject.favourites[where % subject.favourites.size()];
    }
    const u64 value = dice & 512 ? what & 0xff : what;
    if ((dice & 1024) != 0) {
        return device.read(offset, size);
    }
    device.write(offset, size, value);
    return 0;
}

// REFHV_DEVICE_STEPS makes it longer.
inline u64 steps() {
    const char* asked = std::getenv("REFHV_DEVICE_STEPS");
    return asked != nullptr ? std::strtoull(asked, nullptr, 0) : 1'000'000;
}

inline void survives_random_accesses(Subject subject) {
    Log log;
    const u64 count = steps();
    Random random(count);
    const auto device = subject.make(log);
    Time now = 0;
    for (u64 i = 0; i < count && !::testing::Test::HasFailure(); i++) {
        static_cast<void>(step(subject, *device, random, now));
        if (log.size() > 100'000) {
            log.clear();
        }
    }
}

// A state that no device of this kind had: nothing promises that it behaves, only that it survives.
inline void survives_random_states(Subject subject) {
    Random random(3);
    for (int round = 0; round < 500; round++) {
        Log log;
        const auto device = subject.make(log);
        for (std::byte& byte : device->state()) {
            const u64 one = random();
            byte = one & 256 ? static_cast<std::byte>(one) : byte;
        }
        device->restored();
        Time now = 0;
        for (int i = 0; i < 200; i++) {
            static_cast<void>(step(subject, *device, random, now));
            log.clear();
        }
    }
}

inline void goes_on_from_a_snapshot(Subject subject) {
    for (u64 seed = 1; seed <= 100 && !::testing::Test::HasFailure(); seed++) {
        Log first_log, second_log;
        const auto first = subject.make(first_log), second = subject.make(second_log);
        Random random(seed), other(seed + 1000);
        Time now = 0, ignored = 0;
        for (int i = 0; i < 500; i++) {
            static_cast<void>(step(subject, *first, random, now));
            static_cast<void>(step(subject, *second, other, ignored));
        }
        ASSERT_EQ(first->state().size(), second->state().size());
        std::ranges::copy(first->state(), second->state().begin());
        second->restored();
        first_log.clear();
        second_log.clear();
        Random again = random;
        Time later = now;
        for (int i = 0; i < 500; i++) {
            ASSERT_EQ(step(subject, *first, random, now), step(subject, *second, again, later))
                << "seed " << seed << ", step " << i;
            ASSERT_EQ(first->due(), second->due());
        }
        EXPECT_EQ(first_log, second_log);
        EXPECT_TRUE(std::ranges::equal(first->state(), second->state())) << "seed " << seed;
    }
}

} // namespace refhv::monitor::test
