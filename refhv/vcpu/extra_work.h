/* SPDX-License-Identifier: MIT
 * What extras.hpp and the world switches that do an Extra share: which there are, and the offsets into x86::ExtraWork. */
#pragma once

#define REFHV_SHARED_EXTRAS(X)                                                                               \
    X(general_registers) X(xsave) X(xsave_lazy) X(msr_by_hand) X(spec_ctrl) X(ibpb) X(verw) X(l1d_flush) X(rsb_fill)       \
    X(indirect_call) X(retpoline)
#define REFHV_VMX_EXTRAS(X) REFHV_SHARED_EXTRAS(X) X(vmread) X(vmwrite) X(vmcs_switch) X(vmcs_clear)
#define REFHV_SVM_EXTRAS(X)                                                                                  \
    REFHV_SHARED_EXTRAS(X) X(vmcb_clean_none) X(vmcb_clean_all) X(vmsave) X(vmload_vmsave)

#define WORK_GUEST_XSAVE 0
#define WORK_HOST_XSAVE 8
#define WORK_COMPONENTS 16
#define WORK_GUEST_MSRS 24
#define WORK_HOST_MSRS 32
#define WORK_COUNT 40
#define WORK_TARGET 48
#define WORK_GUEST_SPEC_CTRL 56
#define WORK_HOST_SPEC_CTRL 64
#define WORK_SELECTOR 72
#define WORK_OWN 80
#define WORK_OTHER 88
#define WORK_GUEST_HAS 96
#define WORK_TRAPS 104

#define WORK_CALL_BYTES 320 /* of stack in front of the Context, for the calls of rsb_fill and retpoline */
