// SPDX-License-Identifier: MIT
#include "refhv/front/departures.hpp"

#include "refhv/front/options.hpp"

#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>

namespace refhv::front {
namespace {

// The same cases as in bindings/tests/test_departures.py: one rule, two readers.
TEST(Departures, versions_compare_number_by_number) {
    EXPECT_TRUE(version_within("2.7", "2.7"));
    EXPECT_TRUE(version_within("2.7", ">=2.7"));
    EXPECT_TRUE(version_within("3.10", ">3.9"));
    EXPECT_FALSE(version_within("3.9", ">=3.10"));
    EXPECT_TRUE(version_within("7.2.22", "7.2")); // as many numbers as the condition has
    EXPECT_FALSE(version_within("7.2.22", ">7.2"));
    EXPECT_TRUE(version_within("7.2.22", "<=7.2"));
    EXPECT_TRUE(version_within("2.8", "<3"));
    EXPECT_FALSE(version_within("3.0", "<3"));
    EXPECT_TRUE(version_within("7", ">=7.0"));
    EXPECT_TRUE(version_within("9.1", ">=7.2 <10"));
    EXPECT_FALSE(version_within("10.0.13", ">=7.2 <10"));
    for (const char* range : {"", " ", "=2", "2.", "x", ">= 2", ">=2,<3"}) {
        EXPECT_THROW(static_cast<void>(version_within("2.7", range)), std::invalid_argument) << range;
    }
    EXPECT_THROW(static_cast<void>(version_within("2.7a", "2.7")), std::invalid_argument);
}

struct List {
    explicit List(const std::string& text) { std::ofstream(path) << text; }
    ~List() { std::remove(path.c_str()); }
    const std::string path = ::testing::TempDir() + "refhv-departures-test.json";
};

client::TargetInfo target(const char* name, const char* emulator, const char* version) {
    client::TargetInfo info{};
    info.name = name;
    info.emulator = {.name = emulator, .version = version, .banner = ""};
    return info;
}

const ClaimResult fails{.name = "A.b", .verdict = Verdict::fail, .section = "SDM 1", .detail = "x"};

std::string entry(const std::string& more) {
    return R"({"tried": {}, "departures": [{"emulator": "bochs", "claim": "A.b", "section": "SDM 1", "instead": "x", )" +
           more + "}]}";
}

bool known(const client::TargetInfo& on, const std::string& more, const ClaimResult& claim = fails) {
    const List list{entry(more)};
    return Departures(list.path, on).knows(claim);
}

TEST(Departures, count_on_their_family_with_their_versions) {
    const std::string intel = R"("target": "bochs-intel", "versions": "<3")";
    EXPECT_TRUE(known(target("bochs-intel", "bochs", "2.7"), intel));
    EXPECT_TRUE(known(target("bochs-intel-tigerlake", "bochs", "2.7"), intel));
    EXPECT_TRUE(known(target("bochs-intel", "bochs", ""), intel)) << "no version is known: all count";
    EXPECT_FALSE(known(target("bochs-intel", "bochs", "3.0"), intel));
    EXPECT_FALSE(known(target("bochs-intel-smp", "bochs", "2.7"), intel));
    EXPECT_FALSE(known(target("bochs-intelligent", "bochs", "2.7"), intel));
    EXPECT_FALSE(known(target("bochs-amd", "bochs", "2.7"), intel));
    EXPECT_FALSE(known(target("bochs-intel", "qemu", "2.7"), intel));
    EXPECT_FALSE(known(target("self", "", ""), intel));
    const std::string smp = R"("target": "bochs-intel-smp", "versions": ">=2")";
    EXPECT_TRUE(known(target("bochs-intel-smp", "bochs", "2.7"), smp));
    EXPECT_FALSE(known(target("bochs-intel", "bochs", "2.7"), smp));
    const std::string model =
        R"("target": "bochs-intel", "versions": ">=2", "models": ["bochs-intel-tigerlake"])";
    EXPECT_TRUE(known(target("bochs-intel-tigerlake", "bochs", "2.7"), model));
    EXPECT_FALSE(known(target("bochs-intel", "bochs", "2.7"), model));
}

TEST(Departures, only_what_came_out_as_listed_is_known) {
    const auto on = target("bochs-intel", "bochs", "2.7");
    const std::string plain = R"("target": "bochs-intel", "versions": "2.7")";
    const auto with = [](auto change) {
        ClaimResult claim = fails;
        change(claim);
        return claim;
    };
    EXPECT_FALSE(known(on, plain, with([](auto& c) { c.verdict = Verdict::error; })));
    EXPECT_FALSE(known(on, plain, with([](auto& c) { c.verdict = Verdict::miss; })));
    EXPECT_FALSE(known(on, plain, with([](auto& c) { c.verdict = Verdict::pass; })));
    EXPECT_FALSE(known(on, plain, with([](auto& c) { c.name = "A.bc"; })));
    EXPECT_FALSE(known(on, plain, with([](auto& c) { c.section = "SDM 2"; })));
    EXPECT_TRUE(
        known(on, plain + R"(, "verdict": "MISS")", with([](auto& c) { c.verdict = Verdict::miss; })));
}

TEST(Departures, an_entry_may_name_several_claims) {
    for (const char* name : {"A.b", "C.d", "E.f"}) {
        const List list{R"({"departures": [{"emulator": "bochs", "versions": ">=2", "target": "bochs-intel",
                            "claim": ["A.b", "C.d"], "section": "SDM 1", "instead": "x"}]})"};
        ClaimResult claim = fails;
        claim.name = name;
        EXPECT_EQ(Departures(list.path, target("bochs-intel", "bochs", "2.7")).knows(claim), name[0] != 'E');
    }
}

TEST(Departures, a_list_that_cannot_be_read_is_one_line_with_its_path) {
    const auto on = target("bochs-intel", "bochs", "2.7");
    EXPECT_NO_THROW(Departures(Departures::default_path(), on)) << "there need not be one";
    for (const char* text : {"", "[]", "{", R"({"departures": [{"target": "bochs-intel"}]})"}) {
        const List list{text};
        try {
            static_cast<void>(Departures(list.path, on));
            ADD_FAILURE() << text;
        } catch (const UsageError& error) {
            EXPECT_TRUE(std::string_view(error.what()).starts_with(list.path + ": ")) << error.what();
        }
    }
    EXPECT_THROW(Departures("/nonexistent.json", on), UsageError);
}

} // namespace
} // namespace refhv::front
