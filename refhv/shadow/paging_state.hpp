// SPDX-License-Identifier: MIT
// What decides about a guest's access besides its tables (SDM 3A 4.1; APM 2 5.1).
#pragma once

#include "refhv/x86/registers.hpp"

namespace refhv::shadow {

enum class Paging : u8 {
    none,   // CR0.PG = 0
    bits32, // two levels, 32-bit entries
    pae,    // two levels below four PDPTE registers
    level4,
    level5,
};

struct PagingState {
    u64 cr0, cr3, cr4, efer;
    u64 rflags;   // AC
    u64 pdpte[4]; // PAE paging: as the last load of CR3 found them
    u32 pkru;
    u8 physical_bits; // MAXPHYADDR
    bool has_1g_pages;
    bool has_pse36; // 4-MByte pages above 4 GByte
    bool amd =
        false; // bit 8 of entries above the page directory that point to a table is reserved (APM 2 5.3.3)

    [[nodiscard]] Paging paging() const {
        if ((cr0 & x86::cr0::pg) == 0) {
            return Paging::none;
        }
        if ((cr4 & x86::cr4::pae) == 0) {
            return Paging::bits32;
        }
        if ((efer & x86::efer::lma) == 0) {
            return Paging::pae;
        }
        return (cr4 & x86::cr4::la57) != 0 ? Paging::level5 : Paging::level4;
    }
    [[nodiscard]] bool long_mode() const { return (efer & x86::efer::lma) != 0; }
    // Depth of the shadow tables: what is not long mode runs on PAE tables.
    [[nodiscard]] unsigned shadow_levels() const {
        return !long_mode() ? 3 : (cr4 & x86::cr4::la57) != 0 ? 5 : 4;
    }
    [[nodiscard]] bool nxe() const { return (efer & x86::efer::nxe) != 0 && (cr4 & x86::cr4::pae) != 0; }
    [[nodiscard]] bool pse() const { return (cr4 & x86::cr4::pse) != 0; }
    [[nodiscard]] bool wp() const { return (cr0 & x86::cr0::wp) != 0; }
    [[nodiscard]] bool smep() const { return (cr4 & x86::cr4::smep) != 0; }
    [[nodiscard]] bool smap() const { return (cr4 & x86::cr4::smap) != 0; }
    [[nodiscard]] bool pke() const { return (cr4 & x86::cr4::pke) != 0 && long_mode(); }
    [[nodiscard]] bool access_disabled(unsigned key) const { return (pkru >> (2 * key) & 1) != 0; }
    [[nodiscard]] bool write_disabled(unsigned key) const { return (pkru >> (2 * key + 1) & 1) != 0; }
    // Bits that no physical address has.
    [[nodiscard]] u64 beyond_physical() const { return ~((u64{1} << physical_bits) - 1); }
};

struct Access {
    bool write = false;
    bool fetch = false;
    bool user = false;
};

} // namespace refhv::shadow
