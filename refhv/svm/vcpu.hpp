// SPDX-License-Identifier: MIT
// One virtual CPU on SVM: its VMCB, NPT, permission maps and the context of the world switch.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/shadow/guest_exits.hpp"
#include "refhv/svm/context.h"
#include "refhv/svm/cpu.hpp"
#include "refhv/svm/floor.hpp"
#include "refhv/svm/npt.hpp"
#include "refhv/svm/tsc_ratio.hpp"
#include "refhv/svm/vmcb.hpp"
#include "refhv/vcpu/extras.hpp"
#include "refhv/vcpu/fast_exits.hpp"
#include "refhv/vcpu/guest_registers.hpp"
#include "refhv/vcpu/single_step.hpp"

namespace refhv::svm {

// What enter.S works on.
struct Context {
    u64 gpr[16]; // RAX and RSP live in the VMCB while the guest runs
    u64 host_stack;
    abi::HostStamp* stamp;
    Vmcb* vmcb;
    u64 vmcb_physical;
    // Per exit code: how many exits enter.S may answer by stepping over the instruction, in the filtered
    // variants what EXITINFO1 must be under a mask for that, and the instruction's length.
    i64 budget[SVM_EXIT_CODES];
    u64 mask[SVM_EXIT_CODES], match[SVM_EXIT_CODES];
    u8 length[SVM_EXIT_CODES];
    x86::ExtraWork* work; // of runs with extras
};
static_assert(offsetof(Context, host_stack) == 128 && offsetof(Context, stamp) == 136);
static_assert(offsetof(Context, vmcb) == SVM_CTX_VMCB);
static_assert(offsetof(Context, vmcb_physical) == SVM_CTX_VMCB_PHYSICAL);
static_assert(offsetof(Context, budget) == SVM_CTX_BUDGET && offsetof(Context, length) == SVM_CTX_LENGTH);
static_assert(offsetof(Context, mask) == SVM_CTX_MASK && offsetof(Context, match) == SVM_CTX_MATCH);
static_assert(offsetof(Context, work) == SVM_CTX_WORK);
static_assert(offsetof(Vmcb, clean_bits) == VMCB_CLEAN_BITS && offsetof(Vmcb, cr0) == VMCB_CR0);
static_assert(offsetof(Vmcb, exit_info_1) == VMCB_EXIT_INFO_1);
static_assert(offsetof(Vmcb, exit_code) == VMCB_EXIT_CODE && offsetof(Vmcb, rip) == VMCB_RIP);
static_assert(offsetof(Vmcb, rax) == VMCB_RAX);

using WorldSwitch = void (*)(Context*);
// Of an Extra; null: it has none of its own.
[[nodiscard]] WorldSwitch extra_switch(abi::Extra extra, bool stamped);

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
    void leave_cpu() {}
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
    [[nodiscard]] bool takes_nmi();
    [[nodiscard]] bool deliver_nmi();
    void await_interrupt_window(bool wanted);
    [[nodiscard]] bool has_nmi_window() const { return false; }
    void await_nmi_window(bool) {}
    [[nodiscard]] bool map(const GuestMemory& memory, const abi::Exit& exit);
    [[nodiscard]] static bool emulates(abi::Reason reason);
    // x86::HoldsGuestMsrs
    [[nodiscard]] u64 guest_cr0() const { return vmcb_->cr0; }
    [[nodiscard]] bool guest_msr(u32 index, u64& value) const;
    void set_guest_msr(u32 index, u64 value);
    // shadow::Shadowed
    [[nodiscard]] u64 guest_rflags() const { return vmcb_->rflags; }
    [[nodiscard]] unsigned guest_cpl() const { return vmcb_->cpl; }
    [[nodiscard]] bool in_64_bit_mode() const;
    [[nodiscard]] u64 guest_gpr(unsigned number) const;
    void set_guest_gpr(unsigned number, u64 value);
    [[nodiscard]] u64 guest_cr2() const { return vmcb_->cr2; }
    void set_guest_cr2(u64 value) { vmcb_->cr2 = value; }
    [[nodiscard]] u64 vectoring() const { return vmcb_->exit_int_info; }
    [[nodiscard]] shadow::PageFault page_fault_of(const abi::Exit& exit) const;
    [[nodiscard]] x86::Decoded instruction(const abi::Exit& exit);
    void raise(u32 vector, u32 error);
    void hand_on_page_fault(abi::Exit& exit, u32 error);
    void write_translation_registers();
    void forget_if_needed();
    void begin_instruction();
    void end_instruction() {
        if (step_.is_on()) [[unlikely]] {
            stop_stepping();
        }
    }
    [[nodiscard]] bool is_stepping() const { return step_.is_on(); }
    [[nodiscard]] bool ends_instruction(const abi::Exit& exit);

  private:
    struct PagingRegisters {
        u64 cr0, cr3, cr4, efer;
        [[nodiscard]] bool operator==(const PagingRegisters&) const = default;
    };
    [[nodiscard]] PagingRegisters paging_registers() const;
    void drop_if_changed(const PagingRegisters& before);
    void retag();
    [[nodiscard]] TlbControl due_flush() const; // of all that ask for one, the strongest
    [[nodiscard]] bool create_translation(Arena& arena, const GuestMemory& memory);
    // The safety floor (floor.cpp).
    void lay_floor();
    [[nodiscard]] bool answers_for_host(const abi::Exit& exit);
    [[nodiscard]] bool own_exception(const abi::Exit& exit);
    [[nodiscard]] bool own_cr4(const abi::Exit& exit);
    [[nodiscard]] u64 guest_cr4() const;
    void set_guest_cr4(u64 value);
    // The shadow MMU's side (translate.cpp).
    void intercept_translation();
    [[nodiscard]] bool shadows(u32 code) const;
    void raise_single_step();
    [[nodiscard]] bool ends_nmi(const abi::Exit& exit);
    void unblock_nmis();
    void intercept_iret(bool on);
    void stop_stepping();
    [[nodiscard]] bool can_exit(u32 code) const;
    [[nodiscard]] bool is_hosts(u32 code) const;
    void set_rules(const Policy& policy);
    void begin_extras();
    void end_extras();
    void switch_with_extras(u64* counts);

    Cpu& cpu_;
    u64 vmcb_physical_ = 0, maps_ = 0, context_page_ = 0; // maps: IOPM (3 pages), MSRPM (2 pages)
    Vmcb* vmcb_ = nullptr;
    Context* context_ = nullptr;
    NestedTables<NptFormat> npt_;
    Floor floor_;
    u64 guest_mce_ = 0;   // CR4.MCE as the guest believes to have it
    u64 fifth_level_ = 0; // physical; where the host's paging has five
    x86::SwitchedRegisters registers_{};
    const x86::Features features_ = x86::Features::detect();
    FastExits<SVM_EXIT_CODES> fast_;
    bool stamped_ = false, filtered_ = false;
    WorldSwitch switch_ = nullptr; // of this run
    x86::Extras extras_;
    bool flushing_ = false; // TagPolicy::flushing
    u64 asid_round_ = 0;
    u64 flush_round_ = 0; // of the ASID that the next VMRUN has
    bool has_run_ = false;
    u32 own_asid_ = 0;                       // the VMCB may have the client's
    bool flush_pending_ = false;             // the next VMRUN, and no later one, flushes
    TlbControl armed_ = TlbControl::nothing; // the client's, for the next VMRUN
    u64 host_dr7_ = 0;
    u16 host_es_ = 0, host_ds_ = 0;
    TscRatio tsc_ratio_;
    IpiTarget ipis_;                  // of this run
    u64 intercepts_ = 0;              // the client's
    u32 exceptions_ = 0;              // the client's
    shadow::GuestMmu* mmu_ = nullptr; // modes shadow and vtlb
    bool has_own_exits_ = false;      // exits may be the core's: mmu_, or nmi_blocked_
    bool nmi_blocked_ = false;        // the guest is in the handler of an NMI that the run handed to it
    bool at_iret_ = false;            // at the end of that, at
    u64 iret_rip_ = 0;                // … here
    SingleStep step_;
    u32 clients_exceptions_ = 0;        // the intercepts that hold otherwise
    bool window_awaited_ = false;       // by V_IRQ; meanwhile what the client has there is
    u64 clients_virtual_interrupt_ = 0; // … here
    u32 clients_vintr_ = 0;             // and its intercept
    u32 on_cpu_ = 0;
};

// Turns the exit that the VMCB describes into neutral terms, as far as an answer to it needs.
void decode_exit(const Vmcb& vmcb, bool nrip_save, abi::Exit& exit);
// The neutral reason of an exit code that stands for one neutral reason only and is answered by stepping over
// an instruction; `none` for every other.
[[nodiscard]] abi::Reason plain_reason(u32 code);

// When enter.S may answer an exit by itself: EXITINFO1 must equal match under mask. reason none: never.
struct FastRule {
    abi::Reason reason;
    u64 mask, match;
};
[[nodiscard]] FastRule fast_rule(u32 code, const Policy& policy);

} // namespace refhv::svm
