// SPDX-License-Identifier: MIT
#include "refhv/front/guests/avic.hpp"

#include "refhv/front/session.hpp"

namespace refhv::front::avic {

using client::Guest;

namespace {

constexpr u32 apic_bar = 0x98, backing_page = 0xe0, logical_table = 0xf0, physical_table = 0xf8;
// Entry of the table of physical APIC IDs: the host's physical APIC ID in the low bits (figure 15-17).
constexpr u64 valid = u64{1} << 63, is_running = u64{1} << 62;

} // namespace

std::string missing(const client::HelloInfo& hello, bool x2) {
    const auto feature = [&](unsigned bit) { return (cpuid(hello, 0x8000'000a, 0, 3) >> bit & 1) != 0; };
    return !feature(13)         ? "no AVIC: CPUID.8000000AH:EDX[13] is 0"
           : x2 && !feature(18) ? "no x2AVIC: CPUID.8000000AH:EDX[18] is 0"
                                : "";
}

void virtualize(Guest& guest, u64 mode) {
    apic::clear_page(guest);
    guest.fill(ids, 0, 0, page_size / 8, false);
    guest.fill(logical_ids, 0, 0, page_size / 8, false);
    guest.fill(ids, guest.host_physical(apic::page) | valid, 0, 1, false);
    guest.field(apic_bar, 8, apic::access_page);
    guest.field(backing_page, 8, guest.host_physical(apic::page));
    guest.field(logical_table, 8, guest.host_physical(logical_ids));
    guest.field(physical_table, 8, guest.host_physical(ids) | last_id);
    guest.field(vmcb::interrupt_control, 8, vmcb::v_intr_masking | mode);
}

void add_target(Guest& guest, u64 backing_page, std::optional<u32> runs_at) {
    guest.fill(ids + 8, backing_page | valid | (runs_at ? is_running | *runs_at : 0), 0, 1, false);
}

} // namespace refhv::front::avic
