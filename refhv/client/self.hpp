// SPDX-License-Identifier: MIT
// The `self` target: the guest's bytes as an unprivileged process on this machine, as it is. Its numbers are
// those of real silicon, or of the hypervisor underneath: in a virtual machine, CPUID there is an exit to
// that hypervisor.
//
// A pinned child speaks the contract over a socket (self_server.hpp); guest memory is mapped where the guest
// expects it; signals become neutral exits (self_run.hpp).
//
// The `kvm` target is such a child too, whose guests are guests of Linux's KVM.
#pragma once

#include "refhv/client/machine.hpp"
#include "refhv/contract/abi.hpp"

#include <chrono>
#include <string>

namespace refhv::client::self {

// From launch to hello; measured: 0.03 s, nearly all of it to calibrate the TSC where CPUID does not tell its
// rate.
inline constexpr std::chrono::milliseconds hello_patience{5'000};

// Starts the child on the last CPU that this process may use; its guests are of mode user or kvm. Throws
// SpawnFailed.
[[nodiscard]] Machine launch(abi::Mode mode);

// What a person should know of this machine's KVM, in brackets; empty: nothing.
[[nodiscard]] std::string kvm_remark();

// Throws TargetUnusable where /dev/kvm cannot be used.
void check_kvm();

// A program that does nothing but serve(), for a process whose own memory may lie where guests have theirs:
// an interpreter, whose heap can be anywhere below 1 GByte and grows. None: a fork of this process serves.
void set_server(std::string program);

// Greets and answers, on descriptor 3, until the other side has gone. What the child does.
[[nodiscard]] int serve(abi::Mode mode);

} // namespace refhv::client::self
