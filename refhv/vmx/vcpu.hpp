// SPDX-License-Identifier: MIT
// One virtual CPU on VMX: its VMCS, EPT, bitmaps and the context of the world switch.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/shadow/guest_exits.hpp"
#include "refhv/vcpu/extras.hpp"
#include "refhv/vcpu/fast_exits.hpp"
#include "refhv/vcpu/guest_registers.hpp"
#include "refhv/vcpu/single_step.hpp"
#include "refhv/vmx/context.h"
#include "refhv/vmx/cpu.hpp"
#include "refhv/vmx/ept.hpp"
#include "refhv/vmx/floor.hpp"

namespace refhv::vmx {

// What enter.S works on. While the guest runs it is the host's stack pointer: an exception on the host would
// push in front of it, so room for one is kept there.
struct Context {
    u64 gpr[16];
    u64 host_stack;
    abi::HostStamp* stamp;
    u64 launched;
    // Per basic exit reason: how many exits enter.S may answer by stepping over the instruction …
    i64 budget[VMX_EXIT_REASONS];
    // … and in the filtered variants: the field that must equal `match` under `mask`, and how far to step;
    // negative: as far as the VM-exit instruction length says.
    u64 field[VMX_EXIT_REASONS], mask[VMX_EXIT_REASONS], match[VMX_EXIT_REASONS];
    i64 length[VMX_EXIT_REASONS];
    x86::ExtraWork* work; // of runs with extras
};
static_assert(offsetof(Context, host_stack) == 128 && offsetof(Context, stamp) == 136);
static_assert(offsetof(Context, launched) == VMX_CTX_LAUNCHED);
static_assert(offsetof(Context, budget) == VMX_CTX_BUDGET && offsetof(Context, field) == VMX_CTX_FIELD);
static_assert(offsetof(Context, mask) == VMX_CTX_MASK && offsetof(Context, match) == VMX_CTX_MATCH);
static_assert(offsetof(Context, length) == VMX_CTX_LENGTH && offsetof(Context, work) == VMX_CTX_WORK);
static_assert(static_cast<u32>(Field::exit_reason) == VMCS_EXIT_REASON);
static_assert(static_cast<u32>(Field::exit_instruction_length) == VMCS_EXIT_INSTRUCTION_LENGTH);
static_assert(static_cast<u32>(Field::guest_rip) == VMCS_GUEST_RIP);
static_assert(static_cast<u32>(Field::exit_qualification) == VMCS_EXIT_QUALIFICATION);
static_assert(static_cast<u32>(Field::exit_interruption_info) == VMCS_EXIT_INTERRUPTION_INFO);
static_assert(static_cast<u32>(Field::guest_cr0) == VMCS_GUEST_CR0);

struct WorldSwitch {
    u32 (*enter)(Context*);
    const char* exit; // HOST_RIP
};
// Of an Extra; null: it has none of its own.
[[nodiscard]] const WorldSwitch* extra_switch(abi::Extra extra, bool stamped);

class Vcpu {
  public:
    explicit Vcpu(Cpu& cpu) : cpu_(cpu) {}

    [[nodiscard]] Status create(Arena& arena, const GuestMemory& memory);
    void destroy(Arena& arena);

    [[nodiscard]] Status load(const GuestMemory& memory, const abi::GuestState& state);
    void store(const GuestMemory& memory, abi::GuestState& state);
    [[nodiscard]] Status field(const GuestMemory& memory, const abi::Field& field, bool write,
                               abi::FieldReply& reply);
    void intercept(const abi::InterceptSet& set, abi::InterceptReply& reply);
    [[nodiscard]] Status intercept_msr(const abi::MsrIntercept& what);
    [[nodiscard]] Status intercept_io(const abi::IoIntercept& what);
    [[nodiscard]] Status protect(const GuestMemory& memory, const abi::NestedProtect& what);
    [[nodiscard]] Status nested_entry(const GuestMemory& memory, const abi::NestedEntry& what,
                                      abi::NestedEntryReply& reply);
    [[nodiscard]] Status invalidate(const abi::Invalidate& what, abi::InvalidateReply& reply);

    [[nodiscard]] Status equip(Arena& arena, u64 extras, u32 count);
    void leave_cpu();
    [[nodiscard]] Status arrive(Arena& arena, u32 cpu);
    [[nodiscard]] Status begin(const GuestMemory& memory, const RunPlan& plan);
    [[nodiscard]] Entered enter(u64 fast, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal& refusal);
    void describe(abi::Exit& exit);
    [[nodiscard]] abi::HostStamp* stamps_end() const { return context_->stamp; }
    void end();
    void take_registers();
    void give_registers();

    [[nodiscard]] bool translate(abi::Exit& exit);
    [[nodiscard]] bool advance(const abi::Exit& exit, const Reaction& reaction);
    [[nodiscard]] bool emulate(const abi::Exit& exit, const Reaction& reaction);
    [[nodiscard]] bool inject(const abi::Exit& exit);
    [[nodiscard]] bool can_deliver(Event event) const;
    [[nodiscard]] bool deliver(Event event, u32 error = 0);
    [[nodiscard]] bool redeliver(const abi::Exit& exit);
    [[nodiscard]] bool takes_interrupt(u8 vector);
    [[nodiscard]] bool takes_nmi() const;
    [[nodiscard]] bool deliver_nmi(); // virtual NMIs block (SDM 3C 27.6.2)
    void await_interrupt_window(bool wanted);
    [[nodiscard]] bool has_nmi_window() const;
    void await_nmi_window(bool wanted);
    [[nodiscard]] bool map(const GuestMemory& memory, const abi::Exit& exit);
    [[nodiscard]] static bool emulates(abi::Reason reason);
    // x86::HoldsGuestMsrs
    [[nodiscard]] u64 guest_cr0() const;
    [[nodiscard]] bool guest_msr(u32 index, u64& value) const;
    void set_guest_msr(u32 index, u64 value);
    // shadow::Shadowed
    [[nodiscard]] u64 guest_rflags() const;
    [[nodiscard]] unsigned guest_cpl() const;
    [[nodiscard]] bool in_64_bit_mode() const;
    [[nodiscard]] u64 guest_gpr(unsigned number) const;
    void set_guest_gpr(unsigned number, u64 value);
    [[nodiscard]] u64 guest_cr2() const { return x86::read_cr2(); }
    void set_guest_cr2(u64 value) { x86::write_cr2(value); }
    [[nodiscard]] u64 vectoring() const;
    [[nodiscard]] shadow::PageFault page_fault_of(const abi::Exit& exit) const;
    [[nodiscard]] x86::Decoded instruction(const abi::Exit& exit) const;
    void raise(u32 vector, u32 error);
    void hand_on_page_fault(abi::Exit& exit, u32 error);
    void write_translation_registers();
    void forget_if_needed();
    void begin_instruction();
    void end_instruction();
    [[nodiscard]] bool is_stepping() const { return step_.is_on(); }
    [[nodiscard]] bool ends_instruction(const abi::Exit& exit);

  private:
    [[nodiscard]] bool request_virtually(u32 vector);
    [[nodiscard]] u8* find_virtual_apic(const GuestMemory& memory) const;
    // A host-state field that the client wants to see refused: written over the right one at every run.
    struct HostOverride {
        u32 field;
        u64 value;
    };

    void write_default_controls(const GuestMemory& memory);
    void write_host_state();
    [[nodiscard]] bool override_host_field(u32 field, u64 value);
    void override_host_state() const;
    void follow_host();
    void restore_host_state();
    void load_host_gs() const;
    void drop_translations();
    void drop_tagged();
    void virtualize_nmis(bool wanted);
    void end_virtual_nmis();
    void keep_nmis_blocked(const abi::Exit& exit);
    void block_nmis_again();
    [[nodiscard]] bool create_translation(Arena& arena, const GuestMemory& memory);
    void make_current();
    static void load_pdptes(const GuestMemory& memory, const abi::GuestState& s);
    static void load_interrupt_shadow(const abi::GuestState& s);
    // The safety floor (floor.cpp).
    void lay_floor();
    [[nodiscard]] bool answers_for_host(const abi::Exit& exit);
    [[nodiscard]] bool own_exception(const abi::Exit& exit);
    [[nodiscard]] bool own_cr0_write(const abi::Exit& exit);
    [[nodiscard]] bool own_cr4_write(const abi::Exit& exit);
    [[nodiscard]] bool own_cr8(const abi::Exit& exit);
    [[nodiscard]] u8* own_tpr() const;
    [[nodiscard]] u64 guest_cr8() const;
    void set_guest_cr8(u64 value);
    void await_tpr(u64 threshold);
    void write_interrupt_window();
    void raise_general_protection();
    void step_over();
    void move_rip(u64 length);
    void end_interrupt_shadow();
    [[nodiscard]] u64 control_operand(const abi::Exit& exit) const;
    [[nodiscard]] u64 cr0_fixed0() const;
    [[nodiscard]] u64 wanted_cr0_mask() const;
    [[nodiscard]] u64 wanted_cr4_mask() const;
    void begin_extras();
    void end_extras();

    Cpu& cpu_;
    u64 vmcs_ = 0, bitmaps_ = 0, context_page_ = 0; // bitmaps: I/O A, I/O B, MSR
    u64 virtual_apic_page_ = 0;                     // of the TPR shadow, where the CPU has one
    Floor floor_;
    Context* context_ = nullptr;
    NestedTables<EptFormat> ept_;
    x86::SwitchedRegisters registers_{};
    const x86::Features features_ = x86::Features::detect();
    void set_rules(const Policy& policy);
    [[nodiscard]] bool shadows(u32 basic) const; // exits of this reason may be the shadow MMU's

    FastExits<VMX_EXIT_REASONS> fast_;
    bool stamped_ = false, filtered_ = false;
    const WorldSwitch* switch_ = nullptr; // of this run
    x86::Extras extras_;
    u64 intercepts_ = 0;              // the client's
    u32 exceptions_ = 0;              // the client's
    shadow::GuestMmu* mmu_ = nullptr; // modes shadow and vtlb
    SingleStep step_;
    u64 real_efer_ = 0;             // as the VMCS has it, with the entry control that goes with it
    u32 fault_error_ = 0;           // of the last guest #PF that the shadow MMU found
    bool window_awaited_ = false;   // by interrupt-window exiting, or by
    u64 awaited_tpr_ = 0;           // … the TPR threshold, where the guest's CR8 is in the way
    bool iret_unblocked_ = false;   // an IRET that is still to come has unblocked NMIs
    bool own_nmis_ = false;         // virtual NMIs are on for the run's sake
    bool virtual_blocking_ = false; // and between two such runs, what of them is blocked
    bool own_fault_ = false;        // and that one is being handed to the policy
    bool acknowledges_ = false;     // during a run: the exit by an interrupt takes it off the APIC
    u8* virtual_apic_ = nullptr;    // during a run: where virtual interrupts are requested
    HostOverride overrides_[28]{};  // there are as many fields
    u32 override_count_ = 0;
    IpiTarget ipis_; // of this run
    // What a VM exit does not bring back as it was (SDM 3C 28.5), saved at begin.
    struct {
        x86::DescriptorTable gdtr, idtr;
        u16 fs, gs, ds, es, ldtr, tr;
        u64 fs_base, gs_base, dr7, debugctl;
        u64 cr3, cr4; // as the host-state area has them
    } host_{};
};

// Turns the exit that the current VMCS describes into neutral terms, as far as an answer to it needs.
void decode_exit(abi::Exit& exit);
// The neutral reason of a basic exit reason that stands for one neutral reason only and comes with an
// instruction length, so that enter.S may step over it unseen; `none` for every other.
[[nodiscard]] abi::Reason plain_reason(u32 basic);

// When enter.S may answer an exit by itself.
struct FastRule {
    abi::Reason reason; // none: never
    Field field;        // which must equal match under mask
    u64 mask, match;
    i64 length; // bytes to step over; negative: the VM-exit instruction length
    [[nodiscard]] bool needs_filter() const { return mask != 0 || length >= 0; }
};
inline constexpr FastRule no_rule{abi::Reason::none, Field::exit_qualification, 0, 0, -1};
[[nodiscard]] FastRule fast_rule(u32 basic, const Policy& policy, u32 exception_bitmap);

} // namespace refhv::vmx
