// SPDX-License-Identifier: MIT
#include "conformance/probe/delivery.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u64 tf = 1u << 8, interrupt_flag = 1u << 9, nt = 1u << 14, rf = 1u << 16, vm = 1u << 17,
              ac = 1u << 18;

bool is_trap(Gate g) {
    return g == Gate::trap || g == Gate::trap16;
}

bool is_16(Gate g) {
    return g == Gate::interrupt16 || g == Gate::trap16;
}

// Pushes onto the stack of the state.
class Stack {
  public:
    Stack(Due& due, u32 width, bool wide) : due_(due), width_(width), wide_(wide) {}

    void push(const char* name, u64 value, u64 mask = ~u64{0}) {
        u64& rsp = due_.state.gpr[abi::rsp];
        const u64 offset = rsp - width_;
        rsp = wide_ ? offset : (rsp & ~u64{0xffff}) | (offset & 0xffff);
        const u64 base = width_ == 8 ? 0 : due_.state.segment[abi::ss].base; // 64-bit mode has none
        due_.slots.push_back({name, base + (wide_ ? rsp : rsp & 0xffff), width_, value, mask});
    }

  private:
    Due& due_;
    u32 width_;
    bool wide_; // of the stack pointer
};

void set_segment(abi::Segment& s, u16 selector, u64 base, u32 limit, u32 rights) {
    s = {.base = base, .limit = limit, .rights = rights, .selector = selector, .zero = {}};
}

void deliver_in_real_mode(Due& due, const Probe& probe, const Delivered& e) {
    const abi::GuestState before = probe.state;
    Stack stack(due, 2, false);
    stack.push("FLAGS in the frame", before.rflags);
    stack.push("CS in the frame", before.segment[abi::cs].selector);
    stack.push("IP in the frame", e.rip);
    abi::Segment& cs = due.state.segment[abi::cs];
    cs.selector = machine::real_handlers;
    cs.base = u64{machine::real_handlers} << 4;
    due.state.rip = u64{4} * e.vector;
    due.state.rflags &= ~(interrupt_flag | tf | ac | rf);
}

void change_stack(abi::GuestState& s, bool is_long) {
    s.gpr[abi::rsp] = machine::ring0_stack;
    if (is_long) {
        set_segment(s.segment[abi::ss], 0, 0, 0, machine::unusable);
    } else {
        set_segment(s.segment[abi::ss], machine::data32, 0, ~0u, 0xc093);
    }
}

} // namespace

Due delivered(const Probe& probe, const Delivered& e, bool on_vmx) {
    Due due{.raw = hlt_exit(on_vmx), .state = probe.state};
    if (machine::is_real(probe.kind)) {
        deliver_in_real_mode(due, probe, e);
        return due;
    }
    const abi::GuestState& before = probe.state;
    const bool is_long = machine::is_long(probe.kind), v86 = probe.kind == Kind::v86;
    const bool user = machine::is_user(probe.kind);
    if (user) {
        change_stack(due.state, is_long);
    }
    const u32 width = is_long ? 8 : is_16(e.gate) ? 2 : 4;
    constexpr u32 big = 1u << 14; // SS.B
    Stack stack(due, width, is_long || (due.state.segment[abi::ss].rights & big) != 0);
    if (is_long) {
        due.state.gpr[abi::rsp] &= ~u64{15};
    }
    if (v86) {
        stack.push("GS in the frame", before.segment[abi::gs].selector, 0xffff);
        stack.push("FS in the frame", before.segment[abi::fs].selector, 0xffff);
        stack.push("DS in the frame", before.segment[abi::ds].selector, 0xffff);
        stack.push("ES in the frame", before.segment[abi::es].selector, 0xffff);
        for (const auto i : {abi::es, abi::ds, abi::fs, abi::gs}) {
            set_segment(due.state.segment[i], 0, 0, 0, machine::unusable);
        }
    }
    if (user || is_long) {
        stack.push("SS in the frame", before.segment[abi::ss].selector, 0xffff);
        stack.push("SP in the frame", before.gpr[abi::rsp]);
    }
    stack.push("flags in the frame", before.rflags, ~rf);
    stack.push("CS in the frame", before.segment[abi::cs].selector, 0xffff);
    stack.push("IP in the frame", e.rip);
    if (e.error) {
        stack.push("error code in the frame", *e.error);
    }
    set_segment(due.state.segment[abi::cs], is_long ? machine::code64 : machine::code32, 0, ~0u,
                is_long ? 0xa09b : 0xc09b);
    due.state.rip =
        is_16(e.gate) ? (u64{machine::real_handlers} << 4) + 4 * e.vector : machine::handlers + 16 * e.vector;
    due.state.rflags &= ~(tf | nt | rf | vm | (is_trap(e.gate) ? 0 : interrupt_flag));
    return due;
}

std::vector<machine::Piece> gate_of(Kind kind, u8 vector, Gate gate, u8 dpl) {
    if (machine::is_real(kind)) {
        return {};
    }
    const u8 rights = static_cast<u8>(0x80 | dpl << 5);
    const u8 type = static_cast<u8>((is_16(gate) ? 6 : 14) | (is_trap(gate) ? 1 : 0));
    const u32 offset = static_cast<u32>(is_16(gate) ? (u64{machine::real_handlers} << 4) + 4 * vector
                                                    : machine::handlers + 16 * vector);
    const bool is_long = machine::is_long(kind);
    const u64 low = machine::gate32(is_long ? machine::code64 : machine::code32, offset, rights | type);
    return {{is_long ? machine::idt64 + 16 * vector : machine::idt32 + 8 * vector, machine::bytes_of(low)}};
}

} // namespace refhv::front
