// SPDX-License-Identifier: MIT
// What a platform must give the core. The image implements it in boot/platform.cpp, the Linux module in
// kmod/. Bound at link time; what is said of "this CPU" holds for each that the core was given to run on.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/contract/permit.hpp"

namespace refhv {

using abi::Permit;

struct Permissions {
    u64 bits = 0;
    [[nodiscard]] constexpr bool has(Permit p) const { return (bits >> static_cast<u8>(p) & 1) != 0; }
};
inline constexpr Permissions permit_all{(u64{1} << static_cast<u8>(Permit::count_)) - 1};

} // namespace refhv

namespace refhv::platform {

[[nodiscard]] Permissions permissions();

// The direct mapping of physical memory. Valid for every address that the arena or to_physical gave.
[[nodiscard]] void* to_virtual(u64 physical);
[[nodiscard]] u64 to_physical(const void* address);

// RDMSR and WRMSR that survive #GP; false: the MSR does not exist.
[[nodiscard]] bool try_rdmsr(u32 msr, u64& value);
[[nodiscard]] bool try_wrmsr(u32 msr, u64 value);
// VMXON that survives #GP; false: it did not succeed.
[[nodiscard]] bool try_vmxon(u64 region);
// TR again from the GDT, whose TSS descriptor may be where only the platform can write: a VM exit has cut its
// limit.
void reload_task_register();
// CR0 and CR4 of this CPU, bit by bit; the platform may keep a copy of what they are.
void add_control_bits(u64 cr0, u64 cr4);
void remove_control_bits(u64 cr0, u64 cr4);

// Keeps maskable interrupts of this CPU off between the two; the core opens a window itself with
// take_interrupts.
void hold_interrupts();
void release_interrupts();
// Lets pending interrupts be served, then turns them off again. true: one was, as far as the platform knows.
// During a run CR2, DR0 to DR3, DR6, XCR0, PKRU, the SYSCALL MSRs, KERNEL_GS_BASE, TSC_AUX and XFD_ERR are
// the guest's and IA32_XSS is 0: a platform whose handlers rely on one of them, or change it, exchanges it
// here. As an exit leaves them: LDTR null, the limit of TR 67H, DR7 400H, IA32_DEBUGCTL 0. CR3 and CR4 may
// change.
bool take_interrupts();
// TSC ticks. 0: this platform's handlers get along with all of that, and a window costs next to nothing. Else
// the core gives the CPU back as it was for each window of a run (CR2 to XFD_ERR and the registers that exits
// leave), and opens none sooner than so long after the last but for an interrupt that has ended the guest.
[[nodiscard]] u64 window_interval();
// TSC ticks a second, as the platform has measured them against another clock; 0: it has not.
[[nodiscard]] u64 tsc_hz();
// Outside runs: whoever else wants this CPU may have it for a while.
void let_host_run();
// Whoever sent the request wants its end. May be slow; asked a few times a second.
[[nodiscard]] bool stop_asked();
// Hands an NMI that ended guest mode to the platform's own handler.
void take_nmi();
// Hands a machine check that ended guest mode, or that an entry met, to the platform's own handler.
void machine_check();
// An interrupt that a native guest of this CPU was not to see has been taken by the core's gate: ends it.
void serve_interrupt(u8 vector);
// Vectors below this may be a guest's; the others are the platform's.
inline constexpr u8 end_of_guest_vectors = 0xf0;
// The highest vector that came in since it was taken here last, interrupts of the platform left out; 0: none.
[[nodiscard]] u8 take_guest_vector();
// Sleeps until an interrupt has been served; interrupts are off before and after.
void wait_for_interrupt();
// NMIs of this CPU so far, those of take_nmi included.
[[nodiscard]] u64 nmi_count();

// Asks for an interrupt on this CPU no later than after so many TSC ticks, as far as the platform can; a
// platform whose timer ticks anyway does nothing.
void arm_deadline(u64 tsc_ticks);
void disarm_deadline();

inline constexpr u32 most_cpus = 32;
// CPUs that jobs may run on besides this one; number 0 serves requests. What hello says of one:
[[nodiscard]] abi::CpuInfo cpu_info(u32 cpu);
// Calls the function on another, idle CPU, and does not wait.
void start_on(u32 cpu, void (*function)(void*), void* argument);
[[nodiscard]] bool is_idle(u32 cpu);
void send_interrupt(u32 cpu, u8 vector);
void send_nmi(u32 cpu);
// To a CPU in VMX operation, which neither resets.
void send_init(u32 cpu);
void send_start_up(u32 cpu, u8 page);

// The stack that this CPU's TSS gives to what interrupts ring 3; returns what it was. For mode native, whose
// guests may enter ring 3 but run on the host's TSS.
u64 exchange_ring0_stack(u64 rsp0);

// May a guest of ours touch these ports, or read or write this MSR, which is the host's? permissions()
// above says what else a request may.
[[nodiscard]] bool permits_ports(u16 first, u32 count);
[[nodiscard]] bool permits_msr(u32 msr, bool write);

} // namespace refhv::platform
