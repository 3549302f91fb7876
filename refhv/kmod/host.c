// SPDX-License-Identifier: MIT
/* What the core asks of Linux on its CPU, with interrupts off. */
#include <linux/hardirq.h>
#include <linux/percpu.h>
#include <asm/desc.h>
#include <asm/msr.h>
#include <asm/perf_event.h>
#include <asm/special_insns.h>
#include <asm/tlbflush.h>

#include "core.h"
#include "engine.h"

int refhv_host_rdmsr(unsigned int msr, refhv_u64 *value)
{
	u64 read = 0;
	int error = refhv_step_fails() ? -EIO : rdmsrl_safe(msr, &read);

	*value = read;
	return error;
}

int refhv_host_wrmsr(unsigned int msr, refhv_u64 value)
{
	return refhv_step_fails() ? -EIO : wrmsrl_safe(msr, value);
}

/* Where processor trace may not run in VMX operation, it stops first (SDM 3C 33.5.1). */
int refhv_host_vmxon(refhv_u64 region)
{
	u8 succeeded = 0;

	if (refhv_step_fails())
		return -EIO;
	intel_pt_handle_vmx(1);
	asm volatile("1: vmxon %[region]\n\t"
		     "seta %[succeeded]\n"
		     "2:\n\t"
		     _ASM_EXTABLE(1b, 2b)
		     : [succeeded] "+m"(succeeded)
		     : [region] "m"(region)
		     : "cc", "memory");
	if (!succeeded)
		intel_pt_handle_vmx(0);
	return succeeded ? 0 : -EIO;
}

/* Linux keeps a copy of CR4, by which it flushes translations. */
void refhv_host_add_control_bits(refhv_u64 cr0, refhv_u64 cr4)
{
	if (cr0)
		write_cr0(read_cr0() | cr0);
	if (cr4)
		cr4_set_bits_irqsoff(cr4);
}

void refhv_host_remove_control_bits(refhv_u64 cr0, refhv_u64 cr4)
{
	if (cr4)
		cr4_clear_bits_irqsoff(cr4);
	if (cr0)
		write_cr0(read_cr0() & ~cr0);
	if (cr4 & X86_CR4_VMXE)
		intel_pt_handle_vmx(0);
}

void refhv_host_reload_task_register(void)
{
	force_reload_TR();
}

refhv_u64 refhv_host_nmi_count(void)
{
	return this_cpu_read(irq_stat.__nmi_count);
}
