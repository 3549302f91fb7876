// SPDX-License-Identifier: MIT
// Operations of a batch that repeat an earlier one.
#include "conformance/test/core/core_fixture.hpp"

namespace refhv {
namespace {

class Again : public CoreTest {};

TEST_F(Again, is_an_earlier_operation_with_words_changed) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    Batch b;
    const u64 value = 1;
    b.add<Op::mem_write>({.vm = 0, .zero = 0, .gpa = base, .size = 8},
                         {reinterpret_cast<const u8*>(&value), 8});
    const usize read = b.payload().size();
    b.add<Op::mem_read>({.vm = 0, .zero = 0, .gpa = base, .size = 8});
    const abi::Patch patches[] = {{1, 0, base + 8}, {3, 0, 7}};
    b.again(0, patches).again(read, {}).again(read, std::span(patches).first(1));
    const auto replies = send(b);
    ASSERT_EQ(replies.size(), 5u);
    EXPECT_EQ(replies[2].op, Op::mem_write);
    for (const auto& r : replies) {
        EXPECT_EQ(r.outcome, Outcome::ok);
    }
    EXPECT_EQ(replies[3].as<u64>(), 1u);
    EXPECT_EQ(replies[4].op, Op::mem_read);
    EXPECT_EQ(replies[4].as<u64>(), 7u);
}

TEST_F(Again, is_refused_where_it_names_none) {
    ASSERT_EQ(create(vm()), Outcome::ok);
    const auto refused = [&](usize at, std::span<const abi::Patch> patches) {
        Batch b;
        b.add<Op::mem_read>({.vm = 0, .zero = 0, .gpa = base, .size = 8}).again(at, patches);
        return send(b).at(1).outcome;
    };
    const abi::Patch behind[] = {{3, 0, 0}};
    EXPECT_EQ(refused(0, {}), Outcome::ok);
    EXPECT_EQ(refused(0, behind), Outcome::bad_request);
    EXPECT_EQ(refused(4, {}), Outcome::bad_request) << "not aligned";
    EXPECT_EQ(refused(8, {}), Outcome::bad_request) << "inside another";
    EXPECT_EQ(refused(32, {}), Outcome::bad_request) << "itself";
    EXPECT_EQ(refused(u32{0} - 8, {}), Outcome::bad_request) << "outside";
    const std::vector<u8> long_data(abi::max_again);
    Batch b;
    b.add<Op::mem_write>({.vm = 0, .zero = 0, .gpa = base, .size = long_data.size()}, long_data).again(0, {});
    EXPECT_EQ(send(b).at(1).outcome, Outcome::bad_request) << "too long";
}

} // namespace
} // namespace refhv
