// SPDX-License-Identifier: MIT
#include "refhv/monitor/msr.hpp"

#include "refhv/x86/address.hpp"
#include "refhv/x86/registers.hpp"

namespace refhv::monitor {

namespace {

namespace msr = x86::msr;

// Where the value of an MSR that is state of the guest stands.
u64* place_of(u32 index, abi::GuestState& s) {
    switch (index) {
    case msr::efer:
        return &s.efer;
    case msr::star:
        return &s.star;
    case msr::lstar:
        return &s.lstar;
    case msr::cstar:
        return &s.cstar;
    case msr::sfmask:
        return &s.sfmask;
    case msr::fs_base:
        return &s.segment[abi::fs].base;
    case msr::gs_base:
        return &s.segment[abi::gs].base;
    case msr::kernel_gs_base:
        return &s.kernel_gs_base;
    case msr::tsc_aux:
        return &s.tsc_aux;
    case msr::sysenter_cs:
        return &s.sysenter_cs;
    case msr::sysenter_esp:
        return &s.sysenter_esp;
    case msr::sysenter_eip:
        return &s.sysenter_eip;
    case msr::pat:
        return &s.pat;
    default:
        return nullptr;
    }
}

bool is_address(u32 index) {
    switch (index) {
    case msr::lstar:
    case msr::cstar:
    case msr::fs_base:
    case msr::gs_base:
    case msr::kernel_gs_base:
    case msr::sysenter_esp:
    case msr::sysenter_eip:
        return true;
    default:
        return false;
    }
}

bool is_pat(u64 value) { // each byte a memory type: 0, 1, 4 to 7 (SDM 3A 12.12.2)
    for (unsigned i = 0; i < 8; ++i) {
        const u64 type = value >> (8 * i) & 0xff;
        if (type > 7 || type == 2 || type == 3) {
            return false;
        }
    }
    return true;
}

// LMA is the CPU's; LME does not change under paging (SDM 3A 2.2.1, 10.8.5).
bool write_efer(u64 value, abi::GuestState& s, u64 offered) {
    using namespace x86::efer;
    const bool paging = (s.cr0 & x86::cr0::pg) != 0;
    if ((value & ~(offered | lma)) != 0 || (paging && ((value ^ s.efer) & lme) != 0)) {
        return false;
    }
    s.efer = (value & ~lma) | (s.efer & lma);
    return true;
}

// What firmware has left, and no guest changes.
constexpr struct {
    u32 index;
    u64 value;
} constants[] = {
    {msr::platform_id, 0},
    {msr::bios_sign, 0},
    {msr::apic_base, 0xfee0'0100}, // where the board has none: not enabled
    {0x0fe, 0},                    // IA32_MTRRCAP
    {0x179, 0},                    // IA32_MCG_CAP: no banks
    {0x17a, 0},                    // IA32_MCG_STATUS
    {0x1a0, 1},                    // IA32_MISC_ENABLE: fast strings
    {0x2ff, 0},                    // IA32_MTRR_DEF_TYPE
    {0xc001'0010, 0},              // SYSCFG
    {0xc001'0015, 1u << 24},       // HWCR: the TSC runs at P0's frequency
    {0xc001'0055, 0},              // interrupt pending
    {0xc001'001f, 0},              // NB_CFG1
    {0xc001'1022, 0},              // DC_CFG
    {0xc001'1023, 0},              // BU_CFG
    {msr::de_cfg, 2},              // LFENCE orders
    {0xc001'102a, 0},              // BU_CFG2
};

} // namespace

std::optional<u64> read_msr(u32 index, const abi::GuestState& state, u64 tsc) {
    abi::GuestState copy = state;
    if (const u64* const place = place_of(index, copy); place != nullptr) {
        return *place;
    }
    if (index == msr::tsc) {
        return tsc;
    }
    for (const auto& c : constants) {
        if (c.index == index) {
            return c.value;
        }
    }
    return {};
}

bool write_msr(u32 index, u64 value, abi::GuestState& state, const CpuModel& cpu) {
    if (index == msr::efer) {
        return write_efer(value, state, cpu.efer());
    }
    if (is_address(index) && !x86::is_canonical(value, x86::linear_bits_level4)) {
        return false;
    }
    if ((index == msr::sfmask || index == msr::tsc_aux) && value >> 32 != 0) {
        return false;
    }
    if (index == msr::pat && !is_pat(value)) {
        return false;
    }
    if (u64* const place = place_of(index, state); place != nullptr) {
        *place = value;
        return true;
    }
    for (const auto& c : constants) {
        if (c.index == index) {
            return true; // and stays as it is
        }
    }
    return index == msr::bios_sign || index == 0x79; // the microcode's version is asked for by a write of 0
}

} // namespace refhv::monitor
