// SPDX-License-Identifier: MIT
// The I/O APIC by its data sheet (290566), alone and in front of a local APIC.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/io_apic.hpp"
#include "refhv/monitor/device/local_apic.hpp"

namespace refhv::monitor {
namespace {

class IoApicTest : public ::testing::Test {
  protected:
    u32 in(u8 index) {
        io.write(0, 4, index);
        return static_cast<u32>(io.read(0x10, 4));
    }
    void out(u8 index, u32 value) {
        io.write(0, 4, index);
        io.write(0x10, 4, value);
    }
    void entry(unsigned pin, u32 low, u32 high = 0) {
        out(static_cast<u8>(0x11 + 2 * pin), high);
        out(static_cast<u8>(0x10 + 2 * pin), low);
    }
    unsigned sent() { return static_cast<unsigned>(std::exchange(messages, {}).size()); }

    bool accepted = true;
    std::vector<ApicMessage> messages;
    IoApic io{[this](const ApicMessage& m) {
                  messages.push_back(m);
                  return accepted;
              },
              IoApic::with_eoi};
};

constexpr u32 level = 1 << 15, masked = 1 << 16, remote_irr = 1 << 14;

TEST_F(IoApicTest, registers) {
    EXPECT_EQ(in(0), 0U);
    EXPECT_EQ(in(1), 0x17'0020U);
    out(0, ~0U);
    EXPECT_EQ(in(0), 0x0f00'0000U);
    EXPECT_EQ(in(2), 0x0f00'0000U) << "the arbitration ID is loaded with it";
    out(1, 0);
    EXPECT_EQ(in(1), 0x17'0020U);
    EXPECT_EQ(in(3), ~0U);
    EXPECT_EQ(in(0x40), ~0U);
    for (unsigned pin = 0; pin < 24; pin++) {
        const auto at = static_cast<u8>(0x10 + 2 * pin);
        EXPECT_EQ(in(at), masked);
        EXPECT_EQ(in(at + 1), 0U);
        out(at, ~0U);
        out(at + 1, ~0U);
        EXPECT_EQ(in(at), 0x1'afffU) << "neither remote IRR nor delivery status";
        EXPECT_EQ(in(at + 1), 0xff00'0000U);
    }
    io.write(0, 1, 0x10);
    EXPECT_EQ(io.read(0, 4), 0x10U);
    EXPECT_EQ(io.read(0x11, 1), 0xafU) << "a byte of the window";
    io.write(0x10, 1, 0);
    EXPECT_EQ(in(0x10), 0x1'afffU) << "written as a whole or not at all";
    EXPECT_EQ(io.read(0x20, 4), 0xffff'ffffU);
    IoApic old({}, IoApic::without_eoi);
    old.write(0, 4, 1);
    EXPECT_EQ(old.read(0x10, 4), 0x17'0011U);
}

TEST_F(IoApicTest, messages_are_as_the_entry_says) {
    entry(5, 0x0931, 0x0c00'0000);
    io.set(5, true);
    ASSERT_EQ(messages.size(), 1U);
    EXPECT_EQ(messages[0].destination, 0x0cU);
    EXPECT_TRUE(messages[0].logical);
    EXPECT_EQ(messages[0].delivery, Delivery::lowest_priority);
    EXPECT_EQ(messages[0].vector, 0x31);
    EXPECT_FALSE(messages[0].level);
    for (const u32 mode : {2U, 4U, 5U}) {
        entry(6, level | mode << 8);
        io.set(6, true);
        io.set(6, false);
        EXPECT_EQ(in(0x1c) & remote_irr, 0U);
        EXPECT_EQ(static_cast<u32>(messages.back().delivery), mode);
        EXPECT_FALSE(messages.back().level) << "an edge, whatever the entry says";
    }
    EXPECT_EQ(sent(), 4U);
}

TEST_F(IoApicTest, edges) {
    entry(2, 0x40);
    io.set(2, true);
    io.set(2, true);
    EXPECT_EQ(sent(), 1U);
    io.set(2, false);
    EXPECT_EQ(sent(), 0U);
    io.set(2, true);
    EXPECT_EQ(sent(), 1U);
    io.set(2, false);
    entry(2, masked | 0x40);
    io.set(2, true);
    entry(2, 0x40);
    EXPECT_EQ(sent(), 0U) << "an edge at a masked pin is not held";
    io.set(24, true);
    io.set(~0U, true);
    EXPECT_EQ(sent(), 0U);
}

TEST_F(IoApicTest, levels) {
    entry(9, level | masked | 0x50);
    io.set(9, true);
    EXPECT_EQ(sent(), 0U);
    entry(9, level | 0x50);
    EXPECT_TRUE(messages.at(0).level);
    EXPECT_EQ(sent(), 1U) << "a level at a masked pin is there later";
    EXPECT_EQ(in(0x22), level | remote_irr | 0x50);
    io.set(9, false);
    io.set(9, true);
    EXPECT_EQ(sent(), 0U) << "not before its end";
    io.end_of_interrupt(0x51);
    EXPECT_EQ(sent(), 0U);
    io.end_of_interrupt(0x50);
    EXPECT_EQ(sent(), 1U) << "high still";
    io.set(9, false);
    io.end_of_interrupt(0x50);
    EXPECT_EQ(sent(), 0U);
    EXPECT_EQ(in(0x22), level | 0x50);
    accepted = false;
    io.set(9, true);
    EXPECT_EQ(in(0x22), level | 0x50) << "no remote IRR for what nobody accepted";
}

TEST_F(IoApicTest, ends_by_register_and_by_the_trick_without_one) {
    entry(9, level | 0x50);
    entry(10, level | 0x50);
    io.set(9, true);
    io.set(10, true);
    io.set(9, false);
    EXPECT_EQ(sent(), 2U);
    io.write(0x40, 4, 0x50);
    EXPECT_EQ(in(0x22) & remote_irr, 0U);
    EXPECT_EQ(in(0x24) & remote_irr, remote_irr) << "asserted, so sent again";
    EXPECT_EQ(sent(), 1U);
    entry(10, masked | 0x50); // to edge, and back
    entry(10, level | 0x50);
    EXPECT_EQ(sent(), 1U);
    IoApic old([&](const ApicMessage& m) { return messages.push_back(m), true; }, IoApic::without_eoi);
    old.write(0, 4, 0x10);
    old.write(0x10, 4, level | 0x60);
    old.set(0, true);
    old.write(0x40, 4, 0x60);
    EXPECT_EQ(sent(), 1U) << "it has no such register";
}

TEST_F(IoApicTest, interrupt_controllers_through_pin_0) {
    EXPECT_FALSE(io.accepts_extint());
    entry(0, 0x700);
    EXPECT_TRUE(io.accepts_extint());
    entry(0, masked | 0x700);
    EXPECT_FALSE(io.accepts_extint());
    entry(0, 0x30);
    EXPECT_FALSE(io.accepts_extint());
}

TEST(IoApicAndLocalApic, a_level_from_pin_to_end) {
    IoApic* to = nullptr;
    LocalApic local({.end_of_interrupt = [&](u8 vector) { to->end_of_interrupt(vector); }});
    IoApic io([&](const ApicMessage& m) { return local.receive(m); }, IoApic::without_eoi);
    to = &io;
    local.write(0xf0, 4, 0x1ff);
    io.write(0, 4, 0x10 + 2 * 11);
    io.write(0x10, 4, level | 0x6b);
    io.set(11, true);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(local.pending(), 0x6b);
        EXPECT_EQ(local.acknowledge(), 0x6b);
        EXPECT_EQ(local.pending(), std::nullopt);
        local.write(0xb0, 4, 0);
    }
    EXPECT_EQ(local.acknowledge(), 0x6b);
    io.set(11, false);
    local.write(0xb0, 4, 0);
    EXPECT_EQ(local.pending(), std::nullopt);
}

test::Subject subject() {
    return {.make =
                [](test::Log& log) {
                    return std::make_unique<IoApic>(
                        [&](const ApicMessage& m) {
                            log.push_back(u64{m.destination} << 8 | m.vector);
                            return m.vector % 2 == 0;
                        },
                        IoApic::with_eoi);
                },
            .extent = 0x44,
            .act =
                [](Device& d, u64 random) {
                    auto& io = static_cast<IoApic&>(d);
                    io.set(random % 26, (random & 256) != 0);
                    d.write(0, 1, 0x10 + (random >> 9 & 0x3f));
                    d.write(0x10, 4, random >> 16 & 0xf00f);
                    io.end_of_interrupt(random >> 40 & 0xf);
                },
            .favourites = {0, 0x10, 0x40}};
}

TEST(IoApicRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(IoApicRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(IoApicRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
