// SPDX-License-Identifier: MIT
// Faults of the VMX instructions, and what comes before what (SDM 3C 31.3: the exceptions of each).
#include "conformance/operations/vmx_case.hpp"

#include "refhv/x86/registers.hpp"

namespace refhv::front::root {

using namespace vmx_code;

namespace {

// IRET to CPL 3, or a far RET to compatibility mode, up to the label behind. Flags stay.
#define REFHV_ROOT_TO_USER                                                                                   \
    "mov %rsp, %rbx\n push $0x23\n push %rbx\n pushfq\n push $0x1b\n lea 1f(%rip), %rbx\n push %rbx\n"       \
    "iretq\n 1:"
#define REFHV_ROOT_TO_COMPATIBILITY "push $0x38\n lea 1f(%rip), %rbx\n push %rbx\n lretq\n 1:"
GUEST(root_to_user, REFHV_ROOT_TO_USER)
GUEST(root_to_compatibility, REFHV_ROOT_TO_COMPATIBILITY)
GUEST(root_undefined, "ud2")
GUEST(root_flip_vmxe, "pushfq\n mov %cr4, %rax\n xor $0x2000, %eax\n mov %rax, %cr4\n popfq")
constexpr u8 lock_prefix = 0xf0;
constexpr u64 non_canonical[] = {u64{1} << 47, u64{0xffff'7fff'ffff'fff0}, u64{1} << 63};

struct Instruction {
    const char* name;
    Code code;
    bool exists = true;
    enum class Operand : u8 {
        none,
        read,
        write,
    } operand = Operand::none;
    unsigned bytes = 8;
};

// Those that VMX operation has; VMXON is a case by itself.
std::vector<Instruction> instructions(u64 ept_vpid) {
    using enum Instruction::Operand;
    const bool ept = (ept_vpid >> 20 & 1) != 0, vpid = (ept_vpid >> 32 & 1) != 0;
    return {{"VMCLEAR", vmclear(), true, read},
            {"VMPTRLD", vmptrld(), true, read},
            {"VMPTRST", vmptrst(), true, write},
            {"VMREAD", vmread()},
            {"VMREAD to memory", vmread_memory(), true, write},
            {"VMWRITE", vmwrite()},
            {"VMWRITE from memory", vmwrite_memory(), true, read},
            {"VMLAUNCH", vmlaunch()},
            {"VMRESUME", vmresume()},
            {"INVEPT", invept(), ept, read, 16},
            {"INVVPID", invvpid(), vpid, read, 16},
            {"VMXOFF", vmxoff()}};
}

constexpr u64 descriptor_page = 5, edge_page = 6, hole_page = 7, read_only_page = 8;
constexpr u32 a_field = 0x6c10;

// Operands that would do, were it not for the fault.
Registers operands() {
    return {.rax = 1, .rdx = 0, .rcx = a_field, .rdi = VmxProgram::operand()};
}

Code wrapped(client::GuestCode before, const Code& instruction) {
    const client::GuestCode inner{instruction.bytes.data(),
                                  instruction.bytes.data() + instruction.bytes.size()};
    return code(before, inner, root_undefined);
}

Code with_prefix(u8 prefix, const Code& instruction) {
    Code c = instruction;
    c.bytes.insert(c.bytes.begin(), prefix);
    return c;
}

} // namespace

TEST_F(VmxRoot, outside_vmx_operation_they_are_undefined) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        p.prepare();
        for (unsigned round = 0; round < 4; ++round) {
            const bool enabled = round % 2 == 0;
            const std::string when = enabled ? ", outside VMX operation" : ", CR4.VMXE = 0";
            for (const bool user : {false, true}) {
                for (const Instruction& i : instructions(ept_vpid())) {
                    p.add(i.name + when + (user ? ", CPL 3" : ""),
                          user ? wrapped(root_to_user, i.code) : i.code, operands(),
                          faults(undefined_opcode));
                }
                p.add("VMFUNC" + when, user ? wrapped(root_to_user, vmfunc()) : vmfunc(), {},
                      faults(undefined_opcode));
                p.add("VMCALL" + when, user ? wrapped(root_to_user, vmcall()) : vmcall(), {},
                      faults(undefined_opcode));
            }
            p.add("VMXON at CPL 3" + when, wrapped(root_to_user, vmxon()), operands(),
                  faults(enabled ? general_protection : undefined_opcode));
            p.add("CR4.VMXE changed", code(root_flip_vmxe), {}, runs());
        }
        p.vmxon();
        p.expect_current(~u64{0}, "VMPTRST in VMX operation");
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, at_cpl_3_they_are_general_protection_faults) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (unsigned round = 0; round < 2; ++round) {
            const std::string when = round == 0 ? " at CPL 3" : " at CPL 3, no current VMCS";
            for (const Instruction& i : instructions(ept_vpid())) {
                Registers wrong = operands();
                p.add(i.name + when, wrapped(root_to_user, i.code), wrong,
                      faults(i.exists ? general_protection : undefined_opcode));
                wrong.rcx = ~u64{0}; // no field, no type
                p.add(i.name + when + ", other operands", wrapped(root_to_user, i.code), wrong,
                      faults(i.exists ? general_protection : undefined_opcode));
            }
            p.add("VMXON" + when, wrapped(root_to_user, vmxon()), operands(), faults(general_protection));
            p.add("VMCALL" + when, wrapped(root_to_user, vmcall()), operands(), faults(general_protection));
            p.add("VMFUNC" + when, wrapped(root_to_user, vmfunc()), operands(), faults(undefined_opcode));
            p.add("VMFUNC", vmfunc(), operands(), faults(undefined_opcode));
            p.expect_current(round == 0 ? p.physical(vmcs_page) : ~u64{0});
            p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, in_compatibility_mode_they_are_undefined) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        // The guest's GDT, and behind it a code segment of 32 bits and ring 0.
        constexpr u64 descriptors = (client::layout::gdt_limit + 1) / 8, code32 = 0x00cf'9b00'0000'ffff;
        auto gdt = p.guest().read64(client::layout::gdt, descriptors);
        gdt.push_back(code32);
        p.guest().write(VmxProgram::page(descriptor_page),
                        {reinterpret_cast<const u8*>(gdt.data()), gdt.size() * sizeof(u64)});
        p.guest().state.gdtr = {.base = VmxProgram::page(descriptor_page),
                                .limit = static_cast<u32>(gdt.size() * sizeof(u64) - 1),
                                .zero = 0};
        p.enter();
        for (const Instruction& i : instructions(ept_vpid())) {
            p.add(std::string(i.name) + " in compatibility mode", wrapped(root_to_compatibility, i.code),
                  operands(), faults(undefined_opcode));
        }
        for (const auto& [name, c] :
             {std::pair{"VMXON", vmxon()}, {"VMCALL", vmcall()}, {"VMFUNC", vmfunc()}}) {
            p.add(std::string(name) + " in compatibility mode", wrapped(root_to_compatibility, c), operands(),
                  faults(undefined_opcode));
        }
        p.expect_current(p.physical(vmcs_page));
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxRoot, with_a_lock_prefix_they_are_undefined) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (const Instruction& i : instructions(ept_vpid())) {
            p.add(std::string("LOCK ") + i.name, with_prefix(lock_prefix, i.code), operands(),
                  faults(undefined_opcode));
        }
        p.add("LOCK VMXON", with_prefix(lock_prefix, vmxon()), operands(), faults(undefined_opcode));
        p.expect_current(p.physical(vmcs_page));
        p.leave();
        p.run(d);
    });
}

#define REFHV_ROOT_STACK(name, text)                                                                         \
    namespace {                                                                                              \
    GUEST(root_stack_##name, text)                                                                           \
    }
REFHV_ROOT_STACK(vmclear_rbp, "vmclear (%rbp)")
REFHV_ROOT_STACK(vmptrld_rbp, "vmptrld (%rbp)")
REFHV_ROOT_STACK(vmptrst_rbp, "vmptrst (%rbp)")
REFHV_ROOT_STACK(vmread_rbp, "vmread %rcx, (%rbp)")
REFHV_ROOT_STACK(vmwrite_rbp, "vmwrite (%rbp), %rcx")
REFHV_ROOT_STACK(invept_rbp, "invept (%rbp), %rcx")
REFHV_ROOT_STACK(invvpid_rbp, "invvpid (%rbp), %rcx")
REFHV_ROOT_STACK(vmxon_rbp, "vmxon (%rbp)")
REFHV_ROOT_STACK(load_rbp, "mov %rdi, %rbp")
#undef REFHV_ROOT_STACK

TEST_F(VmxRoot, operands_that_are_not_canonical) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        struct OnStack {
            const char* name;
            client::GuestCode code;
            u64 rcx;
            bool exists;
        };
        const bool ept = (ept_vpid() >> 20 & 1) != 0 && (ept_vpid() >> 26 & 1) != 0,
                   vpid = (ept_vpid() >> 32 & 1) != 0 && (ept_vpid() >> 42 & 1) != 0;
        const OnStack on_stack[] = {{"VMCLEAR", root_stack_vmclear_rbp, 0, true},
                                    {"VMPTRLD", root_stack_vmptrld_rbp, 0, true},
                                    {"VMPTRST", root_stack_vmptrst_rbp, 0, true},
                                    {"VMREAD", root_stack_vmread_rbp, a_field, true},
                                    {"VMWRITE", root_stack_vmwrite_rbp, a_field, true},
                                    {"INVEPT", root_stack_invept_rbp, 2, ept},
                                    {"INVVPID", root_stack_invvpid_rbp, 2, vpid}};
        p.prepare();
        for (const u64 address : non_canonical) {
            p.add("VMXON of memory at " + hex(address), vmxon(), {.rdi = address},
                  faults(general_protection));
            p.add("VMXON of memory at RBP = " + hex(address), code(root_stack_load_rbp, root_stack_vmxon_rbp),
                  {.rdi = address}, faults(stack_fault));
        }
        p.vmxon();
        p.make_current();
        for (const u64 address : non_canonical) {
            for (const Instruction& i : instructions(ept_vpid())) {
                if (i.operand == Instruction::Operand::none || !i.exists) {
                    continue;
                }
                const u64 rcx = i.bytes == 16 ? 2 : a_field;
                p.add(i.name + (" of memory at " + hex(address)), i.code, {.rcx = rcx, .rdi = address},
                      faults(general_protection));
            }
            for (const OnStack& i : on_stack) {
                if (i.exists) {
                    p.add(i.name + (" of memory at RBP = " + hex(address)), code(root_stack_load_rbp, i.code),
                          {.rcx = i.rcx, .rdi = address}, faults(stack_fault));
                }
            }
        }
        p.expect_current(p.physical(vmcs_page));
        p.leave();
        p.run(d);
    });
}

// A page that is not there behind one that is, and one without permission to write: operands at the edges.
TEST_F(VmxRoot, operands_that_meet_page_faults) {
    root_claim("SDM 3C 31.3", [&](VmxProgram& p, Differences& d) {
        constexpr u64 entries = REFHV_ARENA_ENTRY, not_present = 0x66, read_only = 0x65;
        constexpr u32 write_fault = 2, protection_fault = 3;
        p.guest().fill(entries + 8 * hole_page, VmxProgram::page(hole_page) | not_present, 0, 1, true);
        p.guest().fill(entries + 8 * read_only_page, VmxProgram::page(read_only_page) | read_only, 0, 1,
                       true);
        p.enter();
        // What each reads, on both pages that it may read.
        const u64 address = p.physical(other_page);
        const u64 edge = VmxProgram::page(hole_page), read_only_at = VmxProgram::page(read_only_page);
        for (const u64 page : {edge_page, read_only_page}) {
            const std::vector<u64> operands(512, address);
            p.guest().write(VmxProgram::page(page),
                            {reinterpret_cast<const u8*>(operands.data()), page_size});
        }
        for (const Instruction& i : instructions(ept_vpid())) {
            if (i.operand == Instruction::Operand::none || !i.exists) {
                continue;
            }
            const bool writes = i.operand == Instruction::Operand::write;
            const u64 rcx = i.bytes == 16 ? 2 : a_field;
            const u32 error = writes ? write_fault : 0;
            for (const u64 inside : {u64{0}, u64{1}, u64{4}, u64{i.bytes} - 1}) {
                p.add(i.name + (", " + std::to_string(inside) + " bytes before a hole"), i.code,
                      {.rcx = rcx, .rdi = edge - inside}, faults(page_fault, error));
            }
            const bool offered = i.bytes == 8 || (ept_vpid() >> (i.name[3] == 'E' ? 26 : 42) & 1) != 0;
            if (offered) {
                // INVVPID finds an address where a VPID is due.
                const End read =
                    i.name == std::string("INVVPID") ? fails(vm_error::invalidate_operand) : succeeds();
                p.add(i.name + std::string(", up to the hole"), i.code, {.rcx = rcx, .rdi = edge - i.bytes},
                      read);
                p.add(i.name + std::string(" on a page that is read-only"), i.code,
                      {.rcx = rcx, .rdi = read_only_at},
                      writes ? faults(page_fault, protection_fault) : read);
            }
            p.with_address("VMPTRLD", vmptrld_of_rax(), p.physical(vmcs_page), succeeds());
        }
        p.leave();
        p.run(d);
    });
}

// Faults of a memory destination come behind the checks of the pointer and of the field.
TEST_F(VmxRoot, vmread_looks_at_the_field_before_its_memory) {
    root_claim("SDM 3C 31.3 VMREAD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const u64 unmapped = REFHV_UNMAPPED;
        p.add("VMREAD of a field to memory that is not there", vmread_memory(),
              {.rcx = a_field, .rdi = unmapped}, faults(page_fault, 2));
        p.add("VMREAD of no field to memory that is not there", vmread_memory(),
              {.rcx = ~u64{0}, .rdi = unmapped}, fails(vm_error::unsupported_component));
        p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
        p.add("VMREAD to memory that is not there, no current VMCS", vmread_memory(),
              {.rcx = a_field, .rdi = unmapped}, invalid());
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
