// SPDX-License-Identifier: MIT
// platform.hpp for the Linux module: one CPU of a system that others work on.
#include "refhv/core/platform.hpp"

#include "refhv/core/core.hpp"
#include "refhv/kmod/core.h"

#include <new>

namespace refhv {
namespace {

refhv_setup setup;
alignas(Core) u8 storage[sizeof(Core)]; // a module's constructors are not run by every kernel

Core& core() {
    return *std::launder(reinterpret_cast<Core*>(storage));
}

} // namespace

namespace platform {

Permissions permissions() {
    // A guest of mode native would own a CPU of Linux's: never.
    constexpr u64 never =
        u64{1} << static_cast<u8>(Permit::native_guests) | u64{1} << static_cast<u8>(Permit::shutdown);
    return {setup.permits & permit_all.bits & ~never};
}

void* to_virtual(u64 physical) {
    return reinterpret_cast<void*>(setup.direct_mapping + physical);
}
u64 to_physical(const void* address) {
    return reinterpret_cast<u64>(address) - setup.direct_mapping;
}

bool try_rdmsr(u32 msr, u64& value) {
    unsigned long long read = 0;
    const bool ok = refhv_host_rdmsr(msr, &read) == 0;
    value = read;
    return ok;
}
bool try_wrmsr(u32 msr, u64 value) {
    return refhv_host_wrmsr(msr, value) == 0;
}
bool try_vmxon(u64 region) {
    return refhv_host_vmxon(region) == 0;
}
void reload_task_register() {
    refhv_host_reload_task_register();
}
void add_control_bits(u64 cr0, u64 cr4) {
    refhv_host_add_control_bits(cr0, cr4);
}
void remove_control_bits(u64 cr0, u64 cr4) {
    refhv_host_remove_control_bits(cr0, cr4);
}

// They are off from the beginning of a request to its end, but for windows.
void hold_interrupts() {}
void release_interrupts() {}
bool take_interrupts() {
    return refhv_host_window() != 0;
}
u64 tsc_hz() {
    return setup.tsc_hz;
}
u64 window_interval() {
    return setup.window_interval;
}
void let_host_run() {
    (void)refhv_host_window();
}
void wait_for_interrupt() {
    refhv_host_sleep();
}
bool stop_asked() {
    return refhv_host_stop_asked() != 0;
}

// Through the IDT, as the CPU would have: Linux's entry code then finds what it expects. The IRET at its end
// unblocks NMIs.
void take_nmi() {
    asm volatile("int $2" ::: "memory");
}
void machine_check() {
    asm volatile("int $18" ::: "memory");
}
u64 nmi_count() {
    return refhv_host_nmi_count();
}

// Vectors are Linux's, all of them.
void serve_interrupt(u8) {}
u8 take_guest_vector() {
    return 0;
}

void arm_deadline(u64 tsc_ticks) {
    refhv_host_arm(tsc_ticks);
}
void disarm_deadline() {
    refhv_host_disarm();
}

// There is one CPU, so no job for another is ever asked for.
abi::CpuInfo cpu_info(u32) {
    return {.apic_id = setup.apic_id, .zero = 0, .tsc_offset = 0, .tsc_error = 0};
}
void start_on(u32, void (*)(void*), void*) {}
bool is_idle(u32) {
    return true;
}
void send_interrupt(u32, u8) {}
void send_nmi(u32) {}
void send_init(u32) {}
void send_start_up(u32, u8) {}

u64 exchange_ring0_stack(u64 rsp0) { // of mode native, which there is not
    return rsp0;
}

bool permits_ports(u16, u32) {
    return false;
}
// To be read, those whose values are no secret: the TSC, and the memory types of the page tables.
bool permits_msr(u32 msr, bool write) {
    return !write && (msr == x86::msr::tsc || msr == x86::msr::pat);
}

} // namespace platform
} // namespace refhv

extern "C" {

void refhv_core_init(const refhv_setup* with) {
    using namespace refhv;
    setup = *with;
    Core& made = *new (storage) Core;
    const refhv_range& first = with->ranges[0];
    u64 end = first.physical;
    for (u32 i = 0; i < with->range_count; ++i) {
        end = with->ranges[i].physical + with->ranges[i].bytes;
    }
    made.init({abi::Platform::linux_module, 1, 0}, first.physical, end - first.physical);
    for (u32 i = 1; i < with->range_count; ++i) {
        const u64 hole = with->ranges[i - 1].physical + with->ranges[i - 1].bytes;
        made.withhold(hole, with->ranges[i].physical - hole);
    }
}

unsigned int refhv_core_execute(const void* request, unsigned int bytes, void* reply, unsigned int room,
                                refhv_u64 owner) {
    return static_cast<unsigned int>(refhv::core().execute({static_cast<const refhv::u8*>(request), bytes},
                                                           {static_cast<refhv::u8*>(reply), room}, owner));
}

void refhv_core_close(refhv_u64 owner) {
    refhv::core().close(owner);
}

int refhv_core_leave() {
    return refhv::core().leave(0).ok() ? 0 : -1;
}

refhv_u64 refhv_core_pages_in_use() {
    return refhv::core().pages_in_use();
}

} // extern "C"
