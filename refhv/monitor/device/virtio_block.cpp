// SPDX-License-Identifier: MIT
#include "refhv/monitor/device/virtio_block.hpp"

#include "refhv/monitor/device/bytes.hpp"

#include <algorithm>
#include <utility>

namespace refhv::monitor {
namespace {

constexpr u32 id = 2;
constexpr u64 segments_feature = 1 << 2, read_only_feature = 1 << 5, flush_feature = 1 << 9;
constexpr u32 most_segments = Virtqueue::most - 2; // beside the header and the status

enum Type : u32 {
    in = 0,
    out = 1,
    flush = 4,
    get_id = 8
};
enum Status : u8 {
    ok = 0,
    io_error = 1,
    unsupported = 2
};

struct Header {
    u32 type, reserved;
    u64 sector;
};

constexpr usize id_length = 20;
constexpr u64 at_once = 64 * 1024; // bytes that are copied with one buffer

} // namespace

VirtioBlock::VirtioBlock(GuestMemory& memory, BlockImage& image, bool read_only, std::string serial,
                         Line interrupt)
    : VirtioMmio(state_.transport, memory, std::move(interrupt), id,
                 segments_feature | flush_feature | (read_only ? read_only_feature : 0), 1),
      image_(image), read_only_(read_only), serial_(std::move(serial)) {
    serial_.resize(id_length);
}

std::span<std::byte> VirtioBlock::state() {
    return bytes_of(state_);
}

u8 VirtioBlock::config(u64 offset) const {
    constexpr u64 segments_at = 12;
    if (offset < 8) {
        return static_cast<u8>(image_.sectors() >> (8 * offset));
    }
    return offset >= segments_at && offset < segments_at + 4
               ? static_cast<u8>(most_segments >> (8 * (offset - segments_at)))
               : u8{0};
}

void VirtioBlock::notified(unsigned which) {
    for_each_chain(
        which, [] { return true; }, [&](const VirtioChain& chain) { return request(chain); });
}

// Header, data and status may be cut into descriptors in any way (2.7.4.2).
bool VirtioBlock::request(const VirtioChain& chain) {
    Header header{};
    const u64 room = length_of(chain.writable);
    if (room == 0 || !queue(0).copy_in(chain.readable, 0, std::as_writable_bytes(std::span(&header, 1)))) {
        return false;
    }
    bool fault = false;
    const auto status = static_cast<std::byte>(perform(header.type, header.sector, chain, fault));
    return !fault && queue(0).copy_out(chain.writable, room - 1, std::span(&status, 1)) &&
           queue(0).finish(chain, static_cast<u32>(room));
}

u8 VirtioBlock::perform(u32 type, u64 sector, const VirtioChain& chain, bool& fault) {
    const u64 to_guest = length_of(chain.writable) - 1,
              from_guest = length_of(chain.readable) - sizeof(Header);
    switch (type) {
    case in:
        return transfer(true, sector, to_guest, chain, fault);
    case out:
        return read_only_ ? u8{io_error} : transfer(false, sector, from_guest, chain, fault);
    case flush: // the overlay is in memory: nothing is left to do
        return ok;
    case get_id: {
        const auto bytes = std::as_bytes(std::span(serial_)).first(std::min<u64>(to_guest, id_length));
        fault = !queue(0).copy_out(chain.writable, 0, bytes);
        return ok;
    }
    default:
        return unsupported;
    }
}

u8 VirtioBlock::transfer(bool in, u64 sector, u64 length, const VirtioChain& chain, bool& fault) {
    const u64 sectors = image_.sectors();
    if (length % BlockImage::sector != 0 || sector > sectors ||
        length / BlockImage::sector > sectors - sector) {
        return io_error;
    }
    std::vector<std::byte> bytes;
    for (u64 done = 0; done < length; done += bytes.size()) {
        bytes.resize(std::min(length - done, at_once));
        const u64 at = sector * BlockImage::sector + done;
        if (in) {
            if (!image_.read(at, bytes)) {
                return io_error;
            }
            fault = !queue(0).copy_out(chain.writable, done, bytes);
        } else {
            fault = !queue(0).copy_in(chain.readable, sizeof(Header) + done, bytes);
        }
        if (fault) {
            return io_error;
        }
        if (!in && !image_.write(at, bytes)) {
            return io_error;
        }
    }
    return ok;
}

} // namespace refhv::monitor
