// SPDX-License-Identifier: MIT
// A local APIC (SDM 3A chapter 11) of the only CPU that there is: as a page of registers, and in x2APIC mode
// by MSRs. The machine passes the time before each access.
#pragma once

#include "refhv/monitor/device/apic_message.hpp"
#include "refhv/monitor/device/apic_timer.hpp"
#include "refhv/monitor/device/device.hpp"

#include <array>

namespace refhv::monitor {

class LocalApic final : public Device {
  public:
    static constexpr u32 apic_base = 0x1b, deadline = 0x6e0, first_x2apic = 0x800,
                         last_x2apic = 0xbff; // MSRs

    struct Outside {
        // SMI, NMI, INIT and start-up (with its vector) for the CPU.
        std::function<void(Delivery, u8 vector)> signal{};
        // A level-triggered interrupt was ended.
        std::function<void(u8 vector)> end_of_interrupt{};
        // When the guest's TSC has that value; a past moment if it has gone by.
        std::function<Time(u64 tsc)> time_of_tsc{};
        unsigned address_bits = 52; // MAXPHYADDR
        u32 id = 0;
    };
    explicit LocalApic(Outside outside);

    // Power-up.
    void reset();
    // As firmware leaves it: enabled, the interrupt controllers' INTR on LINT0 as ExtINT, NMI on LINT1.
    void virtual_wire();

    // The page of registers, at address().
    [[nodiscard]] u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;
    void pass(Time now) override;
    [[nodiscard]] std::optional<Time> due() const override;
    [[nodiscard]] std::span<std::byte> state() override;
    void restored() override;
    [[nodiscard]] u64 address() const { return state_.base & ~u64{0xfff}; }

    // Of the MSRs above; none and false are #GP(0).
    [[nodiscard]] std::optional<u64> read_msr(u32 index);
    [[nodiscard]] bool write_msr(u32 index, u64 value);

    // The interrupt that the CPU is to take, if its priority is above that of what the CPU does.
    [[nodiscard]] std::optional<u8> pending() const;
    // The CPU takes it; the spurious vector if there is none any more.
    [[nodiscard]] u8 acknowledge();
    // False if it is not accepted: an illegal vector, or the APIC is disabled.
    bool deliver(u8 vector, bool level);
    // False if it is for somebody else, or not accepted.
    bool receive(const ApicMessage& message);
    // Pin LINT0 or LINT1.
    void set_lint(unsigned pin, bool level);
    // Whether INTR of the interrupt controllers reaches the CPU through LINT0.
    [[nodiscard]] bool accepts_extint() const;
    // CR8 is bits 7:4 of it.
    [[nodiscard]] u8 task_priority() const { return state_.tpr; }
    void set_task_priority(u8 value) { state_.tpr = value; }
    [[nodiscard]] u8 processor_priority() const;

  private:
    using Vectors = std::array<u32, 8>;
    enum Lvt : u8 {
        timer,
        thermal,
        performance,
        lint0,
        lint1,
        error,
        lvts
    };
    enum Error : u8 {
        send_illegal = 1 << 5,
        receive_illegal = 1 << 6,
        illegal_register = 1 << 7
    };
    struct State {
        u64 base = 0, icr = 0;
        Time now = 0;
        ApicTimer count;
        Vectors irr{}, isr{}, tmr{};
        std::array<u32, lvts> lvt{};
        u32 ldr = 0, dfr = 0, svr = 0;
        u8 esr = 0, errors = 0; // as it reads, and since it was last written
        u8 tpr = 0, pins = 0;
    };

    [[nodiscard]] bool enabled() const { return (state_.base & 1 << 11) != 0; }
    [[nodiscard]] bool x2apic() const { return (state_.base & 1 << 10) != 0; }
    [[nodiscard]] bool software_enabled() const { return (state_.svr & 1 << 8) != 0; }
    [[nodiscard]] std::optional<u32> read_register(u32 index);
    [[nodiscard]] bool write_register(u32 index, u32 value);
    [[nodiscard]] u32 logical_id() const;
    [[nodiscard]] bool is_for_me(u32 destination, bool logical) const;
    [[nodiscard]] bool write_base(u64 value);
    void write_deadline(u64 tsc);
    void write_lvt(unsigned entry, u32 value);
    void write_icr(u64 value);
    void end_of_interrupt();
    void fire(Lvt entry);
    void raise(u8 errors);

    State state_;
    Outside outside_;
};

} // namespace refhv::monitor
