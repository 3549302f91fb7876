// SPDX-License-Identifier: MIT
#include "conformance/probe/controls.hpp"

namespace refhv::front {

namespace {

constexpr u32 vmx_basic = 0x480;
constexpr u64 has_true_controls = u64{1} << 55;

// The upper half of a capability MSR of controls, the "true" one where there is one.
u32 offered(const client::HelloInfo& hello, u32 plain, u32 precise) {
    const bool precise_exists = (msr(hello, vmx_basic) & has_true_controls) != 0;
    return static_cast<u32>(msr(hello, precise_exists ? precise : plain) >> 32);
}

} // namespace

u32 vmx_pin_offered(const client::HelloInfo& hello) {
    return offered(hello, 0x481, 0x48d);
}

u32 vmx_proc_offered(const client::HelloInfo& hello) {
    return offered(hello, 0x482, 0x48e);
}

u32 vmx_proc2_offered(const client::HelloInfo& hello) {
    return static_cast<u32>(msr(hello, 0x48b) >> 32);
}

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
        const auto proc = static_cast<u32>(vmx::Field::proc_based_controls);
        const auto proc2 = static_cast<u32>(vmx::Field::secondary_controls);
        return {{proc, prober.base(proc) | (wanted & vmx_proc_offered(hello))},
                {proc2, prober.base(proc2) | (wanted2 & vmx_proc2_offered(hello))}};
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
