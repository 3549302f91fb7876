// SPDX-License-Identifier: MIT
// The shadow MMU of one VM: its memory from the arena, and the guest's control-register writes in its terms.
#pragma once

#include "refhv/backend.hpp"
#include "refhv/shadow/mmu.hpp"

namespace refhv::shadow {

// Guest memory as the MMU wants it.
struct CoreMemory {
    GuestMemory range;

    [[nodiscard]] u64 base() const { return range.gpa_base; }
    [[nodiscard]] bool contains(u64 gpa, u64 size) const { return range.contains(gpa, size); }
    [[nodiscard]] u64 load(u64 gpa) const { return __atomic_load_n(word(gpa), __ATOMIC_RELAXED); }
    [[nodiscard]] bool exchange(u64 gpa, u64 old, u64 fresh) {
        return __atomic_compare_exchange_n(word(gpa), &old, fresh, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    [[nodiscard]] u64 to_physical(u64 gpa) const { return range.to_physical(gpa); }
    [[nodiscard]] u64 to_guest(u64 pa) const { return pa - range.hpa_base + range.gpa_base; }

  private:
    [[nodiscard]] u64* word(u64 gpa) const { return reinterpret_cast<u64*>(range.at(gpa)); }
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

    explicit GuestMmu(const GuestMemory& memory, bool tracked)
        : memory_{memory}, mmu_(memory_, tables_, pool_), tracked_(tracked) {}

    // Tables, descriptors and lists, in proportion to the guest's memory.
    [[nodiscard]] bool create(Arena& arena);
    void destroy(Arena& arena);

    // Can this state be shadowed? Else `needs` says what is missing.
    [[nodiscard]] static bool can_run(const abi::GuestState& s) {
        return (s.cr0 & x86::cr0::pg) != 0 && (s.efer & x86::efer::lma) != 0 &&
               (s.cr4 & (x86::cr4::la57 | x86::cr4::pke)) == 0;
    }
    static constexpr const char* needs =
        "shadow paging takes guests in long mode with 4 levels and no protection keys";

    void reset(const abi::GuestState& s);
    [[nodiscard]] CoreMmu& mmu() { return mmu_; }
    [[nodiscard]] u8 byte_at(u64 gpa) const { return *memory_.range.at(gpa); }
    [[nodiscard]] const PagingState& guest() const { return mmu_.state(); }

    // What the CPU's registers must hold while the guest believes in its own.
    [[nodiscard]] u64 real_cr0() const { return mmu_.cpu_state().cr0; }
    [[nodiscard]] u64 real_cr3() const { return mmu_.cpu_state().cr3; }
    [[nodiscard]] u64 real_cr4() const { return mmu_.cpu_state().cr4 & ~x86::cr4::pcide; }
    [[nodiscard]] u64 real_efer() const { return mmu_.cpu_state().efer; }

    // MOV to CR0, CR3 or CR4 of a value that the CPU would accept; false: it would be #GP, nothing changed.
    [[nodiscard]] bool write_control(unsigned number, u64 value);
    [[nodiscard]] u64 read_control(unsigned number) const;

  private:
    CoreMemory memory_;
    CoreTables tables_;
    Pool pool_;
    CoreMmu mmu_;
    bool tracked_;
    u64 storage_ = 0, storage_pages_ = 0;
};

} // namespace refhv::shadow
