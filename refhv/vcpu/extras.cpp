// SPDX-License-Identifier: MIT
#include "refhv/vcpu/extras.hpp"

#include "refhv/vcpu/guest_registers.hpp"

#include <new>

namespace refhv::x86 {

namespace {

using abi::Extra;

constexpr u64 areas = abi::extra_bit(Extra::msr_exit_store) | abi::extra_bit(Extra::msr_exit_load) |
                      abi::extra_bit(Extra::msr_entry_load);
constexpr u64 counted = areas | abi::extra_bit(Extra::msr_by_hand) | abi::extra_bit(Extra::vmread) |
                        abi::extra_bit(Extra::vmwrite);
constexpr u64 xsaves = abi::extra_bit(Extra::xsave) | abi::extra_bit(Extra::xsave_lazy);

// MSRs that every CPU in long mode has, and of which the core keeps the guest's apart from the host's.
constexpr u32 switched_msrs[] = {msr::star, msr::lstar, msr::cstar, msr::sfmask, msr::kernel_gs_base};
constexpr u32 switched_count = sizeof switched_msrs / sizeof switched_msrs[0];

[[nodiscard]] bool leaf_7_edx(unsigned bit) {
    return cpuid(0).eax >= 7 && (cpuid(7).edx >> bit & 1) != 0;
}
[[nodiscard]] bool leaf_8_ebx(unsigned bit) {
    return cpuid(0x8000'0000).eax >= 0x8000'0008 && (cpuid(0x8000'0008).ebx >> bit & 1) != 0;
}
[[nodiscard]] bool leaf_21_eax(unsigned bit) {
    return cpuid(0x8000'0000).eax >= 0x8000'0021 && (cpuid(0x8000'0021).eax >> bit & 1) != 0;
}

// What the CPU lacks; null: nothing.
[[nodiscard]] const char* missing(u64 extras) {
    const auto asked = [&](Extra e) { return (extras & abi::extra_bit(e)) != 0; };
    if ((extras & xsaves) != 0 && (read_cr4() & cr4::osxsave) == 0) {
        return "no XSAVE: CPUID.01H:ECX[26], or the host leaves CR4.OSXSAVE 0";
    }
    if (asked(Extra::spec_ctrl) && !leaf_7_edx(26) && !leaf_8_ebx(14)) {
        return "no IA32_SPEC_CTRL: CPUID.07H:EDX[26], CPUID.80000008H:EBX[14]";
    }
    if (asked(Extra::ibpb) && !leaf_7_edx(26) && !leaf_8_ebx(12)) {
        return "no IBPB in IA32_PRED_CMD: CPUID.07H:EDX[26], CPUID.80000008H:EBX[12]";
    }
    if (asked(Extra::verw) && !leaf_7_edx(10) && !leaf_21_eax(5)) {
        return "VERW clears no buffers: CPUID.07H:EDX.MD_CLEAR[10], CPUID.80000021H:EAX.VERW_CLEAR[5]";
    }
    if (asked(Extra::l1d_flush) && !leaf_7_edx(28)) {
        return "no IA32_FLUSH_CMD.L1D_FLUSH: CPUID.07H:EDX[28]";
    }
    return nullptr;
}

[[nodiscard]] Status check_components(u32 components, u64 xcr0) {
    const abi::CpuidLeaf leaf = cpuid(0xd);
    if (components == 0) {
        return refuse(abi::Outcome::bad_request, "extras: XSAVE of no state component");
    }
    if (components != abi::all_components && (components & ~leaf.eax) != 0) {
        return refuse(abi::Outcome::unsupported, "no such state component: CPUID.0DH.0:EAX");
    }
    if (components != abi::all_components && (components & ~xcr0) != 0) {
        return refuse(abi::Outcome::bad_request, "extras: a state component is not set in the guest's XCR0");
    }
    return {};
}

// Where dispatched exits go.
asm(".pushsection .text\n"
    "refhv_dispatched: ret\n"
    ".popsection");
extern "C" const char refhv_dispatched[];

void xsave(u8* area, u64 components) {
    asm volatile("xsave64 (%0)" ::"r"(area), "a"(static_cast<u32>(components)), "d"(0) : "memory");
}

} // namespace

abi::Extra switched_extra(u64 extras) {
    const u64 own = extras & ~areas & ~abi::extra_bit(Extra::general_registers);
    return own == 0 ? Extra::general_registers : static_cast<Extra>(__builtin_ctzll(own));
}

Status Extras::prepare(Arena& arena, u64 extras, u32 count, u64 xcr0) {
    const u64 own = extras & ~areas & ~abi::extra_bit(Extra::general_registers);
    if ((own & (own - 1)) != 0 || ((own & (counted | xsaves)) != 0 && (extras & areas) != 0)) {
        return refuse(abi::Outcome::unsupported, "no world switch of this core does these extras together");
    }
    if ((extras & (counted | xsaves)) == 0 && count != 0) {
        return refuse(abi::Outcome::bad_request, "extras: a number that belongs to none of them");
    }
    if ((extras & counted) != 0 && (count == 0 || count > abi::max_extra_count)) {
        return refuse(abi::Outcome::bad_request, "extras: their number is 1 to 512");
    }
    if (const char* const lack = missing(extras); lack != nullptr) {
        return refuse(abi::Outcome::unsupported, lack);
    }
    if ((extras & xsaves) != 0) {
        if (const Status s = check_components(count, xcr0); !s.ok()) {
            return s;
        }
    }
    if (work_ != nullptr) {
        return {};
    }
    // Room for every component that the CPU has (SDM 1 13.2).
    const u64 area =
        Features::detect().xsave ? (cpuid(0xd).ecx + page_size - 1) / page_size * page_size : page_size;
    pages_ = (xsave_at + 2 * area) / page_size;
    memory_ = arena.allocate(pages_);
    if (memory_ == 0) {
        return refuse(abi::Outcome::exhausted, "no memory for the extras of a run");
    }
    u8* const at = static_cast<u8*>(platform::to_virtual(memory_));
    work_ = new (at) ExtraWork{};
    work_->guest_xsave = at + xsave_at;
    work_->host_xsave = at + xsave_at + area;
    work_->guest_msrs = reinterpret_cast<MsrEntry*>(at + guest_msrs_at);
    work_->host_msrs = reinterpret_cast<MsrEntry*>(at + host_msrs_at);
    work_->selector = read_ss();
    work_->target = refhv_dispatched;
    return {};
}

void Extras::destroy(Arena& arena) {
    if (memory_ != 0) {
        arena.release(memory_, pages_);
    }
    memory_ = pages_ = asked_ = adopted_ = 0;
    work_ = nullptr;
}

bool Extras::switches_msrs() const {
    return (asked_ & areas) != 0 || has(Extra::msr_by_hand);
}

void Extras::begin(u64 extras, u32 count) {
    asked_ = extras;
    if (asked_ == 0) {
        return;
    }
    work_->count = work_->components = count;
    if (switches_msrs()) {
        for (u32 i = 0; i < count; ++i) {
            const u32 index = switched_msrs[i % switched_count];
            work_->guest_msrs[i] = {index, 0, 0};
            work_->host_msrs[i] = {
                index, 0, i < switched_count ? rdmsr(index) : work_->host_msrs[i % switched_count].value};
        }
    }
    if (has(Extra::spec_ctrl)) {
        work_->guest_spec_ctrl = work_->host_spec_ctrl = rdmsr(msr::spec_ctrl);
    }
}

void Extras::before_switch() {
    work_->traps = 0;
    if (!switches_msrs()) {
        return;
    }
    // Asked for singly, the areas load what the guest has, and nothing would restore the host's.
    const bool all = has(Extra::msr_by_hand) || (asked_ & areas) == areas;
    for (u32 i = 0; i < work_->count; ++i) {
        MsrEntry& mine = work_->guest_msrs[i];
        mine.value = i < switched_count ? rdmsr(mine.index) : work_->guest_msrs[i % switched_count].value;
        work_->host_msrs[i].value = all ? work_->host_msrs[i].value : mine.value;
    }
}

void Extras::after_switch(u64* counts) {
    counts[static_cast<usize>(abi::Reason::exception)] += work_->traps;
    const bool all = has(Extra::msr_by_hand) || (asked_ & areas) == areas;
    for (u32 i = 0; all && i < work_->count && i < switched_count; ++i) {
        wrmsr(work_->guest_msrs[i].index, work_->guest_msrs[i].value);
    }
}

void Extras::adopt_components() {
    if ((asked_ & xsaves) != 0) {
        xsave(work_->guest_xsave, work_->components & ~adopted_);
        adopted_ |= work_->components;
    }
}

} // namespace refhv::x86
