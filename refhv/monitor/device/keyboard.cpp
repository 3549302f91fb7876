// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/keyboard.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <utility>

namespace refhv::monitor {
namespace {

// Status
constexpr u8 output_full = 1 << 0, system_flag = 1 << 2, last_was_command = 1 << 3, not_inhibited = 1 << 4,
             time_out = 1 << 6;

enum Command : u8 {
    read_command_byte = 0x20,
    write_command_byte = 0x60,
    disable_auxiliary = 0xa7,
    enable_auxiliary = 0xa8,
    test_auxiliary = 0xa9,
    self_test = 0xaa,
    test_keyboard = 0xab,
    disable_keyboard = 0xad,
    enable_keyboard = 0xae,
    read_output_port = 0xd0,
    write_output_port = 0xd1,
    loop_keyboard = 0xd2,
    loop_auxiliary = 0xd3,
    to_auxiliary = 0xd4,
    pulse = 0xf0, // of the output port's bits 3:0 that are 0
};

constexpr u8 no_answer = 0xfe, clock_low = 0x01; // of a keyboard that is not there, of its interface's test
constexpr u8 keyboard_off = 1 << 4, auxiliary_off = 1 << 5, interrupts = 1 << 0; // command byte

} // namespace

Keyboard::Keyboard(std::function<void()> reset, Line interrupt)
    : reset_(std::move(reset)), line_(std::move(interrupt)) {}

std::span<std::byte> Keyboard::state() {
    return bytes_of(state_);
}

u64 Keyboard::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) -> u8 {
        if (at == data) {
            return read_data();
        }
        if (at != command) {
            return 0xff;
        }
        return static_cast<u8>(
            not_inhibited | (state_.full != 0 ? output_full : 0) | (state_.command_byte & system_flag) |
            (state_.to_command != 0 ? last_was_command : 0) | (state_.timed_out != 0 ? time_out : 0));
    });
}

void Keyboard::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) {
        if (at == data) {
            write_data(byte);
        } else if (at == command) {
            write_command(byte);
        }
    });
}

u8 Keyboard::read_data() {
    state_.full = state_.timed_out = 0;
    update();
    return state_.output;
}

void Keyboard::answer(u8 value, bool timed_out) {
    state_.output = value;
    state_.full = 1;
    state_.timed_out = timed_out ? 1 : 0;
    update();
}

void Keyboard::write_data(u8 value) {
    state_.to_command = 0;
    switch (std::exchange(state_.awaited, u8{0})) {
    case write_command_byte:
        state_.command_byte = value;
        update();
        break;
    case write_output_port:
        set_output_port(value);
        break;
    case loop_keyboard:
        answer(value);
        break;
    case loop_auxiliary: // without such an interface, its byte comes back as no byte does
        answer(0xff);
        break;
    default:
        answer(no_answer, true);
        break;
    }
}

void Keyboard::write_command(u8 value) {
    state_.to_command = 1;
    state_.awaited = 0;
    switch (value) {
    case read_command_byte:
        answer(state_.command_byte);
        break;
    case self_test:
        state_.command_byte |= system_flag;
        answer(0x55);
        break;
    case test_keyboard:
    case test_auxiliary:
        answer(clock_low);
        break;
    case read_output_port:
        answer(state_.output_port);
        break;
    case disable_keyboard:
    case disable_auxiliary:
        state_.command_byte |= value == disable_keyboard ? keyboard_off : auxiliary_off;
        break;
    case enable_keyboard:
    case enable_auxiliary:
        state_.command_byte &= static_cast<u8>(~(value == enable_keyboard ? keyboard_off : auxiliary_off));
        break;
    case write_command_byte:
    case write_output_port:
    case loop_keyboard:
    case loop_auxiliary:
    case to_auxiliary:
        state_.awaited = value;
        break;
    default:
        if (value >= pulse && (value & 1) == 0 && reset_) {
            reset_();
        }
        break;
    }
}

void Keyboard::set_output_port(u8 value) {
    state_.output_port = value;
    if ((value & 1) == 0 && reset_) {
        reset_();
    }
}

void Keyboard::update() {
    const bool level = state_.full != 0 && (state_.command_byte & interrupts) != 0;
    if (level != (state_.interrupt != 0)) {
        state_.interrupt = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
