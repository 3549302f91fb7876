// SPDX-License-Identifier: MIT
// The contract: what a client may ask of the core and what the core answers.
//
// A payload (see frame.hpp) is a sequence of operations. Each is an OpHeader, a fixed body and, for some,
// data after the body; `size` counts body and data, and the next header starts at the next multiple of 8. The
// core answers every operation, in order, with a ReplyHeader and a body of its own. After the first operation
// that is not `ok` the rest of the batch is answered `skipped`, except that a run which ended (exited,
// repeats_done, deadline, entry_refused) is no error and the batch goes on.
//
// Everything is little-endian, naturally aligned, without implicit padding; both sides compile this header
// and the assertions in it. A change of layout or meaning raises `version`.
#pragma once

#include "types.hpp"

namespace refhv::abi {

inline constexpr u16 version = 1;

inline constexpr u32 max_vms = 4;                  // VM slots, numbered by the client
inline constexpr u32 max_frame_payload = 1u << 20; // bytes, either direction
inline constexpr u64 max_fill_count = 1u << 24;    // entries in one fill64

// ---------------------------------------------------------------------------------------------------------------
// Vocabulary

enum class Op : u16 {
    hello = 1,           // Hello -> HelloReply
    vm_create = 2,       // VmCreate -> VmCreateReply
    vm_destroy = 3,      // VmRef -> empty
    mem_write = 4,       // MemRange + data -> empty
    mem_fill64 = 5,      // MemFill64 -> empty
    mem_read = 6,        // MemRange -> data
    state_set = 7,       // StateSet -> empty
    state_get = 8,       // VmRef -> GuestState
    field_write = 9,     // Field -> FieldReply
    field_read = 10,     // Field -> FieldReply
    intercept = 11,      // InterceptSet -> InterceptReply
    msr_intercept = 12,  // MsrIntercept -> empty
    io_intercept = 13,   // IoIntercept -> empty
    policy = 14,         // PolicySet + PolicyEntry[] -> empty
    nested_protect = 15, // NestedProtect -> empty
    run = 16,            // Run -> RunReply + HostStamp[]
    snapshot = 17,       // VmRef -> empty; state and memory are kept inside the core
    restore = 18,        // VmRef -> empty
    shutdown = 19,       // Hello -> empty; after the answer the bootable image turns its machine off
    crash = 0xfffe,      // reply only: the core itself took an exception; CrashReply
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
};

enum class Mode : u8 {
    native = 1, // ring 0 of the core's own CPU, no virtualization
    nested = 2, // EPT or NPT
    shadow = 3, // shadow page tables (a later version)
    vtlb = 4,   // a TLB in software (a later version)
    user = 5,   // an ordinary process; only the `self` target offers it
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
    count_ = 59,
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
    stop = 0,          // end the run; the default for every reason
    advance = 1,       // step over the instruction and go on
    emulate = 2,       // do what the instruction would have done, then advance
    inject = 3,        // hand the intercepted exception to the guest
    map_and_retry = 4, // nested_violation: map the page with all rights and re-enter
    resume = 5,        // re-enter as it is
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
};

// ---------------------------------------------------------------------------------------------------------------
// State

enum Gpr : u8 {
    rax = 0,
    rcx = 1,
    rdx = 2,
    rbx = 3,
    rsp = 4,
    rbp = 5,
    rsi = 6,
    rdi = 7,
    r8 = 8,
    r9 = 9,
    r10 = 10,
    r11 = 11,
    r12 = 12,
    r13 = 13,
    r14 = 14,
    r15 = 15,
};

enum SegmentIndex : u8 {
    es = 0,
    cs = 1,
    ss = 2,
    ds = 3,
    fs = 4,
    gs = 5,
    ldtr = 6,
    tr = 7,
};

struct Segment {
    u64 base;
    u32 limit;
    u32 rights; // SDM 3C table 25-2 (access rights): type, S, DPL, P, AVL, L, D/B, G, and bit 16 = unusable
    u16 selector;
    u16 zero[3];
};

struct TableRegister {
    u64 base;
    u32 limit;
    u32 zero;
};

struct GuestState {
    u64 gpr[16];
    u64 rip, rflags;
    u64 cr0, cr2, cr3, cr4, cr8, xcr0;
    u64 efer;
    u64 dr[4], dr6, dr7;
    Segment segment[8];
    TableRegister gdtr, idtr;
    u64 star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux;
    u64 interrupt_shadow; // 1: the next instruction is in the shadow of STI or MOV SS
};

// ---------------------------------------------------------------------------------------------------------------
// Operations

struct OpHeader {
    u16 op; // Op
    u16 zero;
    u32 size; // of what follows, without padding
};

struct ReplyHeader {
    u16 op;
    u16 outcome; // Outcome
    u32 size;
};

struct Hello {
    u16 version;
    u16 zero[3];
};

struct CpuidLeaf {
    u32 leaf, subleaf, eax, ebx, ecx, edx;
};

struct MsrValue {
    u32 index;
    u32 present; // 0: RDMSR raised #GP
    u64 value;
};

struct HelloReply { // followed by CpuidLeaf[cpuid_count], then MsrValue[msr_count]
    u16 version;
    u16 platform; // Platform
    u16 vendor;   // Vendor
    u16 status;   // BackendStatus
    u32 cpus;
    u16 tsc_source; // TscSource
    u16 output;     // image: 0 UART, 1 port 0xE9
    u64 tsc_hz;     // 0: unknown
    u64 arena_bytes;
    u32 max_payload;
    u32 microcode;
    u32 cpuid_count;
    u32 msr_count;
    u64 modes;      // bit per Mode
    char note[128]; // what a person should know about `status`, NUL-terminated
};

struct VmRef {
    u32 vm;
    u32 zero;
};

struct VmCreate {
    u32 vm; // slot, 0..max_vms-1; must be free
    u8 mode;
    u8 nested_page_size; // PageSize; the size of the leaves of the nested tables
    u8 tag_policy;
    u8 zero;
    u64 pages;    // 4-KByte pages of guest memory; a multiple of what nested_page_size asks
    u64 gpa_base; // guest-physical address of the first; aligned to nested_page_size
};

struct VmCreateReply {
    u64 hpa_base; // host-physical address of gpa_base, contiguous
};

struct MemRange { // mem_write: followed by `size` bytes
    u32 vm;
    u32 zero;
    u64 gpa;
    u64 size;
};

// memory64[gpa + 8*i] = start + i*step for i in [0, count)
struct MemFill64 {
    u32 vm;
    u32 relocate; // 1: in mode native add (hpa_base - gpa_base), so that one page table serves every mode
    u64 gpa;
    u64 start;
    u64 step;
    u64 count;
};

struct StateSet {
    u32 vm;
    u32 zero;
    GuestState state;
};

struct Field {
    u32 vm;
    u32 field; // VMX: VMCS encoding (SDM 3D appendix B). SVM: byte offset into the VMCB (APM 2 appendix B)
    u32 width; // SVM: 1, 2, 4 or 8 bytes. VMX: ignored
    u32 zero;
    u64 value;
};

struct FieldReply {
    u64 value;
    u32 error; // VMX: VM-instruction error number of the VMREAD or VMWRITE; 0 none
    u32 zero;
};

struct InterceptSet {
    u32 vm;
    u32 exceptions; // bit per vector
    u64 set;        // bit per Intercept
};

struct InterceptReply {
    u64 unsupported; // asked for, and this CPU cannot
    u64 forced;      // not asked for, and this CPU exits all the same
};

struct MsrIntercept {
    u32 vm;
    u32 msr;
    u8 read, write; // 1: exit
    u8 zero[6];
};

struct IoIntercept {
    u32 vm;
    u16 first;
    u16 on;
    u32 count;
    u32 zero;
};

struct PolicySet { // followed by PolicyEntry[count]; reasons not named stop
    u32 vm;
    u32 count;
};

struct PolicyEntry {
    u16 reason; // Reason
    u8 action;  // Action
    u8 length;  // instruction length to use where the CPU gives none; 0: none known
    u32 zero;
};

struct NestedProtect { // rights of the nested mapping; drops the translations that this makes stale
    u32 vm;
    u32 rights; // bit 0 read, 1 write, 2 execute; 0 unmaps. NPT cannot refuse reads alone: unsupported
    u64 gpa;
    u64 pages;
};

enum RunFlags : u32 {
    // Time stamps at the first and last host instruction of every handled exit. Needs 0 < repeats <=
    // max_stamps: the run ends (repeats_done) before it would lack room.
    run_host_stamps = 1u << 0,
};

struct Run {
    u32 vm;
    u32 flags;
    u64 repeats;          // end after so many handled exits; 0: no such end
    u64 deadline;         // end after so many TSC ticks; 0: the core's own limit
    u32 cpu;              // 0 in this version
    u32 preemption_timer; // VMX: value at every entry where Intercept::preemption_timer is set
    u32 max_stamps;       // room for host stamps in the reply
    u32 zero;
};

struct Exit {
    u16 reason;             // Reason
    u16 vector;             // exception: the vector
    u32 instruction_length; // VMX: VM-exit instruction length. SVM: nRIP - RIP, 0 where not offered
    u64 raw_reason;         // VMX: exit reason. SVM: EXITCODE
    u64 qualification;      // VMX: exit qualification. SVM: EXITINFO1
    u64 info;               // VMX: VM-exit instruction information. SVM: EXITINFO2
    u64 guest_physical;     // of a nested violation
    u64 guest_linear;       // VMX: guest-linear address
    u64 next_rip;           // SVM: nRIP; VMX: RIP + length
    u32 interruption_info;  // VMX: VM-exit interruption information. SVM: 0
    u32 interruption_error;
    u64 vectoring; // VMX: IDT-vectoring information | error code << 32. SVM: EXITINTINFO
};

// How the hardware refused an entry.
struct Refusal {
    u32 instruction_error; // VMX: VM-instruction error (SDM 3C 31.4), VMLAUNCH/VMRESUME failed
    u32 entry_failure;     // VMX: basic exit reason 33, 34 or 41. SVM: 1 for VMEXIT_INVALID
    u64 qualification;
};

struct HostStamp {
    u64 first; // TSC at the first host instruction after the exit
    u64 last;  // TSC at the last host instruction before the next entry
};

struct RunReply { // followed by HostStamp[stamp_count]
    Exit exit;
    Refusal refusal;
    GuestState state;
    u64 tsc_begin, tsc_end; // around the run, on the host
    u64 entries;
    u64 handled;          // exits that the policy answered without ending the run
    u64 interrupts, nmis; // disturbances: external interrupts and NMIs taken while the guest ran
    u32 host_changed;     // HostState bits that differ after the run
    u32 stamp_count;
    u64 counts[64]; // exits per Reason, the last one included
};

struct CrashReply {
    u64 vector, error, rip, rsp, cr2, cs, rflags;
    char where[40];
};

// Body of unsupported, bad_request, exhausted, wrong_version.
struct Text {
    char text[128]; // NUL-terminated
};

// ---------------------------------------------------------------------------------------------------------------
// Layout

[[nodiscard]] constexpr u64 align8(u64 n) {
    return (n + 7) & ~u64{7};
}

static_assert(sizeof(Segment) == 24);
static_assert(sizeof(TableRegister) == 16);
static_assert(sizeof(GuestState) == 31 * 8 + 8 * 24 + 2 * 16 + 11 * 8);
static_assert(offsetof(GuestState, segment) == 31 * 8);
static_assert(sizeof(OpHeader) == 8 && sizeof(ReplyHeader) == 8);
static_assert(sizeof(Hello) == 8);
static_assert(sizeof(CpuidLeaf) == 24 && sizeof(MsrValue) == 16);
static_assert(sizeof(HelloReply) == 56 + 128 && offsetof(HelloReply, note) == 56);
static_assert(sizeof(VmCreate) == 24 && sizeof(VmCreateReply) == 8);
static_assert(sizeof(MemRange) == 24 && sizeof(MemFill64) == 40);
static_assert(sizeof(StateSet) == 8 + sizeof(GuestState));
static_assert(sizeof(Field) == 24 && sizeof(FieldReply) == 16);
static_assert(sizeof(InterceptSet) == 16 && sizeof(InterceptReply) == 16);
static_assert(sizeof(MsrIntercept) == 16 && sizeof(IoIntercept) == 16);
static_assert(sizeof(PolicySet) == 8 && sizeof(PolicyEntry) == 8);
static_assert(sizeof(NestedProtect) == 24);
static_assert(sizeof(Run) == 40);
static_assert(sizeof(Exit) == 72 && sizeof(Refusal) == 16 && sizeof(HostStamp) == 16);
static_assert(sizeof(RunReply) == 72 + 16 + sizeof(GuestState) + 7 * 8 + 64 * 8);
static_assert(sizeof(CrashReply) == 96 && sizeof(Text) == 128);
static_assert(static_cast<u16>(Reason::count_) <= 64);
static_assert(static_cast<u8>(Intercept::count_) <= 64);

} // namespace refhv::abi
