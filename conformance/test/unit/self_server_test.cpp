// SPDX-License-Identifier: MIT
// The contract as the `self` target keeps it: hello, memory, state, and what it refuses.
#include "conformance/test/unit/self_machine.hpp"

#include "refhv/self/hello.hpp"
#include "refhv/self/server.hpp"
#include "refhv/x86/cpuid_leaves.hpp"

#include <cstring>
#include <gtest/gtest.h>
#include <random>

namespace refhv::client {
namespace {

using abi::Op;
using abi::Outcome;

TEST(Self, hello_tells_the_machine_as_it_is) {
    const auto target = open_target("self");
    const HelloInfo& hello = target->hello();
    EXPECT_EQ(hello.fixed.platform, static_cast<u16>(abi::Platform::process));
    EXPECT_EQ(hello.fixed.vendor, static_cast<u16>(abi::Vendor::none));
    EXPECT_EQ(hello.fixed.modes, u64{1} << static_cast<u8>(abi::Mode::user));
    EXPECT_GE(hello.fixed.cpus, 1u);
    EXPECT_GT(hello.fixed.tsc_hz, 100'000'000u);
    EXPECT_LT(hello.fixed.tsc_hz, 20'000'000'000u);
    EXPECT_NE(hello.fixed.tsc_source, static_cast<u16>(abi::TscSource::unknown));
    EXPECT_GT(hello.fixed.arena_bytes, 4u << 20);
    u32 here = 0;
    x86::enumerate_cpuid([&here](const abi::CpuidLeaf&) { ++here; });
    EXPECT_EQ(hello.cpuid.size(), here);
    ASSERT_FALSE(hello.cpuid.empty());
    const abi::CpuidLeaf first = x86::cpuid(0, 0);
    EXPECT_EQ(hello.cpuid[0].ebx, first.ebx); // the vendor
    EXPECT_EQ(hello.cpuid[0].eax, first.eax);
    const std::string signature = self::hypervisor_signature();
    const std::string note = hello.fixed.note;
    if (signature.empty()) {
        EXPECT_NE(note.find("no hypervisor"), std::string::npos) << note;
    } else {
        EXPECT_NE(note.find(signature), std::string::npos) << note;
    }
    target->stop();
}

TEST(Self, tsc_rate_is_that_of_the_clock) {
    const TscRate rate = tsc_rate();
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    const i64 ns = time.tv_sec * 1'000'000'000 + time.tv_nsec;
    const u64 tsc = __builtin_ia32_rdtsc();
    constexpr timespec wait{.tv_sec = 0, .tv_nsec = 50'000'000};
    nanosleep(&wait, nullptr);
    clock_gettime(CLOCK_MONOTONIC, &time);
    const double seconds = static_cast<double>(time.tv_sec * 1'000'000'000 + time.tv_nsec - ns) / 1e9;
    const double hz = static_cast<double>(__builtin_ia32_rdtsc() - tsc) / seconds;
    EXPECT_NEAR(hz / static_cast<double>(rate.hz), 1, 0.02);
}

class SelfServer : public testing::Test {
  protected:
    SelfMachine machine;

    SelfMachine::Answer create(abi::VmCreate wanted) { return machine.ask(Op::vm_create, wanted); }
    static constexpr abi::VmCreate second{.vm = 1,
                                          .mode = static_cast<u8>(abi::Mode::user),
                                          .nested_page_size = 0,
                                          .tag_policy = 0,
                                          .zero = 0,
                                          .pages = 16,
                                          .gpa_base = 0x5000'0000};
};

TEST_F(SelfServer, memory_is_what_was_written) {
    const u8 data[] = {1, 2, 3, 4, 5};
    const u64 end = layout::base + SelfMachine::pages * page_size;
    Batch batch;
    batch.add(Op::mem_write, abi::MemRange{.vm = 0, .zero = 0, .gpa = end - 5, .size = 5}, data);
    batch.add(
        Op::mem_fill64,
        abi::MemFill64{.vm = 0, .relocate = 1, .gpa = layout::base, .start = 7, .step = 0x1000, .count = 3});
    batch.add(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = end - 6, .size = 6});
    batch.add(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = layout::base, .size = 32});
    batch.add(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = layout::base, .size = 0});
    const auto answers = machine.ask(batch);
    ASSERT_EQ(answers.size(), 5u);
    for (const auto& answer : answers) {
        EXPECT_EQ(answer.outcome, Outcome::ok) << answer.text;
    }
    EXPECT_EQ(answers[2].body, (std::vector<u8>{0, 1, 2, 3, 4, 5}));
    u64 words[4];
    ASSERT_EQ(answers[3].body.size(), sizeof words);
    std::memcpy(words, answers[3].body.data(), sizeof words);
    EXPECT_EQ(words[0], 7u);
    EXPECT_EQ(words[1], 0x1007u); // not relocated: only mode native is
    EXPECT_EQ(words[2], 0x2007u);
    EXPECT_EQ(words[3], 0u);
    EXPECT_TRUE(answers[4].body.empty());
}

TEST_F(SelfServer, ranges_outside_are_refused) {
    const u64 end = layout::base + SelfMachine::pages * page_size;
    const auto read = [this](u64 gpa, u64 size) {
        return machine.ask(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = gpa, .size = size}).outcome;
    };
    EXPECT_EQ(read(end - 8, 8), Outcome::ok);
    EXPECT_EQ(read(end - 8, 9), Outcome::bad_request);
    EXPECT_EQ(read(layout::base - 1, 1), Outcome::bad_request);
    EXPECT_EQ(read(end, 1), Outcome::bad_request);
    EXPECT_EQ(read(0, 1), Outcome::bad_request);
    EXPECT_EQ(read(layout::base, ~u64{0}), Outcome::bad_request);
    EXPECT_EQ(read(~u64{0}, 2), Outcome::bad_request);
    const auto fill = [this](u64 gpa, u64 count) {
        return machine
            .ask(Op::mem_fill64,
                 abi::MemFill64{.vm = 0, .relocate = 0, .gpa = gpa, .start = 0, .step = 0, .count = count})
            .outcome;
    };
    EXPECT_EQ(fill(end - 8, 1), Outcome::ok);
    EXPECT_EQ(fill(end - 8, 2), Outcome::bad_request);
    EXPECT_EQ(fill(layout::base, u64{1} << 61), Outcome::bad_request); // times 8 is 0
    const u8 data[4] = {};
    const auto write = [&](u64 gpa, u64 size) {
        return machine.ask(Op::mem_write, abi::MemRange{.vm = 0, .zero = 0, .gpa = gpa, .size = size}, data)
            .outcome;
    };
    EXPECT_EQ(write(end - 4, 4), Outcome::ok);
    EXPECT_EQ(write(end - 3, 4), Outcome::bad_request);
    EXPECT_EQ(write(layout::base, 5), Outcome::bad_request); // 4 bytes come
}

TEST_F(SelfServer, vms_come_and_go) {
    EXPECT_EQ(create(second).outcome, Outcome::ok);
    EXPECT_EQ(create(second).outcome, Outcome::bad_request); // taken
    abi::VmCreate overlapping = second;
    overlapping.vm = 2;
    EXPECT_EQ(create(overlapping).outcome, Outcome::exhausted);
    EXPECT_EQ(machine.ask(Op::vm_destroy, abi::VmRef{.vm = 1, .zero = 0}).outcome, Outcome::ok);
    EXPECT_EQ(machine.ask(Op::vm_destroy, abi::VmRef{.vm = 1, .zero = 0}).outcome, Outcome::bad_request);
    EXPECT_EQ(create(overlapping).outcome, Outcome::ok);
    EXPECT_EQ(machine.ask(Op::state_get, abi::VmRef{.vm = 1, .zero = 0}).outcome, Outcome::bad_request);
    EXPECT_EQ(machine.ask(Op::state_get, abi::VmRef{.vm = 2, .zero = 0}).outcome, Outcome::ok);
}

TEST_F(SelfServer, vms_that_cannot_be_are_refused) {
    const auto with = [this](auto change) {
        abi::VmCreate wanted = second;
        change(wanted);
        return create(wanted).outcome;
    };
    EXPECT_EQ(with([](auto& w) { w.vm = abi::max_vms; }), Outcome::bad_request);
    EXPECT_EQ(with([](auto& w) { w.vm = ~0u; }), Outcome::bad_request);
    EXPECT_EQ(with([](auto& w) { w.pages = 0; }), Outcome::bad_request);
    EXPECT_EQ(with([](auto& w) { w.gpa_base += 8; }), Outcome::bad_request);
    EXPECT_EQ(with([](auto& w) { w.pages = ~u64{0}; }), Outcome::exhausted);
    EXPECT_EQ(with([](auto& w) { w.pages = u64{1} << 52; }), Outcome::exhausted); // times 4096 is 0
    EXPECT_EQ(with([](auto& w) { w.gpa_base = u64{1} << 63; }), Outcome::exhausted);
    EXPECT_EQ(with([](auto& w) { w.mode = static_cast<u8>(abi::Mode::nested); }), Outcome::unsupported);
    EXPECT_EQ(with([](auto&) {}), Outcome::ok);
}

TEST_F(SelfServer, policies_that_a_process_cannot_keep_are_refused) {
    const auto set = [this](abi::PolicyEntry entry) {
        return machine
            .ask(Op::policy, abi::PolicySet{.vm = 0, .count = 1},
                 {reinterpret_cast<const u8*>(&entry), sizeof entry})
            .outcome;
    };
    EXPECT_EQ(set(answer_with(abi::Reason::cpuid, abi::Action::advance)), Outcome::ok);
    EXPECT_EQ(set(answer_with(abi::Reason::cpuid, abi::Action::emulate)), Outcome::unsupported);
    EXPECT_EQ(set(answer_with(abi::Reason::exception, abi::Action::inject)), Outcome::unsupported);
    EXPECT_EQ(set(answer_with(abi::Reason::count_, abi::Action::stop)), Outcome::bad_request);
    EXPECT_EQ(set(answer_with(abi::Reason::cpuid, abi::Action::deliver)), Outcome::unsupported);
    EXPECT_EQ(set(answer_with(abi::Reason::cpuid, static_cast<abi::Action>(7))), Outcome::bad_request);
    EXPECT_EQ(machine.ask(Op::policy, abi::PolicySet{.vm = 0, .count = 1}).outcome, Outcome::bad_request);
    EXPECT_EQ(machine.ask(Op::policy, abi::PolicySet{.vm = 0, .count = ~0u}).outcome, Outcome::bad_request);
}

TEST_F(SelfServer, what_needs_privileges_is_unsupported_in_words) {
    for (const Op op : {Op::field_write, Op::field_read, Op::intercept, Op::msr_intercept, Op::io_intercept,
                        Op::nested_protect, Op::nested_entry, Op::invalidate, Op::snapshot, Op::restore}) {
        const auto answer = machine.ask(op, abi::Field{});
        EXPECT_EQ(answer.outcome, Outcome::unsupported);
        EXPECT_FALSE(answer.text.empty());
    }
    EXPECT_EQ(machine.ask(static_cast<Op>(99), abi::Field{}).outcome, Outcome::bad_request);
    EXPECT_EQ(machine.ask(Op::crash, abi::Field{}).outcome, Outcome::bad_request);
}

TEST_F(SelfServer, after_an_error_the_rest_is_skipped) {
    Batch batch;
    batch.add(Op::state_get, abi::VmRef{.vm = 0, .zero = 0});
    batch.add(Op::vm_destroy, abi::VmRef{.vm = 3, .zero = 0});
    batch.add(Op::vm_destroy, abi::VmRef{.vm = 0, .zero = 0});
    const auto answers = machine.ask(batch);
    ASSERT_EQ(answers.size(), 3u);
    EXPECT_EQ(answers[0].outcome, Outcome::ok);
    EXPECT_EQ(answers[1].outcome, Outcome::bad_request);
    EXPECT_EQ(answers[1].text, "there is no such VM");
    EXPECT_EQ(answers[2].outcome, Outcome::skipped);
    EXPECT_EQ(machine.ask(Op::state_get, abi::VmRef{.vm = 0, .zero = 0}).outcome, Outcome::ok); // still there
}

TEST_F(SelfServer, a_run_that_ended_is_no_error) {
    Batch batch;
    const u8 int3 = 0xcc;
    batch.add(Op::mem_write, abi::MemRange{.vm = 0, .zero = 0, .gpa = layout::code, .size = 1}, {&int3, 1});
    batch.add(Op::state_set, abi::StateSet{.vm = 0, .zero = 0, .state = machine.state});
    batch.add(Op::run, abi::Run{});
    batch.add(Op::state_get, abi::VmRef{.vm = 0, .zero = 0});
    const auto answers = machine.ask(batch);
    ASSERT_EQ(answers.size(), 4u);
    EXPECT_EQ(answers[2].outcome, Outcome::exited);
    EXPECT_EQ(answers[3].outcome, Outcome::ok);
}

TEST_F(SelfServer, replies_too_large_for_a_frame_are_refused) {
    EXPECT_EQ(
        machine.ask(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = layout::base, .size = 1u << 20})
            .outcome,
        Outcome::bad_request);
    EXPECT_EQ(
        machine.ask(Op::mem_read, abi::MemRange{.vm = 0, .zero = 0, .gpa = layout::base, .size = 1'000'000})
            .outcome,
        Outcome::ok);
    abi::Run run{};
    run.max_stamps = ~0u;
    EXPECT_EQ(machine.ask(Op::run, run).outcome, Outcome::bad_request);
    run = {};
    run.peer.act = static_cast<u16>(abi::PeerAct::write);
    EXPECT_EQ(machine.ask(Op::run, run).outcome, Outcome::unsupported);
    run = {};
    run.extras = 1;
    EXPECT_EQ(machine.ask(Op::run, run).outcome, Outcome::unsupported);
}

TEST_F(SelfServer, hello_of_another_version_is_refused) {
    EXPECT_EQ(machine.ask(Op::hello, abi::Hello{.version = abi::version, .zero = {}}).outcome, Outcome::ok);
    Batch batch;
    batch.add(Op::hello, abi::Hello{.version = 99, .zero = {}});
    EXPECT_THROW(machine.target().call(batch.payload(), SelfMachine::patience), TargetUnusable);
}

TEST(SelfMemory, range_checks_do_not_wrap) {
    int error = -1;
    const self::GuestMemory memory{0x5000'0000, 2 * page_size, error};
    ASSERT_EQ(error, 0);
    EXPECT_TRUE(memory.contains(0x5000'0000, 2 * page_size));
    EXPECT_TRUE(memory.contains(0x5000'2000, 0));
    EXPECT_FALSE(memory.contains(0x5000'0008, ~u64{0} - 7));
    EXPECT_FALSE(memory.contains(0x5000'2001, 0));
    EXPECT_FALSE(memory.contains(0x4fff'ffff, 1));
    EXPECT_EQ(memory.from(0x5000'1ff8, 15).size(), 8u);
    EXPECT_TRUE(memory.from(0x5000'2000, 15).empty());
    EXPECT_TRUE(memory.at(0x5000'1ff8, 9).empty());
    self::GuestMemory second{0x5000'1000, page_size, error};
    EXPECT_EQ(error, EEXIST);
    EXPECT_FALSE(second.contains(0x5000'1000, 1));
}

// In this process: whatever the bytes, an answer in good form. (The fuzzers go further.)
TEST(SelfServerBytes, any_request_is_answered_in_good_form) {
    self::Server server{1, {.hz = 1, .source = abi::TscSource::unknown}};
    std::mt19937 random{7};
    for (int round = 0; round < 3000; ++round) {
        Batch batch;
        for (u32 i = random() % 4; i != 0; --i) {
            std::vector<u8> body(random() % 80);
            for (u8& byte : body) {
                byte = random() % 4 == 0 ? static_cast<u8>(random()) : u8{0};
            }
            // Not run: its guest would be this process.
            batch.add_raw(static_cast<Op>(random() % 16), body, {});
        }
        std::vector<u8> request(batch.payload().begin(), batch.payload().end());
        if (!request.empty() && random() % 2 != 0) {
            request.resize(random() % request.size());
        }
        const std::vector<u8> reply = server.answer(request);
        const std::vector<Reply> replies = parse_replies(reply);
        EXPECT_LE(reply.size(), abi::max_frame_payload);
        EXPECT_EQ(replies.empty(), request.empty());
        bool failed = false;
        for (const Reply& r : replies) {
            EXPECT_EQ(failed, r.outcome == Outcome::skipped || (failed && r.outcome == Outcome::bad_request));
            failed = failed || r.outcome != Outcome::ok;
        }
    }
}

} // namespace
} // namespace refhv::client
