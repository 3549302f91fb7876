// SPDX-License-Identifier: MIT
// Packed payloads: any bytes are refused or unpacked within the room, and what is packed comes out as it was.
#include "refhv/contract/packing.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace refhv {
namespace {

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

template <usize step>
void comes_back(std::span<const u8> payload) {
    static Packer<step> packer;
    std::vector<u8> packed(sizeof(PackedHeader) + payload.size() + payload.size() / 128 + 16);
    packed.resize(packer.pack(payload, packed));
    require(!packed.empty());
    std::vector<u8> room(payload.size());
    const auto back = unpack_payload(packed, room);
    require(back && std::ranges::equal(*back, payload));
}

} // namespace
} // namespace refhv

extern "C" int LLVMFuzzerTestOneInput(const refhv::u8* data, std::size_t size) {
    using namespace refhv;
    const std::span<const u8> in(data, size);
    std::vector<u8> room(std::size_t{1} << 16); // of its own, so that a byte beyond it is seen
    (void)unpack_payload(in, room);
    comes_back<1>(in);
    comes_back<8>(in);
    return 0;
}
