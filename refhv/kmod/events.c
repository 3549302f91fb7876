// SPDX-License-Identifier: MIT
/* What may take the CPU away: hotplug, sleep, the end of the system. A crash has no time for this (holders.c). */
#include <linux/cpuhotplug.h>
#include <linux/notifier.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include "engine.h"

static int hotplug_state;

static int cpu_comes(unsigned int cpu)
{
	if (refhv_step_fails())
		return -ENOMEM;
	if (cpu == refhv_cpu)
		refhv_engine_online(true);
	return 0;
}

/* On the CPU itself. */
static int cpu_goes(unsigned int cpu)
{
	if (cpu == refhv_cpu)
		refhv_engine_online(false);
	return 0;
}

static int power_event(struct notifier_block *block, unsigned long event, void *unused)
{
	switch (event) {
	case PM_SUSPEND_PREPARE:
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		refhv_engine_asleep(true);
		break;
	case PM_POST_SUSPEND:
	case PM_POST_HIBERNATION:
	case PM_POST_RESTORE:
		refhv_engine_asleep(false);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block power_notifier = { .notifier_call = power_event };

/* Restart, power off, kexec. */
static int system_ends(struct notifier_block *block, unsigned long event, void *unused)
{
	refhv_engine_asleep(true);
	return NOTIFY_DONE;
}

static struct notifier_block reboot_notifier = { .notifier_call = system_ends };

int refhv_events_init(void)
{
	int error;

	hotplug_state = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "refhv:online", cpu_comes, cpu_goes);
	if (hotplug_state < 0)
		return hotplug_state;
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
	return error;
}

void refhv_events_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	unregister_pm_notifier(&power_notifier);
	cpuhp_remove_state(hotplug_state);
}
