// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/virtio_console.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <algorithm>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u32 id = 3;
constexpr u64 emergency_write = 1 << 2; // feature
constexpr u64 emergency_at = 8;         // of the configuration
constexpr u64 most_text = 1 << 20;      // bytes in one buffer; no driver sends as many
constexpr unsigned receive_queue = 0, transmit_queue = 1, queues = 2;

} // namespace

VirtioConsole::VirtioConsole(GuestMemory& memory, Sink sink, Line interrupt)
    : VirtioMmio(state_.transport, memory, std::move(interrupt), id, emergency_write, queues),
      sink_(std::move(sink)) {}

std::span<std::byte> VirtioConsole::state() {
    return bytes_of(state_);
}

void VirtioConsole::restored() {
    VirtioMmio::restored();
    state_.head %= state_.input.size();
    state_.count = std::min<u32>(state_.count, state_.input.size());
}

void VirtioConsole::device_reset() {
    state_.head = state_.count = 0;
    state_.input = {};
}

usize VirtioConsole::receive(std::span<const u8> characters) {
    const usize taken = std::min(characters.size(), state_.input.size() - state_.count);
    for (const u8 one : characters.first(taken)) {
        state_.input[(state_.head + state_.count++) % state_.input.size()] = one;
    }
    deliver();
    return taken;
}

void VirtioConsole::notified(unsigned which) {
    if (which == receive_queue) {
        deliver();
    } else {
        for_each_chain(
            transmit_queue, [] { return true; }, [&](const VirtioChain& chain) { return send(chain); });
    }
}

void VirtioConsole::deliver() {
    const auto some = [&] { return state_.count != 0; };
    for_each_chain(receive_queue, some, [&](const VirtioChain& chain) {
        const u64 room = length_of(chain.writable);
        if (!chain.readable.empty() || room == 0) {
            return false;
        }
        std::vector<u8> bytes(std::min<u64>(room, state_.count));
        for (u8& one : bytes) {
            one = state_.input[state_.head];
            state_.head = (state_.head + 1) % state_.input.size();
        }
        state_.count -= static_cast<u32>(bytes.size());
        return queue(receive_queue).copy_out(chain.writable, 0, std::as_bytes(std::span(bytes))) &&
               queue(receive_queue).finish(chain, static_cast<u32>(bytes.size()));
    });
}

// All of it or nothing: a buffer that is not memory says nothing.
bool VirtioConsole::send(const VirtioChain& chain) {
    const u64 length = length_of(chain.readable);
    if (length > most_text) {
        return false;
    }
    std::vector<u8> bytes(length);
    if (!queue(transmit_queue).copy_in(chain.readable, 0, std::as_writable_bytes(std::span(bytes)))) {
        return false;
    }
    if (sink_) {
        sink_(bytes);
    }
    return queue(transmit_queue).finish(chain, 0);
}

// A character before there are queues.
void VirtioConsole::write_config(u64 offset, unsigned /*size*/, u64 value) {
    const auto character = static_cast<u8>(value);
    if (offset == emergency_at && sink_) {
        sink_(std::span(&character, 1));
    }
}

} // namespace refhv::monitor
