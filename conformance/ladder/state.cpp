// SPDX-License-Identifier: MIT
// Whatever a run does at its exits besides answering them (abi::Extra), guest and host find their own state.
#include "conformance/exit/case.hpp"
#include "refhv/client/guest/guest.hpp"
#include "refhv/front/claim.hpp"

namespace refhv::front {

using abi::Extra;
using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

struct Asked {
    u64 extras;
    u32 count = 0;
};

constexpr u64 all_areas = abi::extra_bit(Extra::msr_exit_store) | abi::extra_bit(Extra::msr_exit_load) |
                          abi::extra_bit(Extra::msr_entry_load);

std::vector<Asked> every_extra() {
    std::vector<Asked> all;
    for (u8 i = 0; i < static_cast<u8>(Extra::count_); ++i) {
        const auto extra = static_cast<Extra>(i);
        const bool components = extra == Extra::xsave || extra == Extra::xsave_lazy;
        const bool counted = extra == Extra::msr_exit_store || extra == Extra::msr_exit_load ||
                             extra == Extra::msr_entry_load || extra == Extra::msr_by_hand ||
                             extra == Extra::vmread || extra == Extra::vmwrite;
        if (components || !counted) {
            all.push_back({abi::extra_bit(extra), components ? abi::all_components : 0});
            continue;
        }
        for (const u32 n : {1u, 7u, abi::max_extra_count}) {
            all.push_back({abi::extra_bit(extra), n});
        }
    }
    for (const u32 n : {1u, 7u, abi::max_extra_count}) {
        all.push_back({all_areas, n});
    }
    return all;
}

client::Plan cpuid_plan() {
    client::Plan plan;
    plan.osxsave = true;
    plan.intercepts = client::on(abi::Intercept::cpuid);
    plan.policy.push_back({.reason = static_cast<u16>(Reason::cpuid),
                           .action = static_cast<u8>(abi::Action::advance),
                           .length = 2,
                           .event = 0});
    return plan;
}

GUEST(one_cpuid, "cpuid")

constexpr u32 copies = 5;
constexpr u64 osfxsr = 1u << 9; // CR4

// Runs body(asked) for every Extra that this CPU has; how many those were.
u64 for_each_here(const std::vector<Asked>& wanted, const std::function<void(const Asked&)>& body) {
    u64 tried = 0;
    for (const Asked& asked : wanted) {
        SCOPED_TRACE("extras " + std::to_string(asked.extras) + ", number " + std::to_string(asked.count));
        try {
            body(asked);
            ++tried;
        } catch (const client::Refused& refused) {
            if (refused.outcome != abi::Outcome::unsupported) {
                throw;
            }
        }
    }
    return tried;
}

} // namespace

class Ladder : public Claim {};

TEST_F(Ladder, extras_leave_the_guests_registers) {
    claim({"SDM 3C 28.2, 28.5", "APM 2 15.5, 15.6"}, [&] {
        const u64 tried = for_each_here(every_extra(), [&](const Asked& asked) {
            Guest guest(host(), cpuid_plan());
            for (u64 i = 0; i < 16; ++i) {
                guest.state.gpr[i] = i == abi::rsp ? layout::stack_top : 0x0123'4567'89ab'cdef * (2 * i + 1);
            }
            constexpr u64 status_flags = 0x8d5;
            guest.state.rflags |= status_flags;
            guest.state.star = 0x1111'2222'3333'4444;
            guest.state.lstar = 0x7fff'1234'5678;
            guest.state.kernel_gs_base = 0x6fff'1234'5678;
            guest.load(one_cpuid, copies);
            if (hello().fixed.cpus > 1) { // what is left on one CPU must not be in the way on another
                const auto there = guest.run({.cpu = 1, .extra_count = asked.count, .extras = asked.extras});
                EXPECT_EQ(there.reply.state.rip, layout::stop);
                expect_registers(guest.state, there.reply.state);
            }
            const auto r = guest.run({.extra_count = asked.count, .extras = asked.extras});
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::hlt);
            EXPECT_EQ(r.reply.state.rip, layout::stop);
            EXPECT_EQ(r.count(Reason::cpuid), copies);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            EXPECT_EQ(r.exceptions.count, 0u);
            expect_registers(guest.state, r.reply.state);
            EXPECT_EQ(r.reply.state.cr0, guest.state.cr0);
            EXPECT_EQ(r.reply.state.star, guest.state.star);
            EXPECT_EQ(r.reply.state.lstar, guest.state.lstar);
            EXPECT_EQ(r.reply.state.kernel_gs_base, guest.state.kernel_gs_base);
        });
        EXPECT_GT(tried, 0u);
        combinations(tried);
    });
}

// The guest changes its own between the exits.
GUEST(change_msrs, "mov $0xc0000102, %ecx\n rdmsr\n mov %rax, %r8\n add $0x10, %eax\n wrmsr\n cpuid\n"
                   "mov $0xc0000102, %ecx\n rdmsr\n mov %rax, %r9\n add $0x10, %eax\n wrmsr\n cpuid\n cpuid\n"
                   "mov $0xc0000102, %ecx\n rdmsr\n mov %rax, %r10\n"
                   "mov $0xc0000081, %ecx\n rdmsr\n mov %rdx, %r11\n")

TEST_F(Ladder, guest_and_host_keep_their_msrs) {
    claim({"SDM 3C 27.4, 28.4, 28.6", "APM 3 RDMSR, WRMSR"}, [&] {
        std::vector<Asked> wanted;
        for (u32 n = 1; n <= abi::max_extra_count; n *= 2) {
            wanted.push_back({all_areas, n});
            wanted.push_back({abi::extra_bit(Extra::msr_by_hand), n});
        }
        wanted.push_back({abi::extra_bit(Extra::msr_exit_store), abi::max_extra_count});
        wanted.push_back({abi::extra_bit(Extra::vmload_vmsave)});
        const u64 tried = for_each_here(wanted, [&](const Asked& asked) {
            client::Plan plan = cpuid_plan();
            for (const u32 msr : {0xc000'0081u, 0xc000'0102u}) { // STAR, KERNEL_GS_BASE
                plan.msrs.push_back({.vm = 0, .msr = msr, .read = 0, .write = 0, .zero = {}});
            }
            Guest guest(host(), plan);
            guest.state.kernel_gs_base = 0x1000;
            guest.state.star = u64{0x0023'0010} << 32;
            guest.load(change_msrs);
            const auto r = guest.run({.extra_count = asked.count, .extras = asked.extras});
            ASSERT_EQ(r.outcome, abi::Outcome::exited);
            EXPECT_EQ(r.reply.state.rip, layout::stop);
            EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
            EXPECT_EQ(r.reply.state.gpr[abi::r8], 0x1000u);
            EXPECT_EQ(r.reply.state.gpr[abi::r9], 0x1010u);
            EXPECT_EQ(r.reply.state.gpr[abi::r10], 0x1020u);
            EXPECT_EQ(r.reply.state.gpr[abi::r11], 0x0023'0010u);
            EXPECT_EQ(r.reply.state.kernel_gs_base, 0x1020u);
        });
        combinations(tried);
    });
}

// Vector registers: what the guest is told to load stands in the arena, what it has at the end goes there
// too.
#define EACH_OF_16(text) ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" text "\n .endr\n"
#define IN REFHV_ASM(REFHV_ARENA)
#define OUT REFHV_ASM(REFHV_ARENA) " + 0x800"
GUEST(load_sse, EACH_OF_16("movups " IN " + 16 * \\n, %xmm\\n"))
GUEST(store_sse, EACH_OF_16("movups %xmm\\n, " OUT " + 16 * \\n"))
GUEST(load_avx, EACH_OF_16("vmovups " IN " + 32 * \\n, %ymm\\n"))
GUEST(store_avx, EACH_OF_16("vmovups %ymm\\n, " OUT " + 32 * \\n"))
GUEST(exchange_sse,
      EACH_OF_16("movups " IN " + 16 * \\n, %xmm\\n") "cpuid\n cpuid\n" EACH_OF_16("movups %xmm\\n, " OUT
                                                                                   " + 16 * \\n") "cpuid\n")
GUEST(exchange_avx,
      EACH_OF_16("vmovups " IN " + 32 * \\n, %ymm\\n") "cpuid\n cpuid\n" EACH_OF_16("vmovups %ymm\\n, " OUT
                                                                                    " + 32 * \\n") "cpuid\n")

TEST_F(Ladder, guest_and_host_keep_their_vectors) {
    claim({"SDM 1 13.7, 13.8", "APM 2 11.5"}, [&] {
        constexpr u64 sse = 3, avx = 7;
        const u64 offered = cpuid(hello(), 0xd, 0, 0);
        u64 tried = 0;
        for (const u64 xcr0 : {sse, avx}) {
            if ((offered & xcr0) != xcr0) {
                continue;
            }
            const bool wide = xcr0 == avx;
            const u64 words = wide ? 64 : 32;
            tried += for_each_here(
                {{abi::extra_bit(Extra::xsave), static_cast<u32>(xcr0)},
                 {abi::extra_bit(Extra::xsave), abi::all_components},
                 {abi::extra_bit(Extra::xsave_lazy), static_cast<u32>(xcr0)}},
                [&](const Asked& asked) {
                    client::Plan plan = cpuid_plan();
                    plan.arena_pages = 1;
                    Guest guest(host(), plan);
                    guest.state.xcr0 = xcr0;
                    guest.state.cr4 |= osfxsr;
                    constexpr u64 of_host = 0x1111'0000'0000'0000, of_guest = 0x2222'0000'0000'0000;
                    const auto run = [&](client::GuestCode code, u64 pattern, const Asked& with) {
                        guest.fill(layout::arena, pattern, 1, words, false);
                        guest.fill(layout::arena + 0x800, 0, 0, words, false);
                        guest.load(code);
                        const auto r = guest.run({.extra_count = with.count, .extras = with.extras});
                        EXPECT_EQ(r.outcome, abi::Outcome::exited);
                        EXPECT_EQ(r.reply.state.rip, layout::stop);
                        EXPECT_EQ(r.exceptions.count, 0u) << "vector " << r.exceptions.vector;
                        EXPECT_EQ(r.reply.host_changed, 0u) << "HostState bits";
                        return guest.read64(layout::arena + 0x800, words);
                    };
                    const auto pattern = [&](u64 start) {
                        std::vector<u64> due(words);
                        for (u64 i = 0; i < words; ++i) {
                            due[i] = start + i;
                        }
                        return due;
                    };
                    const Asked nothing{0, 0};
                    // Without extras the registers are the host's.
                    static_cast<void>(run(wide ? load_avx : load_sse, of_host, nothing));
                    EXPECT_EQ(run(wide ? exchange_avx : exchange_sse, of_guest, asked), pattern(of_guest))
                        << "the guest's, over exits";
                    EXPECT_EQ(run(wide ? store_avx : store_sse, 0, nothing), pattern(of_host))
                        << "the host's, behind the run";
                    EXPECT_EQ(run(wide ? store_avx : store_sse, 0, asked), pattern(of_guest))
                        << "the guest's, in the next run";
                });
        }
        if (tried == 0) {
            GTEST_SKIP() << "no XSAVE with SSE: CPUID.0DH:EAX";
        }
        combinations(tried);
    });
}

TEST_F(Ladder, what_no_world_switch_does_is_refused) {
    claim({"refhv docs/core.md", "refhv docs/core.md"}, [&] {
        const auto outcome = [&](u64 extras, u32 count) {
            Guest guest(host(), cpuid_plan());
            guest.load(one_cpuid);
            try {
                return guest.run({.extra_count = count, .extras = extras}).outcome;
            } catch (const client::Refused& refused) {
                return refused.outcome;
            }
        };
        constexpr u64 by_hand = abi::extra_bit(Extra::msr_by_hand), rsb = abi::extra_bit(Extra::rsb_fill),
                      registers = abi::extra_bit(Extra::general_registers),
                      xsave = abi::extra_bit(Extra::xsave);
        using enum abi::Outcome;
        EXPECT_EQ(outcome(registers | rsb, 0), exited) << "registers are part of every other";
        EXPECT_EQ(outcome(by_hand, 1), exited);
        EXPECT_EQ(outcome(by_hand, abi::max_extra_count), exited);
        EXPECT_EQ(outcome(by_hand, 0), bad_request);
        EXPECT_EQ(outcome(by_hand, abi::max_extra_count + 1), bad_request);
        EXPECT_EQ(outcome(by_hand, ~u32{0}), bad_request);
        EXPECT_EQ(outcome(rsb, 1), bad_request) << "it has no number";
        EXPECT_EQ(outcome(0, 1), bad_request);
        EXPECT_EQ(outcome(u64{1} << static_cast<u8>(Extra::count_), 0), bad_request);
        EXPECT_EQ(outcome(by_hand | rsb, 1), unsupported) << "two works";
        EXPECT_EQ(outcome(xsave, 0), bad_request) << "no component";
        EXPECT_EQ(outcome(xsave, 2), bad_request) << "not in the guest's XCR0";
        EXPECT_EQ(outcome(xsave, 1u << 31), unsupported) << "no such component";
        EXPECT_EQ(outcome(xsave, 1), exited);
    });
}

// The lazy switch: a #NM for each stretch between exits in which the guest uses them, and no other.
GUEST(uses_between_exits,
      "movaps %xmm0, %xmm1\n movaps %xmm1, %xmm2\n cpuid\n cpuid\n movaps %xmm0, %xmm0\n cpuid\n")

TEST_F(Ladder, lazy_switch_traps_once_between_exits) {
    claim({"SDM 3A 2.5, 6.15", "APM 2 3.1.1, 8.2.8"}, [&] {
        Guest guest(host(), cpuid_plan());
        guest.state.xcr0 = 3;
        guest.state.cr4 |= osfxsr;
        guest.load(uses_between_exits);
        const auto r = guest.run({.extra_count = 3, .extras = abi::extra_bit(Extra::xsave_lazy)});
        ASSERT_EQ(r.outcome, abi::Outcome::exited);
        EXPECT_EQ(r.reply.state.rip, layout::stop);
        EXPECT_EQ(r.count(Reason::cpuid), 3u);
        EXPECT_EQ(r.count(Reason::exception), 2u);
        EXPECT_EQ(r.exceptions.count, 0u) << "none of them is the guest's";
        EXPECT_EQ(r.reply.state.cr0, guest.state.cr0);
    });
}

} // namespace refhv::front
