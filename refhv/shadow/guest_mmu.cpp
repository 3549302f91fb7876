// SPDX-License-Identifier: MIT
#include "refhv/shadow/guest_mmu.hpp"

#include "refhv/x86/cpuid.hpp"

#include <new>

namespace refhv::shadow {

namespace {

constexpr u64 in_pages(u64 bytes) {
    return (bytes + page_size - 1) / page_size;
}

template <class T>
std::span<T> take(u8*& at, u64 count) {
    auto* first = reinterpret_cast<T*>(at);
    at += in_pages(count * sizeof(T)) * page_size;
    return {first, count};
}

// Bits of CR0 and CR4 on which translation depends (SDM 3A 4.1.3).
constexpr u64 cr0_bits = x86::cr0::pg | x86::cr0::wp | x86::cr0::pe;
constexpr u64 cr4_bits = x86::cr4::pse | x86::cr4::pae | x86::cr4::pge | x86::cr4::la57 | x86::cr4::pcide |
                         x86::cr4::smep | x86::cr4::smap | x86::cr4::pke;

} // namespace

bool GuestMmu::create(Arena& arena) {
    const u64 guest_pages = memory_.range.pages;
    const u64 tables = guest_pages / 4 < 64 ? 64 : guest_pages / 4 > 2048 ? 2048 : guest_pages / 4;
    const u64 nodes = tables * 128;
    const u64 regions = 2 * (guest_pages / 512 + 2);
    storage_pages_ = tables + in_pages(tables * sizeof(Page)) + in_pages(nodes * sizeof(Node)) +
                     in_pages(guest_pages * sizeof(Counted)) + in_pages(regions * sizeof(Counted));
    storage_ = arena.allocate(storage_pages_);
    if (storage_ == 0) {
        return false;
    }
    u8* at = static_cast<u8*>(platform::to_virtual(storage_ + tables * page_size));
    const auto pages = take<Page>(at, tables);
    const auto node_list = take<Node>(at, nodes);
    const auto frames = take<Counted>(at, guest_pages);
    pool_.init(storage_, pages, node_list, frames, take<Counted>(at, regions));
    return true;
}

void GuestMmu::destroy(Arena& arena) {
    if (storage_ != 0) {
        arena.release(storage_, storage_pages_);
        storage_ = 0;
    }
}

void GuestMmu::reset(const abi::GuestState& s) {
    const bool extended = x86::cpuid(0x8000'0000).eax >= 0x8000'0008;
    const u32 bits = extended ? x86::cpuid(0x8000'0008).eax & 0xff : 36;
    mmu_.reset({.cr0 = s.cr0,
                .cr3 = s.cr3,
                .cr4 = s.cr4,
                .efer = s.efer,
                .rflags = s.rflags,
                .pkru = 0,
                .physical_bits = static_cast<u8>(bits),
                .has_1g_pages = (x86::cpuid(0x8000'0001).edx >> 26 & 1) != 0},
               tracked_);
}

bool GuestMmu::write_control(unsigned number, u64 value) {
    const PagingState& s = mmu_.state();
    if (number == 3) {
        const bool keep =
            (s.cr4 & x86::cr4::pcide) != 0; // bit 63 is then an order, not an address (SDM 3A 4.10.4.1)
        const u64 cr3 = keep ? value & ~(u64{1} << 63) : value;
        if ((cr3 & ~((u64{1} << s.physical_bits) - 1)) != 0) {
            return false;
        }
        mmu_.load_cr3(cr3);
        return true;
    }
    const u64 cr0 = number == 0 ? value : s.cr0, cr4 = number == 4 ? value : s.cr4;
    // Leaving long mode, five levels and protection keys are not ours to shadow yet.
    const bool paging = (cr0 & x86::cr0::pg) != 0 && (cr0 & x86::cr0::pe) != 0 && (cr4 & x86::cr4::pae) != 0;
    const bool same_levels = ((cr4 ^ s.cr4) & (x86::cr4::la57 | x86::cr4::pke)) == 0;
    if (!paging || !same_levels || (number == 0 && value >> 32 != 0) ||
        (cr0 & (x86::cr0::nw | x86::cr0::cd)) == x86::cr0::nw) {
        return false;
    }
    const bool matters = ((cr0 ^ s.cr0) & cr0_bits) != 0 || ((cr4 ^ s.cr4) & cr4_bits) != 0;
    if (matters) {
        mmu_.set_controls(cr0, cr4, s.efer);
    } else {
        mmu_.set_other_bits(cr0, cr4);
    }
    return true;
}

u64 GuestMmu::read_control(unsigned number) const {
    const PagingState& s = mmu_.state();
    return number == 0 ? s.cr0 : number == 3 ? s.cr3 : s.cr4;
}

} // namespace refhv::shadow
