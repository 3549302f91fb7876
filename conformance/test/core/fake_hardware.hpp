// SPDX-License-Identifier: MIT
// Hardware for BasicCore that is none: a vCPU whose exits a test writes down in the guest's registers, and a
// platform whose physical memory is an ordinary buffer.
#pragma once

#include "refhv/core/core_controls.hpp"
#include "refhv/core/core_impl.hpp"
#include "refhv/core/core_run.hpp"
#include "refhv/core/core_vms.hpp"
#include "refhv/vcpu/probe.hpp"
#include "refhv/vmx/ept.hpp"

#include <atomic>
#include <memory>
#include <vector>

namespace refhv::fake {

// Physical memory begins here, so that address 0 and small numbers are never valid.
inline constexpr u64 physical_base = 0x10'0000;

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
inline u32 delivered = 0;
// Does waiting for an interrupt bring a guest's?
inline bool wakes = true;
// Times that the host could have the CPU outside runs.
inline thread_local u64 breaths = 0;
// The client asks for the end.
inline bool stop = false;

// Gives the platform functions `bytes` of zeroed memory; what was there before is gone.
void reset_memory(u64 bytes);

struct VmxCpu {
    static inline abi::BackendStatus status = abi::BackendStatus::usable;
    static Probe probe() { return {status, "fake VMX"}; }
};

struct SvmCpu {
    static Probe probe() { return {abi::BackendStatus::absent, "fake SVM"}; }
};

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
    Status begin(const GuestMemory&, const RunPlan& plan) {
        const auto reason = static_cast<usize>(abi::Reason::cpuid);
        fast_ = plan.policy.reactions[reason].action == abi::Action::advance;
        stamp_ = plan.stamps;
        extras = plan.extras;
        return {};
    }
    Entered enter(u64 n, u64* counts, u64& handled, abi::Exit& exit, abi::Refusal&) {
        const u64 before = handled;
        const Entered entered = leave(n, counts, handled, exit);
        exits_since_window += handled - before + 1;
        most_exits = exits_since_window > most_exits ? exits_since_window : most_exits;
        return entered;
    }
    void end() {}
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
    explicit Vcpu(VmxCpu&) {}
    explicit Vcpu(SvmCpu&) {}

    // Nested tables are real, in fake memory: requests reach them, and the platform watches what they touch.
    Status create(Arena& arena, const GuestMemory& memory) {
        return tables_.create(arena, memory) ? Status{} : refuse(abi::Outcome::exhausted, "nested tables");
    }
    void destroy(Arena& arena) { tables_.destroy(arena); }
    Status field(const abi::Field& f, bool, abi::FieldReply& r) {
        r.value = f.value;
        return {};
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
    bool deliver(Event event) {
        fake::delivered = event.bits;
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
    NestedTables<vmx::EptFormat> tables_;
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
