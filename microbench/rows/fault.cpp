// SPDX-License-Identifier: MIT
// Faults of translation: the guest's own, and those of the tables under it. A violation that is mapped and
// tried again is exit.nested_violation.
#include "microbench/measure/host_runs.hpp"
#include "microbench/rows/paging_guest.hpp"
#include "refhv/front/guests/nested_leaf.hpp"

namespace refhv::bench {

using abi::Mode;
using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

// Never intercepted: into the guest's handler and back by IRET, over the access.
GUEST(step_over_load, "addq $2, 8(%rsp)\n add $8, %rsp\n iretq")
SAMPLED_GUEST(guest_own_fault, CLEAR(1, "0xfe") RELOAD "mov $" ARENA ", %esi", "", "mov (%rsi), %al")
const Declare pf{{.name = "fault.pf",
                  .claims_about = "pf",
                  .guest = guest_own_fault,
                  .page_fault = step_over_load,
                  .arena_pages = 1,
                  .native = true}};

// Entered again as it is: the exit, the core's look at it, the entry and the walk that fails, over and over.
GUEST(spin_on_page, "mov $" ARENA ", %esi\n 1: mov (%rsi), %al\n jmp 1b")
const Declare violation{{.name = "fault.violation",
                         .claims_about = "nested_violation",
                         .clock = Clock::host_unprompted,
                         .repeated = spin_on_page,
                         .reason = Reason::nested_violation,
                         .action = abi::Action::resume,
                         .arena_pages = 1,
                         .build = [](Mode, Guest& guest) { guest.protect(layout::arena, 1, 0); }}};

constexpr u64 ept_write = 2, ept_write_back = 6u << 3, ept_accessed = 1u << 8, ept_dirty = 1u << 9;

const Declare misconfiguration{
    {.name = "fault.misconfiguration",
     .clock = Clock::host_unprompted,
     .repeated = spin_on_page,
     .reason = Reason::nested_misconfig,
     .action = abi::Action::resume,
     .arena_pages = 1,
     .build =
         [](Mode, Guest& guest) { // W without R
             const u64 page = guest.host_physical(layout::arena);
             guest.nested_entry(layout::arena, 1, page | ept_write | ept_write_back, abi::nested_entry_raw);
             guest.invalidate(abi::Invalidation::ept_single);
         },
     .vendor = abi::Vendor::vmx,
     .rests_on = {"EptMisconfig.writes_without_reads"}}};

// A whole run, from the entry to the host's look at what ended it.
GUEST(touch_page, "mov $" ARENA ", %esi\n mov (%rsi), %al")
const Declare violation_reply{{.name = "fault.violation_reply",
                               .by_itself =
                                   [](Mode mode, u64, Measurement& m) {
                                       Guest guest(front::Session::get().host(),
                                                   {.mode = mode, .arena_pages = 1});
                                       guest.load(touch_page);
                                       guest.protect(layout::arena, 1, 0);
                                       measure_runs(
                                           m, guest, [] {}, Reason::nested_violation);
                                   },
                               .rests_on = {"Exit.nested_violation_exits_when_intercepted",
                                            "Exit.nested_violation_leaves_state_intact"},
                               .modes = {Mode::nested}}};

// The first write to a page whose nested entry is clean: the CPU sets D there, and nothing exits. Beside it
// the same write with D set.
SAMPLED_GUEST(guest_write, "mov $" ARENA "-0x1000, %esi", "add $0x1000, %esi", "mov %al, (%rsi)")
constexpr u64 written_pages = 512;
constexpr u32 ept_pointer = 0x201a, secondary_controls = 0x401e, pml_address = 0x200e, pml_index = 0x0812;

void turn_on_ept_flags(Guest& guest) {
    constexpr u64 enable = 1u << 6;
    guest.field(ept_pointer, 8, guest.read_field(ept_pointer, 8) | enable);
}

Row write_row(const char* name, abi::Vendor vendor, bool dirty) {
    const bool vmx = vendor == abi::Vendor::vmx;
    constexpr u64 npt_accessed_dirty = 0x60;
    const u64 leaf = vmx ? front::ept_leaf(layout::arena, 1, front::may_all)
                         : front::npt_leaf(layout::arena, 1, front::may_all);
    const u64 flags = !dirty ? 0 : vmx ? ept_accessed | ept_dirty : npt_accessed_dirty;
    Row row{.name = name, .guest = guest_write, .arena_pages = written_pages, .most_rounds = written_pages};
    row.vendor = vendor;
    row.rests_on = {vmx ? "EptDirty.flags_follow_the_access" : "NptRights.accessed_and_dirty_are_set"};
    row.build = [vmx](Mode, Guest& guest) {
        if (vmx) {
            turn_on_ept_flags(guest);
        }
    };
    row.before_run = [=](Guest& guest) {
        guest.nested_entry(layout::arena, 1, leaf | flags, 0, written_pages, page_size);
        guest.invalidate(vmx ? abi::Invalidation::ept_single : abi::Invalidation::asid_fresh);
    };
    return row;
}

const Declare ept_clean{write_row("fault.ept_write_clean", abi::Vendor::vmx, false)};
const Declare ept_written{write_row("fault.ept_write_dirty", abi::Vendor::vmx, true)};
const Declare npt_clean{write_row("fault.npt_write_clean", abi::Vendor::svm, false)};
const Declare npt_written{write_row("fault.npt_write_dirty", abi::Vendor::svm, true)};

// 512 first writes with the page-modification log on, and the exit of the log that they fill.
SAMPLED_GUEST(guest_log, "mov $" ARENA "-0x1000, %esi", "",
              "mov $512, %ecx\n 5: add $0x1000, %esi\n mov %al, (%rsi)\n dec %ecx\n jnz 5b")
constexpr u64 log_rounds = 8, logged_pages = log_rounds * 512;

std::string no_log(const client::HelloInfo& hello) {
    constexpr u64 pml = u64{1} << (32 + 17); // IA32_VMX_PROCBASED_CTLS2 (SDM 3D A.3.3)
    return (front::msr(hello, 0x48b) & pml) != 0 ? "" : "no page-modification log (secondary control 17)";
}

const Declare log_full{
    {.name = "fault.pml_full",
     .guest = guest_log,
     .reason = Reason::page_modification_log_full,
     .action = abi::Action::map_and_retry,
     .arena_pages = logged_pages + 1,
     .build =
         [](Mode, Guest& guest) {
             constexpr u64 pml = 1u << 17;
             turn_on_ept_flags(guest);
             guest.field(secondary_controls, 4, guest.read_field(secondary_controls, 4) | pml);
             guest.field(pml_address, 8, guest.host_physical(layout::arena + logged_pages * page_size));
         },
     .before_run =
         [](Guest& guest) { // half a log, so that each round exits in its middle
             // and the log is not full while pages are written that are dirty already
             constexpr u64 base = layout::base;
             guest.nested_entry(base, 1, front::ept_leaf(base, 1, front::may_all) | ept_accessed | ept_dirty,
                                0, layout::base_pages, page_size);
             guest.nested_entry(layout::arena, 1, front::ept_leaf(layout::arena, 1, front::may_all), 0,
                                logged_pages, page_size);
             guest.invalidate(abi::Invalidation::ept_single);
             guest.field(pml_index, 2, 255);
         },
     .most_rounds = log_rounds,
     .missing = no_log,
     .vendor = abi::Vendor::vmx,
     .rests_on = {"EptLog.full_log_exits_before_the_write", "EptLog.emptied_log_goes_on"}}};

} // namespace

} // namespace refhv::bench
