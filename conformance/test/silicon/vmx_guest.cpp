// SPDX-License-Identifier: MIT
// What instructions and events do in VMX non-root operation (SDM 3C chapter 26).
#include "conformance/test/silicon/vmx_machine.hpp"

#include "refhv/core/platform.hpp"

namespace refhv::silicon {

using vmx::Field;

namespace {

constexpr u32 valid = 1u << 31, error_valid = 1u << 11, type_hardware = 3u << 8, type_nmi = 2u << 8;

bool has_error(u8 vector) {
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

} // namespace

void VmxGuest::exit(vmx::BasicExit reason, u64 qualification, u64 length) {
    exited_ = true;
    set(Field::exit_reason, static_cast<u64>(reason));
    set(Field::exit_qualification, qualification);
    set(Field::exit_instruction_length, length);
    if (reason != vmx::BasicExit::exception_or_nmi) {
        set(Field::exit_interruption_info, 0);
    }
}

// MOV from RAX.
void VmxGuest::cr_exit(unsigned number, u64 value) {
    gpr[0] = value;
    exit(vmx::BasicExit::cr_access, number, 3);
}

void VmxGuest::mov_to_cr0(u64 value) {
    const u64 mask = get(Field::cr0_mask);
    if (((value ^ get(Field::cr0_shadow)) & mask) != 0) {
        cr_exit(0, value);
        return;
    }
    machine().cr0 = (machine().cr0 & mask) | (value & ~mask);
}

void VmxGuest::mov_to_cr4(u64 value) {
    const u64 mask = get(Field::cr4_mask);
    if (((value ^ get(Field::cr4_shadow)) & mask) != 0) {
        cr_exit(4, value);
        return;
    }
    machine().cr4 = (machine().cr4 & mask) | (value & ~mask);
}

namespace {
constexpr u64 tpr_shadow = 1u << 21;
u8& virtual_tpr(VmxGuest& guest) {
    constexpr u64 vtpr = 0x80;
    return static_cast<u8*>(platform::to_virtual(guest.get(Field::virtual_apic_address)))[vtpr];
}
} // namespace

// SDM 3C 26.3, 30.1.2, 30.3
void VmxGuest::mov_to_cr8(u64 value) {
    const u64 controls = get(Field::proc_based_controls);
    if ((controls & vmx::proc::cr8_load) != 0) {
        cr_exit(8, value);
    } else if ((controls & tpr_shadow) != 0) {
        virtual_tpr(*this) = static_cast<u8>(value << 4);
        if (value < get(Field::tpr_threshold)) {
            exit(vmx::BasicExit::tpr_below_threshold);
        }
    } else {
        machine().cr8 = value;
    }
}

u64 VmxGuest::read_cr8() {
    return (get(Field::proc_based_controls) & tpr_shadow) != 0 ? virtual_tpr(*this) >> 4 : machine().cr8;
}

void VmxGuest::xsetbv(u64 value) {
    gpr[0] = static_cast<u32>(value);
    gpr[1] = 0;
    gpr[2] = value >> 32;
    exit(vmx::BasicExit::xsetbv, 0, 3);
}

// SDM 3C 25.6.9
void VmxGuest::wrmsr(u32 index, u64 value) {
    gpr[0] = static_cast<u32>(value);
    gpr[1] = index;
    gpr[2] = value >> 32;
    const bool high = index >= 0xc000'0000 && index <= 0xc000'1fff;
    bool exits = !high && index > 0x1fff;
    if (!exits && (get(Field::proc_based_controls) & vmx::proc::msr_bitmaps) != 0) {
        const auto* const map = static_cast<const u8*>(platform::to_virtual(get(Field::msr_bitmap)));
        const u32 bit = index & 0x1fff;
        exits = (map[(high ? 3072 : 2048) + bit / 8] >> bit % 8 & 1) != 0;
    }
    if (exits) {
        exit(vmx::BasicExit::wrmsr, 0, 2);
    } else {
        machine().wrmsr(index, value);
    }
}

void VmxGuest::raise(u8 vector, u32 error, u64 qualification) {
    if ((get(Field::exception_bitmap) >> vector & 1) == 0) {
        vmx_.delivered.push_back(vector);
        return;
    }
    exit(vmx::BasicExit::exception_or_nmi, qualification);
    set(Field::exit_interruption_info,
        valid | type_hardware | vector | (has_error(vector) ? error_valid : 0));
    set(Field::exit_interruption_error, error);
}

void VmxGuest::interrupt(u8 vector) {
    if (vector >> 4 <= machine().cr8) {
        vmx_.held.push_back(vector);
    } else if ((get(Field::pin_based_controls) & vmx::pin::external_interrupt) != 0) {
        exit(vmx::BasicExit::external_interrupt);
    } else {
        vmx_.delivered.push_back(vector);
    }
}

void VmxGuest::nmi() {
    if ((get(Field::pin_based_controls) & vmx::pin::nmi) == 0) {
        vmx_.delivered.push_back(2);
        return;
    }
    vmx_.nmis_blocked = true;
    exit(vmx::BasicExit::exception_or_nmi);
    set(Field::exit_interruption_info, valid | type_nmi | 2);
}

} // namespace refhv::silicon
