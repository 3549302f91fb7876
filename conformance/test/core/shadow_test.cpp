// SPDX-License-Identifier: MIT
// Random page-table edits and accesses through the shadow MMU, against a walk of the guest's own tables.
#include "conformance/test/core/shadow_fuzz.hpp"

#include <cstdlib>

namespace refhv::shadow::testing {
namespace {

class ShadowTest : public ::testing::TestWithParam<Kind> {};

TEST_P(ShadowTest, random_edits_and_accesses_agree_with_the_guests_own_tables) {
    const char* wanted = std::getenv("REFHV_SHADOW_STEPS");
    const u64 steps = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : 100'000;
    u64 checked = 0, succeeded = 0;
    for (u32 seed = 1; checked < steps; ++seed) {
        Fuzz fuzz(seed, GetParam());
        for (u64 i = 0; i < 2000; ++i) {
            fuzz.step();
            if (HasFatalFailure()) {
                FAIL() << "seed " << seed << " step " << i;
            }
        }
        checked += fuzz.checked;
        succeeded += fuzz.succeeded;
    }
    RecordProperty("checked", std::to_string(checked));
    RecordProperty("succeeded", std::to_string(succeeded));
    EXPECT_GT(succeeded, checked / 20) << "too few accesses find a page: the test says little";
}

constexpr Kind of(Paging paging, bool tracked, const char* name, u32 tables = 128) {
    return {name, paging, tracked, tables};
}

INSTANTIATE_TEST_SUITE_P(
    Modes, ShadowTest,
    ::testing::Values(of(Paging::level4, false, "vtlb_4_level"), of(Paging::level4, true, "shadow_4_level"),
                      of(Paging::level5, false, "vtlb_5_level"), of(Paging::level5, true, "shadow_5_level"),
                      of(Paging::pae, false, "vtlb_pae"), of(Paging::pae, true, "shadow_pae"),
                      of(Paging::bits32, false, "vtlb_32_bit"), of(Paging::bits32, true, "shadow_32_bit"),
                      of(Paging::level4, false, "vtlb_4_level_short_of_tables", 9),
                      of(Paging::level4, true, "shadow_4_level_short_of_tables", 9),
                      of(Paging::level5, true, "shadow_5_level_short_of_tables", 10),
                      of(Paging::pae, true, "shadow_pae_short_of_tables", 6),
                      of(Paging::bits32, false, "vtlb_32_bit_short_of_tables", 6),
                      of(Paging::bits32, true, "shadow_32_bit_short_of_tables", 6)),
    [](const auto& i) { return i.param.name; });

} // namespace
} // namespace refhv::shadow::testing
