// SPDX-License-Identifier: MIT
#include "refhv/monitor/bus.hpp"

namespace refhv::monitor {

void Bus::attach(u64 first, u64 count, Device& device, u64 offset) {
    ranges_.push_back({first, count, offset, &device});
}

const Bus::Range* Bus::find(u64 address, u64 size) const {
    for (const Range& r : ranges_) {
        if (address >= r.first && size <= r.count && address - r.first <= r.count - size) {
            return &r;
        }
    }
    return nullptr;
}

u64 Bus::read(u64 address, unsigned size) const {
    if (const Range* const r = find(address, size); r != nullptr) {
        return r->device->read(r->offset + (address - r->first), size) & all_ones(size);
    }
    if (size == 1) {
        return all_ones(1);
    }
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
        value |= read(address + i, 1) << (8 * i);
    }
    return value;
}

void Bus::write(u64 address, unsigned size, u64 value) const {
    if (const Range* const r = find(address, size); r != nullptr) {
        r->device->write(r->offset + (address - r->first), size, value & all_ones(size));
        return;
    }
    for (unsigned i = 0; size > 1 && i < size; ++i) {
        write(address + i, 1, value >> (8 * i) & 0xff);
    }
}

} // namespace refhv::monitor
