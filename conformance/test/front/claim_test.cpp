// SPDX-License-Identifier: MIT
// What happens inside a claim must become the right verdict. Claims that fail on purpose run in a second
// GoogleTest program: this one, started again with a filter.
#include "refhv/front/claim.hpp"

#include "conformance/test/front/fake_target.hpp"
#include "refhv/front/verdicts.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

namespace refhv::front {
namespace {

// Runs only when claim_test itself asks for it.
struct Broken : Claim {
    void SetUp() override {
        if (std::getenv("REFHV_BROKEN_CLAIMS") == nullptr) {
            GTEST_SKIP() << "runs in a process of its own";
        }
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        Session::get().adopt(std::move(owned));
    }
    void TearDown() override {
        if (target != nullptr) {
            Claim::TearDown();
        }
    }
    test::FakeTarget* target = nullptr;
};

TEST_F(Broken, passes) {
    claim({"SDM 1", "APM 1"}, [] {});
}
TEST_F(Broken, fails) {
    claim({"SDM 1", "APM 1"}, [] { EXPECT_EQ(1, 2); });
}
TEST_F(Broken, skips) {
    claim({"SDM 1", "APM 1"}, [] { GTEST_SKIP() << "why"; });
}
TEST_F(Broken, skips_other_vendor) {
    claim({.apm = "APM 1"}, [] { FAIL(); });
}
TEST_F(Broken, misses) {
    target->behaviour.dies = true;
    claim({"SDM 1", "APM 1"}, [] { FAIL(); });
}
TEST_F(Broken, errs) {
    claim({"SDM 1", "APM 1"}, [] { throw std::logic_error("a bug of ours"); });
}
TEST_F(Broken, errs_without_a_claim) {}
TEST_F(Broken, skips_the_unsupported) {
    target->behaviour.create = abi::Outcome::unsupported;
    claim({"SDM 1", "APM 1"}, [&] {
        client::Guest g(host(), client::Plan{});
        static_cast<void>(g.settle());
    });
}
TEST_F(Broken, errs_on_a_bad_request) {
    target->behaviour.create = abi::Outcome::bad_request;
    claim({"SDM 1", "APM 1"}, [&] {
        client::Guest g(host(), client::Plan{});
        static_cast<void>(g.settle());
    });
}

TEST(ClaimVerdicts, are_told_apart) {
    std::array<char, 4096> path{};
    ASSERT_GT(::readlink("/proc/self/exe", path.data(), path.size() - 1), 0);
    const std::string xml = ::testing::TempDir() + "refhv-broken-" + std::to_string(::getpid()) + ".xml";
    const std::string command = "REFHV_BROKEN_CLAIMS=1 " + std::string(path.data()) +
                                " --gtest_filter='Broken.*' --gtest_output=xml:" + xml + " > /dev/null";
    EXPECT_NE(std::system(command.c_str()), 0);
    std::FILE* file = std::fopen(xml.c_str(), "r");
    ASSERT_NE(file, nullptr);
    std::string text;
    std::array<char, 4096> chunk{};
    while (const auto got = std::fread(chunk.data(), 1, chunk.size(), file)) {
        text.append(chunk.data(), got);
    }
    std::fclose(file);
    ::unlink(xml.c_str());
    constexpr std::pair<const char*, const char*> due[] = {
        {"passes", "PASS"},
        {"fails", "FAIL"},
        {"skips", "SKIP"},
        {"skips_other_vendor", "SKIP"},
        {"misses", "MISS"},
        {"errs", "ERROR"},
        {"errs_without_a_claim", "ERROR"},
        {"skips_the_unsupported", "SKIP"},
        {"errs_on_a_bad_request", "ERROR"},
    };
    for (const auto& [name, verdict] : due) {
        const auto test = text.find("<testcase name=\"" + std::string(name) + "\"");
        ASSERT_NE(test, std::string::npos) << name;
        const auto property = text.find("name=\"verdict\" value=\"", test);
        ASSERT_NE(property, std::string::npos) << name;
        EXPECT_EQ(text.find(std::string("name=\"verdict\" value=\"") + verdict + "\"", test), property)
            << name;
    }
}

} // namespace
} // namespace refhv::front
