// SPDX-License-Identifier: MIT
// The contract of abi.hpp, answered by an ordinary process: mode user only, nothing that needs a privilege.
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
    Server(u32 cpus, const TscRate& tsc) : cpus_(cpus), tsc_(tsc) {}

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
    [[nodiscard]] Answer execute(abi::Op op, std::span<const u8> body);
    [[nodiscard]] Answer hello(std::span<const u8> body) const;
    [[nodiscard]] Answer vm_create(std::span<const u8> body);
    [[nodiscard]] Answer vm_destroy(std::span<const u8> body);
    [[nodiscard]] Answer mem_write(std::span<const u8> body);
    [[nodiscard]] Answer mem_fill64(std::span<const u8> body);
    [[nodiscard]] Answer mem_read(std::span<const u8> body);
    [[nodiscard]] Answer state_set(std::span<const u8> body);
    [[nodiscard]] Answer state_get(std::span<const u8> body);
    [[nodiscard]] Answer policy(std::span<const u8> body);
    [[nodiscard]] Answer run(std::span<const u8> body);

    // then(fixed part of the body, its VM, the rest of the body), or the refusal of a body that has none of
    // these.
    template <class Body, class Then>
    [[nodiscard]] Answer with_vm(std::span<const u8> body, Then then);

    u32 cpus_;
    bool shutdown_asked_ = false;
    TscRate tsc_;
    std::array<std::optional<Vm>, abi::max_vms> vms_;
};

} // namespace refhv::client::self
