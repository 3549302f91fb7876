// SPDX-License-Identifier: MIT
// Guest state in and out of the VMCS, and single fields as data.
#include "refhv/vmx/field_rules.hpp"
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {
constexpr u32 unusable = 1u << 16;
}

// Under EPT a VM entry takes the PDPTEs of PAE paging from the VMCS (SDM 3C 27.3.2.4): those that a load of
// CR3 would find.
void Vcpu::load_pdptes(const GuestMemory& memory, const abi::GuestState& s) {
    const bool pae =
        (s.cr0 & x86::cr0::pg) != 0 && (s.cr4 & x86::cr4::pae) != 0 && (s.efer & x86::efer::lma) == 0;
    for (unsigned i = 0; pae && i < 4; ++i) {
        const u64 at = (s.cr3 & 0xffff'ffe0) + 8 * i;
        const u64 entry = memory.contains(at, 8) ? *reinterpret_cast<const u64*>(memory.at(at)) : 0;
        write(static_cast<Field>(static_cast<u32>(Field::guest_pdpte0) + 2 * i), entry);
    }
}

// Blocking by STI goes with RFLAGS.IF only, and where the guest steps either kind holds a #DB back (SDM 3C
// 27.3.1.5).
void Vcpu::load_interrupt_shadow(const abi::GuestState& s) {
    using namespace x86::rflags_bits;
    constexpr u64 by_sti = 1, by_mov_ss = 2, single_step = 1u << 14, branch_step = 1u << 1;
    const bool blocked = s.interrupt_shadow != 0;
    const bool steps = (s.rflags & tf) != 0 && (read(Field::guest_debugctl) & branch_step) == 0;
    const u64 by = (s.rflags & interrupt) != 0 ? by_sti : by_mov_ss;
    write(Field::guest_interruptibility, blocked ? by : 0);
    write(Field::guest_pending_debug, blocked && steps ? single_step : 0);
}

Status Vcpu::load(const GuestMemory& memory, const abi::GuestState& s) {
    if ((s.cr4 & floor_.denied_cr4) != 0) {
        return refuse(abi::Outcome::unsupported,
                      "CR4: this platform permits no guest these bits, whose features use MSRs of the host");
    }
    make_current();
    iret_unblocked_ = false;
    const Capabilities& caps = cpu_.capabilities();
    u64 cr0 = s.cr0, cr3 = s.cr3, cr4 = s.cr4, efer = s.efer;
    if (mmu_ != nullptr) {
        if (const Status status = mmu_->reset(s); !status.ok()) {
            return status;
        }
        const shadow::PagingState real = mmu_->mmu().cpu_state();
        cr0 = real.cr0;
        cr3 = real.cr3;
        cr4 = real.cr4;
        efer = real.efer;
    } else {
        load_pdptes(memory, s);
    }
    // No entry forgets translations under a VPID for another CR0, CR3, CR4 or EFER (SDM 3C 29.4.3.1).
    struct Paging {
        u64 cr0 = read(Field::guest_cr0), cr3 = read(Field::guest_cr3), cr4 = read(Field::guest_cr4),
            efer = read(Field::guest_efer);
        bool operator==(const Paging&) const = default;
    };
    const Paging before;
    // The guest reads what it was given; the CPU holds what VMX operation needs besides (SDM 3C 24.8).
    write(Field::guest_cr0, (cr0 | cr0_fixed0()) & caps.cr0_fixed1);
    write(Field::guest_cr4, (cr4 | caps.cr4_fixed0) & caps.cr4_fixed1);
    write(Field::cr0_shadow, s.cr0);
    write(Field::cr4_shadow, s.cr4);
    write(Field::cr0_mask, wanted_cr0_mask());
    write(Field::cr4_mask, wanted_cr4_mask());
    write(Field::guest_cr3, cr3);
    write(Field::guest_efer, efer);
    real_efer_ = efer;
    if (Paging{} != before) {
        drop_tagged();
    }
    const u32 entry = static_cast<u32>(read(Field::entry_controls)) & ~entry_control::ia32e_guest;
    write(Field::entry_controls, entry | ((efer & x86::efer::lma) != 0 ? entry_control::ia32e_guest : 0));
    write(Field::guest_pat, s.pat);
    write(Field::guest_dr7, s.dr7);
    write(Field::guest_rsp, s.gpr[abi::rsp]);
    write(Field::guest_rip, s.rip);
    write(Field::guest_rflags, s.rflags);
    for (unsigned i = 0; i < 8; ++i) {
        const abi::Segment& seg = s.segment[i];
        write(segment_field(Field::guest_es_selector, i), seg.selector);
        write(segment_field(Field::guest_es_base, i), seg.base);
        write(segment_field(Field::guest_es_limit, i), seg.limit);
        write(segment_field(Field::guest_es_rights, i), seg.rights);
    }
    write(Field::guest_gdtr_base, s.gdtr.base);
    write(Field::guest_gdtr_limit, s.gdtr.limit);
    write(Field::guest_idtr_base, s.idtr.base);
    write(Field::guest_idtr_limit, s.idtr.limit);
    write(Field::guest_sysenter_cs, s.sysenter_cs);
    write(Field::guest_sysenter_esp, s.sysenter_esp);
    write(Field::guest_sysenter_eip, s.sysenter_eip);
    load_interrupt_shadow(s);
    virtual_blocking_ = false;
    write(Field::guest_activity, 0);
    write(Field::entry_interruption_info, 0);
    __builtin_memcpy(context_->gpr, s.gpr, sizeof s.gpr);
    registers_.from(s);
    set_guest_cr8(s.cr8);
    return {};
}

void Vcpu::store(const GuestMemory&, abi::GuestState& s) {
    make_current();
    __builtin_memcpy(s.gpr, context_->gpr, sizeof s.gpr);
    registers_.to(s);
    s.cr8 = guest_cr8();
    const auto as_guest_reads = [](Field real, Field mask, Field shadow) {
        const u64 m = read(mask);
        return (read(real) & ~m) | (read(shadow) & m);
    };
    s.cr0 = as_guest_reads(Field::guest_cr0, Field::cr0_mask, Field::cr0_shadow);
    s.cr4 = as_guest_reads(Field::guest_cr4, Field::cr4_mask, Field::cr4_shadow);
    s.cr3 = mmu_ != nullptr ? mmu_->guest().cr3 : read(Field::guest_cr3);
    s.efer = mmu_ != nullptr ? mmu_->guest().efer : read(Field::guest_efer);
    s.pat = read(Field::guest_pat);
    s.dr7 = read(Field::guest_dr7);
    s.gpr[abi::rsp] = read(Field::guest_rsp);
    s.rip = read(Field::guest_rip);
    s.rflags = read(Field::guest_rflags);
    for (unsigned i = 0; i < 8; ++i) {
        const u32 rights = static_cast<u32>(read(segment_field(Field::guest_es_rights, i)));
        s.segment[i] = {.base = read(segment_field(Field::guest_es_base, i)),
                        .limit = static_cast<u32>(read(segment_field(Field::guest_es_limit, i))),
                        .rights = (rights & unusable) != 0 ? unusable : rights,
                        .selector = static_cast<u16>(read(segment_field(Field::guest_es_selector, i))),
                        .zero = {}};
    }
    s.gdtr = {read(Field::guest_gdtr_base), static_cast<u32>(read(Field::guest_gdtr_limit)), 0};
    s.idtr = {read(Field::guest_idtr_base), static_cast<u32>(read(Field::guest_idtr_limit)), 0};
    s.sysenter_cs = read(Field::guest_sysenter_cs);
    s.sysenter_esp = read(Field::guest_sysenter_esp);
    s.sysenter_eip = read(Field::guest_sysenter_eip);
    s.interrupt_shadow = (read(Field::guest_interruptibility) & 3) != 0 ? 1 : 0;
}

Status Vcpu::field(const GuestMemory& memory, const abi::Field& f, bool is_write, abi::FieldReply& reply) {
    make_current();
    u64 value = f.value;
    if (is_write) {
        const auto current = [](u32 encoding) { return read(static_cast<Field>(encoding)); };
        if (const Status status = admit_write(memory, f.field, value, current); !status.ok()) {
            return status;
        }
    }
    if (is_write && is_host_field(f.field)) {
        if (!override_host_field(f.field, f.value)) {
            return refuse(abi::Outcome::bad_request, "too many host-state fields overridden in one VM");
        }
    }
    if (is_write && f.field == static_cast<u32>(Field::guest_interruptibility)) {
        iret_unblocked_ = false;
    }
    reply.value = f.value;
    const Result result = is_write ? vmwrite(f.field, value) : vmread(f.field, reply.value);
    if (result != Result::succeed) {
        reply.error = static_cast<u32>(read(Field::instruction_error));
    }
    return is_write ? Status{} : admit_read(memory, f.field, reply.value);
}

} // namespace refhv::vmx
