// SPDX-License-Identifier: MIT
// The life of an SVM vCPU and its controls: what exits, and where its memory is.
#include "refhv/svm/vcpu.hpp"

#include "refhv/vcpu/intercepts.hpp"

namespace refhv::svm {

namespace {

constexpr u64 iopm_pages = 3, msrpm_pages = 2;

// VMRUN must be intercepted (APM 2 15.5.1); the rest keeps the guest away from the host's interrupts, ports
// and MSRs.
constexpr u32 base_1 = intercept_1::intr | intercept_1::nmi | intercept_1::smi | intercept_1::init |
                       intercept_1::ioio | intercept_1::msr | intercept_1::shutdown | intercept_1::invlpga |
                       intercept_1::task_switch | intercept_1::ferr_freeze;
constexpr u32 base_2 = intercept_2::vmrun | intercept_2::vmload | intercept_2::vmsave | intercept_2::stgi |
                       intercept_2::clgi | intercept_2::skinit;

struct InterceptBit {
    abi::Intercept intercept;
    u32 word_1, word_2, word_3;
};

constexpr InterceptBit intercept_bits[] = {
    {abi::Intercept::cpuid, intercept_1::cpuid, 0, 0},
    {abi::Intercept::hlt, intercept_1::hlt, 0, 0},
    {abi::Intercept::invlpg, intercept_1::invlpg, 0, 0},
    {abi::Intercept::rdtsc, intercept_1::rdtsc, 0, 0},
    {abi::Intercept::rdtscp, 0, intercept_2::rdtscp, 0},
    {abi::Intercept::rdpmc, intercept_1::rdpmc, 0, 0},
    {abi::Intercept::pause, intercept_1::pause, 0, 0},
    {abi::Intercept::mwait, 0, intercept_2::mwait, 0},
    {abi::Intercept::monitor, 0, intercept_2::monitor, 0},
    {abi::Intercept::wbinvd, 0, intercept_2::wbinvd, 0},
    {abi::Intercept::xsetbv, 0, intercept_2::xsetbv, 0},
    {abi::Intercept::hypercall, 0, intercept_2::vmmcall, 0},
    {abi::Intercept::gdtr_idtr_read, intercept_1::gdtr_read | intercept_1::idtr_read, 0, 0},
    {abi::Intercept::gdtr_idtr_write, intercept_1::gdtr_write | intercept_1::idtr_write, 0, 0},
    {abi::Intercept::ldtr_tr_read, intercept_1::ldtr_read | intercept_1::tr_read, 0, 0},
    {abi::Intercept::ldtr_tr_write, intercept_1::ldtr_write | intercept_1::tr_write, 0, 0},
    {abi::Intercept::invd, intercept_1::invd, 0, 0},
    {abi::Intercept::invpcid, 0, 0, intercept_3::invpcid},
};

} // namespace

Status Vcpu::create(Arena& arena, const GuestMemory& memory) {
    if (const Status s = cpu_.enable(arena, 0); !s.ok()) {
        return s;
    }
    vmcb_physical_ = arena.allocate();
    maps_ = arena.allocate(iopm_pages + msrpm_pages);
    context_page_ = arena.allocate();
    if (vmcb_physical_ == 0 || maps_ == 0 || context_page_ == 0 || !create_translation(arena, memory)) {
        destroy(arena);
        return refuse(abi::Outcome::exhausted, "no memory for the VMCB, the permission maps or the tables");
    }
    // At the end of its page: what calls of the world switch push is in front of it.
    constexpr u64 call_room = WORK_CALL_BYTES;
    static_assert(sizeof(Context) <= page_size - call_room);
    vmcb_ = static_cast<Vmcb*>(platform::to_virtual(vmcb_physical_));
    context_ = new (static_cast<u8*>(platform::to_virtual(context_page_)) + call_room) Context{};
    context_->vmcb = vmcb_;
    context_->vmcb_physical = vmcb_physical_;
    // Every port and MSR exits until the client says otherwise.
    __builtin_memset(platform::to_virtual(maps_), 0xff, (iopm_pages + msrpm_pages) * page_size);
    floor_ = Floor::of(platform::permissions(), mmu_ == nullptr);
    flushing_ = memory.tag_policy == abi::TagPolicy::flushing;
    vmcb_->iopm_base = maps_;
    vmcb_->msrpm_base = maps_ + iopm_pages * page_size;
    vmcb_->interrupt_control = interrupt_control::v_intr_masking;
    vmcb_->nested_control = mmu_ == nullptr ? 1 : 0;
    vmcb_->nested_cr3 = fifth_level_ != 0 ? fifth_level_ : npt_.root();
    retag();
    abi::InterceptReply nothing{};
    intercept({}, nothing);
    return {};
}

bool Vcpu::create_translation(Arena& arena, const GuestMemory& memory) {
    if (memory.mode == abi::Mode::nested) {
        if (!npt_.create(arena, memory)) {
            return false;
        }
        if ((x86::read_cr4() & x86::cr4::la57) == 0) {
            return true;
        }
        // Nested tables have as many levels as the host's (APM 2 15.25.1): one more, with one entry.
        fifth_level_ = arena.allocate();
        if (fifth_level_ != 0) {
            *static_cast<u64*>(platform::to_virtual(fifth_level_)) = NptFormat::table(npt_.root());
        }
        return fifth_level_ != 0;
    }
    mmu_ = shadow::GuestMmu::make(arena, memory);
    has_own_exits_ = mmu_ != nullptr;
    return mmu_ != nullptr;
}

void Vcpu::destroy(Arena& arena) {
    shadow::GuestMmu::destroy(mmu_, arena);
    mmu_ = nullptr;
    extras_.destroy(arena);
    if (vmcb_physical_ != 0) {
        arena.release(vmcb_physical_);
    }
    if (maps_ != 0) {
        arena.release(maps_, iopm_pages + msrpm_pages);
    }
    if (context_page_ != 0) {
        arena.release(context_page_);
    }
    if (fifth_level_ != 0) {
        arena.release(fifth_level_);
    }
    npt_.destroy(arena);
    vmcb_physical_ = maps_ = context_page_ = fifth_level_ = 0;
    vmcb_ = nullptr;
    context_ = nullptr;
}

// Forgets every translation of this VM: the cheap way, by an ASID that is not in use.
void Vcpu::retag() {
    const Cpu::Tag tag = cpu_.fresh_tag();
    vmcb_->asid = own_asid_ = tag.asid;
    asid_round_ = flush_round_ = tag.round;
    flush_pending_ = flush_pending_ || cpu_.is_flush_due(on_cpu_, flush_round_);
}

// VMRUN drops nothing by itself when these change (APM 2 15.16, Software Rule).
Vcpu::PagingRegisters Vcpu::paging_registers() const {
    using namespace x86;
    constexpr u64 in_cr0 = cr0::pg | cr0::wp | cr0::cd | cr0::nw;
    constexpr u64 in_cr4 =
        cr4::pge | cr4::pae | cr4::pse | cr4::la57 | cr4::pcide | cr4::smep | cr4::smap | cr4::pke;
    constexpr u64 in_efer = efer::nxe | efer::lma | efer::lme;
    return {vmcb_->cr0 & in_cr0, vmcb_->cr3, vmcb_->cr4 & in_cr4, vmcb_->efer & in_efer};
}

void Vcpu::drop_if_changed(const PagingRegisters& before) {
    if (has_run_ && mmu_ == nullptr && vmcb_->asid == own_asid_ && paging_registers() != before) {
        retag();
    }
}

void Vcpu::intercept(const abi::InterceptSet& set, abi::InterceptReply& reply) {
    using abi::Intercept;
    intercepts_ = set.set;
    exceptions_ = set.exceptions;
    vmcb_->intercept_exceptions = set.exceptions;
    vmcb_->intercept_1 = base_1;
    vmcb_->intercept_2 = base_2;
    vmcb_->intercept_3 = 0;
    for (const InterceptBit& b : intercept_bits) {
        if (asks(set.set, b.intercept)) {
            vmcb_->intercept_1 |= b.word_1;
            vmcb_->intercept_2 |= b.word_2;
            vmcb_->intercept_3 |= b.word_3;
        }
    }
    const auto cr = [&](Intercept c0, Intercept c3, Intercept c4, Intercept c8) {
        const auto on = [&](Intercept i, unsigned n) { return asks(set.set, i) ? 1u << n : 0u; };
        return static_cast<u16>(on(c0, 0) | on(c3, 3) | on(c4, 4) | on(c8, 8));
    };
    vmcb_->intercept_cr_read =
        cr(Intercept::cr0_read, Intercept::cr3_read, Intercept::cr4_read, Intercept::cr8_read);
    vmcb_->intercept_cr_write =
        cr(Intercept::cr0_write, Intercept::cr3_write, Intercept::cr4_write, Intercept::cr8_write);
    vmcb_->intercept_dr_read = asks(set.set, Intercept::dr_read) ? 0xffff : 0;
    vmcb_->intercept_dr_write = asks(set.set, Intercept::dr_write) ? 0xffff : 0;
    intercept_translation();
    vmcb_->clean_bits = 0;
    reply.unsupported |= set.set & bit(Intercept::preemption_timer);
    if ((floor_.intercept_2.set & intercept_2::xsetbv) != 0) {
        reply.forced |= bit(Intercept::xsetbv) & ~set.set;
    }
    if ((floor_.intercept_1.set & intercept_1::invd) != 0) {
        reply.forced |= bit(Intercept::invd) & ~set.set;
    }
    reply.forced |= (floor_.cr_read.set != 0 ? bit(Intercept::cr4_read) & ~set.set : 0) |
                    (floor_.cr_write.set != 0 ? bit(Intercept::cr4_write) & ~set.set : 0);
    // Executed by a guest without an intercept, VMMCALL raises #UD (APM 3), so nothing else is forced.
}

Status Vcpu::intercept_msr(const abi::MsrIntercept& what) {
    // APM 2 15.11: two bits an MSR, read then write; three ranges of 2000H MSRs, 800H bytes each.
    constexpr u32 firsts[] = {0, 0xc000'0000, 0xc001'0000};
    auto* map = static_cast<u8*>(platform::to_virtual(maps_ + iopm_pages * page_size));
    for (u32 range = 0; range < 3; ++range) {
        const u32 index = what.msr - firsts[range];
        if (what.msr >= firsts[range] && index < 0x2000) {
            u8& byte = map[range * 0x800 + index / 4];
            const unsigned shift = index % 4 * 2;
            const unsigned bits = (what.read != 0 ? 1u : 0u) | (what.write != 0 ? 2u : 0u);
            byte = static_cast<u8>((byte & ~(3u << shift)) | bits << shift);
            vmcb_->clean_bits = 0;
            return {};
        }
    }
    return what.read != 0 && what.write != 0
               ? Status{}
               : refuse(abi::Outcome::unsupported,
                        "the SVM MSR map covers 0, C0000000H and C0010000H + 1FFFH only");
}

Status Vcpu::intercept_io(const abi::IoIntercept& what) {
    set_bits(static_cast<u8*>(platform::to_virtual(maps_)), what.first, what.count, what.on != 0);
    vmcb_->clean_bits = 0;
    return {};
}

Status Vcpu::protect(const GuestMemory& memory, const abi::NestedProtect& what) {
    const auto rights = static_cast<x86::Rights>(what.rights & 7);
    if (rights != x86::Rights::none && !has(rights, x86::Rights::r)) {
        return refuse(abi::Outcome::unsupported, "NPT entries cannot refuse reads alone");
    }
    if (mmu_ != nullptr) {
        return refuse(abi::Outcome::unsupported, "nested rights in a mode without nested tables");
    }
    npt_.map(memory, what.gpa, what.pages * page_size, rights);
    retag();
    return {};
}

} // namespace refhv::svm
