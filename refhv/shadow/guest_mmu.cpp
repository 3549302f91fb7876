// SPDX-License-Identifier: MIT
#include "refhv/shadow/guest_mmu.hpp"

#include "refhv/x86/address.hpp"
#include "refhv/x86/cpuid.hpp"
#include "refhv/x86/pkru.hpp"

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

// Bits of CR0, CR4 and EFER on which translation depends (SDM 3A 4.1.3), and those whose change loads the
// PDPTEs (4.4.1).
constexpr u64 cr0_bits = x86::cr0::pg | x86::cr0::wp | x86::cr0::pe | x86::cr0::cd | x86::cr0::nw;
constexpr u64 cr4_bits = x86::cr4::pse | x86::cr4::pae | x86::cr4::pge | x86::cr4::la57 | x86::cr4::pcide |
                         x86::cr4::smep | x86::cr4::smap | x86::cr4::pke;
constexpr u64 efer_bits = x86::efer::lma | x86::efer::nxe;

constexpr u64 four_gbytes = u64{1} << 32;

// Bits of CR4 and EFER that a guest may set here, by CPUID (SDM 3A 2.5; APM 2 3.1.3, 3.1.7). VMX and SMX are
// not offered.
Offer offered_by_cpu() {
    using namespace x86;
    struct Bit {
        u64 cr4;
        u32 abi::CpuidLeaf::*reg;
        u32 leaf;
        unsigned bit;
    };
    using Leaf = abi::CpuidLeaf;
    constexpr u64 vme = 1u << 0, pvi = 1u << 1, osxmmexcpt = 1u << 10;
    constexpr Bit bits[] = {
        {vme | pvi, &Leaf::edx, 1, 1},   {cr4::tsd, &Leaf::edx, 1, 4},      {cr4::de, &Leaf::edx, 1, 2},
        {cr4::pse, &Leaf::edx, 1, 3},    {cr4::pae, &Leaf::edx, 1, 6},      {cr4::mce, &Leaf::edx, 1, 7},
        {cr4::pge, &Leaf::edx, 1, 13},   {cr4::osfxsr, &Leaf::edx, 1, 24},  {osxmmexcpt, &Leaf::edx, 1, 25},
        {cr4::pcide, &Leaf::ecx, 1, 17}, {cr4::osxsave, &Leaf::ecx, 1, 26}, {cr4::fsgsbase, &Leaf::ebx, 7, 0},
        {cr4::smep, &Leaf::ebx, 7, 7},   {cr4::smap, &Leaf::ebx, 7, 20},    {cr4::umip, &Leaf::ecx, 7, 2},
        {cr4::pke, &Leaf::ecx, 7, 3},    {cr4::la57, &Leaf::ecx, 7, 16}};
    const u32 highest = cpuid(0).eax;
    const Leaf leaf_1 = cpuid(1), leaf_7 = highest >= 7 ? cpuid(7) : Leaf{};
    Offer offer{cr4::pce, efer::sce};
    for (const Bit& b : bits) {
        offer.cr4 |= ((b.leaf == 1 ? leaf_1 : leaf_7).*b.reg >> b.bit & 1) != 0 ? b.cr4 : 0;
    }
    const bool extended = cpuid(0x8000'0000).eax >= 0x8000'0001;
    const u32 features = extended ? cpuid(0x8000'0001).edx : 0;
    offer.efer |= ((features >> 20 & 1) != 0 ? efer::nxe : 0) | ((features >> 29 & 1) != 0 ? efer::lme : 0);
    return offer;
}

// "AuthenticAMD", and Hygon's CPUs, which are of the same make.
bool is_amd() {
    constexpr u32 authentic = 0x6874'7541, hygon = 0x6f67'7948; // EBX
    const u32 name = x86::cpuid(0).ebx;
    return name == authentic || name == hygon;
}

} // namespace

GuestMmu* GuestMmu::make(Arena& arena, const GuestMemory& memory) {
    static_assert(sizeof(GuestMmu) <= page_size);
    const u64 page = arena.allocate();
    if (page == 0) {
        return nullptr;
    }
    auto* mmu = new (platform::to_virtual(page)) GuestMmu(memory, memory.mode == abi::Mode::shadow);
    mmu->own_page_ = page;
    mmu->offer_ = offered_by_cpu();
    if (!mmu->take_memory(arena)) {
        arena.release(page);
        return nullptr;
    }
    return mmu;
}

void GuestMmu::destroy(GuestMmu* mmu, Arena& arena) {
    if (mmu != nullptr) {
        arena.release(mmu->storage_, mmu->storage_pages_);
        arena.release(mmu->own_page_);
    }
}

// Tables, descriptors and lists, in proportion to the guest's memory.
bool GuestMmu::take_memory(Arena& arena) {
    const u64 guest_pages = memory_.range.pages;
    const u64 tables = guest_pages / 4 < 64 ? 64 : guest_pages / 4 > 2048 ? 2048 : guest_pages / 4;
    const u64 entries = tables * 512;
    const u64 regions = 2 * (guest_pages / 512 + 2);
    storage_pages_ = tables + in_pages(tables * sizeof(Page)) + in_pages(entries * sizeof(Link)) +
                     in_pages(guest_pages * sizeof(Counted)) + in_pages(regions * sizeof(Counted));
    storage_ = arena.allocate(storage_pages_);
    if (storage_ == 0) {
        return false;
    }
    u8* at = static_cast<u8*>(platform::to_virtual(storage_ + tables * page_size));
    const auto pages = take<Page>(at, tables);
    const auto links = take<Link>(at, entries);
    const auto frames = take<Counted>(at, guest_pages);
    pool_.init(storage_, pages, links, frames, take<Counted>(at, regions));
    return true;
}

Status GuestMmu::reset(const abi::GuestState& s) {
    const bool extended = x86::cpuid(0x8000'0000).eax >= 0x8000'0008;
    const u32 bits = extended ? x86::cpuid(0x8000'0008).eax & 0xff : 36;
    const PagingState state{.cr0 = s.cr0,
                            .cr3 = s.cr3,
                            .cr4 = s.cr4,
                            .efer = s.efer,
                            .rflags = s.rflags,
                            .pdpte = {},
                            .pkru = 0,
                            .physical_bits = static_cast<u8>(bits),
                            .has_1g_pages = (x86::cpuid(0x8000'0001).edx >> 26 & 1) != 0,
                            .has_pse36 = (x86::cpuid(1).edx >> 17 & 1) != 0,
                            .amd = is_amd()};
    if (!is_consistent(state, offer_)) {
        return refuse(abi::Outcome::unsupported,
                      "shadow paging takes guests with CR0.PE = 1 whose CR0, CR3, CR4 "
                      "and EFER go together and ask for nothing that the CPU lacks");
    }
    if (!state.long_mode() && storage_ >= four_gbytes) {
        return refuse(
            abi::Outcome::unsupported,
            "a guest outside long mode needs a shadow PDPT below 4 GBytes, and the arena lies above");
    }
    return mmu_.reset(state, tracked_) ? Status{}
                                       : refuse(abi::Outcome::unsupported,
                                                "a present PDPTE has reserved bits set: CR3 cannot hold it");
}

u64 GuestMmu::read(u64 gva, Access access, std::span<u8> bytes, Walk& walk) {
    u64 done = 0;
    while (done < bytes.size()) {
        const Answer answer = mmu_.translate(gva + done, access, walk);
        if (answer == Answer::fault) {
            break;
        }
        const u64 in_page = page_size - walk.gpa % page_size, left = bytes.size() - done;
        const u64 now = in_page < left ? in_page : left;
        if (answer == Answer::outside) {
            __builtin_memset(&bytes[done], 0, now);
        } else {
            __builtin_memcpy(&bytes[done], memory_.range.at(walk.gpa), now);
        }
        done += now;
    }
    return done;
}

Written GuestMmu::change(const Controls& next) {
    const PagingState& s = mmu_.state();
    const bool long_mode = (next.efer & x86::efer::lma) != 0;
    if (!long_mode && storage_ >= four_gbytes) {
        return Written::not_ours;
    }
    const bool matters = ((next.cr0 ^ s.cr0) & cr0_bits) != 0 || ((next.cr4 ^ s.cr4) & cr4_bits) != 0 ||
                         ((next.efer ^ s.efer) & efer_bits) != 0;
    if (!matters) {
        mmu_.set_other_bits(next.cr0, next.cr4, next.efer);
        return Written::done;
    }
    return mmu_.set_controls(next.cr0, next.cr4, next.efer) ? Written::done : Written::fault;
}

Written GuestMmu::load_cr3(u64 value) {
    const PagingState& s = mmu_.state();
    u64 cr3 = 0;
    const Written w = after_cr3(s, s.long_mode() ? value : static_cast<u32>(value), cr3);
    return w != Written::done ? w : mmu_.load_cr3(cr3) ? Written::done : Written::fault;
}

Written GuestMmu::write_control(unsigned number, u64 value, bool code64) {
    const PagingState& s = mmu_.state();
    value = code64 ? value : static_cast<u32>(value);
    Controls next{};
    const Written w = number == 0 ? after_cr0(s, value, code64, next) : after_cr4(s, value, offer_, next);
    return w != Written::done ? w : change(next);
}

u64 GuestMmu::read_control(unsigned number) const {
    const PagingState& s = mmu_.state();
    return number == 0 ? s.cr0 : number == 3 ? s.cr3 : s.cr4;
}

Written GuestMmu::write_efer(u64 value) {
    Controls next{};
    const Written w = after_efer(mmu_.state(), value, offer_, next);
    return w != Written::done ? w : change(next);
}

Written GuestMmu::invalidate_pcid(u64 type, u64 pcid, u64 gva) {
    const PagingState& s = mmu_.state();
    const bool tagged = (s.cr4 & x86::cr4::pcide) != 0;
    const unsigned width = s.paging() == Paging::level5 ? x86::linear_bits_level5 : x86::linear_bits_level4;
    if (type > 3 || (type <= 1 && (pcid >> 12 != 0 || (!tagged && pcid != 0))) ||
        (type == 0 && !x86::is_canonical(gva, width))) {
        return Written::fault;
    }
    if (type == 0) {
        mmu_.invalidate(gva); // another PCID's entries went when CR3 was loaded
    } else {
        mmu_.drop_all();
    }
    return Written::done;
}

void GuestMmu::set_rights(u64 rflags, unsigned cpl, Access access) {
    // What the supervisor does at CPL 3 is implicit: AC does not help it (SDM 3A 4.6.1).
    const bool implicit = cpl == 3 && !access.user;
    mmu_.set_rights(implicit ? rflags & ~x86::rflags_bits::ac : rflags,
                    mmu_.state().pke() ? x86::read_pkru() : 0);
}

} // namespace refhv::shadow
