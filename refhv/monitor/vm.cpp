// SPDX-License-Identifier: MIT
#include "refhv/monitor/vm.hpp"

#include "refhv/client/vendor.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace refhv::monitor {

using client::Batch;

namespace {

constexpr u64 chunk = 512u << 10; // of guest memory in one frame
constexpr u64 large_page = 2u << 20;

// VMX (SDM 3D appendix B): the secondary controls and their bit.
constexpr u32 secondary_controls = 0x401e;
constexpr u64 unrestricted_guest = 1u << 7;

// What exits besides what always does. CR0 and CR4 are the guest's but for the bits that are the host's.
constexpr u64 intercepts() {
    using enum abi::Intercept;
    return client::on(cpuid, hlt, wbinvd, invd, xsetbv, hypercall, monitor, mwait, rdpmc);
}

} // namespace

Vm::Vm(client::Target& target, const Shape& shape)
    : target_(target), slot_(shape.slot), bytes_(shape.bytes), mode_(shape.mode),
      vendor_(static_cast<abi::Vendor>(target.hello().fixed.vendor)) {
    if (vendor_ == abi::Vendor::none) {
        throw client::TargetUnusable(target.info().name + ": neither VMX nor SVM");
    }
    if (bytes_ == 0 || bytes_ % page_size != 0) {
        throw client::Refused(abi::Op::vm_create, abi::Outcome::bad_request, "memory is whole pages");
    }
    try {
        create(bytes_ % large_page == 0 ? abi::PageSize::m2 : abi::PageSize::k4);
    } catch (const client::Refused& refused) {
        if (refused.outcome != abi::Outcome::unsupported || bytes_ % large_page != 0) {
            throw;
        }
        create(abi::PageSize::k4);
    }
    if (vendor_ == abi::Vendor::vmx) {
        allow_unpaged();
    }
}

Vm::~Vm() {
    try {
        destroy();
    } catch (const std::exception&) { // with its target it is gone, too
    }
}

void Vm::destroy() {
    Batch batch;
    add<abi::Op::vm_destroy>(batch, {.vm = slot_, .zero = 0});
    std::vector<u8> storage;
    (void)send(batch, storage);
}

void Vm::create(abi::PageSize leaf) {
    Batch batch;
    add<abi::Op::vm_create>(batch, {.vm = slot_,
                                    .mode = static_cast<u8>(mode_),
                                    .nested_page_size = static_cast<u8>(leaf),
                                    .tag_policy = static_cast<u8>(abi::TagPolicy::tagged),
                                    .zero = 0,
                                    .pages = bytes_ / page_size,
                                    .gpa_base = 0});
    add<abi::Op::intercept>(batch, {.vm = slot_, .exceptions = 0, .set = intercepts()});
    // Every port exits; SVM's map has them clear at first.
    add<abi::Op::io_intercept>(batch, {.vm = slot_, .first = 0, .on = 1, .count = 0x1'0000, .zero = 0});
    set_policy(batch, false);
    std::vector<u8> storage;
    (void)send(batch, storage);
}

void Vm::allow_unpaged() {
    if (mode_ != abi::Mode::nested) {
        return; // the shadow MMU runs on tables of its own
    }
    const auto field = [&](u64 value) {
        return abi::Field{.vm = slot_, .field = secondary_controls, .width = 8, .zero = 0, .value = value};
    };
    std::vector<u8> storage;
    Batch asked;
    add<abi::Op::field_read>(asked, field(0));
    const u64 now = send(asked, storage).front().as<abi::FieldReply>().value;
    const auto& msrs = target_.hello().msrs;
    constexpr u32 capability = 0x48b; // IA32_VMX_PROCBASED_CTLS2 (SDM 3D A.3.3)
    unpaged_ = std::ranges::any_of(msrs, [](const abi::MsrValue& m) {
        return m.index == capability && m.present != 0 && (m.value >> 32 & unrestricted_guest) != 0;
    });
    if (unpaged_) {
        Batch batch;
        add<abi::Op::field_write>(batch, field(now | unrestricted_guest));
        (void)send(batch, storage);
    }
}

void Vm::set_policy(Batch& batch, bool sleeps) {
    std::vector<abi::PolicyEntry> entries;
    const auto answer = [&](abi::Reason reason, abi::Action action, u8 length) {
        entries.push_back({.reason = static_cast<u16>(reason),
                           .action = static_cast<u8>(action),
                           .length = length,
                           .event = 0});
    };
    answer(abi::Reason::wbinvd, abi::Action::advance, 2); // caches stay the host's
    answer(abi::Reason::invd, abi::Action::advance, 2);
    if (sleeps) {
        answer(abi::Reason::hlt, abi::Action::emulate, 1);
    }
    sleeps_ = sleeps;
    add<abi::Op::policy>(batch, {.vm = slot_, .count = static_cast<u32>(entries.size())},
                         std::span<const abi::PolicyEntry>(entries));
}

std::vector<client::Reply> Vm::send(const Batch& batch, std::vector<u8>& storage) {
    const std::vector<abi::Op> ops = std::exchange(ops_, {});
    storage = target_.call(batch.payload(), patience);
    auto replies = client::parse_replies(storage);
    if (replies.size() != ops.size()) {
        throw client::MalformedReply(std::to_string(replies.size()) + " replies to " +
                                     std::to_string(ops.size()) + " operations");
    }
    for (usize i = 0; i < replies.size(); ++i) {
        using enum abi::Outcome;
        const abi::Outcome outcome = replies[i].outcome;
        const bool ended = ops[i] == abi::Op::run && (outcome == exited || outcome == repeats_done ||
                                                      outcome == deadline || outcome == entry_refused);
        if (outcome != ok && !ended) {
            throw client::Refused(ops[i], outcome, replies[i].text());
        }
    }
    return replies;
}

void Vm::write(u64 gpa, std::span<const u8> bytes) {
    if (!contains(gpa, bytes.size())) {
        throw std::out_of_range("a write beyond guest memory");
    }
    while (!bytes.empty()) {
        const auto part = bytes.first(std::min<usize>(bytes.size(), chunk));
        Batch batch;
        add<abi::Op::mem_write>(batch, {.vm = slot_, .zero = 0, .gpa = gpa, .size = part.size()}, part);
        std::vector<u8> storage;
        (void)send(batch, storage);
        gpa += part.size();
        bytes = bytes.subspan(part.size());
    }
}

void Vm::read(u64 gpa, std::span<u8> bytes) {
    if (!contains(gpa, bytes.size())) {
        throw std::out_of_range("a read beyond guest memory");
    }
    while (!bytes.empty()) {
        const usize size = std::min<usize>(bytes.size(), chunk);
        Batch batch;
        add<abi::Op::mem_read>(batch, {.vm = slot_, .zero = 0, .gpa = gpa, .size = size});
        std::vector<u8> storage;
        const auto part = send(batch, storage).front().tail<u8>(0, size);
        std::ranges::copy(part, bytes.begin());
        gpa += size;
        bytes = bytes.subspan(size);
    }
}

bool Vm::read(u64 gpa, std::span<std::byte> to) {
    if (!contains(gpa, to.size())) {
        return false;
    }
    read(gpa, std::span(reinterpret_cast<u8*>(to.data()), to.size()));
    return true;
}

bool Vm::write(u64 gpa, std::span<const std::byte> from) {
    if (!contains(gpa, from.size())) {
        return false;
    }
    write(gpa, std::span(reinterpret_cast<const u8*>(from.data()), from.size()));
    return true;
}

Stop Vm::run(const RunWish& wish) {
    Batch batch;
    if (wish.sleeps != sleeps_) {
        set_policy(batch, wish.sleeps);
    }
    if (!sent_ || std::memcmp(&*sent_, &state, sizeof state) != 0) {
        add<abi::Op::state_set>(batch, {.vm = slot_, .zero = 0, .state = state});
    }
    abi::Run run{};
    run.vm = slot_;
    run.event = wish.event;
    run.event_error = wish.event_error;
    run.deadline = wish.deadline;
    add<abi::Op::run>(batch, run);
    sent_.reset();
    std::vector<u8> storage;
    const client::Reply last = send(batch, storage).back();
    const auto reply = last.as<abi::RunReply>();
    state = reply.state;
    sent_ = state;
    return {.outcome = last.outcome,
            .exit = reply.exit,
            .refusal = reply.refusal,
            .tsc = reply.tsc_end,
            .delivered = reply.events != 0,
            .entries = reply.entries};
}

} // namespace refhv::monitor
