// SPDX-License-Identifier: MIT
// Guests whose debug exceptions are watched. Their own handler of #DB writes down what it found, clears DR6,
// and lets an instruction breakpoint pass (RFLAGS.RF). What was expected is a list of traps, in order.
#pragma once

#include "conformance/intr/case.hpp"

namespace refhv::front {

// Bits of DR6 (SDM 3B 18.2.3; APM 2 13.1.1.3) and of DR7 (SDM 3B 18.2.4; APM 2 13.1.1.4).
namespace debug {
inline constexpr u64 detected = 1u << 13, single_step = 1u << 14;
inline constexpr u64 dr6_clear = 0xffff'0ff0; // those of its bits that are always 1, and RTM
inline constexpr u64 dr7_fixed = 1u << 10, general_detect = 1u << 13;
inline constexpr u64 rflags_tf = 1u << 8, rflags_rf = 1u << 16;
inline constexpr u32 debugctl_msr = 0x1d9;
inline constexpr u64 debugctl_lbr = 1, debugctl_btf = 2;

enum class Kind : u8 {
    execute = 0,
    write = 1,
    io = 2,
    access = 3
};
// DR7 with breakpoint `number` on, by its local or its global bit; `bytes` of 1, 2, 4 or 8.
[[nodiscard]] u64 dr7_with(unsigned number, Kind kind, unsigned bytes, bool global = false);
} // namespace debug

// A #DB as the guest's handler found it.
struct Trap {
    u64 rip, rflags, dr6, dr7;
};

// A #DB as it is due. `causes`: bits 0-3, 13 and 14 of DR6.
struct TrapDue {
    u64 rip;
    u64 causes;
};

// Machine code put together at run time.
class Code {
  public:
    // Appends, and says where that stands in the guest.
    u64 add(std::initializer_list<unsigned> bytes);
    u64 add(client::GuestCode code);
    // mov %al, %ax, %eax or %rax from or to a 32-bit address.
    u64 move(bool store, unsigned bytes, u64 address);
    [[nodiscard]] u64 here() const { return client::layout::code + bytes_.size(); }
    [[nodiscard]] client::GuestCode code() const { return {bytes_.data(), bytes_.data() + bytes_.size()}; }

  private:
    std::vector<u8> bytes_;
};

class DebugGuest : public client::Guest {
  public:
    static constexpr usize most_traps = 1000;
    static constexpr u64 debug_vector = 1;

    DebugGuest(client::GuestHost& host, const client::Plan& plan);

    struct Result : client::RunResult {
        std::vector<Trap> traps;
    };
    [[nodiscard]] Result run_and_read(const Options& options = {});
};

class Debug : public Intr {
  protected:
    // What goes out as an exit instead of into the guest.
    static client::Plan intercepting_debug() {
        client::Plan plan;
        plan.exceptions = 1u << DebugGuest::debug_vector;
        return plan;
    }
    // The guest ran to its end, and these were its traps. DR6 holds the causes and nothing else.
    static void expect_traps(const DebugGuest::Result& r, const std::vector<TrapDue>& due);
    // An exit by #DB. VMX: the exit qualification has the causes, DR6 does not (SDM 3C 28.2.1, table 28-1).
    // SVM: DR6 and DR7 as a handler would see them (APM 2 15.12.2).
    static void expect_debug_exit(const client::RunResult& r, u64 rip, u64 causes);
};

// Claims that arm breakpoints. An emulator that departs here may carry them on into other guests: the next
// claim gets a new one.
class DebugArmed : public Debug {
  protected:
    void TearDown() override;
};

} // namespace refhv::front
