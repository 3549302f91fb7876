// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/virtio_mmio.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <bit>
#include <utility>

namespace refhv::monitor {
namespace {

enum Register : u64 {
    magic = 0x00,
    version = 0x04,
    device_id = 0x08,
    vendor_id = 0x0c,
    device_features = 0x10,
    device_features_select = 0x14,
    driver_features = 0x20,
    driver_features_select = 0x24,
    queue_select = 0x30,
    queue_size_max = 0x34,
    queue_size = 0x38,
    queue_ready = 0x44,
    queue_notify = 0x50,
    interrupt_status = 0x60,
    interrupt_acknowledge = 0x64,
    device_status = 0x70,
    descriptors_low = 0x80,
    descriptors_high = 0x84,
    available_low = 0x90,
    available_high = 0x94,
    used_low = 0xa0,
    used_high = 0xa4,
    config_generation = 0xfc,
    config_space = 0x100,
};

enum Status : u8 {
    driver_ok = 4,
    features_ok = 8,
    device_needs_reset = 64
};

constexpr u32 used_buffer = 1, configuration_change = 2; // interrupts

void set_half(u64& value, bool high, u32 half) {
    value = high ? (value & 0xffff'ffff) | u64{half} << 32 : (value & ~u64{0xffff'ffff}) | half;
}

} // namespace

VirtioMmio::VirtioMmio(Transport& transport, GuestMemory& memory, Line interrupt, u32 id, u64 features,
                       unsigned queues)
    : state_(transport), memory_(memory), line_(std::move(interrupt)), id_(id),
      features_(features | version_1 | indirect_descriptors), queues_(queues) {}

void VirtioMmio::restored() {
    for (VirtqueueState& one : state_.queues) {
        if (one.size > Virtqueue::most || !std::has_single_bit(one.size)) {
            one.ready = 0;
        }
    }
}

bool VirtioMmio::needs_reset() const {
    return (state_.status & device_needs_reset) != 0;
}

bool VirtioMmio::works(unsigned queue) const {
    return queue < queues_ && state_.queues[queue].ready != 0 && (state_.status & driver_ok) != 0 &&
           !needs_reset();
}

Virtqueue VirtioMmio::queue(unsigned which) {
    return {memory_, state_.queues[which], (state_.driver_features & indirect_descriptors) != 0};
}

void VirtioMmio::tell(unsigned which) {
    if (queue(which).interrupts()) {
        state_.interrupts |= used_buffer;
        update();
    }
}

void VirtioMmio::broken() {
    state_.status |= device_needs_reset;
    if ((state_.status & driver_ok) != 0) {
        state_.interrupts |= configuration_change;
    }
    update();
}

u64 VirtioMmio::read(u64 offset, unsigned size) {
    if (offset >= config_space && offset < length) {
        return read_bytes(offset, size, [&](u64 at) { return config(at - config_space); });
    }
    return size == 4 && offset % 4 == 0 ? read_register(offset) : all_ones(size);
}

u32 VirtioMmio::read_register(u64 offset) const {
    const bool there = state_.queue_select < queues_;
    switch (offset) {
    case magic:
        return 0x7472'6976;
    case version:
        return 2;
    case device_id:
        return id_;
    case vendor_id:
        return 0x7668'6672; // "rfhv"
    case device_features:
        return state_.device_select < 2 ? static_cast<u32>(features_ >> (32 * state_.device_select)) : 0;
    case queue_size_max:
        return there ? Virtqueue::most : 0;
    case queue_ready:
        return there ? state_.queues[state_.queue_select].ready : 0;
    case interrupt_status:
        return state_.interrupts;
    case device_status:
        return state_.status;
    case config_generation:
        return 0; // it never changes
    default:
        return ~u32{0}; // among them the lengths of shared memory, where that means none
    }
}

void VirtioMmio::write(u64 offset, unsigned size, u64 value) {
    if (offset >= config_space && offset < length) {
        write_config(offset - config_space, size, value);
    } else if (size == 4 && offset % 4 == 0) {
        write_register(offset, static_cast<u32>(value));
    }
}

void VirtioMmio::write_register(u64 offset, u32 value) {
    switch (offset) {
    case device_features_select:
        state_.device_select = value;
        break;
    case driver_features:
        if (state_.driver_select < 2 && (state_.status & features_ok) == 0) {
            set_half(state_.driver_features, state_.driver_select != 0, value);
        }
        break;
    case driver_features_select:
        state_.driver_select = value;
        break;
    case queue_select:
        state_.queue_select = value;
        break;
    case queue_notify:
        if (works(value)) {
            notified(value);
        }
        break;
    case interrupt_acknowledge:
        state_.interrupts &= ~value;
        update();
        break;
    case device_status:
        write_status(static_cast<u8>(value));
        break;
    default:
        if (state_.queue_select < queues_) {
            write_queue_register(offset, value);
        }
        break;
    }
}

void VirtioMmio::write_queue_register(u64 offset, u32 value) {
    VirtqueueState& queue = state_.queues[state_.queue_select];
    if (offset == queue_ready && (value & 1) == 0) {
        queue = {};
        return;
    }
    if (queue.ready != 0) {
        return; // where it is may not change while it is used
    }
    const bool high = (offset & 4) != 0;
    switch (offset) {
    case queue_size:
        queue.size = static_cast<u16>(value <= Virtqueue::most ? value : 0);
        break;
    case queue_ready:
        queue.ready = std::has_single_bit(queue.size) && queue.descriptors % 16 == 0 &&
                              queue.available % 2 == 0 && queue.used % 4 == 0
                          ? 1
                          : 0;
        break;
    case descriptors_low:
    case descriptors_high:
        set_half(queue.descriptors, high, value);
        break;
    case available_low:
    case available_high:
        set_half(queue.available, high, value);
        break;
    case used_low:
    case used_high:
        set_half(queue.used, high, value);
        break;
    default:
        break;
    }
}

void VirtioMmio::write_status(u8 value) {
    if (value == 0) {
        const u8 level = state_.interrupt;
        state_ = {};
        state_.interrupt = level;
        device_reset();
        update();
        return;
    }
    const bool acceptable =
        (state_.driver_features & version_1) != 0 && (state_.driver_features & ~features_) == 0;
    if ((value & features_ok) != 0 && (state_.status & features_ok) == 0 && !acceptable) {
        value &= static_cast<u8>(~features_ok);
    }
    if ((value & features_ok) == 0) {
        value &= static_cast<u8>(~driver_ok);
    }
    state_.status = value | (state_.status & device_needs_reset);
}

void VirtioMmio::update() {
    const bool level = state_.interrupts != 0;
    if (level != (state_.interrupt != 0)) {
        state_.interrupt = level ? 1 : 0;
        if (line_) {
            line_(level);
        }
    }
}

} // namespace refhv::monitor
