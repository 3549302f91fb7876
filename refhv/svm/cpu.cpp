// SPDX-License-Identifier: MIT
#include "refhv/svm/cpu.hpp"

#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

namespace {
constexpr u64 vm_cr_svmdis = 1u << 4;
}

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
    mine.host_save_area = arena.allocate();
    mine.host_vmcb = arena.allocate();
    if (mine.host_save_area == 0 || mine.host_vmcb == 0) {
        return refuse(abi::Outcome::exhausted, "no pages for the host save areas");
    }
    x86::wrmsr(x86::msr::efer, x86::rdmsr(x86::msr::efer) | x86::efer::svme);
    x86::wrmsr(x86::msr::vm_hsave_pa, mine.host_save_area);
    return {};
}

} // namespace refhv::svm
