// SPDX-License-Identifier: MIT
// VMX: virtual-interrupt delivery (SDM 3C 30.2): what an entry recognizes, what holds a recognized interrupt
// back, and what delivery leaves on the virtual-APIC page.
#include "conformance/apic/case.hpp"

namespace refhv::front {

using client::Guest;
using client::layout::code;

namespace {

GUEST(guest_idle_nops, "nop\n nop\n nop")

constexpr unsigned lower = 0x20; // pending besides, so that RVI has somewhere to go

} // namespace

class ApicDelivery : public Apic {
  protected:
    static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};

    // The priorities at an entry; `rvi` and `lower` are requested, `svi` is in service.
    static void set(Guest& guest, unsigned rvi, unsigned svi, unsigned vtpr) {
        apic::clear_page(guest);
        apic::put(guest, apic::tpr, vtpr);
        apic::put_vectors(guest, apic::irr, {rvi, lower});
        if (svi != 0) {
            apic::put_vectors(guest, apic::isr, {svi});
        }
        apic::put_status(guest, svi, rvi);
        apic::forget_arrivals(guest);
    }
};

TEST_F(ApicDelivery, vmx_entry_delivers_what_is_above_the_processor_priority) {
    claim({.sdm = "SDM 3C 30.1.3, 30.2.1, 30.2.2"}, [&] {
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_idle_nops);
        apic::virtualize(guest, needed);
        apic::handle(guest, apic::Handler::stop);
        u64 tried = 0;
        for (const unsigned rvi : {0x21u, 0x2fu, 0x30u, 0x51u, 0xefu, 0xffu}) {
            for (const unsigned svi : {0u, 0x1fu, 0x20u, 0x2fu, 0x30u, 0x5fu, 0xf0u}) {
                for (const unsigned vtpr : {0u, 0x0fu, 0x1fu, 0x20u, 0x2fu, 0x50u, 0xefu, 0xf0u}) {
                    SCOPED_TRACE(testing::Message()
                                 << std::hex << "RVI " << rvi << ", SVI " << svi << ", VTPR " << vtpr);
                    set(guest, rvi, svi, vtpr);
                    expect_stopped(guest.run({}));
                    const unsigned priority = ppr(vtpr, svi);
                    const bool due = rvi >> 4 > priority >> 4;
                    using List = std::vector<unsigned>;
                    const List requests = rvi == lower ? List{lower} : List{lower, rvi};
                    List services = svi == 0 ? List{} : List{svi};
                    if (due) {
                        services.push_back(rvi);
                    }
                    EXPECT_EQ(apic::arrivals(guest),
                              due ? std::vector<Arrival>({{rvi, code}}) : std::vector<Arrival>());
                    EXPECT_EQ(apic::vectors_left(guest, apic::irr), due ? List{lower} : requests) << "VIRR";
                    EXPECT_EQ(apic::vectors_left(guest, apic::isr), services) << "VISR";
                    EXPECT_EQ(apic::left(guest, apic::ppr), due ? rvi & 0xf0 : priority) << "VPPR";
                    EXPECT_EQ(apic::svi_left(guest), due ? rvi : svi) << "SVI";
                    EXPECT_EQ(apic::rvi_left(guest), due ? lower : rvi) << "RVI";
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
