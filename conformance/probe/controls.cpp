// SPDX-License-Identifier: MIT
#include "conformance/probe/controls.hpp"

namespace refhv::front {

u64 vmx_cr_fixed0(const client::HelloInfo& hello, unsigned cr) {
    return msr(hello, cr == 0 ? 0x486 : 0x488);
}

u64 vmx_cr_fixed1(const client::HelloInfo& hello, unsigned cr) {
    return msr(hello, cr == 0 ? 0x487 : 0x489);
}

std::vector<RawField> every_instruction_exits(Prober& prober, const client::HelloInfo& hello, bool on_vmx) {
    if (on_vmx) {
        namespace p = vmx::proc;
        namespace q = vmx::proc2;
        constexpr u32 wanted = p::hlt | p::invlpg | p::mwait | p::rdpmc | p::rdtsc | p::cr3_load |
                               p::cr3_store | p::cr8_load | p::cr8_store | p::mov_dr | p::monitor | p::pause;
        constexpr u32 wanted2 =
            q::descriptor_table | q::wbinvd | q::rdrand | q::rdseed | q::rdtscp | q::invpcid;
        const auto proc = vmcs::proc_controls;
        const auto proc2 = vmcs::secondary_controls;
        return {{proc, prober.base(proc) | (wanted & offered(hello, proc))},
                {proc2, prober.base(proc2) | (wanted2 & offered(hello, proc2))}};
    }
    namespace i = svm::intercept_1;
    constexpr u64 instructions = i::idtr_read | i::gdtr_read | i::ldtr_read | i::tr_read | i::idtr_write |
                                 i::gdtr_write | i::ldtr_write | i::tr_write | i::rdtsc | i::rdpmc |
                                 i::pushf | i::popf | i::cpuid | i::rsm | i::iret | i::int_n | i::invd |
                                 i::pause | i::hlt | i::invlpg | i::invlpga;
    constexpr u64 known_2 = 0x2fff; // up to XSETBV, without the MWAIT that waits
    return {{vmcb::cr_read, 0xffff, 2},
            {vmcb::cr_write, 0xffff, 2},
            {vmcb::dr_read, 0xffff, 2},
            {vmcb::dr_write, 0xffff, 2},
            {vmcb::intercept_1, prober.base(vmcb::intercept_1) | instructions},
            {vmcb::intercept_2, prober.base(vmcb::intercept_2) | known_2},
            {vmcb::intercept_3, prober.base(vmcb::intercept_3) | svm::intercept_3::invpcid}};
}

} // namespace refhv::front
