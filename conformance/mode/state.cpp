// SPDX-License-Identifier: MIT
// State that goes in with an entry and comes out with the exit, field by field.
#include "conformance/mode/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

const Section section{"SDM 3C 28.3.1, 28.3.2, 28.3.3", "APM 2 15.5.1, 15.6"};

// Values for a segment register that the checks on guest state take (SDM 3C 27.3.1.2).
void randomize(abi::Segment& s, Kind kind, bool is_data, std::mt19937_64& random) {
    if (kind == Kind::v86) {
        s.selector = static_cast<u16>(random());
        s.base = u64{s.selector} << 4;
        return;
    }
    if (!is_data) {
        return;
    }
    const u32 dpl = machine::is_user(kind) ? 3 : 0;
    s.selector = static_cast<u16>((random() & ~u64{3}) | dpl);
    s.base = machine::is_64(kind) ? random() & 0x7fff'ffff'ffff : static_cast<u32>(random());
    if (kind == Kind::real || (random() & 1) == 0) {
        s.limit = static_cast<u32>(random()) & 0xf'ffff;
        s.rights &= ~0x8000u;
    } else {
        s.limit = static_cast<u32>(random()) | 0xfff;
        s.rights |= 0x8000;
    }
    constexpr u32 available = 1u << 12, wide = 1u << 14;
    s.rights = (s.rights & ~(available | wide)) | (static_cast<u32>(random()) & (available | wide));
}

void randomize(abi::GuestState& s, Kind kind, std::mt19937_64& random, bool on_vmx) {
    for (unsigned r = 0; r < 16; ++r) {
        s.gpr[r] = machine::is_64(kind) ? random() : static_cast<u32>(random());
    }
    for (const auto seg : {abi::es, abi::ds, abi::fs, abi::gs}) {
        const bool wide = machine::is_64(kind) && (seg == abi::fs || seg == abi::gs);
        randomize(s.segment[seg], kind, on_vmx || wide || !machine::is_64(kind), random);
        if (!wide) {
            s.segment[seg].base = static_cast<u32>(s.segment[seg].base);
        }
    }
    s.rflags |= random() & 0x20'0cd5; // ID, OF, DF, SF, ZF, AF, PF, CF
    s.gdtr.limit = random() & 0xffff;
    s.idtr.limit = (random() & 0xfff) | 0xfff;
    s.gdtr.base = static_cast<u32>(random());
    s.idtr.base = static_cast<u32>(random());
}

} // namespace

void GuestMode::hold_state_of(const std::vector<Kind>& modes, Prober& prober) {
    constexpr unsigned most = 4;
    std::vector<Row> rows;
    std::mt19937_64 random(20240301);
    for (const Kind kind : modes) {
        for (unsigned i = 0; i < most; ++i) {
            Probe p(named(kind, "random state " + std::to_string(i)), kind, {0x90});
            if (i != 0) {
                randomize(p.state, kind, random, on_vmx());
            }
            const Due due = runs(p, on_vmx());
            rows.push_back({std::move(p), due});
        }
    }
    hold_rows(prober, rows, section_of(section));
}

TEST_F(GuestMode, state_is_saved_as_it_was_loaded) {
    claim(section, [&] {
        Prober prober(host());
        hold_state_of(kinds(prober), prober);
    });
}

TEST_F(GuestMode, vmx_real_mode_keeps_the_rights_of_cs) {
    claim({.sdm = "SDM 3C 27.3.2.2, 28.3.2"}, [&] {
        Prober prober(host());
        if (!prober.has_unrestricted()) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        std::vector<Row> rows;
        for (const u32 rights : {0x93u, 0x9bu, 0x99u, 0x409bu}) {
            Probe p("rights of CS in real mode", Kind::real, {0x90});
            p.state.segment[abi::cs].rights = rights;
            const Due due = runs(p, true);
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, "SDM 3C 27.3.2.2, 28.3.2");
    });
}

// Without unrestricted guests the RPL of CS is its DPL's by other rules; with them nothing says so.
TEST_F(GuestMode, vmx_real_mode_cs_is_any_multiple_of_16) {
    claim({.sdm = "SDM 3C 27.3.1.2"}, [&] {
        Prober prober(host());
        if (!prober.has_unrestricted()) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        std::vector<Row> rows;
        for (u64 low = 0; low < 4; ++low) {
            Probe p("CS selector with RPL " + std::to_string(low), Kind::real, {0x90});
            abi::Segment& cs = p.state.segment[abi::cs];
            cs.rights = 0x9b;
            cs.selector = static_cast<u16>(cs.selector + low);
            cs.base += low << 4;
            p.state.rip -= low << 4;
            Due due = runs(p, true);
            due.rights = false;
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, "SDM 3C 27.3.1.2");
    });
}

} // namespace refhv::front
