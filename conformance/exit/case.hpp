// SPDX-License-Identifier: MIT
// What the manuals say about one intercept, as data, and the three claims that every intercept makes:
//
//   <subject>_exits_when_intercepted     the exit is the declared one, raw and neutral, with qualification or
//   EXITINFO1,
//                                        instruction length or next RIP; RIP stays at the instruction
//   <subject>_obeys_its_intercept        without the intercept the guest goes on (or does what `otherwise`
//   says) <subject>_leaves_state_intact        stepping over the exit changes nothing of the guest but RIP
//
// and in all three: general registers and flags as the guest had them, host state unchanged.
#pragma once

#include "refhv/front/claim.hpp"

#include <optional>

namespace refhv::front {

// The low bits of a 64-bit field that are architecturally defined for an exit.
struct Masked {
    u64 value;
    u64 mask = ~u64{0};
};

struct VendorExit {
    u64 raw = 0;                           // VMX: basic exit reason. SVM: EXITCODE
    const char* section = "";              // empty: the vendor has no such exit
    std::optional<Masked> qualification{}; // VMX: exit qualification. SVM: EXITINFO1
    bool needs_decode_assists = false;     // SVM: EXITINFO1 is defined only with them
    bool unconditional = false;            // exits whether intercepted or not
};

enum class Otherwise {
    goes_on,   // without the intercept the instruction executes
    exception, // without it the guest's handler sees ExitCase::vector (vendor: see otherwise_vmx,
               // otherwise_svm)
    elsewhere, // what happens needs a claim of its own
};

struct ExitCase {
    client::GuestCode code; // one instruction
    abi::Reason reason = abi::Reason::none;
    u64 intercepts = 0;
    u32 exceptions = 0;
    std::optional<u32> msr{};  // intercept RDMSR or WRMSR of it, by `reason`
    std::optional<u16> port{}; // intercept IN and OUT
    bool nested_fault = false; // withdraw all rights to layout::arena
    VendorExit vmx{};
    VendorExit svm{};
    Otherwise otherwise = Otherwise::goes_on;
    u16 vector = 6;
    client::Stop stop = client::Stop::hlt;
    bool osxsave = false;
    void (*prepare)(abi::GuestState&) = nullptr; // operands
    // Why this machine lacks the instruction; empty: it has it.
    std::string (*missing)(const client::HelloInfo&) = nullptr;
};

class Exit : public Claim {
  protected:
    void exits_when_intercepted(const ExitCase& what);
    void obeys_its_intercept(const ExitCase& what);
    void leaves_state_intact(const ExitCase& what);
};

// The plan of a case's guest, intercepted or not, with `action` for its exit.
[[nodiscard]] client::Plan plan_of(const ExitCase& what, bool intercepted, abi::Action action);
// Distinct patterns in all registers but RSP, and in the status flags; then the case's operands.
void fill_registers(abi::GuestState& state, const ExitCase& what);
// General registers and RFLAGS as they were. RF is left out: SDM 3C 28.3.3 lets it differ in saved flags of
// faults.
void expect_registers(const abi::GuestState& before, const abi::GuestState& after);

} // namespace refhv::front

#define EXIT_CLAIMS(subject, ...)                                                                            \
    static const ::refhv::front::ExitCase subject##_case{__VA_ARGS__};                                       \
    TEST_F(Exit, subject##_exits_when_intercepted) {                                                         \
        exits_when_intercepted(subject##_case);                                                              \
    }                                                                                                        \
    TEST_F(Exit, subject##_obeys_its_intercept) {                                                            \
        obeys_its_intercept(subject##_case);                                                                 \
    }                                                                                                        \
    TEST_F(Exit, subject##_leaves_state_intact) {                                                            \
        leaves_state_intact(subject##_case);                                                                 \
    }
