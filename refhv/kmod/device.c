// SPDX-License-Identifier: MIT
/* /dev/refhv: root only, one client at a time, one ioctl. */
#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "engine.h"
#include "ioctl.h"

int refhv_cpu = -1;
module_param_named(cpu, refhv_cpu, int, 0444);
MODULE_PARM_DESC(cpu, "CPU that guests run on (default: the last that is online)");

unsigned int refhv_memory_mb = 64;
module_param_named(memory_mb, refhv_memory_mb, uint, 0444);
MODULE_PARM_DESC(memory_mb, "memory for guests and their tables, taken while a client has the device (16 to 1024)");

unsigned int refhv_slice_us = 2000;
module_param_named(slice_us, refhv_slice_us, uint, 0444);
MODULE_PARM_DESC(slice_us, "how long guests may keep the CPU before Linux schedules (100 to 10000)");

unsigned int refhv_window_us = 50;
module_param_named(window_us, refhv_window_us, uint, 0444);
MODULE_PARM_DESC(window_us, "at exits, interrupts are let in no oftener than this (0: at each; at most slice_us)");

unsigned long refhv_permit;
module_param_named(permit, refhv_permit, ulong, 0444);
MODULE_PARM_DESC(permit, "what clients may do that can bring the system down, a bit each (docs/linux.md); default: nothing");

unsigned long long refhv_longest_stretch;
module_param_named(longest_stretch, refhv_longest_stretch, ullong, 0444);
MODULE_PARM_DESC(longest_stretch, "TSC ticks that Linux had to wait for its CPU at most so far, guests' own time among them (to be read)");

static unsigned int fail_step;
module_param(fail_step, uint, 0644);
MODULE_PARM_DESC(fail_step, "for tests: the number of the step that fails, counted from when it is written (0: none)");

bool refhv_step_fails(void)
{
	return fail_step && --fail_step == 0;
}

struct client {
	struct mutex lock;
	void *request, *reply;
};

static void free_client(struct client *client)
{
	vfree(client->request);
	vfree(client->reply);
	kfree(client);
}

static struct client *make_client(void)
{
	struct client *client = refhv_step_fails() ? NULL : kzalloc(sizeof(*client), GFP_KERNEL);

	if (!client)
		return NULL;
	mutex_init(&client->lock);
	client->request = refhv_step_fails() ? NULL : vmalloc(REFHV_MAX_PAYLOAD);
	client->reply = refhv_step_fails() ? NULL : vzalloc(REFHV_MAX_PAYLOAD);
	if (!client->request || !client->reply) {
		free_client(client);
		return NULL;
	}
	return client;
}

static int refhv_open(struct inode *inode, struct file *file)
{
	struct client *client;
	int error;

	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	client = make_client();
	if (!client)
		return -ENOMEM;
	error = refhv_engine_open();
	if (error) {
		free_client(client);
		return error;
	}
	file->private_data = client;
	return 0;
}

static int refhv_release(struct inode *inode, struct file *file)
{
	refhv_engine_close();
	free_client(file->private_data);
	return 0;
}

static long call(struct client *client, struct refhv_call __user *where)
{
	struct refhv_call call;
	int answered;

	if (copy_from_user(&call, where, sizeof(call)))
		return -EFAULT;
	if (call.zero || !call.request_bytes || call.request_bytes > REFHV_MAX_PAYLOAD ||
	    call.reply_room != REFHV_MAX_PAYLOAD)
		return -EINVAL;
	if (copy_from_user(client->request, u64_to_user_ptr(call.request), call.request_bytes))
		return -EFAULT;
	answered = refhv_engine_call(client->request, call.request_bytes, client->reply, REFHV_MAX_PAYLOAD);
	if (answered < 0)
		return answered;
	if (copy_to_user(u64_to_user_ptr(call.reply), client->reply, answered) ||
	    put_user((u32)answered, &where->reply_bytes))
		return -EFAULT;
	return 0;
}

static long refhv_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct client *client = file->private_data;
	long result;

	if (command != REFHV_CALL)
		return -ENOTTY;
	if (mutex_lock_interruptible(&client->lock))
		return -EINTR;
	result = call(client, (struct refhv_call __user *)argument);
	mutex_unlock(&client->lock);
	return result;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = refhv_open,
	.release = refhv_release,
	.unlocked_ioctl = refhv_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "refhv",
	.mode = 0600,
	.fops = &operations,
};

static int check_parameters(void)
{
	if (refhv_cpu == -1)
		refhv_cpu = cpumask_last(cpu_online_mask);
	if (refhv_cpu < 0 || refhv_cpu >= nr_cpu_ids || !cpu_online(refhv_cpu)) {
		pr_err("refhv: cpu=%d: there is no such CPU online\n", refhv_cpu);
		return -EINVAL;
	}
	if (refhv_memory_mb < 16 || refhv_memory_mb > 1024) {
		pr_err("refhv: memory_mb=%u: from 16 to 1024\n", refhv_memory_mb);
		return -EINVAL;
	}
	if (refhv_slice_us < 100 || refhv_slice_us > 10000) {
		pr_err("refhv: slice_us=%u: from 100 to 10000\n", refhv_slice_us);
		return -EINVAL;
	}
	if (refhv_window_us > refhv_slice_us) {
		pr_err("refhv: window_us=%u: at most slice_us, which is %u\n", refhv_window_us, refhv_slice_us);
		return -EINVAL;
	}
	return 0;
}

static int __init refhv_init(void)
{
	int error = check_parameters();

	if (error)
		return error;
	error = refhv_holders_init();
	if (error)
		return error;
	error = refhv_engine_init();
	if (error)
		goto exit_holders;
	error = refhv_events_init();
	if (error)
		goto exit_engine;
	error = refhv_step_fails() ? -ENOMEM : misc_register(&device);
	if (error)
		goto exit_events;
	return 0;

exit_events:
	refhv_events_exit();
exit_engine:
	refhv_engine_exit();
exit_holders:
	refhv_holders_exit();
	return error;
}

static void __exit refhv_exit(void)
{
	misc_deregister(&device);
	refhv_events_exit();
	refhv_engine_exit();
	refhv_holders_exit();
}

module_init(refhv_init);
module_exit(refhv_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("refhv: measures x86 virtualization, and proves that it behaves");
