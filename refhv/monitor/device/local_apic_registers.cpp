// SPDX-License-Identifier: MIT
// The registers of a local APIC: a page (SDM 3A table 11-1), and MSRs with checks of reserved bits (SDM
// 3A 11.12).
#include "refhv/monitor/device/local_apic.hpp"

#include <array>

namespace refhv::monitor {
namespace {

// Offsets in the page by 16, MSRs beyond 800H.
enum Register : u32 {
    id = 0x02,
    version = 0x03,
    task_priority = 0x08,
    processor_priority = 0x0a,
    eoi = 0x0b,
    logical_destination = 0x0d,
    destination_format = 0x0e,
    spurious = 0x0f,
    in_service = 0x10,
    trigger_mode = 0x18,
    request = 0x20,
    error_status = 0x28,
    command = 0x30,
    command_high = 0x31,
    first_lvt = 0x32,
    initial_count = 0x38,
    current_count = 0x39,
    divide = 0x3e,
    self_ipi = 0x3f,
};

constexpr u32 masked = 1 << 16;
constexpr u32 version_value = 5 << 16 | 0x14; // six entries in the local vector table, no suppression of EOIs
constexpr u32 spurious_bits = 0x3ff;          // vector, enable, focus
constexpr u64 command_bits = 0xffff'ffff'000c'cfff;
// What software writes of the timer's, thermal, performance, LINT0, LINT1 and error entries.
constexpr std::array<u32, 6> lvt_bits{0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
// Remote IRR and delivery status, which are for reading.
constexpr std::array<u32, 6> lvt_status{1 << 12, 1 << 12, 1 << 12, 5 << 12, 5 << 12, 1 << 12};

// Bits of a register that an MSR write may have set; none of one that cannot be written.
std::optional<u64> writable(u32 index) {
    switch (index) {
    case task_priority:
    case self_ipi:
        return 0xff;
    case eoi:
    case error_status:
        return 0;
    case spurious:
        return spurious_bits;
    case command:
        return command_bits;
    case initial_count:
        return 0xffff'ffff;
    case divide:
        return 0xb;
    default:
        if (index >= first_lvt && index < first_lvt + lvt_bits.size()) {
            return lvt_bits[index - first_lvt] | lvt_status[index - first_lvt];
        }
        return {};
    }
}

} // namespace

std::optional<u32> LocalApic::read_register(u32 index) {
    switch (index) {
    case id:
        return x2apic() ? outside_.id : outside_.id << 24;
    case version:
        return version_value;
    case Register::task_priority:
        return state_.tpr;
    case Register::processor_priority:
        return processor_priority();
    case logical_destination:
        return x2apic() ? logical_id() : state_.ldr;
    case destination_format:
        return state_.dfr;
    case spurious:
        return state_.svr;
    case error_status:
        return state_.esr;
    case command:
        return static_cast<u32>(state_.icr);
    case command_high:
        return static_cast<u32>(state_.icr >> 32);
    case initial_count:
        return state_.count.initial();
    case current_count:
        return state_.count.current(state_.now);
    case divide:
        return state_.count.divide();
    default:
        break;
    }
    const auto in = [&](u32 first, const auto& words) {
        return index >= first && index < first + words.size();
    };
    if (in(in_service, state_.isr)) {
        return state_.isr[index - in_service];
    }
    if (in(trigger_mode, state_.tmr)) {
        return state_.tmr[index - trigger_mode];
    }
    if (in(request, state_.irr)) {
        return state_.irr[index - request];
    }
    if (in(first_lvt, state_.lvt)) {
        return state_.lvt[index - first_lvt];
    }
    return {};
}

bool LocalApic::write_register(u32 index, u32 value) {
    switch (index) {
    case Register::task_priority:
        state_.tpr = static_cast<u8>(value);
        return true;
    case eoi:
        end_of_interrupt();
        return true;
    case logical_destination:
        state_.ldr = value & 0xff00'0000;
        return true;
    case destination_format:
        state_.dfr = value | 0x0fff'ffff;
        return true;
    case spurious:
        state_.svr = value & spurious_bits;
        for (u32& entry : state_.lvt) { // while it is disabled, all are masked
            entry |= software_enabled() ? 0 : masked;
        }
        return true;
    case error_status:
        state_.esr = state_.errors;
        state_.errors = 0;
        return true;
    case command:
        write_icr((state_.icr & 0xff00'0000'0000'0000) | (value & command_bits));
        return true;
    case command_high:
        state_.icr = (state_.icr & 0xffff'ffff) | u64{value & 0xff00'0000} << 32;
        return true;
    case initial_count:
        state_.count.set_initial(state_.now, value);
        return true;
    case divide:
        state_.count.set_divide(state_.now, static_cast<u8>(value));
        return true;
    default:
        if (index >= first_lvt && index < first_lvt + lvt_bits.size()) {
            write_lvt(index - first_lvt, value);
            return true;
        }
        // Registers to read take writes without a word; what is none is an error.
        return read_register(index).has_value();
    }
}

void LocalApic::write_lvt(unsigned entry, u32 value) {
    state_.lvt[entry] = (value & lvt_bits[entry]) | (software_enabled() ? 0 : masked);
    if (entry == timer) {
        const u8 mode = value >> 17 & 3; // 3 is reserved
        state_.count.set_mode(mode == 3 ? u8{ApicTimer::one_shot} : mode);
    }
}

u64 LocalApic::read(u64 offset, unsigned size) {
    if (!enabled() || x2apic() || offset >= 0x1000) {
        return all_ones(size);
    }
    const auto value = read_register(static_cast<u32>(offset / 16));
    if (!value) {
        raise(illegal_register);
    }
    const unsigned byte = offset % 16;
    return value && byte < 4 ? (u64{*value} >> (8 * byte)) & all_ones(size) : all_ones(size);
}

void LocalApic::write(u64 offset, unsigned size, u64 value) {
    if (!enabled() || x2apic() || offset >= 0x1000 || offset % 16 != 0 || size < 4) {
        return; // registers are written as a whole
    }
    if (!write_register(static_cast<u32>(offset / 16), static_cast<u32>(value))) {
        raise(illegal_register);
    }
}

std::optional<u64> LocalApic::read_msr(u32 index) {
    if (index == apic_base) {
        return state_.base;
    }
    if (index == deadline) {
        return state_.count.deadline();
    }
    const u32 which = index - first_x2apic;
    if (index < first_x2apic || index > last_x2apic || !enabled() || !x2apic() ||
        which == destination_format || which == command_high) {
        return {};
    }
    return which == command ? std::optional(state_.icr) : std::optional<u64>(read_register(which));
}

bool LocalApic::write_msr(u32 index, u64 value) {
    if (index == apic_base) {
        return write_base(value);
    }
    if (index == deadline) {
        write_deadline(value);
        return true;
    }
    if (index < first_x2apic || index > last_x2apic || !enabled() || !x2apic()) {
        return false;
    }
    const u32 which = index - first_x2apic;
    const auto bits = writable(which);
    if (!bits || (value & ~*bits) != 0) {
        return false;
    }
    if (which == command) {
        write_icr(value);
    } else if (which == self_ipi) { // its vector is not to be read in the ICR
        value < 16 ? raise(send_illegal) : static_cast<void>(deliver(static_cast<u8>(value), false));
    } else {
        return write_register(which, static_cast<u32>(value));
    }
    return true;
}

// SDM 3A 11.12.1, and 11.12.5 for the transitions.
bool LocalApic::write_base(u64 value) {
    constexpr u64 extended = 1 << 10, global = 1 << 11, bootstrap = 1 << 8, both = extended | global;
    const u64 addresses = ((u64{1} << outside_.address_bits) - 1) & ~u64{0xfff};
    const u64 from = state_.base & both, to = value & both;
    if ((value & ~(addresses | both | bootstrap)) != 0 || to == extended || (from == both && to == global) ||
        (from == 0 && to == both)) {
        return false;
    }
    state_.base = value;
    if (to == 0) {
        reset();
    } else if (to == both && from != both) {
        state_.icr &= 0xffff'ffff;
    }
    return true;
}

} // namespace refhv::monitor
