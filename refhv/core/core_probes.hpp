// SPDX-License-Identifier: MIT
// BasicCore's members: VM entries tried in bulk, each from the same state with a few raw fields changed.
#pragma once

#include "refhv/core/core_impl.hpp"
#include "refhv/core/core_run.hpp"

namespace refhv {

// One probe: writes, enters, and leaves the fields as they were. A field that the CPU has not ends it.
template <class H>
Status BasicCore<H>::probe(Vm& vm, const abi::EntryProbes& what, std::span<const abi::ProbeField> fields,
                           abi::ProbeResult& result) {
    constexpr u64 longest = u64{1} << 24;
    abi::Run run{};
    run.vm = what.vm;
    run.deadline = what.deadline == 0 || what.deadline > longest ? longest : what.deadline;
    u64 before[abi::max_probe_fields];
    usize written = 0;
    const auto access = [&](usize i, u64 value, bool write, abi::FieldReply& answer) {
        const abi::Field field{what.vm, fields[i].field, fields[i].width, 0, value};
        return visit_capable(vm,
                             [&](HasControls auto& v) { return v.field(vm.memory, field, write, answer); });
    };
    Status status = visit(vm, [&](auto& v) { return v.load(vm.memory, what.state); });
    bool known = true;
    while (status.ok() && known && written < fields.size()) {
        abi::FieldReply old{}, now{};
        status = access(written, 0, false, old);
        if (!status.ok()) {
            break;
        }
        status = access(written, fields[written].value, true, now);
        known = old.error == 0 && now.error == 0;
        before[written] = old.value;
        written += status.ok() && known ? 1 : 0;
    }
    if (status.ok() && known) {
        abi::RunReply answer{};
        status = run_all(vm, run, nullptr, nullptr, nullptr, answer);
        result = {.outcome = static_cast<u16>(status.outcome),
                  .reason = answer.exit.reason,
                  .host_changed = answer.host_changed,
                  .refusal = answer.refusal.instruction_error,
                  .entry_failure = answer.refusal.entry_failure,
                  .qualification = answer.refusal.entry_failure != 0 ? answer.refusal.qualification
                                                                     : answer.exit.qualification,
                  .raw_reason = answer.exit.raw_reason};
    } else {
        result.outcome = static_cast<u16>(abi::Outcome::unsupported);
    }
    while (written != 0) {
        --written;
        abi::FieldReply ignored{};
        (void)access(written, before[written], true, ignored);
    }
    return status.text != nullptr ? status : Status{};
}

template <class H>
Status BasicCore<H>::on(Row<Op::entry_probes>, Vm& vm, const abi::EntryProbes& what, std::span<const u8> data,
                        ReplyWriter& reply) {
    if (what.count == 0 || what.count > data.size() / sizeof(abi::ProbeField)) {
        return refuse(abi::Outcome::bad_request, "entry_probes: more fields announced than bytes, or none");
    }
    if (const Status status = state_rules_.check(what.state); !status.ok()) {
        return status;
    }
    abi::ProbeField fields[abi::max_probe_fields];
    usize held = 0;
    for (u32 i = 0; i < what.count; ++i) {
        if (held == abi::max_probe_fields) {
            return refuse(abi::Outcome::bad_request, "entry_probes: too many fields in one probe");
        }
        (void)detail::take(data.subspan(i * sizeof fields[0]), fields[held]);
        const u16 flags = fields[held++].flags;
        if ((flags & ~abi::probe_enters) != 0 || (flags == 0 && i + 1 == what.count)) {
            return refuse(abi::Outcome::bad_request, "entry_probes: unknown flags, or no entry at the end");
        }
        if (flags == 0) {
            continue;
        }
        slices::let_host_run();
        if (batch_must_end()) {
            return detail::batch_ended;
        }
        abi::ProbeResult result{};
        if (const Status status = probe(vm, what, {fields, held}, result); !status.ok()) {
            return status;
        }
        if (result.outcome == static_cast<u16>(abi::Outcome::stopped)) {
            return detail::batch_ended;
        }
        if (!reply.put(result)) {
            return detail::no_room;
        }
        held = 0;
        slices::window.begin(); // the run had windows of its own
    }
    return {};
}

} // namespace refhv
