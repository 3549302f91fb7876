// SPDX-License-Identifier: MIT
#include "conformance/test/unit/self_machine.hpp"

#include <gtest/gtest.h>

namespace refhv::client {

SelfMachine::SelfMachine() : target_(open_target("self")) {
    state.rip = layout::code;
    state.gpr[abi::rsp] = layout::stack_top;
    const Answer created = ask(abi::Op::vm_create, abi::VmCreate{.vm = slot,
                                                                 .mode = static_cast<u8>(abi::Mode::user),
                                                                 .nested_page_size = 0,
                                                                 .tag_policy = 0,
                                                                 .zero = 0,
                                                                 .pages = pages,
                                                                 .gpa_base = layout::base});
    EXPECT_EQ(created.outcome, abi::Outcome::ok) << created.text;
}

std::vector<SelfMachine::Answer> SelfMachine::ask(const Batch& batch) {
    const std::vector<u8> payload = target_->call(batch.payload(), patience);
    std::vector<Answer> answers;
    for (const Reply& reply : parse_replies(payload)) {
        answers.push_back({reply.outcome, {reply.body.begin(), reply.body.end()}, reply.text()});
    }
    return answers;
}

SelfMachine::Ended SelfMachine::run(GuestCode code) {
    std::vector<u8> bytes(code.begin, code.end);
    bytes.push_back(0xcc);
    options.vm = slot;
    Batch batch;
    batch.add(abi::Op::mem_write,
              abi::MemRange{.vm = slot, .zero = 0, .gpa = layout::code, .size = bytes.size()}, bytes);
    batch.add(abi::Op::state_set, abi::StateSet{.vm = slot, .zero = 0, .state = state});
    batch.add(abi::Op::policy, abi::PolicySet{.vm = slot, .count = static_cast<u32>(policy.size())},
              {reinterpret_cast<const u8*>(policy.data()), policy.size() * sizeof(abi::PolicyEntry)});
    batch.add(abi::Op::run, options);
    const std::vector<u8> payload = target_->call(batch.payload(), patience);
    const std::vector<Reply> replies = parse_replies(payload);
    EXPECT_EQ(replies.size(), 4u);
    for (usize i = 0; i + 1 < replies.size(); ++i) {
        EXPECT_EQ(replies[i].outcome, abi::Outcome::ok) << replies[i].text();
    }
    const Reply& last = replies.back();
    Ended ended{.outcome = last.outcome, .reply = last.as<abi::RunReply>(), .stamps = {}};
    ended.stamps = last.tail<abi::HostStamp>(sizeof(abi::RunReply), ended.reply.stamp_count);
    return ended;
}

} // namespace refhv::client
