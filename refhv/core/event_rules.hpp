// SPDX-License-Identifier: MIT
// Which events a client may ask for.
#pragma once

#include "refhv/vcpu/event.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv {

namespace detail {

// Would both vendors take it? See Action::deliver.
[[nodiscard]] constexpr bool is_event(Event event) {
    const u32 vector = event.vector();
    constexpr u32 known_bits = 0x3fff;
    constexpr u32 first_of_apic = 16; // lower vectors are illegal to it (SDM 3A 11.5.2)
    const bool with_entry = event.delivery() == abi::Delivery::with_entry;
    if ((event.bits & ~known_bits) != 0 || event.delivery() >= abi::Delivery::count_) {
        return false;
    }
    switch (event.type()) {
    case Event::Type::interrupt:
        return !event.has_error() &&
               (event.delivery() != abi::Delivery::virtually || vector >= first_of_apic);
    case Event::Type::nmi:
        return vector == x86::vector::nmi && !event.has_error() &&
               event.delivery() != abi::Delivery::virtually;
    case Event::Type::exception:
        return with_entry && vector < 32 && vector != x86::vector::nmi &&
               event.has_error() == x86::has_error_code(vector);
    default:
        return false;
    }
}

} // namespace detail

} // namespace refhv
