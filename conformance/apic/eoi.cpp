// SPDX-License-Identifier: MIT
// VMX: EOI virtualization and the EOI-exit bitmap (SDM 3C 30.1.4), self-IPI virtualization and what a write
// of the interrupt-command register must be for it (30.1.5, 30.4.3.2), TPR virtualization against the
// threshold.
#include "conformance/apic/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;
using List = std::vector<unsigned>;
using Arrivals = std::vector<Arrival>;

namespace {

#define STORE(offset) "mov %eax, " REFHV_ASM(REFHV_APIC_ACCESS) "+" offset
GUEST(guest_eoi_by_msr, "wrmsr\n nop\n nop")
GUEST(guest_eoi_by_msr_only, "wrmsr")
GUEST(guest_eoi_by_store, STORE("0xb0") "\n nop\n nop")
GUEST(guest_eoi_by_store_only, STORE("0xb0"))
GUEST(guest_icr, STORE("0x300") "\n nop\n nop")
GUEST(guest_icr_only, STORE("0x300"))
GUEST(guest_lowers_cr8, "mov %rax, %cr8\n nop\n nop")
GUEST(guest_lowers_cr8_only, "mov %rax, %cr8")

constexpr u32 eoi_msr = 0x80b;

struct Way {
    const char* what;
    const apic::Controls& controls;
    client::GuestCode guest, only;
};
constexpr apic::Controls by_msr{apic::tpr_shadow, apic::x2apic, apic::delivery};
constexpr apic::Controls by_store{apic::tpr_shadow, apic::accesses, apic::delivery};

// VISR, highest last, and whether a lower vector waits that the EOI lets in.
struct Service {
    List in_service;
    unsigned vtpr, requested;
};

} // namespace

class ApicEoi : public Apic {
  protected:
    static void put_list(Guest& guest, u32 offset, const List& vectors) {
        for (const unsigned v : vectors) {
            apic::put(guest, offset + v / 32 * 16, 1u << v % 32); // of one word at most one
        }
    }

    static void expect_ends(const Way& way) {
        const std::vector<Service> services{{{0x41}, 0, 0},
                                            {{0x41}, 0x10, 0x35},
                                            {{0x41}, 0x35, 0x35},
                                            {{0x41, 0x61}, 0, 0x51},
                                            {{0x41, 0x61}, 0, 0x45},
                                            {{0x21, 0x41, 0xff}, 0x50, 0x6f},
                                            {{}, 0, 0x21}};
        u64 tried = 0;
        for (const Service& s : services) {
            for (const bool exits : {false, true}) {
                SCOPED_TRACE(testing::Message() << way.what << ", " << s.in_service.size()
                                                << " in service, VTPR " << s.vtpr << ", exit " << exits);
                const unsigned svi = s.in_service.empty() ? 0 : s.in_service.back();
                List rest = s.in_service;
                if (!rest.empty()) {
                    rest.pop_back();
                }
                Guest guest(host(), plan());
                guest.state.rflags = 2 | rflags_if;
                guest.state.gpr[abi::rcx] = eoi_msr;
                guest.load(way.guest);
                apic::virtualize(guest, way.controls);
                apic::handle(guest, apic::Handler::stop);
                apic::put(guest, apic::tpr, s.vtpr);
                put_list(guest, apic::isr, s.in_service);
                put_list(guest, apic::irr, s.requested == 0 ? List{} : List{s.requested});
                // What an entry would deliver at once is kept back until the EOI by asking for less.
                apic::put_status(guest, svi, s.requested);
                apic::put_eoi_exits(guest, exits ? apic::Vectors{svi} : apic::Vectors{});
                const bool at_entry = s.requested >> 4 > ppr(s.vtpr, svi) >> 4;
                if (at_entry) {
                    continue; // the EOI would not be reached first
                }
                const auto r = guest.run({});
                const unsigned left_svi = rest.empty() ? 0 : rest.back(), priority = ppr(s.vtpr, left_svi);
                const bool due = !exits && s.requested >> 4 > priority >> 4;
                if (exits) {
                    expect_exit(r, Reason::virtualized_eoi, code + way.only.size());
                    EXPECT_EQ(r.reply.exit.qualification, svi);
                    EXPECT_EQ(r.reply.exit.raw_reason, 45u);
                } else {
                    expect_stopped(r);
                }
                EXPECT_EQ(r.exceptions.count, 0u);
                EXPECT_EQ(apic::arrivals(guest),
                          due ? Arrivals({{s.requested, code + way.only.size()}}) : Arrivals());
                if (due) {
                    rest.push_back(s.requested);
                }
                EXPECT_EQ(apic::vectors_left(guest, apic::isr), rest) << "VISR";
                EXPECT_EQ(apic::svi_left(guest), due ? s.requested : left_svi) << "SVI";
                EXPECT_EQ(apic::left(guest, apic::ppr), due ? s.requested & 0xf0 : priority) << "VPPR";
                EXPECT_EQ(apic::left(guest, apic::eoi), 0u) << "VEOI";
                ++tried;
            }
        }
        combinations(tried);
    }
};

TEST_F(ApicEoi, vmx_eoi_by_msr_ends_the_highest_and_exits_by_the_bitmap) {
    claim({.sdm = "SDM 3C 28.2.1, 30.1.4, 30.5"}, [&] {
        if (const std::string why = lacking(by_msr); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_ends({"WRMSR", by_msr, guest_eoi_by_msr, guest_eoi_by_msr_only});
    });
}

TEST_F(ApicEoi, vmx_eoi_by_store_ends_the_highest_and_exits_by_the_bitmap) {
    claim({.sdm = "SDM 3C 28.2.1, 30.1.4, 30.4.3.2"}, [&] {
        if (const std::string why = lacking(by_store); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_ends({"store", by_store, guest_eoi_by_store, guest_eoi_by_store_only});
    });
}

// Every bit of VICR_LO by itself, about a self-IPI that is one.
TEST_F(ApicEoi, vmx_icr_write_is_a_self_ipi_only_in_one_form) {
    claim({.sdm = "SDM 3C 30.1.5, 30.4.3.2"}, [&] {
        if (const std::string why = lacking(by_store); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u32 to_self = 1u << 18, vector = 0x63;
        constexpr u32 must_be_0 =
            0xfff0'0000 | 1u << 19 | 3u << 16 | 1u << 13 | 1u << 12 | 1u << 15 | 7u << 8;
        std::vector<u32> values{to_self | vector, to_self | 0x10, to_self | 0xff,
                                to_self | 0x0f,   to_self,        vector};
        for (unsigned bit = 8; bit < 32; ++bit) {
            values.push_back((to_self | vector) ^ 1u << bit);
        }
        Guest guest(host(), plan());
        guest.load(guest_icr); // IF is 0, so that the request stays to be seen
        apic::virtualize(guest, by_store);
        for (const u32 value : values) {
            SCOPED_TRACE(testing::Message() << std::hex << "ICR " << value);
            guest.state.gpr[abi::rax] = value;
            apic::clear_page(guest);
            apic::put_status(guest, 0, 0);
            const auto r = guest.run({});
            const bool self = (value & to_self) != 0 && (value & must_be_0) == 0 && (value & 0xf0) != 0;
            const unsigned requested = self ? value & 0xff : 0;
            if (self) {
                expect_stopped(r);
            } else {
                expect_exit(r, Reason::apic_write, code + guest_icr_only.size());
                EXPECT_EQ(r.reply.exit.qualification, apic::icr_low);
            }
            EXPECT_EQ(apic::vectors_left(guest, apic::irr), self ? List{requested} : List{}) << "VIRR";
            EXPECT_EQ(apic::rvi_left(guest), requested) << "RVI";
            EXPECT_EQ(apic::left(guest, apic::icr_low), value) << "VICR_LO";
        }
        combinations(values.size());
    });
}

// With virtual-interrupt delivery the threshold is not looked at; a lower TPR lets the interrupt in.
TEST_F(ApicEoi, vmx_lowering_cr8_delivers_and_never_exits) {
    claim({.sdm = "SDM 3C 30.1.2, 30.3"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr unsigned requested = 0x52;
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.load(guest_lowers_cr8);
        apic::virtualize(guest, needed);
        apic::handle(guest, apic::Handler::stop);
        u64 tried = 0;
        for (const unsigned threshold : {0u, 9u, 15u}) {
            for (unsigned cr8 = 0; cr8 < 16; ++cr8) {
                SCOPED_TRACE(testing::Message() << "threshold " << threshold << ", CR8 " << cr8);
                guest.state.gpr[abi::rax] = cr8;
                apic::clear_page(guest);
                apic::forget_arrivals(guest);
                apic::put(guest, apic::tpr, 0xf0);
                apic::put_vectors(guest, apic::irr, {requested});
                apic::put_status(guest, 0, requested);
                guest.field(apic::tpr_threshold, 4, threshold);
                expect_stopped(guest.run({}));
                const bool due = requested >> 4 > cr8;
                EXPECT_EQ(apic::arrivals(guest),
                          due ? Arrivals({{requested, code + guest_lowers_cr8_only.size()}}) : Arrivals());
                EXPECT_EQ(apic::left(guest, apic::tpr), cr8 << 4) << "VTPR";
                EXPECT_EQ(apic::left(guest, apic::ppr), due ? requested & 0xf0 : cr8 << 4) << "VPPR";
                ++tried;
            }
        }
        combinations(tried);
    });
}

} // namespace refhv::front
