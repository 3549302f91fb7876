// SPDX-License-Identifier: MIT
// The contract's guest state in KVM's structures, both ways.
#include "refhv/self/kvm/vcpu.hpp"

#include <array>
#include <string>

namespace refhv::client::self::kvm {
namespace {

using abi::GuestState;

constexpr std::array general{&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                             &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                             &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                             &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

constexpr std::array segments{&kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss,  &kvm_sregs::ds,
                              &kvm_sregs::fs, &kvm_sregs::gs, &kvm_sregs::ldt, &kvm_sregs::tr};

struct Msr {
    u32 index;
    u64 GuestState::*field;
};

constexpr std::array msrs{Msr{0xc000'0081, &GuestState::star},
                          Msr{0xc000'0082, &GuestState::lstar},
                          Msr{0xc000'0083, &GuestState::cstar},
                          Msr{0xc000'0084, &GuestState::sfmask},
                          Msr{0xc000'0102, &GuestState::kernel_gs_base},
                          Msr{0x174, &GuestState::sysenter_cs},
                          Msr{0x175, &GuestState::sysenter_esp},
                          Msr{0x176, &GuestState::sysenter_eip},
                          Msr{0x277, &GuestState::pat},
                          Msr{0xc000'0103, &GuestState::tsc_aux}};

// kvm_msrs ends in an array of unknown length.
class MsrList {
  public:
    MsrList() {
        get()->nmsrs = msrs.size();
        for (usize i = 0; i < msrs.size(); ++i) {
            entries()[i].index = msrs[i].index;
        }
    }
    [[nodiscard]] kvm_msrs* get() { return reinterpret_cast<kvm_msrs*>(bytes_); }
    [[nodiscard]] __u64& value(usize i) { return entries()[i].data; }

  private:
    // By where they are: to GCC 14 an array of the header's length has no elements.
    [[nodiscard]] kvm_msr_entry* entries() {
        return reinterpret_cast<kvm_msr_entry*>(bytes_ + sizeof(kvm_msrs));
    }

    alignas(kvm_msrs) u8 bytes_[sizeof(kvm_msrs) + msrs.size() * sizeof(kvm_msr_entry)]{};
};

// Rights: SDM 3C table 25-2.
kvm_segment of_contract(const abi::Segment& s) {
    const auto bits = [&](unsigned low, unsigned mask) { return static_cast<u8>(s.rights >> low & mask); };
    kvm_segment out{};
    out.base = s.base;
    out.limit = s.limit;
    out.selector = s.selector;
    out.type = bits(0, 15);
    out.s = bits(4, 1);
    out.dpl = bits(5, 3);
    out.present = bits(7, 1);
    out.avl = bits(12, 1);
    out.l = bits(13, 1);
    out.db = bits(14, 1);
    out.g = bits(15, 1);
    out.unusable = bits(16, 1);
    return out;
}

abi::Segment of_kvm(const kvm_segment& s) {
    abi::Segment out{};
    out.base = s.base;
    out.limit = s.limit;
    out.selector = s.selector;
    out.rights = s.type | u32{s.s} << 4 | u32{s.dpl} << 5 | u32{s.present} << 7 | u32{s.avl} << 12 |
                 u32{s.l} << 13 | u32{s.db} << 14 | u32{s.g} << 15 | u32{s.unusable} << 16;
    return out;
}

kvm_dtable of_contract(const abi::TableRegister& t) {
    kvm_dtable out{};
    out.base = t.base;
    out.limit = static_cast<u16>(t.limit);
    return out;
}

constexpr u8 shadow_of_sti = 2; // KVM_X86_SHADOW_INT_STI

} // namespace

void Vcpu::set_registers(const GuestState& state) {
    kvm_regs regs{};
    for (usize i = 0; i < general.size(); ++i) {
        regs.*general[i] = state.gpr[i];
    }
    regs.rip = state.rip;
    regs.rflags = state.rflags;
    call(KVM_SET_REGS, &regs, "KVM_SET_REGS");
    kvm_debugregs debug{};
    std::copy(std::begin(state.dr), std::end(state.dr), debug.db);
    debug.dr6 = state.dr6;
    debug.dr7 = state.dr7;
    call(KVM_SET_DEBUGREGS, &debug, "KVM_SET_DEBUGREGS");
    if (state.xcr0 != 0) { // 0: as it is
        kvm_xcrs xcrs{};
        xcrs.nr_xcrs = 1;
        xcrs.xcrs[0].value = state.xcr0;
        call(KVM_SET_XCRS, &xcrs, "KVM_SET_XCRS");
    }
    kvm_vcpu_events events{};
    call(KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
    events.exception = {};
    events.interrupt = {};
    events.interrupt.shadow = state.interrupt_shadow != 0 ? shadow_of_sti : 0;
    events.flags = KVM_VCPUEVENT_VALID_SHADOW;
    call(KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

void Vcpu::set_segments(const GuestState& state) {
    kvm_sregs sregs{};
    call(KVM_GET_SREGS, &sregs, "KVM_GET_SREGS"); // the APIC's base is KVM's
    for (usize i = 0; i < segments.size(); ++i) {
        sregs.*segments[i] = of_contract(state.segment[i]);
    }
    sregs.gdt = of_contract(state.gdtr);
    sregs.idt = of_contract(state.idtr);
    sregs.cr0 = state.cr0;
    sregs.cr2 = state.cr2;
    sregs.cr3 = state.cr3;
    sregs.cr4 = state.cr4;
    sregs.cr8 = state.cr8;
    sregs.efer = state.efer;
    call(KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
    shared_->cr8 = state.cr8; // without an APIC in the kernel KVM_RUN takes it from there
}

void Vcpu::set_msrs(const GuestState& state) {
    MsrList list;
    for (usize i = 0; i < msrs.size(); ++i) {
        list.value(i) = state.*msrs[i].field;
    }
    const auto done = static_cast<usize>(call(KVM_SET_MSRS, list.get(), "KVM_SET_MSRS"));
    // TSC_AUX, the last, is not on every CPU; of the others each is.
    if (done < msrs.size() - 1) {
        throw Unusable("KVM refuses a value for MSR " + std::to_string(msrs[done].index));
    }
}

void Vcpu::set_state(const GuestState& state) {
    set_segments(state);
    set_registers(state);
    set_msrs(state);
}

GuestState Vcpu::state() {
    GuestState state{};
    kvm_regs regs{};
    call(KVM_GET_REGS, &regs, "KVM_GET_REGS");
    for (usize i = 0; i < general.size(); ++i) {
        state.gpr[i] = regs.*general[i];
    }
    state.rip = regs.rip;
    state.rflags = regs.rflags;
    kvm_sregs sregs{};
    call(KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    for (usize i = 0; i < segments.size(); ++i) {
        state.segment[i] = of_kvm(sregs.*segments[i]);
    }
    state.gdtr = {.base = sregs.gdt.base, .limit = sregs.gdt.limit, .zero = 0};
    state.idtr = {.base = sregs.idt.base, .limit = sregs.idt.limit, .zero = 0};
    state.cr0 = sregs.cr0;
    state.cr2 = sregs.cr2;
    state.cr3 = sregs.cr3;
    state.cr4 = sregs.cr4;
    state.cr8 = sregs.cr8;
    state.efer = sregs.efer;
    kvm_debugregs debug{};
    call(KVM_GET_DEBUGREGS, &debug, "KVM_GET_DEBUGREGS");
    std::copy(std::begin(debug.db), std::end(debug.db), state.dr);
    state.dr6 = debug.dr6;
    state.dr7 = debug.dr7;
    kvm_xcrs xcrs{};
    call(KVM_GET_XCRS, &xcrs, "KVM_GET_XCRS");
    state.xcr0 = xcrs.nr_xcrs != 0 ? xcrs.xcrs[0].value : 0;
    kvm_vcpu_events events{};
    call(KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS");
    state.interrupt_shadow = events.interrupt.shadow != 0 ? 1 : 0;
    MsrList list;
    const auto got = static_cast<usize>(call(KVM_GET_MSRS, list.get(), "KVM_GET_MSRS"));
    for (usize i = 0; i < got && i < msrs.size(); ++i) {
        state.*msrs[i].field = list.value(i);
    }
    return state;
}

} // namespace refhv::client::self::kvm
