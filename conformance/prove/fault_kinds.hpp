// SPDX-License-Identifier: MIT
// Kinds of faults that many rows of the tables have: what a field, a part of an exit or of the state loses or
// has wrong.
#pragma once

#include "conformance/prove/fault.hpp"

namespace refhv::front::faults {

inline constexpr u64 all = ~u64{0};

// Fields as they are written or read: bits that are lost, bits that are set, bits that are wrong.
template <u32 field, u64 lost = all, u64 set = 0>
u64 loses(u32 f, u64 value) {
    return f == field ? (value & ~lost) | set : value;
}
template <u32 field, u64 bits>
u64 flips(u32 f, u64 value) {
    return f == field ? value ^ bits : value;
}
// Counts that are too low by one, where there are any.
template <u32 field>
u64 one_less(u32 f, u64 value) {
    return f == field && value != 0 ? value - 1 : value;
}
// Of an event that is injected, or was: while bit 31 says that it is valid.
template <u32 field, u64 lost, u64 wrong = 0>
u64 of_valid_event(u32 f, u64 value) {
    return f == field && (value >> 31 & 1) != 0 ? (value & ~lost) ^ wrong : value;
}

// Exits by their raw reason.
template <u64 raw, auto member, u64 bits>
void exit_flips(abi::Exit& e) {
    if (e.raw_reason == raw) {
        e.*member = static_cast<std::remove_reference_t<decltype(e.*member)>>(e.*member ^ bits);
    }
}
template <u64 raw, auto member, u64 lost>
void exit_loses(abi::Exit& e) {
    if (e.raw_reason == raw) {
        e.*member = static_cast<std::remove_reference_t<decltype(e.*member)>>(e.*member & ~lost);
    }
}
template <u64 raw, auto member>
void exit_one_more(abi::Exit& e) {
    if (e.raw_reason == raw) {
        e.*member += 1;
    }
}

// The state that an exit of that raw reason saves; of any.
template <u64 raw, auto member, u64 bits>
void state_flips(abi::RunReply& r) {
    if (r.exit.raw_reason == raw) {
        r.state.*member ^= bits;
    }
}
template <auto member, u64 bits>
void any_state_flips(abi::RunReply& r) {
    r.state.*member ^= bits;
}
template <u8 segment, u32 bits>
void rights_flip(abi::RunReply& r) {
    r.state.segment[segment].rights ^= bits;
}

// An intercept that the CPU does not heed.
template <abi::Intercept which>
void ignores(abi::InterceptSet& i) {
    i.set &= ~(u64{1} << static_cast<u8>(which));
}

} // namespace refhv::front::faults
