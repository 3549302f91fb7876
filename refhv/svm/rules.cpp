// SPDX-License-Identifier: MIT
// Which exits enter.S may answer by itself.
#include "refhv/svm/vcpu.hpp"

namespace refhv::svm {

FastRule fast_rule(u32 code, const Policy& policy) {
    // Without a length from the policy the way through C++ takes nRIP.
    const auto advances = [&](abi::Reason r) {
        return policy.of(r).action == abi::Action::advance && policy.of(r).length != 0;
    };
    if (const abi::Reason plain = plain_reason(code); plain != abi::Reason::none) {
        return {advances(plain) ? plain : abi::Reason::none, 0, 0};
    }
    const auto either = [&](abi::Reason if_set, abi::Reason if_clear) -> FastRule {
        return advances(if_set)     ? FastRule{if_set, 1, 1}
               : advances(if_clear) ? FastRule{if_clear, 1, 0}
                                    : FastRule{abi::Reason::none, 0, 0};
    };
    switch (static_cast<ExitCode>(code)) {
    case ExitCode::ioio: // APM 2 figure 15-2: bit 0 is 1 for IN
        return either(abi::Reason::io_in, abi::Reason::io_out);
    case ExitCode::msr: // APM 2 15.11: 1 for WRMSR
        return either(abi::Reason::wrmsr, abi::Reason::rdmsr);
    default:
        return {abi::Reason::none, 0, 0};
    }
}

// Is this intercept on at all? Codes of exceptions, control and debug registers stand in rows of bits.
bool Vcpu::can_exit(u32 code) const {
    const u32 bit = 1u << (code % 16);
    switch (code / 16) {
    case 0:
        return (vmcb_->intercept_cr_read & bit) != 0;
    case 1:
        return (vmcb_->intercept_cr_write & bit) != 0;
    case 2:
        return (vmcb_->intercept_dr_read & bit) != 0;
    case 3:
        return (vmcb_->intercept_dr_write & bit) != 0;
    case 4:
    case 5:
        return (vmcb_->intercept_exceptions >> (code - 0x40) & 1) != 0;
    default:
        return true;
    }
}

// A machine check is the host's before it is a policy's.
bool Vcpu::is_hosts(u32 code) const {
    constexpr u32 machine_check = static_cast<u32>(ExitCode::exception_0) + x86::vector::machine_check;
    return code == machine_check && (floor_.exceptions.set >> x86::vector::machine_check & 1) != 0;
}

void Vcpu::set_rules(const Policy& policy) {
    // The exit path does not look at RFLAGS.TF.
    const bool steps = (vmcb_->rflags & x86::rflags_bits::tf) != 0;
    fast_.clear();
    filtered_ = false;
    for (u32 code = 0; code < SVM_EXIT_CODES; ++code) {
        const FastRule rule = fast_rule(code, policy);
        context_->budget[code] = 0;
        context_->mask[code] = rule.mask;
        context_->match[code] = rule.match;
        // The world switches of extras have no filters.
        const bool can_filter = rule.mask == 0 || extras_.asked() == 0;
        if (!steps && rule.reason != abi::Reason::none && can_exit(code) && !shadows(code) &&
            !is_hosts(code) && can_filter) {
            fast_.add(code, rule.reason);
            context_->length[code] = policy.of(rule.reason).length;
            filtered_ = filtered_ || rule.mask != 0;
        }
    }
}

} // namespace refhv::svm
