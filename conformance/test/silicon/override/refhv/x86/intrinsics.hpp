// SPDX-License-Identifier: MIT
// The privileged instructions of refhv/x86/intrinsics.hpp on the machine in
// conformance/test/silicon/machine.hpp.
#pragma once

#include "refhv/x86/cpuid.hpp"

namespace refhv::x86 {

[[nodiscard]] inline silicon::Machine& the_cpu() {
    return silicon::machine();
}

[[nodiscard]] inline u64 rdtsc() {
    the_cpu().step("rdtsc");
    return the_cpu().tsc;
}
[[nodiscard]] inline u64 rdtsc_fenced() {
    return rdtsc();
}
[[nodiscard]] inline u64 rdmsr(u32 msr) {
    return the_cpu().rdmsr(msr);
}
inline void wrmsr(u32 msr, u64 value) {
    the_cpu().wrmsr(msr, value);
}

#define REFHV_READ(name)                                                                                     \
    [[nodiscard]] inline u64 read_##name() {                                                                 \
        return the_cpu().name;                                                                               \
    }
#define REFHV_PLAIN(name)                                                                                    \
    REFHV_READ(name)                                                                                         \
    inline void write_##name(u64 v) {                                                                        \
        the_cpu().name = v;                                                                                  \
        the_cpu().step("mov " #name);                                                                        \
    }
#define REFHV_CHECKED(name)                                                                                  \
    REFHV_READ(name)                                                                                         \
    inline void write_##name(u64 v) {                                                                        \
        the_cpu().write_##name(v);                                                                           \
    }
REFHV_PLAIN(cr2)
REFHV_PLAIN(cr3)
REFHV_CHECKED(cr0)
REFHV_CHECKED(cr4)
REFHV_CHECKED(cr8)
REFHV_CHECKED(dr6)
REFHV_CHECKED(dr7)
#undef REFHV_READ
#undef REFHV_PLAIN
#undef REFHV_CHECKED

#define REFHV_BREAKPOINT(n)                                                                                  \
    [[nodiscard]] inline u64 read_dr##n() {                                                                  \
        return the_cpu().dr[n];                                                                              \
    }                                                                                                        \
    inline void write_dr##n(u64 v) {                                                                         \
        the_cpu().dr[n] = v;                                                                                 \
        the_cpu().step("mov dr");                                                                            \
    }
REFHV_BREAKPOINT(0)
REFHV_BREAKPOINT(1)
REFHV_BREAKPOINT(2)
REFHV_BREAKPOINT(3)
#undef REFHV_BREAKPOINT

#define REFHV_SELECTOR(name)                                                                                 \
    [[nodiscard]] inline u16 read_##name() {                                                                 \
        return the_cpu().selectors[silicon::name];                                                           \
    }                                                                                                        \
    inline void write_##name(u16 v) {                                                                        \
        the_cpu().load_segment(silicon::name, v);                                                            \
    }
REFHV_SELECTOR(cs)
REFHV_SELECTOR(ss)
REFHV_SELECTOR(ds)
REFHV_SELECTOR(es)
REFHV_SELECTOR(fs)
REFHV_SELECTOR(gs)
#undef REFHV_SELECTOR

[[nodiscard]] inline u16 str() {
    return the_cpu().tr.selector;
}
[[nodiscard]] inline u16 sldt() {
    return the_cpu().ldtr;
}

struct [[gnu::packed]] DescriptorTable {
    u16 limit;
    u64 base;
};

[[nodiscard]] inline DescriptorTable sgdt() {
    return {the_cpu().gdtr.limit, the_cpu().gdtr.base};
}
[[nodiscard]] inline DescriptorTable sidt() {
    return {the_cpu().idtr.limit, the_cpu().idtr.base};
}
inline void lgdt(const DescriptorTable& t) {
    the_cpu().gdtr = {t.limit, t.base};
}
inline void lidt(const DescriptorTable& t) {
    the_cpu().idtr = {t.limit, t.base};
}
inline void ltr(u16 selector) {
    the_cpu().load_task(selector);
}
inline void lldt(u16 selector) {
    the_cpu().ldtr = selector;
}
inline void swapgs() {
    the_cpu().swapgs();
}

[[nodiscard]] inline u64 rflags() {
    return the_cpu().rflags;
}
inline void cli() {
    the_cpu().rflags &= ~u64{1u << 9};
}
inline void sti() {
    the_cpu().rflags |= 1u << 9;
}
inline void pause() {}

[[nodiscard]] inline u64 xgetbv(u32 = 0) {
    return the_cpu().xcr0;
}
inline void xsetbv(u32 index, u64 value) {
    the_cpu().xsetbv(index, value);
}

} // namespace refhv::x86
