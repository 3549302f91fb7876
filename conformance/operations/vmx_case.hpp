// SPDX-License-Identifier: MIT
// Programs of VMX root operation: they enter it, have a current VMCS, and leave.
#pragma once

#include "conformance/operations/program.hpp"

namespace refhv::front::root {

// Pages of the program's arena.
inline constexpr u64 vmxon_page = 0, vmcs_page = 1, other_page = 2, third_page = 3, operand_page = 4;

// Numbers of SDM 3C 31.4.
namespace vm_error {
inline constexpr u32 vmcall_in_root = 1, vmclear_address = 2, vmclear_vmxon_pointer = 3,
                     vmlaunch_non_clear = 4, vmresume_non_launched = 5, entry_controls = 7,
                     vmptrld_address = 9, vmptrld_vmxon_pointer = 10, vmptrld_revision = 11,
                     unsupported_component = 12, read_only_component = 13, vmxon_in_root = 15,
                     entry_mov_ss = 26, invalidate_operand = 28;
} // namespace vm_error

// The instructions. Memory operands are at RDI; the 64 bits there are RAX first, if the name says `of_rax`.
namespace vmx_code {
[[nodiscard]] Code vmxon();
[[nodiscard]] Code vmxon_of_rax();
[[nodiscard]] Code vmxoff();
[[nodiscard]] Code vmclear();
[[nodiscard]] Code vmclear_of_rax();
[[nodiscard]] Code vmptrld();
[[nodiscard]] Code vmptrld_of_rax();
[[nodiscard]] Code vmptrst();
[[nodiscard]] Code vmptrst_to_rax(); // through memory
[[nodiscard]] Code vmread();         // of field RCX into RAX
[[nodiscard]] Code vmread_memory();
[[nodiscard]] Code vmwrite(); // of RAX into field RCX
[[nodiscard]] Code vmwrite_memory();
[[nodiscard]] Code vmlaunch();
[[nodiscard]] Code vmresume();
[[nodiscard]] Code vmlaunch_behind_mov_ss();
[[nodiscard]] Code vmresume_behind_mov_ss();
[[nodiscard]] Code vmcall();
[[nodiscard]] Code vmfunc();
[[nodiscard]] Code invept(); // of type RCX
[[nodiscard]] Code invept_of_rax_rdx();
[[nodiscard]] Code invvpid();
[[nodiscard]] Code invvpid_of_rax_rdx();
[[nodiscard]] Code store32();  // EAX at RDI
[[nodiscard]] Code load64();   // RAX from RDI
[[nodiscard]] Code read_cr0(); // RAX
[[nodiscard]] Code write_cr0();
[[nodiscard]] Code read_cr4();
[[nodiscard]] Code write_cr4();
[[nodiscard]] Code rdmsr(); // ECX
[[nodiscard]] Code wrmsr();
} // namespace vmx_code

class VmxProgram : public Program {
  public:
    VmxProgram(client::GuestHost& host, const client::HelloInfo& hello);

    // CR0 and CR4 as VMX operation needs them, and IA32_FEATURE_CONTROL locked, but no VMXON.
    void prepare();
    void vmxon();
    // VMCLEAR and VMPTRLD of that page.
    void make_current(u64 number = vmcs_page);
    // prepare, vmxon, make_current.
    void enter();
    // The current VMCS is this one.
    void expect_current(u64 address, const std::string& name = "VMPTRST");
    // VMXOFF, if there is VMX operation, and CR4.VMXE cleared.
    void leave();

    [[nodiscard]] u32 revision() const { return revision_; }
    [[nodiscard]] unsigned physical_bits() const { return physical_bits_; }
    // Where memory operands are put.
    [[nodiscard]] static u64 operand() { return page(operand_page); }

    // A step whose operand is this physical address.
    usize with_address(const std::string& name, const Code& code, u64 address, const End& due) {
        return add(name, code, {.rax = address, .rdi = operand()}, due);
    }

  private:
    u64 fixed_cr0_, fixed_cr4_;
    u32 revision_;
    unsigned physical_bits_;
};

class VmxRoot : public Claim {
  protected:
    // A claim about VMX instructions; `body` gets what it finds wrong.
    void root_claim(const char* section, const std::function<void(VmxProgram&, Differences&)>& body);
    // IA32_VMX_MISC[29]; IA32_VMX_BASIC[48]; secondary controls and IA32_VMX_EPT_VPID_CAP.
    static bool offers_secondary(unsigned bit);
    static u64 ept_vpid();
};

[[nodiscard]] std::string hex(u64 value);

} // namespace refhv::front::root
