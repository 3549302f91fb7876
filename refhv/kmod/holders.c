// SPDX-License-Identifier: MIT
/*
 * VMX and SVM have one user at a time. Where KVM is loaded it is KVM, whether or not it runs a VM now; while a client
 * has /dev/refhv, KVM is not let in.
 */
#include <linux/module.h>
#include <linux/namei.h>
#include <linux/notifier.h>
#include <linux/path.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>

#include "compat.h"
#include "engine.h"

static const char *const kvm_modules[] = { "kvm_intel", "kvm_amd" };
static bool in_use;

static bool is_loaded(const char *name)
{
	char file[40];
	struct path path;

	snprintf(file, sizeof(file), "/sys/module/%s", name);
	if (kern_path(file, LOOKUP_FOLLOW, &path))
		return false;
	path_put(&path);
	return true;
}

static int module_event(struct notifier_block *block, unsigned long event, void *data)
{
	struct module *module = data;
	unsigned int i;

	if (event != MODULE_STATE_COMING || !READ_ONCE(in_use))
		return NOTIFY_DONE;
	for (i = 0; i < ARRAY_SIZE(kvm_modules); i++) {
		if (strcmp(module->name, kvm_modules[i]) == 0) {
			pr_info("refhv: %s has to wait: a client of /dev/refhv uses VMX or SVM\n", module->name);
			return notifier_from_errno(-EBUSY);
		}
	}
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = { .notifier_call = module_event };

#if REFHV_HAS_EMERGENCY_CALLBACK
/* On each CPU of a system that crashes, from an NMI perhaps. */
static void leave_in_emergency(void)
{
	u64 efer;

	if (__read_cr4() & X86_CR4_VMXE) {
		asm volatile("1: vmxoff\n"
			     "2:\n\t"
			     _ASM_EXTABLE(1b, 2b)
			     : : : "cc", "memory");
		asm volatile("mov %0, %%cr4" : : "r"(native_read_cr4() & ~X86_CR4_VMXE) : "memory");
	}
	rdmsrl(MSR_EFER, efer);
	if (efer & EFER_SVME) {
		asm volatile("stgi"); /* else INIT stays pending */
		wrmsrl(MSR_EFER, efer & ~EFER_SVME);
	}
}
#endif

int refhv_holders_open(void)
{
	unsigned int i;

	WRITE_ONCE(in_use, true);
	for (i = 0; i < ARRAY_SIZE(kvm_modules); i++) {
		if (is_loaded(kvm_modules[i])) {
			WRITE_ONCE(in_use, false);
			return -EBUSY;
		}
	}
#if REFHV_HAS_EMERGENCY_CALLBACK
	cpu_emergency_register_virt_callback(leave_in_emergency);
#endif
	return 0;
}

void refhv_holders_close(void)
{
#if REFHV_HAS_EMERGENCY_CALLBACK
	cpu_emergency_unregister_virt_callback(leave_in_emergency);
#endif
	WRITE_ONCE(in_use, false);
}

int refhv_holders_init(void)
{
	return refhv_step_fails() ? -ENOMEM : register_module_notifier(&module_notifier);
}

void refhv_holders_exit(void)
{
	unregister_module_notifier(&module_notifier);
}
