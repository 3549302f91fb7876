// SPDX-License-Identifier: MIT
// VMX: memory-mapped accesses to a virtual APIC (SDM 3C 30.4): which are virtualized under which controls,
// which exit, with which qualification, and what APIC-write emulation does behind a write.
#include "conformance/apic/access.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using Accesses = std::vector<ApicAccess>;

namespace {

GUEST(guest_reads, "mov (%rsi), %eax")

// What stands on the virtual-APIC page at each offset.
constexpr u32 pattern(u32 offset) {
    return 0xa000'0000u | offset << 8 | (offset >> 4);
}

u64 pattern_bytes(const ApicAccess& a) {
    u64 value = 0;
    for (u32 i = 0; i < a.bytes(); ++i) {
        const u32 at = a.offset + i;
        value |= u64{pattern(at & ~3u) >> at % 4 * 8 & 0xff} << 8 * i;
    }
    return value;
}

} // namespace

class ApicPages : public ApicAccesses {
  protected:
    static void fill_page(Guest& guest) {
        std::vector<u32> words;
        for (u32 offset = 0; offset < page_size; offset += 4) {
            words.push_back(pattern(offset));
        }
        guest.write(apic::page, {reinterpret_cast<const u8*>(words.data()), page_size});
    }

    // Each access of the list, alone in what it does, and the outcome that `due` says.
    template <class F>
    static void expect_outcomes(apic::Controls controls, const Accesses& accesses, F due) {
        Guest guest = prepare(accesses);
        apic::virtualize(guest, controls);
        fill_page(guest);
        const auto found = outcomes(guest, accesses);
        ASSERT_EQ(found.size(), accesses.size());
        for (usize i = 0; i < accesses.size(); ++i) {
            EXPECT_EQ(found[i], due(accesses[i])) << accesses[i];
        }
        combinations(accesses.size());
    }

    static ApicOutcome read(const ApicAccess& a) { return {Reason::none, 0, pattern_bytes(a)}; }
};

TEST_F(ApicPages, vmx_every_access_exits_without_a_tpr_shadow) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.2, 30.4.3.1"}, [&] {
        static constexpr apic::Controls needed{apic::accesses};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Accesses all = every_access(false);
        const Accesses writes = every_access(true);
        all.insert(all.end(), writes.begin(), writes.end());
        expect_outcomes(needed, all, [](const ApicAccess& a) { return exits(a); });
    });
}

TEST_F(ApicPages, vmx_reads_of_the_tpr_alone_are_virtualized_by_a_tpr_shadow) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.2"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_outcomes(needed, every_access(false), [](const ApicAccess& a) {
            return a.offset == apic::tpr && within_register(a) ? read(a) : exits(a);
        });
    });
}

TEST_F(ApicPages, vmx_reads_that_register_virtualization_lists_come_from_the_page) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.2"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::registers};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_outcomes(needed, every_access(false), [](const ApicAccess& a) {
            return is_virtual_register(a.offset, false) && within_register(a) ? read(a) : exits(a);
        });
    });
}

TEST_F(ApicPages, vmx_writes_of_the_tpr_alone_are_virtualized_by_a_tpr_shadow) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.3.1"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        expect_outcomes(needed, every_access(true), [](const ApicAccess& a) {
            return a.offset == apic::tpr && within_register(a) ? ApicOutcome{} : exits(a);
        });
    });
}

TEST_F(ApicPages, vmx_writes_that_register_virtualization_lists_exit_behind_themselves) {
    claim({.sdm = "SDM 3C 30.4.3.1 to 30.4.3.3"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::registers};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Accesses aligned; // of other writes the exit may name their register as well as their own offset
        for (const ApicAccess& a : every_access(true)) {
            if (a.offset % 16 == 0 || !is_virtual_register(a.offset, true) || !within_register(a)) {
                aligned.push_back(a);
            }
        }
        expect_outcomes(needed, aligned, [](const ApicAccess& a) {
            if (!is_virtual_register(a.offset, true) || !within_register(a)) {
                return exits(a);
            }
            return a.offset == apic::tpr || a.offset == apic::icr_high
                       ? ApicOutcome{}
                       : ApicOutcome{Reason::apic_write, a.offset, 0};
        });
    });
}

// Of writes to 0B0H and 300H that are virtualized more is said by ApicModel and ApicEoi.
TEST_F(ApicPages, vmx_writes_that_interrupt_delivery_lists_are_virtualized) {
    claim({.sdm = "SDM 3C 30.4.3.1"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Accesses dwords;
        for (u32 offset = 0; offset < page_size; offset += 4) {
            dwords.push_back({offset, 2, true});
        }
        expect_outcomes(needed, dwords, [](const ApicAccess& a) {
            switch (a.offset) {
            case apic::tpr:
            case apic::eoi:
                return ApicOutcome{};
            case apic::icr_low: // what is written there is no self-IPI
                return ApicOutcome{Reason::apic_write, apic::icr_low, 0};
            default:
                return exits(a);
            }
        });
    });
}

TEST_F(ApicPages, vmx_virtualized_writes_reach_the_page) {
    claim({.sdm = "SDM 3C 30.4.3.1, 30.4.3.2"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::registers};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Accesses all;
        for (u32 offset = 0; offset < page_size; offset += 16) {
            all.push_back({offset, 2, true});
        }
        Guest guest = prepare(all);
        apic::virtualize(guest, needed);
        fill_page(guest);
        const auto found = outcomes(guest, all);
        const auto page = guest.read64(apic::page, page_size / 8);
        constexpr u32 value = static_cast<u32>(written);
        for (const ApicAccess& a : all) {
            const u32 there = static_cast<u32>(page[a.offset / 8]);
            switch (a.offset) {
            case apic::tpr:
                EXPECT_EQ(there, value & 0xff) << "bytes 3:1 of VTPR are cleared";
                break;
            case apic::icr_high:
                EXPECT_EQ(there, value & 0xff00'0000) << "bytes 2:0 of VICR_HI are cleared";
                break;
            default:
                EXPECT_EQ(there, is_virtual_register(a.offset, true) ? value : pattern(a.offset)) << a;
            }
        }
        combinations(all.size());
    });
}

TEST_F(ApicPages, vmx_access_while_an_event_is_delivered_says_so) {
    claim({.sdm = "SDM 3C 28.2.1, 28.2.4, 30.4.1"}, [&] {
        static constexpr apic::Controls needed{apic::accesses};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u64 during_delivery = 3u << 12;
        Guest guest(host(), plan());
        guest.state.rflags = 2 | rflags_if;
        guest.state.gpr[abi::rsp] = apic::access_page + 0x800; // the frame would go there
        guest.load(client::stop_stub(abi::Mode::nested, client::Stop::hlt));
        apic::virtualize(guest, needed);
        const Event event{.type = EventType::external_interrupt, .vector = free_vector};
        inject(guest, event);
        const auto r = guest.run({});
        EXPECT_EQ(static_cast<Reason>(r.reply.exit.reason), Reason::apic_access);
        EXPECT_EQ(r.reply.exit.qualification & ~u64{0xfff}, during_delivery);
        EXPECT_EQ(r.reply.exit.vectoring & 0xffff'ffff, encode(event)) << "the event that was cut short";
    });
}

// A page table of the guest's own stands there: the CPU's walk reads it.
TEST_F(ApicPages, vmx_walk_through_the_page_exits_as_a_guest_physical_access) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.6.1"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::accesses, apic::registers};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        constexpr u64 present_and_writable = 3, access_type = 15u << 12, guest_physical = 15u << 12;
        constexpr u64 directory_entry =
            client::layout::page_directory + (REFHV_UNMAPPED - client::layout::base) / (512 * page_size) * 8;
        Guest guest(host(), plan());
        guest.state.gpr[abi::rsi] = REFHV_UNMAPPED;
        guest.load(guest_reads);
        guest.fill(directory_entry, apic::access_page | present_and_writable, 0, 1, false);
        apic::virtualize(guest, needed);
        const auto r = guest.run({});
        expect_exit(r, Reason::apic_access, client::layout::code);
        EXPECT_EQ(r.reply.exit.qualification & access_type, guest_physical);
    });
}

// Last of the file: an emulator may not survive it.
TEST_F(ApicPages, vmx_fetch_from_the_page_exits) {
    claim({.sdm = "SDM 3C 28.2.1, 30.4.2"}, [&] {
        constexpr u64 fetch = 2u << 12, offset = 0x400;
        for (const bool shadow : {false, true}) {
            static constexpr apic::Controls bare{apic::accesses},
                full{apic::tpr_shadow, apic::accesses, apic::registers};
            const apic::Controls& controls = shadow ? full : bare;
            if (const std::string why = lacking(controls); !why.empty()) {
                GTEST_SKIP() << why;
            }
            Guest guest(host(), plan());
            guest.state.rip = apic::access_page + offset;
            guest.load(client::stop_stub(abi::Mode::nested, client::Stop::hlt));
            apic::virtualize(guest, controls);
            const auto r = guest.run({});
            expect_exit(r, Reason::apic_access, apic::access_page + offset);
            EXPECT_EQ(r.reply.exit.qualification, fetch | offset);
        }
        combinations(2);
    });
}

} // namespace refhv::front
