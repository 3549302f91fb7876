// SPDX-License-Identifier: MIT
// VMLAUNCH and VMRESUME: launch state, MOV SS, and what comes first. Host and guest are the same program; the
// guest is one VMCALL.
#include "conformance/operations/vmx_case.hpp"
#include "refhv/front/controls.hpp"
#include "refhv/x86/registers.hpp"

#include <random>

namespace refhv::front::root {

using namespace vmx_code;

namespace {

constexpr u64 marker = 0xe417;
constexpr u32 exit_reason = 0x4402;
constexpr u64 reason_vmcall = 18, reason_guest_state = 0x8000'0021;

GUEST(root_host_rip, "mov $0xe417, %eax")
GUEST(root_guest_rip, "vmcall\n ud2")

// Registers of the program itself, put into field RCX.
GUEST(root_cr0_to_field, "mov %cr0, %rax\n vmwrite %rax, %rcx")
GUEST(root_cr3_to_field, "mov %cr3, %rax\n vmwrite %rax, %rcx")
GUEST(root_cr4_to_field, "mov %cr4, %rax\n vmwrite %rax, %rcx")
GUEST(root_tr_to_field, "str %eax\n vmwrite %rax, %rcx")
GUEST(root_ds_to_field, "mov %ds, %eax\n vmwrite %rax, %rcx")
GUEST(root_es_to_field, "mov %es, %eax\n vmwrite %rax, %rcx")
GUEST(root_fs_to_field, "mov %fs, %eax\n vmwrite %rax, %rcx")
GUEST(root_gs_to_field, "mov %gs, %eax\n vmwrite %rax, %rcx")
GUEST(root_gdt_to_field, "sgdt -16(%rsp)\n mov -14(%rsp), %rax\n vmwrite %rax, %rcx")
GUEST(root_idt_to_field, "sidt -16(%rsp)\n mov -14(%rsp), %rax\n vmwrite %rax, %rcx")
GUEST(root_rsp_to_field, "mov %rsp, %rax\n vmwrite %rax, %rcx")
GUEST(root_msr_to_field, "mov %rcx, %rbx\n mov %edi, %ecx\n rdmsr\n shl $32, %rdx\n or %rdx, %rax\n"
                         "vmwrite %rax, %rbx")

} // namespace

class VmxEntry : public VmxRoot {
  protected:
    // In VMX operation, the current VMCS one that enters.
    static void fill(VmxProgram& p) {
        const auto write = [&](u32 field, u64 value) {
            p.add("VMWRITE to " + hex(field), vmwrite(), {.rax = value, .rcx = field}, succeeds());
        };
        const auto copy = [&](client::GuestCode from, u32 field, u64 of = 0) {
            p.add("VMWRITE to " + hex(field), code(from), {.rcx = field, .rdi = of}, runs());
        };
        const auto adjusted = [&](u32 msr_index, u64 wanted) {
            const u64 allowed = msr(hello(), msr_index);
            return (wanted | (allowed & 0xffff'ffff)) & allowed >> 32;
        };
        namespace m = x86::msr;
        const bool is_true = (msr(hello(), m::vmx_basic) >> 55 & 1) != 0;
        constexpr u64 host_64 = 1u << 9, guest_ia32e = 1u << 9;
        write(vmcs::pin_controls, adjusted(is_true ? m::vmx_true_pin : m::vmx_pin, 0));
        write(vmcs::proc_controls, adjusted(is_true ? m::vmx_true_proc : m::vmx_proc, 0));
        write(vmcs::exit_controls, adjusted(is_true ? m::vmx_true_exit : m::vmx_exit, host_64));
        write(vmcs::entry_controls, adjusted(is_true ? m::vmx_true_entry : m::vmx_entry, guest_ia32e));
        for (const u32 zero : {0x4004u, 0x4006u, 0x4008u, 0x400au, 0x400eu, 0x4010u, 0x4014u, 0x4016u,
                               0x6000u, 0x6002u, 0x2802u, 0x4824u, 0x4826u, 0x6822u}) {
            write(zero, 0);
        }
        write(vmcs::link_pointer, ~u64{0});
        // Selectors of ES, CS, SS, DS, FS, GS, LDTR and TR in both areas.
        for (const u32 field : {0x0800u, 0x0804u, 0x0806u}) {
            write(field, client::layout::data);
        }
        write(0x0802, client::layout::code64);
        for (const u32 field : {0x0808u, 0x080au, 0x080cu}) {
            write(field, 0);
        }
        write(0x080e, client::layout::task);
        copy(root_es_to_field, 0x0c00);
        write(0x0c02, client::layout::code64);
        write(0x0c04, client::layout::data);
        copy(root_ds_to_field, 0x0c06);
        copy(root_fs_to_field, 0x0c08);
        copy(root_gs_to_field, 0x0c0a);
        copy(root_tr_to_field, 0x0c0c);
        constexpr u64 code_rights = 0xa09b, data_rights = 0xc093, unusable = 0x1'0000, tss_rights = 0x8b;
        const u64 rights[8] = {data_rights, code_rights, data_rights, data_rights,
                               unusable,    unusable,    unusable,    tss_rights};
        for (u32 i = 0; i < 8; ++i) {
            write(0x4800 + 2 * i, i == 7 ? 0x67 : 0xffff'ffff);
            write(0x4814 + 2 * i, rights[i]);
            write(0x6806 + 2 * i, i == 7 ? client::layout::tss : 0);
        }
        copy(root_gdt_to_field, 0x6816);
        copy(root_idt_to_field, 0x6818);
        copy(root_gdt_to_field, 0x6c0c);
        copy(root_idt_to_field, 0x6c0e);
        write(0x4810, 0xffff);
        write(0x4812, 0xffff);
        for (const u32 area : {0x6800u, 0x6c00u}) {
            copy(root_cr0_to_field, area);
            copy(root_cr3_to_field, area + 2);
            copy(root_cr4_to_field, area + 4);
        }
        copy(root_msr_to_field, 0x6c06, m::fs_base);
        copy(root_msr_to_field, 0x6c08, m::gs_base);
        write(0x6c0a, client::layout::tss);
        for (const auto& [index, guest, host] : {std::tuple{m::sysenter_cs, 0x482au, 0x4c00u},
                                                 {m::sysenter_esp, 0x6824u, 0x6c10u},
                                                 {m::sysenter_eip, 0x6826u, 0x6c12u}}) {
            copy(root_msr_to_field, guest, index);
            copy(root_msr_to_field, host, index);
        }
        write(0x681a, 0x400); // DR7
        copy(root_rsp_to_field, 0x681c);
        copy(root_rsp_to_field, 0x6c14); // where the return address of each step is
        write(0x681e, p.place(code(root_guest_rip)));
        write(0x6820, 2);
        write(0x6c16, p.place(code(root_host_rip)));
    }
    // An entry that comes to the VMCALL and back, whose reason this is.
    static void exits(VmxProgram& p, const std::string& what, const Code& entry, u64 reason = reason_vmcall) {
        p.add(what, entry, {}, holds(marker));
        p.add("exit reason behind " + what, vmread(), {.rcx = exit_reason}, reads(reason));
    }
    static void load(VmxProgram& p, u64 number) {
        p.with_address("VMPTRLD", vmptrld_of_rax(), p.physical(number), succeeds());
    }
    static void write(VmxProgram& p, u32 field, u64 value) {
        p.add("VMWRITE to " + hex(field), vmwrite(), {.rax = value, .rcx = field}, succeeds());
    }
};

TEST_F(VmxEntry, vmlaunch_wants_a_clear_and_vmresume_a_launched_vmcs) {
    root_claim("SDM 3C 27.1, 31.3 VMLAUNCH/VMRESUME", [&](VmxProgram& p, Differences& d) {
        p.enter();
        fill(p);
        for (unsigned round = 0; round < 3; ++round) {
            p.add("VMRESUME of a clear VMCS", vmresume(), {}, fails(vm_error::vmresume_non_launched));
            exits(p, "VMLAUNCH of a clear VMCS", vmlaunch());
            p.add("VMLAUNCH of a launched VMCS", vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
            exits(p, "VMRESUME of a launched VMCS", vmresume());
            p.add("VMLAUNCH of a launched VMCS", vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
            exits(p, "VMRESUME of a launched VMCS again", vmresume());
            p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
            p.add("VMRESUME, no current VMCS", vmresume(), {}, invalid());
            load(p, vmcs_page);
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxEntry, the_launch_state_is_the_vmcss_own) {
    root_claim("SDM 3C 25.1, 25.11.3, 31.3 VMCLEAR, VMPTRLD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        fill(p);
        p.make_current(other_page);
        fill(p);
        exits(p, "VMLAUNCH of the second", vmlaunch());
        load(p, vmcs_page);
        p.add("VMRESUME of the first, not launched", vmresume(), {}, fails(vm_error::vmresume_non_launched));
        load(p, other_page);
        p.add("VMLAUNCH of the second, launched", vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
        exits(p, "VMRESUME of the second", vmresume());
        load(p, vmcs_page);
        exits(p, "VMLAUNCH of the first", vmlaunch());
        p.with_address("VMCLEAR of the second", vmclear_of_rax(), p.physical(other_page), succeeds());
        exits(p, "VMRESUME of the first", vmresume());
        load(p, other_page);
        p.add("VMRESUME of the second, cleared", vmresume(), {}, fails(vm_error::vmresume_non_launched));
        exits(p, "VMLAUNCH of the second, cleared", vmlaunch());
        load(p, other_page);
        exits(p, "VMRESUME of the second, loaded while it was current", vmresume());
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxEntry, behind_mov_ss_neither_enters) {
    root_claim("SDM 3C 27.1, 31.3 VMLAUNCH/VMRESUME", [&](VmxProgram& p, Differences& d) {
        p.enter();
        fill(p);
        p.add("VMLAUNCH behind MOV SS", vmlaunch_behind_mov_ss(), {}, fails(vm_error::entry_mov_ss));
        p.add("VMRESUME behind MOV SS, not launched", vmresume_behind_mov_ss(), {},
              fails(vm_error::entry_mov_ss));
        exits(p, "VMLAUNCH", vmlaunch());
        p.add("VMLAUNCH behind MOV SS, launched", vmlaunch_behind_mov_ss(), {},
              fails(vm_error::entry_mov_ss));
        p.add("VMRESUME behind MOV SS", vmresume_behind_mov_ss(), {}, fails(vm_error::entry_mov_ss));
        exits(p, "VMRESUME", vmresume());
        p.leave();
        p.run(d);
    });
}

// The launch state is looked at before the controls and the host, and a refused entry does not change it.
TEST_F(VmxEntry, an_entry_that_is_refused_leaves_the_launch_state) {
    root_claim("SDM 3C 27.1, 27.8, 31.3 VMLAUNCH/VMRESUME", [&](VmxProgram& p, Differences& d) {
        constexpr u32 cr3_targets = 0x400a, host_cs = 0x0c02, guest_activity = 0x4826;
        constexpr u32 host_state = 8;
        struct Spoilt {
            const char* what;
            u32 field;
            u64 bad, good;
            u32 error; // 0: an entry failure that exits
        };
        const Spoilt spoilt[] = {{"controls", cr3_targets, 0xffff, 0, vm_error::entry_controls},
                                 {"host state", host_cs, 0, client::layout::code64, host_state},
                                 {"guest state", guest_activity, 0xffff, 0, 0}};
        p.enter();
        fill(p);
        for (const Spoilt& s : spoilt) {
            const std::string with = std::string(", wrong ") + s.what;
            const auto refuse = [&](const Code& entry, const std::string& name) {
                if (s.error != 0) {
                    p.add(name + with, entry, {}, fails(s.error));
                } else {
                    exits(p, name + with, entry, reason_guest_state);
                }
            };
            write(p, s.field, s.bad);
            p.add("VMRESUME, not launched" + with, vmresume(), {}, fails(vm_error::vmresume_non_launched));
            p.add("VMLAUNCH behind MOV SS" + with, vmlaunch_behind_mov_ss(), {},
                  fails(vm_error::entry_mov_ss));
            refuse(vmlaunch(), "VMLAUNCH");
            p.add("VMRESUME behind it" + with, vmresume(), {}, fails(vm_error::vmresume_non_launched));
            refuse(vmlaunch(), "VMLAUNCH again");
            write(p, s.field, s.good);
            exits(p, "VMLAUNCH, mended" + with, vmlaunch());
            write(p, s.field, s.bad);
            p.add("VMLAUNCH, launched" + with, vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
            refuse(vmresume(), "VMRESUME");
            p.add("VMLAUNCH behind it" + with, vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
            write(p, s.field, s.good);
            exits(p, "VMRESUME, mended" + with, vmresume());
            p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
            load(p, vmcs_page);
        }
        p.leave();
        p.run(d);
    });
}

// Three VMCSs under instructions at random, held against a model: what is current, who is launched, and the
// field that each has written.
TEST_F(VmxEntry, random_sequences_follow_the_model) {
    root_claim("SDM 3C 25.1, 25.11.3, 27.1, 31.3", [&](VmxProgram& p, Differences& d) {
        constexpr u64 pages[] = {vmcs_page, other_page, third_page}, none = 3;
        constexpr u32 a_field = 0x6004; // CR0 read shadow, of no effect here
        std::mt19937_64 random{2'711};
        p.enter();
        u64 written[3] = {};
        bool launched[3] = {};
        u64 current = 0;
        for (u64 i = 0; i < 3; ++i, ++current) {
            p.make_current(pages[i]);
            fill(p);
            write(p, a_field, 0);
        }
        for (current = 2; p.size() < VmxProgram::most_steps - 100;) {
            const u64 which = random() % 3, what = random() % 8;
            const std::string step = "step " + std::to_string(p.size());
            const bool is_launched = current != none && launched[current];
            if (what == 0) {
                p.with_address(step + ", VMCLEAR", vmclear_of_rax(), p.physical(pages[which]), succeeds());
                launched[which] = false;
                current = current == which ? none : current;
            } else if (what <= 2) {
                load(p, pages[which]);
                current = which;
            } else if (what == 3) {
                p.expect_current(current == none ? ~u64{0} : p.physical(pages[current]), step + ", VMPTRST");
            } else if (current == none) {
                p.add(step + ", no current VMCS", what < 6 ? vmlaunch() : vmresume(), {}, invalid());
            } else if (what == 4) {
                written[current] = random();
                write(p, a_field, written[current]);
            } else if (what == 5) {
                p.add(step + ", VMREAD", vmread(), {.rcx = a_field}, reads(written[current]));
            } else if (what == 6) {
                if (is_launched) {
                    p.add(step + ", VMLAUNCH", vmlaunch(), {}, fails(vm_error::vmlaunch_non_clear));
                } else {
                    exits(p, step + ", VMLAUNCH", vmlaunch());
                }
                launched[current] = true;
            } else if (is_launched) {
                exits(p, step + ", VMRESUME", vmresume());
            } else {
                p.add(step + ", VMRESUME", vmresume(), {}, fails(vm_error::vmresume_non_launched));
            }
        }
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
