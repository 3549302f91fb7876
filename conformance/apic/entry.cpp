// SPDX-License-Identifier: MIT
// VMX: controls of the virtual APIC that do not go together, and addresses that cannot be: VM entries that
// are refused (SDM 3C 27.2.1.1).
#include "conformance/apic/case.hpp"

namespace refhv::front {

using client::Guest;

namespace {

GUEST(guest_enters, "nop")

constexpr u32 invalid_control_fields = 7; // SDM 3C 31.4

struct Clash {
    const char* what;
    apic::Controls offered; // what the CPU must have for the clash to be one
    apic::Controls set;
    u32 field = 0; // written besides: an address, from that of the virtual-APIC page
    u64 set_bits = 0;
};

} // namespace

class ApicEntry : public Apic {
  protected:
    static bool enters(const Clash& c, bool spoilt) {
        Guest guest(host(), plan());
        guest.load(guest_enters);
        apic::virtualize(guest, c.set);
        if (c.field == vmcs::pin_controls) {
            if (spoilt) {
                change(guest, c.field, 0, c.set_bits);
            }
        } else if (c.field != 0) {
            const u64 value = c.field == apic::tpr_threshold ? 0 : guest.host_physical(apic::page);
            guest.field(c.field, 8, value | (spoilt ? c.set_bits : 0));
        }
        const auto r = guest.run({});
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
        if (r.outcome != abi::Outcome::entry_refused) {
            expect_stopped(r);
            return true;
        }
        EXPECT_EQ(r.reply.refusal.instruction_error, invalid_control_fields);
        return false;
    }
};

TEST_F(ApicEntry, vmx_controls_that_need_a_tpr_shadow_are_error_7_without) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        static constexpr apic::Controls x2apic{apic::x2apic}, registers{apic::registers},
            delivery{apic::delivery};
        u64 tried = 0;
        for (const apic::Controls& set : {x2apic, registers, delivery}) {
            if (!lacking({apic::tpr_shadow}).empty() || !lacking(set).empty()) {
                continue;
            }
            SCOPED_TRACE(set.begin()->name);
            EXPECT_FALSE(enters({"", set, set}, false));
            ++tried;
        }
        if (tried == 0) {
            GTEST_SKIP() << lacking({apic::tpr_shadow, apic::x2apic});
        }
        combinations(tried);
    });
}

TEST_F(ApicEntry, vmx_x2apic_mode_and_apic_accesses_exclude_each_other) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        static constexpr apic::Controls both{apic::tpr_shadow, apic::accesses, apic::x2apic};
        if (const std::string why = lacking(both); !why.empty()) {
            GTEST_SKIP() << why;
        }
        EXPECT_FALSE(enters({"", both, both}, false));
    });
}

TEST_F(ApicEntry, vmx_interrupt_delivery_needs_external_interrupt_exiting) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::delivery};
        constexpr u64 external_interrupt = 1;
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        EXPECT_TRUE(enters({"", needed, needed, vmcs::pin_controls, external_interrupt}, false));
        EXPECT_FALSE(enters({"", needed, needed, vmcs::pin_controls, external_interrupt}, true));
    });
}

TEST_F(ApicEntry, vmx_addresses_of_its_pages_are_aligned_and_physical) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        static constexpr apic::Controls shadow{apic::tpr_shadow}, accesses{apic::accesses};
        const u64 beyond = u64{1} << (cpuid(hello(), 0x8000'0008, 0, 0) & 0xff);
        u64 tried = 0;
        for (const u64 bits : {u64{1}, u64{0x800}, beyond, u64{1} << 63}) {
            for (const Clash& c :
                 {Clash{"virtual-APIC address", shadow, shadow, apic::virtual_apic_address, bits},
                  Clash{"APIC-access address", accesses, accesses, apic::access_address, bits}}) {
                if (!lacking(c.offered).empty()) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << c.what << std::hex << " with " << bits);
                EXPECT_TRUE(enters(c, false));
                EXPECT_FALSE(enters(c, true));
                ++tried;
            }
        }
        if (tried == 0) {
            GTEST_SKIP() << lacking(shadow);
        }
        combinations(tried);
    });
}

TEST_F(ApicEntry, vmx_threshold_has_four_bits_but_under_interrupt_delivery) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        static constexpr apic::Controls shadow{apic::tpr_shadow}, delivery{apic::tpr_shadow, apic::delivery};
        if (const std::string why = lacking(shadow); !why.empty()) {
            GTEST_SKIP() << why;
        }
        const std::vector<unsigned> bits{4, 5, 8, 16, 31};
        for (const unsigned bit : bits) {
            SCOPED_TRACE(bit);
            EXPECT_FALSE(enters({"", shadow, shadow, apic::tpr_threshold, u64{1} << bit}, true));
            if (lacking(delivery).empty()) {
                EXPECT_TRUE(enters({"", delivery, delivery, apic::tpr_threshold, u64{1} << bit}, true));
            }
        }
        combinations(bits.size());
    });
}

} // namespace refhv::front
