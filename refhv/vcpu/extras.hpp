// SPDX-License-Identifier: MIT
// What both vendors share of the Extras of a run: whether the CPU has them, their memory, and the state that
// they exchange.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/vcpu/extra_work.h"

namespace refhv::x86 {

// What the world switches with an Extra work on, through a pointer in their Context.
struct ExtraWork {
    u8* guest_xsave; // XSAVE areas, standard form
    u8* host_xsave;
    u64 components;
    struct MsrEntry* guest_msrs;
    struct MsrEntry* host_msrs;
    u64 count;
    const void* target; // of the dispatched CALL
    u64 guest_spec_ctrl, host_spec_ctrl;
    u64 selector;   // of a data segment, for VERW
    u64 own, other; // physical: VMX: this VMCS, and one that is never launched. SVM: VMCB, host's VMSAVE area
    u64 guest_has;  // xsave_lazy: the guest's components are in the registers
    u64 traps;      // … and how often #NM brought them, in one world switch
};
static_assert(offsetof(ExtraWork, guest_xsave) == WORK_GUEST_XSAVE);
static_assert(offsetof(ExtraWork, host_xsave) == WORK_HOST_XSAVE);
static_assert(offsetof(ExtraWork, components) == WORK_COMPONENTS);
static_assert(offsetof(ExtraWork, guest_msrs) == WORK_GUEST_MSRS);
static_assert(offsetof(ExtraWork, host_msrs) == WORK_HOST_MSRS);
static_assert(offsetof(ExtraWork, count) == WORK_COUNT && offsetof(ExtraWork, target) == WORK_TARGET);
static_assert(offsetof(ExtraWork, guest_spec_ctrl) == WORK_GUEST_SPEC_CTRL);
static_assert(offsetof(ExtraWork, host_spec_ctrl) == WORK_HOST_SPEC_CTRL);
static_assert(offsetof(ExtraWork, selector) == WORK_SELECTOR);
static_assert(offsetof(ExtraWork, own) == WORK_OWN && offsetof(ExtraWork, other) == WORK_OTHER);
static_assert(offsetof(ExtraWork, guest_has) == WORK_GUEST_HAS && offsetof(ExtraWork, traps) == WORK_TRAPS);

struct MsrEntry { // SDM 3C table 25-15
    u32 index;
    u32 zero;
    u64 value;
};
static_assert(sizeof(MsrEntry) == 16);

class Extras {
  public:
    // Can a run have these, on this CPU, as far as both vendors are alike? `xcr0`: what the guest's XCR0 is
    // during a run. Takes memory at the first call.
    [[nodiscard]] Status prepare(Arena& arena, u64 extras, u32 count, u64 xcr0);
    void destroy(Arena& arena);

    // Around a run, what is the host's still being in the registers at begin.
    void begin(u64 extras, u32 count);
    void end() { asked_ = 0; }
    // Around a world switch, the guest's MSRs being in the registers.
    void before_switch();
    void after_switch(u64* counts);
    // The first time that a component is switched, the guest has what the registers hold. XCR0 is the
    // guest's.
    void adopt_components();

    [[nodiscard]] u64 asked() const { return asked_; }
    [[nodiscard]] bool has(abi::Extra e) const { return (asked_ & abi::extra_bit(e)) != 0; }
    [[nodiscard]] ExtraWork* work() const { return work_; }
    [[nodiscard]] u64 spare_page() const { return memory_ + spare_at; } // physical
    [[nodiscard]] u64 guest_msrs() const { return memory_ + guest_msrs_at; }
    [[nodiscard]] u64 host_msrs() const { return memory_ + host_msrs_at; }

  private:
    static constexpr u64 guest_msrs_at = page_size, msrs_bytes = abi::max_extra_count * sizeof(MsrEntry),
                         host_msrs_at = guest_msrs_at + msrs_bytes, spare_at = host_msrs_at + msrs_bytes,
                         xsave_at = spare_at + page_size;
    [[nodiscard]] bool switches_msrs() const;

    u64 asked_ = 0;
    u64 memory_ = 0, pages_ = 0; // physical; one block
    ExtraWork* work_ = nullptr;
    u64 adopted_ = 0; // components
};

// The world switches of an Extra that has some of its own, and where they stand in a vendor's list of them;
// null: it has none.
template <class WorldSwitch>
struct ExtraSwitch {
    abi::Extra extra;
    WorldSwitch switches[2]; // [stamped]
};
template <class WorldSwitch, usize N>
[[nodiscard]] const WorldSwitch* find_switch(const ExtraSwitch<WorldSwitch> (&all)[N], abi::Extra extra,
                                             bool stamped) {
    for (const ExtraSwitch<WorldSwitch>& s : all) {
        if (s.extra == extra) {
            return &s.switches[stamped ? 1 : 0];
        }
    }
    return nullptr;
}

// The one Extra that has a world switch of its own, of a set that prepare has accepted.
[[nodiscard]] abi::Extra switched_extra(u64 extras);

} // namespace refhv::x86
