// SPDX-License-Identifier: MIT
#include "conformance/test/silicon/platform.hpp"

#include "conformance/test/silicon/machine.hpp"
#include "conformance/test/silicon/vmx_machine.hpp"
#include "refhv/x86/control_bits.hpp"
#include "refhv/x86/tss.hpp"

#include <cstdlib>
#include <vector>

namespace refhv {

namespace {
std::vector<u8>& memory() {
    static std::vector<u8> m;
    return m;
}
u8* aligned() {
    const auto at = reinterpret_cast<u64>(memory().data());
    return reinterpret_cast<u8*>((at + page_size - 1) & ~(page_size - 1));
}
} // namespace

namespace silicon {
void reset_memory(u64 bytes) {
    memory().assign(bytes + page_size, 0);
    asked = {};
    permissions = {};
}
} // namespace silicon

namespace platform {

void* to_virtual(u64 physical) {
    if (physical < silicon::physical_base || physical - silicon::physical_base >= memory().size()) {
        std::abort(); // the core reached for memory outside its arena
    }
    return aligned() + (physical - silicon::physical_base);
}

u64 to_physical(const void* address) {
    return static_cast<u64>(static_cast<const u8*>(address) - aligned()) + silicon::physical_base;
}

bool try_rdmsr(u32 msr, u64& value) {
    try {
        value = silicon::machine().rdmsr(msr);
    } catch (const silicon::HostFault&) {
        return false;
    }
    return true;
}

bool try_wrmsr(u32 msr, u64 value) {
    try {
        silicon::machine().wrmsr(msr, value);
    } catch (const silicon::HostFault&) {
        return false;
    }
    return true;
}

bool try_vmxon(u64 region) {
    try {
        return silicon::vmx().vmxon(region) == silicon::VmxResult::succeed;
    } catch (const silicon::HostFault&) {
        return false;
    }
}
void reload_task_register() {
    x86::reload_task(x86::sgdt(), x86::str());
}
void add_control_bits(u64 cr0, u64 cr4) {
    x86::add_control_bits(cr0, cr4);
}
void remove_control_bits(u64 cr0, u64 cr4) {
    x86::remove_control_bits(cr0, cr4);
}
Permissions permissions() {
    return silicon::permissions;
}
void machine_check() {
    ++silicon::asked.machine_checks;
}
void hold_interrupts() {}
void release_interrupts() {}
bool take_interrupts() {
    ++silicon::asked.windows;
    return false;
}
u64 tsc_hz() {
    return 0;
}
u64 window_interval() {
    return 0;
}
void let_host_run() {}
bool stop_asked() {
    return false;
}
void take_nmi() {
    ++silicon::asked.nmis;
}
void serve_interrupt(u8) {}
u8 take_guest_vector() {
    return 0;
}
void wait_for_interrupt() {}
abi::CpuInfo cpu_info(u32 cpu) {
    return {.apic_id = cpu, .zero = 0, .tsc_offset = 0, .tsc_error = 0};
}
void start_on(u32, void (*)(void*), void*) {}
bool is_idle(u32) {
    return true;
}
void send_interrupt(u32, u8) {}
void send_nmi(u32) {}
void send_init(u32) {}
void send_start_up(u32, u8) {}
u64 nmi_count() {
    return silicon::asked.nmis;
}
void arm_deadline(u64) {}
void disarm_deadline() {}
u64 exchange_ring0_stack(u64 rsp0) {
    return rsp0;
}
bool permits_msr(u32, bool) {
    return false;
}
bool permits_ports(u16, u32) {
    return false;
}

} // namespace platform
} // namespace refhv
