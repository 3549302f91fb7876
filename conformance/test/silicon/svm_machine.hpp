// SPDX-License-Identifier: MIT
// SVM of the machine: VMRUN of a scripted guest, and the state that APM 2 15.6 says a #VMEXIT leaves.
#pragma once

#include "conformance/test/silicon/machine.hpp"
#include "refhv/svm/vmcb.hpp"

#include <deque>
#include <map>

namespace refhv::silicon {

class SvmGuest;

class SvmMachine {
  public:
    using Step = std::function<void(SvmGuest&)>;

    void reset();
    void vmsave(u64 vmcb);
    void vmload(u64 vmcb);
    void vmrun(u64 vmcb, u64* gpr);
    // What the guest does, in order; when nothing is left it shuts down.
    void then(Step step) { program_.push_back(std::move(step)); }

    bool gif = true;
    std::vector<u64> injected; // EVENTINJ of entries
    std::vector<u8> delivered; // exceptions that the guest got without an exit
    bool stale = false;        // a guest ran on translations that are not its own, or no longer
    bool lost_caches = false;  // a guest executed INVD
    u64 root = 0;              // what page the last guest's address `probe` was in, for NPT
    u64 probe = 0;

  private:
    friend class SvmGuest;
    void load_guest(const svm::Vmcb& v);
    void exit_to_host(svm::Vmcb& v);
    [[nodiscard]] u64 translate(u64 nested_cr3, u64 address) const;

    struct {
        u64 cr0, cr3, cr4, efer, rflags;
        u16 selectors[4];
        Table gdtr, idtr;
    } host_{};
    // What translations of an ASID depend on.
    struct Paging {
        u64 vmcb, cr0, cr3, cr4, efer;
        [[nodiscard]] bool operator==(const Paging&) const = default;
    };
    [[nodiscard]] static Paging paging_of(const svm::Vmcb& v, u64 vmcb);
    std::map<u32, Paging> tags_;
    std::deque<Step> program_;
};

[[nodiscard]] SvmMachine& svm();

class SvmGuest {
  public:
    SvmGuest(SvmMachine& svm, svm::Vmcb& control, u64* registers)
        : vmcb(control), gpr(registers), svm_(svm) {}

    void mov_to_cr4(u64 value);
    void mov_to_cr8(u64 value);
    void xsetbv(u64 value);
    void invd();
    void raise(u8 vector, u32 error = 0, u64 info_2 = 0);
    void event(u32 intercept, svm::ExitCode code); // INTR, NMI, SMI, INIT: of the first word of intercepts
    void exit(svm::ExitCode code, u64 info_1 = 0, u64 info_2 = 0);
    [[nodiscard]] bool exited() const { return exited_; }

    svm::Vmcb& vmcb;
    u64* const gpr;

  private:
    SvmMachine& svm_;
    bool exited_ = false;
};

} // namespace refhv::silicon
