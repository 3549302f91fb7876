// SPDX-License-Identifier: MIT
// Mode `native`: the guest's bytes in ring 0 of the core's own CPU, without virtualization, for the cost that
// the ratios are taken against. The lower half of the address space is the guest's, the upper half the
// core's: for the time of a run the core's entries stand in the upper half of the guest's own PML4, so that
// the tables which the guest edits are those that the CPU walks. A guest that loads CR3 must load the value
// it started with.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/native/context.h"
#include "refhv/vcpu/guest_registers.hpp"

namespace refhv::native {

// The vector by which a guest ends its run; it comes back as Reason::int_n.
inline constexpr u8 stop_vector = 0x20;

struct Frame {
    u64 rip, cs, rflags, rsp, ss;
};

struct [[gnu::packed]] PaddedTable {
    x86::DescriptorTable table;
    u8 padding[6];
};

struct Context {
    u64 gpr[16];
    u64 host_stack;
    u64 unused;
    Frame frame;
    u64 vector, error;
    u64 guest_cr3, host_cr3;
    PaddedTable guest_gdt, guest_idt, host_gdt, host_idt;
    u64 host_cs, host_ss, host_ds, host_es;
};
static_assert(sizeof(PaddedTable) == 16);
static_assert(offsetof(Context, host_stack) == 128 && offsetof(Context, frame) == NATIVE_CTX_FRAME);
static_assert(offsetof(Context, vector) == NATIVE_CTX_VECTOR && offsetof(Context, error) == NATIVE_CTX_ERROR);
static_assert(offsetof(Context, guest_cr3) == NATIVE_CTX_GUEST_CR3);
static_assert(offsetof(Context, host_cr3) == NATIVE_CTX_HOST_CR3);
static_assert(offsetof(Context, guest_gdt) == NATIVE_CTX_GUEST_GDT);
static_assert(offsetof(Context, guest_idt) == NATIVE_CTX_GUEST_IDT);
static_assert(offsetof(Context, host_gdt) == NATIVE_CTX_HOST_GDT);
static_assert(offsetof(Context, host_idt) == NATIVE_CTX_HOST_IDT);
static_assert(offsetof(Context, host_cs) == NATIVE_CTX_HOST_CS &&
              offsetof(Context, host_ss) == NATIVE_CTX_HOST_SS);
static_assert(offsetof(Context, host_ds) == NATIVE_CTX_HOST_DS &&
              offsetof(Context, host_es) == NATIVE_CTX_HOST_ES);

class Vcpu {
  public:
    [[nodiscard]] Status create(Arena& arena, const GuestMemory& memory);
    void destroy(Arena& arena);

    [[nodiscard]] Status load(const GuestMemory& memory, const abi::GuestState& state);
    void store(const GuestMemory& memory, abi::GuestState& state);

    [[nodiscard]] Status begin(const GuestMemory& memory, const RunPlan& plan);
    [[nodiscard]] Entered enter(u64 fast, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal& refusal);
    void end();

    [[nodiscard]] bool advance(const abi::Exit& exit, const Reaction& reaction);

  private:
    void build_idt(const GuestMemory& memory, const Policy& policy);
    void lend_upper_half(const GuestMemory& memory, u64 host_cr3);
    void lend_ring0_stack(const GuestMemory& memory);

    u64 upper_half_ = 0, idt_ = 0, context_page_ = 0; // physical
    u64* pml4_ = nullptr;                             // the guest's, during a run
    Context* context_ = nullptr;
    abi::GuestState state_{};
    x86::SwitchedRegisters registers_{};
    x86::Features features_ = x86::Features::detect();
    u64 host_cr0_ = 0, host_cr4_ = 0, host_dr7_ = 0, host_rsp0_ = 0;
    u64 guest_dr7_ = 0; // during a run, but while the guest runs
    bool lent_stack_ = false;
};

} // namespace refhv::native
