/* SPDX-License-Identifier: MIT */
/* What differs between the kernels that the module builds against, 5.10 and later. */
#ifndef REFHV_KMOD_COMPAT_H
#define REFHV_KMOD_COMPAT_H

#include <linux/hrtimer.h>
#include <linux/version.h>
#include <asm/reboot.h>

static inline void refhv_timer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_PINNED_HARD);
	timer->function = function;
#endif
}

/*
 * On a crash or an emergency restart the kernel must get every CPU out of VMX operation and SVM. Until 6.5 it
 * does so by itself, by CR4.VMXE and EFER.SVME; since then whoever uses them says how.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0) && (IS_ENABLED(CONFIG_KVM_INTEL) || IS_ENABLED(CONFIG_KVM_AMD))
#define REFHV_HAS_EMERGENCY_CALLBACK 1
#else
#define REFHV_HAS_EMERGENCY_CALLBACK 0
#endif

#endif
