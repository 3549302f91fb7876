// SPDX-License-Identifier: MIT
// The host's safety floor on SVM: what of the VMCB is the host's. It is laid over everything else at every
// begin; what a platform permits (refhv/core/platform.hpp) is left out.
#pragma once

#include "refhv/core/platform.hpp"
#include "refhv/svm/vmcb.hpp"
#include "refhv/vcpu/owned.hpp"
#include "refhv/x86/exceptions.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::svm {

struct Floor {
    Owned intercept_1, intercept_2, exceptions, cr_read, cr_write, interrupt_control, nested_control,
        extensions;
    u64 denied_cr4 = 0; // bits that a guest never has
    u64 host_cr4 = 0;   // bits that are the host's while the guest believes in its own: MCE
    bool own_asid = false;

    [[nodiscard]] static Floor of(Permissions permissions, bool nested) {
        using namespace x86;
        Floor f;
        if (!permissions.has(Permit::interrupts)) {
            f.intercept_1.set = intercept_1::intr | intercept_1::nmi | intercept_1::smi | intercept_1::init;
            f.interrupt_control.set = interrupt_control::v_intr_masking;
        }
        // #DB and #AC can be met again in their own delivery, for ever and with no exit in between
        // (CVE-2015-8104, CVE-2015-5307).
        if (!permissions.has(Permit::exceptions)) {
            f.exceptions.set = vector_bit(vector::debug) | vector_bit(vector::alignment_check);
        }
        // INVD throws away what the caches hold of the host's memory, too (APM 3, INVD).
        if (!permissions.has(Permit::cache_control)) {
            f.intercept_1.set |= intercept_1::invd;
        }
        // A VMCB has no read shadow of CR4, so that reads exit with the writes.
        constexpr u64 cr4 = 1u << 4;
        if (!permissions.has(Permit::machine_checks)) {
            f.exceptions.set |= vector_bit(vector::machine_check);
            f.host_cr4 = cr4::mce;
            f.cr_read.set = f.cr_write.set = cr4;
        }
        if (!permissions.has(Permit::control_bits)) {
            f.denied_cr4 = ~guest_cr4_bits;
            f.cr_write.set = cr4;
        }
        if (!permissions.has(Permit::xcr0)) {
            f.intercept_2.set = intercept_2::xsetbv;
        }
        if (!permissions.has(Permit::world_switch)) {
            constexpr u64 nested_paging = 1, encryption = 1u << 1 | 1u << 2;
            f.intercept_1.set |= intercept_1::ioio | intercept_1::msr | intercept_1::shutdown |
                                 intercept_1::invlpga | intercept_1::task_switch | intercept_1::ferr_freeze;
            f.intercept_2.set |= intercept_2::vmrun | intercept_2::vmload | intercept_2::vmsave |
                                 intercept_2::stgi | intercept_2::clgi | intercept_2::skinit;
            f.nested_control = {nested ? nested_paging : 0, nested ? encryption : encryption | nested_paging};
            f.interrupt_control.clear = interrupt_control::avic_enable | interrupt_control::x2avic_enable;
            f.extensions.clear = ~u64{0}; // of them, LBR virtualization leaves LBR_SELECT the guest's
            f.own_asid = true;
        }
        return f;
    }
};

} // namespace refhv::svm
