// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/uart.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <utility>

namespace refhv::monitor {
namespace {

constexpr u8 divisor_access = 1 << 7, set_break = 1 << 6;                 // LCR
constexpr u8 fifo_enable = 1 << 0, reset_receiver = 1 << 1;               // FCR
constexpr u8 received = 1 << 0, transmitter = 1 << 1, line = 1 << 2;      // IER
constexpr u8 modem = 1 << 3;                                              // IER
constexpr u8 loopback = 1 << 4;                                           // MCR
constexpr u8 data_ready = 1 << 0, overrun = 1 << 1;                       // LSR
constexpr u8 transmitter_empty = 0x60, error_in_fifo = 1 << 7;            // LSR
constexpr u8 clear_to_send = 1 << 4, data_set_ready = 1 << 5;             // MSR
constexpr u8 ring = 1 << 6, carrier = 1 << 7;                             // MSR
constexpr u8 no_interrupt = 1, is_modem = 0, is_thr = 2, is_received = 4; // IIR
constexpr u8 is_line = 6, is_timeout = 0xc, fifos_enabled = 0xc0;         // IIR

constexpr std::array<u8, 4> trigger_levels{1, 4, 8, 14};

} // namespace

Uart::Uart(Sink sink, Line interrupt) : sink_(std::move(sink)), line_(std::move(interrupt)) {}

std::span<std::byte> Uart::state() {
    return bytes_of(state_);
}

void Uart::restored() {
    state_.head &= 15;
    state_.count = std::min<u8>(state_.count, static_cast<u8>(depth()));
}

u64 Uart::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) { return read_register(at); });
}

void Uart::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) { write_register(at, byte); });
}

u8 Uart::read_register(u64 offset) {
    const bool divisor = (state_.lcr & divisor_access) != 0;
    u8 value = 0xff;
    switch (offset) {
    case 0:
        value = divisor ? state_.divisor_low : next_character();
        break;
    case 1:
        value = divisor ? state_.divisor_high : state_.ier;
        break;
    case 2:
        value = static_cast<u8>(identification() | ((state_.fcr & fifo_enable) != 0 ? fifos_enabled : 0));
        if ((value & 0xf) == is_thr) {
            state_.thr_empty = 0;
        }
        break;
    case 3:
        value = state_.lcr;
        break;
    case 4:
        value = state_.mcr;
        break;
    case 5:
        value = line_status();
        state_.line_status = 0;
        break;
    case 6:
        value = modem_lines() | state_.modem_deltas;
        state_.modem_deltas = 0;
        break;
    case 7:
        value = state_.scratch;
        break;
    default:
        break;
    }
    update();
    return value;
}

void Uart::write_register(u64 offset, u8 value) {
    const bool divisor = (state_.lcr & divisor_access) != 0;
    switch (offset) {
    case 0:
        divisor ? void(state_.divisor_low = value) : send(value);
        break;
    case 1:
        if (divisor) {
            state_.divisor_high = value;
            break;
        }
        if ((value & transmitter) != 0 && (state_.ier & transmitter) == 0) {
            state_.thr_empty = 1; // the THR is always empty, and enabling its interrupt says so
        }
        state_.ier = value & 0xf;
        break;
    case 2:
        set_fifo_control(value);
        break;
    case 3: {
        const bool breaks = (value & set_break) != 0 && (state_.lcr & set_break) == 0;
        state_.lcr = value;
        if (breaks && (state_.mcr & loopback) != 0) {
            receive(0, break_interrupt);
        }
        break;
    }
    case 4:
        set_modem_control(value & 0x1f);
        break;
    case 7:
        state_.scratch = value;
        break;
    default: // LSR and MSR are for reading; writes to them are for factory tests
        break;
    }
    update();
}

unsigned Uart::depth() const {
    return (state_.fcr & fifo_enable) != 0 ? 16 : 1;
}

unsigned Uart::room() const {
    return (state_.mcr & loopback) != 0 ? 0 : depth() - state_.count;
}

void Uart::receive(u8 character, u8 errors) {
    if (state_.count == depth()) {
        state_.line_status |= overrun;
        if (depth() == 1) { // the holding register is overwritten, a full FIFO is not
            state_.characters[state_.head] = character;
            state_.errors[state_.head] = errors;
            reveal_errors();
        }
    } else {
        const usize at = (state_.head + state_.count) & 15;
        state_.characters[at] = character;
        state_.errors[at] = errors;
        if (state_.count++ == 0) {
            reveal_errors();
        }
    }
    update();
}

// An error shows in the LSR when its character is at the top of the FIFO.
void Uart::reveal_errors() {
    state_.line_status |= state_.errors[state_.head] & (parity_error | framing_error | break_interrupt);
    state_.errors[state_.head] = 0;
}

u8 Uart::next_character() {
    const u8 character = state_.characters[state_.head];
    if (state_.count != 0) {
        state_.head = (state_.head + 1) & 15;
        if (--state_.count != 0) {
            reveal_errors();
        }
    }
    return character;
}

void Uart::clear_receiver() {
    state_.head = state_.count = 0;
    state_.characters = state_.errors = {};
}

void Uart::send(u8 character) {
    state_.thr_empty = 0;
    update(); // the pin falls while the THR is full
    state_.thr_empty = 1;
    if ((state_.mcr & loopback) != 0) {
        receive(character);
    } else if (sink_) {
        sink_(character);
    }
}

void Uart::set_fifo_control(u8 value) {
    if ((value & fifo_enable) == 0) {
        value = 0; // the other bits are programmed with FIFOs enabled only
    }
    if (((value ^ state_.fcr) & fifo_enable) != 0 || (value & reset_receiver) != 0) {
        clear_receiver();
    }
    state_.fcr = value & 0xc9; // the resets clear themselves
}

void Uart::set_modem_control(u8 value) {
    const u8 before = modem_lines();
    state_.mcr = value;
    const u8 after = modem_lines();
    const auto changed = static_cast<u8>((before ^ after) >> 4);
    constexpr u8 ring_delta = ring >> 4;
    state_.modem_deltas |= changed & ~ring_delta;
    if ((before & ring) != 0 && (after & ring) == 0) { // trailing edge alone
        state_.modem_deltas |= ring_delta;
    }
}

// A peer that is always there; in loopback the chip's own outputs.
u8 Uart::modem_lines() const {
    if ((state_.mcr & loopback) == 0) {
        return clear_to_send | data_set_ready | carrier;
    }
    const auto out = [&](unsigned bit, u8 line) { return (state_.mcr >> bit & 1) != 0 ? line : u8{0}; };
    return static_cast<u8>(out(0, data_set_ready) | out(1, clear_to_send) | out(2, ring) | out(3, carrier));
}

u8 Uart::line_status() const {
    auto value =
        static_cast<u8>(state_.line_status | transmitter_empty | (state_.count != 0 ? data_ready : 0));
    if ((state_.fcr & fifo_enable) != 0) {
        bool any = (state_.line_status & (parity_error | framing_error | break_interrupt)) != 0;
        for (usize i = 0; i < state_.count; i++) {
            any = any || state_.errors[(state_.head + i) & 15] != 0;
        }
        value |= any ? error_in_fifo : 0;
    }
    return value;
}

u8 Uart::identification() const {
    if ((state_.ier & line) != 0 && state_.line_status != 0) {
        return is_line;
    }
    if ((state_.ier & received) != 0 && state_.count != 0) {
        const bool fifo = (state_.fcr & fifo_enable) != 0;
        return fifo && state_.count < trigger_levels[state_.fcr >> 6] ? is_timeout : is_received;
    }
    if ((state_.ier & transmitter) != 0 && state_.thr_empty != 0) {
        return is_thr;
    }
    if ((state_.ier & modem) != 0 && state_.modem_deltas != 0) {
        return is_modem;
    }
    return no_interrupt;
}

void Uart::update() {
    const bool level = identification() != no_interrupt;
    if (level != (state_.interrupt != 0)) {
        state_.interrupt = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
