// SPDX-License-Identifier: MIT
// What makes a CPU forget a guest's translations, from the host: instructions, and what acts with VMRUN.
#include "microbench/measure/host_runs.hpp"

#include "refhv/front/session.hpp"

namespace refhv::bench {

using abi::Invalidation;
using abi::Mode;
using abi::Reason;
using abi::Vendor;
using client::Guest;

namespace {

GUEST(guest_that_stops, "")

Row host_row(const char* name, Vendor vendor, const char* claim) {
    Row row{.name = name};
    row.vendor = vendor;
    row.rests_on = {claim};
    row.modes = {Mode::nested};
    return row;
}

Row instruction(const char* name, Vendor vendor, Invalidation kind, const char* claim) {
    Row row = host_row(name, vendor, claim);
    row.by_itself = [kind](Mode mode, u64, Measurement& m) {
        Guest guest(front::Session::get().host(), {.mode = mode, .arena_pages = 1});
        guest.load(guest_that_stops);
        static_cast<void>(guest.run({})); // so that the VM has translations at all
        measure_invalidation(m, guest, kind);
    };
    return row;
}

// A run that stops at once, with the flush asked for, less one without.
Row with_entry(const char* name, Invalidation kind, const char* claim) {
    Row row = host_row(name, Vendor::svm, claim);
    row.by_itself = [kind](Mode mode, u64, Measurement& m) {
        Guest guest(front::Session::get().host(), {.mode = mode});
        guest.load(guest_that_stops);
        measure_runs(
            m, guest, [&] { guest.invalidate(kind); }, Reason::hlt, [] {});
    };
    return row;
}

const Declare invept_single{
    instruction("flush.invept_single", Vendor::vmx, Invalidation::ept_single, "TlbHost.invept_of_a_context")};
const Declare invept_global{instruction("flush.invept_global", Vendor::vmx, Invalidation::ept_global,
                                        "TlbHost.invept_of_all_contexts")};
const Declare invvpid_address{instruction("flush.invvpid_address", Vendor::vmx, Invalidation::vpid_address,
                                          "TlbHost.invvpid_of_an_address")};
const Declare invvpid_single{instruction("flush.invvpid_single", Vendor::vmx, Invalidation::vpid_single,
                                         "TlbHost.invvpid_of_a_context")};
const Declare invvpid_all{
    instruction("flush.invvpid_all", Vendor::vmx, Invalidation::vpid_all, "TlbHost.invvpid_of_all_contexts")};
const Declare invvpid_keep{instruction("flush.invvpid_keep_globals", Vendor::vmx,
                                       Invalidation::vpid_keep_globals,
                                       "TlbHost.invvpid_of_a_context_but_globals")};
const Declare invlpga{
    instruction("flush.invlpga", Vendor::svm, Invalidation::asid_address, "TlbHost.invlpga")};
const Declare asid_fresh{with_entry("flush.asid_fresh", Invalidation::asid_fresh, "TlbHost.another_asid")};
const Declare tlb_control_1{
    with_entry("flush.tlb_control_1", Invalidation::flush_all, "TlbHost.tlb_control_1")};
const Declare tlb_control_3{
    with_entry("flush.tlb_control_3", Invalidation::flush_asid, "TlbHost.tlb_control_3")};
const Declare tlb_control_7{
    with_entry("flush.tlb_control_7", Invalidation::flush_asid_keep_globals, "TlbHost.tlb_control_7")};

// exit.cpuid, but that no translation outlives a VM entry: without VPID, or with TLB_CONTROL set at every
// VMRUN.
SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")
const Declare every_entry{
    {.name = "flush.every_entry",
     .claims_about = "cpuid",
     .guest = guest_cpuid,
     .reason = Reason::cpuid,
     .intercepts = client::on(abi::Intercept::cpuid),
     .length = 2,
     .plan = [](Mode, client::Plan& plan) { plan.tag_policy = abi::TagPolicy::flushing; },
     .rests_on = {"NestedPages.guest_runs_with_and_without_tags"}}};

} // namespace

} // namespace refhv::bench
