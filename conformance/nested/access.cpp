// SPDX-License-Identifier: MIT
#include "conformance/nested/access.hpp"

#include <map>

namespace refhv::front {

namespace {

using client::layout::arena;

// Operation k at layout::code + 16 * (k + 1); the instruction that touches memory is 3 bytes long, so that
// the policy may step over it. A fetch goes to the last byte of its page, which holds RET; 3 bytes further,
// on the next page, there is another.
constexpr u8 access_length = 3;
GUEST(guest_accesses, "jmp 9f\n"
                      ".balign 16\n mov (%rbx), %rax\n ret\n"
                      ".balign 16\n mov %rax, (%rbx)\n ret\n"
                      ".balign 16\n add %rax, (%rbx)\n ret\n"
                      ".balign 16\n lock addl %eax, (%rbx)\n ret\n"
                      ".balign 16\n jmp *%rbx\n"
                      ".balign 16\n 9: mov (%rsi), %rbx\n mov 8(%rsi), %rcx\n xor %eax, %eax\n"
                      "call *%rcx\n add $16, %rsi\n dec %rdi\n jnz 9b\n")

constexpr u64 pdpt = arena;
constexpr u64 directory = arena + page_size;
constexpr u64 tables = arena + 2 * page_size; // 4 pages: two entries a case
constexpr u64 landing = arena + 6 * page_size;
constexpr u64 list = arena + 7 * page_size;
constexpr u64 test_addresses = u64{1} << 39;

constexpr u64 table_entry = 0x27, page_entry = 0x67, supervisor_entry = 0x63; // P, W, U, A, D
constexpr u64 returns = 0xc3c3'c3c3'c3c3'c3c3;                                // RET

std::span<const u8> bytes_of(const std::vector<u64>& words) {
    return {reinterpret_cast<const u8*>(words.data()), words.size() * sizeof(u64)};
}

} // namespace

const char* name_of(Access access) {
    constexpr const char* names[] = {"read", "write", "read-modify-write", "locked read-modify-write",
                                     "fetch"};
    return names[static_cast<unsigned>(access)];
}

std::string rights_text(u32 rights) {
    return {(rights & may_read) != 0 ? 'r' : '-', (rights & may_write) != 0 ? 'w' : '-',
            (rights & may_execute) != 0 ? 'x' : '-'};
}

client::Plan AccessList::plan(u64 subject_pages, abi::PageSize nested) {
    client::Plan plan;
    plan.nested_page_size = nested;
    plan.arena_pages = (subject - arena) / page_size + subject_pages;
    for (const abi::Reason reason : {abi::Reason::nested_violation, abi::Reason::nested_misconfig}) {
        plan.policy.push_back({.reason = static_cast<u16>(reason),
                               .action = static_cast<u8>(abi::Action::advance),
                               .length = access_length,
                               .event = 0});
    }
    return plan;
}

AccessList::AccessList(client::Guest& guest) : guest_(guest) {
    const std::vector<u64> to_pdpt{pdpt | table_entry};
    guest.write(client::layout::pml4 + 8 * (test_addresses >> 39), bytes_of(to_pdpt));
    const std::vector<u64> to_directory{directory | table_entry};
    guest.write(pdpt, bytes_of(to_directory));
    std::vector<u64> to_tables(4);
    for (u64 i = 0; i < to_tables.size(); ++i) {
        to_tables[i] = (tables + i * page_size) | table_entry;
    }
    guest.write(directory, bytes_of(to_tables));
    guest.write(landing, bytes_of({returns}));
}

void AccessList::add(Access access, u64 gpa) {
    add_mapped(access, gpa, page_entry);
}

void AccessList::add_supervisor(Access access, u64 gpa) {
    add_mapped(access, gpa, supervisor_entry);
}

void AccessList::add_mapped(Access access, u64 gpa, u64 entry_bits) {
    const u64 linear = test_addresses + entries_.size() * page_size + offset(access);
    entries_.push_back(gpa | entry_bits);
    entries_.push_back(landing | page_entry);
    if (access == Access::fetch) {
        guest_.write(gpa + page_size - 8, bytes_of({returns}));
    }
    add(access, linear, gpa);
}

void AccessList::add(Access access, u64 linear, u64 owner) {
    cases_.push_back({.access = access, .linear = linear, .owner = owner});
    if (cases_.size() > max_cases) {
        throw std::length_error("more accesses than the list holds");
    }
}

std::vector<AccessList::Case>& AccessList::run() {
    std::vector<u64> records;
    for (const Case& c : cases_) {
        records.push_back(c.linear);
        records.push_back(client::layout::code + 16 * (static_cast<u64>(c.access) + 1));
    }
    guest_.write(list, bytes_of(records));
    guest_.write(tables, bytes_of(entries_));
    guest_.load(guest_accesses);
    guest_.state.gpr[abi::rsi] = list;
    guest_.state.gpr[abi::rdi] = cases_.size();
    const auto r = guest_.run({.exits = static_cast<u32>(cases_.size() + 2)});
    EXPECT_EQ(r.outcome, abi::Outcome::exited) << r.text;
    EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt)
        << "the guest did not come to its end: guest-physical " << std::hex << r.reply.exit.guest_physical
        << ", rip " << r.reply.state.rip;
    EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector << " at " << std::hex
                                      << r.exceptions.rip << ", CR2 " << r.exceptions.cr2;
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    std::map<u64, Case*> by_owner;
    for (Case& c : cases_) {
        c.exit.reset();
        by_owner[c.owner] = &c;
    }
    Differences differences;
    for (const abi::Exit& exit : r.exits) {
        if (static_cast<abi::Reason>(exit.reason) == abi::Reason::hlt) {
            continue;
        }
        const auto found = by_owner.find(exit.guest_physical & ~(page_size - 1));
        if (found == by_owner.end() || found->second->exit) {
            differences.add("an exit for guest-physical ", std::hex, exit.guest_physical, ", ",
                            found == by_owner.end() ? "no case's" : "a second time");
        } else {
            found->second->exit = exit;
        }
    }
    return cases_;
}

} // namespace refhv::front
