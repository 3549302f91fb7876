// SPDX-License-Identifier: MIT
// The kernel command line: words with blanks between them. Words that are nothing here are a loader's or
// somebody else's.
#pragma once

#include "refhv/contract/types.hpp"

#include <string_view>

namespace refhv::boot {

// What stands behind `name` in the last word that begins with it ("uart=" of "uart=2f8"); empty if there is
// none.
[[nodiscard]] constexpr std::string_view word_value(std::string_view line, std::string_view name) {
    std::string_view value;
    for (usize begin = 0, end = 0; begin < line.size(); begin = end + 1) {
        for (end = begin; end < line.size() && line[end] != ' '; ++end) {
        }
        usize same = 0;
        while (same < name.size() && begin + same < end && line[begin + same] == name[same]) {
            ++same;
        }
        if (same == name.size()) {
            value = {line.data() + begin + same, end - begin - same};
        }
    }
    return value;
}

// May a UART's eight ports begin there? Below 100H are the board's own devices.
[[nodiscard]] constexpr bool is_uart_port(u64 port) {
    return port >= 0x100 && port <= 0xfff8 && port % 8 == 0;
}

// The first I/O port of a UART in hexadecimal, 0x in front or not; 0: it is none.
[[nodiscard]] constexpr u16 uart_port(std::string_view text) {
    if (text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
        text.remove_prefix(2);
    }
    u32 port = 0;
    if (text.empty() || text.size() > 4) {
        return 0;
    }
    for (const char c : text) {
        const u32 lower = static_cast<u8>(c) | 0x20u;
        if (c >= '0' && c <= '9') {
            port = port * 16 + static_cast<u32>(c - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            port = port * 16 + lower - 'a' + 10;
        } else {
            return 0;
        }
    }
    return is_uart_port(port) ? static_cast<u16>(port) : u16{0};
}

} // namespace refhv::boot
