// SPDX-License-Identifier: MIT
// Which exits enter.S may answer by itself.
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {

// A basic exit reason that stands for several neutral ones, told apart by bits of the exit qualification.
struct Variant {
    BasicExit basic;
    abi::Reason reason;
    u64 mask, match;
};

constexpr u64 cr_mask = 0x3f, cr_read = 1u << 4; // SDM 3C table 28-3: register, access type
constexpr Variant variants[] = {
    {BasicExit::cr_access, abi::Reason::cr0_write, cr_mask, 0},
    {BasicExit::cr_access, abi::Reason::cr3_write, cr_mask, 3},
    {BasicExit::cr_access, abi::Reason::cr4_write, cr_mask, 4},
    {BasicExit::cr_access, abi::Reason::cr8_write, cr_mask, 8},
    {BasicExit::cr_access, abi::Reason::cr3_read, cr_mask, 3 | cr_read},
    {BasicExit::cr_access, abi::Reason::cr8_read, cr_mask, 8 | cr_read},
    {BasicExit::mov_dr, abi::Reason::dr_read, 1u << 4, 1u << 4}, // table 28-4
    {BasicExit::mov_dr, abi::Reason::dr_write, 1u << 4, 0},
    {BasicExit::io, abi::Reason::io_in, 1u << 3, 1u << 3}, // table 28-5
    {BasicExit::io, abi::Reason::io_out, 1u << 3, 0},
};

// One hardware exception that is intercepted alone; the length is the policy's, for the CPU gives none.
FastRule exception_rule(const Policy& policy, u32 bitmap) {
    const Reaction& reaction = policy.of(abi::Reason::exception);
    const bool one = bitmap != 0 && (bitmap & (bitmap - 1)) == 0;
    constexpr u32 software =
        1u << 1 | 1u << 3 | 1u << 4; // #DB, #BP and #OF have other interruption types too
    if (reaction.action != abi::Action::advance || reaction.length == 0 || !one || (bitmap & software) != 0) {
        return no_rule;
    }
    constexpr u64 valid = 1u << 31, hardware_exception = 3u << 8, vector_and_type = 0x7ff; // table 25-18
    return {abi::Reason::exception, Field::exit_interruption_info, valid | vector_and_type,
            valid | hardware_exception | static_cast<u64>(__builtin_ctz(bitmap)), reaction.length};
}

} // namespace

FastRule fast_rule(u32 basic, const Policy& policy, u32 exception_bitmap) {
    const auto advances = [&](abi::Reason r) { return policy.of(r).action == abi::Action::advance; };
    if (const abi::Reason plain = plain_reason(basic); plain != abi::Reason::none) {
        return advances(plain) ? FastRule{plain, Field::exit_qualification, 0, 0, -1} : no_rule;
    }
    const auto which = static_cast<BasicExit>(basic);
    if (which == BasicExit::exception_or_nmi) {
        return exception_rule(policy, exception_bitmap);
    }
    if (which == BasicExit::preemption_timer &&
        policy.of(abi::Reason::preemption_timer).action == abi::Action::resume) {
        return {abi::Reason::preemption_timer, Field::exit_qualification, 0, 0, 0};
    }
    for (const Variant& v : variants) {
        if (v.basic == which && advances(v.reason)) {
            return {v.reason, Field::exit_qualification, v.mask, v.match, -1};
        }
    }
    return no_rule;
}

} // namespace refhv::vmx
