// SPDX-License-Identifier: MIT
// The shadow MMU of one VM: its memory from the arena, and the guest's instructions in its terms.
#pragma once

#include "refhv/core/backend.hpp"
#include "refhv/shadow/control_rules.hpp"
#include "refhv/shadow/mmu.hpp"

namespace refhv::shadow {

// Guest memory as the MMU wants it.
struct CoreMemory {
    GuestMemory range;

    [[nodiscard]] u64 base() const { return range.gpa_base; }
    [[nodiscard]] bool contains(u64 gpa, u64 size) const { return range.contains(gpa, size); }
    [[nodiscard]] u64 load(u64 gpa) const { return __atomic_load_n(at<u64>(gpa), __ATOMIC_RELAXED); }
    [[nodiscard]] u32 load32(u64 gpa) const { return __atomic_load_n(at<u32>(gpa), __ATOMIC_RELAXED); }
    [[nodiscard]] bool exchange(u64 gpa, u64 old, u64 fresh) { return swap(gpa, old, fresh); }
    [[nodiscard]] bool exchange32(u64 gpa, u32 old, u32 fresh) { return swap(gpa, old, fresh); }
    [[nodiscard]] u64 to_physical(u64 gpa) const { return range.to_physical(gpa); }
    [[nodiscard]] u64 to_guest(u64 pa) const { return pa - range.hpa_base + range.gpa_base; }

  private:
    template <class T>
    [[nodiscard]] T* at(u64 gpa) const {
        return reinterpret_cast<T*>(range.at(gpa));
    }
    template <class T>
    [[nodiscard]] bool swap(u64 gpa, T old, T fresh) {
        return __atomic_compare_exchange_n(at<T>(gpa), &old, fresh, false, __ATOMIC_SEQ_CST,
                                           __ATOMIC_SEQ_CST);
    }
};

struct CoreTables {
    [[nodiscard]] u64 load(u64 pa) const { return *static_cast<const u64*>(platform::to_virtual(pa)); }
    void store(u64 pa, u64 entry) { *static_cast<volatile u64*>(platform::to_virtual(pa)) = entry; }
    void zero(u64 table) {
        void* at = platform::to_virtual(table);
        u64 words = page_size / 8;
        asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
    }
};

class GuestMmu {
  public:
    using CoreMmu = Mmu<CoreMemory, CoreTables>;

    // Of a VM in mode shadow or vtlb, with everything that it needs from the arena; null: exhausted.
    [[nodiscard]] static GuestMmu* make(Arena& arena, const GuestMemory& memory);
    // Null is allowed.
    static void destroy(GuestMmu* mmu, Arena& arena);

    // Follows this state from now on. Not ok: it cannot be shadowed, or the CPU would refuse it.
    [[nodiscard]] Status reset(const abi::GuestState& s);

    [[nodiscard]] CoreMmu& mmu() { return mmu_; }
    // Reads as the guest would; set_rights() first. Returns how many bytes there are before the first page
    // that it may not read, about which `walk` has the #PF; outside guest memory there are zeros.
    [[nodiscard]] u64 read(u64 gva, Access access, std::span<u8> bytes, Walk& walk);
    [[nodiscard]] const PagingState& guest() const { return mmu_.state(); }

    // CR3 for the CPU.
    [[nodiscard]] u64 real_cr3() const { return mmu_.real_cr3(); }
    // MOV to CR3.
    [[nodiscard]] Written load_cr3(u64 value);
    // MOV to CR0 or CR4; `code64`: the guest is in 64-bit mode. Outside it the upper half of a value is not
    // the instruction's.
    [[nodiscard]] Written write_control(unsigned number, u64 value, bool code64);
    [[nodiscard]] u64 read_control(unsigned number) const;
    [[nodiscard]] Written write_efer(u64 value);
    // INVPCID of this type and descriptor (SDM 2A). Translations of other PCIDs than the current are never
    // kept.
    [[nodiscard]] Written invalidate_pcid(u64 type, u64 pcid, u64 gva);

    // Of a register that the CPU does not let us intercept: as it is when the guest exits.
    void set_rights(u64 rflags, unsigned cpl, Access access);

  private:
    GuestMmu(const GuestMemory& memory, bool tracked)
        : memory_{memory}, mmu_(memory_, tables_, pool_), tracked_(tracked) {}
    [[nodiscard]] bool take_memory(Arena& arena);
    [[nodiscard]] Written change(const Controls& next);

    CoreMemory memory_;
    CoreTables tables_;
    Pool pool_;
    CoreMmu mmu_;
    Offer offer_{};
    bool tracked_;
    u64 own_page_ = 0, storage_ = 0, storage_pages_ = 0;
};

} // namespace refhv::shadow
