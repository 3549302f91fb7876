// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/pit.hpp"

#include "refhv/monitor/device/bytes.hpp"
#include "refhv/monitor/device/clock.hpp"

#include <algorithm>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u8 gate_2 = 1 << 0, writable = 0xf; // port 61H
constexpr u64 refresh = 18;                   // ticks between two refreshes of memory, 15 us

} // namespace

Pit::Pit(Line out) : line_(std::move(out)) {}

std::span<std::byte> Pit::state() {
    return bytes_of(state_);
}

void Pit::restored() {
    state_.tick = std::min(state_.tick, ticks_at(latest, hertz));
    for (PitCounter& one : state_.counters) {
        one.sanitize(state_.tick);
    }
}

void Pit::pass(Time now) {
    const u64 before = state_.tick;
    state_.tick = std::max(before, ticks_at(now, hertz));
    const auto rise = state_.counters[0].next_rise(before);
    if (rise && *rise <= state_.tick) {
        drive(false);
        drive(true);
    }
    for (PitCounter& one : state_.counters) {
        one.advance(state_.tick);
    }
    drive(state_.counters[0].out(state_.tick));
}

std::optional<Time> Pit::due() const {
    const auto rise = state_.counters[0].next_rise(state_.tick);
    return rise ? std::optional(time_of(*rise, hertz)) : std::nullopt;
}

u64 Pit::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) -> u8 {
        if (at < 3) {
            return state_.counters[at].read(state_.tick);
        }
        if (at != port_b) {
            return 0xff; // a control word is for writing
        }
        const unsigned toggle = state_.tick / refresh & 1, out = state_.counters[2].out(state_.tick) ? 1 : 0;
        return static_cast<u8>(state_.port_b | toggle << 4 | out << 5);
    });
}

void Pit::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) {
        if (at < 3) {
            state_.counters[at].write(state_.tick, byte);
        } else if (at == 3) {
            command(byte);
        } else if (at == port_b) {
            state_.port_b = byte & writable;
            state_.counters[2].set_gate(state_.tick, (byte & gate_2) != 0);
        }
    });
    drive(state_.counters[0].out(state_.tick));
}

void Pit::command(u8 word) {
    const unsigned which = word >> 6;
    if (which < 3 && (word & 0x30) != 0) {
        state_.counters[which].control(word & 0x3f);
    } else if (which < 3) {
        state_.counters[which].latch_count(state_.tick);
    } else {
        for (unsigned i = 0; i < 3; i++) {
            if ((word >> (i + 1) & 1) == 0) {
                continue;
            }
            if ((word & 0x20) == 0) {
                state_.counters[i].latch_count(state_.tick);
            }
            if ((word & 0x10) == 0) {
                state_.counters[i].latch_status(state_.tick);
            }
        }
    }
}

void Pit::drive(bool level) {
    if (level != (state_.out != 0)) {
        state_.out = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
