// SPDX-License-Identifier: MIT
// A guest with a virtual-APIC page (SDM 3C chapter 30): the controls that make the CPU use it, handlers for
// every vector that write down which interrupts came and where, what stands on the page and what a run left
// there. Claims and rows share it.
#pragma once

#include "refhv/front/controls.hpp"
#include "refhv/front/guests/apic_layout.hpp"

#include <initializer_list>
#include <ostream>

namespace refhv::front {

// One interrupt that the guest's handler saw.
struct Arrival {
    u64 vector;
    u64 rip; // of the instruction that it came before
    [[nodiscard]] bool operator==(const Arrival&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Arrival& arrival);

namespace apic {

// A VM-execution control and what it is called in a SKIP.
struct Control {
    u32 field;
    u64 bit;
    const char* name;
};
using Controls = std::initializer_list<Control>;
using Vectors = std::initializer_list<unsigned>;

inline constexpr Control tpr_shadow{vmcs::proc_controls, vmcs::proc_tpr_shadow,
                                    "TPR shadow (IA32_VMX_PROCBASED_CTLS[53])"};
inline constexpr Control accesses{vmcs::secondary_controls, 1u << 0,
                                  "virtualized APIC accesses (IA32_VMX_PROCBASED_CTLS2[32])"};
inline constexpr Control x2apic{vmcs::secondary_controls, 1u << 4,
                                "virtualized x2APIC mode (IA32_VMX_PROCBASED_CTLS2[36])"};
inline constexpr Control registers{vmcs::secondary_controls, 1u << 8,
                                   "APIC-register virtualization (IA32_VMX_PROCBASED_CTLS2[40])"};
inline constexpr Control delivery{vmcs::secondary_controls, 1u << 9,
                                  "virtual-interrupt delivery (IA32_VMX_PROCBASED_CTLS2[41])"};

// VMCS fields (SDM 3D appendix B).
inline constexpr u32 interrupt_status = 0x0810, msr_bitmap = 0x2004, virtual_apic_address = 0x2012,
                     access_address = 0x2014, eoi_exit_bitmap_0 = 0x201c, tpr_threshold = 0x401c;

inline constexpr unsigned first_vector = 32; // of those that handle() takes

// Of these controls, the name of the first that the CPU lacks; empty: it has them all.
[[nodiscard]] std::string lacking(const client::HelloInfo& hello, Controls controls);

// Sets the controls, the pages' addresses and an MSR bitmap of the guest's own that lets every RDMSR and
// WRMSR of 800H to 8FFH through. Those are the host's APIC wherever the controls do not virtualize them: the
// guest must keep to those that they do. The guest needs a plan with arena_pages. `further`: more primary
// processor-based controls to set.
void virtualize(client::Guest& guest, Controls controls, u64 further = 0);

// Posted-interrupt processing, for which interrupt delivery must be on too: what the CPU or the target lacks
// for it; and the controls, with the descriptor at this guest-physical address, nothing posted in it.
[[nodiscard]] std::string lacking_posting(const client::HelloInfo& hello);
void accept_posts(client::Guest& guest, u64 descriptor, unsigned notification);

// Whom a CPU that posts there by itself notifies (SDM 3C table 30-1): the CPU of this number.
void notify(client::Guest& guest, const client::HelloInfo& hello, u64 descriptor, unsigned notification,
            u32 cpu);

// IPI virtualization (SDM 3C 30.1.6): what the CPU lacks for it; and virtualize() for it, with a table of
// PID pointers at this guest-physical address, for virtual APIC IDs below `targets`, none of them valid; and
// the host-physical address of a target's descriptor into that table.
[[nodiscard]] std::string lacking_ipis(const client::HelloInfo& hello);
void virtualize_ipis(client::Guest& guest, u64 table, unsigned targets);
void point_to(client::Guest& guest, u64 table, unsigned target, u64 descriptor);

// What the guest's handler does when it has written the interrupt down.
enum class Handler : u8 {
    stop, // ends the run
    iret,
    eoi_by_msr, // and IRET
};
// Handlers for all vectors from first_vector on; the journal starts anew.
void handle(client::Guest& guest, Handler handler);
void forget_arrivals(client::Guest& guest);

// The virtual-APIC page: all zero; one register; one of its three sets of 256 bits.
void clear_page(client::Guest& guest);
void put(client::Guest& guest, u32 offset, u32 value);
void put_vectors(client::Guest& guest, u32 offset, Vectors vectors);
// SVI and RVI of the guest interrupt status (SDM 3C 25.4.2).
void put_status(client::Guest& guest, unsigned svi, unsigned rvi);
void put_eoi_exits(client::Guest& guest, Vectors vectors);

// What a run left.
[[nodiscard]] std::vector<Arrival> arrivals(client::Guest& guest);
[[nodiscard]] u32 left(client::Guest& guest, u32 offset);
[[nodiscard]] std::vector<unsigned> vectors_left(client::Guest& guest, u32 offset);
[[nodiscard]] unsigned svi_left(client::Guest& guest);
[[nodiscard]] unsigned rvi_left(client::Guest& guest);

} // namespace apic

} // namespace refhv::front
