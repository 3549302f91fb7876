// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/pic_pair.hpp"

#include "refhv/monitor/device/bytes.hpp"

namespace refhv::monitor {

std::span<std::byte> PicPair::state() {
    return bytes_of(chips_);
}

void PicPair::set(unsigned irq, bool level) {
    if (irq < 16 && irq != 2) {
        chips_[irq / 8].set(irq % 8, level);
        cascade();
    }
}

void PicPair::cascade() {
    chips_[0].set(2, chips_[1].request().has_value());
}

std::optional<u8> PicPair::vector() const {
    const auto ir = chips_[0].request();
    if (ir != 2U) {
        return ir ? std::optional(chips_[0].vector(*ir)) : std::nullopt;
    }
    return chips_[1].vector(chips_[1].request().value_or(7));
}

u8 PicPair::acknowledge() {
    const auto ir = chips_[0].acknowledge();
    if (ir != 2U) {
        return chips_[0].vector(ir.value_or(7));
    }
    const auto slave = chips_[1].acknowledge();
    chips_[0].set(2, false); // INT falls at INTA, and rises again if there is more
    cascade();
    return chips_[1].vector(slave.value_or(7));
}

u64 PicPair::read(u64 offset, unsigned size) {
    const u64 value = read_bytes(offset, size, [&](u64 at) -> u8 {
        if (at < elcr_ports) {
            return chips_[at / 2].read(at % 2 != 0);
        }
        return at < elcr_ports + 2 ? chips_[at % 2].elcr() : u8{0xff};
    });
    cascade(); // a poll acknowledges
    return value;
}

void PicPair::write(u64 offset, unsigned size, u64 value) {
    write_bytes(offset, size, value, [&](u64 at, u8 byte) {
        if (at < elcr_ports) {
            chips_[at / 2].write(at % 2 != 0, byte);
        } else if (at < elcr_ports + 2) {
            chips_[at % 2].set_elcr(byte);
        }
    });
    cascade();
}

} // namespace refhv::monitor
