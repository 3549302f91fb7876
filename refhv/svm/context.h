/* SPDX-License-Identifier: MIT
 * Offsets into svm::Context and Vmcb, for enter.S and for the assertions in vcpu.hpp. */
#pragma once
#define SVM_CTX_VMCB 144
#define SVM_CTX_VMCB_PHYSICAL 152
#define SVM_CTX_BUDGET 160
#define SVM_EXIT_CODES 144
#define SVM_CTX_MASK (SVM_CTX_BUDGET + 8 * SVM_EXIT_CODES)
#define SVM_CTX_MATCH (SVM_CTX_MASK + 8 * SVM_EXIT_CODES)
#define SVM_CTX_LENGTH (SVM_CTX_MATCH + 8 * SVM_EXIT_CODES)
#define SVM_CTX_WORK (SVM_CTX_LENGTH + SVM_EXIT_CODES)

#define VMCB_EXIT_CODE 0x70
#define VMCB_EXIT_INFO_1 0x78
#define VMCB_CLEAN_BITS 0xc0
#define VMCB_CR0 0x558
#define VMCB_RIP 0x578
#define VMCB_RAX 0x5f8
