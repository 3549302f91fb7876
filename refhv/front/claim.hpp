// SPDX-License-Identifier: MIT
// A claim: what a manual says, checked by one TEST_F.
//
//   TEST_F(Exit, something_the_manual_says) {
//       claim({"SDM 3C 26.1.3", "APM 2 15.9"}, [&] {
//           Guest g(host(), {...});
//           ...
//           EXPECT_EQ(...);
//       });
//   }
//
// claim() turns what happens inside into a verdict: failed expectations are FAIL, GTEST_SKIP is SKIP, a
// target that does not answer is MISS, and any other exception is ERROR, a broken test. `verdict` and
// `section` become properties of the test in GoogleTest's XML.
#pragma once

#include "refhv/contract/permit.hpp"
#include "refhv/front/session.hpp"
#include "refhv/front/verdict.hpp"

#include <functional>
#include <gtest/gtest.h>

// How GoogleTest prints what the claims compare.
namespace refhv::abi {
inline void PrintTo(Reason reason, std::ostream* out) {
    *out << client::name_of(reason);
}
inline void PrintTo(Outcome outcome, std::ostream* out) {
    *out << client::name_of(outcome);
}
} // namespace refhv::abi

namespace refhv::front {

// Where it is written; docs/manuals.md names the editions. Empty: that vendor's manual has no such thing, and
// the claim is skipped on its machines. A claim about refhv itself or about both at once gives the same text
// twice.
struct Section {
    const char* sdm = "";
    const char* apm = "";
};

class Claim : public ::testing::Test {
  protected:
    // The mode that the claims of a suite need.
    [[nodiscard]] virtual abi::Mode mode() const { return abi::Mode::nested; }

    void claim(const Section& section, const std::function<void()>& body);
    // For claims that try a table: how many combinations of it, as the property `combinations`.
    static void combinations(u64 tried) { RecordProperty("combinations", std::to_string(tried)); }
    void TearDown() override;

    static client::GuestHost& host() { return Session::get().host(); }
    static const client::HelloInfo& hello() { return Session::get().hello(); }
    // SKIPs, with the name, where the platform does not permit what the claim is about.
    static void needs(abi::Permit item);
    static bool on_vmx() { return Session::get().vendor() == abi::Vendor::vmx; }
    static bool on_svm() { return Session::get().vendor() == abi::Vendor::svm; }

  private:
    void attempt(const Section& section, const std::function<void()>& body);

    std::string section_;
    bool claimed_ = false;
    bool missed_ = false;
    bool broken_ = false;
};

} // namespace refhv::front
