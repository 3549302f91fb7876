// SPDX-License-Identifier: MIT
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/rtc.hpp"

namespace refhv::monitor {
namespace {

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<Rtc>(951'782'399,
                                                 [&](bool level) { log.push_back(level ? 1 : 0); });
                },
            .extent = 2,
            .act = [](Device& d, u64 random) { // one of the first sixteen, nearly all of whose bits count
                d.write(0, 1, random & 0xf);
                d.write(1, 1, random >> 4);
            }};
}

TEST(RtcRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(RtcRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(RtcRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
