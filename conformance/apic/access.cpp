// SPDX-License-Identifier: MIT
#include "conformance/apic/access.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;

namespace {

// One access: what to do, where, and what RAX holds afterwards.
struct Entry {
    u64 routine; // address of one of eight: write * 4 + size
    u64 address;
    u64 result;
};
static_assert(sizeof(Entry) == 24);

// All MOVs are three bytes long, so that one length steps over any of them. The routines come first, 8 bytes
// each. Behind every access comes one that exits whatever the controls say: it ends that one's part of the
// log.
constexpr u8 mov_length = 3;
#define MARKER "0xffc"
GUEST(access_all,
      "jmp 8f\n"
      ".balign 64, 0xcc\n"
      ".byte 0x3e, 0x8a, 0x06\n ret\n .balign 8, 0xcc\n" // MOV AL, DS:[RSI]
      ".byte 0x66, 0x8b, 0x06\n ret\n .balign 8, 0xcc\n" // MOV AX, [RSI]
      ".byte 0x3e, 0x8b, 0x06\n ret\n .balign 8, 0xcc\n" // MOV EAX, DS:[RSI]
      ".byte 0x48, 0x8b, 0x06\n ret\n .balign 8, 0xcc\n" // MOV RAX, [RSI]
      ".byte 0x3e, 0x88, 0x06\n ret\n .balign 8, 0xcc\n" // the same as stores
      ".byte 0x66, 0x89, 0x06\n ret\n .balign 8, 0xcc\n"
      ".byte 0x3e, 0x89, 0x06\n ret\n .balign 8, 0xcc\n"
      ".byte 0x48, 0x89, 0x06\n ret\n .balign 8, 0xcc\n"
      "8: mov " REFHV_ASM(
          REFHV_PARAMETER_COUNT) ", %r12d\n"
                                 "mov $" REFHV_ASM(
                                     REFHV_APIC_STEPS) ", %r13d\n"
                                                       "mov $" REFHV_ASM(
                                                           REFHV_APIC_ACCESS) "+" MARKER ", %edi\n"
                                                                              "1: mov 8(%r13), "
                                                                              "%rsi\n mov "
                                                                              "16(%r13), %rax\n"
                                                                              "call *(%r13)\n"
                                                                              "mov %rax, 16(%r13)\n"
                                                                              ".byte 0x3e, 0x8b, "
                                                                              "0x07\n" // MOV EAX,
                                                                                       // DS:[RDI]
                                                                              "add $24, %r13\n dec "
                                                                              "%r12d\n jnz 1b")
constexpr u64 marker = 0xffc; // its qualification: a read, at that offset
constexpr u64 first_routine = client::layout::code + 64, routine_bytes = 8;

constexpr usize most_accesses = 8 * page_size / sizeof(Entry);

} // namespace

std::ostream& operator<<(std::ostream& out, const ApicAccess& a) {
    return out << (a.is_write ? "write" : "read") << " of " << a.bytes() << " at " << std::hex << a.offset
               << std::dec;
}

std::ostream& operator<<(std::ostream& out, const ApicOutcome& o) {
    return out << client::name_of(o.reason) << std::hex << ", qualification " << o.qualification << ", value "
               << o.value << std::dec;
}

Guest ApicAccesses::prepare(const std::vector<ApicAccess>& accesses) {
    if (accesses.size() > most_accesses) {
        throw std::length_error("more accesses than fit their pages");
    }
    client::Plan p = plan();
    const auto answer = [&](Reason reason, abi::Action action, u8 length) {
        p.policy.push_back({.reason = static_cast<u16>(reason),
                            .action = static_cast<u8>(action),
                            .length = length,
                            .event = 0});
    };
    answer(Reason::apic_access, abi::Action::advance, mov_length);
    answer(Reason::apic_write, abi::Action::resume, 0); // behind the store
    answer(Reason::virtualized_eoi, abi::Action::resume, 0);
    Guest guest(host(), p);
    guest.load(access_all);
    std::vector<Entry> entries;
    entries.reserve(accesses.size());
    for (const ApicAccess& a : accesses) {
        entries.push_back({first_routine + routine_bytes * (u64{a.is_write} * 4 + a.size),
                           apic::access_page + a.offset, a.is_write ? written : before_read});
    }
    guest.write(apic::steps, {reinterpret_cast<const u8*>(entries.data()), entries.size() * sizeof(Entry)});
    return guest;
}

std::vector<ApicOutcome> ApicAccesses::outcomes(Guest& guest, const std::vector<ApicAccess>& accesses) {
    const auto r = guest.run({.rounds = accesses.size(), .exits = static_cast<u32>(2 * accesses.size() + 1)});
    expect_stopped(r);
    EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
    const auto entries = guest.read64(apic::steps, accesses.size() * 3);
    std::vector<ApicOutcome> out;
    usize at = 0;
    const auto is_marker = [&] {
        return at < r.exits.size() && static_cast<Reason>(r.exits[at].reason) == Reason::apic_access &&
               r.exits[at].qualification == marker;
    };
    for (usize i = 0; i < accesses.size(); ++i) {
        const ApicAccess& a = accesses[i];
        ApicOutcome o;
        if (!is_marker() && at < r.exits.size()) {
            o.reason = static_cast<Reason>(r.exits[at].reason);
            o.qualification = r.exits[at].qualification;
            ++at;
        }
        if (!is_marker()) {
            ADD_FAILURE() << a << ": the log of exits breaks off, or it exited twice";
            break;
        }
        ++at;
        const u64 mask = a.size == 3 ? ~u64{0} : (u64{1} << 8 * a.bytes()) - 1;
        if (!a.is_write && o.reason == Reason::none) {
            o.value = entries[3 * i + 2] & mask;
        }
        out.push_back(o);
    }
    return out;
}

std::vector<ApicAccess> ApicAccesses::every_access(bool is_write) {
    std::vector<ApicAccess> out;
    for (u32 offset = 0; offset < page_size; offset += 16) {
        out.push_back({offset, 2, is_write});
    }
    // Other sizes and places, about registers that are on the lists and about one that is not.
    for (const u32 base :
         {apic::id, apic::tpr, apic::ppr, apic::eoi, apic::esr, apic::icr_high, apic::divide}) {
        for (const auto& [further, size] : {std::pair<u32, u8>{0, 0},
                                            {0, 1},
                                            {0, 3},
                                            {1, 0},
                                            {1, 1},
                                            {1, 2},
                                            {2, 1},
                                            {2, 2},
                                            {3, 0},
                                            {3, 1},
                                            {4, 0},
                                            {4, 2},
                                            {8, 2},
                                            {12, 2}}) {
            out.push_back({base + further, size, is_write});
        }
    }
    return out;
}

bool ApicAccesses::is_virtual_register(u32 offset, bool is_write) {
    const u32 at = offset & ~15u;
    switch (at) {
    case apic::id:
    case apic::tpr:
    case apic::eoi:
    case apic::ldr:
    case apic::dfr:
    case apic::svr:
    case apic::esr:
    case apic::icr_low:
    case apic::icr_high:
    case apic::lvt_timer:
    case apic::lvt_thermal:
    case apic::lvt_performance:
    case apic::lvt_lint0:
    case apic::lvt_lint1:
    case apic::lvt_error:
    case apic::initial_count:
    case apic::divide:
        return true;
    case apic::version:
        return !is_write;
    default:
        return !is_write && at >= apic::isr && at < apic::irr + 0x80;
    }
}

} // namespace refhv::front
