// SPDX-License-Identifier: MIT
/*
 * A thread of the chosen CPU executes requests with preemption and interrupts off. It gives the CPU back at every
 * window that the core opens, for interrupts alone or, when a slice is over or somebody waits for the CPU, for
 * whatever Linux wants to run.
 */
#include <linux/completion.h>
#include <linux/cpuhotplug.h>
#include <linux/delay.h>
#include <linux/hardirq.h>
#include <linux/hrtimer.h>
#include <linux/kernel_stat.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smpboot.h>
#include <linux/suspend.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/page.h>
#include <asm/tsc.h>

#include "compat.h"
#include "core.h"
#include "engine.h"

static DEFINE_PER_CPU(struct task_struct *, refhv_thread);

static struct {
	struct mutex lock;	/* one request at a time; what follows is under it */
	bool open, online, asleep;
	bool lost;		/* the client's VMs went with the CPU */
	u64 owner;

	/* One piece of work for the thread. */
	void (*work)(void *argument);
	void *argument;
	struct completion done;
	bool stop;		/* its client wants the end */
	bool halting;		/* the CPU is wanted by hotplug or suspend */

	/* The thread's own. */
	u64 stretch;		/* TSC at which interrupts went off */
	u64 rested;		/* TSC at which Linux had its scheduler last */
	u64 slice;		/* TSC ticks */
	struct hrtimer timer;
} engine = { .lock = __MUTEX_INITIALIZER(engine.lock) };

static int hotplug_state;

/* ---- The CPU changes hands ---- */

static void interrupts_off(void)
{
	local_irq_disable();
	engine.stretch = rdtsc();
}

static void interrupts_on(void)
{
	u64 stretch = rdtsc() - engine.stretch;

	if (stretch > refhv_longest_stretch)
		WRITE_ONCE(refhv_longest_stretch, stretch);
	local_irq_enable();
}

void refhv_enter(void)
{
	preempt_disable();
	refhv_fpu_take();
	engine.rested = rdtsc();
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
	engine.rested = rdtsc();
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
	if (need_resched() || rdtsc() - engine.rested >= engine.slice)
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

int refhv_host_stop_asked(void)
{
	return READ_ONCE(engine.stop) || READ_ONCE(engine.halting);
}

/* ---- The end of a guest's stretch, where the tick does not end it ---- */

static enum hrtimer_restart timer_expired(struct hrtimer *timer)
{
	return HRTIMER_NORESTART; /* it has ended the guest, and that was all */
}

void refhv_host_arm(refhv_u64 ticks)
{
	u64 wanted = min_t(u64, ticks, engine.slice);

	hrtimer_start(&engine.timer, ns_to_ktime(div_u64(wanted * 1000000, tsc_khz)),
		      HRTIMER_MODE_REL_PINNED_HARD);
}

void refhv_host_disarm(void)
{
	hrtimer_try_to_cancel(&engine.timer);
}

/* ---- Work for the thread ---- */

static int thread_should_run(unsigned int cpu)
{
	return cpu == refhv_cpu && smp_load_acquire(&engine.work) != NULL;
}

static void thread_function(unsigned int cpu)
{
	void (*work)(void *argument) = engine.work;

	engine.work = NULL;
	refhv_enter();
	work(engine.argument);
	refhv_leave();
	complete(&engine.done);
}

static struct smp_hotplug_thread threads = {
	.store = &refhv_thread,
	.thread_should_run = thread_should_run,
	.thread_fn = thread_function,
	.thread_comm = "refhv/%u",
};

/* Under the lock, with the CPU online. */
static void do_on_cpu(void (*work)(void *argument), void *argument)
{
	WRITE_ONCE(engine.stop, false);
	reinit_completion(&engine.done);
	engine.argument = argument;
	smp_store_release(&engine.work, work);
	wake_up_process(per_cpu(refhv_thread, refhv_cpu));
	if (wait_for_completion_interruptible(&engine.done)) {
		WRITE_ONCE(engine.stop, true);
		wait_for_completion(&engine.done);
	}
}

static void evict(void *unused)
{
	refhv_core_close(engine.owner);
	WARN_ON_ONCE(refhv_core_leave() != 0);
}

static void init_core(void *setup)
{
	refhv_core_init(setup);
}

struct call {
	const void *request;
	void *reply;
	unsigned int bytes, room, answered;
};

static void execute(void *argument)
{
	struct call *call = argument;

	call->answered = refhv_core_execute(call->request, call->bytes, call->reply, call->room, engine.owner);
}

int refhv_engine_call(const void *request, unsigned int bytes, void *reply, unsigned int room)
{
	struct call call = { .request = request, .reply = reply, .bytes = bytes, .room = room };
	int result;

	if (mutex_lock_interruptible(&engine.lock))
		return -EINTR;
	if (!engine.online) {
		result = -ENODEV;
	} else if (engine.asleep) {
		result = -EBUSY;
	} else if (engine.lost) {
		engine.lost = false;
		result = -ESTALE;
	} else {
		do_on_cpu(execute, &call);
		result = call.answered;
	}
	mutex_unlock(&engine.lock);
	return result;
}

int refhv_engine_open(void)
{
	struct refhv_setup setup = {
		.permits = refhv_permit,
		.direct_mapping = PAGE_OFFSET,
		.window_interval = max_t(u64, 1, div_u64((u64)tsc_khz * refhv_window_us, 1000)),
	};
	int error;

	mutex_lock(&engine.lock);
	error = engine.open || engine.asleep ? -EBUSY : !engine.online ? -ENODEV : 0;
	if (error)
		goto unlock;
	error = refhv_holders_open();
	if (error)
		goto unlock;
	error = refhv_fpu_open();
	if (error)
		goto close_holders;
	error = refhv_memory_open(&setup, refhv_memory_mb);
	if (error)
		goto close_fpu;
	setup.apic_id = cpu_data(refhv_cpu).
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
		topo.
#endif
		apicid;
	engine.slice = div_u64((u64)tsc_khz * refhv_slice_us, 1000);
	engine.owner++;
	engine.lost = false;
	do_on_cpu(init_core, &setup);
	engine.open = true;
	mutex_unlock(&engine.lock);
	return 0;

close_fpu:
	refhv_fpu_close();
close_holders:
	refhv_holders_close();
unlock:
	mutex_unlock(&engine.lock);
	return error;
}

void refhv_engine_close(void)
{
	mutex_lock(&engine.lock);
	if (engine.online)
		do_on_cpu(evict, NULL);
	hrtimer_cancel(&engine.timer);
	refhv_memory_close();
	refhv_fpu_close();
	refhv_holders_close();
	engine.open = false;
	mutex_unlock(&engine.lock);
}

/* ---- What may take the CPU away ---- */

/* The client's VMs end, and VMX operation or SVM with them. `here`: this is the CPU. */
static void lose(bool here)
{
	if (!engine.open || !engine.online)
		return;
	if (here) {
		refhv_enter();
		evict(NULL);
		refhv_leave();
	} else {
		do_on_cpu(evict, NULL);
	}
	engine.lost = true;
}

static int cpu_comes(unsigned int cpu)
{
	if (refhv_step_fails())
		return -ENOMEM;
	if (cpu == refhv_cpu) {
		mutex_lock(&engine.lock);
		engine.online = true;
		mutex_unlock(&engine.lock);
	}
	return 0;
}

static int cpu_goes(unsigned int cpu)
{
	if (cpu != refhv_cpu)
		return 0;
	WRITE_ONCE(engine.halting, true);
	mutex_lock(&engine.lock);
	lose(true);
	hrtimer_cancel(&engine.timer);
	engine.online = false;
	WRITE_ONCE(engine.halting, false);
	mutex_unlock(&engine.lock);
	return 0;
}

static void fall_asleep(bool asleep)
{
	WRITE_ONCE(engine.halting, true);
	mutex_lock(&engine.lock);
	if (asleep)
		lose(false);
	engine.asleep = asleep;
	WRITE_ONCE(engine.halting, false);
	mutex_unlock(&engine.lock);
}

static int power_event(struct notifier_block *block, unsigned long event, void *unused)
{
	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		fall_asleep(true);
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		fall_asleep(false);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block power_notifier = { .notifier_call = power_event };

/* Restart, power off, kexec. A crash has no time for this (holders.c). */
static int system_ends(struct notifier_block *block, unsigned long event, void *unused)
{
	fall_asleep(true);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = { .notifier_call = system_ends };

int refhv_engine_init(void)
{
	int error;

	init_completion(&engine.done);
	refhv_timer_setup(&engine.timer, timer_expired);
	error = refhv_step_fails() ? -ENOMEM : smpboot_register_percpu_thread(&threads);
	if (error)
		return error;
	hotplug_state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "refhv:online", cpu_comes, cpu_goes);
	if (hotplug_state < 0) {
		error = hotplug_state;
		goto unregister_threads;
	}
	error = refhv_step_fails() ? -ENOMEM : register_pm_notifier(&power_notifier);
	if (error)
		goto remove_state;
	error = refhv_step_fails() ? -ENOMEM : register_reboot_notifier(&reboot_notifier);
	if (error)
		goto unregister_power;
	return 0;

unregister_power:
	unregister_pm_notifier(&power_notifier);
remove_state:
	cpuhp_remove_state(hotplug_state);
unregister_threads:
	smpboot_unregister_percpu_thread(&threads);
	return error;
}

void refhv_engine_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	unregister_pm_notifier(&power_notifier);
	cpuhp_remove_state(hotplug_state);
	smpboot_unregister_percpu_thread(&threads);
}
