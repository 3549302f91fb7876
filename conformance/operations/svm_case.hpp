// SPDX-License-Identifier: MIT
// Programs of a host that uses SVM: they turn it on, have a VMCB that enters, and turn it off.
#pragma once

#include "conformance/operations/program.hpp"

namespace refhv::front::root {

// Pages of the program's arena. Those behind `odd_page` and `empty_page` are theirs too.
inline constexpr u64 save_page = 0, vmcb_page = 1, kept_page = 2, odd_page = 3, empty_page = 5;

// The instructions; RAX is the operand of most.
namespace svm_code {
[[nodiscard]] Code vmrun(); // and STGI behind it
[[nodiscard]] Code vmrun_without_gif();
[[nodiscard]] Code vmrun_eax();
[[nodiscard]] Code vmload();
[[nodiscard]] Code vmload_eax();
[[nodiscard]] Code vmsave();
[[nodiscard]] Code vmsave_eax();
[[nodiscard]] Code clgi(); // and STGI behind it
[[nodiscard]] Code stgi();
[[nodiscard]] Code invlpga(); // of RAX, ASID ECX
[[nodiscard]] Code vmmcall();
[[nodiscard]] Code skinit();
[[nodiscard]] Code at_cpl_3(const Code& instruction);
[[nodiscard]] Code load64(); // RAX from RDI
[[nodiscard]] Code rdmsr();  // ECX, 64 bits into RAX
[[nodiscard]] Code wrmsr();  // RAX, 64 bits, into ECX
} // namespace svm_code

class SvmProgram : public Program {
  public:
    SvmProgram(client::GuestHost& host, const client::HelloInfo& hello);

    // EFER.SVME and VM_HSAVE_PA, and VMSAVE into kept_page.
    void enable();
    // A guest that is one VMMCALL, into vmcb_page.
    void fill_vmcb();
    // A VMRUN of that page comes back with this exit code.
    void expect_exit(u64 exit_code, const std::string& name);
    // VMLOAD of kept_page, and SVM off.
    void disable();
    void store(u64 address, u64 value); // guest-virtual
    void write_msr(u32 index, u64 value, const End& due = runs());
    void expect_msr(u32 index, u64 value, const std::string& name);

    [[nodiscard]] unsigned physical_bits() const { return physical_bits_; }

  private:
    unsigned physical_bits_;
};

class SvmHost : public Claim {
  protected:
    void host_claim(const char* section, const std::function<void(SvmProgram&, Differences&)>& body);
};

} // namespace refhv::front::root
