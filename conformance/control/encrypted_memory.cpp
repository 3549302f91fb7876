// SPDX-License-Identifier: MIT
// What the CPU says of guests with encrypted memory must agree with itself. Such guests are beyond a host
// without its firmware.
#include "refhv/x86/encrypted_memory.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

class EncryptedMemory : public Claim {
  protected:
    [[nodiscard]] abi::CpuidLeaf leaf_of(u32 leaf) const {
        for (const abi::CpuidLeaf& one : hello().cpuid) {
            if (one.leaf == leaf && one.subleaf == 0) {
                return one;
            }
        }
        return {};
    }
};

TEST_F(EncryptedMemory, svm_what_is_said_of_sev_agrees) {
    claim({"", "APM 2 15.34.1, 15.35.1, 15.36"}, [&] {
        constexpr u32 features = 0x8000'0001, svm_leaf = 0x8000'000a;
        constexpr u32 svm = 1u << 2;
        const auto offered = x86::EncryptedMemory::of(leaf_of(x86::EncryptedMemory::leaf));
        if (!offered.any()) {
            GTEST_SKIP() << "no SME and no SEV: CPUID.8000001FH:EAX";
        }
        const bool has_svm = (leaf_of(features).ecx & svm) != 0;
        const char* const why = offered.contradiction(has_svm ? leaf_of(svm_leaf).ebx : 0);
        EXPECT_EQ(why, nullptr) << why;
    });
}

} // namespace refhv::front
