// SPDX-License-Identifier: MIT
// Interrupts at a local APIC by SDM 3A chapter 11: acceptance, priorities, ends, messages, local sources.
#include "conformance/test/monitor/device_harness.hpp"
#include "conformance/test/monitor/local_apic_fixture.hpp"

namespace refhv::monitor {
namespace {

using test::Vectors;

class LocalApicTest : public test::LocalApicFixture {};

TEST_F(LocalApicTest, by_priority) {
    for (const u8 vector : {0x31, 0xf0, 0x10, 0x32, 0xff, 0x80}) {
        EXPECT_TRUE(apic.deliver(vector, false));
    }
    EXPECT_EQ(taken(), Vectors({0xff, 0xf0, 0x80, 0x32, 0x31, 0x10}));
    EXPECT_EQ(apic.acknowledge(), 0xff) << "the spurious vector";
    EXPECT_EQ(in(0x170), 0U) << "which is not in service";
}

TEST_F(LocalApicTest, what_is_in_service_holds_its_class_and_those_below) {
    apic.deliver(0x45, false);
    EXPECT_EQ(apic.acknowledge(), 0x45);
    EXPECT_EQ(in(0x120), 1U << 5);
    EXPECT_EQ(in(0x220), 0U);
    EXPECT_EQ(in(0xa0), 0x40U);
    apic.deliver(0x4f, false);
    EXPECT_EQ(apic.pending(), std::nullopt);
    EXPECT_EQ(in(0x220), 1U << 15);
    apic.deliver(0x50, false);
    EXPECT_EQ(apic.acknowledge(), 0x50);
    EXPECT_EQ(in(0xa0), 0x50U);
    apic.deliver(0x45, false);
    apic.deliver(0x45, false);
    out(0xb0, 0);
    EXPECT_EQ(in(0xa0), 0x40U) << "EOI ends the highest";
    out(0xb0, 0);
    EXPECT_EQ(taken(), Vectors({0x4f, 0x45})) << "one vector waits once";
    out(0xb0, 0);
    EXPECT_EQ(in(0xa0), 0U) << "an EOI of nothing";
}

TEST_F(LocalApicTest, task_priority) {
    out(0x80, 0x53);
    EXPECT_EQ(in(0x80), 0x53U);
    EXPECT_EQ(in(0xa0), 0x53U);
    apic.deliver(0x5f, false);
    EXPECT_EQ(apic.pending(), std::nullopt);
    apic.deliver(0x60, false);
    EXPECT_EQ(apic.acknowledge(), 0x60);
    EXPECT_EQ(in(0xa0), 0x60U);
    out(0x80, 0x65);
    EXPECT_EQ(in(0xa0), 0x65U) << "the same class: TPR as a whole";
    out(0xb0, 0);
    apic.set_task_priority(0x40);
    EXPECT_EQ(apic.task_priority(), 0x40);
    EXPECT_EQ(apic.pending(), 0x5f);
}

TEST_F(LocalApicTest, only_levels_tell_their_end) {
    apic.deliver(0x61, true);
    apic.deliver(0x62, false);
    EXPECT_EQ(in(0x1b0), 1U << 1);
    EXPECT_EQ(taken(), Vectors({0x62, 0x61}));
    EXPECT_EQ(ended, Vectors({0x61}));
    apic.deliver(0x61, false);
    EXPECT_EQ(in(0x1b0), 0U) << "TMR follows the last";
}

TEST_F(LocalApicTest, illegal_vectors) {
    EXPECT_FALSE(apic.deliver(15, false));
    EXPECT_EQ(in(0x200), 0U);
    EXPECT_EQ(in(0x280), 0U) << "ESR is as it was when it was last written";
    EXPECT_EQ(errors(), 0x40U);
    EXPECT_EQ(errors(), 0U);
    command(0x4'000f);
    EXPECT_EQ(errors(), 0x20U) << "not sent, so not received";
    out(0x370, 0xe1);
    apic.deliver(3, false);
    apic.deliver(4, false);
    EXPECT_EQ(taken(), Vectors({0xe1})) << "the error interrupt, once";
    static_cast<void>(errors());
    out(0x370, 5);
    command(0x4'000f);
    EXPECT_EQ(errors(), 0x60U) << "its own vector may be illegal";
}

TEST_F(LocalApicTest, disabled_by_software) {
    out(0x320, 0x40);
    apic.deliver(0x41, false);
    out(0xf0, 0xff);
    EXPECT_EQ(in(0x320), 0x1'0040U) << "all entries are masked";
    out(0x320, 0x40);
    EXPECT_EQ(in(0x320), 0x1'0040U) << "and stay so";
    EXPECT_FALSE(apic.deliver(0x42, false));
    EXPECT_TRUE(apic.receive({.destination = 3, .delivery = Delivery::nmi})) << "NMIs and INITs are heard";
    EXPECT_EQ(signals.size(), 1U);
    EXPECT_EQ(taken(), Vectors({0x41})) << "what waited goes on";
}

TEST_F(LocalApicTest, destinations) {
    const auto hears = [&](u32 destination, bool logical) {
        static_cast<void>(taken());
        return apic.receive({.destination = destination, .logical = logical, .vector = 0x90}) &&
               apic.pending();
    };
    EXPECT_TRUE(hears(3, false));
    EXPECT_TRUE(hears(0xff, false));
    EXPECT_FALSE(hears(2, false));
    EXPECT_FALSE(hears(1, true)) << "no logical ID yet";
    out(0xd0, 0x14ff'ffff);
    EXPECT_EQ(in(0xd0), 0x1400'0000U);
    EXPECT_TRUE(hears(0x04, true));
    EXPECT_TRUE(hears(0x3a, true)) << "flat: any bit in common";
    EXPECT_FALSE(hears(0x2a, true));
    out(0xe0, 0);
    EXPECT_EQ(in(0xe0), 0x0fff'ffffU);
    EXPECT_TRUE(hears(0x1c, true)) << "cluster 1, member 2";
    EXPECT_FALSE(hears(0x34, true));
    EXPECT_FALSE(hears(0x1b, true));
    EXPECT_TRUE(hears(0xff, true));
    to_x2apic();
    EXPECT_TRUE(apic.receive({.destination = 3, .vector = 0x90}));
    EXPECT_FALSE(apic.receive({.destination = 0xff, .vector = 0x90}));
    EXPECT_TRUE(apic.receive({.destination = ~0U, .vector = 0x90}));
    EXPECT_TRUE(apic.receive({.destination = 0x0008, .logical = true, .vector = 0x90}));
    EXPECT_FALSE(apic.receive({.destination = 0x0007, .logical = true, .vector = 0x90}));
    EXPECT_FALSE(apic.receive({.destination = 0x1'0008, .logical = true, .vector = 0x90}));
}

TEST_F(LocalApicTest, commands) {
    command(0x4'0071);
    EXPECT_EQ(taken(), Vectors({0x71})) << "self";
    command(0x8'0072);
    EXPECT_EQ(taken(), Vectors({0x72})) << "all";
    command(0xc'0073);
    EXPECT_EQ(taken(), Vectors()) << "all but self";
    command(u64{3} << 56 | 0x74);
    EXPECT_EQ(taken(), Vectors({0x74}));
    command(u64{2} << 56 | 0x75);
    EXPECT_EQ(taken(), Vectors());
    command(u64{3} << 56 | 0x176);
    EXPECT_EQ(taken(), Vectors({0x76})) << "lowest priority";
    EXPECT_EQ(in(0x300), 0x176U);
    EXPECT_EQ(in(0x310), 0x0300'0000U);
    command(u64{3} << 56 | 0x1'3077);
    EXPECT_EQ(in(0x300), 0x77U) << "neither reserved bits nor the delivery status";
    static_cast<void>(taken());
    for (const u64 mode : {2, 4, 5, 6}) {
        command(u64{3} << 56 | 0x4000 | mode << 8 | 0x9a);
    }
    command(u64{3} << 56 | 0x8500); // INIT level de-assert
    EXPECT_EQ(signals, (std::vector<std::pair<Delivery, unsigned>>{{Delivery::smi, 0x9a},
                                                                   {Delivery::nmi, 0x9a},
                                                                   {Delivery::init, 0x9a},
                                                                   {Delivery::startup, 0x9a}}));
    EXPECT_EQ(taken(), Vectors());
    EXPECT_EQ(ended, Vectors());
}

TEST_F(LocalApicTest, local_pins) {
    EXPECT_FALSE(apic.accepts_extint());
    out(0x350, 0x700);
    EXPECT_TRUE(apic.accepts_extint());
    apic.set_lint(0, true);
    EXPECT_EQ(apic.pending(), std::nullopt) << "the vector is the interrupt controllers'";
    apic.set_lint(0, false);
    out(0x350, 0x1'0700);
    EXPECT_FALSE(apic.accepts_extint());
    out(0x350, 0x033);
    apic.set_lint(0, true);
    apic.set_lint(0, true);
    EXPECT_EQ(taken(), Vectors({0x33}));
    EXPECT_EQ(apic.pending(), std::nullopt);
    apic.set_lint(1, true);
    EXPECT_EQ(signals.size(), 0U) << "masked";
    apic.set_lint(1, false);
    out(0x360, 0x400);
    apic.set_lint(1, true);
    apic.set_lint(2, true);
    ASSERT_EQ(signals.size(), 1U);
    EXPECT_EQ(signals[0].first, Delivery::nmi);
    EXPECT_TRUE(apic.write_msr(0x1b, 0xfee0'0100));
    EXPECT_TRUE(apic.accepts_extint()) << "without an APIC, LINT0 is INTR";
    apic.set_lint(1, false);
    apic.set_lint(1, true);
    EXPECT_EQ(signals.size(), 2U) << "and LINT1 is NMI";
    EXPECT_EQ(ended, Vectors()) << "pins are edges";
    LocalApic fresh({});
    fresh.virtual_wire();
    EXPECT_TRUE(fresh.accepts_extint());
    EXPECT_TRUE(fresh.deliver(0x20, false));
    LocalApic another({});
    another.write(0xf0, 4, 0x1ff);
    another.write(0x350, 4, 0x44);
    another.set_lint(0, true);
    EXPECT_EQ(another.pending(), 0x44) << "the first rise is one";
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<LocalApic>(LocalApic::Outside{
                        .signal = [&](Delivery d, u8 v) { log.push_back(u64{static_cast<u8>(d)} << 8 | v); },
                        .end_of_interrupt = [&](u8 v) { log.push_back(0x1000 | v); },
                        .time_of_tsc = [](u64 tsc) { return tsc; },
                        .id = 1});
                },
            .extent = 0x400,
            .act =
                [](Device& d, u64 random) {
                    auto& apic = static_cast<LocalApic&>(d);
                    static_cast<void>(apic.deliver(static_cast<u8>(random >> 8), (random & 1) != 0));
                    apic.set_lint(random >> 1 & 1, (random & 4) != 0);
                    constexpr std::array<u32, 4> msrs{0x1b, 0x6e0, 0x830, 0x832};
                    const u32 msr = random & 8 ? msrs[random >> 4 & 3] : 0x800 + (random >> 16 & 0x3f);
                    const u64 base = 0xfee0'0000 | (random >> 20 & 0xc00);
                    static_cast<void>(apic.write_msr(msr, msr == 0x1b ? base : random >> 24));
                    static_cast<void>(apic.read_msr(msr));
                    if (apic.pending()) {
                        static_cast<void>(apic.acknowledge());
                    }
                },
            .favourites = {0x80, 0xb0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x350, 0x360, 0x370, 0x380, 0x3e0}};
}

TEST(LocalApicRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(LocalApicRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(LocalApicRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
