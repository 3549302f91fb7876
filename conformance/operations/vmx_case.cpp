// SPDX-License-Identifier: MIT
#include "conformance/operations/vmx_case.hpp"

#include "refhv/front/controls.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::front::root {

namespace {

GUEST(root_nothing, "")
GUEST(root_put_rax, "mov %rax, (%rdi)")
GUEST(root_put_rax_rdx, "mov %rax, (%rdi)\n mov %rdx, 8(%rdi)")
GUEST(root_mov_ss, "mov %ss, %ebx\n mov %ebx, %ss")
GUEST(root_get_rax, "mov (%rdi), %rax")

} // namespace

namespace vmx_code {

#define REFHV_ROOT_CODE(name, text)                                                                          \
    namespace {                                                                                              \
    GUEST(root_##name, text)                                                                                 \
    }                                                                                                        \
    Code name() {                                                                                            \
        return code(root_##name);                                                                            \
    }
#define REFHV_ROOT_CODE_BEHIND(name, before, instruction)                                                    \
    Code name() {                                                                                            \
        return code(before, root_##instruction);                                                             \
    }

REFHV_ROOT_CODE(vmxon, "vmxon (%rdi)")
REFHV_ROOT_CODE_BEHIND(vmxon_of_rax, root_put_rax, vmxon)
REFHV_ROOT_CODE(vmxoff, "vmxoff")
REFHV_ROOT_CODE(vmclear, "vmclear (%rdi)")
REFHV_ROOT_CODE_BEHIND(vmclear_of_rax, root_put_rax, vmclear)
REFHV_ROOT_CODE(vmptrld, "vmptrld (%rdi)")
REFHV_ROOT_CODE_BEHIND(vmptrld_of_rax, root_put_rax, vmptrld)
REFHV_ROOT_CODE(vmptrst, "vmptrst (%rdi)")
REFHV_ROOT_CODE(vmread, "vmread %rcx, %rax")
REFHV_ROOT_CODE(vmread_memory, "vmread %rcx, (%rdi)")
REFHV_ROOT_CODE(vmwrite, "vmwrite %rax, %rcx")
REFHV_ROOT_CODE(vmwrite_memory, "vmwrite (%rdi), %rcx")
REFHV_ROOT_CODE(vmlaunch, "vmlaunch")
REFHV_ROOT_CODE(vmresume, "vmresume")
REFHV_ROOT_CODE_BEHIND(vmlaunch_behind_mov_ss, root_mov_ss, vmlaunch)
REFHV_ROOT_CODE_BEHIND(vmresume_behind_mov_ss, root_mov_ss, vmresume)
REFHV_ROOT_CODE(vmcall, "vmcall")
REFHV_ROOT_CODE(vmfunc, "vmfunc")
REFHV_ROOT_CODE(invept, "invept (%rdi), %rcx")
REFHV_ROOT_CODE_BEHIND(invept_of_rax_rdx, root_put_rax_rdx, invept)
REFHV_ROOT_CODE(invvpid, "invvpid (%rdi), %rcx")
REFHV_ROOT_CODE_BEHIND(invvpid_of_rax_rdx, root_put_rax_rdx, invvpid)
REFHV_ROOT_CODE(store32, "mov %eax, (%rdi)")
REFHV_ROOT_CODE(load64, "mov (%rdi), %rax")
REFHV_ROOT_CODE(read_cr0, "mov %cr0, %rax")
REFHV_ROOT_CODE(write_cr0, "mov %rax, %cr0")
REFHV_ROOT_CODE(read_cr4, "mov %cr4, %rax")
REFHV_ROOT_CODE(write_cr4, "mov %rax, %cr4")
REFHV_ROOT_CODE(rdmsr, "rdmsr")
REFHV_ROOT_CODE(wrmsr, "wrmsr")

Code vmptrst_to_rax() {
    return code(root_nothing, root_vmptrst, root_get_rax);
}

#undef REFHV_ROOT_CODE
#undef REFHV_ROOT_CODE_BEHIND

} // namespace vmx_code

namespace {

GUEST(root_set_cr0, "mov %cr0, %rbx\n or %rbx, %rax\n mov %rax, %cr0")
GUEST(root_set_cr4, "mov %cr4, %rbx\n or %rbx, %rax\n mov %rax, %cr4")
GUEST(root_clear_cr4, "not %rax\n mov %cr4, %rbx\n and %rbx, %rax\n mov %rax, %cr4")
// IA32_FEATURE_CONTROL, as the core would set it: locked for good, with VMX outside SMX.
GUEST(root_lock, "mov $0x3a, %ecx\n rdmsr\n test $1, %al\n jnz 1f\n or $5, %eax\n wrmsr\n 1:")

} // namespace

VmxProgram::VmxProgram(client::GuestHost& host, const client::HelloInfo& hello)
    : Program(host), fixed_cr0_(msr(hello, x86::msr::vmx_cr0_fixed0)),
      fixed_cr4_(msr(hello, x86::msr::vmx_cr4_fixed0) | x86::cr4::vmxe),
      revision_(static_cast<u32>(msr(hello, x86::msr::vmx_basic)) & 0x7fff'ffff),
      physical_bits_(cpuid(hello, 0x8000'0008, 0, 0) & 0xff) {
    for (const u64 number : {vmxon_page, vmcs_page, other_page, third_page}) {
        guest().write(page(number), {reinterpret_cast<const u8*>(&revision_), sizeof revision_});
    }
}

void VmxProgram::prepare() {
    add("CR0 as IA32_VMX_CR0_FIXED0 has it", code(root_set_cr0), {.rax = fixed_cr0_}, runs());
    add("CR4 as IA32_VMX_CR4_FIXED0 has it", code(root_set_cr4), {.rax = fixed_cr4_}, runs());
    add("IA32_FEATURE_CONTROL", code(root_lock), {}, runs());
}

void VmxProgram::vmxon() {
    with_address("VMXON", vmx_code::vmxon_of_rax(), physical(vmxon_page), succeeds());
}

void VmxProgram::make_current(u64 number) {
    const std::string of = " of page " + std::to_string(number);
    with_address("VMCLEAR" + of, vmx_code::vmclear_of_rax(), physical(number), succeeds());
    with_address("VMPTRLD" + of, vmx_code::vmptrld_of_rax(), physical(number), succeeds());
}

void VmxProgram::enter() {
    prepare();
    vmxon();
    make_current();
}

void VmxProgram::expect_current(u64 address, const std::string& name) {
    add(name, vmx_code::vmptrst_to_rax(), {.rdi = operand()}, reads(address));
}

void VmxProgram::leave() {
    add("VMXOFF", vmx_code::vmxoff(), {}, {.kind = End::Kind::anything});
    add("CR4.VMXE cleared", code(root_clear_cr4), {.rax = x86::cr4::vmxe}, runs());
}

void VmxRoot::root_claim(const char* section, const std::function<void(VmxProgram&, Differences&)>& body) {
    claim({.sdm = section}, [&] {
        needs(abi::Permit::native_guests);
        Differences differences(section);
        VmxProgram program(host(), hello());
        body(program, differences);
        combinations(program.tried());
    });
}

bool VmxRoot::offers_secondary(unsigned bit) {
    return offers(hello(), vmcs::proc_controls, u64{1} << 31) &&
           offers(hello(), vmcs::secondary_controls, u64{1} << bit);
}

u64 VmxRoot::ept_vpid() {
    return msr(hello(), x86::msr::vmx_ept_vpid);
}

std::string hex(u64 value) {
    std::ostringstream text;
    text << std::hex << value << 'H';
    return text.str();
}

} // namespace refhv::front::root
