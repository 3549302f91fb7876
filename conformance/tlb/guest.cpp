// SPDX-License-Identifier: MIT
// What the guest itself does to forget a translation of its own: INVLPG, INVPCID, control registers.
#include "conformance/tlb/case.hpp"

namespace refhv::front {

using client::Guest;
using client::GuestCode;

namespace {

// R10: the entry; R11: what it becomes. RBX points to an INVPCID descriptor.
#define FORGET(text) "mov (%rsi), %r8\n mov %r11, (%r10)\n" text "\n mov (%rsi), %r9\n"

GUEST(guest_invlpg, FORGET("invlpg (%rsi)"))
GUEST(guest_cr3, FORGET("mov %cr3, %rax\n mov %rax, %cr3"))
GUEST(guest_pge,
      FORGET("mov %cr4, %rax\n mov %rax, %rcx\n xor $0x80, %rcx\n mov %rcx, %cr4\n mov %rax, %cr4"))
GUEST(guest_pcide, FORGET("mov %cr4, %rax\n btr $17, %rax\n mov %rax, %cr4"))
GUEST(guest_invpcid, FORGET("invpcid (%rbx), %rax"))
// RDI: CR3 of another process, R14: CR3 of this one, both with bit 63 set, so that nothing is forgotten
// there.
GUEST(guest_other_pcid, FORGET("mov %rdi, %cr3\n invpcid (%rbx), %rax\n mov %r14, %cr3"))
GUEST(guest_back_by_cr3, FORGET("mov %rdi, %cr3\n mov %r14, %cr3"))
// The access that faults on a stale translation is 3 bytes long; the same again must not fault.
GUEST(guest_spurious,
      "mov (%rsi), %r8\n mov %r11, (%r10)\n mov %r8, (%rsi)\n mov %r8, (%rsi)\n mov (%rsi), %r9\n")

constexpr u64 pcide = 1u << 17;
constexpr u64 keep = u64{1} << 63; // MOV CR3 that need not invalidate
constexpr u64 own_pcid = 5, other_pcid = 6;
constexpr const char* control_registers = "SDM 3A 4.10.4.1";

} // namespace

class TlbGuest : public TlbInvalidation {
  protected:
    struct Way {
        GuestCode code;
        bool forgets_globals;
        u64 pcid = 0;            // CR4.PCIDE is set where it is not 0
        u64 type = 0;            // of INVPCID
        u64 descriptor_pcid = 0; // of INVPCID
        u64 cr3_back = 0;        // bits of CR3 for the way back
    };

    // A leaf and the table above it, moved and gone; as a global page too, where that must be forgotten.
    static u64 forgets(const Way& way) {
        u64 tried = 0;
        for (const bool is_global : {false, true}) {
            for (const unsigned level : {1u, 2u}) {
                for (const Change change : every_change) {
                    if (is_global && !way.forgets_globals) {
                        continue;
                    }
                    SCOPED_TRACE(std::string(name_of(change)) + " at level " + std::to_string(level) +
                                 (is_global ? ", global" : ""));
                    Guest g = guest();
                    put(g, guest_entry(1), page | page_entry | (is_global ? global : 0));
                    g.state.cr4 |= page_global_enable | (way.pcid != 0 ? pcide : 0);
                    g.state.cr3 |= way.pcid;
                    g.state.gpr[abi::r10] = guest_entry(level);
                    g.state.gpr[abi::r11] = changed_entry(level, change);
                    g.state.gpr[abi::rdi] = client::layout::pml4 | other_pcid | keep;
                    g.state.gpr[abi::r14] = client::layout::pml4 | way.pcid | way.cr3_back;
                    g.state.gpr[abi::rax] = way.type;
                    g.state.gpr[abi::rbx] = REFHV_SCRATCH;
                    put(g, REFHV_SCRATCH, way.descriptor_pcid);
                    put(g, REFHV_SCRATCH + 8, page);
                    g.load(way.code);
                    expect_visible(g.run({}), change);
                    ++tried;
                }
            }
        }
        return tried;
    }
    // INVPCID of each type, else as `way` says. The descriptor's PCID counts for types 0 and 1.
    static void forgets_by_invpcid(Way way) {
        u64 tried = 0;
        const u64 pcid_of_descriptor = way.descriptor_pcid;
        for (way.type = 0; way.type < 4; ++way.type) {
            SCOPED_TRACE("type " + std::to_string(way.type));
            way.forgets_globals = way.type == 2;
            way.descriptor_pcid = way.type < 2 ? pcid_of_descriptor : 0;
            tried += forgets(way);
        }
        combinations(tried);
    }
    [[nodiscard]] static bool has_pcid() { return (cpuid(hello(), 1, 0, 2) >> 17 & 1) != 0; }
    [[nodiscard]] static bool has_invpcid() { return (cpuid(hello(), 7, 0, 1) >> 10 & 1) != 0; }
    static constexpr const char* no_pcid = "no PCID (CPUID.1:ECX[17])";
    static constexpr const char* no_invpcid = "no INVPCID (CPUID.7:EBX[10])";
};

// INVLPG forgets its page, global or not, and what is cached of the tables above it.
TEST_F(TlbGuest, invlpg) {
    claim({control_registers, "APM 2 5.5.2"},
          [&] { combinations(forgets({.code = guest_invlpg, .forgets_globals = true})); });
}

TEST_F(TlbGuest, mov_cr3) {
    claim({control_registers, "APM 2 5.5.2"},
          [&] { combinations(forgets({.code = guest_cr3, .forgets_globals = false})); });
}

TEST_F(TlbGuest, change_of_cr4_pge) {
    claim({control_registers, "APM 2 5.5.2"}, [&] {
        constexpr u32 decode_assists =
            1u << 7; // without them a CR4 access that the host makes exit is the policy's
        if (on_svm() && (cpuid(hello(), 0x8000'000a, 0, 3) & decode_assists) == 0) {
            needs(abi::Permit::machine_checks);
        }
        combinations(forgets({.code = guest_pge, .forgets_globals = true}));
    });
}

TEST_F(TlbGuest, mov_cr3_with_pcid) {
    claim({control_registers, "APM 2 5.5.1, 5.5.2"}, [&] {
        if (!has_pcid()) {
            GTEST_SKIP() << no_pcid;
        }
        combinations(forgets({.code = guest_cr3, .forgets_globals = false, .pcid = own_pcid}));
    });
}

// There and back: the load that comes back has bit 63 clear.
TEST_F(TlbGuest, mov_cr3_back_to_a_pcid) {
    claim({control_registers, "APM 2 5.5.1, 5.5.2"}, [&] {
        if (!has_pcid()) {
            GTEST_SKIP() << no_pcid;
        }
        combinations(
            forgets({.code = guest_back_by_cr3, .forgets_globals = false, .pcid = own_pcid, .cr3_back = 0}));
    });
}

TEST_F(TlbGuest, cr4_pcide_cleared) {
    claim({control_registers, "APM 2 5.5.1, 5.5.2"}, [&] {
        if (!has_pcid()) {
            GTEST_SKIP() << no_pcid;
        }
        combinations(forgets({.code = guest_pcide, .forgets_globals = true, .pcid = own_pcid}));
    });
}

TEST_F(TlbGuest, invpcid_without_pcids) {
    claim({control_registers, "APM 2 5.5.2"}, [&] {
        if (!has_invpcid()) {
            GTEST_SKIP() << no_invpcid;
        }
        forgets_by_invpcid({.code = guest_invpcid, .forgets_globals = false});
    });
}

TEST_F(TlbGuest, invpcid_of_the_current_pcid) {
    claim({control_registers, "APM 2 5.5.2"}, [&] {
        if (!has_pcid() || !has_invpcid()) {
            GTEST_SKIP() << no_pcid << ", or " << no_invpcid;
        }
        forgets_by_invpcid(
            {.code = guest_invpcid, .forgets_globals = false, .pcid = own_pcid, .descriptor_pcid = own_pcid});
    });
}

TEST_F(TlbGuest, invpcid_of_another_pcid) {
    claim({control_registers, "APM 2 5.5.2"}, [&] {
        if (!has_pcid() || !has_invpcid()) {
            GTEST_SKIP() << no_pcid << ", or " << no_invpcid;
        }
        forgets_by_invpcid({.code = guest_other_pcid,
                            .forgets_globals = false,
                            .pcid = own_pcid,
                            .descriptor_pcid = own_pcid,
                            .cr3_back = keep});
    });
}

// A right that was added needs no invalidation: the fault that a stale translation may raise forgets it.
TEST_F(TlbGuest, page_fault) {
    claim({control_registers, "APM 2 5.5.2"}, [&] {
        constexpr u64 writable = 2;
        Guest g = guest();
        put(g, guest_entry(1), (page | page_entry) & ~writable);
        g.state.gpr[abi::r10] = guest_entry(1);
        g.state.gpr[abi::r11] = page | page_entry;
        g.load(guest_spurious);
        const auto r = g.run({.handler_advance = 3});
        ASSERT_EQ(r.outcome, abi::Outcome::exited) << r.text;
        EXPECT_EQ(static_cast<abi::Reason>(r.reply.exit.reason), abi::Reason::hlt);
        EXPECT_LE(r.exceptions.count, 1u);
        EXPECT_EQ(r.reply.state.gpr[abi::r9], old_value);
    });
}

} // namespace refhv::front
