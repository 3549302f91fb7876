// SPDX-License-Identifier: MIT
// The core: a function from a request payload to a reply payload. It picks the backend by CPUID and is the
// only place that knows there is more than one. What it does to hardware stands behind a trait, so that
// everything that decodes and validates requests is tested and fuzzed as an ordinary program.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/core/arena.hpp"
#include "refhv/core/backend.hpp"
#include "refhv/core/state_rules.hpp"
#include "refhv/native/vcpu.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/vcpu/host_state.hpp"
#include "refhv/vmx/vcpu.hpp"

#include <span>
#include <type_traits>

namespace refhv {

// What the platform says about itself.
struct PlatformInfo {
    abi::Platform platform;
    u32 cpus;
    u16 output; // abi::HelloReply::output
};

class ReplyWriter;

// Who asks: a token that the platform gives to each of its clients, 0 where there is one only. VMs are their
// owner's, and so are the numbers of their slots.
using Owner = u64;

// The hardware as the core uses it; a test brings its own.
struct Hardware {
    using VmxCpu = vmx::Cpu;
    using SvmCpu = svm::Cpu;
    using VmxVcpu = vmx::Vcpu;
    using SvmVcpu = svm::Vcpu;
    using NativeVcpu = native::Vcpu;
    using Snapshot = x86::HostSnapshot;
};

template <class H>
class BasicCore {
    static_assert(Virtualizes<typename H::VmxVcpu> && Virtualizes<typename H::SvmVcpu> &&
                  Backend<typename H::NativeVcpu>);

  public:
    // The arena: physically contiguous, page-aligned, the core's alone.
    void init(const PlatformInfo& info, u64 arena_physical, u64 arena_bytes);

    // A hole in the arena; not where it begins.
    void withhold(u64 physical, u64 bytes) { arena_.withhold(physical, bytes); }

    // Writes the payload of an unasked hello; returns its size. `out` holds at least abi::max_frame_payload
    // bytes.
    [[nodiscard]] usize hello(std::span<u8> out);
    // Answers a request payload; returns the size of the reply payload. Every byte of the request is read at
    // most once, so that it may lie in memory that its owner goes on writing.
    [[nodiscard]] usize execute(std::span<const u8> request, std::span<u8> out, Owner owner = 0);
    // The owner is gone: destroys its VMs.
    void close(Owner owner);
    // The calling CPU, of this number, leaves VMX operation or turns SVM off, and is as it was before. For
    // one that goes offline, or a core that is unloaded; not while a request is served, and on CPU 0, where
    // VMs are between runs, refused as long as there are any. CPU 0 leaves by itself with the last VM.
    [[nodiscard]] Status leave(u32 cpu);
    // Pages of the arena that are in use.
    [[nodiscard]] u64 pages_in_use() const { return arena_.pages_in_use(); }
    // A request has asked for the machine's end; its owner acts after the reply has gone out.
    [[nodiscard]] bool shutdown_asked() const { return shutdown_asked_; }

  private:
    enum class Kind : u8 {
        none,
        native,
        vmx,
        svm,
    };

    struct Vm {
        Kind kind = Kind::none;
        Owner owner = 0;
        u32 slot = 0; // its number for the owner
        GuestMemory memory{};
        Policy policy{};
        u64 vcpu_page = 0; // holds the Vcpu object
        void* vcpu = nullptr;
        u64 saved_memory = 0; // snapshot
        u64 saved_state = 0;
    };

    // Calls f with the VM's Vcpu as its own type.
    template <class F>
    static auto visit(Vm& vm, F f) {
        switch (vm.kind) {
        case Kind::vmx:
            return f(*static_cast<typename H::VmxVcpu*>(vm.vcpu));
        case Kind::svm:
            return f(*static_cast<typename H::SvmVcpu*>(vm.vcpu));
        default:
            return f(*static_cast<typename H::NativeVcpu*>(vm.vcpu));
        }
    }

    // The same where the Vcpu has the capability by which f's parameter is constrained.
    template <class F>
    [[nodiscard]] static Status visit_capable(Vm& vm, F f) {
        return visit(vm, [&]<class V>(V& v) -> Status {
            if constexpr (std::is_invocable_v<F, V&>) {
                return f(v);
            } else {
                return refuse(abi::Outcome::unsupported,
                              "a guest of mode native has no VMCS or VMCB, no nested tables and no tags, and "
                              "nothing of it exits");
            }
        });
    }

    template <abi::Op number>
    using Row = abi::OperationOf<number>;
    using Op = abi::Op;

    Status dispatch(abi::Op op, std::span<const u8> request, ReplyWriter& reply);
    // Takes the row's body from the request, finds its VM, calls the row's handler and writes its reply.
    template <class Operation>
    Status call(Operation row, std::span<const u8> request, ReplyWriter& reply);

    // The handlers, one a row of abi::Operations: its VM if it works on one, its body, its data if it may
    // have any, and then its reply, or the writer where that has data too.
    Status on(Row<Op::hello>, const abi::Hello& what, ReplyWriter& reply);
    Status on(Row<Op::shutdown>, const abi::Hello& what);
    Status on(Row<Op::vm_create>, const abi::VmCreate& what, abi::VmCreateReply& answer);
    Status on(Row<Op::vm_destroy>, Vm& vm, const abi::VmRef& what);
    Status on(Row<Op::mem_write>, Vm& vm, const abi::MemRange& what, std::span<const u8> data);
    Status on(Row<Op::mem_fill64>, Vm& vm, const abi::MemFill64& what);
    Status on(Row<Op::mem_read>, Vm& vm, const abi::MemRange& what, ReplyWriter& reply);
    Status on(Row<Op::state_set>, Vm& vm, const abi::StateSet& what);
    Status on(Row<Op::state_get>, Vm& vm, const abi::VmRef& what, abi::GuestState& answer);
    Status on(Row<Op::field_write>, Vm& vm, const abi::Field& what, abi::FieldReply& answer);
    Status on(Row<Op::field_read>, Vm& vm, const abi::Field& what, abi::FieldReply& answer);
    Status on(Row<Op::intercept>, Vm& vm, const abi::InterceptSet& what, abi::InterceptReply& answer);
    Status on(Row<Op::msr_intercept>, Vm& vm, const abi::MsrIntercept& what);
    Status on(Row<Op::io_intercept>, Vm& vm, const abi::IoIntercept& what);
    Status on(Row<Op::policy>, Vm& vm, const abi::PolicySet& what, std::span<const u8> data);
    Status on(Row<Op::nested_protect>, Vm& vm, const abi::NestedProtect& what);
    Status on(Row<Op::run>, Vm& vm, const abi::Run& what, ReplyWriter& reply);
    Status on(Row<Op::snapshot>, Vm& vm, const abi::VmRef& what);
    Status on(Row<Op::restore>, Vm& vm, const abi::VmRef& what);
    Status on(Row<Op::nested_entry>, Vm& vm, const abi::NestedEntry& what, abi::NestedEntryReply& answer);
    Status on(Row<Op::invalidate>, Vm& vm, const abi::Invalidate& what, abi::InvalidateReply& answer);
    Status on(Row<Op::entry_probes>, Vm& vm, const abi::EntryProbes& what, std::span<const u8> data,
              ReplyWriter& reply);

    Status probe(Vm& vm, const abi::EntryProbes& what, std::span<const abi::ProbeField> fields,
                 abi::ProbeResult& result);
    void destroy(Vm& vm);
    [[nodiscard]] bool has_vms() const;
    [[nodiscard]] static Status able(Vm& vm, abi::Reason reason, abi::Action action, Event event);
    [[nodiscard]] Status equip(Vm& vm, const abi::Run& what);
    [[nodiscard]] Status checked(const abi::Run& what, const Vm& vm);
    Status move(Vm& vm, u32 from, u32 to);
    [[nodiscard]] bool run_peer(const abi::Run& what, const IpiTarget& target, u32& host_changed);
    Status run_all(Vm& vm, const abi::Run& what, abi::HostStamp* stamps, abi::Exit* exits,
                   abi::PeerStamp* peer_stamps, abi::RunReply& answer);
    // The VM that whoever asks has in this slot.
    [[nodiscard]] Vm* find(u64 slot);
    [[nodiscard]] Vm* peer_of(const abi::Run& what); // a VM, where the peer is a guest
    Status say_hello(ReplyWriter& reply);
    // Of the batch at hand: asked before every operation, and within those that go on for long.
    [[nodiscard]] bool batch_must_end() const;

    PlatformInfo info_{};
    Arena arena_{};
    typename H::VmxCpu vmx_;
    typename H::SvmCpu svm_;
    abi::Vendor vendor_ = abi::Vendor::none;
    abi::BackendStatus status_ = abi::BackendStatus::absent;
    const char* note_ = "";
    bool has_tsc_aux_ = false;
    bool shutdown_asked_ = false;
    StateRules state_rules_{};
    Owner owner_ = 0;     // of the request at hand
    u64 batch_began_ = 0; // TSC
    Vm vms_[abi::max_vms];
};

extern template class BasicCore<Hardware>;
using Core = BasicCore<Hardware>;

} // namespace refhv
