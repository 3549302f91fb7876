// SPDX-License-Identifier: MIT
// CET state of a guest: what entries load, exits save and load, and that the guest's branches and returns are
// held to it. Whatever a guest has here, the last exit of its claim takes away.
#include "conformance/entry/cet.hpp"

#include "conformance/entry/table/rows.hpp"

namespace refhv::front {

using namespace cet;

using client::Guest;

namespace {

GUEST(guest_reads_cet, "mov $0x6a2, %ecx\n rdmsr\n mov %eax, %r8d\n shl $32, %rdx\n or %rdx, %r8\n"
                       "mov $0x6a8, %ecx\n rdmsr\n mov %eax, %r9d\n shl $32, %rdx\n or %rdx, %r9\n"
                       "xor %r10d, %r10d\n rdsspq %r10\n")
// R8 to S_CET and R9 to the interrupt SSP table; a CALL pushes on the shadow stack, but not one
// to the instruction behind it.
GUEST(guest_writes_cet, "mov $0x6a2, %ecx\n mov %r8d, %eax\n mov %r8, %rdx\n shr $32, %rdx\n wrmsr\n"
                        "mov $0x6a8, %ecx\n mov %r9d, %eax\n mov %r9, %rdx\n shr $32, %rdx\n wrmsr\n"
                        "call 1f\n nop\n 1:\n")

constexpr u64 call_bytes = 8;
constexpr Cet nothing{};

// Shadow stacks are on in each, so that RDSSPQ tells; the rest at the boundaries and at random.
[[nodiscard]] std::vector<Cet> states() {
    constexpr u64 high = 0xffff'8000'0000'0000;
    std::vector<Cet> all{{shadow_stack, stack_top, 0},
                         {shadow_stack | 0x3e, stack_top - 8, 0x7fff'ffff'ffff},
                         {shadow_stack | high, stack_top - 0x7f0, high},
                         {shadow_stack | 0x7fff'ffff'f000, stack_top + 0x7f8, ~u64{0}}};
    Random random{table_seed};
    for (unsigned i = 0; i < 4; ++i) {
        const auto canonical = [&] { return static_cast<u64>(static_cast<i64>(random()) >> 17); };
        all.push_back({shadow_stack | (canonical() & ~u64{0xfff}) | (random() & 0x3e),
                       stack_top + (random() & 0x7f8), canonical()});
    }
    return all;
}

} // namespace

TEST_F(EntryCet, vmx_entry_loads_what_the_fields_have) {
    claim({.sdm = "SDM 3C 27.3.2.1, 27.3.2.3"}, [&] {
        const auto all = states();
        CetGuest guest(guest_reads_cet);
        for (const Cet& cet : all) {
            expect_seen(guest.run(cet, nothing), cet);
        }
        combinations(all.size());
    });
}

// It does so whether the entry has loaded them or not.
TEST_F(EntryCet, vmx_exit_saves_what_the_guest_has) {
    claim({.sdm = "SDM 3C 28.3.1, 28.3.3"}, [&] {
        const auto all = states();
        CetGuest guest(guest_writes_cet);
        for (usize i = 0; i < all.size(); ++i) {
            const Cet& first = all[i];
            const Cet& then = all[(i + 1) % all.size()];
            guest.vm().state.gpr[abi::r8] = then.s_cet;
            guest.vm().state.gpr[abi::r9] = then.table;
            // The exit of a run before leaves `first` in the CPU, for the entry that does not load.
            const bool loads = i % 2 == 0;
            if (!loads) {
                expect_stopped(guest.run(first, first));
            }
            expect_stopped(guest.run(loads ? std::optional(first) : std::nullopt, nothing));
            const Cet saved = guest.saved();
            EXPECT_EQ(saved.s_cet, then.s_cet);
            EXPECT_EQ(saved.ssp, first.ssp - call_bytes);
            EXPECT_EQ(saved.table, then.table);
        }
        combinations(all.size());
    });
}

// What the exit has loaded an entry that loads nothing finds, whatever its fields have; one that loads does
// not.
TEST_F(EntryCet, vmx_exit_loads_the_hosts_and_an_entry_without_the_control_leaves_it) {
    claim({.sdm = "SDM 3C 27.3.2.1, 28.5.1, 28.5.3"}, [&] {
        const auto all = states();
        CetGuest guest(guest_reads_cet);
        for (usize i = 0; i < all.size(); ++i) {
            const Cet& hosts = all[i];
            const Cet& fields = all[(i + 3) % all.size()];
            expect_seen(guest.run(fields, hosts), fields);
            guest.put(fields);
            expect_seen(guest.run({}, nothing), hosts);
            expect_seen(guest.run(fields, nothing), fields);
        }
        combinations(all.size());
    });
}

// Without the exit control the CPU keeps what the guest had.
TEST_F(EntryCet, vmx_exit_without_the_control_leaves_the_guests) {
    claim({.sdm = "SDM 3C 28.5.1, 28.5.3"}, [&] {
        const auto all = states();
        CetGuest guest(guest_reads_cet);
        for (usize i = 0; i < all.size(); ++i) {
            const Cet& cet = all[i];
            guest.put(all[(i + 1) % all.size()], host_s_cet);
            expect_seen(guest.run(cet, {}), cet);
            guest.put(all[(i + 2) % all.size()]);
            expect_seen(guest.run({}, nothing), cet);
        }
        combinations(all.size());
    });
}

} // namespace refhv::front
