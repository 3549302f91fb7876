// SPDX-License-Identifier: MIT
// How a request is told that the platform does not permit something.
#pragma once

#include "refhv/contract/status.hpp"
#include "refhv/core/platform.hpp"

namespace refhv {

[[nodiscard]] constexpr Status refuse(Permit item) {
    constexpr const char* texts[] = {
        "this platform does not permit `interrupts`: guests where its own would not exit",
        "this platform does not permit `exceptions`: guests that keep #DB and #AC to themselves",
        "this platform does not permit `machine_checks` that are the guest's alone",
        "this platform does not permit `cache_control` by CR0 or INVD",
        "this platform does not permit `control_bits` of CR4 whose features use its MSRs",
        "this platform does not permit `xcr0` without an exit",
        "this platform does not permit `world_switch`: controls at which it loses registers or memory",
        "this platform does not permit `host_msrs` to change",
        "this platform does not permit `native_guests`: they would own its CPU",
        "this platform does not permit `host_fields`: they hold its own state",
        "this platform does not permit `physical_addresses` other than those of guest memory",
        "this platform does not permit `translations` other than the VM's own",
        "this platform does not permit `msr_lists` of the CPU's",
        "this platform does not permit `permission_maps` other than the core's",
        "this platform does not permit `deaf_guests`, for which its CPU takes no interrupts",
        "this platform does not permit `unlisted_fields`",
        "this platform does not permit `host_vectors`: interrupts of these vectors may be its own",
        "this platform does not permit `peer_nmis`",
        "this platform does not permit `shutdown`",
    };
    static_assert(sizeof texts / sizeof texts[0] == static_cast<u8>(Permit::count_));
    static_assert([&] { // each by the name that the greeting's readers know
        for (usize i = 0; i < static_cast<u8>(Permit::count_); ++i) {
            const char* at = texts[i];
            while (*at != '`') {
                ++at;
            }
            const char* name = abi::permit_names[i];
            for (++at; *name != 0; ++at, ++name) {
                if (*at != *name) {
                    return false;
                }
            }
            if (*at != '`') {
                return false;
            }
        }
        return true;
    }());
    return {abi::Outcome::unsupported, texts[static_cast<u8>(item)]};
}

// Ok, or the refusal.
[[nodiscard]] inline Status need(Permit item) {
    return platform::permissions().has(item) ? Status{} : refuse(item);
}

} // namespace refhv
