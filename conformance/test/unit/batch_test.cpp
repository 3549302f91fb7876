// SPDX-License-Identifier: MIT
// Writing request payloads, reading reply payloads (refhv/client/batch.hpp).
#include "refhv/client/batch.hpp"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <set>
#include <string>

namespace refhv::client {
namespace {

using abi::Op;
using abi::Outcome;

std::vector<u8> reply(Op op, Outcome outcome, std::span<const u8> body, bool pad = true) {
    const abi::ReplyHeader header{.op = static_cast<u16>(op),
                                  .outcome = static_cast<u16>(outcome),
                                  .size = static_cast<u32>(body.size())};
    std::vector<u8> bytes(sizeof header + (pad ? abi::align8(body.size()) : body.size()));
    std::memcpy(bytes.data(), &header, sizeof header);
    std::copy(body.begin(), body.end(), bytes.begin() + sizeof header);
    return bytes;
}

TEST(Batch, lays_operations_on_multiples_of_8) {
    Batch batch;
    const u8 data[] = {1, 2, 3};
    batch.add(Op::mem_write, abi::MemRange{.vm = 2, .zero = 0, .gpa = 0x1000, .size = 3}, data);
    batch.add(Op::state_get, abi::VmRef{.vm = 2, .zero = 0});
    EXPECT_EQ(batch.operations(), 2u);
    const auto payload = batch.payload();
    ASSERT_EQ(payload.size(), 8 + 24 + 8 + 8 + 8u); // the 3 bytes take 8
    abi::OpHeader header;
    std::memcpy(&header, payload.data(), sizeof header);
    EXPECT_EQ(header.op, static_cast<u16>(Op::mem_write));
    EXPECT_EQ(header.size, 24 + 3u); // without padding
    EXPECT_EQ(payload[8 + 24 + 2], 3);
    for (usize i = 8 + 24 + 3; i < 8 + 24 + 8; ++i) {
        EXPECT_EQ(payload[i], 0);
    }
    std::memcpy(&header, payload.data() + 40, sizeof header);
    EXPECT_EQ(header.op, static_cast<u16>(Op::state_get));
    EXPECT_EQ(header.size, 8u);
}

TEST(Operations, have_names_and_sizes_of_their_own) {
    std::set<std::string> names;
    abi::Operations::each([&]<class Row>(Row row) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_STREQ(name_of(row.number), row.name);
        EXPECT_EQ(abi::body_size(row.number), sizeof(typename Row::Body)) << row.name;
    });
    EXPECT_EQ(names.size(), abi::Operations::count);
    EXPECT_STREQ(name_of(Op::state_get), "state_get");
    EXPECT_STREQ(name_of(static_cast<Op>(99)), "unknown operation");
    EXPECT_EQ(abi::body_size(Op::crash), 0u) << "a reply only";
}

TEST(Batch, a_typed_operation_is_the_same_bytes) {
    const abi::PolicyEntry entries[] = {{.reason = 11, .action = 1, .length = 2, .event = 0}};
    Batch typed, raw;
    typed.add<Op::policy>({.vm = 1, .count = 1}, entries).add<Op::vm_destroy>({.vm = 1, .zero = 0});
    raw.add(Op::policy, abi::PolicySet{.vm = 1, .count = 1},
            {reinterpret_cast<const u8*>(entries), sizeof entries});
    raw.add(Op::vm_destroy, abi::VmRef{.vm = 1, .zero = 0});
    EXPECT_TRUE(std::ranges::equal(typed.payload(), raw.payload()));
}

TEST(ParseReplies, splits_and_keeps_order) {
    const u8 body[] = {7, 8, 9, 10, 11};
    std::vector<u8> payload = reply(Op::mem_read, Outcome::ok, body);
    const std::vector<u8> second = reply(Op::mem_write, Outcome::skipped, {});
    payload.insert(payload.end(), second.begin(), second.end());
    const std::vector<Reply> replies = parse_replies(payload);
    ASSERT_EQ(replies.size(), 2u);
    EXPECT_EQ(replies[0].op, Op::mem_read);
    EXPECT_EQ(std::vector<u8>(replies[0].body.begin(), replies[0].body.end()),
              std::vector<u8>(body, body + 5));
    EXPECT_EQ(replies[1].outcome, Outcome::skipped);
    EXPECT_TRUE(replies[1].body.empty());
}

TEST(ParseReplies, takes_an_empty_payload_and_a_last_reply_without_padding) {
    EXPECT_TRUE(parse_replies({}).empty());
    const u8 body[] = {7, 8, 9};
    EXPECT_EQ(parse_replies(reply(Op::mem_read, Outcome::ok, body, false)).at(0).body.size(), 3u);
}

TEST(ParseReplies, refuses_every_payload_that_was_cut_inside_a_reply) {
    const std::vector<u8> body(16, 1);
    const std::vector<u8> whole = reply(Op::mem_read, Outcome::ok, body);
    for (usize length = 1; length < whole.size(); ++length) {
        EXPECT_THROW((void)parse_replies(std::span{whole}.first(length)), MalformedReply) << length;
    }
}

TEST(ParseReplies, refuses_sizes_and_outcomes_out_of_range) {
    std::vector<u8> huge = reply(Op::mem_read, Outcome::ok, {});
    std::memset(huge.data() + offsetof(abi::ReplyHeader, size), 0xff, 4);
    EXPECT_THROW((void)parse_replies(huge), MalformedReply);
    const auto beyond = static_cast<Outcome>(static_cast<u16>(Outcome::stopped) + 1); // the last one
    EXPECT_THROW((void)parse_replies(reply(Op::mem_read, beyond, {})), MalformedReply);
}

TEST(Reply, gives_its_parts_and_refuses_what_is_not_there) {
    std::vector<u8> body(sizeof(abi::VmCreateReply) + 2 * sizeof(abi::HostStamp));
    const abi::HostStamp stamp{.first = 5, .last = 6};
    std::memcpy(body.data() + sizeof(abi::VmCreateReply) + sizeof stamp, &stamp, sizeof stamp);
    const Reply reply{.op = Op::run, .outcome = Outcome::ok, .body = body};
    EXPECT_EQ(reply.as<abi::VmCreateReply>().hpa_base, 0u);
    EXPECT_EQ(reply.tail<abi::HostStamp>(sizeof(abi::VmCreateReply), 2).at(1).last, 6u);
    EXPECT_THROW((void)(Reply{.op = Op::run, .outcome = Outcome::ok, .body = std::span{body}.first(7)})
                     .as<abi::VmCreateReply>(),
                 MalformedReply);
    EXPECT_THROW((void)reply.tail<abi::HostStamp>(sizeof(abi::VmCreateReply), 3), MalformedReply);
    EXPECT_THROW((void)reply.tail<abi::HostStamp>(body.size() + 1, 0), MalformedReply);
    EXPECT_THROW((void)reply.tail<abi::HostStamp>(0, ~usize{0} / 8), MalformedReply); // times 16 overflows
}

TEST(Reply, text_is_bounded_and_for_errors_only) {
    const std::string full(sizeof(abi::Text), 'x'); // no NUL
    const std::vector<u8> body(full.begin(), full.end());
    EXPECT_EQ((Reply{.op = Op::run, .outcome = Outcome::unsupported, .body = body}.text()), full);
    EXPECT_EQ((Reply{.op = Op::run, .outcome = Outcome::exited, .body = body}.text()), "");
    EXPECT_EQ((Reply{.op = Op::run, .outcome = Outcome::bad_request, .body = {}}.text()), "");
    const u8 nul[] = {'a', 'b', 0, 'c'};
    EXPECT_EQ((Reply{.op = Op::run, .outcome = Outcome::exhausted, .body = nul}.text()), "ab");
}

TEST(Names, are_all_there_and_distinct) {
    std::set<std::string> names;
    for (u16 i = 0; i < static_cast<u16>(abi::Reason::count_); ++i) {
        EXPECT_TRUE(names.insert(name_of(static_cast<abi::Reason>(i))).second) << i;
    }
    EXPECT_STREQ(name_of(abi::Reason::cpuid), "cpuid");
    EXPECT_STREQ(name_of(abi::Reason::nested_violation), "nested_violation");
    EXPECT_STREQ(name_of(abi::Reason::int_n), "int_n");
    EXPECT_STREQ(name_of(abi::Reason::other), "other");
    EXPECT_STREQ(name_of(abi::Reason::count_), "unknown reason");
    EXPECT_STREQ(name_of(Outcome::wrong_version), "wrong_version");
    EXPECT_STREQ(name_of(Outcome::stopped), "stopped");
    EXPECT_STREQ(name_of(Outcome::deadline), "deadline");
    EXPECT_STREQ(name_of(static_cast<Outcome>(99)), "unknown outcome");
    EXPECT_STREQ(name_of(abi::Mode::user), "user");
    EXPECT_STREQ(name_of(static_cast<abi::Mode>(0)), "unknown mode");
}

} // namespace
} // namespace refhv::client
