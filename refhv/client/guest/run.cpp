// SPDX-License-Identifier: MIT
// Running a guest and reading back what it left.
#include "refhv/client/guest/vm.hpp"

#include <utility>

namespace refhv::client {

namespace {

// A runaway guest should come back as Outcome::deadline, well before anybody's patience ends.
u64 usual_deadline(const Target& target) {
    constexpr u64 instructions = 100'000'000; // one or two seconds of Bochs
    constexpr u64 cycles = 20'000'000'000;
    return target.info().counts_instructions ? instructions : cycles;
}

void put_descriptor(u8 (&out)[16], u16 limit, u64 base) {
    __builtin_memcpy(out, &limit, sizeof limit);
    __builtin_memcpy(out + 2, &base, sizeof base);
}

} // namespace

RunResult Guest::run(const Options& options) {
    Parameters parameters{
        .count = options.rounds, .advance = options.handler_advance, .gdtr = {}, .idtr = {}};
    put_descriptor(parameters.gdtr, layout::gdt_limit, layout::gdt);
    put_descriptor(parameters.idtr, layout::idt_limit, layout::idt);
    write(layout::parameter, {reinterpret_cast<const u8*>(&parameters), sizeof parameters});
    fill(layout::record, 0, 0, sizeof(ExceptionRecord) / 8, false);
    if (const u64 room = sample_pages_ * page_size / sizeof(Sample); options.samples > room) {
        throw std::length_error(std::to_string(options.samples) + " samples, where the guest has room for " +
                                std::to_string(room) + " (Plan::sample_pages)");
    }
    if (options.set_state) {
        send_state();
    }
    send_fields();
    const usize run = add<abi::Op::run>(
        abi::Run{.vm = host_.slot,
                 .flags = (options.stamps != 0 ? abi::run_host_stamps : 0u) |
                          (options.exits != 0 ? abi::run_log_exits : 0u),
                 .repeats = options.repeats != 0  ? options.repeats
                            : options.stamps != 0 ? options.stamps
                                                  : options.exits,
                 .deadline = options.deadline != 0 ? options.deadline : usual_deadline(host_.target),
                 .cpu = options.cpu,
                 .preemption_timer = options.preemption_timer,
                 .max_stamps = options.stamps,
                 .max_exits = options.exits,
                 .max_peer_stamps = static_cast<u32>(options.peer.count),
                 .extra_count = options.extra_count,
                 .extras = options.extras,
                 .event = 0,
                 .event_error = 0,
                 .peer = options.peer});
    const usize record = add<abi::Op::mem_read>(
        abi::MemRange{.vm = host_.slot, .zero = 0, .gpa = layout::record, .size = sizeof(ExceptionRecord)});
    // Ranges of samples to read: all of them, or two of one each.
    std::vector<std::pair<usize, u64>> samples; // operation, count
    const auto read_samples = [&](u64 first, u64 count) {
        samples.emplace_back(
            add<abi::Op::mem_read>(abi::MemRange{.vm = host_.slot,
                                                 .zero = 0,
                                                 .gpa = layout::samples + first * sizeof(Sample),
                                                 .size = count * sizeof(Sample)}),
            count);
    };
    if (options.ends_only && options.samples > 1) {
        read_samples(0, 1);
        read_samples(options.samples - 1, 1);
    } else if (options.samples != 0) {
        read_samples(0, options.samples);
    }
    std::vector<u8> storage;
    const auto replies = send(storage);
    RunResult result;
    result.outcome = replies[run].outcome;
    result.reply = replies[run].as<abi::RunReply>();
    usize at = sizeof(abi::RunReply);
    const auto list = [&]<class T>(std::vector<T>& into, u32 count) {
        into = replies[run].tail<T>(at, count);
        at += count * sizeof(T);
    };
    list(result.stamps, result.reply.stamp_count);
    list(result.exits, result.reply.exit_count);
    list(result.peer, result.reply.peer_stamp_count);
    result.exceptions = replies[record].as<ExceptionRecord>();
    for (const auto& [operation, count] : samples) {
        const auto some = replies[operation].tail<Sample>(0, count);
        result.samples.insert(result.samples.end(), some.begin(), some.end());
    }
    result.intercepts = intercepts_;
    return result;
}

std::vector<abi::ProbeResult> Guest::probe(std::span<const abi::ProbeField> fields, u64 deadline) {
    send_state();
    send_fields();
    const usize at = add<abi::Op::entry_probes>(
        abi::EntryProbes{
            .vm = host_.slot, .count = static_cast<u32>(fields.size()), .deadline = deadline, .state = state},
        fields);
    std::vector<u8> storage;
    const Reply reply = send(storage)[at];
    return reply.tail<abi::ProbeResult>(0, reply.body.size() / sizeof(abi::ProbeResult));
}

} // namespace refhv::client
