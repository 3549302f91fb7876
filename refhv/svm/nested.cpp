// SPDX-License-Identifier: MIT
// Nested page-table entries as data, and what drops translations (APM 2 15.16, 15.25; APM 3, INVLPGA).
#include "refhv/svm/instructions.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/x86/intrinsics.hpp"

namespace refhv::svm {

Status Vcpu::nested_entry(const GuestMemory& memory, const abi::NestedEntry& what,
                          abi::NestedEntryReply& reply) {
    return mmu_ != nullptr ? refuse(abi::Outcome::unsupported, "no NPT in a mode without nested tables")
                           : npt_.edit(memory, what, reply);
}

Status Vcpu::invalidate(const abi::Invalidate& what, abi::InvalidateReply& reply) {
    using enum abi::Invalidation;
    switch (static_cast<abi::Invalidation>(what.kind)) {
    case asid_address: {
        const u32 asid = (what.flags & abi::invalidate_tag) != 0 ? static_cast<u32>(what.tag) : vmcb_->asid;
        platform::hold_interrupts();
        reply.tsc_begin = x86::rdtsc_fenced();
        for (u32 i = 0; i < what.repeats; ++i) {
            invlpga(what.address, asid);
        }
        reply.tsc_end = x86::rdtsc_fenced();
        platform::release_interrupts();
        return {};
    }
    case asid_fresh:
        retag();
        return {};
    case flush_all:
        armed_ = TlbControl::flush_all;
        return {};
    case flush_asid:
    case flush_asid_keep_globals:
        if (!cpu_.capabilities().flush_by_asid()) {
            return refuse(abi::Outcome::unsupported,
                          "TLB_CONTROL 3 and 7 (CPUID.8000000AH:EDX.FlushByAsid[6])");
        }
        armed_ = what.kind == static_cast<u16>(flush_asid) ? TlbControl::flush_asid
                                                           : TlbControl::flush_asid_keep_globals;
        return {};
    default:
        return refuse(abi::Outcome::unsupported, "INVEPT and INVVPID are VMX's");
    }
}

// What the CPU is told at the next VMRUN.
TlbControl Vcpu::due_flush() const {
    const bool by_asid = cpu_.capabilities().flush_by_asid();
    if (flush_pending_ || armed_ == TlbControl::flush_all || (flushing_ && !by_asid)) {
        return TlbControl::flush_all;
    }
    return flushing_ ? TlbControl::flush_asid : armed_;
}

} // namespace refhv::svm
