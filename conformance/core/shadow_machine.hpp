// SPDX-License-Identifier: MIT
// A guest on the shadow MMU without any hardware: a CPU that walks the shadow tables, with a TLB that forgets
// only when told to, beside the same guest on a CPU that walks the guest's own tables at every access.
#pragma once

#include "refhv/shadow/mmu.hpp"

#include <cstring>
#include <map>
#include <optional>
#include <vector>

namespace refhv::shadow::testing {

inline constexpr u64 guest_base = 0x4000'0000, host_base = 0x1'2340'0000;

// Guest memory. Physical addresses are guest addresses moved by a multiple of 2 MBytes, so that large pages
// can be.
struct GuestRam {
    explicit GuestRam(u64 pages) : bytes(pages * page_size) {}
    std::vector<u8> bytes;

    [[nodiscard]] u64 base() const { return guest_base; }
    [[nodiscard]] bool contains(u64 gpa, u64 size) const {
        return gpa >= guest_base && gpa - guest_base <= bytes.size() &&
               size <= bytes.size() - (gpa - guest_base);
    }
    [[nodiscard]] u64 load(u64 gpa) const {
        u64 v;
        std::memcpy(&v, &bytes.at(gpa - guest_base), 8);
        return v;
    }
    void store(u64 gpa, u64 value) { std::memcpy(&bytes.at(gpa - guest_base), &value, 8); }
    bool exchange(u64 gpa, u64 old, u64 fresh) {
        if (load(gpa) != old) {
            return false;
        }
        store(gpa, fresh);
        return true;
    }
    [[nodiscard]] u64 to_physical(u64 gpa) const { return gpa - guest_base + host_base; }
    [[nodiscard]] u64 to_guest(u64 pa) const { return pa - host_base + guest_base; }
};

// The host's memory for shadow tables; also what the simulated CPU walks.
struct HostTables {
    static constexpr u64 begin = 0x5000'0000'0000 & pte::address;
    explicit HostTables(u64 pages) : words(pages * 512) {}
    std::vector<u64> words;

    [[nodiscard]] u64 load(u64 pa) const { return words.at((pa - begin) / 8); }
    void store(u64 pa, u64 entry) { words.at((pa - begin) / 8) = entry; }
    void zero(u64 table) {
        for (u64 i = 0; i < 512; ++i) {
            store(table + 8 * i, 0);
        }
    }
    // As a memory policy of walk().
    [[nodiscard]] bool contains(u64 pa, u64) const { return pa >= begin && (pa - begin) / 8 < words.size(); }
    bool exchange(u64, u64, u64) { return true; } // A and D are set in every shadow entry already
};

struct Outcome {
    bool ok;
    u32 error; // of a #PF
    u64 gpa;
    bool operator==(const Outcome&) const = default;
};

class ShadowCpu {
  public:
    ShadowCpu(GuestRam& ram, bool tracked, u32 table_pages)
        : tables_(table_pages), pages_(table_pages), nodes_(table_pages * 512),
          frames_(ram.bytes.size() / page_size), regions_(2 * (ram.bytes.size() / (page_size * 512) + 1)),
          ram_(ram), mmu_(ram, tables_, pool_), tracked_(tracked) {
        pool_.init(HostTables::begin, pages_, nodes_, frames_, regions_);
    }

    void reset(const PagingState& s) { mmu_.reset(s, tracked_); }
    void load_cr3(u64 cr3) {
        mmu_.load_cr3(cr3);
        tlb_.clear();
    }
    void invlpg(u64 gva) {
        mmu_.invalidate(gva);
        tlb_.erase(gva / page_size);
    }
    void set_controls(u64 cr0, u64 cr4, u64 efer) { mmu_.set_controls(cr0, cr4, efer); }
    void set_rights(u64 rflags, u32 pkru) { mmu_.set_rights(rflags, pkru); }

    // An access of the guest. nullopt: no end of faults, which is a bug.
    std::optional<Outcome> access(u64 gva, Access a) {
        for (int tries = 0; tries < 64; ++tries) {
            if (mmu_.take_flush()) {
                tlb_.clear();
            }
            if (const auto hit = tlb_.find(gva / page_size); hit != tlb_.end()) {
                const PagingState s = mmu_.cpu_state();
                if (detail::check_rights(s, hit->second, a) == 0) {
                    return Outcome{true, 0, ram_.to_guest(hit->second.gpa) + gva % page_size};
                }
                tlb_.erase(hit); // a fault forgets it and walks again
            }
            PagingState s = mmu_.cpu_state();
            s.physical_bits = 52;
            const Walk w = walk(tables_, s, gva, a);
            if (w.ok) {
                ++hits;
                Walk cached = w;
                cached.gpa &= ~(page_size - 1);
                tlb_[gva / page_size] = cached;
                continue;
            }
            ++faults;
            Walk guest{};
            switch (mmu_.page_fault(gva, a, guest)) {
            case Answer::fault:
                return Outcome{false, guest.error, 0};
            case Answer::outside:
                return Outcome{true, 0, guest.gpa};
            case Answer::retry:
                break;
            }
        }
        return std::nullopt;
    }

    u64 hits = 0, faults = 0;
    [[nodiscard]] u32 tables_used() const { return pool_.used(); }

  private:
    HostTables tables_;
    std::vector<Page> pages_;
    std::vector<Node> nodes_;
    std::vector<Counted> frames_, regions_;
    Pool pool_;
    GuestRam& ram_;
    Mmu<GuestRam, HostTables> mmu_;
    std::map<u64, Walk> tlb_;
    bool tracked_;
};

} // namespace refhv::shadow::testing
