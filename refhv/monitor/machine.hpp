// SPDX-License-Identifier: MIT
// A machine: a VM, the board around it, and what is done at each exit.
#pragma once

#include "refhv/monitor/board.hpp"
#include "refhv/monitor/boot/boot.hpp"
#include "refhv/monitor/clock.hpp"
#include "refhv/monitor/cpuid.hpp"
#include "refhv/monitor/guest_view.hpp"
#include "refhv/monitor/port_access.hpp"

#include <atomic>
#include <map>

namespace refhv::monitor {

class Machine {
  public:
    Machine(client::Target& target, const Vm::Shape& shape, Board::Options options);

    // Throws BadImage.
    void boot(Image image);

    // Runs until it ends, `until` comes, or *stop is set. Throws TargetMiss, Refused.
    Ending run(std::chrono::steady_clock::time_point until, const std::atomic<bool>* stop = nullptr);

    [[nodiscard]] Vm& vm() { return vm_; }
    [[nodiscard]] Board& board() { return board_; }
    [[nodiscard]] const Clock& clock() const { return clock_; }
    // Exits that the monitor answered, by reason, and entries of the core.
    [[nodiscard]] const std::map<abi::Reason, u64>& exits() const { return exits_; }
    [[nodiscard]] u64 entries() const { return entries_; }

  private:
    // What the next run brings, and how far it may go.
    [[nodiscard]] RunWish next();
    void answer(const Stop& stop);
    void answer_exit(const abi::Exit& exit);
    void advance(const abi::Exit& exit, unsigned length_if_none);
    void raise(u32 event, u32 error = 0);
    void page_fault(const GuestView::Fault& fault);
    void fail(std::string text);
    void port(const abi::Exit& exit);
    void string_port(const PortAccess& access);
    void cpuid(const abi::Exit& exit);
    void read_msr(const abi::Exit& exit);
    void write_msr(const abi::Exit& exit);
    void xsetbv(const abi::Exit& exit);
    void halt(const abi::Exit& exit);
    void control_register(const abi::Exit& exit);
    // false: #GP.
    [[nodiscard]] bool set_cr0(u64 value);
    [[nodiscard]] bool set_cr4(u64 value);
    void memory(const abi::Exit& exit);

    const client::HelloInfo& hello_;
    Clock clock_;
    Vm vm_;
    Board board_;
    CpuModel cpu_;
    u64 tsc_ = 0; // of the target, at the last exit
    std::optional<Ending> ending_;
    u32 exception_ = 0, error_ = 0; // to come with the next entry
    bool offered_ = false;          // the run at hand brings the board's interrupt
    bool asleep_ = false;           // at the instruction behind a HLT
    std::map<abi::Reason, u64> exits_;
    u64 entries_ = 0;
};

} // namespace refhv::monitor
