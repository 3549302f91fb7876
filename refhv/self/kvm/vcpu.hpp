// SPDX-License-Identifier: MIT
// A VM of Linux's KVM with one vCPU. Its memory is memory of this process, at the guest-physical address that
// it has here.
#pragma once

#include "refhv/contract/abi.hpp"
#include "refhv/self/kvm/api.hpp"

#include <memory>
#include <optional>
#include <span>
#include <stdexcept>

namespace refhv::client::self::kvm {

// KVM refused what a VM needs. One line, with the system's word.
struct Unusable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Vcpu {
  public:
    // `memory` stays where it is for as long as the vCPU lives. CPUID as KVM offers it, the TSC as the host
    // has it. Throws Unusable.
    Vcpu(u64 gpa, std::span<u8> memory);
    Vcpu(const Vcpu&) = delete;
    Vcpu& operator=(const Vcpu&) = delete;
    ~Vcpu();

    // Throws Unusable, with the name of the call that KVM refused, such as a CR4 bit that it does not offer.
    void set_state(const abi::GuestState& state);
    [[nodiscard]] abi::GuestState state();

    // KVM_RUN: 0, or the system's error number.
    [[nodiscard]] int run();
    [[nodiscard]] kvm_run& shared() { return *shared_; }
    // Of an access that it handed to us KVM does the rest when it is next entered; this does nothing else.
    void finish_access();

    // VM exits since the vCPU was made, as KVM counts them in its binary statistics; none where it does not
    // (before Linux 5.14).
    [[nodiscard]] std::optional<u64> exits() const;
    // Whether the guest's TSC is the host's.
    [[nodiscard]] bool tsc_is_the_hosts() const { return tsc_is_the_hosts_; }

  private:
    int call(unsigned long request, void* argument, const char* name);
    void find_exits();
    void offer_cpuid(int kvm);
    void share_tsc();
    void set_registers(const abi::GuestState& state);
    void set_segments(const abi::GuestState& state);
    void set_msrs(const abi::GuestState& state);
    void release();

    int vm_ = -1, vcpu_ = -1, statistics_ = -1;
    kvm_run* shared_ = nullptr;
    usize shared_bytes_ = 0;
    std::optional<u64> exits_at_; // in the statistics' file
    bool tsc_is_the_hosts_ = false;
};

} // namespace refhv::client::self::kvm
