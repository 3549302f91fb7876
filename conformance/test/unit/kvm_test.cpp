// SPDX-License-Identifier: MIT
// Target `kvm` as the client sees it: what it refuses, and that a hostile request leaves it up. Needs a
// /dev/kvm that may be opened; what a guest may expect is in the claims Kvm.*.
#include "refhv/client/batch.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/client/guest/vm.hpp"
#include "refhv/client/target.hpp"
#include "refhv/self/kvm/device.hpp"

#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <random>

namespace refhv::client {
namespace {

using abi::Outcome;

GUEST(guest_nops, "nop\n nop")

class KvmTarget : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string why = self::kvm::obstacle(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        target_ = open_target("kvm");
        host_.emplace(GuestHost{*target_, {}, 0});
    }
    [[nodiscard]] Plan plan() const {
        Plan out;
        out.mode = abi::Mode::kvm;
        return out;
    }
    // How a guest that starts in that state comes back.
    Outcome run_from(const std::function<void(abi::GuestState&)>& change, std::string& words) {
        Guest guest(*host_, plan());
        guest.load(guest_nops);
        change(guest.state);
        try {
            return guest.run({.deadline = 100'000'000}).outcome;
        } catch (const Refused& refused) {
            words = refused.what();
            return refused.outcome;
        }
    }

    std::unique_ptr<Target> target_;
    std::optional<GuestHost> host_;
};

TEST_F(KvmTarget, says_that_it_is_kvm) {
    const HelloInfo& hello = target_->hello();
    EXPECT_EQ(hello.fixed.platform, static_cast<u16>(abi::Platform::kvm));
    EXPECT_EQ(hello.fixed.modes, u64{1} << static_cast<u8>(abi::Mode::kvm));
    EXPECT_NE(std::string(hello.fixed.note).find("KVM of Linux"), std::string::npos) << hello.fixed.note;
}

TEST_F(KvmTarget, refuses_what_kvm_hides) {
    Guest guest(*host_, plan());
    EXPECT_THROW(static_cast<void>(guest.read_field(0x4402, 4)), Refused);
    Guest with_log(*host_, plan());
    with_log.load(guest_nops);
    EXPECT_THROW(static_cast<void>(with_log.run({.exits = 4})), Refused);
    Plan exceptions = plan();
    exceptions.exceptions = 1u << 6;
    Guest intercepting(*host_, exceptions);
    EXPECT_THROW(static_cast<void>(intercepting.settle()), Refused);
    std::string words;
    EXPECT_EQ(run_from([](abi::GuestState&) {}, words), Outcome::exited) << words; // and goes on
}

TEST_F(KvmTarget, a_state_that_kvm_refuses_is_told_by_the_calls_name) {
    std::string words;
    EXPECT_EQ(run_from([](abi::GuestState& s) { s.cr4 |= u64{1} << 63; }, words), Outcome::unsupported);
    EXPECT_NE(words.find("KVM_SET_SREGS"), std::string::npos) << words;
    EXPECT_EQ(run_from([](abi::GuestState& s) { s.xcr0 = 2; }, words), Outcome::unsupported);
    EXPECT_NE(words.find("KVM_SET_XCRS"), std::string::npos) << words;
    EXPECT_EQ(run_from([](abi::GuestState& s) { s.dr7 = ~u64{0}; }, words), Outcome::unsupported);
    EXPECT_NE(words.find("KVM_SET_DEBUGREGS"), std::string::npos) << words;
}

// Whatever the state, an answer comes and the next guest runs.
TEST_F(KvmTarget, states_at_random_leave_it_up) {
    std::mt19937_64 random(7);
    std::string words;
    for (int turn = 0; turn < 200; ++turn) {
        static_cast<void>(run_from(
            [&](abi::GuestState& state) {
                auto* const raw = reinterpret_cast<u64*>(&state);
                for (int i = 0; i < 3; ++i) {
                    raw[random() % (sizeof state / 8)] = random() >> random() % 64;
                }
            },
            words));
    }
    EXPECT_EQ(run_from([](abi::GuestState&) {}, words), Outcome::exited) << words;
    EXPECT_EQ(target_->generation(), 1u) << "it had to be started again";
}

} // namespace
} // namespace refhv::client
