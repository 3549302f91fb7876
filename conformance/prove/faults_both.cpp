// SPDX-License-Identifier: MIT
// Seeded faults that either maker's CPU may have.
#include "conformance/prove/fault_kinds.hpp"
#include "conformance/prove/fault_tables.hpp"
#include "refhv/client/guest/layout.hpp"

namespace refhv::front::faults {

namespace {

using abi::GuestState;
using abi::Intercept;

constexpr u64 cf = 1, tf = 1u << 8, if_ = 1u << 9, df = 1u << 10, rf = 1u << 16;
constexpr u64 accessed = 1u << 5, dirty = 1u << 6;

// Entries of the guest's own page tables of the lowest level.
bool is_page_table(u64 gpa) {
    namespace layout = client::layout;
    return gpa >= layout::page_tables && gpa < layout::stop;
}

const Fault rows[] = {
    // Intercepts that do nothing
    {"intercept: INVLPG", "Exit.invlpg_*", {.intercept = ignores<Intercept::invlpg>}},
    {"intercept: RDTSC", "Exit.rdtsc_*", {.intercept = ignores<Intercept::rdtsc>}},
    {"intercept: RDTSCP", "Exit.rdtscp_*", {.intercept = ignores<Intercept::rdtscp>}},
    {"intercept: RDPMC", "ExitTable.*:GuestMode.*", {.intercept = ignores<Intercept::rdpmc>}},
    {"intercept: PAUSE", "Exit.pause_*", {.intercept = ignores<Intercept::pause>}},
    {"intercept: MWAIT", "Exit.mwait_*", {.intercept = ignores<Intercept::mwait>}},
    {"intercept: MONITOR", "Exit.monitor_*", {.intercept = ignores<Intercept::monitor>}},
    {"intercept: WBINVD", "Exit.wbinvd_*", {.intercept = ignores<Intercept::wbinvd>}},
    {"intercept: loads of the GDTR and IDTR",
     "Exit.*gdt*:Exit.*idt*",
     {.intercept = ignores<Intercept::gdtr_idtr_write>}},
    {"intercept: stores of the LDTR and TR",
     "Exit.*ldt*:Exit.str_*",
     {.intercept = ignores<Intercept::ldtr_tr_read>}},
    {"intercept: CR0 writes", "Exit.*cr0*:Exit.mov_*", {.intercept = ignores<Intercept::cr0_write>}},
    {"intercept: CR3 reads", "Exit.*cr3*:Exit.mov_*", {.intercept = ignores<Intercept::cr3_read>}},
    {"intercept: CR3 writes", "Exit.*cr3*:Exit.mov_*", {.intercept = ignores<Intercept::cr3_write>}},
    {"intercept: CR4 writes", "Exit.*cr4*:Exit.mov_*", {.intercept = ignores<Intercept::cr4_write>}},
    {"intercept: CR8 reads", "Exit.*cr8*:Exit.mov_*", {.intercept = ignores<Intercept::cr8_read>}},
    {"intercept: DR reads", "Exit.*dr*:Exit.mov_*", {.intercept = ignores<Intercept::dr_read>}},
    {"intercept: #PF",
     "Exit.*fault*:ExitSaves.*:InjectAgain.*",
     {.intercept = [](abi::InterceptSet& i) { i.exceptions &= ~(1u << 14); }}},
    {"intercept: #UD",
     "Exit.*:ExitSaves.*",
     {.intercept = [](abi::InterceptSet& i) { i.exceptions &= ~(1u << 6); }}},
    {"intercept: #DB", "Debug*.*:Intr*.*", {.intercept = [](abi::InterceptSet& i) { i.exceptions &= ~2u; }}},

    // What an exit does to the guest
    {"exit: CF is clobbered",
     "Exit.*_leaves_state_intact",
     {.end = any_state_flips<&GuestState::rflags, cf>}},
    {"exit: IF is lost",
     "IntrActivity.*:IntrVirtual.*",
     {.end = [](abi::RunReply& r) { r.state.rflags &= ~if_; }}},
    {"exit: DF is lost",
     "Exit.*_leaves_state_intact:ExitTable.*",
     {.end = [](abi::RunReply& r) { r.state.rflags &= ~df; }}},
    {"exit: RF is not saved",
     "Debug*.*:ExitSaves.*",
     {.end = [](abi::RunReply& r) { r.state.rflags &= ~rf; }}},
    {"exit: TF is lost", "Debug*.*:ExitSaves.*", {.end = [](abi::RunReply& r) { r.state.rflags &= ~tf; }}},
    {"exit: R15 is clobbered",
     "Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.gpr[abi::r15] ^= 1; }}},
    {"exit: the upper half of RSP is lost",
     "ExitSaves.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.gpr[abi::rsp] &= 0xffff; }}},
    {"exit: CR2 is lost",
     "Exit.*_leaves_state_intact:ExitSaves.*",
     {.end = [](abi::RunReply& r) { r.state.cr2 = 0; }}},
    {"exit: CR3 loses its low bits",
     "ExitTable.*:ExitSaves.*:GuestMode.*:TlbGuest.*",
     {.end = [](abi::RunReply& r) { r.state.cr3 &= ~u64{0xfff}; }}},
    {"exit: CR4.DE is lost",
     "ExitTable.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.cr4 &= ~u64{8}; }}},
    {"exit: DR7 is 400H", "Debug*.*:ExitSaves.*", {.end = [](abi::RunReply& r) { r.state.dr7 = 0x400; }}},
    {"exit: DR6 is as at reset", "Debug*.*", {.end = [](abi::RunReply& r) { r.state.dr6 = 0xffff'0ff0; }}},
    {"exit: L of CS is lost",
     "GuestMode.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.segment[abi::cs].rights &= ~u32{0x2000}; }}},
    {"exit: DPL of SS is 0",
     "GuestMode.*",
     {.end = [](abi::RunReply& r) { r.state.segment[abi::ss].rights &= ~u32{0x60}; }}},
    {"exit: the limit of DS is 64 KBytes",
     "GuestMode.*:ExitSaves.*",
     {.end = [](abi::RunReply& r) { r.state.segment[abi::ds].limit &= 0xffff; }}},
    {"exit: the selector of ES is that of DS",
     "ExitSaves.*:GuestMode.*:Exit.*_leaves_state_intact",
     {.end =
          [](abi::RunReply& r) { r.state.segment[abi::es].selector = r.state.segment[abi::ds].selector; }}},
    {"exit: GDTR limit is FFFFH",
     "ExitSaves.*:GuestMode.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.gdtr.limit = 0xffff; }}},
    {"exit: IDTR limit is FFFFH",
     "ExitSaves.*:GuestMode.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.idtr.limit = 0xffff; }}},
    {"exit: LDTR is the host's",
     "ExitSaves.*:GuestMode.*:Exit.*_leaves_state_intact",
     {.end =
          [](abi::RunReply& r) {
              r.state.segment[abi::ldtr].base = 0;
              r.state.segment[abi::ldtr].selector = 0;
          }}},
    {"exit: the base of GS is lost",
     "ExitSaves.*:GuestMode.*:Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.segment[abi::gs].base = 0; }}},
    {"exit: SYSENTER_ESP and EIP are swapped",
     "Exit.*_leaves_state_intact:ExitSaves.*",
     {.end = [](abi::RunReply& r) { std::swap(r.state.sysenter_esp, r.state.sysenter_eip); }}},
    {"exit: STAR is the host's",
     "Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.star = 0; }}},
    {"exit: KERNEL_GS_BASE is lost",
     "Exit.*_leaves_state_intact",
     {.end = [](abi::RunReply& r) { r.state.kernel_gs_base = 0; }}},
    {"exit: the shadow is not saved",
     "ExitSaves.*_shadow",
     {.end = [](abi::RunReply& r) { r.state.interrupt_shadow = 0; }}},
    {"exit: the vector of an exception is #UD's",
     "Exit.*:ExitSaves.*:Debug*.*",
     {.exit = [](abi::Exit& e) { e.vector = 6; }}},
    {"exit: host state differs behind it", "Exit.*", {.end = [](abi::RunReply& r) { r.host_changed |= 1; }}},

    // Exits that are too many or too few
    {"counts: an interrupt more",
     "Peer.interrupts_*:Timer*.*",
     {.end = [](abi::RunReply& r) { r.counts[static_cast<u8>(abi::Reason::external_interrupt)] += 1; }}},
    {"counts: a CPUID less",
     "Exit.cpuid_*:Control*.*",
     {.end =
          [](abi::RunReply& r) {
              u64& count = r.counts[static_cast<u8>(abi::Reason::cpuid)];
              count -= count != 0 ? 1 : 0;
          }}},
    {"counts: an entry more", "Inject.*", {.end = [](abi::RunReply& r) { ++r.entries; }}},

    // Translations
    {"TLB: INVVPID or INVLPGA of an address drops another's",
     "Tlb*.*",
     {.invalidate = [](abi::Invalidate& i) { i.address ^= u64{1} << 30; }}},
    {"tables: A is not set in the guest's",
     "Paging*.*:Nested*.*",
     {.memory = [](u64 gpa, u64& word) { word &= is_page_table(gpa) ? ~accessed : all; }}},
    {"tables: D is not set in the guest's",
     "Paging*.*:Nested*.*",
     {.memory = [](u64 gpa, u64& word) { word &= is_page_table(gpa) ? ~dirty : all; }}},
};

} // namespace

std::span<const Fault> both() {
    return rows;
}

} // namespace refhv::front::faults
