// SPDX-License-Identifier: MIT
#include "microbench/measure/record.hpp"

#include "conformance/test/front/fake_target.hpp"
#include "microbench/measure/machine_record.hpp"

#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace refhv::bench {
namespace {

struct RecordTest : ::testing::Test {
    RecordTest() {
        auto owned = std::make_unique<test::FakeTarget>();
        target = owned.get();
        front::Session::get().adopt(std::move(owned));
    }
    ~RecordTest() override { front::Session::get().close(); }
    test::FakeTarget* target;
};

TEST_F(RecordTest, only_a_pass_carries_numbers) {
    static_cast<void>(front::Session::get().hello());
    const Row& row = *rows().front();
    Measurement m;
    m.verdict = front::Verdict::pass;
    m.n = 2;
    m.samples = {5, 5};
    m.stamp_cost = 5;
    m.summary = summarize(m.samples, 5);
    Results::get().put({&row, abi::Mode::nested, m});
    auto record = make_record(std::chrono::system_clock::time_point{}, nullptr, nullptr);
    EXPECT_EQ(record["started"], "1970-01-01T00:00:00Z");
    EXPECT_EQ(record["benchmarks"][0]["name"], "control.empty/nested");
    EXPECT_EQ(record["benchmarks"][0]["family"], "control");
    EXPECT_EQ(record["benchmarks"][0]["summary"]["p50"], 0);
    EXPECT_TRUE(record["benchmarks"][0]["parts"]["exit"].is_null());
    disqualify(m, front::Verdict::invalid, "because");
    Results::get().put({&row, abi::Mode::nested, m});
    record = make_record(std::chrono::system_clock::time_point{}, nullptr, nullptr);
    ASSERT_EQ(record["benchmarks"].size(), 1u) << "the last measurement of a row stays";
    EXPECT_TRUE(record["benchmarks"][0]["summary"]["p50"].is_null());
    EXPECT_EQ(record["benchmarks"][0]["reason"], "because");
}

TEST_F(RecordTest, the_key_of_a_machine_depends_on_stable_facts_only) {
    const std::string key = machine_key(target->greeting, true);
    EXPECT_EQ(key.size(), 16u);
    target->greeting.fixed.tsc_hz = 123; // measured anew at every start
    EXPECT_EQ(machine_key(target->greeting, true), key);
    target->greeting.fixed.microcode = 7;
    EXPECT_NE(machine_key(target->greeting, true), key);
}

TEST_F(RecordTest, libcpuid_reads_our_leaves) {
    const auto reading = libcpuid_reading(target->greeting);
    EXPECT_EQ(reading["vendor"], "GenuineIntel");
    EXPECT_EQ(reading["model"], 0x55);
}

TEST_F(RecordTest, a_record_is_written_whole_or_not_at_all) {
    const std::string path = ::testing::TempDir() + "refhv-record-test.json";
    write_record(path, {{"a", 1}});
    nlohmann::ordered_json back;
    std::ifstream(path) >> back;
    EXPECT_EQ(back["a"], 1);
    std::remove(path.c_str());
    EXPECT_THROW(write_record("/nonexistent/directory/x.json", {}), std::runtime_error);
}

} // namespace
} // namespace refhv::bench
