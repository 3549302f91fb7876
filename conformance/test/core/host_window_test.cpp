// SPDX-License-Identifier: MIT
// When the host can take an interrupt, and how a run and a batch end before their time, on fake hardware.
#include "conformance/test/core/core_fixture.hpp"

#include <algorithm>

namespace refhv {
namespace {

class HostWindowTest : public CoreTest {
  protected:
    HostWindowTest() {
        fake::timer_armed = fake::stop = fake::Vcpu::translates = false;
        fake::pending = fake::exits_since_window = fake::most_exits = 0;
    }
    ~HostWindowTest() override { fake::stop = fake::Vcpu::translates = false; }
};

TEST_F(HostWindowTest, a_short_deadline_is_not_lost_before_the_guest_runs) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Run what{};
    what.deadline = 1;
    // The guest spins: nothing but the timer's interrupt brings it back.
    EXPECT_EQ(run(abi::Reason::external_interrupt, ~u64{0}, what, abi::Action::stop).outcome,
              Outcome::deadline);
    what.deadline = 1'000'000; // the fake's timer goes off too early, as real ones do
    EXPECT_EQ(run(abi::Reason::external_interrupt, ~u64{0}, what, abi::Action::stop).outcome,
              Outcome::deadline);
}

TEST_F(HostWindowTest, a_timer_that_a_window_takes_is_armed_anew) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    abi::Run what{};
    what.repeats = 3; // exits of another reason, whose windows take the timer's interrupt
    const auto reply = run(abi::Reason::rdmsr, 10, what, abi::Action::resume);
    EXPECT_EQ(reply.outcome, Outcome::repeats_done);
    EXPECT_EQ(reply.as<abi::RunReply>().interrupts, 2u) << "taken in windows, counted as disturbances";
    EXPECT_EQ(reply.as<abi::RunReply>().counts[static_cast<usize>(abi::Reason::external_interrupt)], 0u);
}

TEST_F(HostWindowTest, every_exit_opens_it_whatever_its_reason) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    for (u16 n = 1; n < static_cast<u16>(abi::Reason::count_); ++n) {
        const auto reason = static_cast<abi::Reason>(n);
        if (reason == abi::Reason::hlt || reason == abi::Reason::cpuid) {
            continue; // the fake's own end; answered fast, see below
        }
        fake::most_exits = 0;
        (void)run(reason, 50, {}, abi::Action::resume);
        EXPECT_EQ(fake::most_exits, 1u) << "reason " << n;
    }
    fake::Vcpu::translates = true; // and those that no policy sees
    abi::Run what{};
    what.deadline = 100'000;
    fake::most_exits = 0;
    EXPECT_EQ(run(abi::Reason::exception, ~u64{0}, what, abi::Action::stop).outcome, Outcome::deadline);
    EXPECT_EQ(fake::most_exits, 1u);
}

TEST_F(HostWindowTest, exits_answered_on_the_exit_path_are_bounded) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    (void)run(abi::Reason::cpuid, 1'000'000, {}, abi::Action::advance);
    EXPECT_EQ(fake::most_exits, detail::fast_chunk);
}

TEST_F(HostWindowTest, an_interrupt_for_the_guest_that_a_window_takes_is_the_guests) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::delivered = 0;
    const abi::PolicyEntry entries[] = {
        {static_cast<u16>(abi::Reason::rdmsr), static_cast<u8>(abi::Action::resume), 0, 0},
        {static_cast<u16>(abi::Reason::external_interrupt), static_cast<u8>(abi::Action::inject), 0, 0}};
    abi::StateSet state{};
    state.state.gpr[abi::rax] = static_cast<u64>(abi::Reason::rdmsr);
    state.state.gpr[abi::rcx] = 5;
    Batch b;
    b.add(Op::state_set, state)
        .add(Op::policy, abi::PolicySet{0, 2}, {reinterpret_cast<const u8*>(entries), sizeof entries})
        .add(Op::run, abi::Run{});
    fake::arrives_in = 4; // what comes in before the guest runs is nobody's
    EXPECT_EQ(send(b).at(2).outcome, Outcome::exited);
    EXPECT_EQ(fake::delivered, 0x41u);
}

TEST_F(HostWindowTest, a_stop_ends_a_run_and_its_batch) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::stop = true;
    abi::StateSet state{};
    state.state.gpr[abi::rax] = static_cast<u64>(abi::Reason::rdmsr);
    state.state.gpr[abi::rcx] = ~u64{0};
    const abi::PolicyEntry entry{static_cast<u16>(abi::Reason::rdmsr), static_cast<u8>(abi::Action::resume),
                                 0, 0};
    Batch b;
    b.add(Op::state_set, state)
        .add(Op::policy, abi::PolicySet{0, 1}, {reinterpret_cast<const u8*>(&entry), sizeof entry})
        .add(Op::run, abi::Run{})
        .add(Op::run, abi::Run{});
    const auto replies = send(b);
    EXPECT_EQ(replies.at(2).outcome, Outcome::stopped);
    EXPECT_GT(replies.at(2).as<abi::RunReply>().handled, 0u) << "what it did until then is told";
    EXPECT_EQ(replies.at(3).outcome, Outcome::skipped);
}

TEST_F(HostWindowTest, the_host_may_have_the_cpu_between_two_operations) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    Batch b;
    for (int i = 0; i < 100; ++i) {
        b.add(Op::state_get, abi::VmRef{0, 0});
    }
    const u64 before = fake::breaths;
    EXPECT_EQ(send(b).at(99).outcome, Outcome::ok);
    EXPECT_GE(fake::breaths - before, 99u);
}

TEST_F(HostWindowTest, the_host_may_have_the_cpu_while_memory_is_moved) {
    constexpr u64 pages = 1024, bytes = pages * page_size, parts = bytes / slices::bytes;
    const auto breaths = [&](const Batch& b) {
        const u64 before = fake::breaths;
        for (const client::Reply& r : send(b)) {
            EXPECT_EQ(r.outcome, Outcome::ok);
        }
        return fake::breaths - before;
    };
    EXPECT_GE(breaths(Batch().add(Op::vm_create, vm(0, pages))), parts) << "it is zeroed";
    EXPECT_GE(breaths(Batch().add(Op::mem_fill64, abi::MemFill64{0, 0, base, 1, 1, bytes / 8})), parts);
    EXPECT_GE(breaths(Batch().add(Op::snapshot, abi::VmRef{0, 0})), parts);
    EXPECT_GE(breaths(Batch().add(Op::restore, abi::VmRef{0, 0})), parts);
    EXPECT_GE(breaths(Batch().add(Op::mem_read, abi::MemRange{0, 0, base, 1u << 19})), parts / 8);
    const std::vector<u8> data(1u << 19, 7);
    EXPECT_GE(breaths(Batch().add(Op::mem_write, abi::MemRange{0, 0, base, data.size()}, data)), parts / 8);
}

// Asked no oftener than every 2^24 ticks, so the batch has to last.
TEST_F(HostWindowTest, a_stop_ends_a_batch_without_runs) {
    ASSERT_EQ(create(vm(0, 2048)), Outcome::ok);
    fake::stop = true;
    Batch b;
    for (int i = 0; i < 400; ++i) {
        b.add(Op::mem_fill64, abi::MemFill64{0, 0, base, 1, 1, 2048 * 512});
    }
    b.add(Op::run, abi::Run{});
    const auto replies = send(b);
    const auto stopped = std::find_if(replies.begin(), replies.end(),
                                      [](const client::Reply& r) { return r.outcome == Outcome::stopped; });
    ASSERT_NE(stopped, replies.end());
    EXPECT_NE(stopped->text(), "");
    EXPECT_EQ(replies.at(400).outcome, Outcome::skipped);
}

TEST_F(HostWindowTest, a_guest_that_sleeps_hears_a_stop) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::stop = true;
    fake::wakes = false;
    const auto reply = run(abi::Reason::hlt, 0, {}, abi::Action::emulate);
    fake::wakes = true;
    EXPECT_EQ(reply.outcome, Outcome::stopped);
}

// A host whose handlers need its registers has them in every window, and the guest its own whenever it runs.
TEST_F(HostWindowTest, a_host_that_needs_its_registers_has_them_in_every_window) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    fake::windows_without_registers = fake::gifts = 0;
    for (const u64 interval : {u64{1}, u64{1} << 40}) {
        fake::window_interval = interval;
        fake::gifts = fake::windows = 0;
        fake::wakes = false;
        for (const auto reason : {abi::Reason::rdmsr, abi::Reason::external_interrupt}) {
            abi::Run what{};
            what.deadline = 100'000'000;
            fake::timer_armed = true;
            EXPECT_EQ(run(reason, 50, what, abi::Action::resume).outcome, Outcome::exited);
        }
        EXPECT_GT(fake::gifts, 0u);
        // Exits of its own open windows no oftener than the interval; an interrupt that ended the guest does.
        EXPECT_EQ(fake::gifts > 60, interval == 1) << fake::gifts;
        abi::Run sleep{};
        sleep.deadline = 100'000;
        EXPECT_EQ(run(abi::Reason::hlt, 0, sleep, abi::Action::emulate).outcome, Outcome::deadline);
        fake::wakes = true;
        EXPECT_EQ(fake::windows_without_registers, 0u);
    }
    fake::window_interval = 0;
    fake::gifts = 0;
    EXPECT_EQ(run(abi::Reason::rdmsr, 50, {}, abi::Action::resume).outcome, Outcome::exited);
    EXPECT_EQ(fake::gifts, 0u) << "a host that does not need them";
}

} // namespace
} // namespace refhv
