// SPDX-License-Identifier: MIT
// Guest state in and out of the VMCB, and single fields as data.
#include "refhv/svm/vcpu.hpp"
#include "refhv/svm/vmcb_rules.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

namespace {

constexpr u32 unusable = 1u << 16; // of abi::Segment::rights

// SDM access rights hold descriptor bits 47:40 in 7:0 and 55:52 in 15:12; the VMCB packs the latter into
// 11:8.
u16 pack_attributes(u32 rights) {
    return (rights & unusable) != 0 ? 0 : static_cast<u16>((rights & 0xff) | (rights >> 4 & 0xf00));
}

u32 unpack_attributes(u16 attributes) {
    constexpr u16 p = 1u << 7;
    return (attributes & p) == 0 ? unusable : (attributes & 0xffu) | (attributes & 0xf00u) << 4;
}

static_assert(sizeof(VmcbSegment) == 16 && page_size == sizeof(Vmcb));

VmcbSegment* segment_of(Vmcb& vmcb, unsigned index) {
    VmcbSegment* const order[8] = {&vmcb.es, &vmcb.cs, &vmcb.ss,   &vmcb.ds,
                                   &vmcb.fs, &vmcb.gs, &vmcb.ldtr, &vmcb.tr};
    return order[index];
}

} // namespace

Status Vcpu::load(const GuestMemory&, const abi::GuestState& s) {
    if ((s.cr4 & floor_.denied_cr4) != 0) {
        return refuse(abi::Outcome::unsupported,
                      "CR4: this platform permits no guest these bits, whose features use MSRs of the host");
    }
    if (mmu_ != nullptr) {
        if (const Status status = mmu_->reset(s); !status.ok()) {
            return status;
        }
    }
    Vmcb& v = *vmcb_;
    const PagingRegisters before = paging_registers();
    v.cr0 = s.cr0;
    v.cr2 = s.cr2;
    v.cr3 = s.cr3;
    set_guest_cr4(s.cr4);
    v.efer = s.efer | x86::efer::svme; // VMRUN refuses a guest without it (APM 2 15.5.1)
    v.dr6 = s.dr6;
    v.dr7 = s.dr7;
    v.g_pat = s.pat;
    v.rip = s.rip;
    v.rflags = s.rflags;
    v.rax = s.gpr[abi::rax];
    v.rsp = s.gpr[abi::rsp];
    for (unsigned i = 0; i < 8; ++i) {
        const abi::Segment& from = s.segment[i];
        *segment_of(v, i) = {from.selector, pack_attributes(from.rights), from.limit, from.base};
    }
    v.cpl = s.segment[abi::ss].rights >> 5 & 3;
    v.gdtr = {0, 0, s.gdtr.limit, s.gdtr.base};
    v.idtr = {0, 0, s.idtr.limit, s.idtr.base};
    v.star = s.star;
    v.lstar = s.lstar;
    v.cstar = s.cstar;
    v.sfmask = s.sfmask;
    v.kernel_gs_base = s.kernel_gs_base;
    v.sysenter_cs = s.sysenter_cs;
    v.sysenter_esp = s.sysenter_esp;
    v.sysenter_eip = s.sysenter_eip;
    v.interrupt_shadow = s.interrupt_shadow != 0 ? 1 : 0;
    v.interrupt_control = interrupt_control::v_intr_masking | (s.cr8 & 0xf);
    v.event_injection = 0;
    v.clean_bits = 0;
    if (mmu_ != nullptr) {
        write_translation_registers();
    }
    __builtin_memcpy(context_->gpr, s.gpr, sizeof s.gpr);
    registers_.from(s);
    drop_if_changed(before);
    return {};
}

void Vcpu::store(const GuestMemory&, abi::GuestState& s) {
    Vmcb& v = *vmcb_;
    __builtin_memcpy(s.gpr, context_->gpr, sizeof s.gpr);
    registers_.to(s);
    s.gpr[abi::rax] = v.rax;
    s.gpr[abi::rsp] = v.rsp;
    s.cr0 = v.cr0;
    s.cr2 = v.cr2;
    s.cr3 = v.cr3;
    s.cr4 = guest_cr4();
    s.cr8 = v.interrupt_control & 0xf;
    s.efer = v.efer & ~x86::efer::svme;
    if (mmu_ != nullptr) {
        s.cr0 = mmu_->guest().cr0;
        s.cr3 = mmu_->guest().cr3;
        s.cr4 = mmu_->guest().cr4;
        s.efer = mmu_->guest().efer;
    }
    s.dr6 = v.dr6;
    s.dr7 = v.dr7;
    s.pat = v.g_pat;
    s.rip = v.rip;
    s.rflags = v.rflags;
    for (unsigned i = 0; i < 8; ++i) {
        const VmcbSegment& from = *segment_of(v, i);
        s.segment[i] = {.base = from.base,
                        .limit = from.limit,
                        .rights = unpack_attributes(from.attributes),
                        .selector = from.selector,
                        .zero = {}};
    }
    s.gdtr = {v.gdtr.base, v.gdtr.limit & 0xffff, 0};
    s.idtr = {v.idtr.base, v.idtr.limit & 0xffff, 0};
    s.star = v.star;
    s.lstar = v.lstar;
    s.cstar = v.cstar;
    s.sfmask = v.sfmask;
    s.kernel_gs_base = v.kernel_gs_base;
    s.sysenter_cs = v.sysenter_cs;
    s.sysenter_esp = v.sysenter_esp;
    s.sysenter_eip = v.sysenter_eip;
    s.interrupt_shadow = v.interrupt_shadow & 1;
}

Status Vcpu::field(const GuestMemory& memory, const abi::Field& f, bool is_write, abi::FieldReply& reply) {
    if (f.field == TscRatio::msr && f.width == sizeof f.value) {
        const Status status = is_write ? tsc_ratio_.set(cpu_.capabilities().tsc_ratio(), f.value) : Status{};
        reply.value = tsc_ratio_.get();
        return status;
    }
    const bool known_width = f.width == 1 || f.width == 2 || f.width == 4 || f.width == 8;
    if (!known_width || f.field > sizeof(Vmcb) - f.width) {
        return refuse(abi::Outcome::bad_request, "a VMCB field is 1, 2, 4 or 8 bytes inside the 4096");
    }
    const Status status = is_write ? admit_write(memory, *vmcb_, f.field, f.width, f.value)
                                   : admit_read(memory, f.field, f.width);
    if (!status.ok()) {
        return status;
    }
    u8* at = reinterpret_cast<u8*>(vmcb_) + f.field;
    if (is_write) {
        const PagingRegisters before = paging_registers();
        __builtin_memcpy(at, &f.value, f.width);
        vmcb_->clean_bits = 0;
        drop_if_changed(before);
        reply.value = f.value;
    } else {
        __builtin_memcpy(&reply.value, at, f.width);
    }
    return {};
}

} // namespace refhv::svm
