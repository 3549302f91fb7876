// SPDX-License-Identifier: MIT
/* Requests are work for a thread of the one CPU, one at a time; and what is left when that CPU is taken away. */
#include <linux/completion.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/smpboot.h>
#include <linux/version.h>
#include <asm/page.h>
#include <asm/processor.h>
#include <asm/special_insns.h>
#include <asm/tsc.h>

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
} engine = { .lock = __MUTEX_INITIALIZER(engine.lock) };

int refhv_host_stop_asked(void)
{
	return READ_ONCE(engine.stop) || READ_ONCE(engine.halting);
}

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

/* Under FRED an NMI that ended a guest cannot be handed on by INT 2, which would be a software interrupt. */
static bool host_is_beyond_us(void)
{
	const unsigned long fred = 1ul << 32;

	if (!(native_read_cr4() & fred))
		return false;
	pr_err("refhv: this kernel uses FRED, which the module does not know yet: start it with fred=off\n");
	return true;
}

int refhv_engine_open(void)
{
	struct refhv_setup setup = {
		.permits = refhv_permit,
		.direct_mapping = PAGE_OFFSET,
		.tsc_hz = (u64)tsc_khz * 1000,
		.window_interval = max_t(u64, 1, div_u64((u64)tsc_khz * refhv_window_us, 1000)),
	};
	int error;

	mutex_lock(&engine.lock);
	error = engine.open || engine.asleep ? -EBUSY : !engine.online ? -ENODEV : host_is_beyond_us() ? -EOPNOTSUPP : 0;
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
	refhv_cpu_open();
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
	refhv_cpu_quiet();
	refhv_memory_close();
	refhv_fpu_close();
	refhv_holders_close();
	engine.open = false;
	mutex_unlock(&engine.lock);
}

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

void refhv_engine_online(bool online)
{
	WRITE_ONCE(engine.halting, true);
	mutex_lock(&engine.lock);
	if (!online) {
		lose(true);
		refhv_cpu_quiet();
	}
	engine.online = online;
	WRITE_ONCE(engine.halting, false);
	mutex_unlock(&engine.lock);
}

void refhv_engine_asleep(bool asleep)
{
	WRITE_ONCE(engine.halting, true);
	mutex_lock(&engine.lock);
	if (asleep)
		lose(false);
	engine.asleep = asleep;
	WRITE_ONCE(engine.halting, false);
	mutex_unlock(&engine.lock);
}

int refhv_engine_init(void)
{
	init_completion(&engine.done);
	refhv_cpu_init();
	return refhv_step_fails() ? -ENOMEM : smpboot_register_percpu_thread(&threads);
}

void refhv_engine_exit(void)
{
	smpboot_unregister_percpu_thread(&threads);
}
