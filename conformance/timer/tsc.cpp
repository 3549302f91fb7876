// SPDX-License-Identifier: MIT
// TSC offset and TSC multiplier in every instruction that reads the TSC; RDTSC exiting goes first.
#include "conformance/intr/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
namespace layout = client::layout;

namespace {

#define STORE_RAX_RDX(where)                                                                                 \
    "shl $32, %rdx\n or %rdx, %rax\n mov %rax, " REFHV_ASM(REFHV_SCRATCH) "+" where "\n"

GUEST(guest_rdtsc, "rdtsc\n" STORE_RAX_RDX("0"))
GUEST(guest_rdtscp, "rdtscp\n" STORE_RAX_RDX("0"))
GUEST(guest_rdmsr_tsc, "mov $0x10, %ecx\n rdmsr\n" STORE_RAX_RDX("0"))
GUEST(guest_rdtsc_only, "rdtsc")

constexpr u32 tsc_msr = 0x10;
constexpr u32 vmx_tsc_offset = 0x2010, vmx_tsc_multiplier = 0x2032;
constexpr unsigned multiplier_fraction = 48; // SDM 3C 25.6.5
constexpr u32 svm_ratio = 0xc000'0104;
constexpr unsigned svm_ratio_fraction = 32; // APM 2 15.30.5

struct Reading {
    const char* name;
    client::GuestCode code;
};

constexpr u64 offsets[] = {0, 1, u64{1} << 40, ~u64{0} - 999, u64{1} << 63};

} // namespace

class TimerTsc : public Intr {
  protected:
    static std::vector<Reading> readings() {
        std::vector<Reading> out{{"RDTSC", guest_rdtsc}, {"RDMSR", guest_rdmsr_tsc}};
        if ((cpuid(hello(), 0x8000'0001, 0, 3) >> 27 & 1) != 0) {
            out.push_back({"RDTSCP", guest_rdtscp});
        }
        return out;
    }
    static bool no_offset() { return on_vmx() && !offers(vmcs::proc_controls, vmcs::proc_tsc_offsetting); }

    static client::Plan plan() {
        client::Plan p;
        p.msrs.push_back({.vm = 0, .msr = tsc_msr, .read = 0, .write = 1, .zero = {}});
        return p;
    }

    struct Seen {
        u64 begin, guest, end;
    };
    static Seen seen_by(Guest& guest) {
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u);
        return {r.reply.tsc_begin, guest.read64(REFHV_SCRATCH, 1)[0], r.reply.tsc_end};
    }
    // What the guest read, and the host before and after it.
    static Seen read_through(const Reading& reading, u64 offset, u64 controls, u64 controls2 = 0,
                             u64 multiplier = 0) {
        Guest guest(host(), plan());
        guest.load(reading.code);
        if (on_svm()) {
            guest.field(vmcb::tsc_offset, 8, offset);
        } else {
            change(guest, vmcs::proc_controls, controls);
            guest.field(vmx_tsc_offset, 8, offset);
        }
        if (controls2 != 0) {
            change(guest, vmcs::secondary_controls, controls2);
            guest.field(vmx_tsc_multiplier, 8, multiplier);
        }
        return seen_by(guest);
    }

    static Seen read_under(const Reading& reading, u64 offset, u64 ratio) {
        Guest guest(host(), plan());
        guest.load(reading.code);
        guest.field(vmcb::tsc_offset, 8, offset);
        guest.field(svm_ratio, 8, ratio);
        return seen_by(guest);
    }
    static u64 scaled(u64 tsc, u64 by, unsigned fraction) {
        return static_cast<u64>(static_cast<unsigned __int128>(tsc) * by >> fraction);
    }

    // begin + offset <= guest <= end + offset, modulo 2^64.
    static void expect_between(const Seen& seen, u64 offset) {
        EXPECT_LE(seen.guest - offset - seen.begin, seen.end - seen.begin)
            << "guest " << seen.guest << ", host " << seen.begin << " to " << seen.end;
    }
    void expect_offset(const char* only, bool invert = false) {
        u64 tried = 0;
        for (const Reading& reading : readings()) {
            if ((std::string(reading.name) == only) == invert) {
                continue;
            }
            for (const u64 offset : offsets) {
                SCOPED_TRACE(testing::Message() << reading.name << ", offset " << offset);
                expect_between(read_through(reading, offset, vmcs::proc_tsc_offsetting), offset);
                ++tried;
            }
        }
        combinations(tried);
    }
};

TEST_F(TimerTsc, offset_is_added_to_rdtsc_and_rdtscp) {
    claim({"SDM 3C 25.6.5, 26.3", "APM 2 15.30.5, appendix B"}, [&] {
        if (no_offset()) {
            GTEST_SKIP() << "no TSC offsetting";
        }
        expect_offset("RDMSR", true);
    });
}

TEST_F(TimerTsc, offset_is_added_to_rdmsr_of_the_tsc) {
    claim({"SDM 3C 25.6.5, 26.3", "APM 2 15.30.5"}, [&] {
        if (no_offset()) {
            GTEST_SKIP() << "no TSC offsetting";
        }
        expect_offset("RDMSR");
    });
}

TEST_F(TimerTsc, vmx_offset_without_its_control_is_nothing) {
    claim({.sdm = "SDM 3C 26.3"}, [&] {
        for (const Reading& reading : readings()) {
            SCOPED_TRACE(reading.name);
            expect_between(read_through(reading, u64{1} << 40, 0), 0);
        }
        combinations(readings().size());
    });
}

// The product is taken with 48 bits of fraction, then the offset is added.
TEST_F(TimerTsc, vmx_multiplier_scales_before_the_offset) {
    claim({.sdm = "SDM 3C 25.6.5, 26.3"}, [&] {
        if (no_offset() || !offers(vmcs::secondary_controls, vmcs::proc2_tsc_scaling)) {
            GTEST_SKIP() << "no TSC scaling";
        }
        u64 tried = 0;
        for (const u64 multiplier : {u64{1} << multiplier_fraction, u64{3} << (multiplier_fraction - 1),
                                     u64{1} << (multiplier_fraction - 4), u64{5} << multiplier_fraction}) {
            for (const Reading& reading : readings()) {
                for (const u64 offset : {u64{0}, u64{1} << 40}) {
                    SCOPED_TRACE(testing::Message()
                                 << reading.name << ", multiplier " << multiplier << ", offset " << offset);
                    const Seen seen = read_through(reading, offset, vmcs::proc_tsc_offsetting,
                                                   vmcs::proc2_tsc_scaling, multiplier);
                    expect_between({scaled(seen.begin, multiplier, multiplier_fraction), seen.guest,
                                    scaled(seen.end, multiplier, multiplier_fraction)},
                                   offset);
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

TEST_F(TimerTsc, vmx_multiplier_without_offsetting_is_nothing) {
    claim({.sdm = "SDM 3C 25.6.5, 26.3"}, [&] {
        if (!offers(vmcs::secondary_controls, vmcs::proc2_tsc_scaling)) {
            GTEST_SKIP() << "no TSC scaling";
        }
        for (const Reading& reading : readings()) {
            SCOPED_TRACE(reading.name);
            expect_between(
                read_through(reading, 0, 0, vmcs::proc2_tsc_scaling, u64{5} << multiplier_fraction), 0);
        }
        combinations(readings().size());
    });
}

// The product is taken with 32 bits of fraction, then the offset is added.
TEST_F(TimerTsc, svm_ratio_scales_before_the_offset) {
    claim({.apm = "APM 2 15.30.5"}, [&] {
        if ((cpuid(hello(), 0x8000'000a, 0, 3) >> 4 & 1) == 0) {
            GTEST_SKIP() << "no TSC ratio: CPUID.8000000AH:EDX[4] is 0";
        }
        constexpr u64 one = u64{1} << svm_ratio_fraction;
        u64 tried = 0;
        for (const u64 ratio : {one, one + one / 2, one / 16, 5 * one}) {
            for (const Reading& reading : readings()) {
                for (const u64 offset : {u64{0}, u64{1} << 40}) {
                    SCOPED_TRACE(testing::Message()
                                 << reading.name << ", ratio " << ratio << ", offset " << offset);
                    const Seen seen = read_under(reading, offset, ratio);
                    expect_between({scaled(seen.begin, ratio, svm_ratio_fraction), seen.guest,
                                    scaled(seen.end, ratio, svm_ratio_fraction)},
                                   offset);
                    ++tried;
                }
            }
        }
        combinations(tried);
    });
}

// Neither the offset nor the multiplier outlasts the guest: the host's readings around guests with and
// without them are those of one clock.
TEST_F(TimerTsc, hosts_tsc_is_its_own_behind_any_guest) {
    claim({"SDM 3C 25.6.5, 26.3", "APM 2 15.30.5"}, [&] {
        if (no_offset()) {
            GTEST_SKIP() << "no TSC offsetting";
        }
        constexpr u64 seconds = u64{1} << 38; // of any clock, for a few short runs
        const bool scales = on_vmx() ? offers(vmcs::secondary_controls, vmcs::proc2_tsc_scaling)
                                     : (cpuid(hello(), 0x8000'000a, 0, 3) >> 4 & 1) != 0;
        const Reading reading = readings().front();
        const u64 one = u64{1} << (on_vmx() ? multiplier_fraction : svm_ratio_fraction);
        u64 before = read_through(reading, 0, 0).begin, tried = 0;
        for (const u64 offset : {u64{1} << 50, ~u64{0} << 50, u64{1} << 63}) {
            for (const u64 multiplier : {one, 7 * one, one / 8}) {
                if (multiplier != one && !scales) {
                    continue;
                }
                SCOPED_TRACE(testing::Message() << "offset " << offset << ", multiplier " << multiplier);
                const Seen seen =
                    on_svm() && scales
                        ? read_under(reading, offset, multiplier)
                        : read_through(reading, offset, vmcs::proc_tsc_offsetting,
                                       multiplier != one ? vmcs::proc2_tsc_scaling : 0, multiplier);
                const Seen plain = read_through(reading, 0, 0);
                EXPECT_LE(seen.begin - before, seconds) << "in front of the guest";
                EXPECT_LE(seen.end - seen.begin, seconds) << "behind it";
                EXPECT_LE(plain.begin - seen.end, seconds) << "in front of the next";
                EXPECT_GT(seen.guest - plain.begin, seconds) << "it did change the guest's";
                expect_between(plain, 0);
                before = plain.end;
                ++tried;
            }
        }
        combinations(tried);
    });
}

TEST_F(TimerTsc, rdtsc_exits_whether_offset_or_not) {
    claim({"SDM 3C 26.3", "APM 2 15.9"}, [&] {
        client::Plan p = plan();
        p.intercepts = client::on(abi::Intercept::rdtsc);
        for (const u64 offset : {u64{0}, u64{1} << 40}) {
            Guest guest(host(), p);
            guest.state.gpr[abi::rax] = 0x1234;
            guest.load(guest_rdtsc_only);
            if (on_svm()) {
                guest.field(vmcb::tsc_offset, 8, offset);
            } else {
                change(guest, vmcs::proc_controls, no_offset() ? 0 : vmcs::proc_tsc_offsetting);
                guest.field(vmx_tsc_offset, 8, offset);
            }
            const auto r = guest.run({});
            expect_exit(r, Reason::rdtsc, layout::code);
            EXPECT_EQ(r.reply.state.gpr[abi::rax], 0x1234u) << "not executed";
        }
        combinations(2);
    });
}

} // namespace refhv::front
