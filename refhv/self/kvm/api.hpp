// SPDX-License-Identifier: MIT
// Linux's own header of KVM, as C++ needs it.
#pragma once

// Up to Linux 6.4 this macro puts an empty struct before an array of unknown length. That takes a byte in
// C++, and the structures, and the numbers of requests that hold their sizes, become others than the
// kernel's.
#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0] // NOLINT(bugprone-reserved-identifier)

#include <linux/kvm.h>

static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_stats_desc) == 16);
