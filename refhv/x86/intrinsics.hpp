// SPDX-License-Identifier: MIT
// One-line wrappers of privileged and serializing instructions (SDM volume 2; APM volume 3).
#pragma once

#include "refhv/x86/cpuid.hpp"

namespace refhv::x86 {

// Not ordered with what stands before or behind.
[[nodiscard]] inline u64 rdtsc() {
    u32 lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return u64{hi} << 32 | lo;
}

// Ordered on both sides: LFENCE waits for what stands before and holds back what stands behind (SDM 2B
// RDTSC).
[[nodiscard]] inline u64 rdtsc_fenced() {
    u32 lo, hi;
    asm volatile("lfence\n\trdtsc\n\tlfence" : "=a"(lo), "=d"(hi)::"memory");
    return u64{hi} << 32 | lo;
}

[[nodiscard]] inline u64 rdmsr(u32 msr) {
    u32 lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return u64{hi} << 32 | lo;
}

inline void wrmsr(u32 msr, u64 value) {
    asm volatile("wrmsr" ::"c"(msr), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32))
                 : "memory");
}

#define REFHV_CONTROL_REGISTER(name)                                                                         \
    [[nodiscard]] inline u64 read_##name() {                                                                 \
        u64 v;                                                                                               \
        asm volatile("mov %%" #name ", %0" : "=r"(v)::"memory");                                             \
        return v;                                                                                            \
    }                                                                                                        \
    inline void write_##name(u64 v) {                                                                        \
        asm volatile("mov %0, %%" #name ::"r"(v) : "memory");                                                \
    }
REFHV_CONTROL_REGISTER(cr0)
REFHV_CONTROL_REGISTER(cr2)
REFHV_CONTROL_REGISTER(cr3)
REFHV_CONTROL_REGISTER(cr4)
REFHV_CONTROL_REGISTER(cr8)
REFHV_CONTROL_REGISTER(dr0)
REFHV_CONTROL_REGISTER(dr1)
REFHV_CONTROL_REGISTER(dr2)
REFHV_CONTROL_REGISTER(dr3)
REFHV_CONTROL_REGISTER(dr6)
REFHV_CONTROL_REGISTER(dr7)
#undef REFHV_CONTROL_REGISTER

#define REFHV_SELECTOR(name)                                                                                 \
    [[nodiscard]] inline u16 read_##name() {                                                                 \
        u16 v;                                                                                               \
        asm volatile("mov %%" #name ", %0" : "=r"(v));                                                       \
        return v;                                                                                            \
    }
REFHV_SELECTOR(cs)
REFHV_SELECTOR(ss)
REFHV_SELECTOR(ds)
REFHV_SELECTOR(es)
REFHV_SELECTOR(fs)
REFHV_SELECTOR(gs)
#undef REFHV_SELECTOR

inline void write_ds(u16 v) {
    asm volatile("mov %0, %%ds" ::"r"(v));
}
inline void write_es(u16 v) {
    asm volatile("mov %0, %%es" ::"r"(v));
}
inline void write_fs(u16 v) {
    asm volatile("mov %0, %%fs" ::"r"(v));
}
inline void write_gs(u16 v) {
    asm volatile("mov %0, %%gs" ::"r"(v));
}

[[nodiscard]] inline u16 str() {
    u16 v;
    asm volatile("str %0" : "=r"(v));
    return v;
}

[[nodiscard]] inline u16 sldt() {
    u16 v;
    asm volatile("sldt %0" : "=r"(v));
    return v;
}

struct [[gnu::packed]] DescriptorTable {
    u16 limit;
    u64 base;
};
static_assert(sizeof(DescriptorTable) == 10);

[[nodiscard]] inline DescriptorTable sgdt() {
    DescriptorTable t;
    asm volatile("sgdt %0" : "=m"(t));
    return t;
}

[[nodiscard]] inline DescriptorTable sidt() {
    DescriptorTable t;
    asm volatile("sidt %0" : "=m"(t));
    return t;
}

inline void lgdt(const DescriptorTable& t) {
    asm volatile("lgdt %0" ::"m"(t));
}
inline void lidt(const DescriptorTable& t) {
    asm volatile("lidt %0" ::"m"(t));
}
inline void ltr(u16 selector) {
    asm volatile("ltr %0" ::"r"(selector));
}
inline void lldt(u16 selector) {
    asm volatile("lldt %0" ::"r"(selector));
}

inline void swapgs() {
    asm volatile("swapgs" ::: "memory");
}

[[nodiscard]] inline u64 rflags() {
    u64 v;
    asm volatile("pushfq\n\tpop %0" : "=r"(v));
    return v;
}

inline void cli() {
    asm volatile("cli" ::: "memory");
}
inline void sti() {
    asm volatile("sti" ::: "memory");
}
inline void pause() {
    asm volatile("pause");
}

[[nodiscard]] inline u64 xgetbv(u32 index = 0) {
    u32 lo, hi;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(index));
    return u64{hi} << 32 | lo;
}

inline void xsetbv(u32 index, u64 value) {
    asm volatile("xsetbv" ::"c"(index), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32)));
}

inline void outb(u16 port, u8 value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void outw(u16 port, u16 value) {
    asm volatile("outw %0, %1" ::"a"(value), "Nd"(port));
}
[[nodiscard]] inline u8 inb(u16 port) {
    u8 v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

inline void rep_outsb(u16 port, const u8* bytes, usize count) {
    asm volatile("rep outsb" : "+S"(bytes), "+c"(count) : "d"(port) : "memory");
}

} // namespace refhv::x86
