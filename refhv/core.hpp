// SPDX-License-Identifier: MIT
// The core: a function from a request payload to a reply payload. It picks the backend by CPUID and is the only place
// that knows there is more than one.
#pragma once

#include "refhv/abi.hpp"
#include "refhv/arena.hpp"
#include "refhv/backend.hpp"
#include "refhv/native/vcpu.hpp"
#include "refhv/svm/vcpu.hpp"
#include "refhv/vmx/vcpu.hpp"

#include <span>

namespace refhv {

// What the platform says about itself.
struct PlatformInfo {
    abi::Platform platform;
    u32 cpus;
    u16 output; // abi::HelloReply::output
};

class ReplyWriter;

class Core {
  public:
    // The arena: physically contiguous, page-aligned, the core's alone.
    void init(const PlatformInfo& info, u64 arena_physical, u64 arena_bytes);

    // Writes the payload of an unasked hello; returns its size. `out` holds at least abi::max_frame_payload bytes.
    [[nodiscard]] usize hello(std::span<u8> out);
    // Answers a request payload; returns the size of the reply payload.
    [[nodiscard]] usize execute(std::span<const u8> request, std::span<u8> out);
    // A request has asked for the machine's end; whoever owns it acts after the reply has gone out.
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
        GuestMemory memory{};
        Policy policy{};
        u64 vcpu_page = 0;  // holds the Vcpu object
        void* vcpu = nullptr;
        u64 saved_memory = 0; // snapshot
        u64 saved_state = 0;
    };

    // Calls f with the VM's Vcpu as its own type.
    template <class F>
    static auto visit(Vm& vm, F f) {
        switch (vm.kind) {
        case Kind::vmx:
            return f(*static_cast<vmx::Vcpu*>(vm.vcpu));
        case Kind::svm:
            return f(*static_cast<svm::Vcpu*>(vm.vcpu));
        default:
            return f(*static_cast<native::Vcpu*>(vm.vcpu));
        }
    }

    Status dispatch(abi::Op op, std::span<const u8> body, ReplyWriter& reply);
    Status say_hello(ReplyWriter& reply);
    Status create(const abi::VmCreate& what, ReplyWriter& reply);
    Status destroy(Vm& vm);
    Status memory(abi::Op op, std::span<const u8> body, ReplyWriter& reply);
    Status set_policy(std::span<const u8> body);
    Status run(const abi::Run& what, ReplyWriter& reply);
    Status snapshot(Vm& vm);
    Status restore(Vm& vm);
    [[nodiscard]] Vm* find(u32 slot);

    PlatformInfo info_{};
    Arena arena_;
    vmx::Cpu vmx_;
    svm::Cpu svm_;
    abi::Vendor vendor_ = abi::Vendor::none;
    abi::BackendStatus status_ = abi::BackendStatus::absent;
    const char* note_ = "";
    bool has_tsc_aux_ = false;
    bool shutdown_asked_ = false;
    Vm vms_[abi::max_vms];
};

static_assert(Backend<vmx::Vcpu> && Backend<svm::Vcpu> && Backend<native::Vcpu>);

} // namespace refhv
