// SPDX-License-Identifier: MIT
// The virtio console (virtio 1.2, 5.3): what a guest reads.
#include "conformance/test/monitor/device_harness.hpp"
#include "conformance/test/monitor/virtio_rig.hpp"
#include "refhv/monitor/device/virtio_console.hpp"

namespace refhv::monitor {
namespace {

class VirtioConsoleTest : public ::testing::Test {
  protected:
    using Driver = test::Driver;

    usize type(const std::string& text) {
        return console.receive({reinterpret_cast<const u8*>(text.data()), text.size()});
    }

    test::FakeMemory memory;
    std::string sent;
    VirtioConsole console{memory, [this](std::span<const u8> s) { sent.append(s.begin(), s.end()); }, {}};
    Driver driver{console, memory};
};

TEST_F(VirtioConsoleTest, input_waits_for_buffers) {
    driver.start(2);
    EXPECT_EQ(type("hello"), 5U);
    EXPECT_EQ(driver.used(0), 0);
    driver.describe(0, 0, 0x9000, 3, Driver::writable);
    driver.describe(0, 1, 0x9100, 16, Driver::writable);
    driver.offer(0, 0);
    driver.offer(0, 1);
    driver.describe(0, 2, 0x9200, 16, Driver::writable);
    driver.offer(0, 2);
    driver.notify(0);
    EXPECT_EQ(driver.used(0), 2) << "the third buffer waits for more";
    EXPECT_EQ(memory.text(0x9000, 3) + memory.text(0x9100, 3), std::string("hello") + '\0');
    EXPECT_EQ(driver.last_used(0), (std::pair<u32, u32>{1, 2}));
    EXPECT_EQ(type("!"), 1U);
    EXPECT_EQ(driver.last_used(0), (std::pair<u32, u32>{2, 1}));
    EXPECT_EQ(memory.text(0x9200, 1), "!");
}

TEST_F(VirtioConsoleTest, input_that_nobody_takes_is_not_taken) {
    EXPECT_EQ(type(std::string(1000, 'a')), 1000U);
    EXPECT_EQ(type(std::string(1000, 'b')), 24U);
    EXPECT_EQ(type("c"), 0U);
    driver.out(0x70, 0);
    EXPECT_EQ(type(std::string(2000, 'd')), 1024U) << "a reset forgets it";
}

TEST_F(VirtioConsoleTest, a_buffer_that_takes_nothing_breaks_it) {
    for (const u16 flags : {u16{0}, Driver::writable}) {
        memory.bytes.assign(memory.bytes.size(), std::byte{});
        driver.start(2);
        driver.describe(0, 0, 0x9000, flags == 0 ? 4 : 0, flags);
        driver.offer(0, 0);
        type("x");
        EXPECT_TRUE(console.needs_reset());
    }
}

TEST_F(VirtioConsoleTest, a_character_without_queues) {
    console.write(0x108, 4, 'e');
    console.write(0x104, 4, 'x');
    EXPECT_EQ(sent, "e");
    EXPECT_EQ(console.read(0x100, 8), 0U);
}

struct Content {
    static constexpr unsigned queues = 2;
    Content(test::FakeMemory& memory, test::Log& log)
        : device(
              memory, [&](std::span<const u8> s) { log.push_back(s.size()); },
              [&](bool level) { log.push_back(level ? 0x10001 : 0x10000); }) {}
    void save(std::vector<std::byte>&) {}
    void load(std::span<const std::byte>) {}

    VirtioConsole device;
};

test::Subject subject() {
    return {.make = [](test::Log& log) { return std::make_unique<test::Rigged<Content>>(log); },
            .extent = 0x110,
            .act =
                [](Device& d, u64 random) {
                    const std::array<u8, 3> text{1, 2, 3};
                    static_cast<test::Rigged<Content>&>(d).content.device.receive(
                        std::span(text).first(random >> 61 & 3));
                    test::act_as_driver<Content>(d, random);
                },
            .favourites = {0x30, 0x50, 0x64}};
}

TEST(VirtioConsoleRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(VirtioConsoleRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(VirtioConsoleRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
