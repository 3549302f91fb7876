// SPDX-License-Identifier: MIT
// Where boot protocols put what is theirs, below 1 MByte; and what they share.
#pragma once

#include "refhv/monitor/boot/boot.hpp"

#include <cstring>

namespace refhv::monitor {

namespace low {
inline constexpr u64 gdt = 0x500;
inline constexpr u64 information = 0x1000; // of the protocol: boot_params, Multiboot information, start info
inline constexpr u64 lists = 0x3000;       // that it points to
inline constexpr u64 command_line = 0x4000;
inline constexpr u64 most_command_line = 2048;
inline constexpr u64 page_tables = 0x8000; // six pages
inline constexpr u64 stack = 0x7'0000;
inline constexpr u64 video = 0xa'0000; // from here to 1 MByte there is no memory, as on a PC
inline constexpr u64 firmware = 0xe'0000;
inline constexpr u64 high = 0x10'0000;
} // namespace low

// Writes bytes that must lie in memory. Throws BadImage, naming what does not fit.
void place(Vm& vm, u64 gpa, std::span<const u8> bytes, const char* what);

template <class T>
void place_object(Vm& vm, u64 gpa, const T& object, const char* what) {
    static_assert(std::is_trivially_copyable_v<T>);
    place(vm, gpa, {reinterpret_cast<const u8*>(&object), sizeof object}, what);
}

// The command line at low::command_line, NUL-terminated. Throws BadImage where it is too long.
void place_command_line(Vm& vm, const std::string& text);
// Page-aligned, as high as memory below `limit` and 4 GBytes allows; its address.
u64 place_high(Vm& vm, std::span<const u8> bytes, u64 limit, const char* what);

// Bytes as an object; nothing where they end before it does.
template <class T>
[[nodiscard]] std::optional<T> object_at(std::span<const u8> bytes, u64 at) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (at > bytes.size() || bytes.size() - at < sizeof(T)) {
        return {};
    }
    T out;
    std::memcpy(&out, bytes.data() + at, sizeof out);
    return out;
}

[[nodiscard]] bool is_linux(std::span<const u8> kernel);
// Where the Multiboot header is.
[[nodiscard]] std::optional<u64> multiboot_header(std::span<const u8> kernel);

} // namespace refhv::monitor
