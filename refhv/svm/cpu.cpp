// SPDX-License-Identifier: MIT
#include "refhv/svm/cpu.hpp"

#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

namespace {
constexpr u64 vm_cr_svmdis = 1u << 4;

// AMD, "Software Techniques for Managing Speculation": LFENCE waits where CPUID says always, in families 0FH
// and 11H, which have no DE_CFG, and where DE_CFG says so. A machine that takes the write and keeps 0 has
// none either: an emulator, or a hypervisor whose own choice it is.
bool make_lfence_wait() {
    constexpr u64 serializing = 1u << 1;
    const bool always =
        x86::cpuid(0x8000'0000).eax >= 0x8000'0021 && (x86::cpuid(0x8000'0021).eax >> 2 & 1) != 0;
    const u32 signature = x86::cpuid(1).eax, base = signature >> 8 & 15;
    const u32 family = base == 15 ? base + (signature >> 20 & 0xff) : base;
    const bool has_none = family <= 0xf || family == 0x11;
    u64 config = 0;
    if (always || has_none || !platform::try_rdmsr(x86::msr::de_cfg, config) || (config & serializing) != 0) {
        return true;
    }
    return platform::permissions().has(Permit::host_msrs) &&
           platform::try_wrmsr(x86::msr::de_cfg, config | serializing);
}

// Does this host encrypt its memory? Then an address of a VMCB or of a table without the C-bit shows the CPU
// ciphertext, and the arena's have none (APM 2 7.10).
bool encrypts_memory() {
    constexpr u32 leaf = 0x8000'001f;
    if (x86::cpuid(0x8000'0000).eax < leaf) {
        return false;
    }
    const abi::CpuidLeaf r = x86::cpuid(leaf);
    const bool has_sme = (r.eax & 1) != 0;
    return has_sme && (x86::read_cr3() >> (r.ebx & 0x3f) & 1) != 0;
}

} // namespace

Capabilities Capabilities::read() {
    const abi::CpuidLeaf r = x86::cpuid(0x8000'000a);
    return {.revision = r.eax & 0xff, .asids = r.ebx, .features = r.edx};
}

Probe Cpu::probe() {
    using enum abi::BackendStatus;
    if (x86::cpuid(0x8000'0000).eax < 0x8000'000a || (x86::cpuid(0x8000'0001).ecx >> 2 & 1) == 0) {
        return {absent, "CPUID.80000001H:ECX.SVM[2] is 0: this CPU has no SVM, or a hypervisor hides it"};
    }
    u64 vm_cr = 0;
    if (platform::try_rdmsr(x86::msr::vm_cr, vm_cr) && (vm_cr & vm_cr_svmdis) != 0) {
        const bool locked_with_key = (x86::cpuid(0x8000'000a).edx >> 2 & 1) != 0;
        return {locked_by_firmware,
                locked_with_key ? "firmware locked SVM off with a key: VM_CR.SVMDIS (C0010114H bit 4) is set"
                                : "firmware turned SVM off: VM_CR.SVMDIS (C0010114H bit 4) is set; enable "
                                  "virtualization in the firmware's set-up"};
    }
    u64 efer = 0;
    if (!platform::try_rdmsr(x86::msr::efer, efer) || (efer & x86::efer::svme) != 0) {
        return {in_use, "EFER.SVME is set already: another hypervisor uses SVM on this CPU"};
    }
    if (!Capabilities::read().nested_paging()) {
        return {lacking, "SVM without nested paging (CPUID.8000000AH:EDX.NP[0])"};
    }
    if (encrypts_memory()) {
        return {lacking,
                "the host encrypts its memory (SME): CR3 has the C-bit, which the core does not use"};
    }
    return {usable, ""};
}

Status Cpu::enable(Arena& arena, u32 cpu) {
    PerCpu& mine = per_cpu_[cpu];
    if (mine.host_save_area != 0) {
        return {};
    }
    if (const Probe p = probe(); p.status != abi::BackendStatus::usable) {
        return refuse(abi::Outcome::unsupported, p.note);
    }
    capabilities_ = Capabilities::read();
    const u64 save_area = arena.allocate(), vmcb = arena.allocate();
    const auto as_before = [&](abi::Outcome outcome, const char* why) { // as if nothing had been tried
        for (const u64 page : {save_area, vmcb}) {
            if (page != 0) {
                arena.release(page);
            }
        }
        return refuse(outcome, why);
    };
    if (save_area == 0 || vmcb == 0) {
        return as_before(abi::Outcome::exhausted, "no pages for the host save areas");
    }
    // A hypervisor underneath may refuse either write.
    const u64 efer = x86::rdmsr(x86::msr::efer);
    if (!platform::try_wrmsr(x86::msr::efer, efer | x86::efer::svme)) {
        return as_before(abi::Outcome::unsupported, "EFER.SVME refuses to be set");
    }
    if (!platform::try_wrmsr(x86::msr::vm_hsave_pa, save_area)) {
        x86::wrmsr(x86::msr::efer, efer);
        return as_before(abi::Outcome::unsupported, "VM_HSAVE_PA (C0010117H) refuses to be written");
    }
    mine.orders_stamps = make_lfence_wait();
    mine.host_save_area = save_area;
    mine.host_vmcb = vmcb;
    return {};
}

void Cpu::disable(Arena& arena, u32 cpu) {
    PerCpu& mine = per_cpu_[cpu];
    if (mine.host_save_area == 0) {
        return;
    }
    x86::wrmsr(x86::msr::vm_hsave_pa, 0);
    x86::wrmsr(x86::msr::efer, x86::rdmsr(x86::msr::efer) & ~x86::efer::svme);
    arena.release(mine.host_save_area);
    arena.release(mine.host_vmcb);
    mine = {}; // and the first VMRUN of the next time flushes
}

} // namespace refhv::svm
