// SPDX-License-Identifier: MIT
// The unit of every row on an emulator that counts: a tick is an instruction, to the tick, in every mode.
// Rows do not rest on these claims but on the same proof, made at every launch (refhv/front/tick_proof.hpp).
#include "refhv/front/claim.hpp"

namespace refhv::front {

class Ticks : public Claim {
  protected:
    void count_in(abi::Mode mode) {
        constexpr Section section{"refhv method, Units", "refhv method, Units"};
        claim(section, [&] {
            auto& session = Session::get();
            if (!session.info().counts_instructions) {
                GTEST_SKIP() << "ticks of " << session.info().name << " are no instructions, nor said to be";
            }
            if (!session.offers(mode)) {
                GTEST_SKIP() << session.info().name << " offers no mode " << client::name_of(mode);
            }
            u64 pairs = 0;
            for (u32 cpu = 0; cpu < hello().fixed.cpus; ++cpu) {
                const TickProof proof = prove_ticks(host(), hello(), mode, cpu);
                EXPECT_EQ(proof.wrong, "");
                pairs += proof.pairs;
            }
            combinations(pairs);
        });
    }
};

TEST_F(Ticks, are_instructions_in_mode_native) {
    count_in(abi::Mode::native);
}
TEST_F(Ticks, are_instructions_in_mode_nested) {
    count_in(abi::Mode::nested);
}
TEST_F(Ticks, are_instructions_in_mode_shadow) {
    count_in(abi::Mode::shadow);
}
TEST_F(Ticks, are_instructions_in_mode_vtlb) {
    count_in(abi::Mode::vtlb);
}

} // namespace refhv::front
