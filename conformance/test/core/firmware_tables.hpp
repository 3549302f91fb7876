// SPDX-License-Identifier: MIT
// A megabyte of memory with ACPI's tables in it, as a BIOS lays them out.
#pragma once

#include "refhv/boot/acpi.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace refhv::boot {

class FirmwareTables : public ::testing::Test {
  protected:
    static constexpr u64 root = 0xf'5000, rsdt = 0x8'0000, other = 0x8'1000, third = 0x8'2000;

    FirmwareTables() : memory_(1 << 20) {
        put_table(rsdt, "RSDT", words({static_cast<u32>(other), static_cast<u32>(third)}));
        put_table(other, "FACP", std::vector<u8>(8));
        put_root(root);
    }

    static std::vector<u8> words(const std::vector<u32>& list) {
        std::vector<u8> bytes(4 * list.size());
        std::memcpy(bytes.data(), list.data(), bytes.size());
        return bytes;
    }
    void seal(u64 at, usize size, u64 checksum) {
        u8 sum = 0;
        memory_[checksum] = 0;
        for (usize i = 0; i < size; ++i) {
            sum = static_cast<u8>(sum + memory_[at + i]);
        }
        memory_[checksum] = static_cast<u8>(-sum);
    }
    void put_table(u64 at, const char* signature, const std::vector<u8>& body) {
        const u32 size = static_cast<u32>(36 + body.size());
        std::memcpy(&memory_[at], signature, 4);
        std::memcpy(&memory_[at + 4], &size, 4);
        std::memcpy(&memory_[at + 36], body.data(), body.size());
        seal(at, size, at + 9);
    }
    void put_root(u64 at) {
        const u32 address = rsdt;
        std::memcpy(&memory_[at], "RSD PTR ", 8);
        std::memcpy(&memory_[at + 16], &address, 4);
        seal(at, 20, at + 8);
    }
    [[nodiscard]] auto to_virtual() const {
        return [this](u64 physical) { return memory_.data() + physical; };
    }

    std::vector<u8> memory_;
};

} // namespace refhv::boot
