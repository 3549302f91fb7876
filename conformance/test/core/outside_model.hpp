// SPDX-License-Identifier: MIT
// An oracle, written from the manuals and not from the tables of the core: could the CPU, entered with these
// controls and nested tables, touch anything but the VM's memory and what the core made for it, or keep from
// the host what is the host's?
#pragma once

#include "conformance/test/core/fake_hardware.hpp"
#include "refhv/svm/npt.hpp"

namespace refhv::fake {

class OutsideModel {
  public:
    explicit OutsideModel(const Controls& controls) : c_(controls), memory_(controls.memory) {}

    // What it could do; null: nothing.
    [[nodiscard]] const char* fault() const {
        const char* const found = c_.svm ? svm_fault() : vmx_fault();
        return found != nullptr ? found
               : c_.svm         ? table_fault<svm::NptFormat>(c_.root, 4)
                                : table_fault<vmx::EptFormat>(c_.root, 4);
    }

  private:
    [[nodiscard]] bool is_memory(u64 physical, u64 size) const {
        return physical >= memory_.hpa_base && size <= memory_.bytes() &&
               physical - memory_.hpa_base <= memory_.bytes() - size;
    }
    [[nodiscard]] u64 raw(u32 encoding) const {
        const auto found = c_.vmcs.find(encoding);
        return found != c_.vmcs.end() ? found->second : 0;
    }

    // SDM 3C 25.6 to 25.8, 26 and 28.
    [[nodiscard]] const char* vmx_fault() const {
        const u64 pin = raw(0x4000), proc = raw(0x4002), proc2 = raw(0x401e), exit = raw(0x400c),
                  entry = raw(0x4012);
        const auto on = [](u64 controls, unsigned bit) { return (controls >> bit & 1) != 0; };
        if (!on(pin, 0) || !on(pin, 3)) {
            return "external interrupts or NMIs do not exit";
        }
        if (on(pin, 7) && (raw(0x2016) % 64 != 0 || !is_memory(raw(0x2016), 64))) {
            return "interrupts are posted outside";
        }
        if (on(pin, 7) && raw(0x0002) != 0) {
            return "a vector of the host's is taken off it";
        }
        if (!on(proc, 25) && !on(proc, 24)) {
            return "ports do not exit";
        }
        if (raw(0x2000) != physical_base || raw(0x2002) != physical_base || raw(0x2004) != physical_base) {
            return "bitmaps are not the core's";
        }
        if (on(proc, 21) && (raw(0x2012) % page_size != 0 || !is_memory(raw(0x2012), page_size))) {
            return "the virtual-APIC page is outside";
        }
        if (!on(proc, 31) || !on(proc2, 1)) {
            return "no EPT: guest-physical addresses are the host's";
        }
        constexpr u64 walk_of_four = 3u << 3;
        if ((raw(0x201a) & ~u64{0xfff}) != c_.root || (raw(0x201a) & 0x38) != walk_of_four) {
            return "the EPT root or walk is another";
        }
        if (on(proc2, 0) && !is_memory(raw(0x2014), page_size)) {
            return "the APIC-access page is outside";
        }
        if (on(proc2, 17) && !is_memory(raw(0x200e), page_size)) {
            return "the page-modification log is outside";
        }
        if (on(proc2, 18) && !is_memory(raw(0x202a), page_size)) {
            return "#VE information is outside";
        }
        for (const unsigned bit : {13u, 14u, 15u, 20u, 21u, 23u, 24u, 27u, 28u}) {
            if (on(proc2, bit)) {
                return "a secondary control that uses what the core does not have";
            }
        }
        if (on(proc, 17)) {
            return "tertiary controls";
        }
        if (!on(exit, 9) || !on(exit, 19) || !on(exit, 21)) {
            return "the host does not come back with its mode, PAT and EFER";
        }
        for (const unsigned bit : {12u, 23u, 25u, 28u, 29u, 30u, 31u}) {
            if (on(exit, bit)) {
                return "an exit loads or saves what the core did not write";
            }
        }
        for (const unsigned bit : {10u, 11u, 13u, 16u, 18u, 19u, 20u, 21u, 22u}) {
            if (on(entry, bit)) {
                return "an entry loads what no exit puts back";
            }
        }
        if (raw(0x400e) != 0 || raw(0x4010) != 0 || raw(0x4014) != 0) {
            return "lists of MSRs";
        }
        if (raw(0x2800) != ~u64{0}) {
            return "a linked VMCS";
        }
        if (raw(0x4826) > 1 || (raw(0x4824) & ~u64{3}) != 0) {
            return "a state in which interrupts or NMIs stay out";
        }
        if ((raw(0x2802) & ~u64{3}) != 0) {
            return "branch traces into the host's area";
        }
        if (raw(0x0000) != memory_.slot + 1 && on(proc2, 5)) {
            return "another's VPID";
        }
        for (const auto& [encoding, value] : c_.vmcs) {
            if ((encoding >> 10 & 3) == 3 && value != 0) {
                return "host state";
            }
            const bool high_half = (encoding & 1) != 0 && (encoding >> 13 & 3) == 1;
            const bool counts = encoding == 0x2011 || (encoding >= 0x201d && encoding <= 0x2023) ||
                                encoding == 0x202d || encoding == 0x2033; // offsets and bitmaps, no addresses
            if (high_half && (encoding >> 10 & 3) == 0 && !counts) {
                return "the high half of an address";
            }
        }
        return nullptr;
    }

    // APM 2 15.5 to 15.33, appendix B.
    [[nodiscard]] const char* svm_fault() const {
        const svm::Vmcb& v = c_.vmcb;
        constexpr u32 instructions = 0x7d; // VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT: not VMMCALL
        constexpr u32 events = 0xf | 1u << 26 | 3u << 27 | 1u << 31;
        if ((v.intercept_1 & events) != events || (v.intercept_2 & instructions) != instructions) {
            return "an intercept that the host needs";
        }
        if (v.iopm_base != physical_base || v.msrpm_base != physical_base) {
            return "permission maps are not the core's";
        }
        if (v.asid != 1) {
            return "another's ASID";
        }
        if ((v.interrupt_control >> 24 & 1) == 0) {
            return "the guest's IF is the CPU's";
        }
        if ((v.interrupt_control >> 30 & 3) != 0) {
            return "AVIC";
        }
        if ((v.nested_control & 1) == 0 || (v.nested_control & ~u64{9}) != 0) {
            return "no nested paging, or SEV";
        }
        if (v.nested_cr3 != c_.root) {
            return "the nested root is another";
        }
        if (v.ghcb != 0 || v.virtualization_extensions != 0) {
            return "GHCB, virtual VMLOAD, branch records or more";
        }
        const auto* const bytes = reinterpret_cast<const u8*>(&v);
        for (u32 i = 0xe0; i < 0x400; ++i) {
            if (bytes[i] != 0) {
                return "AVIC's pages, the VMSA, or what no manual here knows";
            }
        }
        return nullptr;
    }

    // Every page that the tables lead to.
    template <class Format>
    [[nodiscard]] const char* table_fault(u64 table, unsigned level) const {
        const u64 first = memory_.gpa_base, last = first + memory_.bytes() - 1;
        const u64 pages = 2 + (last >> 30) - (first >> 30) + 1 + (last >> 21) - (first >> 21) + 1;
        if (table < c_.root || table >= c_.root + pages * page_size || table % page_size != 0) {
            return "a nested table that the core did not make";
        }
        const auto* const entries = static_cast<const u64*>(platform::to_virtual(table));
        for (unsigned i = 0; i < 512; ++i) {
            const u64 entry = entries[i];
            if (!Format::may_be_present(entry)) {
                continue;
            }
            const bool reserved = level == 4 && (entry >> 7 & 1) != 0; // the walk ends in a fault
            const u64 size = x86::leaf_size(level);
            if (reserved) {
                continue;
            }
            if (Format::is_leaf(entry, level)) {
                if (!is_memory(Format::address(entry) & ~(size - 1), size)) {
                    return "a nested leaf that maps what is outside";
                }
            } else if (const char* const below = table_fault<Format>(Format::address(entry), level - 1);
                       below != nullptr) {
                return below;
            }
        }
        return nullptr;
    }

    const Controls& c_;
    const GuestMemory& memory_;
};

} // namespace refhv::fake
