// SPDX-License-Identifier: MIT
// What the claims made of probes name of the VMCS (SDM 3D appendix B; SDM 3C chapter 25) and of the VMCB (APM
// 2 appendix B).
#pragma once

#include "refhv/contract/types.hpp"

namespace refhv::front::vmx {

enum class Field : u32 {
    pml_index = 0x0812,
    io_bitmap_a = 0x2000,
    io_bitmap_b = 0x2002,
    msr_bitmap = 0x2004,
    guest_debugctl = 0x2802,
    guest_pdpte0 = 0x280a, // to 3, each 2 further
    proc_based_controls = 0x4002,
    cr3_target_count = 0x400a,
    entry_controls = 0x4012,
    entry_interruption_info = 0x4016,
    entry_exception_error = 0x4018,
    entry_instruction_length = 0x401a,
    secondary_controls = 0x401e,
    cr0_mask = 0x6000,
    cr4_mask = 0x6002,
    cr0_shadow = 0x6004,
    cr4_shadow = 0x6006,
    guest_cr0 = 0x6800,
    guest_cr4 = 0x6804,
};

namespace proc {
inline constexpr u32 hlt = 1u << 7, invlpg = 1u << 9, mwait = 1u << 10, rdpmc = 1u << 11, rdtsc = 1u << 12,
                     cr3_load = 1u << 15, cr3_store = 1u << 16, cr8_load = 1u << 19, cr8_store = 1u << 20,
                     mov_dr = 1u << 23, monitor = 1u << 29, pause = 1u << 30;
}

namespace proc2 {
inline constexpr u32 descriptor_table = 1u << 2, rdtscp = 1u << 3, wbinvd = 1u << 6,
                     unrestricted_guest = 1u << 7, rdrand = 1u << 11, invpcid = 1u << 12, rdseed = 1u << 16;
}

namespace entry_control {
inline constexpr u32 ia32e_guest = 1u << 9;
}

} // namespace refhv::front::vmx

// Offsets.
namespace refhv::front::vmcb {
inline constexpr u32 cr_read = 0x000, cr_write = 0x002, dr_read = 0x004, dr_write = 0x006, exceptions = 0x008,
                     intercept_1 = 0x00c, intercept_2 = 0x010, intercept_3 = 0x014, iopm = 0x040,
                     msrpm = 0x048, interrupt_control = 0x060, event_injection = 0x0a8, next_rip = 0x0c8;
}

namespace refhv::front::svm::intercept_1 { // offset 00CH
inline constexpr u32 idtr_read = 1u << 6, gdtr_read = 1u << 7, ldtr_read = 1u << 8, tr_read = 1u << 9,
                     idtr_write = 1u << 10, gdtr_write = 1u << 11, ldtr_write = 1u << 12, tr_write = 1u << 13,
                     rdtsc = 1u << 14, rdpmc = 1u << 15, pushf = 1u << 16, popf = 1u << 17, cpuid = 1u << 18,
                     rsm = 1u << 19, iret = 1u << 20, int_n = 1u << 21, invd = 1u << 22, pause = 1u << 23,
                     hlt = 1u << 24, invlpg = 1u << 25, invlpga = 1u << 26, task_switch = 1u << 29;
}

namespace refhv::front::svm::intercept_3 { // offset 014H
inline constexpr u32 invpcid = 1u << 2;
}
