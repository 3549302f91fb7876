// SPDX-License-Identifier: MIT
// The bounded memory of a shadow MMU: tables with their descriptors, and nodes of lists of entry addresses.
#pragma once

#include "refhv/contract/types.hpp"

#include <span>

namespace refhv::shadow {

inline constexpr u32 nil = ~u32{0};

// What a shadow table stands for.
struct Key {
    u64 guest;   // guest-physical address of a table, or of a large page (`split`), with what its leaves show
    u8 level;    // 1: its entries map 4-KByte pages
    u8 part = 0; // which 512 entries' worth of the guest's table: 32-bit paging has more
    bool split = false;
    bool operator==(const Key&) const = default;
};

struct Page {
    Key key;
    u32 next;    // in its hash bucket, or in the free list
    u32 parents; // list of entries that point here
    bool used;
    bool watched; // writes to the guest's table are noticed
    bool unsync;  // the guest may have written its table since
};

struct Node {
    u64 slot; // physical address of a shadow entry
    u32 next;
    u32 zero;
};

// Two numbers that forget themselves when the pool is cleared.
struct Counted {
    u32 epoch;
    u32 value;
};

class Pool {
  public:
    static constexpr u32 buckets = 256;

    // Page 0 is never allocated: the four PDPTEs of guests outside long mode.
    static constexpr u32 pdpt = 0;

    // `tables`: physical address of pages.size() contiguous pages. `frames`: one list head per guest page.
    // `regions`: two per 2 MBytes of guest memory. All zeroed.
    void init(u64 tables, std::span<Page> pages, std::span<Node> nodes, std::span<Counted> frames,
              std::span<Counted> regions) {
        tables_ = tables;
        pages_ = pages;
        nodes_ = nodes;
        frames_ = frames;
        regions_ = regions;
        clear();
    }

    // Everything free, every list empty; as quick for a large pool as for a small one.
    void clear() {
        for (u32& b : bucket_) {
            b = nil;
        }
        fresh_page_ = pdpt + 1;
        fresh_node_ = used_ = 0;
        pages_[pdpt] = {};
        free_page_ = free_node_ = nil;
        ++epoch_;
    }

    [[nodiscard]] u32 used() const { return used_; }
    // Pages with this index or a higher one have never been used since clear().
    [[nodiscard]] u32 page_limit() const { return fresh_page_; }
    [[nodiscard]] Page& page(u32 index) { return pages_[index]; }
    [[nodiscard]] const Page& page(u32 index) const { return pages_[index]; }
    [[nodiscard]] u64 table_of(u32 index) const { return tables_ + u64{index} * page_size; }
    [[nodiscard]] u32 page_at(u64 table) const { return static_cast<u32>((table - tables_) / page_size); }

    [[nodiscard]] u32 find(const Key& key) const {
        u32 i = bucket_[hash(key.guest)];
        while (i != nil && pages_[i].key != key) {
            i = pages_[i].next;
        }
        return i;
    }

    // The first page that shadows the guest table at this address and satisfies the predicate; nil: none.
    template <class Predicate>
    [[nodiscard]] u32 find_table(u64 guest, Predicate predicate) {
        u32 i = bucket_[hash(guest)];
        while (i != nil && (pages_[i].key.guest != guest || pages_[i].key.split || !predicate(i))) {
            i = pages_[i].next;
        }
        return i;
    }

    // nil: none left.
    [[nodiscard]] u32 allocate(const Key& key) {
        u32 i = free_page_;
        if (i != nil) {
            free_page_ = pages_[i].next;
        } else if (fresh_page_ < pages_.size()) {
            i = fresh_page_++;
        } else {
            return nil;
        }
        u32& head = bucket_[hash(key.guest)];
        pages_[i] = {
            .key = key, .next = head, .parents = nil, .used = true, .watched = false, .unsync = false};
        head = i;
        ++used_;
        return i;
    }

    void release(u32 index) {
        u32* link = &bucket_[hash(pages_[index].key.guest)];
        while (*link != index) {
            link = &pages_[*link].next;
        }
        *link = pages_[index].next;
        pages_[index].used = false;
        pages_[index].next = free_page_;
        free_page_ = index;
        --used_;
    }

    // Lists of entry addresses: what points to a shadow page (Page::parents), what maps a 4-KByte guest page,
    // what maps a whole 2-MByte region.
    [[nodiscard]] u32& frame(u64 number) { return fresh(frames_[number], nil); }
    [[nodiscard]] u32& region(u64 number) { return fresh(regions_[2 * number], nil); }
    // How many shadowed tables lie in the region.
    [[nodiscard]] u32& tables_in_region(u64 number) { return fresh(regions_[2 * number + 1], 0); }

    [[nodiscard]] Node& node(u32 index) { return nodes_[index]; }
    // A translation takes at most one node a level, a PDPT one for each entry.
    [[nodiscard]] bool has_nodes() const { return nodes_.size() - fresh_node_ >= 8; }

    void push(u32& list, u64 slot) { // has_nodes() must have held
        u32 i = free_node_;
        if (i != nil) {
            free_node_ = nodes_[i].next;
        } else {
            i = fresh_node_++;
        }
        nodes_[i] = {slot, list, 0};
        list = i;
    }

    void remove(u32& list, u64 slot) {
        for (u32* link = &list; *link != nil; link = &nodes_[*link].next) {
            if (nodes_[*link].slot == slot) {
                const u32 i = *link;
                *link = nodes_[i].next;
                nodes_[i].next = free_node_;
                free_node_ = i;
                return;
            }
        }
    }

  private:
    [[nodiscard]] static u32 hash(u64 guest) { return static_cast<u32>(guest >> 12 ^ guest >> 20) % buckets; }

    [[nodiscard]] u32& fresh(Counted& c, u32 initial) {
        if (c.epoch != epoch_) {
            c = {epoch_, initial};
        }
        return c.value;
    }

    u64 tables_ = 0;
    std::span<Page> pages_;
    std::span<Node> nodes_;
    std::span<Counted> frames_, regions_;
    u32 bucket_[buckets] = {};
    u32 fresh_page_ = 0, fresh_node_ = 0, free_page_ = nil, free_node_ = nil, used_ = 0, epoch_ = 0;
};

} // namespace refhv::shadow
