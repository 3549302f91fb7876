// SPDX-License-Identifier: MIT
// When a guest's write of a control register is #GP (SDM 2B MOV to CR; 3A 4.1.2).
#include "refhv/shadow/control_rules.hpp"

#include <gtest/gtest.h>

namespace refhv::shadow {
namespace {

using namespace x86;

constexpr u64 cr0_on = cr0::pg | cr0::wp | cr0::ne | cr0::et | cr0::pe;
constexpr Offer offer{cr4::pse | cr4::pae | cr4::pge | cr4::la57 | cr4::pcide | cr4::smep,
                      efer::sce | efer::lme | efer::nxe};

PagingState in(u64 cr0, u64 cr4, u64 efer, u64 cr3 = 0) {
    PagingState s{};
    s.cr0 = cr0;
    s.cr3 = cr3;
    s.cr4 = cr4;
    s.efer = efer;
    s.physical_bits = 40;
    return s;
}

const PagingState long_mode = in(cr0_on, cr4::pae, efer::lme | efer::lma);
const PagingState unpaged = in(cr0_on & ~cr0::pg, cr4::pae, efer::lme);
const PagingState bits32 = in(cr0_on, 0, 0);

Written cr0_of(const PagingState& s, u64 value, bool code64, Controls& next) {
    return after_cr0(s, value, code64, next);
}

TEST(ControlRulesTest, paging_and_long_mode_go_on_together) {
    Controls next{};
    EXPECT_EQ(cr0_of(unpaged, cr0_on, false, next), Written::done);
    EXPECT_NE(next.efer & efer::lma, 0u);
    EXPECT_EQ(cr0_of(unpaged, cr0_on, true, next), Written::fault) << "from a segment with L = 1";
    PagingState no_pae = unpaged;
    no_pae.cr4 = 0;
    EXPECT_EQ(cr0_of(no_pae, cr0_on, false, next), Written::fault);
    no_pae.efer = 0;
    EXPECT_EQ(cr0_of(no_pae, cr0_on, false, next), Written::done) << "32-bit paging";
    EXPECT_EQ(next.efer & efer::lma, 0u);
}

TEST(ControlRulesTest, paging_goes_off_in_compatibility_mode_without_pcid) {
    Controls next{};
    EXPECT_EQ(cr0_of(long_mode, cr0_on & ~cr0::pg, true, next), Written::fault);
    EXPECT_EQ(cr0_of(long_mode, cr0_on & ~cr0::pg, false, next), Written::done);
    EXPECT_EQ(next.efer, efer::lme);
    PagingState tagged = long_mode;
    tagged.cr4 |= cr4::pcide;
    EXPECT_EQ(cr0_of(tagged, cr0_on & ~cr0::pg, false, next), Written::fault);
}

TEST(ControlRulesTest, bits_of_cr0_that_contradict_each_other) {
    Controls next{};
    EXPECT_EQ(cr0_of(bits32, cr0_on & ~cr0::pe, false, next), Written::fault);
    EXPECT_EQ(cr0_of(bits32, cr0_on | cr0::nw, false, next), Written::fault);
    EXPECT_EQ(cr0_of(bits32, cr0_on | u64{1} << 32, false, next), Written::fault);
    EXPECT_EQ(cr0_of(bits32, cr0::et, false, next), Written::not_ours) << "real mode";
    EXPECT_EQ(cr0_of(bits32, cr0_on | 1u << 20, false, next), Written::done);
    EXPECT_EQ(next.cr0, cr0_on) << "reserved bits are not kept";
}

TEST(ControlRulesTest, cr4_in_long_mode) {
    Controls next{};
    EXPECT_EQ(after_cr4(long_mode, 0, offer, next), Written::fault) << "PAE";
    EXPECT_EQ(after_cr4(long_mode, cr4::pae | cr4::la57, offer, next), Written::fault);
    EXPECT_EQ(after_cr4(unpaged, cr4::pae | cr4::la57, offer, next), Written::done);
    EXPECT_EQ(after_cr4(long_mode, cr4::pae | cr4::smap, offer, next), Written::fault) << "not offered";
    EXPECT_EQ(after_cr4(long_mode, cr4::pae | cr4::pcide, offer, next), Written::done);
    PagingState used = long_mode;
    used.cr3 = 0x1018;
    EXPECT_EQ(after_cr4(used, cr4::pae | cr4::pcide, offer, next), Written::fault) << "CR3 11:0";
    EXPECT_EQ(after_cr4(bits32, cr4::pcide, offer, next), Written::fault);
}

TEST(ControlRulesTest, efer_keeps_lma_and_lme_under_paging) {
    Controls next{};
    EXPECT_EQ(after_efer(long_mode, efer::nxe, offer, next), Written::fault);
    EXPECT_EQ(after_efer(long_mode, efer::lme | efer::nxe, offer, next), Written::done);
    EXPECT_EQ(next.efer, efer::lme | efer::lma | efer::nxe);
    EXPECT_EQ(after_efer(unpaged, efer::lma, offer, next), Written::done);
    EXPECT_EQ(next.efer, 0u);
    EXPECT_EQ(after_efer(unpaged, efer::svme, offer, next), Written::fault);
}

TEST(ControlRulesTest, cr3_bit_63_is_an_order_under_pcid_only) {
    u64 cr3 = 0;
    EXPECT_EQ(after_cr3(long_mode, u64{1} << 63 | 0x5000, cr3), Written::fault);
    PagingState tagged = long_mode;
    tagged.cr4 |= cr4::pcide;
    EXPECT_EQ(after_cr3(tagged, u64{1} << 63 | 0x5007, cr3), Written::done);
    EXPECT_EQ(cr3, 0x5007u);
    EXPECT_EQ(after_cr3(tagged, u64{1} << 40, cr3), Written::fault);
}

} // namespace
} // namespace refhv::shadow
