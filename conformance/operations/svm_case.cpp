// SPDX-License-Identifier: MIT
#include "conformance/operations/svm_case.hpp"

#include "refhv/x86/registers.hpp"

namespace refhv::front::root {

namespace {

GUEST(host_nothing, "")
GUEST(host_vmrun, "vmrun")
GUEST(host_vmrun_eax, "addr32 vmrun")
GUEST(host_vmload, "vmload")
GUEST(host_vmload_eax, "addr32 vmload")
GUEST(host_vmsave, "vmsave")
GUEST(host_vmsave_eax, "addr32 vmsave")
GUEST(host_clgi, "clgi")
GUEST(host_stgi, "stgi")
GUEST(host_invlpga, "invlpga %rax, %ecx")
GUEST(host_vmmcall, "vmmcall")
GUEST(host_skinit, "skinit")
GUEST(host_load64, "mov (%rdi), %rax")
GUEST(host_rdmsr, "rdmsr\n shl $32, %rdx\n or %rdx, %rax")
GUEST(host_split, "pushfq\n mov %rax, %rdx\n shr $32, %rdx\n popfq")
GUEST(host_wrmsr, "wrmsr")
GUEST(host_to_user, "mov %rsp, %rbx\n push $0x23\n push %rbx\n pushfq\n push $0x1b\n"
                    "lea 1f(%rip), %rbx\n push %rbx\n iretq\n 1:")
GUEST(host_undefined, "ud2")
GUEST(host_svme, "mov $0xc0000080, %ecx\n rdmsr\n or $0x1000, %eax\n wrmsr")
GUEST(host_no_svme, "mov $0xc0000080, %ecx\n rdmsr\n and $~0x1000, %eax\n wrmsr")
GUEST(host_guest_rip, "vmmcall\n ud2")

// Registers of the program itself, to RDI.
GUEST(host_put_cr0, "mov %cr0, %rax\n mov %rax, (%rdi)")
GUEST(host_put_cr3, "mov %cr3, %rax\n mov %rax, (%rdi)")
GUEST(host_put_cr4, "mov %cr4, %rax\n mov %rax, (%rdi)")
GUEST(host_put_rsp, "mov %rsp, (%rdi)")
GUEST(host_put_gdt, "sgdt -16(%rsp)\n mov -14(%rsp), %rax\n mov %rax, (%rdi)")
GUEST(host_put_idt, "sidt -16(%rsp)\n mov -14(%rsp), %rax\n mov %rax, (%rdi)")
GUEST(host_put_msr, "rdmsr\n mov %eax, (%rdi)\n mov %edx, 4(%rdi)")
GUEST(host_put_rax, "mov %rax, (%rdi)")

} // namespace

namespace svm_code {

Code vmrun() {
    return code(host_nothing, host_vmrun, host_stgi);
}
Code vmrun_without_gif() {
    return code(host_clgi, host_vmrun, host_stgi);
}
Code vmrun_eax() {
    return code(host_nothing, host_vmrun_eax, host_stgi);
}
Code vmload() {
    return code(host_vmload);
}
Code vmload_eax() {
    return code(host_vmload_eax);
}
Code vmsave() {
    return code(host_vmsave);
}
Code vmsave_eax() {
    return code(host_vmsave_eax);
}
Code clgi() {
    return code(host_nothing, host_clgi, host_stgi);
}
Code stgi() {
    return code(host_stgi);
}
Code invlpga() {
    return code(host_invlpga);
}
Code vmmcall() {
    return code(host_vmmcall);
}
Code skinit() {
    return code(host_skinit);
}
Code load64() {
    return code(host_load64);
}
Code rdmsr() {
    return code(host_rdmsr);
}
Code wrmsr() {
    return code(host_split, host_wrmsr);
}
Code at_cpl_3(const Code& instruction) {
    const u8* const first = instruction.bytes.data();
    return code(host_to_user, {first, first + instruction.bytes.size()}, host_undefined);
}

} // namespace svm_code

SvmProgram::SvmProgram(client::GuestHost& host, const client::HelloInfo& hello)
    : Program(host), physical_bits_(cpuid(hello, 0x8000'0008, 0, 0) & 0xff) {}

void SvmProgram::store(u64 address, u64 value) {
    add("store", code(host_put_rax), {.rax = value, .rdi = address}, runs());
}

void SvmProgram::write_msr(u32 index, u64 value, const End& due) {
    std::ostringstream name;
    name << std::hex << "WRMSR of " << value << " to " << index;
    add(name.str(), svm_code::wrmsr(), {.rax = value, .rcx = index}, due);
}

void SvmProgram::expect_msr(u32 index, u64 value, const std::string& name) {
    add(name, svm_code::rdmsr(), {.rcx = index}, holds(value));
}

void SvmProgram::enable() {
    add("EFER.SVME set", code(host_svme), {}, runs());
    write_msr(x86::msr::vm_hsave_pa, physical(save_page));
    add("VMSAVE", svm_code::vmsave(), {.rax = physical(kept_page)}, keeps_flags());
}

void SvmProgram::fill_vmcb() {
    const u64 vmcb = page(vmcb_page);
    const auto put = [&](client::GuestCode what, u64 offset, u64 rcx = 0, u64 rax = 0) {
        add("fill the VMCB", code(what), {.rax = rax, .rcx = rcx, .rdi = vmcb + offset}, runs());
    };
    const auto value = [&](u64 offset, u64 what) { put(host_put_rax, offset, 0, what); };
    constexpr u64 vmrun_and_vmmcall = 3;
    value(0x10, vmrun_and_vmmcall);
    value(0x58, 1); // ASID
    // Selector, attributes and limit of ES, CS, SS, DS; the bases are 0.
    constexpr u64 limit = u64{0xffff'ffff} << 32, code_rights = 0xa9b, data_rights = 0xc93;
    for (u64 i = 0; i < 4; ++i) {
        value(0x400 + 0x10 * i, limit | (i == 1 ? code_rights << 16 | client::layout::code64
                                                : data_rights << 16 | client::layout::data));
    }
    constexpr u64 table_limit = u64{0xffff} << 32;
    value(0x460, table_limit);
    put(host_put_gdt, 0x468);
    value(0x480, table_limit);
    put(host_put_idt, 0x488);
    put(host_put_msr, 0x4d0, x86::msr::efer);
    put(host_put_cr4, 0x548);
    put(host_put_cr3, 0x550);
    put(host_put_cr0, 0x558);
    value(0x560, 0x400);       // DR7
    value(0x568, 0xffff'0ff0); // DR6
    value(0x570, 2);           // RFLAGS
    value(0x578, place(code(host_guest_rip)));
    put(host_put_rsp, 0x5d8);
    value(0x668, 0x0007'0406'0007'0406); // PAT
}

void SvmProgram::expect_exit(u64 exit_code, const std::string& name) {
    add("exit code behind " + name, svm_code::load64(), {.rdi = page(vmcb_page) + 0x70}, holds(exit_code));
    add("exit code overwritten", code(host_put_rax), {.rax = 0x5555, .rdi = page(vmcb_page) + 0x70}, runs());
}

void SvmProgram::disable() {
    add("EFER.SVME set", code(host_svme), {}, runs());
    add("VMLOAD", svm_code::vmload(), {.rax = physical(kept_page)}, runs());
    write_msr(x86::msr::vm_hsave_pa, 0);
    add("EFER.SVME cleared", code(host_no_svme), {}, runs());
}

void SvmHost::host_claim(const char* section, const std::function<void(SvmProgram&, Differences&)>& body) {
    claim({"", section}, [&] {
        needs(abi::Permit::native_guests);
        Differences differences(section);
        SvmProgram program(host(), hello());
        body(program, differences);
        combinations(program.tried());
    });
}

} // namespace refhv::front::root
