// SPDX-License-Identifier: MIT
// What a local APIC does with interrupts; local_apic_registers.cpp has its registers.
#include "refhv/monitor/device/local_apic.hpp"

#include "refhv/monitor/device/bytes.hpp"
#include "refhv/monitor/device/clock.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u32 masked = 1 << 16;

std::optional<u8> highest(const std::array<u32, 8>& vectors) {
    for (unsigned i = 8; i-- > 0;) {
        if (vectors[i] != 0) {
            return static_cast<u8>(32 * i + 31 - static_cast<unsigned>(std::countl_zero(vectors[i])));
        }
    }
    return {};
}

void put(std::array<u32, 8>& vectors, u8 vector, bool value) {
    const u32 bit = u32{1} << (vector % 32);
    u32& word = vectors[vector / 32];
    word = value ? word | bit : word & ~bit;
}

bool has(const std::array<u32, 8>& vectors, u8 vector) {
    return (vectors[vector / 32] >> (vector % 32) & 1) != 0;
}

} // namespace

LocalApic::LocalApic(Outside outside) : outside_(std::move(outside)) {
    state_.base = 0xfee0'0000 | 1 << 11 | 1 << 8;
    reset();
}

std::span<std::byte> LocalApic::state() {
    return bytes_of(state_);
}

void LocalApic::restored() {
    state_.now = std::min(state_.now, latest);
    state_.count.sanitize(state_.now);
}

// All but where it is, and what its pins are at.
void LocalApic::reset() {
    State fresh;
    fresh.base = state_.base;
    fresh.now = state_.now;
    fresh.pins = state_.pins;
    fresh.dfr = ~u32{0};
    fresh.svr = 0xff;
    fresh.lvt.fill(masked);
    state_ = fresh;
}

void LocalApic::virtual_wire() {
    state_.svr = 0x1ff;
    state_.lvt[lint0] = u32{static_cast<u8>(Delivery::external)} << 8;
    state_.lvt[lint1] = u32{static_cast<u8>(Delivery::nmi)} << 8;
}

u8 LocalApic::processor_priority() const {
    const u8 serving = highest(state_.isr).value_or(0);
    return static_cast<u8>(state_.tpr >> 4 >= serving >> 4 ? state_.tpr : serving & 0xf0);
}

std::optional<u8> LocalApic::pending() const {
    const auto wanted = highest(state_.irr);
    return enabled() && wanted && *wanted >> 4 > processor_priority() >> 4 ? wanted : std::nullopt;
}

u8 LocalApic::acknowledge() {
    const auto vector = pending();
    if (!vector) {
        return static_cast<u8>(state_.svr);
    }
    put(state_.irr, *vector, false);
    put(state_.isr, *vector, true);
    return *vector;
}

bool LocalApic::deliver(u8 vector, bool level) {
    if (!enabled() || !software_enabled()) {
        return false;
    }
    if (vector < 16) {
        raise(receive_illegal);
        return false;
    }
    put(state_.irr, vector, true);
    put(state_.tmr, vector, level);
    return true;
}

void LocalApic::end_of_interrupt() {
    const auto vector = highest(state_.isr);
    if (!vector) {
        return;
    }
    put(state_.isr, *vector, false);
    if (has(state_.tmr, *vector) && outside_.end_of_interrupt) {
        outside_.end_of_interrupt(*vector);
    }
}

u32 LocalApic::logical_id() const {
    return x2apic() ? (outside_.id >> 4) << 16 | u32{1} << (outside_.id & 0xf) : state_.ldr >> 24;
}

bool LocalApic::is_for_me(u32 destination, bool logical) const {
    const u32 everyone = x2apic() ? ~u32{0} : 0xff;
    if (destination == everyone) {
        return true;
    }
    if (!logical) {
        return destination == (x2apic() ? outside_.id : outside_.id & 0xff);
    }
    const u32 me = logical_id();
    if (x2apic()) {
        return destination >> 16 == me >> 16 && (destination & me & 0xffff) != 0;
    }
    if (state_.dfr >> 28 == 0xf) { // flat
        return (destination & me) != 0;
    }
    return destination >> 4 == me >> 4 && (destination & me & 0xf) != 0; // cluster
}

bool LocalApic::receive(const ApicMessage& message) {
    if (!enabled() || !is_for_me(message.destination, message.logical)) {
        return false;
    }
    switch (message.delivery) {
    case Delivery::fixed:
    case Delivery::lowest_priority:
        return deliver(message.vector, message.level);
    case Delivery::smi:
    case Delivery::nmi:
    case Delivery::init:
    case Delivery::startup:
        if (outside_.signal) {
            outside_.signal(message.delivery, message.vector);
        }
        return true;
    default:
        return false;
    }
}

void LocalApic::write_icr(u64 value) {
    state_.icr = value & ~u64{1 << 12}; // a message is sent when it is written
    const unsigned shorthand = value >> 18 & 3;
    const bool asserted = (value >> 14 & 1) != 0, level = (value >> 15 & 1) != 0;
    ApicMessage message{.destination = static_cast<u32>(x2apic() ? value >> 32 : value >> 56),
                        .logical = (value >> 11 & 1) != 0,
                        .delivery = static_cast<Delivery>(value >> 8 & 7),
                        .vector = static_cast<u8>(value)};
    const bool vectored =
        message.delivery == Delivery::fixed || message.delivery == Delivery::lowest_priority;
    if (vectored && message.vector < 16) {
        raise(send_illegal);
        return;
    }
    if (shorthand == 3 || (message.delivery == Delivery::init && level && !asserted)) {
        return; // nobody else is there; and an INIT's end is not told to later CPUs
    }
    if (shorthand != 0) {
        message.destination = x2apic() ? ~u32{0} : 0xff;
    }
    static_cast<void>(receive(message));
}

bool LocalApic::accepts_extint() const {
    const u32 entry = state_.lvt[lint0];
    return !enabled() || (entry & (masked | 0x700)) == u32{static_cast<u8>(Delivery::external)} << 8;
}

void LocalApic::set_lint(unsigned pin, bool level) {
    if (pin > 1 || level == ((state_.pins >> pin & 1) != 0)) {
        return;
    }
    state_.pins ^= static_cast<u8>(1 << pin);
    if (!level) {
        return;
    }
    if (enabled()) {
        fire(pin == 0 ? lint0 : lint1);
    } else if (pin == 1 && outside_.signal) { // LINT1 is NMI then, LINT0 is INTR
        outside_.signal(Delivery::nmi, 0);
    }
}

// What an entry of the local vector table asks for happens.
void LocalApic::fire(Lvt entry) {
    const u32 value = state_.lvt[entry];
    if ((value & masked) != 0) {
        return;
    }
    const auto delivery =
        entry == timer || entry == error ? Delivery::fixed : static_cast<Delivery>(value >> 8 & 7);
    if (delivery == Delivery::fixed) {
        static_cast<void>(deliver(static_cast<u8>(value), false));
    } else if (delivery == Delivery::nmi || delivery == Delivery::smi || delivery == Delivery::init) {
        if (outside_.signal) {
            outside_.signal(delivery, static_cast<u8>(value));
        }
    }
}

void LocalApic::raise(u8 errors) {
    const bool more = (errors & ~state_.errors) != 0;
    state_.errors |= errors;
    if (more) { // so one error's own illegal vector ends here
        fire(error);
    }
}

void LocalApic::pass(Time now) {
    state_.now = std::clamp(now, state_.now, std::max(state_.now, latest));
    if (state_.count.pass(state_.now)) {
        fire(timer);
    }
}

std::optional<Time> LocalApic::due() const {
    return enabled() && (state_.lvt[timer] & masked) == 0 ? state_.count.due() : std::nullopt;
}

void LocalApic::write_deadline(u64 tsc) {
    if (state_.count.mode() == ApicTimer::tsc_deadline) {
        state_.count.set_deadline(tsc, outside_.time_of_tsc && tsc != 0 ? outside_.time_of_tsc(tsc) : 0);
        pass(state_.now); // it may have gone by
    }
}

} // namespace refhv::monitor
