// SPDX-License-Identifier: MIT
#include "conformance/prove/altering_target.hpp"

#include "conformance/test/front/fake_target.hpp"
#include "refhv/client/guest/vm.hpp"

#include <gtest/gtest.h>

namespace refhv::front {
namespace {

GUEST(guest_nop, "nop")

struct Seen {
    client::RunResult run;
    u64 field = 0;
    std::vector<u64> memory;
};

class AlteringTargetTest : public ::testing::Test {
  protected:
    Seen run(std::optional<Part> part) {
        target_.alter(part);
        target_.forget();
        client::Guest guest(host_, client::Plan{});
        guest.load(guest_nop);
        Seen seen{.run = guest.run({}), .field = 0, .memory = guest.read64(client::layout::code, 1)};
        return seen;
    }
    AlteringTarget target_{std::make_unique<test::FakeTarget>()};
    client::GuestHost host_{.target = target_, .occupied = std::nullopt};
};

TEST_F(AlteringTargetTest, replies_are_the_subjects_own_until_something_is_to_be_altered) {
    const Seen a = run({});
    const Seen b = run({});
    EXPECT_FALSE(target_.has_altered());
    EXPECT_EQ(a.run.outcome, b.run.outcome);
    EXPECT_EQ(a.run.reply.state.rip, b.run.reply.state.rip);
    EXPECT_EQ(a.memory, b.memory);
}

TEST_F(AlteringTargetTest, each_part_is_altered_and_no_other) {
    const Seen before = run({});
    for (unsigned i = 0; i < static_cast<unsigned>(Part::count_); ++i) {
        const auto part = static_cast<Part>(i);
        SCOPED_TRACE(name_of(part));
        const Seen after = run(part);
        EXPECT_EQ(before.run.outcome != after.run.outcome, part == Part::outcome);
        EXPECT_EQ(before.run.reply.exit.reason != after.run.reply.exit.reason, part == Part::reason);
        EXPECT_EQ(before.run.reply.exit.qualification != after.run.reply.exit.qualification,
                  part == Part::qualification);
        EXPECT_EQ(before.run.reply.state.rip != after.run.reply.state.rip, part == Part::rip);
        EXPECT_EQ(before.run.reply.state.rflags != after.run.reply.state.rflags, part == Part::flags);
        EXPECT_EQ(before.run.reply.state.segment[0].base != after.run.reply.state.segment[0].base,
                  part == Part::segments);
        EXPECT_EQ(before.run.reply.host_changed != after.run.reply.host_changed, part == Part::host);
        EXPECT_EQ(before.run.reply.entries != after.run.reply.entries, part == Part::counts);
        EXPECT_EQ(before.memory != after.memory, part == Part::memory);
    }
}

} // namespace
} // namespace refhv::front
