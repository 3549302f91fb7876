// SPDX-License-Identifier: MIT
// The bounded memory of a shadow MMU: tables with their descriptors, and lists of their entries. Nothing here
// takes longer the more of it is in use.
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
    u32 next;     // in its hash bucket, in the free list, or among those that nobody wants
    u32 parents;  // list of entries that point here
    bool watched; // writes to the guest's table are noticed
    bool unsync;  // the guest may have written its table since
    u64 present[8] =
        {}; // one bit an entry that is in a list: a table has few, and they are looked through often
};

// Of every shadow entry, which is in one list at most: its neighbours there, by number.
struct Link {
    u32 next, previous;
};

// Two numbers that forget themselves when the pool is cleared.
struct Counted {
    u32 epoch;
    u32 value;
};

class Pool {
  public:
    static constexpr u32 buckets = 256;
    // The guest chooses where its tables lie, and with it the bucket; a full one counts as no room.
    static constexpr u32 most_in_bucket = 64;

    // Page 0 is never allocated: the four PDPTEs of guests outside long mode.
    static constexpr u32 pdpt = 0;

    // `tables`: physical address of pages.size() contiguous pages. `links`: one per entry of them. `frames`:
    // one list head per guest page. `regions`: two per 2 MBytes of guest memory. All zeroed.
    void init(u64 tables, std::span<Page> pages, std::span<Link> links, std::span<Counted> frames,
              std::span<Counted> regions, u32 epoch = 0) {
        tables_ = tables;
        pages_ = pages;
        links_ = links;
        frames_ = frames;
        regions_ = regions;
        epoch_ = epoch;
        clear();
    }

    // Everything free, every list empty; as quick for a large pool as for a small one.
    void clear() {
        for (u32& b : bucket_) {
            b = nil;
        }
        fresh_page_ = pdpt + 1;
        pages_[pdpt] = {};
        free_page_ = unwanted_ = nil;
        ++epoch_;
        // Epochs come round again after 2^32 clears, and every number is looked at long before that.
        frames_[epoch_ % frames_.size()].epoch = epoch_ - 1;
        regions_[epoch_ % regions_.size()].epoch = epoch_ - 1;
    }

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

    // nil: none left, or too many where this one belongs.
    [[nodiscard]] u32 allocate(const Key& key) {
        u32& head = bucket_[hash(key.guest)];
        u32 here = 0;
        for (u32 i = head; i != nil; i = pages_[i].next) {
            ++here;
        }
        if (here >= most_in_bucket) {
            return nil;
        }
        u32 i = free_page_;
        if (i != nil) {
            free_page_ = pages_[i].next;
        } else if (fresh_page_ < pages_.size()) {
            i = fresh_page_++;
        } else {
            return nil;
        }
        pages_[i] = {.key = key, .next = head, .parents = nil, .watched = false, .unsync = false};
        head = i;
        return i;
    }

    // Nobody will find it any more. Its entries are still in their lists.
    void abandon(u32 index) {
        u32* link = &bucket_[hash(pages_[index].key.guest)];
        while (*link != index) {
            link = &pages_[*link].next;
        }
        *link = pages_[index].next;
        pages_[index].next = unwanted_;
        unwanted_ = index;
    }
    // One of those, to be emptied and released; nil: none.
    [[nodiscard]] u32 take_abandoned() {
        const u32 i = unwanted_;
        unwanted_ = i != nil ? pages_[i].next : nil;
        return i;
    }
    void release(u32 index) {
        pages_[index].next = free_page_;
        free_page_ = index;
    }

    // Lists of entries: what points to a shadow page (Page::parents), what maps a 4-KByte guest page,
    // what maps a whole 2-MByte region.
    [[nodiscard]] u32& frame(u64 number) { return fresh(frames_[number], nil); }
    [[nodiscard]] u32& region(u64 number) { return fresh(regions_[2 * number], nil); }
    // How many shadowed tables lie in the region.
    [[nodiscard]] u32& tables_in_region(u64 number) { return fresh(regions_[2 * number + 1], 0); }

    [[nodiscard]] u64 slot_of(u32 entry) const { return tables_ + u64{entry} * 8; }
    [[nodiscard]] u32 next(u32 entry) const { return links_[entry].next; }

    void push(u32& list, u64 slot) {
        const u32 entry = entry_at(slot);
        links_[entry] = {list, nil};
        if (list != nil) {
            links_[list].previous = entry;
        }
        list = entry;
        pages_[entry / 512].present[entry / 64 % 8] |= u64{1} << entry % 64;
    }
    // It is in this list.
    void remove(u32& list, u64 slot) {
        const u32 entry = entry_at(slot);
        pages_[entry / 512].present[entry / 64 % 8] &= ~(u64{1} << entry % 64);
        const Link link = links_[entry];
        (link.previous != nil ? links_[link.previous].next : list) = link.next;
        if (link.next != nil) {
            links_[link.next].previous = link.previous;
        }
    }

    // f(index) of every entry of the table that is in a list. f may remove it.
    template <class F>
    void for_each_entry(u32 index, F f) const {
        for (u32 word = 0; word < 8; ++word) {
            for (u64 left = pages_[index].present[word]; left != 0; left &= left - 1) {
                f(64 * word + static_cast<u32>(__builtin_ctzll(left)));
            }
        }
    }

  private:
    [[nodiscard]] u32 entry_at(u64 slot) const { return static_cast<u32>((slot - tables_) / 8); }
    [[nodiscard]] static u32 hash(u64 guest) { return static_cast<u32>(guest >> 12 ^ guest >> 20) % buckets; }

    [[nodiscard]] u32& fresh(Counted& c, u32 initial) {
        if (c.epoch != epoch_) {
            c = {epoch_, initial};
        }
        return c.value;
    }

    u64 tables_ = 0;
    std::span<Page> pages_;
    std::span<Link> links_;
    std::span<Counted> frames_, regions_;
    u32 bucket_[buckets] = {};
    u32 fresh_page_ = 0, free_page_ = nil, unwanted_ = nil, epoch_ = 0;
};

} // namespace refhv::shadow
