// SPDX-License-Identifier: MIT
// Breakpoints that an entry loads: each register, kind and length, against accesses of every size about it.
// The same breakpoints set by the guest itself show that the guest and its handler see them.
#include "conformance/debug/case.hpp"

namespace refhv::front {

using abi::Reason;
using debug::Kind;
namespace layout = client::layout;

namespace {

constexpr u64 target = REFHV_SCRATCH + 64; // aligned, with room on both sides
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
                for (u64 address = target - 9; address <= target + 9; ++address) {
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

void set(abi::GuestState& state, bool by_guest, unsigned number, u64 address, u64 dr7) {
    if (by_guest) {
        constexpr abi::Gpr registers[] = {abi::rax, abi::rbx, abi::rcx, abi::rdx};
        for (const auto r : registers) {
            state.gpr[r] = 0;
        }
        state.gpr[registers[number]] = address;
        state.gpr[abi::rsi] = dr7;
        return;
    }
    for (u64& dr : state.dr) {
        dr = 0;
    }
    state.dr[number] = address;
    state.dr7 = dr7;
}

class DebugBreakpoints : public Debug {
  protected:
    // Every register, kind and length; `misalign`: the breakpoint's address has low bits that do not count.
    static void data(bool by_guest, u64 misalign) {
        const DataGuest program(by_guest);
        DebugGuest guest(host(), client::Plan{});
        guest.load(program.code.code());
        u64 tried = 0;
        for (unsigned number = 0; number < 4; ++number) {
            for (const Kind kind : data_kinds) {
                for (const unsigned length : sizes) {
                    const u64 address = target + (length > misalign ? misalign : 0);
                    if (HasFailure()) {
                        break; // one finding
                    }
                    SCOPED_TRACE(testing::Message()
                                 << "DR" << number << ", " << (kind == Kind::write ? "writes" : "accesses")
                                 << ", " << length << " bytes");
                    set(guest.state, by_guest, number, address,
                        debug::dr7_with(number, kind, length, (number & 1) != 0));
                    expect_traps(guest.run_and_read(), program.due(number, kind, length, address));
                    tried += program.accesses.size();
                }
            }
        }
        combinations(tried);
    }
    static void instructions(bool by_guest) {
        Code code;
        if (by_guest) {
            code.add(set_registers);
        }
        std::vector<u64> at;
        for (int i = 0; i < 6; ++i) {
            at.push_back(code.add({0x90})); // nop
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
                set(guest.state, by_guest, number, address, debug::dr7_with(number, Kind::execute, 1));
                expect_traps(guest.run_and_read(), {{address, u64{1} << number}});
                ++tried;
            }
        }
        combinations(tried);
    }
};

} // namespace

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
            set(guest.state, false, 0, target, enabled ? on : on & ~u64{3});
            const auto due = program.due(0, Kind::access, 4, target);
            expect_traps(guest.run_and_read(), enabled ? due : std::vector<TrapDue>{});
        }
    });
}

// Several at once: DR6 has all that matched.
TEST_F(DebugBreakpoints, are_reported_together) {
    claim({"SDM 3B 18.2.3", "APM 2 13.1.1.3"}, [&] {
        Code code;
        code.add(set_registers);
        code.move(true, 8, target);
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
                guest.state.gpr[registers[n]] = in ? target + 2 * n : REFHV_UNMAPPED;
                dr7 |= debug::dr7_with(n, Kind::write, 2);
            }
            guest.state.gpr[abi::rsi] = dr7;
            expect_traps(guest.run_and_read(), {{after, mask}});
            ++tried;
        }
        combinations(tried);
    });
}

// Exits by #DB: a data breakpoint's behind its instruction, an instruction breakpoint's before it.
TEST_F(DebugBreakpoints, exit_with_their_causes_where_debug_exceptions_are_intercepted) {
    claim({"SDM 3C 28.2.1 table 28-1, 28.3.3", "APM 2 15.12.2"}, [&] {
        Code code;
        code.add({0x90});
        const u64 store = code.move(true, 4, target);
        const u64 after = code.here();
        code.add({0x90});
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        for (unsigned number = 0; number < 4; ++number) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(number);
            set(guest.state, false, number, target, debug::dr7_with(number, Kind::write, 4));
            expect_debug_exit(guest.run({}), after, u64{1} << number);
            set(guest.state, false, number, store, debug::dr7_with(number, Kind::execute, 1));
            expect_debug_exit(guest.run({}), store, u64{1} << number);
        }
        combinations(8);
    });
}

TEST_F(DebugBreakpoints, leave_dr7_as_the_guest_had_it) {
    claim({"SDM 3C 28.3.1", "APM 2 15.6"}, [&] {
        Code code;
        code.move(true, 4, target);
        DebugGuest guest(host(), intercepting_debug());
        guest.load(code.code());
        u64 tried = 0;
        for (const u64 dr7 : {debug::dr7_with(0, Kind::write, 4), debug::dr7_with(3, Kind::access, 4, true),
                              debug::dr7_with(1, Kind::write, 4) | 0x300, debug::dr7_fixed}) {
            if (HasFailure()) {
                break; // one finding
            }
            SCOPED_TRACE(dr7);
            for (u64& dr : guest.state.dr) {
                dr = target;
            }
            guest.state.dr7 = dr7;
            const auto r = guest.run({});
            EXPECT_EQ(r.reply.state.dr7, dr7);
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason),
                      dr7 == debug::dr7_fixed ? Reason::hlt : Reason::exception);
            ++tried;
        }
        combinations(tried);
    });
}

// Before the instruction's own intercept, and without a trace of it.
TEST_F(DebugBreakpoints, of_instructions_go_before_the_instructions_exit) {
    claim({"SDM 3C 26.1.1; SDM 3A table 6-2", "APM 2 15.7"}, [&] {
        Code code;
        const u64 cpuid = code.add({0x0f, 0xa2});
        client::Plan plan = intercepting_debug();
        plan.intercepts = client::on(abi::Intercept::cpuid);
        DebugGuest guest(host(), plan);
        guest.load(code.code());
        set(guest.state, false, 0, cpuid, debug::dr7_with(0, Kind::execute, 1));
        expect_debug_exit(guest.run({}), cpuid, 1);
        guest.state.rflags |= debug::rflags_rf; // the premise: past the breakpoint it does exit
        expect_exit(guest.run({}), Reason::cpuid, cpuid);
    });
}

// An access that the nested tables refuse has not happened; once it has, the breakpoint fires, once.
TEST_F(DebugBreakpoints, of_data_fire_once_behind_an_access_that_exited) {
    claim({"SDM 3C 28.3.4; SDM 3B 18.3.1.2", "APM 2 15.25.6; 13.1.3.2"}, [&] {
        Code code;
        code.move(true, 4, layout::arena + 8);
        const u64 after = code.here();
        client::Plan plan;
        plan.arena_pages = 1;
        plan.policy.push_back({.reason = static_cast<u16>(Reason::nested_violation),
                               .action = static_cast<u8>(abi::Action::map_and_retry),
                               .length = 0,
                               .event = 0});
        DebugGuest guest(host(), plan);
        guest.load(code.code());
        guest.protect(layout::arena, 1, 0);
        set(guest.state, false, 2, layout::arena + 8, debug::dr7_with(2, Kind::write, 4));
        const auto r = guest.run_and_read();
        EXPECT_EQ(r.count(Reason::nested_violation), 1u) << "the premise";
        expect_traps(r, {{after, 1u << 2}});
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
            set(guest.state, false, 1, at, debug::dr7_with(1, Kind::io, 1));
            expect_traps(guest.run_and_read(),
                         at == port ? std::vector<TrapDue>{{after, 1u << 1}} : std::vector<TrapDue>{});
        }
    });
}

} // namespace refhv::front
