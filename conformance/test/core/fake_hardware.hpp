// SPDX-License-Identifier: MIT
// Hardware for BasicCore that is none: a vCPU whose exits a test writes down in the guest's registers, and a
// platform whose physical memory is an ordinary buffer.
#pragma once

#include "refhv/core/core_controls.hpp"
#include "refhv/core/core_impl.hpp"
#include "refhv/core/core_probes.hpp"
#include "refhv/core/core_run.hpp"
#include "refhv/core/core_vms.hpp"
#include "refhv/svm/vmcb_rules.hpp"
#include "refhv/vcpu/probe.hpp"
#include "refhv/vmx/ept.hpp"
#include "refhv/vmx/field_rules.hpp"

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <vector>

namespace refhv::fake {

// Physical memory begins here, so that address 0 and small numbers are never valid.
inline constexpr u64 physical_base = 0x10'0000;

// What the platform permits: that of the bootable image; a production platform's is none.
inline Permissions permissions = permit_all;

// What peers sent since the program began.
inline std::atomic<u64> interrupts_sent = 0;
// A guest's vector that awaits take_guest_vector; waiting for an interrupt brings one.
inline u8 arrived = 0;

// Of each CPU. The host's timer is armed, and goes off at the next moment that the host has interrupts on, or
// the guest runs.
inline thread_local bool timer_armed = false;
// So many other interrupts of the host's own are pending; a window takes all.
inline thread_local u64 pending = 0;
// Times that the host had its interrupts on since the program began, and the most exits between two.
inline thread_local u64 windows = 0, exits_since_window = 0, most_exits = 0;
// A guest's vector comes in with the n-th window from here; 0: none. And the last that was delivered.
inline thread_local u64 arrives_in = 0;
inline u32 delivered = 0, delivered_error = 0;
// Does waiting for an interrupt bring a guest's?
inline bool wakes = true;
// Times that the host could have the CPU outside runs.
inline thread_local u64 breaths = 0;
// platform::window_interval. Where it is not 0 the host wants its registers in each window: does it have them
// now, how often did it get them, and how often were they missing?
inline u64 window_interval = 0;
inline thread_local bool registers_given = true;
inline thread_local u64 gifts = 0, windows_without_registers = 0;
// The client asks for the end.
inline bool stop = false;

// Gives the platform functions `bytes` of zeroed memory; what was there before is gone.
void reset_memory(u64 bytes);

struct VmxCpu {
    static inline abi::BackendStatus status = abi::BackendStatus::usable;
    static inline std::vector<u32> left; // CPUs
    static Probe probe() { return {status, "fake VMX"}; }
    static void disable(Arena&, u32 cpu) { left.push_back(cpu); }
};

struct SvmCpu {
    static inline abi::BackendStatus status = abi::BackendStatus::absent;
    static Probe probe() { return {status, "fake SVM"}; }
    static void disable(Arena&, u32) {}
};

// What a vCPU has besides its registers, by GuestMemory::slot; it outlives the vCPU, so that a test can look.
struct Controls {
    bool svm = false, alive = false;
    GuestMemory memory{};
    u64 root = 0; // of the nested tables
    std::map<u32, u64> vmcs;
    svm::Vmcb vmcb{};
    // As the core makes them: what the host must keep.
    void reset(bool is_svm, const GuestMemory& of, u64 own_root);
    [[nodiscard]] u64 get(vmx::Field f) const {
        const auto found = vmcs.find(static_cast<u32>(f));
        return found != vmcs.end() ? found->second : 0;
    }
};
inline std::array<Controls, abi::max_vms> controls;

// RAX holds the abi::Reason that the guest exits with, RCX how often before it exits with hlt, RDX the
// guest-physical address of a violation. This one runs, and no more.
class NativeVcpu {
  public:
    Status create(Arena&, const GuestMemory&) { return {}; }
    void destroy(Arena&) {}
    Status load(const GuestMemory&, const abi::GuestState& s) {
        state_ = s;
        return {};
    }
    void store(const GuestMemory&, abi::GuestState& s) { s = state_; }
    // What the last run was told to do.
    static inline u64 extras = 0;
    static inline bool memory_changed = false;
    Status begin(const GuestMemory& memory, const RunPlan& plan) {
        memory_changed = memory.changed;
        const auto reason = static_cast<usize>(abi::Reason::cpuid);
        fast_ = plan.policy.reactions[reason].action == abi::Action::advance;
        stamp_ = plan.stamps;
        extras = plan.extras;
        registers_given = false;
        return {};
    }
    Entered enter(u64 n, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal&) {
        windows_without_registers += registers_given ? 1 : 0; // nor may the guest run with the host's
        const u64 before = handled;
        const Entered entered = leave(n, counts, handled, exit);
        exits_since_window += handled - before + 1;
        most_exits = exits_since_window > most_exits ? exits_since_window : most_exits;
        return entered;
    }
    void end() { registers_given = true; }
    bool advance(const abi::Exit&, const Reaction&) { return true; }

  protected:
    abi::GuestState state_{};
    abi::HostStamp* stamp_ = nullptr;

  private:
    Entered leave(u64 n, u64* counts, u64& handled, abi::Exit& exit) {
        u64& left = state_.gpr[abi::rcx];
        const u64 reason = state_.gpr[abi::rax] % static_cast<u64>(abi::Reason::count_);
        if (fast_ && reason == static_cast<u64>(abi::Reason::cpuid)) {
            const u64 answered = n < left ? n : left;
            counts[reason] += answered;
            handled += answered;
            left -= answered;
            take_stamps(answered);
        }
        exit.reason = static_cast<u16>(left == 0 ? static_cast<u64>(abi::Reason::hlt) : reason);
        left -= left == 0 ? 0 : 1;
        take_stamps(1);
        // A guest that waits for an interrupt and gets none never exits; here it says so by a triple fault.
        if (exit.reason == static_cast<u16>(abi::Reason::external_interrupt) && !timer_armed &&
            pending == 0) {
            exit.reason = static_cast<u16>(abi::Reason::triple_fault);
        }
        return state_.rip == 0xbad ? Entered::refused : Entered::exited;
    }
    void take_stamps(u64 count) {
        for (u64 i = 0; stamp_ != nullptr && i < count && state_.gpr[abi::rcx] != 0; ++i) {
            *stamp_++ = {1, 2};
        }
    }

    bool fast_ = false;
};

class Vcpu : public NativeVcpu {
  public:
    explicit Vcpu(VmxCpu&) : svm_(is_svm) {}
    explicit Vcpu(SvmCpu&) : svm_(true) {}
    void give_registers() {
        registers_given = true;
        ++gifts;
    }
    void take_registers() { registers_given = false; }

    static inline bool is_svm = false; // what the next one made is, of a core for VMX

    // Nested tables are real, in fake memory: requests reach them, and the platform watches what they touch.
    Status create(Arena& arena, const GuestMemory& memory) {
        if (!tables_.create(arena, memory)) {
            return refuse(abi::Outcome::exhausted, "nested tables");
        }
        mine_ = &controls[memory.slot];
        mine_->reset(svm_, memory, tables_.root());
        return {};
    }
    // On SVM DR6 is the VMCB's, which raw fields reach.
    Status load(const GuestMemory& memory, const abi::GuestState& s) {
        mine_->vmcb.dr6 = s.dr6;
        return NativeVcpu::load(memory, s);
    }
    void store(const GuestMemory& memory, abi::GuestState& s) {
        NativeVcpu::store(memory, s);
        s.dr6 = svm_ ? mine_->vmcb.dr6 : s.dr6;
    }
    void destroy(Arena& arena) {
        mine_->alive = false;
        tables_.destroy(arena);
    }
    Status field(const GuestMemory& memory, const abi::Field& f, bool write, abi::FieldReply& r) {
        r.value = f.value;
        return svm_ ? vmcb_field(memory, f, write, r) : vmcs_field(memory, f, write, r);
    }
    void intercept(const abi::InterceptSet&, abi::InterceptReply&) {}
    Status intercept_msr(const abi::MsrIntercept&) { return {}; }
    Status intercept_io(const abi::IoIntercept&) { return {}; }
    Status protect(const GuestMemory& memory, const abi::NestedProtect& what) {
        tables_.map(memory, what.gpa, what.pages * page_size, static_cast<x86::Rights>(what.rights));
        return {};
    }
    Status nested_entry(const GuestMemory& memory, const abi::NestedEntry& e, abi::NestedEntryReply& r) {
        return tables_.edit(memory, e, r);
    }
    Status invalidate(const abi::Invalidate& i, abi::InvalidateReply& r) {
        r = {1, 1 + i.repeats, 0, 0};
        return {};
    }
    // One that the fake lacks.
    static constexpr u64 no_extra = abi::extra_bit(abi::Extra::ibpb);
    static Status equip(Arena&, u64 asked, u32) {
        return (asked & no_extra) == 0 ? Status{} : refuse(abi::Outcome::unsupported, "no IBPB");
    }
    void describe(abi::Exit&) {}
    abi::HostStamp* stamps_end() const { return stamp_; }
    // Every exit is the shadow MMU's business.
    static inline bool translates = false;
    bool translate(abi::Exit&) { return translates; }
    bool emulate(const abi::Exit&, const Reaction&) { return true; }
    bool inject(const abi::Exit&) { return true; }
    bool can_deliver(Event event) const { return event.delivery() != abi::Delivery::virtually; }
    bool deliver(Event event, u32 error = 0) {
        fake::delivered = event.bits;
        fake::delivered_error = error;
        return true;
    }
    bool redeliver(const abi::Exit&) { return true; }
    bool takes_interrupt(u8) { return true; }
    bool takes_nmi() { return true; }
    bool deliver_nmi() { return true; }
    void await_interrupt_window(bool) {}
    bool has_nmi_window() const { return true; }
    void await_nmi_window(bool) {}
    // Where vCPUs left (none) and tried to arrive since the program began, and a CPU that takes none.
    static constexpr u32 none = ~u32{0};
    static inline std::vector<u32> moves;
    static inline u32 unreachable = none;
    void leave_cpu() { moves.push_back(none); }
    Status arrive(Arena&, u32 cpu) {
        moves.push_back(cpu);
        return cpu == unreachable ? refuse(abi::Outcome::unsupported, "no VMX there") : Status{};
    }
    bool map(const GuestMemory& memory, const abi::Exit&) {
        return tables_.fix(memory, state_.gpr[abi::rdx]);
    }
    static bool emulates(abi::Reason r) { return r == abi::Reason::cpuid; }

  private:
    Status vmcs_field(const GuestMemory& memory, const abi::Field& f, bool write, abi::FieldReply& r) {
        const auto current = [&](u32 field) { return mine_->get(static_cast<vmx::Field>(field)); };
        if (!write) {
            r.value = current(f.field);
            return vmx::admit_read(memory, f.field, r.value);
        }
        u64 value = f.value;
        const Status status = vmx::admit_write(memory, f.field, value, current);
        if (status.ok()) {
            mine_->vmcs[f.field] = value & vmx::width_mask(f.field);
        }
        return status;
    }
    Status vmcb_field(const GuestMemory& memory, const abi::Field& f, bool write, abi::FieldReply& r) {
        const bool known_width = f.width == 1 || f.width == 2 || f.width == 4 || f.width == 8;
        if (!known_width || f.field > sizeof(svm::Vmcb) - f.width) {
            return refuse(abi::Outcome::bad_request, "inside the 4096");
        }
        u8* const at = reinterpret_cast<u8*>(&mine_->vmcb) + f.field;
        const Status status = write ? svm::admit_write(memory, mine_->vmcb, f.field, f.width, f.value)
                                    : svm::admit_read(memory, f.field, f.width);
        if (status.ok() && write) {
            __builtin_memcpy(at, &f.value, f.width);
        } else if (status.ok()) {
            r.value = 0;
            __builtin_memcpy(&r.value, at, f.width);
        }
        return status;
    }

    NestedTables<vmx::EptFormat> tables_;
    bool svm_ = false;
    Controls* mine_ = nullptr;
};

struct Snapshot {
    static Snapshot take(bool) { return {}; }
    u32 differences(const Snapshot&) const { return 0; }
};

struct Hardware {
    using VmxCpu = fake::VmxCpu;
    using SvmCpu = fake::SvmCpu;
    using VmxVcpu = Vcpu;
    using SvmVcpu = Vcpu;
    using NativeVcpu = fake::NativeVcpu;
    using Snapshot = fake::Snapshot;
};

using Core = BasicCore<Hardware>;

// A core over `mbytes` of fresh fake memory.
[[nodiscard]] std::unique_ptr<Core> make_core(u64 mbytes = 16);

} // namespace refhv::fake
