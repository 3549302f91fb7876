// SPDX-License-Identifier: MIT
// BasicCore's members: included by core.cpp for the hardware, and by tests for theirs. Here: batches, and how
// an operation finds its handler.
#pragma once

#include "refhv/contract/reply_writer.hpp"
#include "refhv/core/core.hpp"
#include "refhv/core/hello.hpp"
#include "refhv/core/slices.hpp"

namespace refhv {

namespace detail {

template <class Body>
[[nodiscard]] bool take(std::span<const u8> bytes, Body& body) {
    if (bytes.size() < sizeof body) {
        return false;
    }
    // The sender may go on writing: each byte is read once, and what was checked is what is used.
    void* to = &body;
    const void* from = bytes.data();
    usize count = sizeof body;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    return true;
}

inline constexpr Status too_short{abi::Outcome::bad_request, "the operation's body is shorter than its form"};
inline constexpr Status no_vm{abi::Outcome::bad_request, "no VM in this slot"};
inline constexpr Status no_room{abi::Outcome::bad_request, "the reply would not fit into one frame"};
inline constexpr Status batch_ended{abi::Outcome::stopped,
                                    "the client asked for the end, or the batch took too long"};
inline constexpr Status outside{abi::Outcome::bad_request, "the range is not inside guest memory"};

// An operation that repeats an earlier one of its batch: that one's header, and in `room` its words with the
// patches laid over them.
[[nodiscard]] inline Status again(std::span<const u8> request, usize at, std::span<const u8> what,
                                  abi::OpHeader& header, std::span<u8> room) {
    constexpr Status unknown{abi::Outcome::bad_request,
                             "again: no such operation in front of it, or it is too long"};
    abi::Again body{};
    if (!take(what, body)) {
        return too_short;
    }
    if (body.at % 8 != 0 || body.at >= at || !take(request.subspan(body.at), header) ||
        header.op == static_cast<u16>(abi::Op::again) || header.size > room.size() ||
        header.size > at - body.at - sizeof header) {
        return unknown;
    }
    for (usize i = 0; i < header.size; ++i) {
        room[i] = request[body.at + sizeof header + i];
    }
    if ((what.size() - sizeof body) / sizeof(abi::Patch) < body.count) {
        return too_short;
    }
    for (u32 i = 0; i < body.count; ++i) {
        abi::Patch patch{};
        (void)take(what.subspan(sizeof body + i * sizeof patch), patch);
        if (patch.word >= header.size / sizeof patch.value) {
            return unknown;
        }
        __builtin_memcpy(&room[patch.word * sizeof patch.value], &patch.value, sizeof patch.value);
    }
    return {};
}

} // namespace detail

template <class H>
void BasicCore<H>::init(const PlatformInfo& info, u64 arena_physical, u64 arena_bytes) {
    info_ = info;
    arena_.init(arena_physical, arena_bytes);
    state_rules_ = StateRules::detect();
    has_tsc_aux_ = x86::Features::detect().tsc_aux;
    const auto intel = H::VmxCpu::probe();
    const auto amd = H::SvmCpu::probe();
    using enum abi::BackendStatus;
    if (intel.status == usable || amd.status == usable) {
        vendor_ = intel.status == usable ? abi::Vendor::vmx : abi::Vendor::svm;
        status_ = usable;
    } else if (intel.status == absent && amd.status == absent) {
        status_ = absent;
        note_ =
            "neither VMX (CPUID.1:ECX[5]) nor SVM (CPUID.80000001H:ECX[2]): the CPU lacks it or it is hidden";
    } else {
        status_ = intel.status != absent ? intel.status : amd.status;
        note_ = intel.status != absent ? intel.note : amd.note;
    }
}

template <class H>
usize BasicCore<H>::hello(std::span<u8> out) {
    ReplyWriter reply(out);
    reply.begin(abi::Op::hello);
    reply.end(say_hello(reply));
    return reply.size();
}

template <class H>
Status BasicCore<H>::say_hello(ReplyWriter& reply) {
    abi::HelloReply h{};
    h.version = abi::version;
    h.platform = static_cast<u16>(info_.platform);
    h.vendor = static_cast<u16>(vendor_);
    h.status = static_cast<u16>(status_);
    h.cpus = info_.cpus;
    h.output = info_.output;
    h.arena_bytes = arena_.bytes();
    h.max_payload = abi::max_frame_payload;
    constexpr u64 virtualized_modes = u64{1} << static_cast<u8>(abi::Mode::nested) |
                                      u64{1} << static_cast<u8>(abi::Mode::shadow) |
                                      u64{1} << static_cast<u8>(abi::Mode::vtlb);
    h.permissions = static_cast<u32>(platform::permissions().bits);
    const bool native = platform::permissions().has(Permit::native_guests);
    h.modes = (native ? u64{1} << static_cast<u8>(abi::Mode::native) : 0) |
              (vendor_ != abi::Vendor::none ? virtualized_modes : 0);
    for (usize i = 0; i + 1 < sizeof h.note && note_[i] != 0; ++i) {
        h.note[i] = note_[i];
    }
    return describe_machine(h, reply) ? Status{} : detail::no_room;
}

template <class H>
bool BasicCore<H>::batch_must_end() const {
    constexpr u64 longest_batch = u64{1} << 35; // TSC ticks, without its last run's own
    return slices::window.hears_stop() || slices::window.last() - batch_began_ > longest_batch;
}

template <class H>
usize BasicCore<H>::execute(std::span<const u8> request, std::span<u8> out, Owner owner) {
    owner_ = owner;
    ReplyWriter reply(out);
    slices::window = {};
    slices::window.begin();
    batch_began_ = slices::window.last();
    bool failed = false;
    usize at = 0;
    while (at < request.size() && reply.has_room_for_refusal()) {
        abi::OpHeader header{};
        const bool whole =
            detail::take(request.subspan(at), header) && header.size <= request.size() - at - sizeof header;
        const usize size = header.size;
        alignas(8) u8 room[abi::max_again];
        std::span<const u8> body = whole ? request.subspan(at + sizeof header, size) : std::span<const u8>{};
        Status repeated;
        if (whole && header.op == static_cast<u16>(abi::Op::again)) {
            repeated = detail::again(request, at, body, header, room);
            body = {room, repeated.ok() ? header.size : 0};
        }
        const auto op = static_cast<abi::Op>(header.op);
        reply.begin(op);
        if (!whole) {
            reply.end(
                refuse(abi::Outcome::bad_request, "an operation is longer than the payload that holds it"));
            break;
        }
        if (failed) {
            reply.end({abi::Outcome::skipped, nullptr});
        } else if (batch_must_end()) {
            failed = true;
            reply.end(detail::batch_ended);
        } else {
            const Status status = repeated.ok() ? dispatch(op, body, reply) : repeated;
            failed = status.text != nullptr || status.outcome == abi::Outcome::stopped;
            reply.end(status);
        }
        slices::let_host_run();
        const u64 next = at + abi::align8(sizeof header + size);
        at = next < request.size() ? next : request.size();
    }
    return reply.size();
}

template <class H>
typename BasicCore<H>::Vm* BasicCore<H>::find(u64 slot) {
    for (Vm& vm : vms_) {
        if (vm.kind != Kind::none && vm.owner == owner_ && vm.slot == slot) {
            return &vm;
        }
    }
    return nullptr;
}

template <class H>
template <class Operation>
[[gnu::noinline]] Status BasicCore<H>::call(Operation row, std::span<const u8> request, ReplyWriter& reply) {
    typename Operation::Body body;
    if (!detail::take(request, body)) {
        return detail::too_short;
    }
    const auto answered = [&](auto handle) -> Status {
        if constexpr (Operation::has_reply_data) {
            return handle(reply);
        } else if constexpr (Operation::has_reply) {
            typename Operation::Reply answer{};
            if (sizeof answer > reply.room()) { // known before anything is done
                return detail::no_room;
            }
            const Status status = handle(answer);
            return status.ok() && !reply.put(answer) ? detail::no_room : status;
        } else {
            return handle();
        }
    };
    if constexpr (Operation::subject == abi::Subject::vm) {
        Vm* const vm = find(body.vm);
        if (vm == nullptr) {
            return detail::no_vm;
        }
        if constexpr (Operation::has_data) {
            const std::span<const u8> data = request.subspan(sizeof body);
            return answered([&](auto&... answer) { return on(row, *vm, body, data, answer...); });
        } else {
            return answered([&](auto&... answer) { return on(row, *vm, body, answer...); });
        }
    } else {
        return answered([&](auto&... answer) { return on(row, body, answer...); });
    }
}

template <class H>
Status BasicCore<H>::dispatch(abi::Op op, std::span<const u8> request, ReplyWriter& reply) {
    Status status = refuse(abi::Outcome::bad_request, "no such operation in this version");
    (void)abi::Operations::with(op, [&](auto row) { status = call(row, request, reply); });
    return status;
}

template <class H>
Status BasicCore<H>::on(Row<Op::hello>, const abi::Hello& what, ReplyWriter& reply) {
    return what.version == abi::version
               ? say_hello(reply)
               : refuse(abi::Outcome::wrong_version, "this core speaks another version of the ABI");
}

template <class H>
Status BasicCore<H>::on(Row<Op::shutdown>, const abi::Hello&) {
    const Status status = need(Permit::shutdown);
    shutdown_asked_ = shutdown_asked_ || status.ok();
    return status;
}

} // namespace refhv
