// SPDX-License-Identifier: MIT
// Raw controls of both vendors that claims and rows set by themselves, and what a CPU offers of VMX's.
#pragma once

#include "refhv/client/guest/vm.hpp"

namespace refhv::front {

// VMCS fields and control bits that these claims set (SDM 3D appendix B, SDM 3C 25.6).
namespace vmcs {
inline constexpr u32 pml_index = 0x0812, io_bitmap_a = 0x2000, io_bitmap_b = 0x2002, msr_bitmap = 0x2004,
                     link_pointer = 0x2800, guest_debugctl = 0x2802,
                     guest_pdpte0 = 0x280a, // to 3, each 2 further
    pin_controls = 0x4000, proc_controls = 0x4002, cr3_target_count = 0x400a, exit_controls = 0x400c,
                     entry_controls = 0x4012, entry_interruption_info = 0x4016,
                     entry_exception_error = 0x4018, entry_length = 0x401a, secondary_controls = 0x401e,
                     exit_interruption_info = 0x4404, exit_interruption_error = 0x4406,
                     vectoring_info = 0x4408, exit_length = 0x440c, interruptibility = 0x4824,
                     activity = 0x4826, cr0_mask = 0x6000, cr4_mask = 0x6002, cr0_shadow = 0x6004,
                     cr4_shadow = 0x6006, guest_cr0 = 0x6800, guest_cr4 = 0x6804, guest_dr7 = 0x681a,
                     pending_debug = 0x6822;
inline constexpr u64 pin_virtual_nmis = 1u << 5, pin_preemption_timer = 1u << 6;
inline constexpr u64 proc_interrupt_window = 1u << 2, proc_tsc_offsetting = 1u << 3, proc_rdtsc = 1u << 12,
                     proc_tpr_shadow = 1u << 21, proc_nmi_window = 1u << 22, proc_monitor_trap = 1u << 27;
inline constexpr u64 proc2_apic_accesses = 1u << 0, proc2_tsc_scaling = 1u << 25;
inline constexpr u64 exit_save_timer = 1u << 22;
inline constexpr u64 blocking_by_sti = 1, blocking_by_mov_ss = 2, blocking_by_nmi = 8;
} // namespace vmcs

// Offset 060H of the VMCB and the intercepts that go with it (APM 2 appendix B).
namespace vmcb {
inline constexpr u32 cr_read = 0x00, cr_write = 0x02, dr_read = 0x04, dr_write = 0x06, exceptions = 0x08,
                     intercept_1 = 0x0c, intercept_2 = 0x10, intercept_3 = 0x14, iopm = 0x40, msrpm = 0x48,
                     tsc_offset = 0x50, interrupt_control = 0x60, interrupt_shadow = 0x68,
                     event_injection = 0xa8, next_rip = 0xc8;
inline constexpr u64 vintr = 1u << 4, iret = 1u << 20; // of intercept_1
inline constexpr u64 stgi = 1u << 4, clgi = 1u << 5;   // of intercept_2
inline constexpr u64 v_irq = 1u << 8, v_gif = 1u << 9, v_ign_tpr = 1u << 20, v_intr_masking = 1u << 24,
                     v_gif_enable = 1u << 25;
[[nodiscard]] constexpr u64 v_intr_prio(u64 priority) {
    return priority << 16;
}
[[nodiscard]] constexpr u64 v_intr_vector(u64 vector) {
    return vector << 32;
}
} // namespace vmcb

// The bits of a VMX control field that may be 1 (SDM 3D A.3 to A.5).
[[nodiscard]] u32 offered(const client::HelloInfo& hello, u32 control_field);
// Whether all of these may.
[[nodiscard]] bool offers(const client::HelloInfo& hello, u32 control_field, u64 bits);
// For raw control fields: what the core made of it, with `set` and without `clear`. Once a field and run.
void change(client::Guest& guest, u32 field, u64 set, u64 clear = 0);

} // namespace refhv::front
