/* SPDX-License-Identifier: MIT
 * Offsets into svm::Context and Vmcb, for enter.S and for the assertions in vcpu.hpp. */
#pragma once
#define SVM_CTX_VMCB 144
#define SVM_CTX_VMCB_PHYSICAL 152
#define SVM_CTX_BUDGET 160
#define SVM_CTX_LENGTH 1320
#define SVM_EXIT_CODES 144 /* 145 codes of 8 bytes end at SVM_CTX_LENGTH */

#define VMCB_EXIT_CODE 0x70
#define VMCB_RIP 0x578
#define VMCB_RAX 0x5f8
