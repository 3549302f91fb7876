// SPDX-License-Identifier: MIT
#include "conformance/entry/failure.hpp"

namespace refhv::front {

using abi::Outcome;
using abi::Reason;
using client::Guest;

namespace {

GUEST(guest_nothing, "nop")

} // namespace

client::RunResult EntryFailure::run_spoilt(std::initializer_list<SpoiltField> fields) {
    Guest guest(host(), client::Plan{});
    guest.load(guest_nothing);
    for (const SpoiltField& f : fields) {
        const u64 now = guest.read_field(f.field, f.width);
        guest.field(f.field, f.width, (now & ~f.clear) | f.set);
    }
    return guest.run({});
}

void EntryFailure::expect_healthy() {
    Guest guest(host(), client::Plan{});
    guest.load(guest_nothing);
    const auto r = guest.run({});
    EXPECT_EQ(r.outcome, Outcome::exited) << "a good guest after the refusal";
    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

void EntryFailure::expect_instruction_error(std::initializer_list<SpoiltField> fields, u32 error) {
    const auto r = run_spoilt(fields);
    EXPECT_EQ(r.outcome, Outcome::entry_refused);
    EXPECT_EQ(r.reply.refusal.instruction_error, error) << "VM-instruction error, SDM 3C 31.4";
    EXPECT_EQ(r.reply.refusal.entry_failure, 0u);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    expect_healthy();
}

void EntryFailure::expect_entry_failure(std::initializer_list<SpoiltField> fields, u32 reason,
                                        u64 qualification) {
    const auto r = run_spoilt(fields);
    EXPECT_EQ(r.outcome, Outcome::entry_refused);
    EXPECT_EQ(r.reply.refusal.instruction_error, 0u);
    EXPECT_EQ(r.reply.refusal.entry_failure, reason) << "basic exit reason";
    EXPECT_EQ(r.reply.refusal.qualification, qualification);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    expect_healthy();
}

void EntryFailure::expect_vmexit_invalid(std::initializer_list<SpoiltField> fields) {
    const auto r = run_spoilt(fields);
    EXPECT_EQ(r.outcome, Outcome::entry_refused) << "VMRUN took a guest state that it must refuse";
    EXPECT_EQ(r.reply.refusal.entry_failure, 1u) << "VMEXIT_INVALID";
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    expect_healthy();
}

} // namespace refhv::front
