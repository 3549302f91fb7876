// SPDX-License-Identifier: MIT
#include "conformance/prove/faulty_target.hpp"

#include "refhv/client/batch.hpp"

#include <gtest/gtest.h>
#include <set>

namespace refhv::front {
namespace {

using abi::Op;
using client::Batch;

constexpr u32 subject_field = 0x6822, other_field = 0x4824;

// Answers every operation with the same, and keeps what it was asked.
class Answering : public client::Target {
  public:
    const client::TargetInfo& info() const override { return info_; }
    const client::HelloInfo& hello() override { return hello_; }
    std::vector<u8> call(std::span<const u8> payload, std::chrono::milliseconds /*patience*/) override {
        asked.assign(payload.begin(), payload.end());
        std::vector<u8> out;
        for (usize at = 0; at + sizeof(abi::OpHeader) <= payload.size();) {
            abi::OpHeader header;
            __builtin_memcpy(&header, &payload[at], sizeof header);
            auto op = static_cast<Op>(header.op);
            if (op == Op::again) {
                abi::Again again;
                __builtin_memcpy(&again, &payload[at + sizeof header], sizeof again);
                abi::OpHeader earlier;
                __builtin_memcpy(&earlier, &payload[again.at], sizeof earlier);
                op = static_cast<Op>(earlier.op);
            }
            answer(out, op);
            at += sizeof header + (header.size + 7) / 8 * 8;
        }
        return out;
    }
    void stop() override { ++stops; }
    unsigned generation() const override { return 1; }

    std::vector<u8> asked;
    unsigned stops = 0;

  private:
    template <class Body>
    static void put(std::vector<u8>& out, Op op, abi::Outcome outcome, const Body& body,
                    usize size = sizeof(Body)) {
        const abi::ReplyHeader header{static_cast<u16>(op), static_cast<u16>(outcome),
                                      static_cast<u32>(size)};
        const auto* const h = reinterpret_cast<const u8*>(&header);
        const auto* const b = reinterpret_cast<const u8*>(&body);
        out.insert(out.end(), h, h + sizeof header);
        out.insert(out.end(), b, b + size);
    }
    static void answer(std::vector<u8>& out, Op op) {
        switch (op) {
        case Op::field_read:
        case Op::field_write:
            put(out, op, abi::Outcome::ok, abi::FieldReply{.value = 0xff, .error = 0, .zero = 0});
            break;
        case Op::run: {
            struct {
                abi::RunReply reply;
                abi::Exit logged[2];
            } body{};
            body.reply.exit.raw_reason = body.logged[0].raw_reason = 30;
            body.logged[1].raw_reason = 10;
            body.reply.exit_count = 2;
            put(out, op, abi::Outcome::exited, body);
            break;
        }
        default:
            put(out, op, abi::Outcome::ok, u64{0}, 0);
        }
    }

    client::TargetInfo info_{"answering", "image", "vmx", true, "ticks", "the same to all"};
    client::HelloInfo hello_;
};

abi::Field field(u32 number, u64 value = 0) {
    return {.vm = 0, .field = number, .width = 8, .zero = 0, .value = value};
}

class FaultyTargetTest : public ::testing::Test {
  protected:
    FaultyTargetTest() {
        auto subject = std::make_unique<Answering>();
        subject_ = subject.get();
        target_ = std::make_unique<FaultyTarget>(std::move(subject));
    }
    std::vector<client::Reply> call(const Batch& batch) {
        bytes_ = target_->call(batch.payload(), std::chrono::milliseconds(1));
        return client::parse_replies(bytes_);
    }
    u64 asked_value(const Batch& batch, usize at_operation = 0) const {
        EXPECT_EQ(subject_->asked.size(), batch.payload().size());
        abi::Field out;
        __builtin_memcpy(
            &out,
            &subject_->asked[at_operation * (sizeof(abi::OpHeader) + sizeof out) + sizeof(abi::OpHeader)],
            sizeof out);
        return out.value;
    }

    Answering* subject_;
    std::unique_ptr<FaultyTarget> target_;
    std::vector<u8> bytes_;
};

constexpr Fault forgets{.name = "forgets", .claims = "", .change = {.write = [](u32 f, u64 v) {
                                                             return f == subject_field ? 0 : v;
                                                         }}};
constexpr Fault misreads{.name = "misreads", .claims = "", .change = {.read = [](u32 f, u64 v) {
                                                               return f == subject_field ? v ^ 1 : v;
                                                           }}};
constexpr Fault misnames{.name = "misnames", .claims = "", .change = {.exit = [](abi::Exit& e) {
                                                               e.qualification = e.raw_reason == 30 ? 7 : 0;
                                                           }}};

TEST_F(FaultyTargetTest, without_a_fault_nothing_is_changed) {
    const Batch batch =
        Batch().add<Op::field_write>(field(subject_field, 5)).add<Op::field_read>(field(subject_field));
    EXPECT_EQ(call(batch)[1].as<abi::FieldReply>().value, 0xffu);
    EXPECT_EQ(asked_value(batch), 5u);
    EXPECT_FALSE(target_->has_shown());
    target_->stop();
    EXPECT_EQ(subject_->stops, 1u);
}

TEST_F(FaultyTargetTest, what_is_written_is_changed_for_its_field_alone) {
    target_->seed(&forgets);
    const Batch other = Batch().add<Op::field_write>(field(other_field, 5));
    (void)call(other);
    EXPECT_EQ(asked_value(other), 5u);
    EXPECT_FALSE(target_->has_shown());
    const Batch both =
        Batch().add<Op::field_write>(field(other_field, 5)).add<Op::field_write>(field(subject_field, 6));
    (void)call(both);
    EXPECT_EQ(asked_value(both, 0), 5u);
    EXPECT_EQ(asked_value(both, 1), 0u);
    EXPECT_TRUE(target_->has_shown());
    target_->stop();
    EXPECT_EQ(subject_->stops, 0u) << "a target that looks wrong is not started anew";
    target_->seed(&forgets);
    EXPECT_FALSE(target_->has_shown());
}

TEST_F(FaultyTargetTest, fields_of_entry_probes_are_written_too) {
    target_->seed(&forgets);
    const abi::ProbeField fields[] = {{other_field, 4, 0, 5}, {subject_field, 8, abi::probe_enters, 6}};
    const Batch batch = Batch().add<Op::entry_probes>(
        abi::EntryProbes{.vm = 0, .count = 2, .deadline = 0, .state = {}}, fields);
    (void)call(batch);
    abi::ProbeField asked[2];
    __builtin_memcpy(asked, &subject_->asked[sizeof(abi::OpHeader) + sizeof(abi::EntryProbes)], sizeof asked);
    EXPECT_EQ(asked[0].value, 5u);
    EXPECT_EQ(asked[1].value, 0u);
    EXPECT_TRUE(target_->has_shown());
}

TEST_F(FaultyTargetTest, what_is_read_is_changed_by_the_field_that_was_asked_for) {
    target_->seed(&misreads);
    Batch batch = Batch().add<Op::field_read>(field(other_field)).add<Op::field_read>(field(subject_field));
    const usize second = sizeof(abi::OpHeader) + sizeof(abi::Field);
    const abi::Patch other{.word = 0, .zero = 0, .value = u64{other_field} << 32};
    batch.again(second, {});
    batch.again(second, {&other, 1});
    const auto replies = call(batch);
    ASSERT_EQ(replies.size(), 4u);
    EXPECT_EQ(replies[0].as<abi::FieldReply>().value, 0xffu);
    EXPECT_EQ(replies[1].as<abi::FieldReply>().value, 0xfeu);
    EXPECT_EQ(replies[2].as<abi::FieldReply>().value, 0xfeu) << "asked for again";
    EXPECT_EQ(replies[3].as<abi::FieldReply>().value, 0xffu) << "asked for again, of another field";
}

TEST_F(FaultyTargetTest, every_exit_that_is_told_is_changed) {
    target_->seed(&misnames);
    const auto reply = call(Batch().add<Op::run>(abi::Run{}))[0];
    EXPECT_EQ(reply.as<abi::RunReply>().exit.qualification, 7u);
    const auto logged = reply.tail<abi::Exit>(sizeof(abi::RunReply), 2);
    EXPECT_EQ(logged[0].qualification, 7u);
    EXPECT_EQ(logged[1].qualification, 0u);
    EXPECT_TRUE(target_->has_shown());
}

TEST_F(FaultyTargetTest, each_fault_of_the_tables_has_a_name_claims_and_a_change) {
    usize rows = 0;
    for (const FaultTable& table : seeded_faults()) {
        std::set<std::string> names;
        for (const Fault& f : table.rows) {
            EXPECT_TRUE(names.insert(f.name).second) << f.name;
            EXPECT_NE(std::string(f.claims), "") << f.name;
            const FaultChange& c = f.change;
            EXPECT_TRUE(c.write != nullptr || c.read != nullptr || c.intercept != nullptr ||
                        c.invalidate != nullptr || c.run != nullptr || c.end != nullptr ||
                        c.exit != nullptr || c.probe != nullptr || c.nested != nullptr || c.memory != nullptr)
                << f.name;
            ++rows;
        }
    }
    EXPECT_GE(rows, 60u);
}

} // namespace
} // namespace refhv::front
