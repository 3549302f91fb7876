// SPDX-License-Identifier: MIT
// Bits of controls that the claims made of probes name: of the VMCS (SDM 3C 25.6, 25.8) and of the VMCB (APM
// 2 appendix B).
#pragma once

#include "refhv/front/controls.hpp"

namespace refhv::front::vmx {

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
