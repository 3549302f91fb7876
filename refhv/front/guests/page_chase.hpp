// SPDX-License-Identifier: MIT
// A pointer chase over one cache line per 4 KB of address space, in random order; and one over as many lines
// in a sixteenth of the pages. What differs between the two, and between two page sizes, is address
// translation.
#pragma once

#include "refhv/front/guests/page_memory.hpp"

#include <map>
#include <memory>
#include <sched.h>
#include <vector>

namespace refhv::front {

inline constexpr u64 chase_seed = 0x7265'6668'76;
inline constexpr u64 chase_page = 4096;

// Lines that the sweep touches: powers of two and the halves between, 32 KB to 128 MB of address space.
[[nodiscard]] std::vector<u32> sweep_sizes();
inline constexpr u32 most_lines = 32768;

// next[i], one cycle through 0 … count-1 (Sattolo 1986), drawn from a fixed seed.
[[nodiscard]] std::vector<u32> full_cycle(u64 count, u64 seed);

// Where the lines are. Both use cache sets evenly, bits 6-11 (L1) and 6-15 (a second level) of the address:
// among any aligned 64 lines of the chain each value of the former comes once, among any 1024 each of the
// latter.
enum class Layout : u8 {
    spread, // one line a 4 KB page: as many translations as lines
    inside, // sixteen a page, no two adjacent: the same cache footprint, a sixteenth of the translations
};
inline constexpr u64 inside_lines = 16; // a page

// Offset of the chain's line `index`.
[[nodiscard]] constexpr u64 offset_of(Layout layout, u64 index) {
    if (layout == Layout::spread) {
        return index * chase_page + (((index >> 4) + 4 * (index & 15)) & 63) * 64;
    }
    const u64 page = index / inside_lines;
    return page * chase_page + (4 * (index % inside_lines) + ((page + (page >> 4)) & 3)) * 64;
}
// Which line may be at an offset.
[[nodiscard]] constexpr u64 index_at(Layout layout, u64 offset) {
    const u64 page = offset / chase_page;
    return layout == Layout::spread ? page : page * inside_lines + offset % chase_page / 256;
}

// Keeps the thread on the last CPU that it may use, as target `self` does, and lets it go again.
class Pinned {
  public:
    Pinned();
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    ~Pinned();

  private:
    cpu_set_t before_{};
    bool pinned_ = false;
};

// The sweep's memory, made at the first call and kept, so that a claim and the rows that rest on it speak of
// the same pages. Throws NotOffered, every time with the same words.
[[nodiscard]] PageMemory& sweep_memory(PageSize size);

class PageChase {
  public:
    // Writes the chain into the memory's first bytes, at most lines * chase_page of them.
    PageChase(PageMemory& memory, Layout layout, u32 lines);

    struct Sample {
        u64 start, end; // TSC
        bool disturbed; // an interrupt cleared ES ("SegScope", HPCA 2024)
    };
    // Times `accesses` dependent loads, a multiple of 16, from where the last sample stopped; 0: an empty
    // pair of stamps.
    Sample sample(u64 accesses);

    // Follows the chain as it stands in memory. What is wrong with it, one line; empty: it comes back to its
    // start after exactly `lines` steps and has touched each line once.
    [[nodiscard]] std::string fault() const;

  private:
    [[nodiscard]] void** line(u64 index) const;

    PageMemory& memory_;
    Layout layout_;
    u32 lines_;
    void* at_;
};

} // namespace refhv::front
