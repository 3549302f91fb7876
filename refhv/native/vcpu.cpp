// SPDX-License-Identifier: MIT
#include "refhv/native/vcpu.hpp"

#include "refhv/x86/exceptions.hpp"
#include "refhv/x86/gate.hpp"

namespace refhv::native {

extern "C" void native_enter(Context* context);
extern "C" const u8 native_stubs[];
extern "C" u32 native_missed_nmis; // that came on the way out of the last guest

namespace {

using x86::Gate;
constexpr unsigned vectors = x86::idt_entries;
constexpr unsigned half = 256;        // entries of a PML4
constexpr u64 no_breakpoints = 0x400; // DR7

Gate gate_to(unsigned vector, u16 selector, u8 ist) {
    const u64 at = reinterpret_cast<u64>(native_stubs) + vector * NATIVE_STUB_SIZE;
    return Gate::to(at, selector, ist);
}

// What must reach the core even if the guest has a gate for it: double fault, machine check, the end of the
// run, the platform's interrupts, and an NMI unless the policy gives it to the guest.
constexpr bool is_ours(unsigned vector, bool guests_nmi) {
    return (vector == x86::vector::nmi && !guests_nmi) || vector == x86::vector::double_fault ||
           vector == x86::vector::machine_check || vector == stop_vector ||
           vector >= platform::end_of_guest_vectors;
}

bool gives(const Policy& policy, abi::Reason reason) {
    return policy.of(reason).action == abi::Action::inject;
}

// Is there a segment of ring 0 of that kind in the GDT of the host?
bool is_valid_in_host(u16 selector, bool code) {
    const x86::DescriptorTable gdt = x86::sgdt();
    if (selector % 8 != 0 || selector == 0 || selector + 7 > gdt.limit) {
        return false;
    }
    const u64 d = *reinterpret_cast<const u64*>(gdt.base + selector);
    constexpr u64 present_ring0 = 0x90, present_dpl_s = 0xf0, executable = 8, writable = 2,
                  long_mode = 1u << 5;
    const u64 rights = d >> 40 & 0xff;
    return (rights & present_dpl_s) == present_ring0 &&
           (code ? (rights & executable) != 0 && (d >> 48 & long_mode) != 0
                 : (rights & executable) == 0 && (rights & writable) != 0);
}

// What a host uses that a guest in its place cannot; null: nothing.
const char* host_in_the_way() {
    const u64 cr4 = x86::read_cr4();
    return (cr4 & x86::cr4::la57) != 0
               ? "mode native walks the guest's own tables, of four levels; this host's paging has five"
           : (cr4 & x86::cr4::cet) != 0 ? "mode native: the host has CR4.CET, under which the guest's "
                                          "branches and the core's gates fault"
           : (cr4 & x86::cr4::lass) != 0
               ? "mode native: the host has CR4.LASS, under which ring 0 cannot run in the lower half"
           : (cr4 & x86::cr4::fred) != 0
               ? "mode native: the host has CR4.FRED, under which no event goes through an IDT"
               : nullptr;
}

} // namespace

Status Vcpu::create(Arena& arena, const GuestMemory&) {
    if (const char* const why = host_in_the_way(); why != nullptr) {
        return refuse(abi::Outcome::unsupported, why);
    }
    upper_half_ = arena.allocate();
    idt_ = arena.allocate();
    context_page_ = arena.allocate();
    if (upper_half_ == 0 || idt_ == 0 || context_page_ == 0) {
        destroy(arena);
        return refuse(abi::Outcome::exhausted, "no pages for a native guest's tables");
    }
    // In the middle of its page: enter.S uses what lies below as its stack.
    context_ = new (static_cast<u8*>(platform::to_virtual(context_page_)) + page_size / 2) Context{};
    return {};
}

void Vcpu::destroy(Arena& arena) {
    for (u64* page : {&upper_half_, &idt_, &context_page_}) {
        if (*page != 0) {
            arena.release(*page);
            *page = 0;
        }
    }
    context_ = nullptr;
}

Status Vcpu::load(const GuestMemory& memory, const abi::GuestState& s) {
    if (!memory.contains(s.cr3 & ~(page_size - 1), page_size)) {
        return refuse(abi::Outcome::bad_request, "native: CR3 points outside guest memory");
    }
    if (!memory.contains(s.idtr.base, vectors * sizeof(Gate)) ||
        !memory.contains(s.gdtr.base, s.gdtr.limit + u64{1})) {
        return refuse(
            abi::Outcome::bad_request,
            "native: GDTR and IDTR must be guest-physical addresses inside guest memory, IDT of 4096 bytes");
    }
    state_ = s;
    registers_.from(s);
    __builtin_memcpy(context_->gpr, s.gpr, sizeof s.gpr);
    // IOPL stays the host's; IF is the guest's where the policy gives it its interrupts (begin), else 0:
    // nothing may interrupt a guest that owns the CPU.
    context_->frame = {.rip = s.rip,
                       .cs = s.segment[abi::cs].selector,
                       .rflags = (s.rflags & 0x8d5) | x86::rflags_bits::fixed,
                       .rsp = s.gpr[abi::rsp],
                       .ss = s.segment[abi::ss].selector};
    return {};
}

void Vcpu::store(const GuestMemory&, abi::GuestState& s) {
    s = state_;
    __builtin_memcpy(s.gpr, context_->gpr, sizeof s.gpr);
    registers_.to(s);
    s.gpr[abi::rsp] = context_->frame.rsp;
    s.rip = context_->frame.rip;
    s.rflags = context_->frame.rflags;
}

void Vcpu::build_idt(const GuestMemory& memory, const Policy& policy) {
    const bool nmi = gives(policy, abi::Reason::nmi);
    const auto* theirs = reinterpret_cast<const Gate*>(memory.at(state_.idtr.base));
    const auto* hosts = reinterpret_cast<const Gate*>(x86::sidt().base);
    auto* merged = static_cast<Gate*>(platform::to_virtual(idt_));
    for (unsigned v = 0; v < vectors; ++v) {
        const bool ours = is_ours(v, nmi) || (theirs[v].attributes & Gate::present) == 0;
        const bool has_stack =
            v == x86::vector::nmi || v == x86::vector::double_fault || v == x86::vector::machine_check;
        const u8 ist = has_stack ? hosts[v].ist : 0;
        merged[v] = ours ? gate_to(v, static_cast<u16>(context_->frame.cs), ist) : theirs[v];
    }
}

void Vcpu::lend_upper_half(const GuestMemory& memory, u64 host_cr3) {
    pml4_ = reinterpret_cast<u64*>(memory.at(state_.cr3 & ~(page_size - 1)));
    const auto* host = static_cast<const u64*>(platform::to_virtual(host_cr3 & 0x000f'ffff'ffff'f000));
    __builtin_memcpy(platform::to_virtual(upper_half_), pml4_ + half, half * sizeof(u64));
    __builtin_memcpy(pml4_ + half, host + half, half * sizeof(u64));
}

// A guest in ring 3 comes back to ring 0 by the host's TSS, on the stack that its own TSS names.
void Vcpu::lend_ring0_stack(const GuestMemory& memory) {
    const abi::Segment& tr = state_.segment[abi::tr];
    constexpr u64 rsp0 = 4, unusable = 1u << 16;
    lent_stack_ = (tr.rights & unusable) == 0 && memory.contains(tr.base, rsp0 + sizeof(u64));
    if (lent_stack_) {
        u64 stack = 0;
        __builtin_memcpy(&stack, memory.at(tr.base) + rsp0, sizeof stack);
        host_rsp0_ = platform::exchange_ring0_stack(stack);
    }
}

Status Vcpu::begin(const GuestMemory& memory, const RunPlan& plan) {
    // An NMI between the loads of IDT and GDT finds the gates of the one and the descriptors of the other.
    if (!is_valid_in_host(static_cast<u16>(context_->frame.cs), true) ||
        !is_valid_in_host(static_cast<u16>(context_->frame.ss), false)) {
        return refuse(abi::Outcome::unsupported,
                      "native: CS and SS of the guest name no such segments of ring 0 in the host's GDT");
    }
    const u64 host_cr3 = x86::read_cr3();
    lend_upper_half(memory, host_cr3);
    lend_ring0_stack(memory);
    build_idt(memory, plan.policy);
    if (gives(plan.policy, abi::Reason::external_interrupt)) {
        context_->frame.rflags |= state_.rflags & x86::rflags_bits::interrupt;
    } else {
        context_->frame.rflags &= ~x86::rflags_bits::interrupt;
    }
    Context& c = *context_;
    c.guest_cr3 = memory.to_physical(state_.cr3 & ~(page_size - 1));
    c.guest_gdt.table = {static_cast<u16>(state_.gdtr.limit), state_.gdtr.base};
    c.guest_idt.table = {vectors * sizeof(Gate) - 1, reinterpret_cast<u64>(platform::to_virtual(idt_))};
    c.host_gdt.table = x86::sgdt();
    c.host_idt.table = x86::sidt();
    c.host_cs = x86::read_cs();
    c.host_ss = x86::read_ss();
    c.host_ds = x86::read_ds();
    c.host_es = x86::read_es();
    host_cr0_ = x86::read_cr0();
    host_cr4_ = x86::read_cr4();
    host_dr7_ = x86::read_dr7();
    guest_dr7_ = no_breakpoints;
    x86::write_dr7(no_breakpoints); // the addresses will be the guest's
    registers_.load_uncarried(features_);
    registers_.exchange_cr8();
    registers_.exchange_carried_by_vmcb();
    return {};
}

void Vcpu::end() {
    __builtin_memcpy(pml4_ + half, platform::to_virtual(upper_half_), half * sizeof(u64));
    if (lent_stack_) {
        (void)platform::exchange_ring0_stack(host_rsp0_);
    }
    platform::reload_task_register(); // a VM exit of the guest's own may have changed base and limit
    x86::write_cr0(host_cr0_);
    // What the guest's tables called global would outlive them (SDM 3A 4.10.4.1).
    x86::write_cr4(host_cr4_ ^ x86::cr4::pge);
    x86::write_cr4(host_cr4_);
    registers_.unload_uncarried(features_);
    x86::write_dr7(host_dr7_);
    registers_.exchange_cr8();
    registers_.exchange_carried_by_vmcb();
}

Entered Vcpu::enter(u64, u64*, u64&, abi::Exit& exit, abi::Refusal&) {
    using enum abi::Reason;
    context_->host_cr3 = x86::read_cr3(); // a window may have changed it
    x86::write_dr7(guest_dr7_);
    native_enter(context_);
    guest_dr7_ = x86::read_dr7();
    x86::write_dr7(no_breakpoints);
    exit = {};
    const u8 vector = static_cast<u8>(context_->vector);
    exit.vector = vector;
    exit.raw_reason = vector;
    exit.interruption_error = static_cast<u32>(context_->error);
    exit.next_rip = context_->frame.rip;
    const bool platforms = vector >= platform::end_of_guest_vectors;
    exit.reason = static_cast<u16>(vector == stop_vector ? int_n
                                   : vector == 2         ? nmi
                                   : platforms           ? external_interrupt
                                                         : exception);
    for (; native_missed_nmis != 0; --native_missed_nmis) {
        platform::take_nmi();
    }
    if (vector == x86::vector::page_fault) {
        exit.guest_linear = x86::read_cr2();
    } else if (vector == x86::vector::nmi) {
        platform::take_nmi();
    } else if (vector == x86::vector::machine_check) {
        platform::machine_check();
    } else if (platforms) {
        platform::serve_interrupt(vector);
    }
    return Entered::exited;
}

bool Vcpu::advance(const abi::Exit& exit, const Reaction& reaction) {
    if (exit.reason != static_cast<u16>(abi::Reason::exception) || reaction.length == 0) {
        return false;
    }
    context_->frame.rip += reaction.length;
    return true;
}

} // namespace refhv::native
