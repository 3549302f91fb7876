// SPDX-License-Identifier: MIT
// What the host does to forget a guest's translations, linear to guest-physical: INVVPID, INVLPGA,
// TLB_CONTROL, another tag, and entries without a tag.
#include "conformance/tlb/case.hpp"

namespace refhv::front {

using abi::Invalidation;
using client::Guest;

namespace {

// CPUID keeps none of RAX, RBX, RCX, RDX.
GUEST(guest_read_twice, "mov (%rsi), %r8\n cpuid\n mov (%rsi), %r9\n")

} // namespace

class TlbHost : public TlbInvalidation {
  protected:
    static constexpr unsigned every_level[] = {1, 2};
    // Between the guest's two reads the host changes the guest's own tables, then does `forget`.
    template <class F>
    static void forgets(F forget, bool globals, abi::TagPolicy tags = abi::TagPolicy::tagged,
                        std::span<const unsigned> levels = every_level) {
        u64 tried = 0;
        for (const bool is_global : {false, true}) {
            for (const unsigned level : levels) {
                for (const Change change : every_change) {
                    if (is_global && !globals) {
                        continue;
                    }
                    SCOPED_TRACE(std::string(name_of(change)) + " at level " + std::to_string(level) +
                                 (is_global ? ", global" : ""));
                    client::Plan plan;
                    plan.tag_policy = tags;
                    Guest g = guest(plan);
                    put(g, guest_entry(1), page | page_entry | (is_global ? global : 0));
                    g.state.cr4 |= page_global_enable;
                    g.load(guest_read_twice);
                    ASSERT_EQ(begin(g).outcome, abi::Outcome::repeats_done);
                    put(g, guest_entry(level), changed_entry(level, change));
                    forget(g);
                    expect_visible(go_on(g), change);
                    ++tried;
                }
            }
        }
        combinations(tried);
    }
    static auto by(Invalidation kind) {
        return [kind](Guest& g) { EXPECT_EQ(g.invalidate(kind, page).error, 0u) << "VM-instruction error"; };
    }
    // The rights of a VPID (IA32_VMX_PROCBASED_CTLS2 bit 37).
    [[nodiscard]] static bool has_vpid() { return (msr(hello(), 0x48b) >> 37 & 1) != 0; }
    static constexpr const char* no_vpid = "no VPIDs (secondary control 5)";
    template <class F>
    static void with_vpid(F body) {
        if (!has_vpid()) {
            GTEST_SKIP() << no_vpid;
        }
        body();
    }
};

TEST_F(TlbHost, invvpid_of_an_address) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"},
          [&] { with_vpid([] { forgets(by(Invalidation::vpid_address), true); }); });
}

TEST_F(TlbHost, invvpid_of_a_context) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"},
          [&] { with_vpid([] { forgets(by(Invalidation::vpid_single), true); }); });
}

TEST_F(TlbHost, invvpid_of_all_contexts) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"},
          [&] { with_vpid([] { forgets(by(Invalidation::vpid_all), true); }); });
}

TEST_F(TlbHost, invvpid_of_a_context_but_globals) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"},
          [&] { with_vpid([] { forgets(by(Invalidation::vpid_keep_globals), false); }); });
}

// INVEPT drops combined mappings, and where EPT is in use there are no linear ones (SDM 3C 29.4.1).
TEST_F(TlbHost, invept_of_a_context) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"}, [&] { forgets(by(Invalidation::ept_single), true); });
}

TEST_F(TlbHost, invept_of_all_contexts) {
    claim({.sdm = "SDM 3C 29.4.3.1, 31.3"}, [&] { forgets(by(Invalidation::ept_global), true); });
}

// What is cached for one VPID is not used for another.
TEST_F(TlbHost, another_vpid) {
    claim({.sdm = "SDM 3C 29.4.1, 29.4.2"}, [&] {
        with_vpid([] {
            constexpr u32 vpid_field = 0;
            constexpr u64 unused = 0x100;
            forgets(
                [&](Guest& g) {
                    g.invalidate(Invalidation::vpid_single, 0, 1, unused); // of an earlier launch's, perhaps
                    g.field(vpid_field, 2, unused);
                },
                true);
        });
    });
}

// VMX without VPID: VM entry and VM exit forget everything of VPID 0000H. SVM: TLB_CONTROL at every VMRUN.
TEST_F(TlbHost, entries_without_a_tag) {
    claim({"SDM 3C 29.4.3.1", "APM 2 15.16.1"},
          [&] { forgets([](Guest&) {}, true, abi::TagPolicy::flushing); });
}

// Of the page's own translation; the manual says nothing of the tables above it.
TEST_F(TlbHost, invlpga) {
    claim({.apm = "APM 2 15.16.2, APM 3 INVLPGA"}, [&] {
        forgets(by(Invalidation::asid_address), true, abi::TagPolicy::tagged,
                std::span(every_level).first(1));
    });
}

TEST_F(TlbHost, another_asid) {
    claim({.apm = "APM 2 15.16"}, [&] { forgets(by(Invalidation::asid_fresh), true); });
}

TEST_F(TlbHost, tlb_control_1) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(by(Invalidation::flush_all), true); });
}

TEST_F(TlbHost, tlb_control_3) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(by(Invalidation::flush_asid), true); });
}

TEST_F(TlbHost, tlb_control_7) {
    claim({.apm = "APM 2 15.16.1"}, [&] { forgets(by(Invalidation::flush_asid_keep_globals), false); });
}

// Operands that INVEPT and INVVPID refuse: VMfailValid, error 28 (SDM 3C 31.4).
TEST_F(TlbHost, invvpid_refuses_operands) {
    claim({.sdm = "SDM 3C 31.3, 31.4"}, [&] {
        with_vpid([] {
            constexpr u32 invalid_operand = 28;
            constexpr u64 noncanonical = u64{1} << 62;
            Guest g = guest();
            const auto error = [&](Invalidation kind, u64 vpid, u64 address) {
                return g.invalidate(kind, address, 1, vpid).error;
            };
            EXPECT_EQ(error(Invalidation::vpid_address, 1, page), 0u);
            EXPECT_EQ(error(Invalidation::vpid_address, 0, page), invalid_operand) << "VPID 0000H";
            EXPECT_EQ(error(Invalidation::vpid_single, 0, 0), invalid_operand) << "VPID 0000H";
            EXPECT_EQ(error(Invalidation::vpid_address, 1, noncanonical), invalid_operand);
            EXPECT_EQ(error(Invalidation::vpid_single, u64{1} << 16 | 1, 0), invalid_operand)
                << "bits 63:16 of the descriptor";
            EXPECT_EQ(error(Invalidation::vpid_all, 0, 0), 0u) << "no VPID is asked for";
            combinations(6);
        });
    });
}

TEST_F(TlbHost, invept_refuses_operands) {
    claim({.sdm = "SDM 3C 31.3, 31.4"}, [&] {
        constexpr u32 invalid_operand = 28;
        constexpr u32 ept_pointer = 0x201a;
        Guest g = guest();
        const u64 own = g.read_field(ept_pointer, 8);
        const auto error = [&](Invalidation kind, u64 pointer) {
            return g.invalidate(kind, 0, 1, pointer).error;
        };
        EXPECT_EQ(error(Invalidation::ept_single, own), 0u);
        EXPECT_EQ(error(Invalidation::ept_single, own | 7), invalid_operand) << "memory type 7";
        EXPECT_EQ(error(Invalidation::ept_single, own & ~u64{0x38}), invalid_operand)
            << "a walk of one level";
        EXPECT_EQ(error(Invalidation::ept_single, own | u64{1} << 11), invalid_operand) << "a reserved bit";
        EXPECT_EQ(error(Invalidation::ept_global, 0), 0u) << "no pointer is asked for";
        combinations(5);
    });
}

} // namespace refhv::front
