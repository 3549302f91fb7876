// SPDX-License-Identifier: MIT
#include "conformance/entry/cet.hpp"

namespace refhv::front {

using namespace cet;

namespace {

constexpr u64 bitmap_page = client::layout::arena + page_size;
constexpr u64 shadow_stack_entry = 0x61; // P, A, D; not writable, of the supervisor (SDM 3A 4.6)

} // namespace

EntryCet::CetGuest::CetGuest(client::GuestCode code)
    : guest_(host(), {.arena_pages = 2, .exceptions = 1u << control_protection}) {
    using enum abi::Permit;
    for (const abi::Permit item : {control_bits, world_switch, host_fields, permission_maps}) {
        needs(item);
    }
    const auto lacks = [](const char* what) {
        throw client::Refused(abi::Op::hello, abi::Outcome::unsupported, what);
    };
    if (!offers(hello(), vmcs::entry_controls, entry_load_cet) ||
        !offers(hello(), vmcs::exit_controls, exit_load_cet)) {
        lacks("no \"load CET state\" (VM-entry control 20, VM-exit control 28)");
    }
    constexpr u32 cr4_fixed1 = 0x489;
    if ((msr(hello(), cr4_fixed1) & cr4_cet) == 0) {
        lacks("no guest may have CR4.CET (IA32_VMX_CR4_FIXED1)");
    }
    guest_.state.cr4 |= cr4_cet;
    guest_.fill(REFHV_ARENA_ENTRY, client::layout::arena | shadow_stack_entry, 0, 1, true);
    guest_.fill(bitmap_page, 0, 0, page_size / 8, false);
    guest_.load(code);
    entry_ = guest_.read_field(vmcs::entry_controls, 4);
    exit_ = guest_.read_field(vmcs::exit_controls, 4);
}

void EntryCet::CetGuest::put(const Cet& cet, u32 first) {
    guest_.field(first, 8, cet.s_cet);
    guest_.field(first + 2, 8, cet.ssp);
    guest_.field(first + 4, 8, cet.table);
}

client::RunResult EntryCet::CetGuest::run(const std::optional<Cet>& guests, const std::optional<Cet>& hosts) {
    guest_.field(vmcs::msr_bitmap, 8, guest_.host_physical(bitmap_page));
    guest_.field(vmcs::entry_controls, 4, (entry_ & ~entry_load_cet) | (guests ? entry_load_cet : 0));
    guest_.field(vmcs::exit_controls, 4, (exit_ & ~exit_load_cet) | (hosts ? exit_load_cet : 0));
    if (guests) {
        put(*guests);
    }
    if (hosts) {
        put(*hosts, host_s_cet);
    }
    return guest_.run({});
}

Cet EntryCet::CetGuest::saved() {
    const std::vector<client::Guest::FieldOf> fields{
        {guest_s_cet, 8}, {guest_s_cet + 2, 8}, {guest_s_cet + 4, 8}};
    const auto values = guest_.read_fields(fields);
    return {values[0], values[1], values[2]};
}

void EntryCet::expect_stopped(const client::RunResult& r) {
    ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text << " error " << r.reply.refusal.instruction_error
                                               << ", reason " << r.reply.refusal.entry_failure;
    EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt)
        << "vector " << r.reply.exit.vector << ", error " << r.reply.exit.interruption_error;
    EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

void EntryCet::expect_seen(const client::RunResult& r, const Cet& cet) {
    expect_stopped(r);
    EXPECT_EQ(r.reply.state.gpr[abi::r8], cet.s_cet) << "IA32_S_CET";
    EXPECT_EQ(r.reply.state.gpr[abi::r9], cet.table) << "IA32_INTERRUPT_SSP_TABLE_ADDR";
    EXPECT_EQ(r.reply.state.gpr[abi::r10], cet.ssp) << "SSP";
}

} // namespace refhv::front
