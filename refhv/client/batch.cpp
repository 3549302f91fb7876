// SPDX-License-Identifier: MIT
#include "refhv/client/batch.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace refhv::client {

Batch& Batch::again(usize at, std::span<const abi::Patch> patches) {
    const abi::Again body{.at = static_cast<u32>(at), .count = static_cast<u32>(patches.size())};
    return add(abi::Op::again, body, {reinterpret_cast<const u8*>(patches.data()), patches.size_bytes()});
}

Batch& Batch::add_raw(abi::Op op, std::span<const u8> body, std::span<const u8> data) {
    const abi::OpHeader header{
        .op = static_cast<u16>(op), .zero = 0, .size = static_cast<u32>(body.size() + data.size())};
    const auto* raw = reinterpret_cast<const u8*>(&header);
    bytes_.reserve(bytes_.size() + abi::align8(sizeof header + header.size));
    bytes_.insert(bytes_.end(), raw, raw + sizeof header);
    bytes_.insert(bytes_.end(), body.begin(), body.end());
    bytes_.insert(bytes_.end(), data.begin(), data.end());
    bytes_.resize(abi::align8(bytes_.size()));
    ++operations_;
    return *this;
}

std::string Reply::text() const {
    if (outcome == abi::Outcome::stopped && op == abi::Op::run) { // it has a RunReply
        return {};
    }
    switch (outcome) {
    case abi::Outcome::stopped:
    case abi::Outcome::unsupported:
    case abi::Outcome::bad_request:
    case abi::Outcome::exhausted:
    case abi::Outcome::wrong_version: {
        const auto* first = reinterpret_cast<const char*>(body.data());
        return {first, std::find(first, first + std::min(body.size(), sizeof(abi::Text)), '\0')};
    }
    default:
        return {};
    }
}

std::vector<Reply> parse_replies(std::span<const u8> payload) {
    std::vector<Reply> replies;
    while (!payload.empty()) {
        abi::ReplyHeader header;
        if (payload.size() < sizeof header) {
            throw MalformedReply("reply " + std::to_string(replies.size()) + " ends inside its header");
        }
        std::memcpy(&header, payload.data(), sizeof header);
        payload = payload.subspan(sizeof header);
        if (header.size > payload.size()) {
            throw MalformedReply("reply " + std::to_string(replies.size()) + " of " +
                                 std::to_string(header.size) + " bytes ends after " +
                                 std::to_string(payload.size()));
        }
        if (header.outcome > static_cast<u16>(abi::Outcome::stopped)) {
            throw MalformedReply("reply " + std::to_string(replies.size()) + " has the unknown outcome " +
                                 std::to_string(header.outcome));
        }
        replies.push_back({.op = static_cast<abi::Op>(header.op),
                           .outcome = static_cast<abi::Outcome>(header.outcome),
                           .body = payload.first(header.size)});
        // The padding of the last reply may be left out.
        payload = payload.subspan(std::min<usize>(abi::align8(header.size), payload.size()));
    }
    return replies;
}

const char* name_of(abi::Outcome outcome) {
    static constexpr std::array names{"ok",       "exited",      "entry_refused", "repeats_done",
                                      "deadline", "unsupported", "bad_request",   "exhausted",
                                      "skipped",  "crashed",     "wrong_version", "stopped"};
    static_assert(names.size() == static_cast<usize>(abi::Outcome::stopped) + 1);
    const auto i = static_cast<usize>(outcome);
    return i < names.size() ? names[i] : "unknown outcome";
}

const char* name_of(abi::Reason reason) {
    static constexpr std::array names{"none",
                                      "exception",
                                      "nmi",
                                      "external_interrupt",
                                      "triple_fault",
                                      "init",
                                      "sipi",
                                      "smi",
                                      "interrupt_window",
                                      "nmi_window",
                                      "task_switch",
                                      "cpuid",
                                      "hlt",
                                      "invd",
                                      "wbinvd",
                                      "invlpg",
                                      "invpcid",
                                      "rdpmc",
                                      "rdtsc",
                                      "rdtscp",
                                      "hypercall",
                                      "vm_instruction",
                                      "cr0_read",
                                      "cr0_write",
                                      "cr3_read",
                                      "cr3_write",
                                      "cr4_read",
                                      "cr4_write",
                                      "cr8_read",
                                      "cr8_write",
                                      "cr_other",
                                      "dr_read",
                                      "dr_write",
                                      "io_in",
                                      "io_out",
                                      "rdmsr",
                                      "wrmsr",
                                      "mwait",
                                      "monitor",
                                      "pause",
                                      "gdtr_idtr",
                                      "ldtr_tr",
                                      "xsetbv",
                                      "nested_violation",
                                      "nested_misconfig",
                                      "preemption_timer",
                                      "monitor_trap",
                                      "page_modification_log_full",
                                      "entry_failure",
                                      "virtualized_eoi",
                                      "tpr_threshold",
                                      "apic_access",
                                      "rdrand",
                                      "rdseed",
                                      "xsaves",
                                      "int_n",
                                      "iret",
                                      "pushf_popf",
                                      "other",
                                      "apic_write",
                                      "avic_incomplete_ipi",
                                      "avic_unaccelerated"};
    static_assert(names.size() == static_cast<usize>(abi::Reason::count_));
    const auto i = static_cast<usize>(reason);
    return i < names.size() ? names[i] : "unknown reason";
}

const char* name_of(abi::Mode mode) {
    switch (mode) {
    case abi::Mode::native:
        return "native";
    case abi::Mode::nested:
        return "nested";
    case abi::Mode::shadow:
        return "shadow";
    case abi::Mode::vtlb:
        return "vtlb";
    case abi::Mode::user:
        return "user";
    case abi::Mode::kvm:
        return "kvm";
    }
    return "unknown mode";
}

} // namespace refhv::client
