// SPDX-License-Identifier: MIT
// The virtio disk (virtio 1.2, 5.2), and images with a base that several share.
#include "conformance/test/monitor/device_harness.hpp"
#include "conformance/test/monitor/virtio_rig.hpp"
#include "refhv/monitor/device/virtio_block.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <system_error>

namespace refhv::monitor {
namespace {

// Each byte says where it is.
std::vector<std::byte> pattern(usize size) {
    std::vector<std::byte> bytes(size);
    for (usize i = 0; i < size; i++) {
        bytes[i] = static_cast<std::byte>(i ^ i >> 8);
    }
    return bytes;
}

class VirtioBlockTest : public ::testing::Test {
  protected:
    using Driver = test::Driver;
    static constexpr u64 header = 0x9000, data = 0xa000, status = 0x9100;

    VirtioBlockTest() { driver.start(1); }

    // Header, data, status, as a driver lays them out; the status.
    u32 request(u32 type, u64 sector, u32 length, bool to_guest, Driver* other = nullptr,
                test::FakeMemory* its = nullptr) {
        Driver& d = other != nullptr ? *other : driver;
        test::FakeMemory& m = its != nullptr ? *its : memory;
        m.put(header, type);
        m.put(header + 8, sector);
        m.put(status, u8{0xee});
        d.describe(0, 0, header, 16, Driver::next, length != 0 ? 1 : 2);
        d.describe(0, 1, data, length, static_cast<u16>(Driver::next | (to_guest ? Driver::writable : 0)), 2);
        d.describe(0, 2, status, 1, Driver::writable);
        d.offer(0, 0);
        d.notify(0);
        return m.get<u8>(status);
    }

    const std::vector<std::byte> content = pattern(100 * 512);
    std::shared_ptr<const BlockBase> base = BlockBase::memory(content);
    BlockImage image{base};
    test::FakeMemory memory;
    VirtioBlock disk{memory, image, false, "refhv-disk", {}};
    Driver driver{disk, memory};
};

TEST_F(VirtioBlockTest, configuration) {
    EXPECT_EQ(driver.in(8), 2U);
    EXPECT_EQ(disk.read(0x100, 8), 100U);
    EXPECT_EQ(disk.read(0x10c, 4), 254U);
    EXPECT_EQ(disk.read(0x114, 4), 0U);
    driver.out(0x14, 0);
    EXPECT_EQ(driver.in(0x10), 0x1000'0204U);
}

TEST_F(VirtioBlockTest, reads) {
    EXPECT_EQ(request(0, 3, 1024, true), 0U);
    EXPECT_EQ(driver.last_used(0), (std::pair<u32, u32>{0, 1025}));
    std::vector<std::byte> got(1024);
    ASSERT_TRUE(memory.read(data, got));
    EXPECT_TRUE(std::ranges::equal(got, std::span(content).subspan(3 * 512, 1024)));
}

TEST_F(VirtioBlockTest, writes_stay_in_the_overlay) {
    memory.put_text(data, std::string(512, 'w') + std::string(512, 'v'));
    EXPECT_EQ(request(1, 7, 1024, false), 0U); // over the edge of two pages
    EXPECT_EQ(image.overlay().size(), 2U);
    EXPECT_EQ(request(0, 6, 2048, true), 0U);
    std::string expected(2048, 0);
    std::memcpy(expected.data(), &content[6 * 512], 2048);
    expected.replace(512, 1024, std::string(512, 'w') + std::string(512, 'v'));
    EXPECT_EQ(memory.text(data, 2048), expected);
    BlockImage other(base);
    test::FakeMemory other_memory;
    VirtioBlock other_disk(other_memory, other, false, "", {});
    Driver other_driver(other_disk, other_memory);
    other_driver.start(1);
    EXPECT_EQ(request(0, 7, 512, true, &other_driver, &other_memory), 0U);
    EXPECT_EQ(std::memcmp(&other_memory.bytes[data], &content[7 * 512], 512), 0)
        << "another VM sees the base";
    other.set_overlay(image.overlay());
    EXPECT_EQ(request(0, 7, 512, true, &other_driver, &other_memory), 0U);
    EXPECT_EQ(other_memory.text(data, 512), std::string(512, 'w'))
        << "and with the overlay, what was written";
}

TEST_F(VirtioBlockTest, requests_that_fail) {
    EXPECT_EQ(request(0, 99, 512, true), 0U);
    EXPECT_EQ(request(0, 100, 512, true), 1U) << "beyond its end";
    EXPECT_EQ(request(0, 99, 1024, true), 1U);
    EXPECT_EQ(request(0, ~u64{0}, 512, true), 1U);
    EXPECT_EQ(request(1, u64{1} << 55, 512, false), 1U);
    EXPECT_EQ(request(0, 0, 500, true), 1U) << "not whole sectors";
    EXPECT_EQ(request(13, 0, 512, true), 2U) << "no such request";
    EXPECT_EQ(request(4, 0, 0, false), 0U) << "flush";
    EXPECT_TRUE(image.overlay().empty());
    EXPECT_FALSE(disk.needs_reset());
    EXPECT_EQ(driver.used(0), 8);
}

TEST_F(VirtioBlockTest, its_name) {
    EXPECT_EQ(request(8, 0, 20, true), 0U);
    EXPECT_EQ(memory.text(data, 20), std::string("refhv-disk") + std::string(10, '\0'));
}

TEST_F(VirtioBlockTest, read_only) {
    VirtioBlock fixed(memory, image, true, "", {});
    Driver its(fixed, memory);
    memory.put(0x2000, u32{0});
    its.out(0x14, 0);
    EXPECT_EQ(its.in(0x10) & 0x20, 0x20U);
    its.start(1);
    EXPECT_EQ(request(1, 0, 512, false, &its), 1U);
    EXPECT_EQ(request(0, 0, 512, true, &its), 0U);
    EXPECT_TRUE(image.overlay().empty());
}

TEST_F(VirtioBlockTest, cut_in_any_way) {
    memory.put(header, u32{1});
    memory.put(header + 8, u64{2});
    memory.put_text(data, std::string(512, 'c'));
    driver.describe(0, 0, header, 5, Driver::next, 1);
    driver.describe(0, 1, header + 5, 11, Driver::next, 2);
    driver.describe(0, 2, data, 300, Driver::next, 3);
    driver.describe(0, 3, data + 300, 212, Driver::next, 4);
    driver.describe(0, 4, status, 1, Driver::writable);
    driver.offer(0, 0);
    driver.notify(0);
    EXPECT_EQ(memory.get<u8>(status), 0);
    std::vector<std::byte> got(512);
    ASSERT_TRUE(image.read(1024, got));
    EXPECT_TRUE(std::ranges::all_of(got, [](std::byte b) { return b == std::byte{'c'}; }));
}

TEST_F(VirtioBlockTest, requests_that_break_it) {
    driver.describe(0, 0, header, 16, 0); // no status
    driver.offer(0, 0);
    driver.notify(0);
    EXPECT_TRUE(disk.needs_reset());
    memory.put(0x2000, u32{0});
    driver.start(1);
    driver.describe(0, 0, header, 15, Driver::next, 1); // no whole header
    driver.describe(0, 1, status, 1, Driver::writable);
    driver.offer(0, 0);
    driver.notify(0);
    EXPECT_TRUE(disk.needs_reset());
    memory.put(0x2000, u32{0});
    driver.start(1);
    memory.put(header, u32{0});
    memory.put(header + 8, u64{0});
    driver.describe(0, 0, header, 16, Driver::next, 1);
    driver.describe(0, 1, memory.bytes.size() - 100, 513, Driver::writable); // data beyond memory
    driver.offer(0, 0);
    driver.notify(0);
    EXPECT_TRUE(disk.needs_reset());
}

TEST(BlockImageTest, a_file_that_ends_within_a_sector) {
    char path[] = "/tmp/refhv-image-XXXXXX";
    const int fd = ::mkstemp(path);
    ASSERT_GE(fd, 0);
    std::ofstream(path) << std::string(700, 'f');
    BlockImage image(BlockBase::file(path));
    EXPECT_EQ(image.sectors(), 2U);
    std::vector<std::byte> got(1024, std::byte{9});
    EXPECT_TRUE(image.read(0, got));
    EXPECT_EQ(got[699], std::byte{'f'});
    EXPECT_EQ(got[700], std::byte{});
    EXPECT_TRUE(image.write(1023, std::span(got).first(1)));
    EXPECT_FALSE(image.write(1024, std::span(got).first(1)));
    EXPECT_FALSE(image.read(1, got));
    EXPECT_FALSE(image.read(~u64{0}, std::span(got).first(2)));
    EXPECT_TRUE(image.read(0, got));
    EXPECT_EQ(got[699], std::byte{'f'}) << "the rest of the page is the base's";
    EXPECT_EQ(got[1023], std::byte{'f'});
    std::remove(path);
    EXPECT_THROW(static_cast<void>(BlockBase::file(path)), std::system_error);
    EXPECT_THROW(static_cast<void>(BlockBase::file("/")), std::system_error);
}

struct Content {
    static constexpr unsigned queues = 1;
    Content(test::FakeMemory& memory, test::Log& log)
        : device(memory, image, false, "", [&](bool level) { log.push_back(level ? 1 : 0); }) {}
    void save(std::vector<std::byte>& to) {
        const auto at = static_cast<std::ptrdiff_t>(to.size());
        to.resize(to.size() + image.sectors() * 512);
        EXPECT_TRUE(image.read(0, std::span(to).subspan(static_cast<usize>(at))));
    }
    void load(std::span<const std::byte> from) { EXPECT_TRUE(image.write(0, from)); }

    BlockImage image{BlockBase::memory(pattern(9000))};
    VirtioBlock device;
};

test::Subject subject() {
    return {.make = [](test::Log& log) { return std::make_unique<test::Rigged<Content>>(log); },
            .extent = 0x110,
            .act = [](Device& d, u64 random) { test::act_as_driver<Content>(d, random); },
            .favourites = {0x30, 0x50, 0x64}};
}

TEST(VirtioBlockRandom, survives_random_accesses) {
    test::survives_random_accesses(subject());
}
TEST(VirtioBlockRandom, survives_random_states) {
    test::survives_random_states(subject());
}
TEST(VirtioBlockRandom, goes_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(subject());
}

} // namespace
} // namespace refhv::monitor
