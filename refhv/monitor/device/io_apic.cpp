// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/io_apic.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <utility>

namespace refhv::monitor {
namespace {

constexpr u64 select_at = 0x00, window_at = 0x10, eoi_at = 0x40;
constexpr u8 id = 0, version = 1, arbitration = 2, first_entry = 0x10; // by IOREGSEL

constexpr u64 remote_irr = 1 << 14, level_triggered = 1 << 15, masked = 1 << 16;
constexpr u32 low_bits = 0x1'afff, high_bits = 0xff00'0000; // of an entry, less what is for reading

Delivery delivery(u64 entry) {
    return static_cast<Delivery>(entry >> 8 & 7);
}

// All but these two are edge-triggered, whatever the entry says.
bool is_level(u64 entry) {
    const Delivery mode = delivery(entry);
    return (entry & level_triggered) != 0 && (mode == Delivery::fixed || mode == Delivery::lowest_priority);
}

} // namespace

IoApic::IoApic(Send send, u8 version) : send_(std::move(send)), version_(version) {
    state_.entries.fill(masked);
}

std::span<std::byte> IoApic::state() {
    return bytes_of(state_);
}

u64 IoApic::read(u64 offset, unsigned size) {
    const u64 at = offset & ~u64{3}, byte = offset & 3;
    u64 value = ~u64{0};
    if (at == select_at) {
        value = state_.select;
    } else if (at == window_at) {
        value = read_window();
    }
    return value >> (8 * byte) & all_ones(size);
}

void IoApic::write(u64 offset, unsigned size, u64 value) {
    if (offset == select_at) {
        state_.select = static_cast<u8>(value);
    } else if (offset == window_at && size >= 4) {
        write_window(static_cast<u32>(value));
    } else if (offset == eoi_at && version_ >= with_eoi) {
        end_of_interrupt(static_cast<u8>(value));
    }
}

u32 IoApic::read_window() const {
    switch (state_.select) {
    case id:
    case arbitration:
        return u32{state_.id} << 24;
    case version:
        return (pins - 1) << 16 | version_;
    default:
        break;
    }
    const unsigned which = state_.select - first_entry;
    if (state_.select < first_entry || which >= 2 * pins) {
        return ~u32{0};
    }
    return static_cast<u32>(state_.entries[which / 2] >> (which % 2 != 0 ? 32 : 0));
}

void IoApic::write_window(u32 value) {
    const unsigned which = state_.select - first_entry;
    if (state_.select == id) {
        state_.id = value >> 24 & 0xf;
    } else if (state_.select >= first_entry && which < 2 * pins) {
        write_entry(which / 2, which % 2 != 0, value);
    }
}

void IoApic::write_entry(unsigned pin, bool high, u32 value) {
    u64& entry = state_.entries[pin];
    if (high) {
        entry = u64{value & high_bits} << 32 | (entry & 0xffff'ffff);
        return;
    }
    entry = (entry & (u64{high_bits} << 32 | remote_irr)) | (value & low_bits);
    if (!is_level(entry)) {
        entry &= ~remote_irr; // which is how software without an EOI register ends a level
    }
    offer(pin);
}

// A level that is high is sent, until the one before has ended.
void IoApic::offer(unsigned pin) {
    u64& entry = state_.entries[pin];
    const bool high = (state_.lines >> pin & 1) != 0;
    if (high && is_level(entry) && (entry & (masked | remote_irr)) == 0) {
        entry |= remote_irr; // before it is sent: it may be ended at once
        if (!send(entry)) {
            entry &= ~remote_irr;
        }
    }
}

bool IoApic::send(u64 entry) const {
    return send_ && send_({.destination = static_cast<u32>(entry >> 56),
                           .logical = (entry >> 11 & 1) != 0,
                           .delivery = delivery(entry),
                           .vector = static_cast<u8>(entry),
                           .level = is_level(entry)});
}

void IoApic::set(unsigned pin, bool level) {
    if (pin >= pins || level == ((state_.lines >> pin & 1) != 0)) {
        return;
    }
    state_.lines ^= u32{1} << pin;
    const u64 entry = state_.entries[pin];
    if (is_level(entry)) {
        offer(pin);
    } else if (level && (entry & masked) == 0) { // an edge at a masked pin is gone
        static_cast<void>(send(entry));
    }
}

void IoApic::end_of_interrupt(u8 vector) {
    for (unsigned pin = 0; pin < pins; pin++) {
        u64& entry = state_.entries[pin];
        if ((entry & remote_irr) != 0 && static_cast<u8>(entry) == vector) {
            entry &= ~remote_irr;
            offer(pin);
        }
    }
}

bool IoApic::accepts_extint() const {
    return (state_.entries[0] & masked) == 0 && delivery(state_.entries[0]) == Delivery::external;
}

} // namespace refhv::monitor
