// SPDX-License-Identifier: MIT
// The host's safety floor on VMX: what of the controls is the host's. It is laid over everything else at
// every begin; what a platform permits (refhv/core/platform.hpp) is left out.
#pragma once

#include "refhv/core/platform.hpp"
#include "refhv/vcpu/owned.hpp"
#include "refhv/vmx/capabilities.hpp"
#include "refhv/x86/exceptions.hpp"

namespace refhv::vmx {

struct Floor {
    Owned pin, proc, secondary, exit, entry, exceptions, cr0_mask, cr4_mask;
    u64 denied_cr4 = 0; // bits that a guest never has
    u64 host_cr4 = 0;   // bits that are the host's while the guest believes in its own: MCE

    [[nodiscard]] static Floor of(const Capabilities& caps, Permissions permissions, bool nested) {
        using namespace x86;
        Floor f;
        if (!permissions.has(Permit::interrupts)) {
            f.pin.set = pin::external_interrupt | pin::nmi;
        }
        // #DB and #AC can be met again in their own delivery, for ever and with no exit in between
        // (CVE-2015-8104, CVE-2015-5307).
        if (!permissions.has(Permit::exceptions)) {
            f.exceptions.set = vector_bit(vector::debug) | vector_bit(vector::alignment_check);
        }
        if (!permissions.has(Permit::machine_checks)) {
            f.exceptions.set |= vector_bit(vector::machine_check);
            f.host_cr4 = cr4::mce;
            f.cr4_mask.set = cr4::mce;
        }
        // A VM exit leaves CR0.CD and CR0.NW as they are (SDM 3C 28.5.1).
        if (!permissions.has(Permit::cache_control)) {
            f.cr0_mask.set = cr0::cd | cr0::nw;
        }
        if (!permissions.has(Permit::control_bits)) {
            f.denied_cr4 = ~guest_cr4_bits;
            f.cr4_mask.set |= f.denied_cr4;
        }
        if (!permissions.has(Permit::world_switch)) {
            using namespace exit_control;
            f.proc = {proc::io_bitmaps | proc::msr_bitmaps | proc::secondary, proc::tertiary};
            f.secondary = {nested ? u64{proc2::ept} : 0,
                           proc2::vm_functions | proc2::vmcs_shadowing | proc2::virtualization_exceptions |
                               proc2::encls_exiting_bitmap | proc2::sub_page_rights |
                               proc2::pt_guest_physical | proc2::pconfig};
            // MSRs of the host that the core does not exchange: an entry that loads them, or an exit from
            // fields that nobody has written, would change them.
            f.exit = {host_address_space | save_debug | save_efer | load_efer | save_pat | load_pat,
                      load_perf_global | clear_bndcfgs | clear_rtit | clear_lbr | clear_uinv | load_cet |
                          load_pkrs | save_perf_global | exit_control::secondary};
            using namespace entry_control;
            f.entry = {load_debug | entry_control::load_efer | entry_control::load_pat,
                       smm | deactivate_dual_monitor | entry_control::load_perf_global | load_bndcfgs |
                           load_rtit | load_uinv | entry_control::load_cet | load_lbr |
                           entry_control::load_pkrs | load_fred};
            // Under CR4.CET the guest's CALLs and RETs move SSP, and of these exits none loads the host's.
            f.denied_cr4 |= cr4::cet;
            f.cr4_mask.set |= cr4::cet;
        }
        // Never what the CPU does not offer.
        const auto limit = [](Owned& o, const Allowed& a) {
            o.set &= a.may_be_1;
            o.clear &= ~u64{a.must_be_1};
        };
        limit(f.pin, caps.pin);
        limit(f.proc, caps.proc);
        limit(f.secondary, caps.proc2);
        limit(f.exit, caps.exit);
        limit(f.entry, caps.entry);
        return f;
    }
};

} // namespace refhv::vmx
