// SPDX-License-Identifier: MIT
// What all virtio devices in memory have (virtio 1.2, 4.2.2, 2.7), seen at a console, and what a driver may
// not do.
#include "conformance/test/monitor/virtio_rig.hpp"
#include "refhv/monitor/device/virtio_console.hpp"

namespace refhv::monitor {
namespace {

class VirtioTest : public ::testing::Test {
  protected:
    using Driver = test::Driver;
    static constexpr unsigned transmit = 1; // the queue

    void expect_broken(const char* why) {
        EXPECT_TRUE(console.needs_reset()) << why;
        EXPECT_EQ(driver.in(0x70), 0x4fU) << why;
        EXPECT_EQ(driver.in(0x60) & 2, 2U) << why << ": its driver is told";
        EXPECT_EQ(driver.used(transmit), 0) << why;
        driver.describe(transmit, 7, 0x9000, 1, 0);
        driver.offer(transmit, 7);
        driver.notify(transmit);
        EXPECT_EQ(sent, "") << why << ": nothing more is done";
    }
    // A driver that has begun anew and offers descriptor 0.
    void broken_if(const char* why, const std::function<void()>& describe) {
        memory.bytes.assign(memory.bytes.size(), std::byte{});
        sent.clear();
        driver.start(2);
        EXPECT_FALSE(console.needs_reset());
        describe();
        driver.offer(transmit, 0);
        driver.notify(transmit);
        expect_broken(why);
    }

    test::FakeMemory memory;
    std::string sent;
    std::vector<bool> edges;
    VirtioConsole console{memory, [this](std::span<const u8> s) { sent.append(s.begin(), s.end()); },
                          [this](bool level) { edges.push_back(level); }};
    Driver driver{console, memory};
};

TEST_F(VirtioTest, registers) {
    EXPECT_EQ(driver.in(0), 0x7472'6976U);
    EXPECT_EQ(driver.in(4), 2U);
    EXPECT_EQ(driver.in(8), 3U);
    EXPECT_EQ(driver.in(0x34), 256U);
    EXPECT_EQ(driver.in(0x10), 0x1000'0004U);
    driver.out(0x14, 1);
    EXPECT_EQ(driver.in(0x10), 1U);
    driver.out(0x14, 2);
    EXPECT_EQ(driver.in(0x10), 0U);
    driver.out(0x30, 2);
    EXPECT_EQ(driver.in(0x34), 0U) << "no such queue";
    EXPECT_EQ(driver.in(0x44), 0U);
    EXPECT_EQ(driver.in(0xb0), ~0U) << "no shared memory";
    EXPECT_EQ(driver.in(0xfc), 0U);
    EXPECT_EQ(console.read(0, 1), 0xffU) << "registers have 32 bits";
    EXPECT_EQ(console.read(2, 4), 0xffff'ffffU);
    console.write(0x70, 1, 1);
    EXPECT_EQ(driver.in(0x70), 0U);
    EXPECT_EQ(console.read(0x200, 4), 0xffff'ffffU);
}

TEST_F(VirtioTest, features_are_agreed_on) {
    const auto agree = [&](u32 low, u32 high) {
        driver.out(0x70, 0);
        driver.out(0x70, 3);
        driver.out(0x24, 0);
        driver.out(0x20, low);
        driver.out(0x24, 1);
        driver.out(0x20, high);
        driver.out(0x70, 0xb);
        return driver.in(0x70) == 0xb;
    };
    EXPECT_TRUE(agree(0, 1));
    EXPECT_TRUE(agree(0x1000'0004, 1));
    EXPECT_FALSE(agree(0, 0)) << "a driver of before version 1";
    EXPECT_FALSE(agree(0x8, 1)) << "not offered";
    EXPECT_FALSE(agree(0, 3));
    driver.out(0x70, 0xf);
    EXPECT_EQ(driver.in(0x70), 3U) << "and so no DRIVER_OK";
}

TEST_F(VirtioTest, queues) {
    driver.out(0x30, 1);
    for (const u32 size : {0U, 3U, 257U, 512U, 0x1'0008U}) {
        driver.out(0x38, size);
        driver.out(0x44, 1);
        EXPECT_EQ(driver.in(0x44), 0U) << size;
    }
    driver.out(0x38, 8);
    driver.out(0x80, 8);
    driver.out(0x44, 1);
    EXPECT_EQ(driver.in(0x44), 0U) << "descriptors on 16 bytes";
    driver.out(0x80, 16);
    driver.out(0x44, 1);
    EXPECT_EQ(driver.in(0x44), 1U);
    driver.out(0x30, 0);
    EXPECT_EQ(driver.in(0x44), 0U);
    driver.out(0x30, 1);
    driver.out(0x44, 0);
    EXPECT_EQ(driver.in(0x44), 0U);
}

TEST_F(VirtioTest, buffers_go_round_the_rings) {
    driver.start(2);
    std::string expected;
    for (u16 i = 0; i < 100; i++) {
        memory.put_text(0x9000, std::string(1, static_cast<char>('!' + i)));
        memory.put_text(0xa000, "xyz");
        const auto head = static_cast<u16>(i % 8), second = static_cast<u16>((i + 3) % 8);
        driver.describe(transmit, head, 0x9000, 1, Driver::next, second);
        driver.describe(transmit, second, 0xa000, 3, 0);
        driver.offer(transmit, head);
        driver.notify(transmit);
        expected += static_cast<char>('!' + i) + std::string("xyz");
        EXPECT_EQ(driver.used(transmit), i + 1);
        EXPECT_EQ(driver.last_used(transmit), (std::pair<u32, u32>{head, 0}));
    }
    EXPECT_EQ(sent, expected);
    EXPECT_FALSE(console.needs_reset());
}

TEST_F(VirtioTest, its_interrupt) {
    driver.start(2);
    driver.describe(transmit, 0, 0x9000, 1, 0);
    driver.notify(transmit);
    EXPECT_EQ(edges.size(), 0U) << "nothing was used";
    driver.offer(transmit, 0);
    driver.notify(transmit);
    EXPECT_EQ(edges, std::vector<bool>{true});
    EXPECT_EQ(driver.in(0x60), 1U);
    driver.out(0x64, 2);
    EXPECT_EQ(driver.in(0x60), 1U);
    driver.out(0x64, 1);
    EXPECT_EQ(edges, (std::vector<bool>{true, false}));
    memory.put(0x6000, u16{1}); // VIRTQ_AVAIL_F_NO_INTERRUPT
    driver.offer(transmit, 0);
    driver.notify(transmit);
    EXPECT_EQ(driver.used(transmit), 2);
    EXPECT_EQ(edges.size(), 2U);
    memory.put(0x6000, u16{0});
    driver.offer(transmit, 0);
    driver.notify(transmit);
    EXPECT_TRUE(edges.back());
    driver.out(0x70, 0);
    EXPECT_FALSE(edges.back()) << "a reset ends it";
    EXPECT_EQ(driver.in(0x44), 0U);
}

TEST_F(VirtioTest, indirect_descriptors) {
    driver.start(2);
    memory.put_text(0x9000, "indirect");
    driver.describe_at(0xb000, 0x9000, 2, Driver::next, 2);
    driver.describe_at(0xb020, 0x9002, 6, 0);
    driver.describe(transmit, 4, 0xb000, 48, Driver::indirect);
    driver.offer(transmit, 4);
    driver.notify(transmit);
    EXPECT_EQ(sent, "indirect");
    EXPECT_EQ(driver.last_used(transmit), (std::pair<u32, u32>{4, 0}));
}

TEST_F(VirtioTest, what_a_driver_may_not_do) {
    const auto one = [&](u64 address, u32 length, u16 flags, u16 following = 0) {
        return [=, this] { driver.describe(transmit, 0, address, length, flags, following); };
    };
    const u64 end = memory.bytes.size();
    broken_if("a loop", one(0x9000, 1, Driver::next, 0));
    broken_if("a loop of two", [&] {
        driver.describe(transmit, 0, 0x9000, 1, Driver::next, 5);
        driver.describe(transmit, 5, 0x9000, 1, Driver::next, 0);
    });
    broken_if("a descriptor beyond the table", one(0x9000, 1, Driver::next, 8));
    broken_if("beyond memory", one(end - 1, 2, 0));
    broken_if("far beyond memory", one(u64{1} << 52, 1, 0));
    broken_if("addresses that wrap", one(~u64{0}, 2, 0));
    broken_if("4 GBytes", one(0x9000, ~0U, 0));
    broken_if("more than 4 GBytes", [&] {
        driver.describe(transmit, 0, 0, ~0U, Driver::next, 1);
        driver.describe(transmit, 1, 0, 2, 0);
    });
    broken_if("an indirect table of no length", one(0xb000, 0, Driver::indirect));
    broken_if("of half a descriptor", one(0xb000, 24, Driver::indirect));
    broken_if("longer than the queue", one(0xb000, 16 * 9, Driver::indirect));
    broken_if("beyond memory", one(end, 16, Driver::indirect));
    broken_if("with a next", one(0xb000, 16, Driver::indirect | Driver::next, 1));
    broken_if("in an indirect table", [&] {
        driver.describe(transmit, 0, 0xb000, 16, Driver::indirect);
        driver.describe_at(0xb000, 0xb000, 16, Driver::indirect);
    });
    broken_if("a loop in an indirect table", [&] {
        driver.describe(transmit, 0, 0xb000, 32, Driver::indirect);
        driver.describe_at(0xb000, 0x9000, 1, Driver::next, 1);
        driver.describe_at(0xb010, 0x9000, 1, Driver::next, 0);
    });
    broken_if("what is read behind what is written", [&] {
        driver.describe(transmit, 0, 0x9000, 1, Driver::writable | Driver::next, 1);
        driver.describe(transmit, 1, 0x9000, 1, 0);
    });
    broken_if("more buffers than the ring holds", [&] {
        driver.describe(transmit, 0, 0x9000, 1, 0);
        memory.put(0x6002, u16{8});
    });
    broken_if("a head beyond the table", [&] {
        memory.put(0x6002, u16{1});
        memory.put(0x6004, u16{8});
    });
}

TEST_F(VirtioTest, rings_that_are_no_memory) {
    for (const u64 at : {0x90, 0xa0, 0x80}) {
        driver.start(2);
        memory.bytes.assign(memory.bytes.size(), std::byte{});
        sent.clear();
        driver.out(0x30, transmit);
        driver.out(0x44, 0);
        driver.out(0x38, 8);
        driver.out(0x80, 0x5000);
        driver.out(0x90, 0x6000);
        driver.out(0xa0, 0x7000);
        driver.out(at + 4, 1);
        driver.out(0x44, 1);
        driver.describe(transmit, 0, 0x9000, 1, 0);
        driver.offer(transmit, 0);
        driver.notify(transmit);
        EXPECT_TRUE(console.needs_reset()) << std::hex << at;
    }
}

TEST_F(VirtioTest, indirect_without_its_feature) {
    driver.start(2, VirtioMmio::indirect_descriptors);
    driver.describe_at(0xb000, 0x9000, 2, 0);
    driver.describe(transmit, 0, 0xb000, 16, Driver::indirect);
    driver.offer(transmit, 0);
    driver.notify(transmit);
    expect_broken("an indirect descriptor");
}

TEST_F(VirtioTest, nothing_before_the_driver_is_ready) {
    driver.start(2);
    driver.describe(transmit, 0, 0x9000, 1, 0);
    driver.offer(transmit, 0);
    driver.out(0x70, 0xb);
    driver.notify(transmit);
    EXPECT_EQ(driver.used(transmit), 0);
    driver.notify(7);
    driver.out(0x70, 0xf);
    driver.notify(transmit);
    EXPECT_EQ(driver.used(transmit), 1);
}

} // namespace
} // namespace refhv::monitor
