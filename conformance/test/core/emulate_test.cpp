// SPDX-License-Identifier: MIT
// What both vendors do alike: MSRs under `emulate`, shares of a limit, and the facts that these rest on.
#include "refhv/vcpu/emulate.hpp"
#include "refhv/vcpu/fast_exits.hpp"
#include "refhv/x86/exceptions.hpp"
#include "refhv/x86/gate.hpp"

#include <gtest/gtest.h>

#include <map>

namespace refhv {
namespace {

using abi::Reason;

struct Msrs {
    u64 cr0 = x86::cr0::pe | x86::cr0::pg;
    std::map<u32, u64> held;

    u64 guest_cr0() const { return cr0; }
    bool guest_msr(u32 index, u64& value) const {
        const auto at = held.find(index);
        value = at != held.end() ? at->second : 0;
        return at != held.end();
    }
    void set_guest_msr(u32 index, u64 value) { held[index] = value; }
};

struct Emulate : testing::Test {
    Msrs guest;
    u64 gpr[16]{};

    bool write(u32 index, u64 value) {
        gpr[abi::rcx] = index | 0xffff'ffff'0000'0000; // ECX names it
        gpr[abi::rax] = value & 0xffff'ffff;
        gpr[abi::rdx] = value >> 32;
        return x86::emulate(guest, Reason::wrmsr, gpr, {});
    }
    bool read(u32 index) {
        gpr[abi::rcx] = index;
        gpr[abi::rax] = gpr[abi::rdx] = ~u64{0};
        return x86::emulate(guest, Reason::rdmsr, gpr, {});
    }
};

TEST_F(Emulate, an_msr_of_the_guest_is_read_and_written_in_two_halves) {
    guest.held = {{x86::msr::star, 0x1122'3344'5566'7788}};
    ASSERT_TRUE(read(x86::msr::star));
    EXPECT_EQ(gpr[abi::rax], 0x5566'7788u) << "the upper half of RAX is cleared";
    EXPECT_EQ(gpr[abi::rdx], 0x1122'3344u);
    ASSERT_TRUE(write(x86::msr::star, 0x8877'6655'4433'2211));
    EXPECT_EQ(guest.held[x86::msr::star], 0x8877'6655'4433'2211u);
    EXPECT_FALSE(read(x86::msr::pat)) << "that one is the host's";
    EXPECT_FALSE(write(x86::msr::pat, 0));
}

TEST_F(Emulate, an_address_msr_takes_canonical_addresses_only) {
    for (const u32 index : {x86::msr::lstar, x86::msr::cstar, x86::msr::kernel_gs_base, x86::msr::star}) {
        const bool is_address = index != x86::msr::star;
        guest.held = {{index, 1}};
        EXPECT_TRUE(write(index, 0xffff'8000'0000'0000)) << index;
        EXPECT_TRUE(write(index, 0x0000'7fff'ffff'ffff)) << index;
        for (const u64 bad : {u64{0x0000'8000'0000'0000}, u64{0xffff'7fff'ffff'ffff}, u64{1} << 63}) {
            EXPECT_EQ(write(index, bad), !is_address) << index;
            EXPECT_EQ(guest.held[index], is_address ? 0x0000'7fff'ffff'ffffu : bad);
        }
    }
}

TEST_F(Emulate, the_upper_half_of_sfmask_is_reserved) {
    guest.held = {{x86::msr::sfmask, 1}};
    EXPECT_TRUE(write(x86::msr::sfmask, 0xffff'ffff));
    for (unsigned bit = 32; bit < 64; ++bit) {
        EXPECT_FALSE(write(x86::msr::sfmask, u64{1} << bit)) << bit;
    }
    EXPECT_EQ(guest.held[x86::msr::sfmask], 0xffff'ffffu);
}

TEST_F(Emulate, efer_keeps_lma_and_refuses_what_would_be_a_gp) {
    using namespace x86::efer;
    guest.held = {{x86::msr::efer, lme | lma}};
    ASSERT_TRUE(write(x86::msr::efer, lme | sce))
        << "LMA is the processor's: what is written there is ignored";
    EXPECT_EQ(guest.held[x86::msr::efer], lme | lma | sce);
    EXPECT_FALSE(write(x86::msr::efer, sce)) << "LME under paging";
    EXPECT_FALSE(write(x86::msr::efer, lme | 1 << 1)) << "a reserved bit";
    EXPECT_EQ(guest.held[x86::msr::efer], lme | lma | sce);
    guest.cr0 = x86::cr0::pe;
    guest.held = {{x86::msr::efer, 0}};
    EXPECT_TRUE(write(x86::msr::efer, lme));
}

TEST_F(Emulate, an_icr_without_a_peer_is_not_sent) {
    EXPECT_FALSE(write(x86::msr::x2apic_icr, 0x40));
    EXPECT_FALSE(read(x86::msr::x2apic_icr));
}

TEST_F(Emulate, cpuid_is_the_machines) {
    gpr[abi::rax] = 0;
    ASSERT_TRUE(x86::emulate(guest, Reason::cpuid, gpr, {}));
    EXPECT_EQ(gpr[abi::rbx], x86::cpuid(0).ebx);
    EXPECT_FALSE(x86::emulate(guest, Reason::invd, gpr, {}));
}

TEST(FastExits, share_a_limit_and_add_up_what_was_answered) {
    i64 budget[8]{};
    u64 counts[static_cast<usize>(Reason::count_)]{}, handled = 5;
    FastExits<8> fast;
    fast.share_out(budget, 100);
    fast.collect(budget, 0, counts, handled);
    EXPECT_EQ(handled, 5u) << "nothing may be answered";
    fast.add(2, Reason::cpuid);
    fast.add(7, Reason::hlt);
    fast.share_out(budget, 101);
    EXPECT_EQ(budget[2], 50);
    EXPECT_EQ(budget[7], 50);
    budget[2] -= 30;
    budget[7] = -1; // all of it, and the exit that came back
    budget[1] = -1; // none was ever to be answered
    fast.collect(budget, 7, counts, handled);
    EXPECT_EQ(counts[static_cast<usize>(Reason::cpuid)], 30u);
    EXPECT_EQ(counts[static_cast<usize>(Reason::hlt)], 50u);
    EXPECT_EQ(handled, 85u);
    fast.collect(budget, 1, counts, handled);
    EXPECT_EQ(budget[1], 0);
    fast.collect(budget, ~u64{0}, counts, handled); // VMEXIT_INVALID is in no table
    fast.clear();
    fast.share_out(budget, 100);
    fast.collect(budget, 2, counts, handled);
    EXPECT_EQ(counts[static_cast<usize>(Reason::cpuid)], 90u) << "thirty thrice, and none after clear";
}

TEST(Exceptions, with_an_error_code_are_those_of_the_manuals) {
    for (u32 v = 0; v < 300; ++v) {
        const bool due = v == 8 || (v >= 10 && v <= 14) || v == 17 || v == 21;
        EXPECT_EQ(x86::has_error_code(v), due) << v;
    }
}

TEST(Canonical, is_what_sign_extension_leaves_as_it_is) {
    for (const unsigned bits : {x86::linear_bits_level4, x86::linear_bits_level5}) {
        const u64 half = u64{1} << (bits - 1);
        for (const u64 good : {u64{0}, half - 1, ~u64{0}, ~(half - 1)}) {
            EXPECT_TRUE(x86::is_canonical(good, bits)) << std::hex << good;
        }
        for (const u64 bad : {half, ~half, u64{1} << 63, ~(u64{1} << 63)}) {
            EXPECT_FALSE(x86::is_canonical(bad, bits)) << std::hex << bad;
        }
    }
}

TEST(Gate, splits_its_offset) {
    const x86::Gate g = x86::Gate::to(0x1122'3344'5566'7788, 8, 3);
    u64 words[2];
    __builtin_memcpy(words, &g, sizeof words);
    EXPECT_EQ(words[0], 0x5566'8e03'0008'7788u);
    EXPECT_EQ(words[1], 0x1122'3344u);
}

} // namespace
} // namespace refhv
