// SPDX-License-Identifier: MIT
// What VMSAVE and VMLOAD move (APM 2 15.5.2), and the MSRs of SVM (APM 2 15.30).
#include "conformance/operations/svm_case.hpp"
#include "refhv/x86/registers.hpp"

#include <algorithm>

namespace refhv::front::root {

using namespace svm_code;

namespace {

namespace m = x86::msr;

// Of the VMCB, and the MSR behind it. Bits: what a CPU keeps of it.
struct Moved {
    const char* name;
    u64 offset;
    u32 msr;
    u64 value;
};
constexpr Moved moved[] = {{"FS.base", 0x448, m::fs_base, 0x1234'5678'9abc},
                           {"GS.base", 0x458, m::gs_base, 0xffff'9234'5678'9abc},
                           {"STAR", 0x600, m::star, 0x1234'5678'9abc'def0},
                           {"LSTAR", 0x608, m::lstar, 0xffff'8123'4567'89ab},
                           {"CSTAR", 0x610, m::cstar, 0x7edc'ba98'7654},
                           {"SFMASK", 0x618, m::sfmask, 0x8765'4321},
                           {"KernelGsBase", 0x620, m::kernel_gs_base, 0xffff'fedc'ba98'7654},
                           {"SYSENTER_CS", 0x628, m::sysenter_cs, 0x4321},
                           {"SYSENTER_ESP", 0x630, m::sysenter_esp, 0x1357'9bdf},
                           {"SYSENTER_EIP", 0x638, m::sysenter_eip, 0x2468'ace0}};
// Segments of 16 bytes each: FS, GS, LDTR, TR.
constexpr u64 segments[] = {0x440, 0x450, 0x470, 0x490};
constexpr u64 pattern = 0xa5a5'5a5a'c3c3'3c3c;

constexpr u64 vm_cr_lock = 1u << 3, svmdis = 1u << 4;

// VM_CR as it is. Without SVM-Lock its SVMDIS is read-only.
u64 writable_vm_cr() {
    const auto& hello = Session::get().hello();
    constexpr u32 svm_leaf = 0x8000'000a;
    constexpr unsigned svm_lock = 2;
    if ((cpuid(hello, svm_leaf, 0, 3) >> svm_lock & 1) == 0) {
        throw client::Refused(abi::Op::hello, abi::Outcome::unsupported,
                              "no SVM-Lock (CPUID.8000000AH:EDX[2]): VM_CR.SVMDIS is read-only");
    }
    return msr(hello, m::vm_cr);
}

bool is_moved(u64 offset) {
    return std::ranges::any_of(segments, [&](u64 s) { return offset >= s && offset < s + 16; }) ||
           (offset >= 0x600 && offset < 0x640);
}

// #GP(0), and the MSR as it was; where that fails, it is so again.
void refuse_save_area(SvmProgram& p, u64 address, u64 area) {
    p.write_msr(m::vm_hsave_pa, address, faults(general_protection));
    p.expect_msr(m::vm_hsave_pa, area, "VM_HSAVE_PA behind it");
    p.write_msr(m::vm_hsave_pa, area);
}

} // namespace

TEST_F(SvmHost, vmsave_stores_the_state_that_vmload_loads) {
    host_claim("APM 2 15.5.2", [&](SvmProgram& p, Differences& d) {
        const u64 page = SvmProgram::page(odd_page);
        const std::vector<u64> filled(page_size / 8, pattern);
        p.guest().write(page, {reinterpret_cast<const u8*>(filled.data()), page_size});
        p.enable();
        for (const Moved& f : moved) {
            p.write_msr(f.msr, f.value);
        }
        p.add("VMSAVE", vmsave(), {.rax = p.physical(odd_page)}, keeps_flags());
        for (const Moved& f : moved) {
            p.add(std::string(f.name) + " in the VMCB", load64(), {.rdi = page + f.offset}, holds(f.value));
        }
        for (const Moved& f : moved) {
            p.write_msr(f.msr, 0);
            p.expect_msr(f.msr, 0, std::string(f.name) + ", cleared");
        }
        p.add("VMLOAD", vmload(), {.rax = p.physical(odd_page)}, keeps_flags());
        for (const Moved& f : moved) {
            p.expect_msr(f.msr, f.value, std::string(f.name) + " behind VMLOAD");
        }
        p.disable();
        p.run(d);
        const auto words = p.guest().read64(page, page_size / 8);
        for (u64 offset = 0; offset < page_size; offset += 8) {
            if (!is_moved(offset) && words[offset / 8] != pattern) {
                d.add("VMSAVE writes at offset ", std::hex, offset, ": ", words[offset / 8]);
            }
        }
    });
}

// Segments too: selectors, attributes and limits come back in the next VMSAVE.
TEST_F(SvmHost, vmload_loads_hidden_segment_state) {
    host_claim("APM 2 15.5.2", [&](SvmProgram& p, Differences& d) {
        struct Parts {
            u64 selector, attributes, limit, base;
        };
        // FS and GS with every attribute that they observe; LDTR; TR a busy TSS.
        constexpr Parts variants[][4] = {{{0x23, 0xcf3, 0xffff'ffff, 0x7000},
                                          {0x2b, 0x493, 0x1234, 0xffff'8000'0000'1000},
                                          {0x50, 0x082, 0xff, 0x1'2345'6000},
                                          {0x58, 0x08b, 0x67, 0xffff'8000'1234'5000}},
                                         {{0x10, 0x093, 0xfffff, 0},
                                          {0x33, 0xc91, 0xf'ffff, 0x5555'5555'5000},
                                          {0x60, 0x082, 0xffff, 0xffff'ffff'ffff'f000},
                                          {0x68, 0x08b, 0x2067, 0x1000}}};
        p.enable();
        for (const auto& variant : variants) {
            p.add("VMSAVE", vmsave(), {.rax = p.physical(odd_page)}, keeps_flags());
            for (usize i = 0; i < 4; ++i) {
                const Parts& s = variant[i];
                const u64 low = s.selector | s.attributes << 16 | s.limit << 32;
                const u64 at = SvmProgram::page(odd_page) + segments[i];
                p.store(at, low);
                p.store(at + 8, s.base);
            }
            p.add("VMLOAD", vmload(), {.rax = p.physical(odd_page)}, keeps_flags());
            p.add("VMSAVE", vmsave(), {.rax = p.physical(empty_page)}, keeps_flags());
            for (usize i = 0; i < 4; ++i) {
                const Parts& s = variant[i];
                constexpr const char* names[] = {"FS", "GS", "LDTR", "TR"};
                const u64 at = SvmProgram::page(empty_page) + segments[i];
                p.add(std::string(names[i]) + ": selector, attributes, limit", load64(), {.rdi = at},
                      holds(s.selector | s.attributes << 16 | s.limit << 32));
                p.add(std::string(names[i]) + ": base", load64(), {.rdi = at + 8}, holds(s.base));
            }
            p.add("VMLOAD", vmload(), {.rax = p.physical(kept_page)}, keeps_flags());
        }
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, vm_hsave_pa_takes_aligned_addresses) {
    host_claim("APM 2 15.30.4", [&](SvmProgram& p, Differences& d) {
        p.enable();
        const u64 area = p.physical(save_page);
        for (unsigned bit = 0; bit < 12; ++bit) {
            refuse_save_area(p, area | u64{1} << bit, area);
        }
        for (const u64 other : {u64{0}, p.physical(odd_page), area}) {
            p.write_msr(m::vm_hsave_pa, other);
            p.expect_msr(m::vm_hsave_pa, other, "VM_HSAVE_PA");
        }
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, vm_hsave_pa_takes_no_address_bit_that_the_cpu_has_not) {
    host_claim("APM 2 15.30.4", [&](SvmProgram& p, Differences& d) {
        p.enable();
        const u64 area = p.physical(save_page);
        for (unsigned bit = p.physical_bits(); bit < 64; ++bit) {
            refuse_save_area(p, area | u64{1} << bit, area);
        }
        p.write_msr(m::vm_hsave_pa, area);
        p.expect_msr(m::vm_hsave_pa, area, "VM_HSAVE_PA");
        p.disable();
        p.run(d);
    });
}

// Whether SVM is enabled or not.
TEST_F(SvmHost, the_msrs_of_svm_can_be_read) {
    host_claim("APM 2 15.30", [&](SvmProgram& p, Differences& d) {
        for (const bool enabled : {true, false}) {
            if (enabled) {
                p.enable();
            }
            const std::string when = enabled ? ", EFER.SVME = 1" : ", EFER.SVME = 0";
            p.add("RDMSR of VM_CR" + when, rdmsr(), {.rcx = m::vm_cr}, runs());
            p.add("RDMSR of VM_HSAVE_PA" + when, rdmsr(), {.rcx = m::vm_hsave_pa}, runs());
            p.disable();
        }
        p.run(d);
    });
}

// Whatever VM_CR.LOCK is.
TEST_F(SvmHost, vm_cr_svmdis_cannot_be_set_while_svm_is_enabled) {
    host_claim("APM 2 15.30.1, 15.31", [&](SvmProgram& p, Differences& d) {
        const u64 vm_cr = writable_vm_cr();
        p.enable();
        p.write_msr(m::vm_cr, vm_cr);
        p.write_msr(m::vm_cr, vm_cr | svmdis, faults(general_protection));
        p.expect_msr(m::vm_cr, vm_cr, "VM_CR behind it");
        p.write_msr(m::vm_cr, vm_cr); // where it was set all the same
        p.disable();
        p.run(d);
    });
}

TEST_F(SvmHost, vm_cr_svmdis_forbids_efer_svme) {
    host_claim("APM 2 15.30.1, 15.31", [&](SvmProgram& p, Differences& d) {
        const u64 vm_cr = writable_vm_cr(), efer = msr(hello(), m::efer) & ~x86::efer::svme;
        if ((vm_cr & vm_cr_lock) != 0) {
            GTEST_SKIP() << "VM_CR.LOCK is set";
        }
        p.write_msr(m::vm_cr, vm_cr | svmdis);
        p.expect_msr(m::vm_cr, vm_cr | svmdis, "VM_CR.SVMDIS");
        p.write_msr(m::efer, efer | x86::efer::svme, faults(general_protection));
        p.expect_msr(m::efer, efer, "EFER behind it");
        p.write_msr(m::efer, efer);
        p.write_msr(m::vm_cr, vm_cr);
        p.expect_msr(m::vm_cr, vm_cr, "VM_CR, SVMDIS cleared");
        p.write_msr(m::efer, efer | x86::efer::svme);
        p.expect_msr(m::efer, efer | x86::efer::svme, "EFER.SVME");
        p.write_msr(m::efer, efer);
        p.run(d);
    });
}

} // namespace refhv::front::root
