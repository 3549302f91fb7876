// SPDX-License-Identifier: MIT
#include "conformance/test/core/fake_hardware.hpp"

#include <cstdlib>
#include <thread>
#include <utility>
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
std::thread& other_cpu() {
    static std::thread thread;
    return thread;
}
} // namespace

namespace fake {

void reset_memory(u64 bytes) {
    memory().assign(bytes + page_size, 0);
}

void Controls::reset(bool is_svm, const GuestMemory& of, u64 own_root) {
    *this = {};
    svm = is_svm;
    alive = true;
    memory = of;
    root = own_root;
    if (is_svm) {
        namespace i1 = svm::intercept_1;
        namespace i2 = svm::intercept_2;
        vmcb.intercept_1 = i1::intr | i1::nmi | i1::smi | i1::init | i1::ioio | i1::msr | i1::shutdown |
                           i1::invlpga | i1::task_switch | i1::ferr_freeze;
        vmcb.intercept_2 = i2::vmrun | i2::vmload | i2::vmsave | i2::stgi | i2::clgi | i2::skinit;
        vmcb.iopm_base = vmcb.msrpm_base = physical_base;
        vmcb.asid = 1;
        vmcb.interrupt_control = svm::interrupt_control::v_intr_masking;
        vmcb.nested_control = 1;
        vmcb.nested_cr3 = own_root;
        return;
    }
    using enum vmx::Field;
    const auto set = [&](vmx::Field f, u64 value) { vmcs[static_cast<u32>(f)] = value; };
    set(pin_based_controls, 0x16 | vmx::pin::external_interrupt | vmx::pin::nmi);
    set(proc_based_controls,
        0x0400'6172 | vmx::proc::io_bitmaps | vmx::proc::msr_bitmaps | vmx::proc::secondary);
    set(secondary_controls, vmx::proc2::ept | vmx::proc2::vpid | vmx::proc2::rdtscp);
    set(exit_controls, 0x3'6dfb | vmx::exit_control::host_address_space | vmx::exit_control::load_efer |
                           vmx::exit_control::load_pat);
    set(entry_controls, 0x11fb);
    set(virtual_processor_id, of.slot + 1);
    set(ept_pointer, vmx::ept_pointer(own_root));
    set(io_bitmap_a, physical_base);
    set(io_bitmap_b, physical_base);
    set(msr_bitmap, physical_base);
    set(vmcs_link_pointer, ~u64{0});
}

std::unique_ptr<Core> make_core(u64 mbytes) {
    reset_memory(mbytes << 20);
    permissions = permit_all;
    auto core = std::make_unique<Core>();
    core->init({abi::Platform::image, 2, 1}, physical_base, mbytes << 20);
    return core;
}
} // namespace fake

namespace platform {

void* to_virtual(u64 physical) {
    if (physical < fake::physical_base || physical - fake::physical_base >= memory().size()) {
        std::abort(); // the core reached for memory outside its arena
    }
    return aligned() + (physical - fake::physical_base);
}

u64 to_physical(const void* address) {
    return static_cast<u64>(static_cast<const u8*>(address) - aligned()) + fake::physical_base;
}

bool try_rdmsr(u32, u64&) {
    return false;
}
bool try_wrmsr(u32, u64) {
    return false;
}
void hold_interrupts() {}
void release_interrupts() {}
bool take_interrupts() {
    ++fake::windows;
    fake::windows_without_registers += fake::window_interval != 0 && !fake::registers_given ? 1 : 0;
    fake::exits_since_window = 0;
    const bool arrives = fake::arrives_in == 1;
    fake::arrives_in -= fake::arrives_in != 0 ? 1 : 0;
    fake::arrived = arrives ? 0x41 : fake::arrived;
    const bool taken = arrives || fake::timer_armed || fake::pending != 0;
    fake::timer_armed = false;
    fake::pending = 0;
    return taken;
}
u64 tsc_hz() {
    return 0;
}
u64 window_interval() {
    return fake::window_interval;
}
void let_host_run() {
    ++fake::breaths;
}
bool stop_asked() {
    return fake::stop;
}
void take_nmi() {}
void serve_interrupt(u8) {}
u8 take_guest_vector() {
    return std::exchange(fake::arrived, 0);
}
void wait_for_interrupt() {
    fake::arrived = fake::wakes ? 0x40 : 0;
}
abi::CpuInfo cpu_info(u32 cpu) {
    return {.apic_id = cpu, .zero = 0, .tsc_offset = 0, .tsc_error = 0};
}
void start_on(u32, void (*function)(void*), void* argument) {
    other_cpu() = std::thread(function, argument);
}
bool is_idle(u32) {
    other_cpu().join();
    return true;
}
void send_interrupt(u32, u8) {
    ++fake::interrupts_sent;
}
void send_nmi(u32) {
    ++fake::interrupts_sent;
}
void send_init(u32) {
    ++fake::interrupts_sent;
}
void send_start_up(u32, u8) {
    ++fake::interrupts_sent;
}
u64 nmi_count() {
    return 0;
}
void arm_deadline(u64) {
    fake::timer_armed = true;
}
void disarm_deadline() {
    fake::timer_armed = false;
}
u64 exchange_ring0_stack(u64 rsp0) {
    return rsp0;
}
Permissions permissions() {
    return fake::permissions;
}
bool permits_msr(u32, bool write) {
    return !write && fake::permissions.has(Permit::host_fields);
}
bool permits_ports(u16, u32) {
    return fake::permissions.has(Permit::permission_maps);
}

} // namespace platform
} // namespace refhv
