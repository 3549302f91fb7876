// SPDX-License-Identifier: MIT
// Registers that neither vendor's world switch carries for us: swapped once around a run, not at every exit.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/x86/intrinsics.hpp"
#include "refhv/x86/pkru.hpp"

namespace refhv::x86 {

// What the CPU has, decided once.
struct Features {
    bool tsc_aux; // RDTSCP or RDPID
    bool xsave;   // CR4.OSXSAVE may be set
    bool xsaves;  // IA32_XSS
    bool xfd;     // IA32_XFD
    bool pkru;    // protection keys

    [[nodiscard]] static Features detect() {
        const bool extended = cpuid(0x8000'0000).eax >= 0x8000'0001;
        return {.tsc_aux = extended && (cpuid(0x8000'0001).edx >> 27 & 1) != 0,
                .xsave = (cpuid(1).ecx >> 26 & 1) != 0,
                .xsaves = cpuid(0).eax >= 0xd && (cpuid(0xd, 1).eax >> 3 & 1) != 0,
                .xfd = cpuid(0).eax >= 0xd && (cpuid(0xd, 1).eax >> 4 & 1) != 0,
                .pkru = cpuid(0).eax >= 7 && (cpuid(7).ecx >> 3 & 1) != 0};
    }
};

// The guest's values between runs, the host's during one.
struct SwitchedRegisters {
    u64 cr2, cr8, dr[4], dr6, xcr0;
    u64 star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    u64 host_xcr0; // during a run
    // No part of abi::GuestState: 0 at first, then what the guest makes it.
    u64 xss, xfd_err;
    u32 pkru;

    void from(const abi::GuestState& s) {
        cr2 = s.cr2;
        cr8 = s.cr8;
        __builtin_memcpy(dr, s.dr, sizeof dr);
        dr6 = s.dr6;
        xcr0 = s.xcr0;
        star = s.star;
        lstar = s.lstar;
        cstar = s.cstar;
        sfmask = s.sfmask;
        kernel_gs_base = s.kernel_gs_base;
        tsc_aux = s.tsc_aux;
        xss = xfd_err = 0;
        pkru = 0;
    }

    void to(abi::GuestState& s) const {
        s.cr2 = cr2;
        s.cr8 = cr8;
        __builtin_memcpy(s.dr, dr, sizeof dr);
        s.dr6 = dr6;
        s.xcr0 = xcr0;
        s.star = star;
        s.lstar = lstar;
        s.cstar = cstar;
        s.sfmask = sfmask;
        s.kernel_gs_base = kernel_gs_base;
        s.tsc_aux = tsc_aux;
    }

    // Around a run: what no world switch carries.
    void load_uncarried(const Features& has) {
        exchange_uncarried(has);
        load_xcr0();
    }
    void unload_uncarried(const Features& has) {
        exchange_uncarried(has);
        unload_xcr0();
    }
    // The guest's CR8 in the CPU's: for those whom nothing interrupts that the host must hear of.
    void exchange_cr8() {
        const u64 mine = cr8;
        cr8 = read_cr8();
        write_cr8(mine);
    }
    // What SVM's VMCB carries.
    void exchange_carried_by_vmcb() {
        exchange_msr(msr::star, star);
        exchange_msr(msr::lstar, lstar);
        exchange_msr(msr::cstar, cstar);
        exchange_msr(msr::sfmask, sfmask);
        exchange_msr(msr::kernel_gs_base, kernel_gs_base);
    }
    void exchange_pkru(const Features& has) {
        if (!has.pkru) {
            return;
        }
        const u32 mine = pkru;
        pkru = read_pkru();
        if (pkru != mine) {
            write_pkru(mine);
        }
    }

    // What the guest's XCR0 is during a run.
    [[nodiscard]] u64 run_xcr0() const {
        const bool on = (read_cr4() & cr4::osxsave) != 0;
        return xcr0 != 0 || !on ? xcr0 : xgetbv();
    }

  private:
    void exchange_uncarried(const Features& has) {
        exchange_debug_and_cr2();
        if (has.tsc_aux) {
            exchange_msr(msr::tsc_aux, tsc_aux);
        }
        // XSAVES and XRSTORS of a guest reach the components that IA32_XSS names, which are MSRs of the host:
        // none.
        if (has.xsaves) {
            exchange_msr(msr::xss, xss);
        }
        // IA32_XFD stays the host's, and where it disables a component the guest's #NM tells here (SDM 1
        // 13.14).
        if (has.xfd) {
            exchange_msr(msr::xfd_err, xfd_err);
        }
    }

    void exchange_debug_and_cr2() {
        const SwitchedRegisters mine = *this;
        cr2 = read_cr2();
        dr[0] = read_dr0();
        dr[1] = read_dr1();
        dr[2] = read_dr2();
        dr[3] = read_dr3();
        dr6 = read_dr6();
        write_cr2(mine.cr2);
        write_dr0(mine.dr[0]);
        write_dr1(mine.dr[1]);
        write_dr2(mine.dr[2]);
        write_dr3(mine.dr[3]);
        write_dr6(mine.dr6);
    }

    // XCR0 only where the host itself has turned XSAVE on; 0 is no legal value and means the host's. It comes
    // back either way: an XSETBV may not have exited.
    void load_xcr0() {
        if ((read_cr4() & cr4::osxsave) != 0) {
            host_xcr0 = xgetbv();
            if (xcr0 != 0 && xcr0 != host_xcr0) {
                xsetbv(0, xcr0);
            }
        }
    }
    void unload_xcr0() {
        if ((read_cr4() & cr4::osxsave) != 0) {
            const u64 theirs = xgetbv();
            if (theirs != host_xcr0) {
                xsetbv(0, host_xcr0);
            }
            xcr0 = xcr0 == 0 && theirs == host_xcr0 ? 0 : theirs;
        }
    }

    static void exchange_msr(u32 index, u64& value) {
        const u64 mine = value;
        value = rdmsr(index);
        if (value != mine) {
            wrmsr(index, mine);
        }
    }
};

} // namespace refhv::x86
