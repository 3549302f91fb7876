// SPDX-License-Identifier: MIT
// The states that the tables start from: each enters, executes a NOP, and exits at a HLT or a fault.
#include "conformance/entry/table/vmx_runner.hpp"

namespace refhv::front::vmx_entry {

namespace layout = client::layout;

namespace {

GUEST(guest_nop_hlt, "nop\n hlt")

constexpr u64 pdpt = layout::samples, low_directory = layout::samples + page_size;
constexpr u64 page_a = layout::samples + 2 * page_size, page_b = layout::samples + 3 * page_size,
              msr_page = layout::samples + 4 * page_size;

void set_segments(abi::GuestState& s, u32 code_rights, u32 data_rights, u32 limit, u64 base) {
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs, abi::cs}) {
        s.segment[i].rights = i == abi::cs ? code_rights : data_rights;
        s.segment[i].limit = limit;
        s.segment[i].base = i == abi::cs ? base : 0;
    }
}

// PAE paging by the directory that the long-mode guest has, and of 2 MBytes at linear 0.
void enter_protected_mode(client::Guest& guest) {
    constexpr u32 code_32 = 0xc09b, data_32 = 0xc093;
    guest.state.efer &= ~(efer_lme | efer_lma);
    guest.state.cr3 = pdpt;
    set_segments(guest.state, code_32, data_32, ~0u, 0);
}

void enter_virtual_8086(client::Guest& guest) {
    enter_protected_mode(guest);
    set_segments(guest.state, 0xf3, 0xf3, 0xffff, 0);
    constexpr u64 offset = layout::code - layout::base;
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs, abi::cs}) {
        guest.state.segment[i].selector = i == abi::cs ? offset >> 4 : 0x1000;
        guest.state.segment[i].base = u64{guest.state.segment[i].selector} << 4;
    }
    guest.state.rip = 0;
    guest.state.rflags |= rflags_vm;
}

void enter_real_mode(client::Guest& guest) {
    guest.state.efer &= ~(efer_lme | efer_lma);
    guest.state.cr4 = 0;
    set_segments(guest.state, 0x9b, 0x93, 0xffff, layout::code);
    guest.state.rip = 0;
}

} // namespace

Start::Start(client::GuestHost& host, Base base)
    : guest(host, {.tag_policy = abi::TagPolicy::flushing, .exceptions = ~0u}) {
    switch (base) {
    case Base::long_mode:
        break;
    case Base::protected_pae:
    case Base::unrestricted_pae:
        enter_protected_mode(guest);
        break;
    case Base::virtual_8086:
        enter_virtual_8086(guest);
        break;
    case Base::real_mode:
        enter_real_mode(guest);
        always.push_back({cr0, 0x30}); // of the state the core makes what a restricted guest must have
        break;
    }
    guest.state.cr8 = virtual_task_priority;
    guest.load(guest_nop_hlt);
    guest.fill(pdpt, 0, 0, 4 * page_size / 8, false);
    constexpr u64 present = 1, large_page = 0xe7;
    guest.fill(pdpt, low_directory | present, 0, 1, true);
    guest.fill(pdpt + 8, layout::page_directory | present, 0, 1, true);
    guest.fill(low_directory, layout::base | large_page, 0, 1, true);
    std::array<u64, page_size / 8> msr_entries{};
    for (usize i = 0; i < msr_entries.size(); i += 2) {
        msr_entries[i] = 0xc000'0102; // KERNEL_GS_BASE, 0
    }
    guest.write(msr_page, {reinterpret_cast<const u8*>(msr_entries.data()), sizeof msr_entries});
    const bool unrestricted = base == Base::unrestricted_pae || base == Base::real_mode;
    if (unrestricted) {
        guest.field(secondary_controls, 4, guest.read_field(secondary_controls, 4) | proc2_unrestricted);
    }
    pages = {guest.host_physical(page_a), guest.host_physical(page_b), guest.host_physical(msr_page)};
}

// As the VMCS has it once the base has run: the host's fields are written by a run.
State Start::read() {
    const auto& fields = modelled_fields();
    const auto values = guest.fields_of_state(fields, 8);
    State state;
    for (usize i = 0; i < fields.size(); ++i) {
        state.set(fields[i], values[i]);
    }
    return state.with(always);
}

Machine machine_of(const client::HelloInfo& hello) {
    const bool is_true = (msr(hello, 0x480) >> 55 & 1) != 0;
    const auto allowed = [&](u32 plain, u32 exact) {
        const u64 value = msr(hello, is_true ? exact : plain);
        return Machine::Allowed{static_cast<u32>(value), static_cast<u32>(value >> 32)};
    };
    const u64 proc2 = msr(hello, 0x48b);
    return {.pin = allowed(0x481, 0x48d),
            .proc = allowed(0x482, 0x48e),
            .proc2 = {0, static_cast<u32>(proc2 >> 32)},
            .exit = allowed(0x483, 0x48f),
            .entry = allowed(0x484, 0x490),
            .proc3 = msr(hello, 0x492),
            .cr0_fixed0 = msr(hello, 0x486),
            .cr0_fixed1 = msr(hello, 0x487),
            .cr4_fixed0 = msr(hello, 0x488),
            .cr4_fixed1 = msr(hello, 0x489),
            .misc = msr(hello, 0x485),
            .ept_vpid = msr(hello, 0x48c),
            .functions = msr(hello, 0x491),
            .any_error_code = (msr(hello, 0x480) >> 56 & 1) != 0,
            .physical_bits = cpuid(hello, 0x8000'0008, 0, 0) & 0xff,
            .linear_bits = cpuid(hello, 0x8000'0008, 0, 0) >> 8 & 0xff,
            .execute_disable = (cpuid(hello, 0x8000'0001, 0, 3) >> 20 & 1) != 0,
            .sgx = (cpuid(hello, 7, 0, 1) >> 2 & 1) != 0,
            .rtm = (cpuid(hello, 7, 0, 1) >> 11 & 1) != 0,
            .bus_lock = (cpuid(hello, 7, 0, 2) >> 24 & 1) != 0};
}

} // namespace refhv::front::vmx_entry
