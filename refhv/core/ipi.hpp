// SPDX-License-Identifier: MIT
// Interrupts from one CPU of a run to another: sent, or posted.
#pragma once

#include "refhv/core/platform.hpp"

namespace refhv {

// The posted-interrupt descriptor (SDM 3C table 30-1): PIR, then a word of control bits.
struct alignas(64) PostedInterruptDescriptor {
    static constexpr u64 outstanding = 1u << 0, suppress = 1u << 1; // ON, SN
    u64 requests[4];
    u64 control; // ON, SN; 15:8 or 23:16 notification vector, 63:32 destination: of who sends, here the peer
    u64 reserved[3];

    // Posts one interrupt as a chipset would: the request, then ON if it may notify. true: the notification
    // is the caller's to send.
    [[nodiscard]] bool post(u8 vector) {
        __atomic_fetch_or(&requests[vector / 64], u64{1} << (vector % 64), __ATOMIC_SEQ_CST);
        u64 seen = __atomic_load_n(&control, __ATOMIC_SEQ_CST);
        while ((seen & (outstanding | suppress)) == 0) {
            if (__atomic_compare_exchange_n(&control, &seen, seen | outstanding, false, __ATOMIC_SEQ_CST,
                                            __ATOMIC_SEQ_CST)) {
                return true;
            }
        }
        return false;
    }
};
static_assert(sizeof(PostedInterruptDescriptor) == 64);

// Where the interrupts of a peer go, and those that its guest sends.
struct IpiTarget {
    static constexpr u32 no_cpu = ~u32{0};
    u32 cpu = no_cpu;
    PostedInterruptDescriptor* descriptor = nullptr; // null: the interrupt itself is sent
    u8 notification = 0;

    void deliver(u8 vector) const {
        if (descriptor == nullptr) {
            platform::send_interrupt(cpu, vector);
        } else if (descriptor->post(vector)) {
            platform::send_interrupt(cpu, notification);
        }
    }

    // A write of the ICR in x2APIC mode (SDM 3A 11.12.9; APM 2 16.13). false, and nothing was sent: it is no
    // fixed interrupt to this CPU alone, by its APIC ID, with a vector that may be a guest's.
    [[nodiscard]] bool send(u64 icr) const {
        constexpr u64 vector_mask = 0xff, assert_level = 1u << 14;
        const u64 vector = icr & vector_mask;
        const bool fixed = (static_cast<u32>(icr) & ~(vector_mask | assert_level)) == 0;
        if (cpu == no_cpu || !fixed || !is_guests(vector) || icr >> 32 != platform::cpu_info(cpu).apic_id) {
            return false;
        }
        deliver(static_cast<u8>(vector));
        return true;
    }

    // Below are exceptions, and the vector by which native guests end.
    [[nodiscard]] static constexpr bool is_guests(u64 vector) {
        constexpr u64 first = 33;
        return vector >= first && vector < platform::end_of_guest_vectors;
    }
};

} // namespace refhv
