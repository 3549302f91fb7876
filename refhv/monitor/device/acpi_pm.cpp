// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/acpi_pm.hpp"

#include "refhv/monitor/device/bytes.hpp"
#include "refhv/monitor/device/clock.hpp"

#include <algorithm>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u16 timer_status = 1 << 0, power_button = 1 << 8;
constexpr u16 enables = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 10; // timer, global, buttons, RTC
constexpr u16 sci_enable = 1 << 0, sleep_enable = 1 << 13;
constexpr u16 kept = 1 << 1 | 7 << 10; // bus master reload, sleep type
constexpr u64 half = u64{1} << 31;     // the timer's highest bit changes each time

} // namespace

AcpiPm::AcpiPm(Sleep sleep, Line interrupt) : sleep_(std::move(sleep)), line_(std::move(interrupt)) {
    state_.control = sci_enable;
}

std::span<std::byte> AcpiPm::state() {
    return bytes_of(state_);
}

void AcpiPm::restored() {
    state_.tick = std::min(state_.tick, ticks_at(latest, hertz));
}

void AcpiPm::pass(Time now) {
    const u64 before = state_.tick;
    state_.tick = std::max(before, ticks_at(now, hertz));
    if (before / half != state_.tick / half) {
        state_.status |= timer_status;
    }
    update();
}

std::optional<Time> AcpiPm::due() const {
    if ((state_.enable & ~state_.status & timer_status) == 0) {
        return {};
    }
    return time_of((state_.tick / half + 1) * half, hertz);
}

u64 AcpiPm::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) -> u8 {
        const auto of = [&](u64 value, u64 base) { return static_cast<u8>(value >> (8 * (at - base))); };
        if (at < event + 2) {
            return of(state_.status, event);
        }
        if (at < control) {
            return of(state_.enable, event + 2);
        }
        if (at < timer) { // the upper half of the control register's four bytes is PM1b's or nobody's
            return at < control + 2 ? of(state_.control, control) : u8{0};
        }
        return at < length ? of(state_.tick & 0xffff'ffff, timer) : u8{0xff};
    });
}

void AcpiPm::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) { write_register(at, byte); });
    update();
}

void AcpiPm::write_register(u64 offset, u8 value) {
    const unsigned shift = 8 * (offset & 1);
    const auto bits = static_cast<u16>(value << shift), byte = static_cast<u16>(0xff << shift);
    if (offset < event + 2) { // ones clear
        state_.status &= ~bits;
    } else if (offset < control) {
        state_.enable = static_cast<u16>((state_.enable & ~byte) | (bits & enables));
    } else if (offset < control + 2) {
        state_.control = static_cast<u16>((state_.control & ~byte) | (bits & kept) | sci_enable);
        if ((bits & sleep_enable) != 0 && sleep_) {
            sleep_(static_cast<u8>(state_.control >> 10 & 7));
        }
    }
}

void AcpiPm::press_power_button() {
    state_.status |= power_button;
    update();
}

void AcpiPm::update() {
    const bool level = (state_.status & state_.enable) != 0;
    if (level != (state_.interrupt != 0)) {
        state_.interrupt = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
