// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/fw_cfg.hpp"

#include "refhv/monitor/device/bytes.hpp"

namespace refhv::monitor {
namespace {

enum Key : u16 {
    signature = 0x00,
    id = 0x01,
    memory_size = 0x03,
    cpus_there = 0x05,
    cpus_at_most = 0x0f,
};

} // namespace

std::span<std::byte> FwCfg::state() {
    return bytes_of(state_);
}

// Numbers have their lowest byte first. An item has zeroes behind its end, and so have items that are not
// there: the directory of files, key 19H, among them.
u8 FwCfg::next_byte() {
    u64 item = 0;
    switch (state_.key & 0x3fff) { // bit 14 writes, bit 15 is the architecture's own
    case signature:
        item = 'Q' | 'E' << 8 | 'M' << 16 | u64{'U'} << 24;
        break;
    case id:
        item = 1; // the interface by ports
        break;
    case memory_size:
        item = memory_;
        break;
    case cpus_there:
    case cpus_at_most:
        item = cpus_;
        break;
    default:
        break;
    }
    if (state_.at >= sizeof item || (state_.key & 0x8000) != 0) {
        return 0;
    }
    return static_cast<u8>(item >> (8 * state_.at++));
}

u64 FwCfg::read(u64 offset, unsigned size) {
    return read_bytes(offset, size, [&](u64 at) { return at == 1 ? next_byte() : u8{0xff}; });
}

void FwCfg::write(u64 offset, unsigned size, u64 value) {
    if (offset == 0 && size == 2) {
        state_.key = static_cast<u16>(value);
        state_.at = 0;
    }
}

} // namespace refhv::monitor
