// SPDX-License-Identifier: MIT
/*
 * Guests use the x87, SSE and AVX registers as they like, and Linux' own are elsewhere meanwhile. Protection keys
 * are the core's business; AMX tiles are left out, for IA32_XFD may forbid them.
 */
#include <linux/slab.h>
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#include <asm/processor.h>

#include "engine.h"

#define PKRU_COMPONENT (1ull << 9)
#define TILE_COMPONENTS (3ull << 17)
#define FXSAVE_BYTES 512
#define MXCSR_OFFSET 24
#define MXCSR_DEFAULT 0x1f80

static void *allocation, *area;
static u64 components; /* 0: no XSAVE */

static u64 read_xcr0(void)
{
	u32 low, high;

	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (u64)high << 32;
}

int refhv_fpu_open(void)
{
	size_t bytes = FXSAVE_BYTES;
	u32 eax, ebx, ecx, edx;

	components = 0;
	if (boot_cpu_has(X86_FEATURE_OSXSAVE)) {
		components = read_xcr0() & ~(PKRU_COMPONENT | TILE_COMPONENTS);
		cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx);
		bytes = ebx; /* for what XCR0 has now */
	}
	allocation = refhv_step_fails() ? NULL : kzalloc(bytes + 64, GFP_KERNEL);
	if (!allocation)
		return -ENOMEM;
	area = PTR_ALIGN(allocation, 64);
	*(u32 *)(area + MXCSR_OFFSET) = MXCSR_DEFAULT; /* all else as after INIT: XSTATE_BV is 0 */
	if (!components)
		*(u16 *)area = 0x37f; /* FCW, which FXRSTOR takes from here */
	return 0;
}

void refhv_fpu_close(void)
{
	kfree(allocation);
	allocation = area = NULL;
}

void refhv_fpu_take(void)
{
	kernel_fpu_begin();
	if (components)
		asm volatile("xrstor64 (%0)" : : "r"(area), "a"((u32)components), "d"((u32)(components >> 32))
			     : "memory");
	else
		asm volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

void refhv_fpu_give(void)
{
	if (components)
		asm volatile("xsave64 (%0)" : : "r"(area), "a"((u32)components), "d"((u32)(components >> 32))
			     : "memory");
	else
		asm volatile("fxsave64 (%0)" : : "r"(area) : "memory");
	kernel_fpu_end();
}
