/* SPDX-License-Identifier: MIT */
/* The one CPU that guests run on: its thread, its registers, and what may take it away. */
#ifndef REFHV_KMOD_ENGINE_H
#define REFHV_KMOD_ENGINE_H

#include <linux/types.h>

/* Module parameters (device.c). */
extern int refhv_cpu;
extern unsigned int refhv_memory_mb;
extern unsigned int refhv_slice_us, refhv_window_us;
extern unsigned long refhv_permit;
extern unsigned long long refhv_longest_stretch;

/* The module's own beginning and end. */
int refhv_engine_init(void);
void refhv_engine_exit(void);

/* One client at a time: -EBUSY, -ENODEV, -ENOMEM. */
int refhv_engine_open(void);
void refhv_engine_close(void);

/*
 * Executes a request payload on the CPU; the number of bytes of the reply, or a negative error. A signal to the
 * caller asks for the end.
 */
int refhv_engine_call(const void *request, unsigned int bytes, void *reply, unsigned int room);

/* The CPU comes or, on that CPU, goes; the system falls asleep, for ever perhaps, or wakes up. */
void refhv_engine_online(bool online);
void refhv_engine_asleep(bool asleep);

/* events.c: who calls these two. */
int refhv_events_init(void);
void refhv_events_exit(void);

/* cpu.c: on that CPU, between whom the core has it. */
void refhv_enter(void);
void refhv_leave(void);
void refhv_cpu_init(void);
void refhv_cpu_open(void);	/* for a client */
void refhv_cpu_quiet(void);	/* its timer is off */

/* fpu.c: the guests' x87, SSE and AVX state, in the CPU between refhv_fpu_take and refhv_fpu_give. */
int refhv_fpu_open(void);
void refhv_fpu_close(void);
void refhv_fpu_take(void);
void refhv_fpu_give(void);

/* memory.c: the arena. */
struct refhv_setup;
int refhv_memory_open(struct refhv_setup *setup, unsigned int mb);
void refhv_memory_close(void);

/* holders.c: who else may have VMX or SVM. */
int refhv_holders_init(void);
void refhv_holders_exit(void);
int refhv_holders_open(void); /* -EBUSY: KVM is there; from now on it cannot come */
void refhv_holders_close(void);

/*
 * For tests: the step of this number from now on fails (module parameter fail_step, 0: none). Each call is a
 * step: of loading, of a CPU that comes, of opening, and each access to an MSR and VMXON that the core asks for.
 */
bool refhv_step_fails(void);

#endif
