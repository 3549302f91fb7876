// SPDX-License-Identifier: MIT
// VMX of the machine: VMCSs as maps, and a VM entry that runs a scripted guest and leaves the state that SDM
// 3C 28.5 says a VM exit leaves.
#pragma once

#include "conformance/test/silicon/machine.hpp"
#include "refhv/vmx/fields.hpp"

#include <deque>
#include <unordered_map>

namespace refhv::silicon {

enum class VmxResult : u8 {
    succeed,
    fail_valid,
    fail_invalid,
};

struct Vmcs {
    std::unordered_map<u64, u64> fields;
    bool launched = false;
};

// An event that an entry has injected.
struct Injected {
    u32 info;
    u32 error;
};

// What a field holds that the manual calls undefined.
inline constexpr u64 undefined = 0x5a;

class VmxGuest;

class VmxMachine {
  public:
    using Step = std::function<void(VmxGuest&)>;

    void reset();
    [[nodiscard]] VmxResult vmxon(u64 region);
    void vmxoff() { operating_ = false; }
    [[nodiscard]] bool operating() const { return operating_; }
    [[nodiscard]] VmxResult vmclear(u64 region);
    [[nodiscard]] VmxResult vmptrld(u64 region);
    [[nodiscard]] VmxResult vmread(u64 encoding, u64& value);
    [[nodiscard]] VmxResult vmwrite(u64 encoding, u64 value);
    // VMLAUNCH or VMRESUME: 0 after an exit, 1 for VMfailValid, 2 for VMfailInvalid.
    [[nodiscard]] u32 enter(u64* gpr, bool resume);

    // What the guest does, in order; when nothing is left it executes VMCALL.
    void then(Step step) { program_.push_back(std::move(step)); }
    [[nodiscard]] u64 get(vmx::Field f) { return regions_[current_].fields[static_cast<u64>(f)]; }
    void set(vmx::Field f, u64 value) { regions_[current_].fields[static_cast<u64>(f)] = value; }

    std::vector<Injected> injected;
    std::vector<u8> delivered; // exceptions that the guest got without an exit
    std::vector<u8> held;      // external interrupts that the CPU's TPR masked
    bool nmis_blocked = false; // on the CPU
    u64 invvpids = 0;
    std::string entered_by;    // the name of the last world switch
    bool vmxon_faults = false; // firmware has other ideas: VMXON is #GP

  private:
    friend class VmxGuest;
    [[nodiscard]] u32 refuse_entry(u32 error);
    [[nodiscard]] const char* wrong_controls();
    [[nodiscard]] bool wrong_guest_state();
    void load_guest();
    void exit_to_host();

    std::unordered_map<u64, Vmcs> regions_;
    std::deque<Step> program_;
    u64 current_ = 0;
    bool operating_ = false;
};

[[nodiscard]] VmxMachine& vmx();

// What a step sees of the CPU in VMX non-root operation. Each call is an instruction or an event; one that
// exits ends the step.
class VmxGuest {
  public:
    VmxGuest(VmxMachine& vmx, u64* registers) : gpr(registers), vmx_(vmx) {}

    void mov_to_cr0(u64 value);
    void mov_to_cr4(u64 value);
    void mov_to_cr8(u64 value);
    [[nodiscard]] u64 read_cr8();
    void xsetbv(u64 value);
    void wrmsr(u32 index, u64 value);
    // A hardware exception; `qualification` as SDM 3C 28.2.1 has it, `error` 0 where there is none.
    void raise(u8 vector, u32 error = 0, u64 qualification = 0);
    void interrupt(u8 vector);
    void nmi();
    // Any exit; what is not given is undefined.
    void exit(vmx::BasicExit reason, u64 qualification = 0, u64 length = undefined);
    void set(vmx::Field f, u64 value) { vmx_.set(f, value); }
    [[nodiscard]] u64 get(vmx::Field f) { return vmx_.get(f); }
    [[nodiscard]] bool exited() const { return exited_; }

    u64* const gpr;

  private:
    void cr_exit(unsigned number, u64 value);
    VmxMachine& vmx_;
    bool exited_ = false;
};

} // namespace refhv::silicon
