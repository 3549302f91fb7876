// SPDX-License-Identifier: MIT
// EPT entries as data, and what drops translations (SDM 3C 29.4, 31.3).
#include "refhv/vmx/instructions.hpp"
#include "refhv/vmx/vcpu.hpp"

namespace refhv::vmx {

namespace {

enum class Instruction : u8 {
    invept,
    invvpid,
};

struct Kind {
    abi::Invalidation kind;
    Instruction instruction;
    u64 type;
    u64 needs; // bits of IA32_VMX_EPT_VPID_CAP (SDM 3D A.10)
    const char* missing;
};

constexpr u64 cap(unsigned instruction, unsigned type) {
    return u64{1} << instruction | u64{1} << type;
}

constexpr Kind kinds[] = {
    {abi::Invalidation::ept_single, Instruction::invept, 1, cap(20, 25),
     "single-context INVEPT (IA32_VMX_EPT_VPID_CAP bits 20, 25)"},
    {abi::Invalidation::ept_global, Instruction::invept, 2, cap(20, 26),
     "global INVEPT (IA32_VMX_EPT_VPID_CAP bits 20, 26)"},
    {abi::Invalidation::vpid_address, Instruction::invvpid, 0, cap(32, 40),
     "individual-address INVVPID (IA32_VMX_EPT_VPID_CAP bits 32, 40)"},
    {abi::Invalidation::vpid_single, Instruction::invvpid, 1, cap(32, 41),
     "single-context INVVPID (IA32_VMX_EPT_VPID_CAP bits 32, 41)"},
    {abi::Invalidation::vpid_all, Instruction::invvpid, 2, cap(32, 42),
     "all-context INVVPID (IA32_VMX_EPT_VPID_CAP bits 32, 42)"},
    {abi::Invalidation::vpid_keep_globals, Instruction::invvpid, 3, cap(32, 43),
     "single-context INVVPID that keeps global translations (IA32_VMX_EPT_VPID_CAP bits 32, 43)"},
};

} // namespace

Status Vcpu::nested_entry(const GuestMemory& memory, const abi::NestedEntry& what,
                          abi::NestedEntryReply& reply) {
    return mmu_ != nullptr ? refuse(abi::Outcome::unsupported, "no EPT in a mode without nested tables")
                           : ept_.edit(memory, what, reply);
}

Status Vcpu::invalidate(const abi::Invalidate& what, abi::InvalidateReply& reply) {
    make_current();
    for (const Kind& k : kinds) {
        if (static_cast<u16>(k.kind) != what.kind) {
            continue;
        }
        if ((cpu_.capabilities().ept_vpid & k.needs) != k.needs) {
            return refuse(abi::Outcome::unsupported, k.missing);
        }
        const bool ept = k.instruction == Instruction::invept;
        if (ept && mmu_ != nullptr) {
            return refuse(abi::Outcome::unsupported, "no EPT in a mode without nested tables");
        }
        const u64 own = read(ept ? Field::ept_pointer : Field::virtual_processor_id);
        const u64 tag = (what.flags & abi::invalidate_tag) != 0 ? what.tag : own;
        const InvalidateDescriptor d{tag, ept ? 0 : what.address};
        Result result = Result::succeed;
        platform::hold_interrupts();
        reply.tsc_begin = x86::rdtsc_fenced();
        for (u32 i = 0; i < what.repeats; ++i) {
            result = ept ? invept(k.type, d) : invvpid(k.type, d);
        }
        reply.tsc_end = x86::rdtsc_fenced();
        platform::release_interrupts();
        reply.error = result == Result::succeed ? 0 : static_cast<u32>(read(Field::instruction_error));
        return {};
    }
    return refuse(abi::Outcome::unsupported, "ASIDs, TLB_CONTROL and INVLPGA are SVM's");
}

// After a right was taken away: whatever the EPT tables of this VM gave.
void Vcpu::drop_translations() {
    const Capabilities& caps = cpu_.capabilities();
    if (caps.invept_single()) {
        (void)invept(1, {ept_pointer(ept_.root()), 0});
    } else if (caps.invept_all()) {
        (void)invept(2, {});
    }
}

} // namespace refhv::vmx
