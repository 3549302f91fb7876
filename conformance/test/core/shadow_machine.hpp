// SPDX-License-Identifier: MIT
// A guest on the shadow MMU without any hardware: a CPU that walks the shadow tables, with a TLB that forgets
// only when told to. RFLAGS.AC and PKRU change without the MMU's knowledge, as they do in a guest.
#pragma once

#include "conformance/test/core/reference_walk.hpp"
#include "refhv/shadow/mmu.hpp"

#include <cstring>
#include <map>
#include <optional>
#include <vector>

namespace refhv::shadow::testing {

using reference::Outcome;

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
    template <class T>
    [[nodiscard]] T read(u64 gpa) const {
        T v;
        std::memcpy(&v, &bytes.at(gpa - guest_base), sizeof v);
        return v;
    }
    template <class T>
    void write(u64 gpa, T value) {
        std::memcpy(&bytes.at(gpa - guest_base + sizeof value - 1) - (sizeof value - 1), &value,
                    sizeof value);
    }
    [[nodiscard]] u64 load(u64 gpa) const { return read<u64>(gpa); }
    [[nodiscard]] u32 load32(u64 gpa) const { return read<u32>(gpa); }
    bool exchange(u64 gpa, u64 old, u64 fresh) { return swap(gpa, old, fresh); }
    bool exchange32(u64 gpa, u32 old, u32 fresh) { return swap(gpa, old, fresh); }
    [[nodiscard]] u64 to_physical(u64 gpa) const { return gpa - guest_base + host_base; }
    [[nodiscard]] u64 to_guest(u64 pa) const { return pa - host_base + guest_base; }
    // As the oracle reads it.
    [[nodiscard]] std::optional<u64> operator()(u64 gpa, unsigned width) const {
        return !contains(gpa, width) ? std::nullopt
                                     : std::optional<u64>(width == 4 ? load32(gpa) : load(gpa));
    }

  private:
    template <class T>
    bool swap(u64 gpa, T old, T fresh) {
        if (read<T>(gpa) != old) {
            return false;
        }
        write(gpa, fresh);
        return true;
    }
};

// The host's memory for shadow tables; also what the simulated CPU walks.
struct HostTables {
    static constexpr u64 begin = 0x8000'0000; // CR3 of a CPU outside long mode has 32 bits
    explicit HostTables(u64 pages) : words(pages * 512) {}
    std::vector<u64> words;

    [[nodiscard]] u64 load(u64 pa) const { return words.at((pa - begin) / 8); }
    void store(u64 pa, u64 entry) { words.at((pa - begin) / 8) = entry; }
    void zero(u64 table) {
        for (u64 i = 0; i < 512; ++i) {
            store(table + 8 * i, 0);
        }
    }
    [[nodiscard]] std::optional<u64> operator()(u64 pa, unsigned) const {
        return pa < begin || (pa - begin) / 8 >= words.size() ? std::nullopt : std::optional<u64>(load(pa));
    }
};

class ShadowCpu {
  public:
    ShadowCpu(GuestRam& ram, bool tracked, u32 table_pages)
        : tables_(table_pages), pages_(table_pages), links_(table_pages * 512),
          frames_(ram.bytes.size() / page_size), regions_(2 * (ram.bytes.size() / (page_size * 512) + 1)),
          ram_(ram), mmu_(ram, tables_, pool_), tracked_(tracked) {
        pool_.init(HostTables::begin, pages_, links_, frames_, regions_);
    }

    [[nodiscard]] bool reset(const PagingState& s) { return mmu_.reset(s, tracked_); }
    [[nodiscard]] bool load_cr3(u64 cr3) { return mmu_.load_cr3(cr3); }
    void invlpg(u64 gva) { mmu_.invalidate(gva); }
    [[nodiscard]] bool set_controls(u64 cr0, u64 cr4, u64 efer) { return mmu_.set_controls(cr0, cr4, efer); }

    // An access of the guest while AC and PKRU are these. nullopt: no end of faults, or the CPU would have to
    // set a flag in a shadow table, which is a bug.
    std::optional<Outcome> access(u64 gva, Access a, u64 rflags, u32 pkru) {
        for (int tries = 0; tries < most_tries; ++tries) {
            const Touched t = touch(gva, a, rflags, pkru);
            if (t.end == End::stuck) {
                return std::nullopt;
            }
            if (t.end != End::again) {
                if (t.end == End::there) {
                    mmu_.end_instruction();
                }
                return t.outcome;
            }
        }
        return std::nullopt;
    }

    // An instruction needs its fetch and its data at the same time. false: it never has both, nor a fault.
    bool instruction(u64 code, u64 data, Access a, u64 rflags, u32 pkru) {
        for (int tries = 0; tries < most_tries; ++tries) {
            const End fetch = touch(code, {.write = false, .fetch = true, .user = a.user}, rflags, pkru).end;
            const End load = fetch == End::there ? touch(data, a, rflags, pkru).end : fetch;
            if (load != End::again) {
                mmu_.end_instruction();
                return load != End::stuck;
            }
        }
        return false;
    }

    u64 walks = 0, faults = 0;

  private:
    static constexpr int most_tries = 64;

    enum class End : u8 {
        there, // translated
        over,  // the guest's own #PF, or no memory
        again, // after a fault that the MMU has answered
        stuck, // a bug
    };
    struct Touched {
        End end;
        Outcome outcome;
    };

    Touched touch(u64 gva, Access a, u64 rflags, u32 pkru) {
        const PagingState s = enter(rflags, pkru);
        if (!pdptes_good_) {
            return {End::stuck, {}};
        }
        auto hit = tlb_.find(gva / page_size);
        if (hit == tlb_.end()) {
            const reference::Result r = reference::walk_tables(s, gva, tables_);
            if (r.present && !reference::violation(s, r.page, a)) {
                ++walks;
                for (const reference::Entry& e : r.entries) {
                    if ((e.value & pte::a) == 0 || (e.maps_page && (e.value & pte::d) == 0)) {
                        return {End::stuck, {}};
                    }
                }
                hit = tlb_.emplace(gva / page_size, r.page).first;
            }
        } else if (reference::violation(s, hit->second, a)) {
            tlb_.erase(hit); // a fault forgets it
            return {End::again, {}};
        }
        if (hit != tlb_.end()) {
            const u64 pa = hit->second.base + gva % hit->second.size;
            return {End::there, {true, 0, ram_.to_guest(pa)}};
        }
        ++faults;
        mmu_.set_rights(rflags, pkru);
        Walk guest{};
        switch (mmu_.page_fault(gva, a, guest)) {
        case Answer::fault:
            return {End::over, {false, guest.error, 0}};
        case Answer::outside:
            return {End::over, {true, 0, guest.gpa}};
        case Answer::retry:
            break;
        }
        return {End::again, {}};
    }

    // What a VM entry does: the flush that was asked for, PDPTEs from CR3.
    PagingState enter(u64 rflags, u32 pkru) {
        if (mmu_.take_flush()) {
            tlb_.clear();
        }
        PagingState s = mmu_.cpu_state();
        s.physical_bits = 52;
        s.rflags = rflags;
        s.pkru = pkru;
        pdptes_good_ = true;
        for (u64 i = 0; !s.long_mode() && i < 4; ++i) {
            s.pdpte[i] = tables_.load(s.cr3 + 8 * i);
            pdptes_good_ = pdptes_good_ && s.cr3 >> 32 == 0 && reference::pdpte_is_good(s, s.pdpte[i]);
        }
        return s;
    }

    HostTables tables_;
    std::vector<Page> pages_;
    std::vector<Link> links_;
    std::vector<Counted> frames_, regions_;
    Pool pool_;
    GuestRam& ram_;
    Mmu<GuestRam, HostTables> mmu_;
    std::map<u64, reference::Translation> tlb_; // by 4-KByte page
    bool tracked_;
    bool pdptes_good_ = true;
};

} // namespace refhv::shadow::testing
