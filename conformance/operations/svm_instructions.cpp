// SPDX-License-Identifier: MIT
// SVM instructions in the host: which addresses they take, and when they fault (APM 2 15.5, APM 3).
#include "conformance/operations/svm_case.hpp"
#include "refhv/x86/registers.hpp"

#include <random>

namespace refhv::front::root {

using namespace svm_code;

namespace {

constexpr u64 exit_vmmcall = 0x81, exit_invalid = ~u64{0};

struct Instruction {
    const char* name;
    Code code;
};

} // namespace

TEST_F(SvmHost, vmrun_enters_with_gif_in_either_state) {
    host_claim("APM 2 15.5.1, 15.6, 15.17", [&](SvmProgram& p, Differences& d) {
        p.enable();
        p.fill_vmcb();
        const u64 vmcb = p.physical(vmcb_page);
        for (unsigned round = 0; round < 4; ++round) {
            for (const auto& [name, c] :
                 {std::pair{"VMRUN, GIF = 1", vmrun()}, {"VMRUN, GIF = 0", vmrun_without_gif()}}) {
                // RAX and RFLAGS of the host come back.
                p.add(name, c, {.rax = vmcb}, {.kind = End::Kind::keeps_flags, .rax = vmcb});
                p.expect_exit(exit_vmmcall, name);
            }
        }
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, vmrun_of_an_empty_vmcb_is_invalid) {
    host_claim("APM 2 15.5.1", [&](SvmProgram& p, Differences& d) {
        p.enable();
        const u64 vmcb = p.physical(vmcb_page);
        p.add("VMRUN of an empty VMCB", vmrun(), {.rax = vmcb},
              {.kind = End::Kind::keeps_flags, .rax = vmcb});
        p.expect_exit(exit_invalid, "VMRUN of an empty VMCB");
        p.fill_vmcb();
        p.add("VMRUN", vmrun(), {.rax = vmcb}, {.kind = End::Kind::keeps_flags, .rax = vmcb});
        p.expect_exit(exit_vmmcall, "VMRUN");
        p.disable();
        p.run(d);
    });
}

namespace {

// #GP(0) for each address of the page with one of the bits of [first, end) set; then a good one is taken.
void refuse_address_bits(SvmProgram& p, Differences& d, const std::string& name, const Code& code, u32 good,
                         u32 bad, unsigned first, unsigned end) {
    p.enable();
    p.fill_vmcb();
    for (unsigned bit = first; bit < end; ++bit) {
        p.add(name + " of an address with bit " + std::to_string(bit), code,
              {.rax = p.physical(bad) | u64{1} << bit}, faults(general_protection));
        p.add("VMLOAD", vmload(), {.rax = p.physical(kept_page)}, keeps_flags());
    }
    p.add(name, code, {.rax = p.physical(good)}, keeps_flags());
    p.disable();
    p.run(d);
}

constexpr unsigned page_bits = 12, address_bits = 64;

} // namespace

#define REFHV_SVM_ADDRESSES(name, text, good, bad)                                                           \
    TEST_F(SvmHost, name##_takes_aligned_addresses) {                                                        \
        host_claim("APM 2 15.5; APM 3 " text, [&](SvmProgram& p, Differences& d) {                           \
            refuse_address_bits(p, d, text, name(), good, bad, 0, page_bits);                                \
        });                                                                                                  \
    }                                                                                                        \
    TEST_F(SvmHost, name##_takes_no_address_bit_that_the_cpu_has_not) {                                      \
        host_claim("APM 2 15.5; APM 3 " text, [&](SvmProgram& p, Differences& d) {                           \
            refuse_address_bits(p, d, text, name(), good, bad, p.physical_bits(), address_bits);             \
        });                                                                                                  \
    }
REFHV_SVM_ADDRESSES(vmrun, "VMRUN", vmcb_page, empty_page)
REFHV_SVM_ADDRESSES(vmload, "VMLOAD", kept_page, kept_page)
REFHV_SVM_ADDRESSES(vmsave, "VMSAVE", odd_page, odd_page)
#undef REFHV_SVM_ADDRESSES

// An address-size prefix makes EAX of it.
TEST_F(SvmHost, an_address_size_prefix_takes_eax) {
    host_claim("APM 3 VMRUN, VMLOAD, VMSAVE", [&](SvmProgram& p, Differences& d) {
        p.enable();
        p.fill_vmcb();
        if (p.physical(empty_page) >> 32 != 0) {
            GTEST_SKIP() << "the guest's memory lies above 4 GBytes";
        }
        constexpr u64 high = 0x8000'0001'0000'0000;
        const u64 vmcb = p.physical(vmcb_page) | high;
        p.add("VMSAVE of EAX", vmsave_eax(), {.rax = p.physical(odd_page) | high}, keeps_flags());
        p.add("VMLOAD of EAX", vmload_eax(), {.rax = p.physical(odd_page) | high}, keeps_flags());
        p.add("VMRUN of EAX", vmrun_eax(), {.rax = vmcb}, {.kind = End::Kind::keeps_flags, .rax = vmcb});
        p.expect_exit(exit_vmmcall, "VMRUN of EAX");
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, without_efer_svme_they_are_undefined) {
    host_claim("APM 2 15.4, 15.5, 15.17; APM 3", [&](SvmProgram& p, Differences& d) {
        constexpr unsigned skinit_bit = 12, svm_lock_bit = 2;
        const bool has_skinit = (cpuid(hello(), 0x8000'0001, 0, 2) >> skinit_bit & 1) != 0 ||
                                (cpuid(hello(), 0x8000'000a, 0, 3) >> svm_lock_bit & 1) != 0;
        std::vector<Instruction> all = {{"VMRUN", vmrun()}, {"VMLOAD", vmload()},   {"VMSAVE", vmsave()},
                                        {"CLGI", clgi()},   {"INVLPGA", invlpga()}, {"VMMCALL", vmmcall()}};
        if (!has_skinit) { // which needs STGI, whatever EFER.SVME is
            all.push_back({"STGI", stgi()});
            all.push_back({"SKINIT", skinit()});
        }
        p.enable();
        p.disable();
        for (const u64 address : {p.physical(odd_page), u64{1}, ~u64{0}}) {
            for (const Instruction& i : all) {
                p.add(std::string(i.name) + ", EFER.SVME = 0", i.code, {.rax = address},
                      faults(undefined_opcode));
                p.add(std::string(i.name) + " at CPL 3, EFER.SVME = 0", at_cpl_3(i.code), {.rax = address},
                      faults(undefined_opcode));
            }
        }
        p.enable();
        p.add("CLGI, EFER.SVME = 1", clgi(), {}, keeps_flags());
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, at_cpl_3_they_are_general_protection_faults) {
    host_claim("APM 2 15.5, 15.17; APM 3", [&](SvmProgram& p, Differences& d) {
        p.enable();
        for (const u64 address : {p.physical(odd_page), u64{1}, ~u64{0}}) {
            for (const Instruction& i : std::initializer_list<Instruction>{{"VMRUN", vmrun()},
                                                                           {"VMLOAD", vmload()},
                                                                           {"VMSAVE", vmsave()},
                                                                           {"CLGI", clgi()},
                                                                           {"STGI", stgi()},
                                                                           {"INVLPGA", invlpga()}}) {
                p.add(std::string(i.name) + " at CPL 3", at_cpl_3(i.code), {.rax = address},
                      faults(general_protection));
            }
        }
        p.add("VMMCALL at CPL 3", at_cpl_3(vmmcall()), {}, faults(undefined_opcode));
        p.add("VMMCALL that no guest executes", vmmcall(), {}, faults(undefined_opcode));
        p.disable();
        p.run(d);
    });
}

// Any address, any ASID: there is nothing to refuse, and no flag changes.
TEST_F(SvmHost, invlpga_clgi_and_stgi_change_no_flag) {
    host_claim("APM 2 15.16.2, 15.17; APM 3 INVLPGA, CLGI, STGI", [&](SvmProgram& p, Differences& d) {
        std::mt19937_64 random{15'162};
        p.enable();
        p.add("CLGI", clgi(), {}, keeps_flags());
        p.add("CLGI", clgi(), {}, keeps_flags());
        p.add("STGI", stgi(), {}, keeps_flags());
        p.add("STGI", stgi(), {}, keeps_flags());
        for (unsigned bit = 0; bit < 64; ++bit) {
            const u64 address = u64{1} << bit;
            p.add("INVLPGA of bit " + std::to_string(bit), invlpga(), {.rax = address, .rcx = 1},
                  {.kind = End::Kind::keeps_flags, .rax = address});
            p.add("INVLPGA of an address at random", invlpga(),
                  {.rax = random(), .rcx = random() & 0xffff'ffff}, keeps_flags());
        }
        for (const u64 asid : {u64{0}, u64{1}, u64{0x7fff'ffff}, u64{0xffff'ffff}, ~u64{0}}) {
            p.add("INVLPGA of an ASID", invlpga(), {.rax = 0x1000, .rcx = asid}, keeps_flags());
        }
        p.disable();
        p.run(d);
    });
}

} // namespace refhv::front::root
