// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/virtqueue.hpp"

#include <algorithm>

namespace refhv::monitor {
namespace {

constexpr u16 has_next = 1 << 0, is_writable = 1 << 1, is_indirect = 1 << 2; // of a descriptor
constexpr u16 no_interrupt = 1 << 0;                                         // of the available ring
constexpr u64 most_bytes = u64{1} << 32;                                     // in a chain (2.7.5.2)

} // namespace

u64 length_of(const VirtioChain::Segments& segments) {
    u64 length = 0;
    for (const auto& one : segments) {
        length += one.length;
    }
    return length;
}

template <class T>
bool Virtqueue::load(u64 gpa, T& value) {
    return memory_.read(gpa, std::as_writable_bytes(std::span(&value, 1)));
}

Virtqueue::Next Virtqueue::next(VirtioChain& chain) {
    chain = {};
    u16 index = 0;
    if (!load(state_.available + 2, index)) {
        return Next::broken;
    }
    if (index == state_.next) {
        return Next::none;
    }
    if (static_cast<u16>(index - state_.next) > state_.size) {
        return Next::broken;
    }
    if (!load(state_.available + 4 + 2 * (state_.next % state_.size), chain.head) ||
        chain.head >= state_.size || !walk(state_.descriptors, state_.size, chain.head, false, chain) ||
        length_of(chain.readable) + length_of(chain.writable) > most_bytes) {
        return Next::broken;
    }
    state_.next++;
    return Next::chain;
}

// From descriptor `index` of a table on; a table has no chain that is longer than itself.
bool Virtqueue::walk(u64 table, u32 size, u32 index, bool indirect, VirtioChain& chain) {
    for (u32 steps = 0; steps < size; steps++) {
        Descriptor one{};
        if (index >= size || !load(table + u64{16} * index, one)) {
            return false;
        }
        if ((one.flags & is_indirect) != 0) {
            if (indirect || !indirect_ || (one.flags & has_next) != 0 || one.length == 0 ||
                one.length % 16 != 0 || one.length / 16 > state_.size) {
                return false;
            }
            return walk(one.address, one.length / 16, 0, true, chain);
        }
        const bool writable = (one.flags & is_writable) != 0;
        if ((!writable && !chain.writable.empty()) || one.address + one.length < one.address) {
            return false; // what is read comes first; and addresses do not wrap
        }
        (writable ? chain.writable : chain.readable).push_back({one.address, one.length});
        if ((one.flags & has_next) == 0) {
            return true;
        }
        index = one.next;
    }
    return false;
}

bool Virtqueue::finish(const VirtioChain& chain, u32 written) {
    struct Used {
        u32 id, length;
    } const used{chain.head, written};
    if (!memory_.write(state_.used + 4 + 8 * (state_.done % state_.size),
                       std::as_bytes(std::span(&used, 1)))) {
        return false;
    }
    state_.done++;
    return memory_.write(state_.used + 2, std::as_bytes(std::span(&state_.done, 1)));
}

bool Virtqueue::interrupts() {
    u16 flags = 0;
    return !load(state_.available, flags) || (flags & no_interrupt) == 0;
}

bool Virtqueue::copy_in(const VirtioChain::Segments& from, u64 offset, std::span<std::byte> to) {
    for (const auto& one : from) {
        if (offset >= one.length) {
            offset -= one.length;
            continue;
        }
        const auto part = to.first(std::min<u64>(to.size(), one.length - offset));
        if (!memory_.read(one.address + offset, part)) {
            return false;
        }
        to = to.subspan(part.size());
        offset = 0;
        if (to.empty()) {
            break;
        }
    }
    return to.empty();
}

bool Virtqueue::copy_out(const VirtioChain::Segments& to, u64 offset, std::span<const std::byte> from) {
    for (const auto& one : to) {
        if (offset >= one.length) {
            offset -= one.length;
            continue;
        }
        const auto part = from.first(std::min<u64>(from.size(), one.length - offset));
        if (!memory_.write(one.address + offset, part)) {
            return false;
        }
        from = from.subspan(part.size());
        offset = 0;
        if (from.empty()) {
            break;
        }
    }
    return from.empty();
}

} // namespace refhv::monitor
