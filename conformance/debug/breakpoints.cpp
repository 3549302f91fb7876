// SPDX-License-Identifier: MIT
// Breakpoints that an entry loads: each register, kind and length, against accesses of every size about it.
// The same breakpoints set by the guest itself show that the guest and its handler see them.
#include "conformance/debug/breakpoints.hpp"

namespace refhv::front {

using debug::Kind;
namespace layout = client::layout;

namespace {

constexpr unsigned sizes[] = {1, 2, 4, 8};
constexpr Kind data_kinds[] = {Kind::write, Kind::access};

GUEST(set_registers, "mov %rax, %dr0\n mov %rbx, %dr1\n mov %rcx, %dr2\n mov %rdx, %dr3\n mov %rsi, %dr7")

// What the guest does about the breakpoint: every size at every distance, reads and writes.
struct DataGuest {
    Code code;
    struct Access {
        u64 after; // address of the instruction behind it
        u64 address;
        unsigned bytes;
        bool store;
    };
    std::vector<Access> accesses;

    explicit DataGuest(bool sets_registers) {
        if (sets_registers) {
            code.add(set_registers);
        }
        for (const bool store : {false, true}) {
            for (const unsigned bytes : sizes) {
                for (u64 address = breakpoint_target - 9; address <= breakpoint_target + 9; ++address) {
                    code.move(store, bytes, address);
                    accesses.push_back({code.here(), address, bytes, store});
                }
            }
        }
    }

    // SDM 3B 18.2.5: the breakpoint's address is masked by its length.
    [[nodiscard]] std::vector<TrapDue> due(unsigned number, Kind kind, unsigned length, u64 address) const {
        std::vector<TrapDue> out;
        const u64 first = address & ~u64{length - 1};
        for (const Access& a : accesses) {
            const bool meets = a.address < first + length && first < a.address + a.bytes;
            if (meets && (a.store || kind == Kind::access)) {
                out.push_back({a.after, u64{1} << number});
            }
        }
        return out;
    }
};

} // namespace

void DebugBreakpoints::data(bool by_guest, u64 misalign) {
    const DataGuest program(by_guest);
    DebugGuest guest(host(), client::Plan{});
    guest.load(program.code.code());
    u64 tried = 0;
    for (unsigned number = 0; number < 4; ++number) {
        for (const Kind kind : data_kinds) {
            for (const unsigned length : sizes) {
                const u64 address = breakpoint_target + (length > misalign ? misalign : 0);
                if (HasFailure()) {
                    break; // one finding
                }
                SCOPED_TRACE(testing::Message()
                             << "DR" << number << ", " << (kind == Kind::write ? "writes" : "accesses")
                             << ", " << length << " bytes");
                set_breakpoint(guest.state, by_guest, number, address,
                               debug::dr7_with(number, kind, length, (number & 1) != 0));
                expect_traps(guest.run_and_read(), program.due(number, kind, length, address));
                tried += program.accesses.size();
            }
        }
    }
    combinations(tried);
}

void DebugBreakpoints::instructions(bool by_guest) {
    Code code;
    if (by_guest) {
        code.add(set_registers);
    }
    std::vector<u64> at(6);
    for (u64& address : at) {
        address = code.add({0x90}); // nop
    }
    DebugGuest guest(host(), client::Plan{});
    guest.load(code.code());
    u64 tried = 0;
    for (unsigned number = 0; number < 4; ++number) {
        for (const u64 address : at) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(testing::Message()
                         << "DR" << number << ", instruction at offset " << address - layout::code);
            set_breakpoint(guest.state, by_guest, number, address, debug::dr7_with(number, Kind::execute, 1));
            expect_traps(guest.run_and_read(), {{address, u64{1} << number}});
            ++tried;
        }
    }
    combinations(tried);
}

TEST_F(DebugBreakpoints, of_data_fire_where_the_guest_sets_them) {
    claim({"SDM 3B 18.2.4, 18.2.5", "APM 2 13.1.1.4"}, [&] { data(true, 0); });
}
TEST_F(DebugBreakpoints, of_data_fire_where_the_entry_loads_them) {
    claim({"SDM 3C 27.3.2.1; SDM 3B 18.2.5", "APM 2 15.5.1; 13.1.1.4"}, [&] { data(false, 0); });
}
TEST_F(DebugBreakpoints, of_data_lie_at_multiples_of_their_length) {
    claim({"SDM 3B 18.2.5", "APM 2 13.1.1.4"}, [&] { data(true, 3); });
}
TEST_F(DebugBreakpoints, of_instructions_fire_where_the_guest_sets_them) {
    claim({"SDM 3B 18.3.1.1", "APM 2 13.1.1.4"}, [&] { instructions(true); });
}
TEST_F(DebugBreakpoints, of_instructions_fire_where_the_entry_loads_them) {
    claim({"SDM 3C 27.3.2.1; SDM 3B 18.3.1.1", "APM 2 15.5.1; 13.1.1.4"}, [&] { instructions(false); });
}

// Loaded with its enabling bits clear, a breakpoint is none; and the next entry's DR7 replaces this one's.
TEST_F(DebugBreakpoints, are_those_of_the_latest_entry) {
    claim({"SDM 3C 27.3.2.1", "APM 2 15.5.1"}, [&] {
        const DataGuest program(false);
        DebugGuest guest(host(), client::Plan{});
        guest.load(program.code.code());
        const u64 on = debug::dr7_with(0, Kind::access, 4);
        for (const bool enabled : {true, false, true}) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(enabled ? "on" : "off");
            set_breakpoint(guest.state, false, 0, breakpoint_target, enabled ? on : on & ~u64{3});
            const auto due = program.due(0, Kind::access, 4, breakpoint_target);
            expect_traps(guest.run_and_read(), enabled ? due : std::vector<TrapDue>{});
        }
    });
}

// Several at once: DR6 has all that matched.
TEST_F(DebugBreakpoints, are_reported_together) {
    claim({"SDM 3B 18.2.3", "APM 2 13.1.1.3"}, [&] {
        Code code;
        code.add(set_registers);
        code.move(true, 8, breakpoint_target);
        const u64 after = code.here();
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        u64 tried = 0;
        for (unsigned mask = 1; mask < 16; ++mask) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(mask);
            u64 dr7 = debug::dr7_fixed;
            constexpr abi::Gpr registers[] = {abi::rax, abi::rbx, abi::rcx, abi::rdx};
            for (unsigned n = 0; n < 4; ++n) {
                const bool in = (mask >> n & 1) != 0;
                guest.state.gpr[registers[n]] = in ? breakpoint_target + 2 * n : REFHV_UNMAPPED;
                dr7 |= debug::dr7_with(n, Kind::write, 2);
            }
            guest.state.gpr[abi::rsi] = dr7;
            expect_traps(guest.run_and_read(), {{after, mask}});
            ++tried;
        }
        combinations(tried);
    });
}

// Breakpoints of I/O (CR4.DE).
TEST_F(DebugBreakpoints, of_ports_fire_behind_an_access_that_does_not_exit) {
    claim({"SDM 3B 18.2.4, 18.3.1.2", "APM 2 13.1.1.4"}, [&] {
        constexpr u64 debug_extensions = 1u << 3;
        constexpr u16 port = 0x80;
        Code code;
        code.add({0xe6, port}); // out %al, $0x80
        const u64 after = code.here();
        client::Plan plan;
        plan.ports.push_back({.vm = 0, .first = port, .on = 0, .count = 1, .zero = 0});
        DebugGuest guest(host(), plan);
        guest.state.cr4 |= debug_extensions;
        guest.load(code.code());
        for (const u64 at : {u64{port}, u64{port} + 1}) {
            set_breakpoint(guest.state, false, 1, at, debug::dr7_with(1, Kind::io, 1));
            expect_traps(guest.run_and_read(),
                         at == port ? std::vector<TrapDue>{{after, 1u << 1}} : std::vector<TrapDue>{});
        }
    });
}

// An instruction breakpoint does not fire at an entry with RF, and RF holds for one instruction.
TEST_F(DebugBreakpoints, of_instructions_do_not_fire_behind_an_entry_with_rf) {
    claim({"SDM 3B 18.3.1.1; SDM 3C 27.3.2.3", "APM 2 13.1.3.1"}, [&] {
        Code code;
        const u64 first = code.add({0x90});
        const u64 second = code.add({0x90});
        DebugGuest guest(host(), client::Plan{});
        guest.load(code.code());
        guest.state.dr[0] = first;
        guest.state.dr[1] = second;
        guest.state.dr7 = debug::dr7_with(0, Kind::execute, 1);
        guest.state.dr7 |= debug::dr7_with(1, Kind::execute, 1);
        expect_traps(guest.run_and_read(), {{first, 1}, {second, 2}});
        guest.state.rflags |= debug::rflags_rf;
        expect_traps(guest.run_and_read(), {{second, 2}});
    });
}

} // namespace refhv::front
