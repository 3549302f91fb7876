// SPDX-License-Identifier: MIT
// VMCLEAR, VMPTRLD and VMPTRST: which addresses and regions they take, and what is current then.
#include "conformance/operations/vmx_case.hpp"

#include "refhv/x86/registers.hpp"

namespace refhv::front::root {

using namespace vmx_code;

namespace {

constexpr u64 none = ~u64{0};
constexpr u32 scratch_field = 0x6c10, number_field = 0x4400; // host IA32_SYSENTER_ESP; VM-instruction error
constexpr u32 shadow_indicator = 1u << 31;
constexpr unsigned vmcs_shadowing = 14; // of the secondary controls

} // namespace

TEST_F(VmxRoot, vmclear_takes_aligned_addresses_alone) {
    root_claim("SDM 3C 31.3 VMCLEAR", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 current = p.physical(vmcs_page), other = p.physical(other_page);
        for (unsigned bit = 0; bit < 12; ++bit) {
            for (const u64 address : {other, current, p.physical(vmxon_page)}) {
                p.with_address("VMCLEAR of an address with bit " + std::to_string(bit), vmclear_of_rax(),
                               address | u64{1} << bit, fails(vm_error::vmclear_address));
            }
            p.expect_current(current);
        }
        p.with_address("VMCLEAR of the aligned address", vmclear_of_rax(), other, succeeds());
        p.expect_current(current);
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmptrld_takes_aligned_addresses_alone) {
    root_claim("SDM 3C 31.3 VMPTRLD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 current = p.physical(vmcs_page), other = p.physical(other_page);
        for (unsigned bit = 0; bit < 12; ++bit) {
            for (const u64 address : {other, p.physical(vmxon_page)}) {
                p.with_address("VMPTRLD of an address with bit " + std::to_string(bit), vmptrld_of_rax(),
                               address | u64{1} << bit, fails(vm_error::vmptrld_address));
            }
            p.expect_current(current);
        }
        p.with_address("VMPTRLD of the aligned address", vmptrld_of_rax(), other, succeeds());
        p.expect_current(other);
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmclear_takes_no_address_bit_that_the_cpu_has_not) {
    root_claim("SDM 3C 31.3 VMCLEAR", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (unsigned bit = p.physical_bits(); bit < 64; ++bit) {
            for (const u64 number : {other_page, vmcs_page, vmxon_page}) {
                p.with_address("VMCLEAR of an address with bit " + std::to_string(bit), vmclear_of_rax(),
                               p.physical(number) | u64{1} << bit, fails(vm_error::vmclear_address));
            }
            p.expect_current(p.physical(vmcs_page));
        }
        p.with_address("VMCLEAR of FFFFFFFFFFFFF000H", vmclear_of_rax(), none << 12,
                       fails(vm_error::vmclear_address));
        p.with_address("VMCLEAR of FFFFFFFFFFFFFFFFH", vmclear_of_rax(), none,
                       fails(vm_error::vmclear_address));
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmptrld_takes_no_address_bit_that_the_cpu_has_not) {
    root_claim("SDM 3C 31.3 VMPTRLD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (unsigned bit = p.physical_bits(); bit < 64; ++bit) {
            for (const u64 number : {other_page, vmxon_page}) {
                p.with_address("VMPTRLD of an address with bit " + std::to_string(bit), vmptrld_of_rax(),
                               p.physical(number) | u64{1} << bit, fails(vm_error::vmptrld_address));
            }
            p.expect_current(p.physical(vmcs_page));
        }
        p.with_address("VMPTRLD of FFFFFFFFFFFFF000H", vmptrld_of_rax(), none << 12,
                       fails(vm_error::vmptrld_address));
        p.with_address("VMPTRLD of FFFFFFFFFFFFFFFFH", vmptrld_of_rax(), none,
                       fails(vm_error::vmptrld_address));
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, the_vmxon_pointer_is_no_vmcs) {
    root_claim("SDM 3C 31.3 VMCLEAR, VMPTRLD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 current = p.physical(vmcs_page), vmxon = p.physical(vmxon_page);
        p.with_address("VMCLEAR of the VMXON pointer", vmclear_of_rax(), vmxon,
                       fails(vm_error::vmclear_vmxon_pointer));
        p.expect_current(current);
        p.with_address("VMPTRLD of the VMXON pointer", vmptrld_of_rax(), vmxon,
                       fails(vm_error::vmptrld_vmxon_pointer));
        p.expect_current(current);
        p.with_address("VMCLEAR of the current VMCS", vmclear_of_rax(), current, succeeds());
        p.expect_current(none);
        p.with_address("VMCLEAR of the VMXON pointer, no current VMCS", vmclear_of_rax(), vmxon, invalid());
        p.with_address("VMPTRLD of the VMXON pointer, no current VMCS", vmptrld_of_rax(), vmxon, invalid());
        p.expect_current(none);
        p.leave();
        p.run(d);
    });
}

// Bits 30:0 of a region's first word.
TEST_F(VmxRoot, vmptrld_takes_the_revision_identifier_alone) {
    root_claim("SDM 3C 31.3 VMPTRLD, 25.2", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 other = p.physical(other_page), word = VmxProgram::page(other_page);
        p.with_address("VMCLEAR", vmclear_of_rax(), other, succeeds());
        std::vector<u32> wrong = {~p.revision() & ~shadow_indicator, (p.revision() + 1) & ~shadow_indicator};
        for (unsigned bit = 0; bit < 31; ++bit) {
            wrong.push_back(p.revision() ^ 1u << bit);
        }
        for (const u32 identifier : wrong) {
            p.add("store", store32(), {.rax = identifier, .rdi = word}, runs());
            p.with_address("VMPTRLD, revision " + hex(identifier) + " for " + hex(p.revision()),
                           vmptrld_of_rax(), other, fails(vm_error::vmptrld_revision));
            p.expect_current(p.physical(vmcs_page));
            p.with_address("VMCLEAR, which looks at no revision", vmclear_of_rax(), other, succeeds());
        }
        p.add("store", store32(), {.rax = p.revision(), .rdi = word}, runs());
        p.with_address("VMPTRLD, the CPU's revision", vmptrld_of_rax(), other, succeeds());
        p.expect_current(other);
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, vmptrld_takes_a_shadow_vmcs_where_there_is_shadowing) {
    root_claim("SDM 3C 31.3 VMPTRLD, 25.10", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 other = p.physical(other_page);
        const bool offered = offers_secondary(vmcs_shadowing);
        p.with_address("VMCLEAR", vmclear_of_rax(), other, succeeds());
        p.add("store", store32(),
              {.rax = p.revision() | shadow_indicator, .rdi = VmxProgram::page(other_page)}, runs());
        p.with_address("VMPTRLD, bit 31 of the revision set", vmptrld_of_rax(), other,
                       offered ? succeeds() : fails(vm_error::vmptrld_revision));
        p.expect_current(offered ? other : p.physical(vmcs_page));
        if (offered) {
            p.add("VMWRITE of a shadow VMCS", vmwrite(), {.rax = 0x1234, .rcx = scratch_field}, succeeds());
            p.add("VMREAD of a shadow VMCS", vmread(), {.rcx = scratch_field}, reads(0x1234));
            p.add("VMREAD of an unsupported field of a shadow VMCS", vmread(), {.rcx = ~u64{0}},
                  fails(vm_error::unsupported_component));
        }
        p.with_address("VMCLEAR of it", vmclear_of_rax(), other, succeeds());
        p.add("store", store32(), {.rax = p.revision(), .rdi = VmxProgram::page(other_page)}, runs());
        p.with_address("VMPTRLD, bit 31 clear again", vmptrld_of_rax(), other, succeeds());
        p.leave();
        p.run(d);
    });
}

// Before anything else of the VMCS is looked at.
TEST_F(VmxRoot, vm_entries_with_a_shadow_vmcs_fail) {
    root_claim("SDM 3C 27.1", [&](VmxProgram& p, Differences& d) {
        if (!offers_secondary(vmcs_shadowing)) {
            GTEST_SKIP() << "no VMCS shadowing (bit 14 of the secondary controls)";
        }
        p.enter();
        const u64 other = p.physical(other_page);
        const auto load = [&](u32 identifier) {
            p.with_address("VMCLEAR", vmclear_of_rax(), other, succeeds());
            p.add("store", store32(), {.rax = identifier, .rdi = VmxProgram::page(other_page)}, runs());
            p.with_address("VMPTRLD", vmptrld_of_rax(), other, succeeds());
        };
        load(p.revision() | shadow_indicator);
        p.add("VMLAUNCH of a shadow VMCS", vmlaunch(), {}, invalid());
        p.add("VMRESUME of a shadow VMCS", vmresume(), {}, invalid());
        p.add("VMLAUNCH of a shadow VMCS behind MOV SS", vmlaunch_behind_mov_ss(), {}, invalid());
        p.add("VMRESUME of a shadow VMCS behind MOV SS", vmresume_behind_mov_ss(), {}, invalid());
        load(p.revision());
        p.add("VMRESUME of an ordinary VMCS", vmresume(), {}, fails(vm_error::vmresume_non_launched));
        p.leave();
        p.run(d);
    });
}

// Behind VMXON, and behind VMCLEAR of what was current.
TEST_F(VmxRoot, without_a_current_vmcs_failures_are_vmfailinvalid) {
    root_claim("SDM 3C 31.2, 31.3", [&](VmxProgram& p, Differences& d) {
        p.prepare();
        p.vmxon();
        for (unsigned round = 0; round < 2; ++round) {
            const std::string when = round == 0 ? ", behind VMXON" : ", behind VMCLEAR";
            p.expect_current(none, "VMPTRST" + when);
            const Registers field{.rax = 1, .rcx = scratch_field, .rdi = VmxProgram::operand()};
            p.add("VMREAD" + when, vmread(), field, invalid());
            p.add("VMREAD to memory" + when, vmread_memory(), field, invalid());
            p.add("VMREAD of an unsupported field" + when, vmread(), {.rcx = ~u64{0}}, invalid());
            p.add("VMWRITE" + when, vmwrite(), field, invalid());
            p.add("VMWRITE from memory" + when, vmwrite_memory(), field, invalid());
            p.add("VMWRITE of an unsupported field" + when, vmwrite(), {.rcx = ~u64{0}}, invalid());
            p.add("VMLAUNCH" + when, vmlaunch(), {}, invalid());
            p.add("VMRESUME" + when, vmresume(), {}, invalid());
            p.add("VMLAUNCH behind MOV SS" + when, vmlaunch_behind_mov_ss(), {}, invalid());
            p.add("VMRESUME behind MOV SS" + when, vmresume_behind_mov_ss(), {}, invalid());
            p.with_address("VMXON" + when, vmxon_of_rax(), p.physical(vmxon_page), invalid());
            p.with_address("VMCLEAR of address 1" + when, vmclear_of_rax(), 1, invalid());
            p.with_address("VMPTRLD of address 1" + when, vmptrld_of_rax(), 1, invalid());
            if ((ept_vpid() >> 20 & 1) != 0) {
                p.add("INVEPT of type 3" + when, invept(), {.rcx = 3, .rdi = VmxProgram::operand()},
                      invalid());
            }
            if ((ept_vpid() >> 32 & 1) != 0) {
                p.add("INVVPID of type 4" + when, invvpid(), {.rcx = 4, .rdi = VmxProgram::operand()},
                      invalid());
            }
            p.make_current();
            p.expect_current(p.physical(vmcs_page));
            p.add("VMREAD, with a current VMCS", vmread(), {.rcx = scratch_field}, succeeds());
            p.with_address("VMCLEAR of the current VMCS", vmclear_of_rax(), p.physical(vmcs_page),
                           succeeds());
        }
        p.leave();
        p.run(d);
    });
}

// Three regions with values of their own.
TEST_F(VmxRoot, a_vmcs_keeps_its_fields) {
    root_claim("SDM 3C 25.1, 25.11.1, 31.3 VMCLEAR, VMPTRLD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        p.make_current(other_page);
        p.make_current(third_page);
        constexpr u32 fields[] = {0x0c00, 0x2c00, 0x2002, 0x4c00, 0x4804, 0x6808, 0x6c10};
        const auto value = [](u64 number, u32 field) {
            const u64 seed = (number * 0x9e37'79b9'7f4a'7c15 ^ field * u64{0xd6e8'feb8'6659'fd93}) | 1;
            const unsigned width = field >> 13 & 3;
            return width == 0 ? seed & 0xffff : width == 2 ? seed & 0xffff'ffff : seed;
        };
        const auto load = [&](u64 number) {
            p.with_address("VMPTRLD", vmptrld_of_rax(), p.physical(number), succeeds());
        };
        for (const u64 number : {vmcs_page, other_page, third_page}) {
            load(number);
            for (const u32 field : fields) {
                p.add("VMWRITE", vmwrite(), {.rax = value(number, field), .rcx = field}, succeeds());
            }
        }
        for (const bool clear : {false, true}) {
            for (const u64 number : {other_page, vmcs_page, vmcs_page, third_page, other_page}) {
                if (clear) {
                    p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(number), succeeds());
                }
                load(number);
                p.expect_current(p.physical(number));
                for (const u32 field : fields) {
                    p.add("VMREAD of field " + hex(field) + (clear ? ", behind VMCLEAR" : ""), vmread(),
                          {.rcx = field}, reads(value(number, field)));
                }
            }
        }
        const u64 current = p.physical(other_page);
        p.with_address("VMCLEAR of another VMCS", vmclear_of_rax(), p.physical(third_page), succeeds());
        p.expect_current(current, "VMPTRST behind VMCLEAR of another VMCS");
        p.add("VMREAD behind VMCLEAR of another VMCS", vmread(), {.rcx = 0x6c10},
              reads(value(other_page, 0x6c10)));
        p.leave();
        p.run(d);
    });
}

// Each VMfailValid writes it, in the VMCS that is current; nothing else does.
TEST_F(VmxRoot, the_vm_instruction_error_is_that_of_the_last_failure) {
    root_claim("SDM 3C 31.2, 31.4", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const auto number_is = [&](u64 number, const std::string& when) {
            p.add("VM-instruction error " + when, vmread(), {.rcx = number_field}, reads(number));
        };
        p.with_address("VMCLEAR of address 1", vmclear_of_rax(), 1, fails(vm_error::vmclear_address));
        number_is(vm_error::vmclear_address, "behind the failure");
        p.with_address("VMCLEAR of another", vmclear_of_rax(), p.physical(other_page), succeeds());
        p.add("VMREAD", vmread(), {.rcx = scratch_field}, succeeds());
        p.add("VMWRITE", vmwrite(), {.rcx = scratch_field}, succeeds());
        p.expect_current(p.physical(vmcs_page));
        number_is(vm_error::vmclear_address, "behind instructions that succeed");
        p.add("VMREAD of no field", vmread(), {.rcx = ~u64{0}}, fails(vm_error::unsupported_component));
        number_is(vm_error::unsupported_component, "behind the next failure");
        p.make_current(other_page);
        p.with_address("VMPTRLD of address 1", vmptrld_of_rax(), 1, fails(vm_error::vmptrld_address));
        number_is(vm_error::vmptrld_address, "of the other VMCS");
        p.with_address("VMPTRLD", vmptrld_of_rax(), p.physical(vmcs_page), succeeds());
        number_is(vm_error::unsupported_component, "of the first VMCS");
        p.with_address("VMPTRLD", vmptrld_of_rax(), p.physical(other_page), succeeds());
        number_is(vm_error::vmptrld_address, "of the other VMCS again");
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
