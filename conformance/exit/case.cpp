// SPDX-License-Identifier: MIT
#include "conformance/exit/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;
using client::layout::stop;

namespace {

constexpr u64 status_flags = 0x8d5; // CF PF AF ZF SF OF
constexpr u64 resume_flag = 1u << 16;

// CPUID 8000_000AH:EDX, APM 3 E.4.9.
constexpr u32 nrips = 1u << 3;
constexpr u32 decode_assists = 1u << 7;

bool has_svm_feature(const client::HelloInfo& hello, u32 bit) {
    return (cpuid(hello, 0x8000'000a, 0, 3) & bit) != 0;
}

bool is_fault(const ExitCase& what) {
    return what.reason == Reason::exception || what.nested_fault;
}

Section section_of(const ExitCase& what) {
    return {what.vmx.section, what.svm.section};
}

Reason stop_reason(const ExitCase& what) {
    return what.stop == client::Stop::hlt ? Reason::hlt : Reason::io_out;
}

void expect_stopped(const ExitCase& what, const client::RunResult& r) {
    ASSERT_EQ(r.outcome, abi::Outcome::exited);
    EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), stop_reason(what))
        << "the guest did not reach the stop stub";
    EXPECT_EQ(r.reply.state.rip, stop);
    EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
}

// What VMX and SVM say about the length of the instruction that exited.
void expect_length(const ExitCase& what, const abi::Exit& exit, bool vmx, const client::HelloInfo& hello) {
    if (is_fault(what) || what.reason == Reason::preemption_timer) {
        return; // SDM 3C 28.2.5, APM 2 15.7.1: defined for instructions only
    }
    const bool io = what.reason == Reason::io_in || what.reason == Reason::io_out;
    if (vmx || io || has_svm_feature(hello, nrips)) { // SVM tells it of I/O in any case, in EXITINFO2
        EXPECT_EQ(exit.instruction_length, what.code.size())
            << (vmx ? "SDM 3C 28.2.5" : "APM 2 15.7.1, nRIP");
        EXPECT_EQ(exit.next_rip, code + what.code.size());
    } else {
        EXPECT_EQ(exit.instruction_length, 0u) << "no NRIPS, no length";
    }
    if (!vmx && io) {
        EXPECT_EQ(exit.info, code + what.code.size()) << "EXITINFO2 is the next RIP: APM 2 15.10.2";
    }
}

// Exits of faults say more: SDM 3C 28.2.1, 28.2.2; APM 2 15.12.15, 15.25.6.
void expect_fault_information(const ExitCase& what, const abi::Exit& exit, bool vmx) {
    if (what.nested_fault) {
        EXPECT_EQ(exit.guest_physical, client::layout::arena);
    } else if (what.reason == Reason::exception) {
        EXPECT_EQ(exit.vector, what.vector);
        const bool page_fault = what.vector == 14;
        if (vmx) {
            EXPECT_EQ(exit.interruption_info, 0x8000'0300u | what.vector | (page_fault ? 0x800u : 0u));
            EXPECT_EQ(exit.interruption_error, 0u) << "not present, read, supervisor";
        } else if (page_fault) {
            EXPECT_EQ(exit.info, u64{REFHV_UNMAPPED}) << "EXITINFO2 is the faulting address";
        }
    }
}

} // namespace

client::Plan plan_of(const ExitCase& what, bool intercepted, abi::Action action) {
    client::Plan plan;
    plan.osxsave = what.osxsave;
    plan.stop = what.stop;
    plan.arena_pages = what.nested_fault ? 1 : 0;
    plan.intercepts = intercepted ? what.intercepts : 0;
    plan.exceptions = intercepted ? what.exceptions : 0;
    const u8 exits = intercepted ? 1 : 0;
    if (what.msr) {
        const bool read = what.reason == Reason::rdmsr;
        plan.msrs.push_back({.vm = 0,
                             .msr = *what.msr,
                             .read = static_cast<u8>(read ? exits : 0),
                             .write = static_cast<u8>(read ? 0 : exits),
                             .zero = {}});
    }
    if (what.port) {
        plan.ports.push_back({.vm = 0, .first = *what.port, .on = exits, .count = 1, .zero = 0});
    }
    if (action != abi::Action::stop) {
        plan.policy.push_back({.reason = static_cast<u16>(what.reason),
                               .action = static_cast<u8>(action),
                               .length = static_cast<u8>(what.code.size()),
                               .event = 0});
    }
    return plan;
}

void fill_registers(abi::GuestState& state, const ExitCase& what) {
    for (u64 i = 0; i < 16; ++i) {
        if (i != abi::rsp) {
            state.gpr[i] = 0x0123'4567'89ab'cdef * (2 * i + 1);
        }
    }
    state.rflags |= status_flags;
    if (what.prepare != nullptr) {
        what.prepare(state);
    }
}

void expect_registers(const abi::GuestState& before, const abi::GuestState& after) {
    for (unsigned i = 0; i < 16; ++i) {
        EXPECT_EQ(before.gpr[i], after.gpr[i]) << "general register " << i;
    }
    EXPECT_EQ(before.rflags & ~resume_flag, after.rflags & ~resume_flag) << "RFLAGS";
}

void Exit::exits_when_intercepted(const ExitCase& what) {
    claim(section_of(what), [&] {
        if (const std::string why = what.missing != nullptr ? what.missing(hello()) : ""; !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan_of(what, true, abi::Action::stop));
        fill_registers(guest.state, what);
        guest.load(what.code);
        if (what.nested_fault) {
            guest.protect(client::layout::arena, 1, 0);
        }
        if ((guest.settle().unsupported & what.intercepts) != 0) {
            GTEST_SKIP() << "this CPU cannot intercept it";
        }
        const auto r = guest.run({});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        const abi::Exit& exit = r.reply.exit;
        const bool vmx = on_vmx();
        const VendorExit& due = vmx ? what.vmx : what.svm;
        EXPECT_EQ(static_cast<Reason>(exit.reason), what.reason);
        EXPECT_EQ(exit.raw_reason, due.raw) << (vmx ? "exit reason" : "EXITCODE");
        if (due.qualification && (!due.needs_decode_assists || has_svm_feature(hello(), decode_assists))) {
            EXPECT_EQ(exit.qualification & due.qualification->mask, due.qualification->value)
                << (vmx ? "exit qualification" : "EXITINFO1");
        }
        expect_length(what, exit, vmx, hello());
        expect_fault_information(what, exit, vmx);
        EXPECT_EQ(r.count(what.reason), 1u);
        EXPECT_EQ(r.reply.state.rip, code) << "such exits are fault-like: RIP is that of the instruction";
        expect_registers(guest.state, r.reply.state);
        EXPECT_EQ(r.exceptions.count, 0u);
        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
    });
}

void Exit::obeys_its_intercept(const ExitCase& what) {
    claim(section_of(what), [&] {
        if (const std::string why = what.missing != nullptr ? what.missing(hello()) : ""; !why.empty()) {
            GTEST_SKIP() << why;
        }
        const VendorExit& due = on_vmx() ? what.vmx : what.svm;
        Guest guest(host(), plan_of(what, false, abi::Action::stop));
        fill_registers(guest.state, what);
        guest.load(what.code);
        const bool raises = what.otherwise == Otherwise::exception && !due.unconditional;
        const auto r = guest.run({.handler_advance = raises ? what.code.size() : 0});
        if (due.unconditional) {
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), what.reason)
                << "it exits whatever the controls say";
            EXPECT_EQ(r.intercepts.forced & what.intercepts, what.intercepts) << "the core must have said so";
            EXPECT_EQ(r.reply.state.rip, code);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            return;
        }
        if (what.intercepts != 0 && (r.intercepts.forced & what.intercepts) == what.intercepts) {
            GTEST_SKIP() << "this platform's safety floor makes it exit, and the core has said so";
        }
        expect_stopped(what, r);
        EXPECT_EQ(r.count(what.reason), what.reason == stop_reason(what) ? 1u : 0u)
            << "exits of a kind that was not asked for";
        EXPECT_EQ(r.exceptions.count, raises ? 1u : 0u)
            << "exceptions in the guest; the first was vector " << r.exceptions.vector;
        if (raises) {
            EXPECT_EQ(r.exceptions.vector, what.vector);
            EXPECT_EQ(r.exceptions.rip, code);
        }
    });
}

void Exit::leaves_state_intact(const ExitCase& what) {
    claim(section_of(what), [&] {
        if (const std::string why = what.missing != nullptr ? what.missing(hello()) : ""; !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan_of(what, true,
                                    what.nested_fault ? abi::Action::map_and_retry : abi::Action::advance));
        fill_registers(guest.state, what);
        // Several in a row: the core may answer the first exit on another path than the rest. A page faults
        // in once.
        const u32 copies = what.nested_fault ? 1 : 5;
        guest.load(what.code, copies);
        constexpr u8 content = 0x5a;
        if (what.nested_fault) {
            guest.write(client::layout::arena, {&content, 1});
            guest.protect(client::layout::arena, 1, 0);
        }
        if ((guest.settle().unsupported & what.intercepts) != 0) {
            GTEST_SKIP() << "this CPU cannot intercept it";
        }
        const auto r = guest.run({});
        expect_stopped(what, r);
        EXPECT_EQ(r.count(what.reason), copies + (what.reason == stop_reason(what) ? 1 : 0));
        EXPECT_EQ(r.exceptions.count, 0u);
        abi::GuestState due = guest.state;
        if (what.nested_fault) { // the load completes once the page is there
            due.gpr[abi::rax] = (due.gpr[abi::rax] & ~u64{0xff}) | content;
        }
        expect_registers(due, r.reply.state);
        EXPECT_EQ(r.reply.state.cr0, due.cr0);
        EXPECT_EQ(r.reply.state.cr3, due.cr3);
        EXPECT_EQ(r.reply.state.cr4, due.cr4);
        EXPECT_EQ(r.reply.state.efer, due.efer);
    });
}

} // namespace refhv::front
