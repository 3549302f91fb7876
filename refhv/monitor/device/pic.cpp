// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/pic.hpp"

namespace refhv::monitor {
namespace {

constexpr u8 bit(unsigned n) {
    return static_cast<u8>(1U << (n & 7));
}
constexpr bool has(u8 value, unsigned n) {
    return (value & bit(n)) != 0;
}

constexpr unsigned cascade = 2; // where the slave is on the master

} // namespace

// Power leaves its registers undefined; here all is masked until it is initialized.
Pic::Pic(bool master, u8 level_capable) : master_(master ? 1 : 0), level_capable_(level_capable) {}

void Pic::set(unsigned ir, bool level) {
    if (has(lines_, ir) == level) {
        return;
    }
    lines_ ^= bit(ir);
    // An edge is latched, and gone again if the line falls before it is acknowledged.
    irr_ = static_cast<u8>(level ? irr_ | bit(ir) : irr_ & ~bit(ir));
}

void Pic::set_elcr(u8 value) {
    elcr_ = value & level_capable_;
    irr_ |= elcr_ & lines_;
}

// The one of highest priority.
std::optional<unsigned> Pic::first(u8 set) const {
    for (unsigned i = 1; i <= 8; i++) {
        if (has(set, lowest_ + i)) {
            return (lowest_ + i) & 7;
        }
    }
    return {};
}

// What is in service and stands in the way.
u8 Pic::in_service() const {
    auto isr = static_cast<u8>(special_mask_ != 0 ? isr_ & ~imr_ : isr_);
    if (nested_ != 0 && master_ != 0) {
        isr &= ~bit(cascade);
    }
    return isr;
}

std::optional<unsigned> Pic::request() const {
    const auto wanted = first(irr_ & ~imr_);
    const auto serving = first(in_service());
    const auto rank = [&](unsigned ir) { return (ir - lowest_ - 1) & 7; };
    if (!wanted || (serving && rank(*serving) <= rank(*wanted))) {
        return {};
    }
    return wanted;
}

std::optional<unsigned> Pic::acknowledge() {
    const auto ir = request();
    if (!ir) {
        return {};
    }
    if (!has(elcr_, *ir)) {
        irr_ &= ~bit(*ir);
    }
    if (automatic_eoi_ == 0) {
        isr_ |= bit(*ir);
    } else if (rotating_ != 0) {
        lowest_ = static_cast<u8>(*ir);
    }
    return ir;
}

u8 Pic::read(bool a0) {
    if (poll_ != 0) {
        poll_ = 0;
        const auto ir = acknowledge();
        return static_cast<u8>(ir ? 0x80 | *ir : 7);
    }
    if (a0) {
        return imr_;
    }
    return reads_isr_ != 0 ? isr_ : irr_;
}

void Pic::write(bool a0, u8 value) {
    if (a0) {
        write_data(value);
    } else if (has(value, 4)) {
        initialize(value);
    } else if (has(value, 3)) {
        control(value);
    } else {
        command(value);
    }
}

// Also ends what is in service, which the data sheet does not list and chipsets do.
void Pic::initialize(u8 icw1) {
    irr_ = lines_ & elcr_; // the edge sense is reset: an edge-triggered line must rise anew
    imr_ = isr_ = 0;
    lowest_ = 7;
    automatic_eoi_ = rotating_ = nested_ = special_mask_ = 0;
    reads_isr_ = poll_ = 0;
    next_icw_ = 2;
    icw3_due_ = has(icw1, 1) ? 0 : 1;
    icw4_due_ = icw1 & 1;
}

void Pic::write_data(u8 value) {
    switch (next_icw_) {
    case 2:
        base_ = value & 0xf8;
        next_icw_ = static_cast<u8>(icw3_due_ != 0 ? 3 : 4 * icw4_due_);
        break;
    case 3: // the wiring of a PC, whatever it says
        next_icw_ = static_cast<u8>(4 * icw4_due_);
        break;
    case 4:
        automatic_eoi_ = has(value, 1) ? 1 : 0;
        nested_ = has(value, 4) ? 1 : 0;
        next_icw_ = 0;
        break;
    default:
        imr_ = value;
        break;
    }
}

void Pic::command(u8 ocw2) {
    const bool rotate = has(ocw2, 7), specific = has(ocw2, 6), eoi = has(ocw2, 5);
    if (!specific && !eoi) {
        rotating_ = rotate ? 1 : 0;
        return;
    }
    std::optional<unsigned> ir = ocw2 & 7;
    if (!specific) { // masked ones stay under special mask mode
        ir = first(special_mask_ != 0 ? isr_ & ~imr_ : isr_);
    }
    if (!ir) {
        return;
    }
    if (eoi) {
        isr_ &= ~bit(*ir);
    }
    if (rotate) {
        lowest_ = static_cast<u8>(*ir);
    }
}

void Pic::control(u8 ocw3) {
    poll_ = has(ocw3, 2) ? 1 : 0;
    if (has(ocw3, 1)) {
        reads_isr_ = ocw3 & 1;
    }
    if (has(ocw3, 6)) {
        special_mask_ = has(ocw3, 5) ? 1 : 0;
    }
}

} // namespace refhv::monitor
