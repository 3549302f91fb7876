// SPDX-License-Identifier: MIT
#include "conformance/operations/vmcs_fields.hpp"

#include "refhv/front/controls.hpp"
#include "refhv/x86/registers.hpp"

#include <initializer_list>

namespace refhv::front::root {

std::vector<VmcsField> vmcs_fields(const client::HelloInfo& hello) {
    const u32 pin = offered(hello, vmcs::pin_controls), first = offered(hello, vmcs::proc_controls);
    const u32 exit = offered(hello, vmcs::exit_controls), entry = offered(hello, vmcs::entry_controls);
    const auto bit = [](u64 controls, unsigned number) { return (controls >> number & 1) != 0; };
    const u32 second = bit(first, 31) ? offered(hello, vmcs::secondary_controls) : 0;
    const u64 third = bit(first, 17) ? msr(hello, x86::msr::vmx_proc3) : 0;
    const u64 functions = bit(second, 13) ? msr(hello, x86::msr::vmx_vmfunc) : 0;
    std::vector<VmcsField> fields;
    const auto range = [&](u32 from, u32 to, bool exists = true) {
        for (u32 encoding = from; encoding <= to; encoding += 2) {
            fields.push_back({encoding, exists});
        }
    };
    const auto one = [&](u32 encoding, bool exists = true) { range(encoding, encoding, exists); };

    one(0x0000, bit(second, 5));                  // VPID
    one(0x0002, bit(pin, 7));                     // posted-interrupt notification vector
    one(0x0004, bit(second, 18));                 // EPTP index
    one(0x0006, bit(third, 1));                   // HLAT prefix size
    one(0x0008, bit(third, 4));                   // last PID-pointer index
    range(0x0800, 0x080e);                        // selectors
    one(0x0810, bit(second, 9));                  // guest interrupt status
    one(0x0812, bit(second, 17));                 // PML index
    range(0x0c00, 0x0c0c);                        // host selectors
    range(0x2000, 0x2002);                        // I/O bitmaps
    one(0x2004, bit(first, 28));                  // MSR bitmaps
    range(0x2006, 0x200a);                        // MSR areas
    one(0x200c);                                  // executive-VMCS pointer
    one(0x200e, bit(second, 17));                 // PML address
    one(0x2010);                                  // TSC offset
    one(0x2012, bit(first, 21));                  // virtual-APIC address
    one(0x2014, bit(second, 0));                  // APIC-access address
    one(0x2016, bit(pin, 7));                     // posted-interrupt descriptor
    one(0x2018, bit(second, 13));                 // VM-function controls
    one(0x201a, bit(second, 1));                  // EPT pointer
    range(0x201c, 0x2022, bit(second, 9));        // EOI-exit bitmaps
    one(0x2024, bit(functions, 0));               // EPTP-list address
    range(0x2026, 0x2028, bit(second, 14));       // VMREAD and VMWRITE bitmaps
    one(0x202a, bit(second, 18));                 // virtualization-exception information
    one(0x202c, bit(second, 20));                 // XSS-exiting bitmap
    one(0x202e, bit(second, 15));                 // ENCLS-exiting bitmap
    one(0x2030, bit(second, 23));                 // sub-page-permission-table pointer
    one(0x2032, bit(second, 25));                 // TSC multiplier
    one(0x2034, bit(first, 17));                  // tertiary controls
    one(0x2036, bit(second, 28));                 // ENCLV-exiting bitmap
    one(0x2400, bit(second, 1));                  // guest-physical address
    range(0x2800, 0x2802);                        // VMCS link pointer, IA32_DEBUGCTL
    one(0x2804, bit(entry, 14) || bit(exit, 18)); // IA32_PAT
    one(0x2806, bit(entry, 15) || bit(exit, 20)); // IA32_EFER
    one(0x2808, bit(entry, 13));                  // IA32_PERF_GLOBAL_CTRL
    range(0x280a, 0x2810, bit(second, 1));        // PDPTEs
    one(0x2812, bit(entry, 16) || bit(exit, 23)); // IA32_BNDCFGS
    one(0x2814, bit(entry, 18) || bit(exit, 25)); // IA32_RTIT_CTL
    one(0x2816, bit(entry, 21) || bit(exit, 26)); // IA32_LBR_CTL
    one(0x2818, bit(entry, 22));                  // IA32_PKRS
    one(0x2c00, bit(exit, 19));                   // host IA32_PAT
    one(0x2c02, bit(exit, 21));                   // host IA32_EFER
    one(0x2c04, bit(exit, 12));                   // host IA32_PERF_GLOBAL_CTRL
    one(0x2c06, bit(exit, 29));                   // host IA32_PKRS
    range(0x4000, 0x401a);                        // controls of 32 bits
    one(0x401c, bit(first, 21));                  // TPR threshold
    one(0x401e, bit(first, 31));                  // secondary controls
    range(0x4020, 0x4022, bit(second, 10));       // PLE gap and window
    range(0x4400, 0x440e);                        // VM-instruction error to VM-exit instruction information
    range(0x4800, 0x482a);                        // limits, access rights, states, SMBASE, IA32_SYSENTER_CS
    one(0x482e, bit(pin, 6));                     // VMX-preemption timer
    one(0x4c00);                                  // host IA32_SYSENTER_CS
    range(0x6000, 0x6006);                        // masks and read shadows
    const u64 targets = msr(hello, x86::msr::vmx_misc) >> 16 & 0x1ff;
    for (u32 number = 0; number < 4; ++number) { // CR3-target values
        one(0x6008 + 2 * number, number < targets);
    }
    range(0x6400, 0x640a);                 // exit qualification to guest-linear address
    range(0x6800, 0x6826);                 // control registers to IA32_SYSENTER_EIP
    range(0x6828, 0x682c, bit(entry, 20)); // CET state
    range(0x6c00, 0x6c16);                 // host control registers to RIP
    range(0x6c18, 0x6c1c, bit(exit, 28));  // host CET state
    return fields;
}

} // namespace refhv::front::root
