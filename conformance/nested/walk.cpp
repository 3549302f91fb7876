// SPDX-License-Identifier: MIT
#include "conformance/nested/walk.hpp"

namespace refhv::front {

namespace {

constexpr u64 accessed = 1u << 5, dirty = 1u << 6;
constexpr u64 table_entry = 0x27, page_entry = 0x67; // P, W, U, A, D
// Slots of the guest's PML4: 1 is AccessList's.
constexpr u64 slot_of_tables = 2, slot_of_directories = 3, first_pdpt_slot = 8, last_slot = 255;

} // namespace

WalkList::WalkList(client::Guest& guest, u64 regions)
    : guest_(guest), list_(guest), support_(AccessList::subject + regions * 512 * page_size) {
    // support_: a page of data, a table, a directory, and the directory and the PDPTs that lead to the cases.
    const u64 data = support_, table = support_ + page_size, directory = table + page_size;
    const u64 cases_directory = directory + page_size, cases_pdpt = cases_directory + page_size,
              directories_pdpt = cases_pdpt + page_size;
    put(table, data | page_entry);
    put(directory, table | table_entry);
    put(client::layout::pml4 + 8 * slot_of_tables, cases_pdpt | table_entry);
    put(cases_pdpt, cases_directory | table_entry);
    put(client::layout::pml4 + 8 * slot_of_directories, directories_pdpt | table_entry);
}

void WalkList::put(u64 gpa, u64 value) {
    guest_.write(gpa, {reinterpret_cast<const u8*>(&value), sizeof value});
}

void WalkList::add(unsigned level, u64 table, Flags flags) {
    const u64 data = support_, good_table = data + page_size, good_directory = good_table + page_size;
    const u64 cases_directory = good_directory + page_size,
              directories_pdpt = cases_directory + 2 * page_size;
    const u64 n = used_[level]++;
    u64 value = (level == 1   ? data | page_entry
                 : level == 2 ? good_table | table_entry
                              : good_directory | table_entry);
    value &= flags == Flags::accessed_clear ? ~accessed : flags == Flags::dirty_clear ? ~dirty : ~u64{0};
    put(entry(table), value);
    const u64 slot = level == 1 ? slot_of_tables : level == 2 ? slot_of_directories : first_pdpt_slot + n;
    if (n >= 512 || slot > last_slot) {
        throw std::length_error("more guest tables than there are slots for them");
    }
    put(level == 1   ? cases_directory + 8 * n
        : level == 2 ? directories_pdpt + 8 * n
                     : client::layout::pml4 + 8 * slot,
        table | table_entry);
    const u64 linear = slot << 39 | (level == 1   ? n << 21 | index << 12
                                     : level == 2 ? n << 30 | index << 21
                                                  : index << 30);
    list_.add(flags == Flags::dirty_clear ? Access::write : Access::read, linear, table);
}

} // namespace refhv::front
