// SPDX-License-Identifier: MIT
// VMX: IPI virtualization (SDM 3C 30.1.6): a guest's WRMSR to the interrupt-command register posts the
// interrupt in the descriptor of its target, or exits behind itself. The descriptors here ask for no
// notification (SN), so that no other CPU hears of it.
#include "conformance/apic/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;

namespace {

GUEST(guest_sends, "wrmsr\n nop")
GUEST(guest_sends_only, "wrmsr")

constexpr u32 icr_msr = 0x830;

// On the spare page: the table of PID pointers, then descriptors of 64 bytes.
constexpr u64 table = apic::spare_page, first_descriptor = apic::spare_page + 0x800, descriptor_bytes = 64;
constexpr u64 control_word = 32; // of a descriptor: ON is bit 0 of it, SN bit 1
constexpr u64 outstanding = 1, suppressed = 2;
constexpr unsigned targets = 4; // number 3 has no valid pointer

struct Command {
    const char* what;
    u32 low, high;
    bool posts;
};

} // namespace

class ApicIpi : public Apic {
  protected:
    static std::string missing() { return apic::lacking_ipis(hello()); }
};

TEST_F(ApicIpi, vmx_icr_write_posts_to_a_target_or_exits) {
    claim({.sdm = "SDM 3C 30.1.6, 30.5"}, [&] {
        if (const std::string why = missing(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        const std::vector<Command> commands{{"fixed, to 0", 0x41, 0, true},
                                            {"fixed, to 2", 0xe1, 2, true},
                                            {"to a target without a pointer", 0x41, 3, false},
                                            {"to a target behind the table", 0x41, targets, false},
                                            {"a vector below 16", 0x0f, 1, false},
                                            {"lowest priority", 0x141, 1, false},
                                            {"NMI", 0x441, 1, false},
                                            {"logical destination", 0x841, 1, false},
                                            {"level-triggered", 0x8041, 1, false},
                                            {"to all but itself", 0xc0041, 1, false}};
        for (const Command& c : commands) {
            SCOPED_TRACE(c.what);
            Guest guest(host(), plan());
            guest.state.gpr[abi::rcx] = icr_msr;
            guest.state.gpr[abi::rax] = c.low;
            guest.state.gpr[abi::rdx] = c.high;
            guest.load(guest_sends);
            apic::virtualize_ipis(guest, table, targets);
            for (unsigned i = 0; i < targets; ++i) {
                const u64 at = first_descriptor + i * descriptor_bytes;
                guest.fill(at, 0, 0, descriptor_bytes / 8, false);
                guest.fill(at + control_word, suppressed, 0, 1, false);
                if (i + 1 < targets) {
                    apic::point_to(guest, table, i, guest.host_physical(at));
                }
            }
            const auto r = guest.run({});
            if (c.posts) {
                expect_stopped(r);
                EXPECT_EQ(r.reply.entries, 1u) << "no exit but the stop";
            } else {
                expect_exit(r, Reason::apic_write, code + guest_sends_only.size());
                EXPECT_EQ(r.reply.exit.qualification, apic::icr_low);
            }
            EXPECT_EQ(r.exceptions.count, 0u);
            for (unsigned i = 0; i < targets; ++i) {
                const auto words =
                    guest.read64(first_descriptor + i * descriptor_bytes, descriptor_bytes / 8);
                const unsigned vector = c.low & 0xff;
                for (unsigned w = 0; w < 4; ++w) {
                    const bool here = c.posts && c.high == i && vector / 64 == w;
                    EXPECT_EQ(words[w], here ? u64{1} << vector % 64 : 0) << "PIR of target " << i;
                }
                EXPECT_EQ(words[4] & (outstanding | suppressed), suppressed)
                    << "nothing outstanding where SN is set";
            }
        }
        combinations(commands.size());
    });
}

} // namespace refhv::front
