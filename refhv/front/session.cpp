// SPDX-License-Identifier: MIT
#include "refhv/front/session.hpp"

namespace refhv::front {

Session& Session::get() {
    static Session session;
    return session;
}

void Session::open(const std::string& name) {
    adopt(client::open_target(name));
}

void Session::adopt(std::unique_ptr<client::Target> target) {
    close();
    target_ = std::move(target);
    host_.emplace(client::GuestHost{.target = *target_, .occupied = std::nullopt});
    second_host_.emplace(
        client::GuestHost{.target = *target_, .occupied = std::nullopt, .slot = second_slot});
    greeting_.reset();
    tick_proofs_.clear();
    proved_generation_.reset();
    real_time_generation_.reset();
    failed_starts_ = 0;
}

const client::HelloInfo& Session::hello() {
    if (failed_starts_ >= max_failed_starts) {
        throw client::TargetMiss(info().name + " did not come up " + std::to_string(failed_starts_) +
                                 " times in a row and is given up");
    }
    try {
        const auto begin = std::chrono::steady_clock::now();
        const auto& greeting = target_->hello();
        if (!greeting_) {
            seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
            greeting_ = greeting;
        }
        expect_real_time(greeting);
        failed_starts_ = 0;
        return *greeting_;
    } catch (const client::TargetMiss&) {
        ++failed_starts_;
        throw;
    } catch (const client::TargetUnusable&) {
        ++failed_starts_;
        throw;
    }
}

// Nothing in a greeting tells some emulators from the CPU that they emulate; their clock does.
void Session::expect_real_time(const client::HelloInfo& greeting) {
    if (info().emulated || info().kind != "image" || real_time_generation_ == target_->generation()) {
        return;
    }
    if (counts_instructions(*host_, greeting)) {
        throw client::TargetUnusable(info().name +
                                     ": its TSC counts instructions, so it is an emulator and has no "
                                     "cycles: say time=instructions");
    }
    real_time_generation_ = target_->generation();
}

bool Session::offers(abi::Mode mode) {
    return (hello().fixed.modes >> static_cast<unsigned>(mode) & 1) != 0;
}

client::GuestHost& Session::host() {
    static_cast<void>(hello());
    return *host_;
}

client::GuestHost& Session::second_host() {
    static_cast<void>(hello());
    return *second_host_;
}

const TickProof* Session::tick_proof() {
    if (!info().counts_instructions) {
        return nullptr;
    }
    const auto& greeting = hello();
    if (proved_generation_ != target_->generation()) {
        tick_proofs_.push_back(prove_ticks(*host_, greeting));
        proved_generation_ = target_->generation();
    }
    return &tick_proofs_.back();
}

std::unique_ptr<client::Target> Session::release() {
    host_.reset();
    second_host_.reset();
    return std::move(target_);
}

void Session::restart() {
    if (target_) {
        target_->stop();
    }
}

void Session::close() {
    host_.reset();
    second_host_.reset();
    if (target_) {
        target_->stop();
        target_.reset();
    }
}

u32 cpuid(const client::HelloInfo& hello, u32 leaf, u32 subleaf, unsigned reg) {
    for (const abi::CpuidLeaf& l : hello.cpuid) {
        if (l.leaf == leaf && l.subleaf == subleaf) {
            const u32 registers[] = {l.eax, l.ebx, l.ecx, l.edx};
            return registers[reg];
        }
    }
    return 0;
}

u64 msr(const client::HelloInfo& hello, u32 index) {
    for (const abi::MsrValue& m : hello.msrs) {
        if (m.index == index && m.present != 0) {
            return m.value;
        }
    }
    return 0;
}

bool in_x2apic_mode(const client::HelloInfo& hello) {
    constexpr u64 x2apic = 1u << 10; // SDM 3A 11.12.1
    return (msr(hello, apic_base_msr) & x2apic) != 0;
}

} // namespace refhv::front
