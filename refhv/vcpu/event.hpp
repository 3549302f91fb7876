// SPDX-License-Identifier: MIT
// An event for a guest, in the bits that VMX and SVM have in common (SDM 3C table 25-17; APM 2 15.20), and in
// bits 13:12, which are neither's, how it is to get there.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv {

struct Event {
    static constexpr u32 valid = 1u << 31, error_valid = 1u << 11;
    enum class Type : u8 {
        interrupt = 0,
        nmi = 2,
        exception = 3,
    };

    u32 bits; // PolicyEntry::event

    [[nodiscard]] static constexpr Event of(Type type, u32 vector) {
        return {vector | static_cast<u32>(type) << 8};
    }
    [[nodiscard]] constexpr u32 vector() const { return bits & 0xff; }
    [[nodiscard]] constexpr Type type() const { return static_cast<Type>(bits >> 8 & 7); }
    [[nodiscard]] constexpr bool is_nmi() const { return type() == Type::nmi; }
    [[nodiscard]] constexpr bool has_error() const { return (bits & error_valid) != 0; }
    [[nodiscard]] constexpr abi::Delivery delivery() const {
        return static_cast<abi::Delivery>(bits >> 12 & 3);
    }
    // For the VM-entry interruption-information field or EVENTINJ.
    [[nodiscard]] constexpr u32 injection() const { return valid | (bits & 0xfff); }
};

inline constexpr Event nmi_event = Event::of(Event::Type::nmi, x86::vector::nmi);

} // namespace refhv
