// SPDX-License-Identifier: MIT
// A guest's memory and the driver's side of a virtio device in it.
#pragma once

#include "refhv/monitor/device/virtio_mmio.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace refhv::monitor::test {

class FakeMemory final : public GuestMemory {
  public:
    explicit FakeMemory(usize size = 0x2'0000) : bytes(size) {}

    [[nodiscard]] bool read(u64 gpa, std::span<std::byte> to) override {
        if (!holds(gpa, to.size())) {
            return false;
        }
        std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(gpa), to.size(), to.begin());
        return true;
    }
    [[nodiscard]] bool write(u64 gpa, std::span<const std::byte> from) override {
        if (!holds(gpa, from.size())) {
            return false;
        }
        std::ranges::copy(from, bytes.begin() + static_cast<std::ptrdiff_t>(gpa));
        return true;
    }
    template <class T>
    void put(u64 gpa, T value) {
        ASSERT_TRUE(write(gpa, std::as_bytes(std::span(&value, 1))));
    }
    template <class T>
    [[nodiscard]] T get(u64 gpa) {
        T value{};
        EXPECT_TRUE(read(gpa, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }
    void put_text(u64 gpa, const std::string& text) {
        ASSERT_TRUE(write(gpa, std::as_bytes(std::span(text))));
    }
    [[nodiscard]] std::string text(u64 gpa, usize length) {
        std::string value(length, 0);
        EXPECT_TRUE(read(gpa, std::as_writable_bytes(std::span(value))));
        return value;
    }

    std::vector<std::byte> bytes;

  private:
    [[nodiscard]] bool holds(u64 gpa, u64 length) const {
        return gpa <= bytes.size() && length <= bytes.size() - gpa;
    }
};

// Queue n has its descriptors at 1000H, its available ring at 2000H, its used ring at 3000H, plus n times
// 4000H.
class Driver {
  public:
    static constexpr u16 next = 1, writable = 2, indirect = 4; // flags of descriptors
    static constexpr u16 size = 8;

    Driver(VirtioMmio& device, FakeMemory& memory) : device_(device), memory_(memory) {}

    u32 in(u64 at) { return static_cast<u32>(device_.read(at, 4)); }
    void out(u64 at, u64 value) { device_.write(at, 4, value); }

    // The whole of virtio 1.2, 3.1.1, with all that the device offers but `without`.
    void start(unsigned queues, u64 without = 0) {
        out(0x70, 0);
        out(0x70, 1);
        out(0x70, 3);
        for (const u32 half : {0, 1}) {
            out(0x14, half);
            out(0x24, half);
            out(0x20, in(0x10) & ~(without >> (32 * half)));
        }
        out(0x70, 0xb);
        EXPECT_EQ(in(0x70), 0xbU);
        for (unsigned i = 0; i < queues; i++) {
            out(0x30, i);
            out(0x38, size);
            out(0x80, 0x1000 + 0x4000 * i);
            out(0x90, 0x2000 + 0x4000 * i);
            out(0xa0, 0x3000 + 0x4000 * i);
            out(0x44, 1);
            EXPECT_EQ(in(0x44), 1U);
        }
        out(0x70, 0xf);
    }
    void describe(unsigned queue, u16 index, u64 address, u32 length, u16 flags, u16 following = 0) {
        describe_at(0x1000 + 0x4000 * queue + 16U * index, address, length, flags, following);
    }
    void describe_at(u64 at, u64 address, u32 length, u16 flags, u16 following = 0) {
        memory_.put(at, address);
        memory_.put(at + 8, length);
        memory_.put(at + 12, flags);
        memory_.put(at + 14, following);
    }
    void offer(unsigned queue, u16 head) {
        const u64 ring = 0x2000 + 0x4000 * queue;
        const auto index = memory_.get<u16>(ring + 2);
        memory_.put(ring + 4 + 2 * (index % size), head);
        memory_.put(ring + 2, static_cast<u16>(index + 1));
    }
    void notify(unsigned queue) { out(0x50, queue); }
    u16 used(unsigned queue) { return memory_.get<u16>(0x3002 + 0x4000 * queue); }
    // The last buffer that was used: its head and how much of it was written.
    std::pair<u32, u32> last_used(unsigned queue) {
        const u64 at = 0x3004 + 0x4000 * queue + 8U * ((used(queue) - 1U) % size);
        return {memory_.get<u32>(at), memory_.get<u32>(at + 4)};
    }

  private:
    VirtioMmio& device_;
    FakeMemory& memory_;
};

// A device with its memory, whose state has both.
template <class Content>
class Rigged final : public Device {
  public:
    explicit Rigged(std::vector<u64>& log) : content(memory, log) {}

    [[nodiscard]] u64 read(u64 offset, unsigned size) override { return content.device.read(offset, size); }
    void write(u64 offset, unsigned size, u64 value) override { content.device.write(offset, size, value); }
    [[nodiscard]] std::span<std::byte> state() override {
        const auto registers = content.device.state();
        buffer_.assign(registers.begin(), registers.end());
        buffer_.insert(buffer_.end(), memory.bytes.begin(), memory.bytes.end());
        content.save(buffer_);
        return buffer_;
    }
    void restored() override {
        const auto registers = content.device.state();
        std::copy_n(buffer_.begin(), registers.size(), registers.begin());
        std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(registers.size()), memory.bytes.size(),
                    memory.bytes.begin());
        content.load(std::span(buffer_).subspan(registers.size() + memory.bytes.size()));
        content.device.restored();
    }

    FakeMemory memory{0xa000};
    Content content;

  private:
    std::vector<std::byte> buffer_;
};

// A guest at work at random: mostly as a driver would, with queues set up, on descriptors that make some
// sense.
template <class Content>
void act_as_driver(Device& device, u64 random) {
    auto& rig = static_cast<Rigged<Content>&>(device);
    Driver driver(rig.content.device, rig.memory);
    const unsigned queue = random & 1;
    const auto index = static_cast<u16>(random >> 1 & 7);
    if ((random >> 4 & 31) == 0 || (rig.content.device.needs_reset() && (random >> 4 & 3) == 0)) {
        driver.out(0x70, 0);
        for (unsigned i = 0; i < 2; i++) {
            rig.memory.put(0x2000 + 0x4000 * i, u32{0});
            rig.memory.put(0x3000 + 0x4000 * i, u32{0});
        }
        driver.start(Content::queues);
        return;
    }
    const u64 address = (random >> 9 & 0xf) == 0 ? random : 0x9000 + (random >> 13 & 0xfff);
    const auto length = static_cast<u32>(random >> 25 & ((random >> 37 & 7) == 0 ? 0xffff'ffff : 0x7ff));
    const auto flags = static_cast<u16>(random >> 40 & ((random >> 43 & 7) == 0 ? 7 : 3));
    rig.memory.put(0x9000 + (random >> 46 & 0x3f) * 16, u64{random >> 52 & 9});
    driver.describe(queue, index, address, length, flags, static_cast<u16>(random >> 52 & 7));
    driver.offer(queue, static_cast<u16>(random >> 55 & 7));
    driver.notify(queue);
    driver.out(0x64, random >> 58 & 3);
}

} // namespace refhv::monitor::test
