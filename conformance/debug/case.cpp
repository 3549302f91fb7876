// SPDX-License-Identifier: MIT
#include "conformance/debug/case.hpp"

#include <algorithm>
#include <sstream>

namespace refhv::front {

namespace layout = client::layout;

namespace {

// clang-format off
// Log: the number of traps, then Trap[] from the next cache line on. Frame at 3 pushes: rip 24, rflags 40.
#define LET_PASS(number, type_bits)                                                                          \
    "mov %dr" #number ", %rcx\n cmp 24(%rsp), %rcx\n jne 1f\n test $" #type_bits ", %eax\n jnz 1f\n"         \
    "orl $0x10000, 40(%rsp)\n 1:\n"
GUEST(debug_handler,
      "push %rax\n push %rbx\n push %rcx\n"
      "mov " REFHV_ASM(REFHV_SAMPLES) ", %rbx\n cmp $1000, %rbx\n jae 2f\n"
      "mov %rbx, %rcx\n shl $5, %rcx\n"
      "mov 24(%rsp), %rax\n mov %rax, " REFHV_ASM(REFHV_SAMPLES) "+64(%rcx)\n"
      "mov 40(%rsp), %rax\n mov %rax, " REFHV_ASM(REFHV_SAMPLES) "+72(%rcx)\n"
      "mov %dr6, %rax\n mov %rax, " REFHV_ASM(REFHV_SAMPLES) "+80(%rcx)\n"
      "mov %dr7, %rax\n mov %rax, " REFHV_ASM(REFHV_SAMPLES) "+88(%rcx)\n"
      "incq " REFHV_ASM(REFHV_SAMPLES) "\n"
      LET_PASS(0, 0x30000) LET_PASS(1, 0x300000) LET_PASS(2, 0x3000000) LET_PASS(3, 0x30000000)
      "mov $0xffff0ff0, %eax\n mov %rax, %dr6\n"
      "pop %rcx\n pop %rbx\n pop %rax\n iretq\n"
      "2: push $" REFHV_ASM(REFHV_STOP) "\n ret")
// clang-format on

constexpr u64 causes_mask = 0xf | debug::detected | debug::single_step;

// The first #DB that is not as it is due, and what is around it.
std::string difference(const std::vector<Trap>& seen, const std::vector<TrapDue>& due) {
    std::ostringstream out;
    out << std::hex << seen.size() << "h debug exceptions, " << due.size() << "h were due";
    usize first = 0;
    while (first < std::min(seen.size(), due.size()) && seen[first].rip == due[first].rip &&
           seen[first].dr6 == (debug::dr6_clear | due[first].causes)) {
        ++first;
    }
    constexpr usize shown = 6;
    for (usize i = first; i < first + shown && i < std::max(seen.size(), due.size()); ++i) {
        out << "\n  " << i << ": ";
        if (i < seen.size()) {
            out << "code+" << seen[i].rip - layout::code << "h, DR6 " << seen[i].dr6;
        } else {
            out << "none";
        }
        if (i < due.size()) {
            out << "; due code+" << due[i].rip - layout::code << "h, DR6 "
                << (debug::dr6_clear | due[i].causes);
        } else {
            out << "; none due";
        }
    }
    return out.str();
}

} // namespace

u64 debug::dr7_with(unsigned number, Kind kind, unsigned bytes, bool global) {
    constexpr u64 lengths[] = {0, 0, 1, 0, 3, 0, 0, 0, 2}; // by the number of bytes
    return dr7_fixed | u64{1} << (2 * number + (global ? 1 : 0)) |
           (static_cast<u64>(kind) | lengths[bytes] << 2) << (16 + 4 * number);
}

u64 Code::add(std::initializer_list<unsigned> bytes) {
    const u64 at = here();
    for (const unsigned b : bytes) {
        bytes_.push_back(static_cast<u8>(b));
    }
    return at;
}

u64 Code::add(client::GuestCode code) {
    const u64 at = here();
    bytes_.insert(bytes_.end(), code.begin, code.end);
    return at;
}

u64 Code::move(bool store, unsigned bytes, u64 address) {
    const u64 at = here();
    if (bytes == 2) {
        add({0x66});
    } else if (bytes == 8) {
        add({0x48});
    }
    add({(store ? 0x88u : 0x8au) + (bytes == 1 ? 0 : 1), 0x04, 0x25});
    for (unsigned i = 0; i < 4; ++i) {
        add({static_cast<unsigned>(address >> 8 * i & 0xff)});
    }
    return at;
}

DebugGuest::DebugGuest(client::GuestHost& host, const client::Plan& plan) : Guest(host, plan) {
    write(layout::handler, debug_handler.bytes());
    gate(debug_vector, layout::handler);
    state.dr6 = debug::dr6_clear;
    state.dr7 = debug::dr7_fixed;
}

DebugGuest::Result DebugGuest::run_and_read(const Options& options) {
    fill(layout::samples, 0, 0, 1, false);
    Result result;
    static_cast<client::RunResult&>(result) = run(options);
    const u64 count = std::min<u64>(read64(layout::samples, 1).front(), most_traps);
    const auto words = count != 0 ? read64(layout::samples + 64, 4 * count) : std::vector<u64>{};
    for (usize i = 0; i + 3 < words.size(); i += 4) {
        result.traps.push_back({words[i], words[i + 1], words[i + 2], words[i + 3]});
    }
    return result;
}

void DebugArmed::TearDown() {
    Debug::TearDown();
    if (HasFailure() && Session::get().info().emulated) {
        Session::get().restart();
    }
}

void Debug::expect_traps(const DebugGuest::Result& r, const std::vector<TrapDue>& due) {
    expect_stopped(r);
    EXPECT_EQ(r.exceptions.count, 0u)
        << "exceptions other than #DB; the first was vector " << r.exceptions.vector;
    const auto same = [](const Trap& seen, const TrapDue& wanted) {
        return seen.rip == wanted.rip && seen.dr6 == (debug::dr6_clear | wanted.causes);
    };
    if (!std::equal(r.traps.begin(), r.traps.end(), due.begin(), due.end(), same)) {
        ADD_FAILURE() << difference(r.traps, due);
    }
}

void Debug::expect_debug_exit(const client::RunResult& r, u64 rip, u64 causes) {
    expect_exit(r, abi::Reason::exception, rip);
    EXPECT_EQ(r.reply.exit.vector, DebugGuest::debug_vector);
    if (on_vmx()) {
        constexpr u32 hardware_exception_1 = 0x8000'0301;
        EXPECT_EQ(r.reply.exit.qualification, causes) << "exit qualification";
        EXPECT_EQ(r.reply.exit.interruption_info, hardware_exception_1);
        EXPECT_EQ(r.reply.state.dr6, debug::dr6_clear) << "DR6 is as it was";
    } else {
        EXPECT_EQ(r.reply.state.dr6 & causes_mask, causes) << "DR6 is as a handler would see it";
    }
}

} // namespace refhv::front
