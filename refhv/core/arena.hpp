// SPDX-License-Identifier: MIT
// The core's memory: one physically contiguous range, handed out in pages. Allocation is first fit over a
// bitmap; it happens while a VM is made, never while one runs.
#pragma once

#include "refhv/core/slices.hpp"

#include <span>

namespace refhv {

class Arena {
  public:
    // `physical` and `bytes` are multiples of the page size. The bitmap takes its room at the front.
    void init(u64 physical, u64 bytes) {
        base_ = physical;
        pages_ = bytes / page_size;
        withheld_ = 0;
        const u64 words = (pages_ + 63) / 64;
        bitmap_ = {static_cast<u64*>(platform::to_virtual(physical)), words};
        for (u64& w : bitmap_) {
            w = 0;
        }
        mark(0, (words * 8 + page_size - 1) / page_size, true);
    }

    // A hole in it, which is never handed out. Not where the bitmap is.
    void withhold(u64 physical, u64 bytes) {
        mark((physical - base_) / page_size, bytes / page_size, true);
        withheld_ += bytes / page_size;
    }

    [[nodiscard]] u64 bytes() const { return (pages_ - withheld_) * page_size; }

    [[nodiscard]] u64 pages_in_use() const {
        u64 count = 0;
        for (u64 w : bitmap_) {
            for (; w != 0; w &= w - 1) {
                ++count;
            }
        }
        return count - withheld_;
    }

    // `count` contiguous pages, zeroed, at a multiple of `alignment` pages; 0: exhausted.
    [[nodiscard]] u64 allocate(u64 count = 1, u64 alignment = 1) {
        const u64 base_page = base_ / page_size;
        u64 page = align_up(base_page, alignment) - base_page;
        while (page + count <= pages_) {
            const u64 taken = first_taken(page, count);
            if (taken == count) {
                mark(page, count, true);
                const u64 physical = base_ + page * page_size;
                zero(physical, count);
                return physical;
            }
            page = align_up(base_page + page + taken + 1, alignment) - base_page;
        }
        return 0;
    }

    void release(u64 physical, u64 count = 1) { mark((physical - base_) / page_size, count, false); }

  private:
    static constexpr u64 align_up(u64 n, u64 to) { return (n + to - 1) / to * to; }

    [[nodiscard]] u64 first_taken(u64 page, u64 count) const {
        u64 i = 0;
        while (i < count) {
            const u64 p = page + i;
            if (p % 64 == 0 && bitmap_[p / 64] == 0) {
                i += 64;
            } else if ((bitmap_[p / 64] >> (p % 64) & 1) != 0) {
                return i;
            } else {
                ++i;
            }
        }
        return count;
    }

    void mark(u64 page, u64 count, bool taken) {
        for (u64 p = page; p < page + count; ++p) {
            const u64 bit = u64{1} << (p % 64);
            bitmap_[p / 64] = taken ? bitmap_[p / 64] | bit : bitmap_[p / 64] & ~bit;
        }
    }

    static void zero(u64 physical, u64 count) {
        auto* const memory = static_cast<u8*>(platform::to_virtual(physical));
        slices::each(count * page_size, slices::bytes, [&](u64 first, u64 bytes) {
            void* at = memory + first;
            u64 words = bytes / 8;
            asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
        });
    }

    u64 base_ = 0;
    u64 pages_ = 0;
    u64 withheld_ = 0;
    std::span<u64> bitmap_;
};

} // namespace refhv
