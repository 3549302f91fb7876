// SPDX-License-Identifier: MIT
// Capabilities of encrypted memory: what their bits mean, and which values contradict themselves.
#include "refhv/x86/encrypted_memory.hpp"

#include <gtest/gtest.h>

#include <string_view>

namespace refhv::x86 {
namespace {

constexpr u32 asids = 0x8000;
constexpr u32 sme = 1, sev = 2, es = 8, snp = 16, vmpl = 32;

// EAX of the leaf; C-bit 51, 5 address bits fewer, 509 guests, those without SEV-ES from ASID 100 on.
constexpr abi::CpuidLeaf leaf(u32 eax, u32 vmpls = 4, u32 c_bit = 51) {
    return {.leaf = EncryptedMemory::leaf,
            .subleaf = 0,
            .eax = eax,
            .ebx = c_bit | 5u << 6 | vmpls << 12,
            .ecx = 509,
            .edx = 100};
}

TEST(EncryptedMemoryTest, bits_mean_what_the_manual_says) {
    const auto all = EncryptedMemory::of(leaf(sme | sev | es | snp | vmpl));
    EXPECT_TRUE(all.sme && all.sev && all.sev_es && all.sev_snp && all.vmpl && all.any());
    EXPECT_EQ(all.c_bit, 51u);
    EXPECT_EQ(all.reduction, 5u);
    EXPECT_EQ(all.vmpls, 4u);
    EXPECT_EQ(all.guests, 509u);
    EXPECT_EQ(all.first_without_es, 100u);
    EXPECT_EQ(all.contradiction(asids), nullptr);
    EXPECT_FALSE(EncryptedMemory::of(leaf(4, 0)).any()) << "the page-flush MSR alone";
    EXPECT_EQ(EncryptedMemory::of({}).contradiction(0), nullptr) << "a CPU that has none of it";
}

TEST(EncryptedMemoryTest, what_is_offered_agrees) {
    for (const u32 eax : {sme, sme | sev, sev, sme | sev | es, sme | sev | es | snp}) {
        EXPECT_EQ(EncryptedMemory::of(leaf(eax, 0)).contradiction(asids), nullptr) << eax;
    }
    const auto says = [](const abi::CpuidLeaf& l, std::string_view words, u32 of = asids) {
        const char* const why = EncryptedMemory::of(l).contradiction(of);
        return why != nullptr && std::string_view(why).find(words) != std::string_view::npos;
    };
    EXPECT_TRUE(says(leaf(sme | es, 0), "SEV-ES without SEV"));
    EXPECT_TRUE(says(leaf(sme | sev | snp, 0), "SNP without"));
    EXPECT_TRUE(says(leaf(sme | sev | es | vmpl), "levels without"));
    EXPECT_TRUE(says(leaf(sme | sev | es | snp | vmpl, 0), "go together"));
    EXPECT_TRUE(says(leaf(sme | sev | es | snp, 4), "go together"));
    EXPECT_TRUE(says(leaf(sme, 0, 31), "C-bit"));
    EXPECT_TRUE(says(leaf(sme, 0, 52), "C-bit"));
    EXPECT_TRUE(says(leaf(sev, 0), "without SVM", 0));
    EXPECT_TRUE(says(leaf(sev, 0), "ASIDs", 509)) << "ASID 0 is the host's";
    EXPECT_FALSE(says(leaf(sev, 0), "ASIDs", 510));
    abi::CpuidLeaf none = leaf(sev, 0);
    none.ecx = 0;
    EXPECT_TRUE(says(none, "are none"));
    abi::CpuidLeaf beyond = leaf(sev | es, 0);
    beyond.edx = 510; // all of them may be SEV-ES guests
    EXPECT_FALSE(says(beyond, "first ASID"));
    beyond.edx = 511;
    EXPECT_TRUE(says(beyond, "first ASID"));
}

TEST(EncryptedMemoryTest, tdx_of_a_host_and_of_a_guest) {
    constexpr u64 seam = 1u << 15, keys = u64{32} << 32 | 31;
    EXPECT_EQ(private_key_ids(seam, keys), 32u);
    EXPECT_EQ(private_key_ids(0, keys), 0u);
    EXPECT_EQ(private_key_ids(seam, 31), 0u);
    EXPECT_TRUE(is_td_guest(
        {.leaf = 0x21, .subleaf = 0, .eax = 0, .ebx = 0x65746e49, .ecx = 0x20202020, .edx = 0x5844546c}));
    EXPECT_FALSE(is_td_guest({}));
}

} // namespace
} // namespace refhv::x86
