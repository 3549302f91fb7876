// SPDX-License-Identifier: MIT
// Claims about a guest with a virtual-APIC page (apic_guest.hpp).
#pragma once

#include "conformance/intr/case.hpp"
#include "refhv/front/guests/apic_guest.hpp"

namespace refhv::front {

class Apic : public Intr {
  protected:
    [[nodiscard]] static std::string lacking(apic::Controls controls) {
        return apic::lacking(hello(), controls);
    }
    [[nodiscard]] static client::Plan plan() {
        client::Plan p;
        p.arena_pages = apic::arena_pages;
        return p;
    }
    // SDM 3C 30.1.3: the processor priority.
    [[nodiscard]] static constexpr unsigned ppr(unsigned vtpr, unsigned svi) {
        return vtpr >> 4 >= svi >> 4 ? vtpr : svi & 0xf0;
    }
};

} // namespace refhv::front
