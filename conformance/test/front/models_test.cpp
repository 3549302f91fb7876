// SPDX-License-Identifier: MIT
#include "refhv/front/models.hpp"

#include <gtest/gtest.h>

namespace refhv::front {
namespace {

client::HelloInfo machine(u32 eax, bool intel) {
    client::HelloInfo h;
    h.cpuid.push_back(intel ? abi::CpuidLeaf{0, 0, 0x16, 0x756e'6547, 0x6c65'746e, 0x4965'6e69}
                            : abi::CpuidLeaf{0, 0, 0x10, 0x6874'7541, 0x444d'4163, 0x6974'6e65});
    h.cpuid.push_back({1, 0, eax, 0, 0, 0});
    return h;
}

TEST(Models, signatures_decode_as_the_manuals_say) {
    const Signature intel = signature_of(machine(0x0005'0654, true));
    EXPECT_EQ(intel.vendor, "GenuineIntel");
    EXPECT_EQ(intel.family, 6u);
    EXPECT_EQ(intel.model, 0x55u);
    EXPECT_EQ(intel.stepping, 4u);
    const Signature amd = signature_of(machine(0x00b0'0f21, false));
    EXPECT_EQ(amd.vendor, "AuthenticAMD");
    EXPECT_EQ(amd.family, 0x1au);
    EXPECT_EQ(amd.model, 2u);
}

TEST(Models, names) {
    EXPECT_EQ(model_name(signature_of(machine(0x0005'0654, true))), "Skylake-X");
    EXPECT_EQ(model_name(signature_of(machine(0x0005'0657, true))), "Cascade Lake");
    EXPECT_EQ(model_name(signature_of(machine(0x000c'06f2, true))), "Emerald Rapids");
    EXPECT_EQ(model_name(signature_of(machine(0x00a0'0f11, false))), "Zen 3");
    EXPECT_EQ(model_name(signature_of(machine(0x00a1'0f11, false))), "Zen 4");
    EXPECT_EQ(model_name(signature_of(machine(0x00b0'0f21, false))), "Zen 5");
    EXPECT_EQ(model_name(signature_of(machine(0x000f'06ff, true))),
              "unknown GenuineIntel family 06h model ffh");
}

TEST(Models, a_virtual_cpu_is_not_taken_for_the_real_one) {
    auto qemu = machine(0x0060'0fb1, false);
    qemu.cpuid.push_back({0x8000'0002, 0, 0x554d'4551, 0x4743'5420, 0, 0}); // "QEMU TCG"
    EXPECT_EQ(machine_name(qemu), "QEMU TCG");
}

TEST(Models, hypervisor) {
    auto h = machine(0x00b0'0f21, false);
    EXPECT_EQ(hypervisor_of(h), "");
    h.cpuid[1].ecx = 1u << 31;
    EXPECT_NE(hypervisor_of(h), "");
    h.cpuid.push_back({0x4000'0000, 0, 0x4000'0001, 0x4b4d'564b, 0x564b'4d56, 0x4d});
    EXPECT_EQ(hypervisor_of(h), "KVM");
}

} // namespace
} // namespace refhv::front
