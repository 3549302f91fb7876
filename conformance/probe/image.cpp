// SPDX-License-Identifier: MIT
// What the memory of the probes' guest holds.
#include "conformance/probe/machine.hpp"

namespace refhv::front::machine {

namespace {

constexpr u64 table = 0x27;      // P, W, U, A
constexpr u64 large_page = 0xe7; // P, W, U, A, D, PS
constexpr u64 two_mbytes = 0x20'0000;
constexpr u8 interrupt_gate = 0x8e;

template <class T>
Piece piece(u64 gpa, const T& value) {
    return {gpa, bytes_of(value)};
}

std::array<u64, 17> descriptors() {
    constexpr u32 limit = ~0u;
    return {0,
            descriptor(0, limit, 0xa09b),
            descriptor(0, limit, 0xc093),
            descriptor(0, limit, 0xc09b),
            descriptor(0, 0xffff, 0x9b),
            descriptor(0, 0xffff, 0x93),
            descriptor(0, limit, 0xa0fb),
            descriptor(0, limit, 0xc0f3),
            descriptor(0, limit, 0xc0fb),
            descriptor(0, 0xffff, 0xfb),
            descriptor(tss, tss_limit, 0x8b),
            0, // the upper half of that in long mode
            gate32(other_task, 0, 0xe5),
            descriptor(other_tss, 0x67, 0xe9),
            descriptor(data, 0xff, 0xe2),
            descriptor(other_tss, 0x67, 0x8b),
            0};
}

} // namespace

Image image() {
    constexpr u64 hlts = 0xf4f4'f4f4'f4f4'f4f4;
    constexpr u64 real_pair = u64{real_handlers} << 16 | u64{real_handlers} << 48 | u64{4} << 32;
    Image out;
    out.fills = {
        {.gpa = 0, .start = real_pair, .step = 8 | u64{8} << 32, .count = 128},
        {.gpa = u64{real_handlers} << 4, .start = hlts, .step = 0, .count = 128},
        {.gpa = handlers, .start = hlts, .step = 0, .count = 512},
        {.gpa = tss, .start = 0, .step = 0, .count = (tss_limit + 8) / 8},
        {.gpa = other_tss, .start = 0, .step = 0, .count = 13},
        {.gpa = idt32, .start = gate32(code32, handlers, interrupt_gate), .step = 16, .count = 256},
        {.gpa = pae_pdpt, .start = pae_directory | 1, .step = 0, .count = 4},
        {.gpa = directory, .start = large_page, .step = 0, .count = 1},
        {.gpa = pml4, .start = pdpt | table, .step = 0, .count = 1},
        {.gpa = pdpt, .start = page_directory | table, .step = 0, .count = 1},
        {.gpa = pae_directory, .start = large_page, .step = two_mbytes, .count = 2},
        {.gpa = page_directory, .start = large_page, .step = two_mbytes, .count = 2},
        {.gpa = stack - 0x1000, .start = 0, .step = 0, .count = 0x280},
    };
    constexpr u32 used_vectors = 0x48;
    std::array<std::array<u64, 2>, used_vectors> gates64{};
    for (u32 v = 0; v < used_vectors; ++v) {
        gates64[v] = {gate32(code64, static_cast<u32>(handlers + 16 * v), interrupt_gate), 0};
    }
    out.pieces = {piece(gdt, descriptors()), piece(idt64, gates64),
                  piece(tss + 4, static_cast<u32>(ring0_stack)), piece(tss + 0x66, io_bitmap),
                  piece(tss + tss_limit, u8{0xff})};
    return out;
}

} // namespace refhv::front::machine
