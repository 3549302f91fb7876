// SPDX-License-Identifier: MIT
#include "refhv/client/time_rule.hpp"

#include "refhv/client/qemu.hpp"
#include "refhv/client/vendor.hpp"

#include <cstring>

namespace refhv::client {
namespace {

// CPUID leaf 4000_0000H, EBX, ECX, EDX; empty where leaf 1 ECX[31] does not tell of a hypervisor.
std::string hypervisor_in(const HelloInfo& hello) {
    bool present = false;
    char name[12]{};
    for (const abi::CpuidLeaf& leaf : hello.cpuid) {
        if (leaf.leaf == 1) {
            present = (leaf.ecx >> 31 & 1) != 0;
        } else if (leaf.leaf == 0x4000'0000) {
            const u32 words[] = {leaf.ebx, leaf.ecx, leaf.edx};
            std::memcpy(name, words, sizeof name);
        }
    }
    const std::string text(name, strnlen(name, sizeof name));
    return !present ? "" : text.empty() ? "one without a name" : text;
}

} // namespace

Time time_in(std::string_view word) {
    if (word == "cycles") {
        return Time::cycles;
    }
    if (word == "ticks") {
        return Time::ticks;
    }
    if (word == "instructions") {
        return Time::instructions;
    }
    throw BadTargetName("time is '" + std::string(word) +
                        "': say cycles (of hardware), ticks (an emulator's own time) or instructions (an "
                        "emulator that counts them)");
}

void declare_time(TargetInfo& info, Time said) {
    info.emulated = said != Time::cycles;
    info.unit = info.emulated ? "ticks" : "cycles";
    info.counts_instructions = said == Time::instructions;
    info.settled = false;
}

StreamTarget::Settle settle_by(Time said) {
    return [said](TargetInfo& info, const HelloInfo& hello) {
        const std::string hypervisor = hypervisor_in(hello);
        if (said == Time::cycles && hypervisor == qemu::tcg_signature) {
            throw TargetUnusable(
                "time=cycles was said, and its CPUID says that it is QEMU's software emulation: "
                "say time=ticks, or nothing");
        }
        declare_time(info, said == Time::unsaid && hypervisor.empty() ? Time::cycles : said);
        if (hypervisor == qemu::tcg_signature && info.emulator.name.empty()) {
            info.tick_rules = qemu::tick_rules;
        }
        info.backend = name_of(static_cast<abi::Vendor>(hello.fixed.vendor));
        info.settled = true;
    };
}

} // namespace refhv::client
