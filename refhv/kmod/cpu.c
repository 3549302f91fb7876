// SPDX-License-Identifier: MIT
/*
 * The CPU changes hands: to the core, with preemption and interrupts off, and back to Linux at every window, for
 * interrupts alone or, when a slice is over or somebody waits for the CPU, for whatever Linux wants to run.
 */
#include <linux/delay.h>
#include <linux/hardirq.h>
#include <linux/hrtimer.h>
#include <linux/kernel_stat.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <asm/msr.h>
#include <asm/tsc.h>

#include "compat.h"
#include "core.h"
#include "engine.h"

static u64 stretch;	/* TSC at which interrupts went off */
static u64 rested;	/* TSC at which Linux had its scheduler last */
static u64 slice;	/* TSC ticks */
static struct hrtimer end_of_guest; /* where the tick does not end it */

static void interrupts_off(void)
{
	local_irq_disable();
	stretch = rdtsc();
}

static void interrupts_on(void)
{
	u64 length = rdtsc() - stretch;

	if (length > refhv_longest_stretch)
		WRITE_ONCE(refhv_longest_stretch, length);
	local_irq_enable();
}

void refhv_enter(void)
{
	preempt_disable();
	refhv_fpu_take();
	rested = rdtsc();
	interrupts_off();
}

void refhv_leave(void)
{
	interrupts_on();
	refhv_fpu_give();
	preempt_enable();
}

/* With interrupts on: whoever waits for the CPU has it. */
static void rest(bool sleep)
{
	refhv_fpu_give();
	preempt_enable();
	if (sleep)
		usleep_range(20, 200);
	else
		cond_resched_tasks_rcu_qs();
	preempt_disable();
	refhv_fpu_take();
	rested = rdtsc();
}

struct interrupt_counts {
	irq_cpustat_t stat;
	unsigned long sum;
};

static void count_interrupts(struct interrupt_counts *counts)
{
	counts->stat = *this_cpu_ptr(&irq_stat);
	counts->sum = this_cpu_read(kstat.irqs_sum);
}

int refhv_host_window(void)
{
	struct interrupt_counts before, after;

	count_interrupts(&before);
	interrupts_on();
	asm volatile("nop" ::: "memory"); /* STI lets one instruction pass */
	if (need_resched() || rdtsc() - rested >= slice)
		rest(false);
	interrupts_off();
	count_interrupts(&after);
	return before.sum != after.sum || memcmp(&before.stat, &after.stat, sizeof(before.stat)) != 0;
}

void refhv_host_sleep(void)
{
	interrupts_on();
	rest(true);
	interrupts_off();
}

static enum hrtimer_restart timer_expired(struct hrtimer *timer)
{
	return HRTIMER_NORESTART; /* it has ended the guest, and that was all */
}

void refhv_host_arm(refhv_u64 ticks)
{
	u64 wanted = min_t(u64, ticks, slice);

	hrtimer_start(&end_of_guest, ns_to_ktime(div_u64(wanted * 1000000, tsc_khz)),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

void refhv_host_disarm(void)
{
	hrtimer_try_to_cancel(&end_of_guest);
}

void refhv_cpu_init(void)
{
	refhv_timer_setup(&end_of_guest, timer_expired);
}

void refhv_cpu_open(void)
{
	slice = div_u64((u64)tsc_khz * refhv_slice_us, 1000);
}

void refhv_cpu_quiet(void)
{
	hrtimer_cancel(&end_of_guest);
}
