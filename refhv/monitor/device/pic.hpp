// SPDX-License-Identifier: MIT
// One 8259A (Intel 8259A data sheet, 231468), without the modes of an MCS-80. Level or edge is told line by
// line, by the ELCR of later chipsets (Intel 82371AB data sheet, 290562, section 4.2.5), and not by LTIM.
#pragma once

#include "refhv/contract/types.hpp"

#include <optional>

namespace refhv::monitor {

class Pic {
  public:
    Pic(bool master, u8 level_capable);

    [[nodiscard]] u8 read(bool a0);
    void write(bool a0, u8 value);
    void set(unsigned ir, bool level);
    void set_elcr(u8 value);
    [[nodiscard]] u8 elcr() const { return elcr_; }

    // The input that INT stands for.
    [[nodiscard]] std::optional<unsigned> request() const;
    // The first INTA: the input that is now in service; none if the request has gone, which makes it a
    // spurious 7.
    [[nodiscard]] std::optional<unsigned> acknowledge();
    [[nodiscard]] u8 vector(unsigned ir) const { return static_cast<u8>(base_ | ir); }

  private:
    void initialize(u8 icw1);
    void command(u8 ocw2);
    void control(u8 ocw3);
    void write_data(u8 value);
    [[nodiscard]] std::optional<unsigned> first(u8 set) const;
    [[nodiscard]] u8 in_service() const;

    u8 master_, level_capable_;
    u8 lines_ = 0, irr_ = 0, imr_ = 0xff, isr_ = 0, elcr_ = 0, base_ = 0;
    u8 next_icw_ = 0, icw3_due_ = 0, icw4_due_ = 0; // which ICW port 1 takes; 0 for OCW1
    u8 lowest_ = 7;                                 // the input of the lowest priority
    u8 automatic_eoi_ = 0, rotating_ = 0, nested_ = 0, special_mask_ = 0;
    u8 reads_isr_ = 0, poll_ = 0;
};

} // namespace refhv::monitor
