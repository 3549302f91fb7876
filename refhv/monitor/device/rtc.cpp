// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/rtc.hpp"

#include "refhv/monitor/device/bytes.hpp"
#include "refhv/monitor/device/clock.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u8 seconds = 0, seconds_alarm = 1, minutes = 2, minutes_alarm = 3, hours = 4, hours_alarm = 5;
constexpr u8 weekday = 6, day = 7, month = 8, year = 9, a = 10, b = 11, c = 12, d = 13, century = 0x32;

constexpr u8 set = 1 << 7, update_ended = 1 << 4, binary = 1 << 2, hours_24 = 1 << 1; // B
constexpr u8 periodic = 1 << 6, alarm = 1 << 5;                                       // B and C
constexpr u8 interrupt_request = 1 << 7;                                              // C
constexpr u8 afternoon = 1 << 7;                                                      // hours
constexpr u8 any = 0xc0;                                                              // alarms

constexpr i64 crystal = 32'768, nanoseconds = second;
constexpr i64 update_time = 1'984'000 + 244'000;                             // ns
constexpr i64 first_second = -62'167'219'200, last_second = 253'402'300'799; // of the years 0 and 9999

bool is_time(u8 index) {
    return index == seconds || index == minutes || index == hours || (index >= weekday && index <= year) ||
           index == century;
}

i64 floor_divided(i64 value, i64 by) {
    return value / by - (value % by < 0 ? 1 : 0);
}

} // namespace

Rtc::Rtc(i64 epoch, Line interrupt) : line_(std::move(interrupt)) {
    state_.calendar = std::clamp<i64>(epoch, 0, last_second);
    reg(a) = 0x26;
    reg(b) = hours_24;
    reg(d) = 0x80;
}

std::span<std::byte> Rtc::state() {
    return bytes_of(state_);
}

void Rtc::restored() {
    const auto limit = static_cast<i64>(latest);
    state_.now = std::min(state_.now, latest);
    state_.origin = std::clamp(state_.origin, -nanoseconds, limit);
    state_.calendar = std::clamp(state_.calendar, first_second - limit / nanoseconds, last_second);
    state_.weekday_offset %= 7;
    state_.index &= 0x7f;
}

void Rtc::set_memory(u64 below_4g, u64 above_4g) {
    const auto put = [&](u8 at, u64 value, u64 most) {
        for (value = std::min(value, most); most != 0; value >>= 8, most >>= 8) {
            reg(at++) = static_cast<u8>(value);
        }
    };
    constexpr u64 kilo = 1024, mega = kilo * kilo;
    const auto above = [&](u64 base, u64 unit) { return below_4g > base ? (below_4g - base) / unit : 0; };
    put(0x15, std::min(below_4g / kilo, u64{640}), 0xffff);
    put(0x17, above(mega, kilo), 0xffff);
    put(0x30, above(mega, kilo), 0xffff);
    put(0x34, above(16 * mega, 64 * kilo), 0xffff);
    put(0x5b, above_4g / (64 * kilo), 0xff'ffff);
}

bool Rtc::divider_runs() const {
    return (reg(a) >> 4 & 7) <= 2; // 110 and 111 reset it, the rest tests it
}

bool Rtc::runs() const {
    return divider_runs() && (reg(b) & set) == 0;
}

i64 Rtc::seconds_gone(Time now) const {
    return floor_divided(static_cast<i64>(now) - state_.origin, nanoseconds);
}

bool Rtc::update_in_progress() const {
    const i64 gone = static_cast<i64>(state_.now) - state_.origin;
    return runs() && gone - floor_divided(gone, nanoseconds) * nanoseconds >= nanoseconds - update_time;
}

// Of the periodic interrupt, in ticks of the crystal; 0 for none.
u64 Rtc::period() const {
    const unsigned rate = reg(a) & 0xf;
    return rate == 0 || !divider_runs() ? 0 : u64{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

// How many have ended since the divider began, as early as a second before time 0.
u64 Rtc::periods(Time now) const {
    const i64 gone = static_cast<i64>(now) - state_.origin + nanoseconds;
    const u64 one = period();
    return gone > 0 && one != 0 ? ticks_at(static_cast<u64>(gone), crystal) / one : 0;
}

void Rtc::pass(Time now) {
    const Time before = state_.now;
    now = std::clamp(now, before, std::max(before, latest));
    if (period() != 0 && periods(now) != periods(before)) {
        reg(c) |= periodic;
    }
    if (runs() && calendar(now) > calendar(before)) {
        reg(c) |= update_ended;
        const auto at = next_alarm(calendar(before));
        reg(c) |= at && *at <= calendar(now) ? alarm : 0;
    }
    state_.now = now;
    update();
}

std::optional<Time> Rtc::due() const {
    const auto wanted = static_cast<u8>(reg(b) & ~reg(c));
    std::optional<Time> first;
    const auto consider = [&](i64 at) {
        const auto time = static_cast<Time>(std::max<i64>(at, 0));
        if (time > state_.now && (!first || time < *first)) {
            first = time;
        }
    };
    if ((wanted & periodic) != 0 && period() != 0) {
        const Time ends = time_of((periods(state_.now) + 1) * period(), crystal);
        consider(static_cast<i64>(ends) - nanoseconds + state_.origin);
    }
    const auto begins = [&](i64 then) { return state_.origin + (then - state_.calendar) * nanoseconds; };
    if ((wanted & update_ended) != 0 && runs()) {
        consider(begins(calendar(state_.now) + 1));
    }
    if ((wanted & alarm) != 0 && runs()) {
        if (const auto at = next_alarm(calendar(state_.now))) {
            consider(begins(*at));
        }
    }
    return first;
}

// The first second behind `after` that the alarm's three bytes match.
std::optional<i64> Rtc::next_alarm(i64 after) const {
    const auto matches = [&](u8 index, u8 value) { return reg(index) >= any || reg(index) == value; };
    constexpr i64 whole_day = 86'400;
    for (i64 at = after + 1; at <= after + whole_day;) {
        const auto of_day = static_cast<unsigned>(at - floor_divided(at, whole_day) * whole_day);
        if (!matches(hours_alarm, encoded_hour(of_day / 3600))) {
            at += 3600 - of_day % 3600;
        } else if (!matches(minutes_alarm, encoded(of_day / 60 % 60))) {
            at += 60 - of_day % 60;
        } else if (!matches(seconds_alarm, encoded(of_day % 60))) {
            at++;
        } else {
            return at;
        }
    }
    return {};
}

u8 Rtc::encoded(unsigned value) const {
    return static_cast<u8>((reg(b) & binary) != 0 ? value : value / 10 << 4 | value % 10);
}

unsigned Rtc::decoded(u8 value) const {
    return (reg(b) & binary) != 0 ? value : (value >> 4) * 10U + (value & 0xf);
}

u8 Rtc::encoded_hour(unsigned hour) const {
    if ((reg(b) & hours_24) != 0) {
        return encoded(hour);
    }
    return static_cast<u8>(encoded(hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? afternoon : 0));
}

unsigned Rtc::decoded_hour(u8 value) const {
    if ((reg(b) & hours_24) != 0) {
        return decoded(value);
    }
    return decoded(value & 0x7f) % 12 + ((value & afternoon) != 0 ? 12 : 0);
}

// From the calendar to the bytes of the time.
void Rtc::hold() {
    const std::chrono::sys_seconds at{std::chrono::seconds(calendar(state_.now))};
    const auto date = std::chrono::floor<std::chrono::days>(at);
    const std::chrono::year_month_day parts(date);
    const std::chrono::hh_mm_ss time(at - date);
    reg(seconds) = encoded(static_cast<unsigned>(time.seconds().count()));
    reg(minutes) = encoded(static_cast<unsigned>(time.minutes().count()));
    reg(hours) = encoded_hour(static_cast<unsigned>(time.hours().count()));
    const unsigned days = std::chrono::weekday(date).c_encoding() + state_.weekday_offset;
    reg(weekday) = encoded(days % 7 + 1);
    reg(day) = encoded(static_cast<unsigned>(parts.day()));
    reg(month) = encoded(static_cast<unsigned>(parts.month()));
    const auto years = static_cast<unsigned>(std::max(0, static_cast<int>(parts.year())));
    reg(year) = encoded(years % 100);
    reg(century) = static_cast<u8>(years / 1000 % 10 << 4 | years / 100 % 10); // decimal in either format
}

// And back; a date that is none becomes one that is.
void Rtc::release() {
    using namespace std::chrono;
    const unsigned hundreds = (reg(century) >> 4) * 10U + (reg(century) & 0xf);
    const auto years = static_cast<int>(std::min(hundreds, 99U) * 100 + std::min(decoded(reg(year)), 99U));
    const auto first =
        sys_days(std::chrono::year(years) / std::chrono::month(std::clamp(decoded(reg(month)), 1U, 12U)) / 1);
    const sys_days date = first + days(std::clamp(decoded(reg(day)), 1U, 31U) - 1);
    const auto of_day = decoded_hour(reg(hours)) * 3600 + decoded(reg(minutes)) * 60 + decoded(reg(seconds));
    state_.calendar = sys_seconds(date).time_since_epoch().count() + of_day - seconds_gone(state_.now);
    const unsigned wanted = decoded(reg(weekday)) + 6, has = std::chrono::weekday(date).c_encoding();
    state_.weekday_offset = static_cast<u8>((wanted + 7 - has) % 7);
}

u64 Rtc::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) -> u8 {
        if (at != 1) {
            return 0xff; // the index is for writing
        }
        if (is_time(state_.index) && runs()) {
            hold();
        }
        u8 value = reg(state_.index);
        if (state_.index == a) {
            value = static_cast<u8>((value & 0x7f) | (update_in_progress() ? 0x80 : 0));
        } else if (state_.index == c) {
            reg(c) = 0;
            update();
        }
        return value;
    });
}

void Rtc::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) {
        if (at == 0) {
            state_.index = byte & 0x7f; // bit 7 masks NMIs
        } else if (at == 1) {
            write_data(byte);
        }
    });
}

void Rtc::write_data(u8 value) {
    const u8 index = state_.index;
    if (index == a) {
        set_divider(value & 0x7f);
    } else if (index == b) {
        set_control(value);
    } else if (is_time(index) && runs()) {
        hold();
        reg(index) = value;
        release();
    } else if (index != c && index != d) {
        reg(index) = value;
    }
    update();
}

void Rtc::set_divider(u8 value) {
    const bool ran = divider_runs();
    if (ran && runs()) {
        hold();
    }
    reg(a) = value;
    if (!ran && divider_runs()) { // the first update comes half a second later
        state_.origin = static_cast<i64>(state_.now) - nanoseconds / 2;
    }
    if (runs()) {
        release();
    }
}

void Rtc::set_control(u8 value) {
    if (runs()) {
        hold();
    }
    const bool format = ((value ^ reg(b)) & (binary | hours_24)) != 0, ran = runs();
    reg(b) = static_cast<u8>((value & set) != 0 ? value & ~update_ended : value);
    if (runs() && !(ran && format)) { // a running time is in the new format when it is read next
        release();
    }
}

void Rtc::update() {
    const bool level = (reg(b) & reg(c) & (periodic | alarm | update_ended)) != 0;
    reg(c) = static_cast<u8>((reg(c) & ~interrupt_request) | (level ? interrupt_request : 0));
    if (level != (state_.interrupt != 0)) {
        state_.interrupt = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
