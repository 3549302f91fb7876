// SPDX-License-Identifier: MIT
// Bodies of requests and replies, but for runs. Part of abi.hpp.
#pragma once

#include "refhv/contract/state.hpp"

namespace refhv::abi {

struct OpHeader {
    u16 op; // Op
    u16 zero;
    u32 size; // of what follows, without padding
};

// Not a row of Operations: it is answered as the operation that it repeats. `at` is where in the payload that
// one's OpHeader stands; it is no longer than max_again, and its words are counted from behind its header.
struct Again { // followed by Patch[count]
    u32 at;
    u32 count;
};

struct Patch {
    u32 word; // of 8 bytes
    u32 zero;
    u64 value;
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

struct CpuInfo {
    u32 apic_id;
    u32 zero;
    // This CPU's TSC is that of CPU 0 plus this, give or take the error: half of the shortest round trip
    // seen.
    i64 tsc_offset;
    u64 tsc_error;
};

struct HelloReply { // followed by CpuidLeaf[cpuid_count], MsrValue[msr_count], CpuInfo[cpu_info_count]
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
    u32 cpu_info_count; // cpus, or 0 where they cannot be told apart
    u32 permissions;    // bit per Permit (contract/permit.hpp)
    u64 modes;          // bit per Mode
    char note[128];     // what a person should know about `status`, NUL-terminated
};

struct VmRef {
    u32 vm;
    u32 zero;
};

struct VmCreate {
    u32 vm;              // slot, 0..max_vms-1; must be free
    u8 mode;             // Mode
    u8 nested_page_size; // PageSize; the size of the leaves of the nested tables
    u8 tag_policy;       // TagPolicy
    u8 zero;
    u64 pages;    // 4-KByte pages of guest memory; a multiple of what nested_page_size asks
    u64 gpa_base; // guest-physical address of the first; aligned to nested_page_size
};

struct VmCreateReply {
    // Host-physical address of gpa_base, contiguous; aligned to nested_page_size, and to 2 MBytes where the
    // VM is as large.
    u64 hpa_base;
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
    // VMX: VMCS encoding (SDM 3D appendix B). SVM: byte offset into the VMCB (APM 2 appendix B), or
    // C0000104H, the TSC ratio under which the VM runs (APM 2 15.30.5).
    u32 field;
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
    u32 event;  // of Action::deliver, else 0: see there
};

struct NestedProtect { // rights of the nested mapping; drops the translations that this makes stale
    u32 vm;
    u32 rights; // bit 0 read, 1 write, 2 execute; 0 unmaps. NPT cannot refuse reads alone: unsupported
    u64 gpa;
    u64 pages;
};

enum NestedEntryFlags : u32 {
    nested_entry_write = 1u << 0,
    // The address field is host-physical, or whatever the client wants there; without it it is
    // guest-physical, inside guest memory, and the core makes it host-physical.
    nested_entry_raw = 1u << 1,
    // The address field is the core's: the table of the next level, which is made from what was mapped there.
    nested_entry_table = 1u << 2,
};

// Reads, or replaces, entries of the VM's nested tables as the CPU sees them: EPT entries, or nested
// page-table entries. The tables above are made as needed, from the leaf that they take the place of; a table
// that a leaf or nothing replaces is forgotten, and what stood in it with it. Invalidates nothing.
struct NestedEntry {
    u32 vm;
    u32 flags; // NestedEntryFlags
    u64 gpa;   // inside guest memory, any address that the first entry translates
    u32 level; // 1 to 4; 1 holds leaves of 4 KBytes
    u32 count; // write: consecutive entries; the mapped addresses too lie inside guest memory. read: 1
    u64 value; // write: the first
    u64 step;  // write: added for every further one
};

struct NestedEntryReply { // of the first entry, before the write
    // Where host-physical addresses are not told, that of a table is 0, and of what is not present above
    // level 1.
    u64 entry;
    u32 level; // where the walk found it; read: above the one asked for if the walk ended there
    u32 zero;
};

enum InvalidateFlags : u32 {
    // VMX: `tag` instead of the VM's EPT pointer or VPID. SVM: instead of its ASID in ECX.
    invalidate_tag = 1u << 0,
};

struct Invalidate {
    u32 vm;
    u16 kind;    // Invalidation
    u16 flags;   // InvalidateFlags
    u32 repeats; // instructions in a row, 1 to max_invalidations; kinds without an instruction: 1
    u32 zero;
    u64 address; // guest-linear, of the kinds *_address
    u64 tag;
};

// The TSC, fenced, around the instructions; 0 for kinds that act with the next VMRUN.
struct InvalidateReply {
    u64 tsc_begin, tsc_end;
    u32 error; // VMX: VM-instruction error number of the last (SDM 3C 31.4); 0 none
    u32 zero;
};

enum ProbeFlags : u16 {
    probe_enters = 1u << 0, // the last field of its probe
};

// Raw, as Field has it, but that VMX ignores `width`.
struct ProbeField {
    u32 field;
    u16 width;
    u16 flags; // ProbeFlags
    u64 value;
};

// followed by ProbeField[count]; the last one enters. Each probe starts from `state` and the VM's controls as
// they are; its fields are written, the guest is entered once, and they are as before again. A probe ends
// with the first exit that the policy stops at.
struct EntryProbes {
    u32 vm;
    u32 count;
    u64 deadline; // TSC ticks, of each; 0 and more than the core's own limit: that limit
    GuestState state;
};

// One a probe.
struct ProbeResult {
    u16 outcome;       // Outcome: exited, entry_refused or deadline; unsupported: the CPU has no such field
    u16 reason;        // Reason
    u32 host_changed;  // HostState bits that differ
    u32 refusal;       // VMX: VM-instruction error. SVM: 0
    u32 entry_failure; // as Refusal has it
    u64 qualification; // of the exit or of the entry failure
    u64 raw_reason;    // as Exit has it
};

struct CrashReply {
    u64 vector, error, rip, rsp, cr2, cs, rflags;
    char where[40];
};

// Body of unsupported, bad_request, exhausted, wrong_version.
struct Text {
    char text[128]; // NUL-terminated
};

static_assert(sizeof(Again) == 8 && sizeof(Patch) == 16);
static_assert(sizeof(OpHeader) == 8 && sizeof(ReplyHeader) == 8);
static_assert(sizeof(Hello) == 8);
static_assert(sizeof(CpuidLeaf) == 24 && sizeof(MsrValue) == 16);
static_assert(sizeof(CpuInfo) == 24);
static_assert(sizeof(HelloReply) == 64 + 128 && offsetof(HelloReply, note) == 64);
static_assert(sizeof(VmCreate) == 24 && sizeof(VmCreateReply) == 8);
static_assert(sizeof(MemRange) == 24 && sizeof(MemFill64) == 40);
static_assert(sizeof(StateSet) == 8 + sizeof(GuestState));
static_assert(sizeof(Field) == 24 && sizeof(FieldReply) == 16);
static_assert(sizeof(InterceptSet) == 16 && sizeof(InterceptReply) == 16);
static_assert(sizeof(MsrIntercept) == 16 && sizeof(IoIntercept) == 16);
static_assert(sizeof(PolicySet) == 8 && sizeof(PolicyEntry) == 8);
static_assert(sizeof(NestedProtect) == 24);
static_assert(sizeof(NestedEntry) == 40 && sizeof(NestedEntryReply) == 16);
static_assert(sizeof(Invalidate) == 32 && sizeof(InvalidateReply) == 24);
static_assert(sizeof(ProbeField) == 16 && sizeof(EntryProbes) == 16 + sizeof(GuestState));
static_assert(sizeof(ProbeResult) == 32);
static_assert(sizeof(CrashReply) == 96 && sizeof(Text) == 128);

} // namespace refhv::abi
