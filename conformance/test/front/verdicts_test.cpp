// SPDX-License-Identifier: MIT
#include "refhv/front/verdicts.hpp"

namespace refhv::front {
namespace {

TEST(Verdicts, filters_are_googletests) {
    EXPECT_TRUE(filter_matches("*", "Exit.cpuid"));
    EXPECT_TRUE(filter_matches("", "Exit.cpuid"));
    EXPECT_TRUE(filter_matches("Exit.*", "Exit.cpuid"));
    EXPECT_FALSE(filter_matches("Exit.*", "Stamps.take_no_exit"));
    EXPECT_TRUE(filter_matches("A.*:Exit.c?uid", "Exit.cpuid"));
    EXPECT_FALSE(filter_matches("Exit.*-*.cpuid", "Exit.cpuid"));
    EXPECT_TRUE(filter_matches("-*.hlt", "Exit.cpuid"));
    EXPECT_FALSE(filter_matches("-*.hlt:*.cpuid", "Exit.cpuid"));
    EXPECT_FALSE(filter_matches("Exit", "Exit.cpuid"));
}

} // namespace
} // namespace refhv::front
