// SPDX-License-Identifier: MIT
// The seam between the core and a way of running a guest. vmx::Vcpu and svm::Vcpu can all of it, native::Vcpu
// runs; the run loop in run.hpp knows nothing else about them.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/contract/status.hpp"
#include "refhv/core/arena.hpp"
#include "refhv/core/ipi.hpp"
#include "refhv/vcpu/event.hpp"

#include <concepts>

namespace refhv {

// Memory of one VM: contiguous, so that large nested pages and native page tables are possible.
struct GuestMemory {
    u64 gpa_base;
    u64 hpa_base;
    u64 pages;
    abi::PageSize nested_page_size;
    abi::TagPolicy tag_policy;
    u32 slot; // VM number, for VPID or ASID
    abi::Mode mode;
    bool changed = true; // by others than the guest, since its last run

    [[nodiscard]] u64 bytes() const { return pages * page_size; }
    // True if [gpa, gpa+size) lies inside. Overflow-safe.
    [[nodiscard]] bool contains(u64 gpa, u64 size) const {
        return gpa >= gpa_base && gpa - gpa_base <= bytes() && size <= bytes() - (gpa - gpa_base);
    }
    [[nodiscard]] u64 to_physical(u64 gpa) const { return hpa_base + (gpa - gpa_base); }
    [[nodiscard]] u8* at(u64 gpa) const { return static_cast<u8*>(platform::to_virtual(to_physical(gpa))); }
    [[nodiscard]] unsigned leaf_level() const { return static_cast<unsigned>(nested_page_size) + 1; }
};

// Policy of one reason as the run loop and the exit path see it.
struct Reaction {
    abi::Action action = abi::Action::stop;
    u8 length = 0;
    u32 event = 0; // of Action::deliver
};

struct Policy {
    Reaction reactions[static_cast<usize>(abi::Reason::count_)];
    [[nodiscard]] const Reaction& of(abi::Reason r) const { return reactions[static_cast<usize>(r)]; }
};

// What begin() needs to know about a run.
struct RunPlan {
    const Policy& policy;
    u32 preemption_timer;
    // Host stamps: room for that many behind `stamps`; the record in front of it is written too, as scratch.
    abi::HostStamp* stamps; // null: off
    u64 extras = 0;         // abi::Run::extras, of which equip has approved
    u32 extra_count = 0;
    IpiTarget ipis{};
};

enum class Entered : u8 {
    exited,
    refused, // Refusal says how
};

// Every way of running a guest. What more one can do are the capabilities below; the core asks for them by
// name and answers `unsupported` where they are lacking.
template <class V>
concept Backend = requires(V v, Arena& arena, const GuestMemory& memory, abi::GuestState& state,
                           const abi::GuestState& const_state, const RunPlan& plan, abi::Exit& exit,
                           const abi::Exit& const_exit, abi::Refusal& refusal, u64* counts, u64& handled,
                           u64 n, const Reaction& reaction) {
    // Life: takes tables and hardware structures from the arena, gives them back.
    { v.create(arena, memory) } -> std::same_as<Status>;
    v.destroy(arena);
    // State, outside runs.
    { v.load(memory, const_state) } -> std::same_as<Status>;
    v.store(memory, state);
    // A run: begin, then enter as often as wanted, then end; interrupts are off between begin and end.
    { v.begin(memory, plan) } -> std::same_as<Status>;
    // Runs the guest; up to `n` exits whose policy is a plain advance may be answered on the way. They are
    // added to counts[Reason] and to `handled`; the exit that came back is not. Of that one only what an
    // answer needs is filled in: reason, vector, raw reason, qualification, guest-physical address.
    { v.enter(n, counts, handled, exit, refusal) } -> std::same_as<Entered>;
    v.end();
    // An answer to an exit, as those below; false: this backend cannot, and the run stops.
    { v.advance(const_exit, reaction) } -> std::same_as<bool>;
};

// What exits, and the control structure behind it.
template <class V>
concept HasControls = requires(V v, const GuestMemory& memory, abi::FieldReply& field,
                               abi::InterceptReply& intercepts) {
    { v.field(memory, abi::Field{}, bool{}, field) } -> std::same_as<Status>;
    v.intercept(abi::InterceptSet{}, intercepts);
    { v.intercept_msr(abi::MsrIntercept{}) } -> std::same_as<Status>;
    { v.intercept_io(abi::IoIntercept{}) } -> std::same_as<Status>;
};

template <class V>
concept HasNestedTables = requires(V v, const GuestMemory& memory, const abi::Exit& exit,
                                   abi::NestedEntryReply& entry, abi::InvalidateReply& invalidated) {
    { v.protect(memory, abi::NestedProtect{}) } -> std::same_as<Status>;
    // Both: the core has checked what concerns every vendor alike.
    { v.nested_entry(memory, abi::NestedEntry{}, entry) } -> std::same_as<Status>;
    { v.invalidate(abi::Invalidate{}, invalidated) } -> std::same_as<Status>;
    // abi::Action::map_and_retry.
    { v.map(memory, exit) } -> std::same_as<bool>;
};

// Something of the VM is bound to the CPU that it ran on last.
template <class V>
concept IsBoundToCpu = requires(V v, Arena& arena) {
    // On another CPU than the last time: left on the old one, arrived on the new one, which may have to be
    // enabled first. Translations are forgotten. VMs are made on CPU 0 and are there between runs.
    v.leave_cpu();
    { v.arrive(arena, u32{}) } -> std::same_as<Status>;
};

// Exits are data, and may be timed and answered.
template <class V>
concept HasExits = requires(V v, Arena& arena, u64 extras, abi::Exit& exit, const abi::Exit& const_exit,
                            const Reaction& r) {
    // Can a run have these Extras, with this abi::Run::extra_count? Takes the memory that they need.
    { v.equip(arena, extras, u32{}) } -> std::same_as<Status>;
    // Fills in what `enter` left out, for a reply.
    v.describe(exit);
    { v.stamps_end() } -> std::same_as<abi::HostStamp*>;
    // Modes shadow and vtlb: is this exit the shadow MMU's own business? true: it has been answered, go
    // on. false: it is the policy's; its reason may have become another (a guest's own #PF, an address
    // that is no memory).
    { v.translate(exit) } -> std::same_as<bool>;
    { v.emulate(const_exit, r) } -> std::same_as<bool>;
    // Can `emulate` ever work for this reason? Asked when a policy is set.
    { V::emulates(abi::Reason{}) } -> std::same_as<bool>;
};

// Events get into the guest by the core, not by the CPU alone.
template <class V>
concept TakesEvents = requires(V v, const V c, const abi::Exit& exit) {
    // The exception that has exited, with the next entry.
    { v.inject(exit) } -> std::same_as<bool>;
    // Before a re-entry that does not advance: an event whose delivery the exit cut short is delivered anew.
    { v.redeliver(exit) } -> std::same_as<bool>;
    // Has this CPU the means of that Delivery? Asked when a policy is set.
    { c.can_deliver(Event{}) } -> std::same_as<bool>;
    // With the next entry, or virtually; what waits for a window is the run loop's.
    { v.deliver(Event{}) } -> std::same_as<bool>;
    { v.deliver(Event{}, u32{}) } -> std::same_as<bool>; // with an error code other than 0
    // Can the next entry deliver an external interrupt of this vector?
    { v.takes_interrupt(u8{}) } -> std::same_as<bool>;
    { v.takes_nmi() } -> std::same_as<bool>;
    // With the next entry, which takes_nmi has said that it can; further ones are then blocked until IRET.
    { v.deliver_nmi() } -> std::same_as<bool>;
    // Exit (Reason::interrupt_window) as soon as the guest can take an external interrupt, or no longer.
    v.await_interrupt_window(bool{});
    // The same for NMIs, where the CPU has such an exit; else a later one is made use of.
    { c.has_nmi_window() } -> std::same_as<bool>;
    v.await_nmi_window(bool{});
};

// During a run, between two entries, the host may have its registers back.
template <class V>
concept LendsCpu = requires(V v) {
    v.give_registers();
    v.take_registers();
};

template <class V>
concept Virtualizes = Backend<V> && HasControls<V> && HasNestedTables<V> && IsBoundToCpu<V> && HasExits<V> &&
    TakesEvents<V> && LendsCpu<V>;

} // namespace refhv
