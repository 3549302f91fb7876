// SPDX-License-Identifier: MIT
#include "refhv/monitor/board.hpp"

#include "refhv/monitor/acpi.hpp"
#include "refhv/monitor/boot/layout.hpp"

#include <algorithm>

namespace refhv::monitor {

namespace port {
constexpr u64 uart = 0x3f8, master = 0x20, slave = 0xa0, elcr = 0x4d0, pm = 0x600, pit = 0x40, port_b = 0x61, rtc = 0x70;
}
namespace irq {
constexpr unsigned timer = 0, uart = 4, rtc = 8, sci = 9;
}

const char* name_of(Ending::How how) {
    using enum Ending::How;
    switch (how) {
    case powered_off:
        return "powered off";
    case reset:
        return "reset";
    case exited:
        return "exited";
    case halted:
        return "halted";
    case stopped:
        return "stopped";
    case failed:
        return "failed";
    }
    return "?";
}

Board::Board(Options options)
    : options_(std::move(options)),
      uart_([this](u8 c) { options_.console ? options_.console(c) : void(); },
            [this](bool level) { raise(irq::uart, level); }),
      pit_([this](bool level) { raise(irq::timer, level); }),
      rtc_(options_.epoch, [this](bool level) { raise(irq::rtc, level); }) {
    rtc_.set_memory(options_.memory_bytes, 0);
    attach();
}

void Board::attach() {
    ports_.attach(port::master, 2, pic_, PicPair::master_ports);
    ports_.attach(port::slave, 2, pic_, PicPair::slave_ports);
    ports_.attach(port::elcr, 2, pic_, PicPair::elcr_ports);
    ports_.attach(port::uart, 8, uart_);
    ports_.attach(port::pit, 4, pit_);
    ports_.attach(port::port_b, 1, pit_, Pit::port_b);
    ports_.attach(port::rtc, 2, rtc_);
    devices_ = {&pic_, &uart_, &pit_, &rtc_};
}

u64 Board::place_firmware(Vm&) const {
    return 0;
}

void Board::raise(unsigned line, bool level) {
    pic_.set(line, level);
}

void Board::end(Ending::How how, int code) {
    if (end_) {
        end_(how, code);
    }
}

std::optional<Board::MsrValue> Board::read_msr(u32) {
    return {};
}

std::optional<bool> Board::write_msr(u32, u64) {
    return {};
}

bool Board::receive(u8 character) {
    if (uart_.room() == 0) {
        return false;
    }
    uart_.receive(character);
    return true;
}

void Board::pass(Time now) {
    now_ = now;
    for (Device* const d : devices_) {
        d->pass(now);
    }
}

std::optional<Time> Board::due() const {
    std::optional<Time> first;
    for (const Device* const d : devices_) {
        const auto at = d->due();
        first = at && (!first || *at < *first) ? at : first;
    }
    return first;
}

std::optional<u8> Board::interrupt() {
    return pic_.vector();
}

void Board::acknowledge() {
    (void)pic_.acknowledge();
}

} // namespace refhv::monitor
