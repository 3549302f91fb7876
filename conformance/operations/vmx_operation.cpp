// SPDX-License-Identifier: MIT
// VMXON and VMXOFF: what VMX operation needs, what it takes, and what it forbids.
#include "conformance/operations/vmx_case.hpp"

#include "refhv/x86/registers.hpp"

namespace refhv::front::root {

using namespace vmx_code;

namespace {

constexpr u64 none = ~u64{0};

GUEST(root_flip_cr0, "pushfq\n mov %cr0, %rbx\n xor %rbx, %rax\n popfq")
GUEST(root_to_cr0, "mov %rax, %cr0")
GUEST(root_flip_cr4, "pushfq\n mov %cr4, %rbx\n xor %rbx, %rax\n popfq")
GUEST(root_to_cr4, "mov %rax, %cr4")
GUEST(root_back_to_cr0, "mov %rbx, %cr0")
GUEST(root_back_to_cr4, "mov %rbx, %cr4")

} // namespace

TEST_F(VmxRoot, vmxon_takes_aligned_addresses_that_the_cpu_has) {
    root_claim("SDM 3C 31.3 VMXON", [&](VmxProgram& p, Differences& d) {
        p.prepare();
        const u64 region = p.physical(vmxon_page);
        const auto refuse = [&](u64 address, const std::string& what) {
            p.with_address("VMXON of " + what, vmxon_of_rax(), address, invalid());
            p.add("VMPTRST behind it", vmptrst(), {.rdi = VmxProgram::operand()}, faults(undefined_opcode));
        };
        for (unsigned bit = 0; bit < 12; ++bit) {
            refuse(region | u64{1} << bit, "an address with bit " + std::to_string(bit));
        }
        for (unsigned bit = p.physical_bits(); bit < 64; ++bit) {
            refuse(region | u64{1} << bit, "an address with bit " + std::to_string(bit));
        }
        refuse(none, "FFFFFFFFFFFFFFFFH");
        p.with_address("VMXON of the region", vmxon_of_rax(), region, succeeds());
        p.expect_current(none);
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmxon_takes_the_revision_identifier_alone) {
    root_claim("SDM 3C 31.3 VMXON, 25.11.5", [&](VmxProgram& p, Differences& d) {
        p.prepare();
        for (unsigned bit = 0; bit < 32; ++bit) {
            p.add("store", store32(), {.rax = p.revision() ^ 1u << bit, .rdi = VmxProgram::page(vmxon_page)},
                  runs());
            p.with_address("VMXON, revision with bit " + std::to_string(bit) + " changed", vmxon_of_rax(),
                           p.physical(vmxon_page), invalid());
            p.add("VMPTRST behind it", vmptrst(), {.rdi = VmxProgram::operand()}, faults(undefined_opcode));
        }
        p.add("store", store32(), {.rax = p.revision(), .rdi = VmxProgram::page(vmxon_page)}, runs());
        p.vmxon();
        p.expect_current(none);
        p.leave();
        p.run(d);
    });
}

// Whatever its operand is: no step of its operation reads that.
TEST_F(VmxRoot, vmxon_in_vmx_root_operation_fails) {
    root_claim("SDM 3C 31.3 VMXON, 31.4", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 region = p.physical(vmxon_page);
        for (const u64 address : {region, region | 1, region | 1u << 11, p.physical(other_page),
                                  p.physical(vmcs_page), region | u64{1} << 63, none, u64{0}}) {
            p.with_address("VMXON of " + hex(address) + " in VMX root operation", vmxon_of_rax(), address,
                           fails(vm_error::vmxon_in_root));
            p.expect_current(p.physical(vmcs_page));
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmcall_in_vmx_root_operation_fails) {
    root_claim("SDM 3C 31.3 VMCALL, 31.4", [&](VmxProgram& p, Differences& d) {
        p.enter();
        constexpr u32 smm_monitor_ctl = 0x9b;
        if ((msr(hello(), x86::msr::vmx_basic) >> 49 & 1) != 0) { // is a monitor of SMM's there?
            p.add("RDMSR of IA32_SMM_MONITOR_CTL", rdmsr(), {.rcx = smm_monitor_ctl}, holds(0));
        }
        p.add("VMCALL in VMX root operation", vmcall(), {}, fails(vm_error::vmcall_in_root));
        p.add("VMCALL again", vmcall(), {}, fails(vm_error::vmcall_in_root));
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmxon_needs_cr4_vmxe_and_the_fixed_bits_of_cr0) {
    root_claim("SDM 3C 24.7, 24.8, 31.3 VMXON", [&](VmxProgram& p, Differences& d) {
        p.prepare();
        p.add("CR4.VMXE cleared", code(root_flip_cr4, root_to_cr4), {.rax = x86::cr4::vmxe}, runs());
        p.with_address("VMXON, CR4.VMXE = 0", vmxon_of_rax(), p.physical(vmxon_page),
                       faults(undefined_opcode));
        p.with_address("VMXON of address 1, CR4.VMXE = 0", vmxon_of_rax(), 1, faults(undefined_opcode));
        p.add("CR4.VMXE set", code(root_flip_cr4, root_to_cr4), {.rax = x86::cr4::vmxe}, runs());
        if ((msr(hello(), x86::msr::vmx_cr0_fixed0) & x86::cr0::ne) != 0) {
            p.add("CR0.NE cleared", code(root_flip_cr0, root_to_cr0), {.rax = x86::cr0::ne}, runs());
            p.with_address("VMXON, CR0.NE = 0", vmxon_of_rax(), p.physical(vmxon_page),
                           faults(general_protection));
            p.with_address("VMXON of address 1, CR0.NE = 0", vmxon_of_rax(), 1, faults(general_protection));
            p.add("CR0.NE set", code(root_flip_cr0, root_to_cr0), {.rax = x86::cr0::ne}, runs());
        }
        p.vmxon();
        p.leave();
        p.run(d);
    });
}

// A MOV that changes a bit which the capability MSRs fix is refused; one that changes another goes through.
TEST_F(VmxRoot, the_fixed_bits_of_cr0_and_cr4_stay) {
    root_claim("SDM 3C 24.8; SDM 3D A.7, A.8", [&](VmxProgram& p, Differences& d) {
        const u64 zero0 = msr(hello(), x86::msr::vmx_cr0_fixed0),
                  zero4 = msr(hello(), x86::msr::vmx_cr4_fixed0);
        p.prepare();
        p.vmxon();
        for (const u64 bit : {x86::cr0::pe, x86::cr0::ne, x86::cr0::pg}) {
            if ((zero0 & bit) != 0) {
                p.add("MOV to CR0 that clears " + hex(bit), code(root_flip_cr0, root_to_cr0), {.rax = bit},
                      faults(general_protection));
            }
        }
        if ((zero4 & x86::cr4::vmxe) != 0) {
            p.add("MOV to CR4 that clears VMXE", code(root_flip_cr4, root_to_cr4), {.rax = x86::cr4::vmxe},
                  faults(general_protection));
        }
        for (const u64 bit : {x86::cr0::mp, x86::cr0::ts, x86::cr0::am}) {
            p.add("MOV to CR0 that changes " + hex(bit), code(root_flip_cr0, root_to_cr0, root_back_to_cr0),
                  {.rax = bit}, runs());
        }
        for (const u64 bit : {x86::cr4::tsd, x86::cr4::de, x86::cr4::pce}) {
            p.add("MOV to CR4 that changes " + hex(bit), code(root_flip_cr4, root_to_cr4, root_back_to_cr4),
                  {.rax = bit}, runs());
        }
        p.expect_current(none, "VMPTRST, still in VMX operation");
        p.add("VMXOFF", vmxoff(), {}, succeeds());
        p.add("MOV to CR4 that clears VMXE, behind VMXOFF", code(root_flip_cr4, root_to_cr4),
              {.rax = x86::cr4::vmxe}, runs());
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmxoff_ends_vmx_operation) {
    root_claim("SDM 3C 31.3 VMXOFF", [&](VmxProgram& p, Differences& d) {
        p.enter();
        p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
        for (unsigned round = 0; round < 4; ++round) {
            p.add("VMXOFF", vmxoff(), {}, succeeds());
            p.add("VMXOFF again", vmxoff(), {}, faults(undefined_opcode));
            p.add("VMPTRST behind it", vmptrst(), {.rdi = VmxProgram::operand()}, faults(undefined_opcode));
            p.vmxon();
            p.expect_current(none, "VMPTRST behind VMXON");
            p.make_current(round % 2 != 0 ? other_page : vmcs_page);
            p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(round % 2 != 0 ? other_page : vmcs_page),
                           succeeds());
        }
        // Another region; what was the VMXON pointer may be a VMCS then.
        p.add("VMXOFF", vmxoff(), {}, succeeds());
        p.with_address("VMXON of another region", vmxon_of_rax(), p.physical(third_page), succeeds());
        p.make_current(vmxon_page);
        p.expect_current(p.physical(vmxon_page), "VMPTRST of the page that was the VMXON region");
        p.with_address("VMPTRLD of the VMXON pointer", vmptrld_of_rax(), p.physical(third_page),
                       fails(vm_error::vmptrld_vmxon_pointer));
        p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmxon_page), succeeds());
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
