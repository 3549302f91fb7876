/* SPDX-License-Identifier: MIT */
/*
 * Between the module's two languages. refhv_core_* is C++ (platform.cpp) and wraps the core; refhv_host_* is C
 * and is what the core asks of Linux.
 */
#ifndef REFHV_KMOD_CORE_H
#define REFHV_KMOD_CORE_H

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned long long refhv_u64;

struct refhv_range {
	refhv_u64 physical, bytes;
};

/* What the module's parameters and its memory are. The ranges are in ascending order; the first is the largest. */
struct refhv_setup {
	refhv_u64 permits;		/* by refhv::abi::Permit */
	refhv_u64 direct_mapping;	/* virtual address of physical 0 */
	refhv_u64 window_interval;	/* TSC ticks */
	refhv_u64 tsc_hz;
	const struct refhv_range *ranges;
	unsigned int range_count;
	unsigned int apic_id;
};

void refhv_core_init(const struct refhv_setup *setup);

/* On the module's CPU, between refhv_enter and refhv_leave (engine.c). */
unsigned int refhv_core_execute(const void *request, unsigned int bytes, void *reply, unsigned int room,
				refhv_u64 owner);
void refhv_core_close(refhv_u64 owner);
/* VMX operation ends, or SVM is turned off. 0, or -1: there are VMs. */
int refhv_core_leave(void);
refhv_u64 refhv_core_pages_in_use(void);

int refhv_host_rdmsr(unsigned int msr, refhv_u64 *value);
int refhv_host_wrmsr(unsigned int msr, refhv_u64 value);
int refhv_host_vmxon(refhv_u64 region);
void refhv_host_reload_task_register(void);
void refhv_host_add_control_bits(refhv_u64 cr0, refhv_u64 cr4);
void refhv_host_remove_control_bits(refhv_u64 cr0, refhv_u64 cr4);
int refhv_host_window(void);
void refhv_host_sleep(void);
int refhv_host_stop_asked(void);
refhv_u64 refhv_host_nmi_count(void);
void refhv_host_arm(refhv_u64 ticks);
void refhv_host_disarm(void);

#ifdef __cplusplus
}
#endif

#endif
