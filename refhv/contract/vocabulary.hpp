// SPDX-License-Identifier: MIT
// The contract's words: operations, outcomes, reasons, intercepts, actions. Part of abi.hpp.
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::abi {

// What each takes and gives: operations.hpp. Numbers are stable.
enum class Op : u16 {
    hello = 1,
    vm_create = 2,
    vm_destroy = 3,
    mem_write = 4,
    mem_fill64 = 5,
    mem_read = 6,
    state_set = 7,
    state_get = 8,
    field_write = 9,
    field_read = 10,
    intercept = 11,
    msr_intercept = 12,
    io_intercept = 13,
    policy = 14,
    nested_protect = 15,
    run = 16,
    snapshot = 17, // state and memory are kept inside the core
    restore = 18,
    shutdown = 19, // after the answer the bootable image turns its machine off
    nested_entry = 20,
    invalidate = 21,
    entry_probes = 22,
    again = 23,     // an earlier operation of the same batch, some of its words changed; Again
    crash = 0xfffe, // reply only: the core itself took an exception; CrashReply
};

enum class Outcome : u16 {
    ok = 0,
    exited = 1,         // run: the policy said stop
    entry_refused = 2,  // run: the hardware refused the VM entry; RunReply::refusal says how
    repeats_done = 3,   // run: Run::repeats exits were handled
    deadline = 4,       // run: Run::deadline passed
    unsupported = 5,    // this machine, backend or mode cannot do it; Text in the body says what is missing
    bad_request = 6,    // the caller's error; Text in the body
    exhausted = 7,      // out of arena memory; Text in the body
    skipped = 8,        // an earlier operation of the batch failed
    crashed = 9,        // the core failed; CrashReply in the body
    wrong_version = 10, // the frame's or hello's version is not the core's; Text in the body
    stopped = 11,       // run: the client asked for its end; of another operation: Text in the body
};

enum class Mode : u8 {
    native = 1, // ring 0 of the core's own CPU, no virtualization
    nested = 2, // EPT or NPT
    shadow = 3, // shadow page tables (a later version)
    vtlb = 4,   // a TLB in software (a later version)
    user = 5,   // an ordinary process; only the `self` target offers it
    kvm = 6,    // a guest of Linux's KVM; only the `kvm` target offers it
};

enum class PageSize : u8 {
    k4 = 0,
    m2 = 1,
    g1 = 2,
};

// How translations of a VM are tagged (VPID, SDM 3C 29.1; ASID, APM 2 15.16).
enum class TagPolicy : u8 {
    tagged = 0,   // a tag of its own where the CPU has them; flushed only when needed
    flushing = 1, // VMX: VPID off. SVM: TLB_CONTROL flushes at every VMRUN
};

enum class Platform : u16 {
    image = 1, // the bootable image
    linux_module = 2,
    process = 3, // the `self` target
    kvm = 4,     // the `kvm` target
};

enum class Vendor : u16 {
    none = 0,
    vmx = 1,
    svm = 2,
};

// Why `vendor` is none, or why the vendor's extension cannot be used. Numbers are stable.
enum class BackendStatus : u16 {
    usable = 0,
    absent = 1,             // neither CPUID.1:ECX.VMX[5] nor CPUID.80000001H:ECX.SVM[2]
    locked_by_firmware = 2, // IA32_FEATURE_CONTROL locked without VMX, or VM_CR.SVMDIS set
    in_use = 3,             // another hypervisor owns VMX operation or EFER.SVME on this CPU
    lacking = 4,            // present, but without nested paging or another thing that the core needs
};

enum class TscSource : u16 {
    unknown = 0,
    cpuid_15h = 1,
    cpuid_16h = 2,
    hypervisor_leaf = 3, // CPUID.40000010H
    calibrated = 4,      // against a timer of the platform
};

// Neutral exit reasons. The raw reason always comes along.
enum class Reason : u16 {
    none = 0,
    exception = 1, // Exit::vector says which
    nmi = 2,
    external_interrupt = 3,
    triple_fault = 4,
    init = 5,
    sipi = 6,
    smi = 7,
    interrupt_window = 8,
    nmi_window = 9,
    task_switch = 10,
    cpuid = 11,
    hlt = 12,
    invd = 13,
    wbinvd = 14,
    invlpg = 15,
    invpcid = 16,
    rdpmc = 17,
    rdtsc = 18,
    rdtscp = 19,
    hypercall = 20,      // VMCALL or VMMCALL
    vm_instruction = 21, // any other VMX or SVM instruction in the guest
    cr0_read = 22,
    cr0_write = 23,
    cr3_read = 24,
    cr3_write = 25,
    cr4_read = 26,
    cr4_write = 27,
    cr8_read = 28,
    cr8_write = 29,
    cr_other = 30, // CLTS, LMSW, other control registers
    dr_read = 31,
    dr_write = 32,
    io_in = 33,
    io_out = 34,
    rdmsr = 35,
    wrmsr = 36,
    mwait = 37,
    monitor = 38,
    pause = 39,
    gdtr_idtr = 40, // LGDT, SGDT, LIDT, SIDT
    ldtr_tr = 41,   // LLDT, SLDT, LTR, STR
    xsetbv = 42,
    nested_violation = 43, // EPT violation, nested page fault
    nested_misconfig = 44, // EPT misconfiguration
    preemption_timer = 45,
    monitor_trap = 46,
    page_modification_log_full = 47,
    entry_failure = 48, // VM-entry failure after the state was loaded, VMEXIT_INVALID
    virtualized_eoi = 49,
    tpr_threshold = 50,
    apic_access = 51,
    rdrand = 52,
    rdseed = 53,
    xsaves = 54,
    int_n = 55, // INTn intercepted (SVM)
    iret = 56,
    pushf_popf = 57,
    other = 58,
    apic_write = 59,          // APIC-register virtualization: after a store to the virtual-APIC page
    avic_incomplete_ipi = 60, // SVM: AVIC could not complete an IPI
    avic_unaccelerated = 61,  // SVM: an access to the APIC that AVIC does not do
    count_ = 62,
};

// What can be asked to exit. Bit numbers of InterceptSet::set.
enum class Intercept : u8 {
    cpuid = 0,
    hlt = 1,
    invlpg = 2,
    rdtsc = 3,
    rdtscp = 4,
    rdpmc = 5,
    pause = 6,
    mwait = 7,
    monitor = 8,
    wbinvd = 9,
    xsetbv = 10,
    hypercall = 11,
    gdtr_idtr_read = 12,
    gdtr_idtr_write = 13,
    ldtr_tr_read = 14,
    ldtr_tr_write = 15,
    cr0_read = 16,
    cr0_write = 17,
    cr3_read = 18,
    cr3_write = 19,
    cr4_read = 20,
    cr4_write = 21,
    cr8_read = 22,
    cr8_write = 23,
    dr_read = 24,
    dr_write = 25,
    preemption_timer = 26, // VMX: armed at every entry with Run::preemption_timer
    invd = 27,
    invpcid = 28,
    count_ = 29,
};

enum class Action : u8 {
    stop = 0,    // end the run; the default for every reason
    advance = 1, // step over the instruction and go on
    // Do what the instruction would have done, then advance. WRMSR of the ICR as in x2APIC mode (SDM 3A
    // 11.12.9), by a guest that runs as a peer: a fixed interrupt, 33 to 239, to the CPU of the run.
    emulate = 2,
    // Hand it to the guest: the intercepted exception; the external interrupt, with the vector that came, as
    // soon as the guest can take it (its window is waited for); the NMI.
    inject = 3,
    // nested_violation, nested_misconfig: map the page with all rights, by the leaf where the nested walk
    // ended (at most of the VM's nested page size), and re-enter. page_modification_log_full: the log is
    // empty again, its index 511; re-enter.
    map_and_retry = 4,
    resume = 5, // re-enter as it is
    // Step over the instruction, then deliver PolicyEntry::event: vector in bits 7:0, type in bits 10:8 (0
    // external interrupt, 2 NMI, 3 exception), bit 11: with an error code, which is 0; VMX and SVM use these
    // bits alike (SDM 3C table 25-17; APM 2 15.20). Delivery in bits 13:12.
    deliver = 6,
};

// How an event gets into the guest; exceptions with the entry only.
enum class Delivery : u8 {
    with_entry = 0, // injected, whether the guest is open for it or not
    // The CPU is asked to exit once the guest is open for it, and it is injected then: a further exit,
    // handled whatever the policy for it says. One event waits at a time, and comes once however often it was
    // asked for; if the run ends first, not at all. VMX: interrupt-window exiting; for an NMI NMI-window
    // exiting, where the client has set virtual NMIs (SDM 3C 25.6.1, 25.6.2). SVM: V_IRQ under the VINTR
    // intercept (APM 2 15.21.4); no NMI.
    when_open = 1,
    // An interrupt that the CPU itself delivers once the guest is open for it. VMX: VIRR and RVI, where the
    // client has set virtual-interrupt delivery and a virtual-APIC page in guest memory (SDM 3C 30.2). SVM:
    // V_IRQ, with the priority that is in the vector (APM 2 15.21.4).
    virtually = 2,
    count_ = 3,
};

// What a second CPU does during a run.
enum class PeerAct : u16 {
    none = 0,
    interrupt = 1, // IPI, fixed, Peer::vector
    nmi = 2,       // IPI, NMI
    write = 3,     // a store to guest memory
    post = 4,      // posts Peer::vector in a posted-interrupt descriptor, notifies if it must (SDM 3C 30.6)
    guest = 5,     // the guest of VM Peer::value, of mode nested, runs until one of its exits was answered
    // Both to a CPU in VMX operation, of mode nested, whose guests they do not reset (SDM 3C 26.2, 25.8).
    init = 6,     // INIT
    start_up = 7, // start-up IPI, its page in Peer::vector
    count_ = 8,
};

// What drops cached translations. VMX: SDM 3C 31.3, INVEPT and INVVPID; SVM: APM 2 15.16 and APM 3, INVLPGA.
enum class Invalidation : u16 {
    ept_single = 1,               // INVEPT type 1, the VM's EPT pointer
    ept_global = 2,               // INVEPT type 2
    vpid_address = 3,             // INVVPID type 0, the VM's VPID
    vpid_single = 4,              // INVVPID type 1
    vpid_all = 5,                 // INVVPID type 2
    vpid_keep_globals = 6,        // INVVPID type 3
    asid_address = 7,             // INVLPGA, the VM's ASID
    asid_fresh = 8,               // the VM's next VMRUN uses an ASID that has no translations
    flush_all = 9,                // TLB_CONTROL 1 with the VM's next VMRUN, and with no later one
    flush_asid = 10,              // TLB_CONTROL 3, likewise
    flush_asid_keep_globals = 11, // TLB_CONTROL 7, likewise
    count_ = 12,
};

// Parts of the host's state that the core compares before and after every run.
enum HostState : u32 {
    host_cr0 = 1u << 0,
    host_cr3 = 1u << 1,
    host_cr4 = 1u << 2,
    host_efer = 1u << 3,
    host_gdtr = 1u << 4,
    host_idtr = 1u << 5,
    host_selectors = 1u << 6, // CS, SS, DS, ES, FS, GS, LDTR, TR
    host_fs_gs_base = 1u << 7,
    host_dr7 = 1u << 8,
    host_xcr0 = 1u << 9,
    host_syscall_msrs = 1u << 10, // STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE
    host_sysenter_msrs = 1u << 11,
    host_pat = 1u << 12,
    host_tsc_aux = 1u << 13,
    host_rflags = 1u << 14, // IF, DF, AC, TF
    host_cr8 = 1u << 15,
    host_debug_registers = 1u << 16, // DR0 to DR3, DR6
    host_debugctl = 1u << 17,
    host_xss = 1u << 18,
    host_spec_ctrl = 1u << 19,
    host_pkru = 1u << 20,
    host_u_cet = 1u << 21,
    host_tss = 1u << 22, // base and limit as the GDT has them
};

static_assert(static_cast<u16>(Reason::count_) <= 64);
static_assert(static_cast<u8>(Intercept::count_) <= 64);

} // namespace refhv::abi
