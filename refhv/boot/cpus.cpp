// SPDX-License-Identifier: MIT
#include "refhv/boot/cpus.hpp"

#include "refhv/boot/image.hpp"
#include "refhv/boot/madt.hpp"
#include "refhv/core/platform.hpp"
#include "refhv/vcpu/guest_registers.hpp"

namespace refhv::boot {

Cpus cpus;

namespace {

Cpu first;

extern "C" const u8 ap_begin[];
extern "C" const u8 ap_end[];
extern "C" {
Cpu* ap_cpu;
u64 ap_stack;
}

template <class T>
[[nodiscard]] T load(const T& from) {
    return __atomic_load_n(&from, __ATOMIC_ACQUIRE);
}
template <class T>
void store(T& to, T value) {
    __atomic_store_n(&to, value, __ATOMIC_RELEASE);
}

// Waits for at most so many TSC ticks.
template <class Condition>
[[nodiscard]] bool wait(u64 ticks, Condition condition) {
    const u64 begin = x86::rdtsc_fenced();
    while (!condition()) {
        if (x86::rdtsc_fenced() - begin > ticks) {
            return false;
        }
        x86::pause();
    }
    return true;
}

constexpr u64 exchanges = 100, not_answered = u64{1} << 30; // TSC ticks

void answer_exchanges(void* argument) {
    auto& exchange = *static_cast<Exchange*>(argument);
    for (u64 i = 0; i < exchanges; ++i) {
        if (!wait(not_answered, [&] { return load(exchange.turn) == 2 * i + 1; })) {
            return;
        }
        exchange.tsc = x86::rdtsc_fenced();
        store(exchange.turn, 2 * i + 2);
    }
}

} // namespace

// Further CPUs arrive here, on the stack of their own.
extern "C" [[noreturn]] void cpu_main(Cpu* cpu) {
    load_descriptors(*cpu);
    enable_xsave();
    image.apic.init_other();
    store(cpu->ready, true);
    for (;;) {
        if (auto* const function = load(cpu->job); function != nullptr) {
            function(cpu->argument);
            store(cpu->job, static_cast<void (*)(void*)>(nullptr));
        } else {
            asm volatile("sti\n\thlt\n\tcli" ::
                             : "memory"); // a wake-up between the two is not lost: STI's shadow
        }
    }
}

void enable_xsave() {
    if (x86::Features::detect().xsave) {
        x86::write_cr4(x86::read_cr4() | x86::cr4::osxsave);
    }
}

void Cpus::adopt_first() {
    make_idt();
    load_descriptors(first);
    first.ready = true;
    cpus_[0] = &first;
    count_ = 1;
}

bool Cpus::bring_up(Cpu& cpu, u32 trampoline) {
    // After INIT and after a first start-up IPI that was not heard; times of SDM 3A 9.4.4.1 (10 ms and 200
    // us), which CPUs since the Pentium 4 do not need, at some GHz.
    constexpr u64 after_init = 100'000, after_first = 2'000'000, after_second = u64{1} << 29;
    ap_cpu = &cpu;
    ap_stack = reinterpret_cast<u64>(cpu.stack) + Cpu::stack_size;
    const auto ready = [&] { return load(cpu.ready); };
    image.apic.send_init(cpu.apic_id);
    (void)wait(after_init, ready);
    for (const u64 patience : {after_first, after_second}) {
        image.apic.send_startup(cpu.apic_id, static_cast<u8>(trampoline / page_size));
        if (wait(patience, ready)) {
            return true;
        }
    }
    image.apic.send_init(cpu.apic_id); // it must not come up later, once it has been left out
    return false;
}

// The answer's TSC was read between asking and hearing: it is the middle, give or take half of the way.
// false: it does not answer, and may be at it still.
bool Cpus::measure_tsc(Cpu& cpu) {
    Exchange& exchange = cpu.exchange;
    cpu.tsc_error = ~u64{0};
    start(cpu.number, {answer_exchanges, &exchange});
    for (u64 i = 0; i < exchanges; ++i) {
        const u64 before = x86::rdtsc_fenced();
        store(exchange.turn, 2 * i + 1);
        if (!wait(not_answered, [&] { return load(exchange.turn) == 2 * i + 2; })) {
            return false;
        }
        const u64 after = x86::rdtsc_fenced();
        const u64 half = (after - before) / 2;
        if (half < cpu.tsc_error) {
            cpu.tsc_error = half;
            cpu.tsc_offset = static_cast<i64>(exchange.tsc - (before + half));
        }
    }
    return wait(not_answered, [&] { return is_idle(cpu.number); });
}

void Cpus::start_others(u32 trampoline, Range& memory, const u8* acpi_root) {
    first.apic_id = image.apic.id();
    if (trampoline == 0 || !image.apic.present()) {
        return;
    }
    u32 ids[most];
    const usize listed = find_processors(
        acpi_root, [](u64 physical) { return static_cast<const u8*>(platform::to_virtual(physical)); }, ids);
    __builtin_memcpy(platform::to_virtual(trampoline), ap_begin, static_cast<usize>(ap_end - ap_begin));
    constexpr u64 bytes = (sizeof(Cpu) + page_size - 1) & ~(page_size - 1);
    for (usize i = 0; i < listed && count_ < most; ++i) {
        if (ids[i] == first.apic_id || !image.apic.reaches(ids[i]) || memory.bytes() < bytes) {
            continue;
        }
        void* const at = platform::to_virtual(memory.begin);
        __builtin_memset(at, 0, bytes);
        Cpu& cpu = *static_cast<Cpu*>(at);
        cpu.number = count_;
        cpu.apic_id = ids[i];
        memory.begin += bytes; // not given back even if it stays silent: it may yet run there
        cpus_[count_] = &cpu;
        if (bring_up(cpu, trampoline) && measure_tsc(cpu)) {
            ++count_;
        }
    }
}

void Cpus::start(u32 cpu, const Job& job) {
    Cpu& other = *cpus_[cpu];
    other.argument = job.argument;
    store(other.job, job.function);
    image.apic.send_interrupt(other.apic_id, LocalApic::wake_vector);
}

bool Cpus::is_idle(u32 cpu) const {
    return load(cpus_[cpu]->job) == nullptr;
}

} // namespace refhv::boot
