// SPDX-License-Identifier: MIT
// The contract of abi.hpp, answered by an ordinary process: mode user, which needs no privilege, or mode kvm.
#pragma once

#include "refhv/self/tsc_rate.hpp"
#include "refhv/self/vm.hpp"

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace refhv::client::self {

class Server {
  public:
    // `mode` is user or kvm, and that of every VM.
    Server(u32 cpus, const TscRate& tsc, abi::Mode mode = abi::Mode::user)
        : cpus_(cpus), mode_(mode), tsc_(tsc) {}

    // The payload of the unasked hello.
    [[nodiscard]] std::vector<u8> greeting() const;
    // The reply payload to a request payload, whatever it holds.
    [[nodiscard]] std::vector<u8> answer(std::span<const u8> request);
    // The reply payload to a request of another version of the ABI.
    [[nodiscard]] std::vector<u8> refuse_version(u16 version) const;
    // A request was to end; it has been answered.
    [[nodiscard]] bool shutdown_asked() const { return shutdown_asked_; }

  private:
    struct Answer {
        abi::Outcome outcome = abi::Outcome::ok;
        std::vector<u8> body = {};
    };

    static constexpr const char* body_too_short = "the operation's body is shorter than its fixed part";

    [[nodiscard]] static Answer refuse(abi::Outcome outcome, std::string_view why);
    [[nodiscard]] Answer execute(abi::Op op, std::span<const u8> request);
    // Takes the row's body from the request, finds its VM and calls the row's handler. A row without one is
    // refused: it is about what a process does not have.
    template <class Operation>
    [[nodiscard]] Answer call(Operation row, std::span<const u8> request);

    template <abi::Op number>
    using Row = abi::OperationOf<number>;
    using Op = abi::Op;
    // The handlers: a VM if the row works on one, its body, its data if it may have any.
    [[nodiscard]] Answer on(Row<Op::hello>, const abi::Hello& asked);
    [[nodiscard]] Answer on(Row<Op::shutdown>, const abi::Hello& asked);
    [[nodiscard]] Answer on(Row<Op::vm_create>, const abi::VmCreate& wanted);
    [[nodiscard]] Answer on(Row<Op::vm_destroy>, Vm& vm, const abi::VmRef& named);
    [[nodiscard]] Answer on(Row<Op::mem_write>, Vm& vm, const abi::MemRange& range, std::span<const u8> data);
    [[nodiscard]] Answer on(Row<Op::mem_fill64>, Vm& vm, const abi::MemFill64& fill);
    [[nodiscard]] Answer on(Row<Op::mem_read>, Vm& vm, const abi::MemRange& range);
    [[nodiscard]] Answer on(Row<Op::state_set>, Vm& vm, const abi::StateSet& set);
    [[nodiscard]] Answer on(Row<Op::state_get>, Vm& vm, const abi::VmRef& named);
    [[nodiscard]] Answer on(Row<Op::policy>, Vm& vm, const abi::PolicySet& set, std::span<const u8> entries);
    [[nodiscard]] Answer on(Row<Op::intercept>, Vm& vm, const abi::InterceptSet& set);
    [[nodiscard]] Answer on(Row<Op::io_intercept>, Vm& vm, const abi::IoIntercept& ports);
    [[nodiscard]] Answer on(Row<Op::run>, Vm& vm, const abi::Run& run);

    u32 cpus_;
    abi::Mode mode_;
    bool shutdown_asked_ = false;
    TscRate tsc_;
    std::array<std::optional<Vm>, abi::max_vms> vms_;
};

} // namespace refhv::client::self
