// SPDX-License-Identifier: MIT
// What a CPU offers of guests with encrypted memory: SEV by CPUID leaf 8000_001FH (APM 3 E.4.17, APM 2 15.34
// to 15.36), TDX by the leaf and the MSRs that say so. Pure: from values to what they mean.
#pragma once

#include "refhv/contract/abi.hpp"

namespace refhv::x86 {

struct EncryptedMemory {
    static constexpr u32 leaf = 0x8000'001f;

    bool sme, sev, sev_es, sev_snp, vmpl;
    u32 c_bit;            // of page-table entries
    u32 reduction;        // of the physical address, in bits
    u32 vmpls;            // privilege levels of a guest
    u32 guests;           // with encrypted memory at once; their ASIDs are 1 to this
    u32 first_without_es; // the least ASID of a SEV guest that is not SEV-ES

    [[nodiscard]] static constexpr EncryptedMemory of(const abi::CpuidLeaf& l) {
        const auto bit = [&](unsigned n) { return (l.eax >> n & 1) != 0; };
        return {.sme = bit(0),
                .sev = bit(1),
                .sev_es = bit(3),
                .sev_snp = bit(4),
                .vmpl = bit(5),
                .c_bit = l.ebx & 0x3f,
                .reduction = l.ebx >> 6 & 0x3f,
                .vmpls = l.ebx >> 12 & 0xf,
                .guests = l.ecx,
                .first_without_es = l.edx};
    }

    [[nodiscard]] constexpr bool any() const { return sme || sev || sev_es || sev_snp || vmpl; }

    // The first statement that these values break; null: none. `asids`: CPUID leaf 8000_000AH EBX, 0 without
    // SVM.
    [[nodiscard]] constexpr const char* contradiction(u32 asids) const {
        constexpr u32 least_address_bit = 32, last_address_bit = 51;
        if (sev_es && !sev) {
            return "SEV-ES without SEV";
        }
        if (sev_snp && !sev_es) {
            return "SEV-SNP without SEV-ES";
        }
        if (vmpl && !sev_snp) {
            return "VM permission levels without SEV-SNP";
        }
        if (vmpl != (vmpls != 0)) {
            return "VM permission levels, and their number, do not go together";
        }
        if ((sme || sev) && (c_bit < least_address_bit || c_bit > last_address_bit)) {
            return "the C-bit is no bit of a page's address above 4 GBytes";
        }
        if (sev && asids == 0) {
            return "SEV without SVM";
        }
        if (sev && (guests == 0 || guests >= asids)) {
            return "guests with encrypted memory are none, or more than there are ASIDs for guests";
        }
        if (sev_es && first_without_es > guests + 1) {
            return "the first ASID of a guest without SEV-ES lies beyond those of encrypted guests";
        }
        return nullptr;
    }
};

// TDX. A host has it if its SEAM range is there (IA32_MTRRCAP.SEAMRR[15]) and the firmware has given private
// KeyIDs (IA32_MKTME_KEYID_PARTITIONING[63:32]); a guest is told by CPUID leaf 21H.
inline constexpr u32 msr_mtrrcap = 0xfe, msr_keyid_partitioning = 0x87;

[[nodiscard]] constexpr u32 private_key_ids(u64 mtrrcap, u64 keyid_partitioning) {
    return (mtrrcap >> 15 & 1) != 0 ? static_cast<u32>(keyid_partitioning >> 32) : 0;
}

[[nodiscard]] constexpr bool is_td_guest(const abi::CpuidLeaf& leaf_21h) { // "IntelTDX    "
    return leaf_21h.ebx == 0x65746e49 && leaf_21h.edx == 0x5844546c && leaf_21h.ecx == 0x20202020;
}

} // namespace refhv::x86
