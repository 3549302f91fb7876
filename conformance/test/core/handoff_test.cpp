// SPDX-License-Identifier: MIT
// What the image takes from its loader and from the firmware: memory, root pointer, command line, console,
// reset register.
#include "conformance/test/core/firmware_tables.hpp"
#include "refhv/boot/command_line.hpp"
#include "refhv/boot/fadt.hpp"
#include "refhv/boot/handoff.hpp"
#include "refhv/boot/madt.hpp"
#include "refhv/boot/spcr.hpp"

#include <string>

namespace refhv::boot {
namespace {

constexpr u32 info_at = 0x9000;
constexpr u64 image_end = 0x30'0000;

class HandoffTest : public FirmwareTables {
  protected:
    // Multiboot 2's information: tags one after another, each at a multiple of 8.
    void tag(Multiboot2 type, const std::vector<u8>& body) {
        const u32 header[] = {static_cast<u32>(type), static_cast<u32>(8 + body.size())};
        const auto* bytes = reinterpret_cast<const u8*>(header);
        tags_.insert(tags_.end(), bytes, bytes + 8);
        tags_.insert(tags_.end(), body.begin(), body.end());
        tags_.resize((tags_.size() + 7) & ~usize{7});
    }
    static std::vector<u8> map_of(const std::vector<Multiboot2MapEntry>& entries, u32 entry_size = 24) {
        std::vector<u8> body(8 + entries.size() * entry_size);
        std::memcpy(body.data(), &entry_size, 4);
        for (usize i = 0; i < entries.size(); ++i) {
            std::memcpy(&body[8 + i * entry_size], &entries[i], sizeof entries[i]);
        }
        return body;
    }
    static std::vector<u8> text(const std::string& s) { return {s.c_str(), s.c_str() + s.size() + 1}; }
    void end() {
        tag(Multiboot2::end, {});
        std::vector<u8> info(8);
        const u32 size = static_cast<u32>(8 + tags_.size());
        std::memcpy(info.data(), &size, 4);
        info.insert(info.end(), tags_.begin(), tags_.end());
        std::memcpy(&memory_[info_at], info.data(), info.size());
    }
    [[nodiscard]] Handoff taken(u32 magic = multiboot2_magic) const {
        return read_handoff(magic, info_at, image_end, to_virtual());
    }
    [[nodiscard]] std::vector<u8> root_copy() const { return {&memory_[root], &memory_[root] + 36}; }

    std::vector<u8> tags_;
};

TEST_F(HandoffTest, memory_of_multiboot_2_is_the_largest_range_above_the_image) {
    for (const u32 entry_size : {24u, 40u}) {
        tags_.clear();
        tag(Multiboot2::command_line, text("odd"));
        tag(Multiboot2::memory_map, map_of({{0, 0x9'f000, 1, 0},
                                            {0x10'0000, 0x1000'0000, 1, 0},
                                            {0x2000'0000, 0x4000'0000, 2, 0},
                                            {0x1'0000'0000, 0x4000'0000, 1, 0}},
                                           entry_size));
        end();
        const Handoff h = taken();
        EXPECT_TRUE(h.known);
        EXPECT_EQ(h.memory.begin, image_end);
        EXPECT_EQ(h.memory.end, 0x1010'0000u);
        EXPECT_EQ(h.low.begin, page_size);
        EXPECT_EQ(h.low.end, 0x9'f000u);
        EXPECT_EQ(h.line, "odd");
    }
}

TEST_F(HandoffTest, tags_that_are_cut_short_end_the_list) {
    tag(Multiboot2::memory_map, map_of({{0x40'0000, 0x1000'0000, 1, 0}}));
    end();
    ASSERT_NE(taken().memory.bytes(), 0u);
    for (const u32 size : {0u, 7u, 0x1000u, ~0u}) { // smaller than its header; beyond the information
        std::memcpy(&memory_[info_at + 8 + 4], &size, 4);
        EXPECT_EQ(taken().memory.bytes(), 0u) << size;
    }
    tags_.clear();
    tag(Multiboot2::memory_map, map_of({{0x40'0000, 0x1000'0000, 1, 0}}, 24));
    end();
    const u32 tiny = 8; // entries too small to be entries
    std::memcpy(&memory_[info_at + 16], &tiny, 4);
    EXPECT_EQ(taken().memory.bytes(), 0u);
}

TEST_F(HandoffTest, the_root_pointer_is_the_newer_copy_and_must_sum_to_zero) {
    put_table(third, "APIC", {0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 1, 4, 1, 0, 0, 0});
    const std::vector<u8> good = root_copy();
    std::memset(&memory_[root], 0, 36); // no BIOS shows it
    std::vector<u8> bad = good;
    bad[15] ^= 1;
    const auto processors = [&] {
        u32 ids[4];
        const Handoff h = taken();
        return find_processors(h.root(to_virtual()), to_virtual(), ids);
    };
    tag(Multiboot2::acpi_1, {good.begin(), good.begin() + 20});
    end();
    EXPECT_EQ(processors(), 1u);
    tags_.clear();
    tag(Multiboot2::acpi_1, {good.begin(), good.begin() + 20});
    tag(Multiboot2::acpi_2, bad);
    end();
    EXPECT_EQ(processors(), 0u) << "the newer one counts, and it is damaged";
}

TEST_F(HandoffTest, a_command_line_comes_by_each_way) {
    const char line[] = "refhv.elf uart=2f8";
    constexpr u32 line_address = 0xa000;
    std::memcpy(&memory_[line_address], line, sizeof line);
    MultibootInfo first{};
    first.flags = 1u << 2;
    first.command_line = line_address;
    std::memcpy(&memory_[info_at], &first, sizeof first);
    EXPECT_EQ(taken(multiboot_magic).line, line);
    first.flags = 0;
    std::memcpy(&memory_[info_at], &first, sizeof first);
    EXPECT_EQ(taken(multiboot_magic).line, "") << "not valid";
    PvhInfo pvh{};
    pvh.command_line = line_address;
    std::memcpy(&memory_[info_at], &pvh, sizeof pvh);
    EXPECT_EQ(taken(pvh_magic).line, line);
    pvh.command_line = u64{1} << 32;
    std::memcpy(&memory_[info_at], &pvh, sizeof pvh);
    EXPECT_EQ(taken(pvh_magic).line, "") << "out of reach";
    EXPECT_FALSE(taken(0x1234).known);
}

TEST(CommandLineTest, the_last_word_of_a_name_counts) {
    EXPECT_EQ(word_value("refhv.elf uart=3e8 x  uart=2f8", "uart="), "2f8");
    EXPECT_EQ(word_value("xuart=1 uart", "uart="), "");
    EXPECT_EQ(word_value("uart=", "uart="), "");
    EXPECT_EQ(word_value("", "uart="), "");
}

TEST(CommandLineTest, ports_are_hexadecimal_and_a_uarts) {
    EXPECT_EQ(uart_port("2f8"), 0x2f8);
    EXPECT_EQ(uart_port("0x3E8"), 0x3e8);
    EXPECT_EQ(uart_port("fff8"), 0xfff8);
    for (const char* none : {"", "0x", "3f9", "f8", "13f80", "com2", "3f8,115200", "0"}) {
        EXPECT_EQ(uart_port(none), 0) << none;
    }
}

class SpcrTest : public FirmwareTables {
  protected:
    u16 port(u8 kind, u8 space, u64 address, usize size = 44) {
        std::vector<u8> body(44);
        body[0] = kind;
        body[4] = space;
        std::memcpy(&body[8], &address, 8);
        body.resize(size);
        put_table(third, "SPCR", body);
        return find_console_port(acpi::find_root(to_virtual()), to_virtual());
    }
};

TEST_F(SpcrTest, the_console_is_a_16550_on_ports) {
    EXPECT_EQ(port(0, 1, 0x2f8), 0x2f8);
    EXPECT_EQ(port(1, 1, 0x3e8), 0x3e8);
    EXPECT_EQ(port(0, 0, 0xfe03'0000), 0) << "in memory";
    EXPECT_EQ(port(3, 1, 0x2f8), 0) << "another UART";
    EXPECT_EQ(port(0, 1, 0x1'0000), 0) << "no port";
    EXPECT_EQ(port(0, 1, 0x20), 0) << "the interrupt controller's";
    EXPECT_EQ(port(0, 1, 0), 0) << "the firmware has it off";
    EXPECT_EQ(port(0, 1, 0x2f8, 15), 0) << "the table ends before";
    EXPECT_EQ(find_console_port(nullptr, to_virtual()), 0);
}

class FadtTest : public FirmwareTables {
  protected:
    ResetRegister found(u32 flags, u8 space, u64 address, usize size = 129) {
        std::vector<u8> whole(129);
        std::memcpy(&whole[112], &flags, 4);
        whole[116] = space;
        std::memcpy(&whole[120], &address, 8);
        whole[128] = 0x0e;
        put_table(other, "FACP", {whole.begin() + 36, whole.begin() + static_cast<std::ptrdiff_t>(size)});
        return find_reset_register(acpi::find_root(to_virtual()), to_virtual());
    }
};

TEST_F(FadtTest, the_reset_register_counts_if_it_is_a_port_and_supported) {
    constexpr u32 supported = 1u << 10;
    EXPECT_EQ(found(supported, 1, 0xcf9).port, 0xcf9);
    EXPECT_EQ(found(supported, 1, 0xcf9).value, 0x0e);
    EXPECT_EQ(found(0, 1, 0xcf9).port, 0);
    EXPECT_EQ(found(supported, 0, 0xcf9).port, 0) << "in memory";
    EXPECT_EQ(found(supported, 1, 0x1'0000).port, 0);
    EXPECT_EQ(found(supported, 1, 0xcf9, 128).port, 0) << "an old table";
}

} // namespace
} // namespace refhv::boot
