// SPDX-License-Identifier: MIT
// The monitor's parts that need no machine: the bus, the CPU that a guest sees, its MSRs, ports in both
// vendors' words, the clock, ACPI tables.
#include "refhv/monitor/acpi.hpp"
#include "refhv/monitor/bus.hpp"
#include "refhv/monitor/clock.hpp"
#include "refhv/monitor/msr.hpp"
#include "refhv/monitor/port_access.hpp"
#include "refhv/x86/registers.hpp"

#include <array>
#include <cstring>
#include <gtest/gtest.h>
#include <numeric>

namespace refhv::monitor {
namespace {

struct Registers final : Device {
    std::array<u8, 8> bytes{};
    unsigned largest = 8;

    u64 read(u64 offset, unsigned size) override {
        u64 value = 0;
        std::memcpy(&value, bytes.data() + offset, size);
        return value;
    }
    void write(u64 offset, unsigned size, u64 value) override {
        std::memcpy(bytes.data() + offset, &value, size);
    }
    std::span<std::byte> state() override { return std::as_writable_bytes(std::span(bytes)); }
};

TEST(Bus, an_access_goes_to_the_device_that_has_it_whole) {
    Registers a, b;
    Bus bus;
    bus.attach(0x100, 8, a);
    bus.attach(0x200, 2, b, 4); // its registers 4 and 5
    bus.write(0x104, 4, 0x11223344);
    EXPECT_EQ(bus.read(0x104, 4), 0x11223344u);
    bus.write(0x200, 2, 0xaabb);
    EXPECT_EQ(b.bytes[4], 0xbb);
    EXPECT_EQ(b.bytes[5], 0xaa);
}

TEST(Bus, what_nobody_has_is_all_ones_and_takes_no_write) {
    Registers a;
    Bus bus;
    bus.attach(0x100, 2, a);
    bus.write(0x300, 4, 1);
    EXPECT_EQ(bus.read(0x300, 1), 0xffu);
    EXPECT_EQ(bus.read(0x300, 8), ~u64{0});
    EXPECT_EQ(bus.read(0xffff, 2), 0xffffu) << "beyond the last port";
    bus.write(0x101, 2, 0x1234); // half of it is a's
    EXPECT_EQ(a.bytes[1], 0x34);
    EXPECT_EQ(bus.read(0x101, 2), 0xff34u);
}

TEST(PortAccess, both_vendors_words) {
    abi::Exit exit{};
    exit.qualification = 0x03f8'0000 | 1 | 1u << 3; // SDM 3C table 28-5: two bytes, IN
    const auto vmx = PortAccess::of(exit, abi::Vendor::vmx);
    EXPECT_EQ(vmx.port, 0x3f8);
    EXPECT_EQ(vmx.size, 2u);
    EXPECT_TRUE(vmx.in);
    EXPECT_FALSE(vmx.string);
    exit.qualification = 0x03f8'0000 | 1u << 6 | 1u << 2 | 1u << 3; // APM 2 15.10.2: OUTSD with REP
    const auto svm = PortAccess::of(exit, abi::Vendor::svm);
    EXPECT_EQ(svm.port, 0x3f8);
    EXPECT_EQ(svm.size, 4u);
    EXPECT_FALSE(svm.in);
    EXPECT_TRUE(svm.string);
    EXPECT_TRUE(svm.repeated);
}

TEST(Clock, ticks_are_time_and_a_pause_is_none) {
    Clock clock(2'000'000'000);
    clock.come_to(5'000);
    EXPECT_EQ(clock.now(), 0u);
    clock.come_to(7'000);
    EXPECT_EQ(clock.now(), 1'000u);
    clock.pause();
    clock.come_to(1'000'000);
    EXPECT_EQ(clock.now(), 1'000u);
    clock.come_to(1'000'200);
    EXPECT_EQ(clock.now(), 1'100u);
    EXPECT_EQ(clock.to_ticks(1), 2u);
    EXPECT_EQ(Clock(3).to_ticks(1), 1u) << "rounded up: a wait ends behind its moment";
    EXPECT_EQ(Clock(0).to_ticks(77), 77u) << "no rate is known";
    clock.come_to(500); // a TSC that went back
    EXPECT_GE(clock.now(), 1'100u);
}

client::HelloInfo hello_of(std::initializer_list<abi::CpuidLeaf> leaves) {
    client::HelloInfo hello;
    hello.cpuid = leaves;
    return hello;
}

// A CPU that has everything.
client::HelloInfo rich() {
    constexpr u32 all = ~u32{0};
    return hello_of({{0, 0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69},
                     {1, 0, 0x50654, all, all, all},
                     {7, 0, 2, all, all, all},
                     {0xd, 0, 0x602e7, 0x1000, 0x2b00, 0},
                     {0xd, 1, 0xf, 0x1000, 0x1900, 0},
                     {0xd, 2, 256, 576, 0, 0},
                     {0xd, 5, 64, 1088, 0, 0},
                     {0xd, 6, 512, 1152, 0, 0},
                     {0xd, 7, 1024, 1664, 0, 0},
                     {0xd, 9, 8, 2688, 0, 0},
                     {0x8000'0000, 0, 0x8000'0028, 0, 0, 0},
                     {0x8000'0001, 0, all, all, all, all},
                     {0x8000'0008, 0, 0x3930, all, all, all},
                     {0x8000'000a, 0, all, all, all, all}});
}

TEST(CpuModel, what_the_monitor_does_not_offer_is_not_there) {
    const CpuModel cpu(rich(), false);
    const abi::GuestState s{};
    const auto bit = [](u32 value, unsigned n) { return (value >> n & 1) != 0; };
    const auto features = cpu.leaf(1, 0, s);
    for (const unsigned n :
         {3u, 5u, 21u, 24u, 27u, 17u}) { // MONITOR, VMX, x2APIC, TSC deadline, OSXSAVE, PCID
        EXPECT_FALSE(bit(features.ecx, n)) << n;
    }
    EXPECT_TRUE(bit(features.ecx, 31)) << "it says that it is a guest";
    EXPECT_FALSE(bit(features.edx, 9)) << "no APIC on this board";
    EXPECT_TRUE(bit(CpuModel(rich(), true).leaf(1, 0, s).edx, 9));
    EXPECT_FALSE(bit(features.edx, 12)) << "MTRR";
    const auto extended = cpu.leaf(0x8000'0001, 0, s);
    EXPECT_FALSE(bit(extended.ecx, 2)) << "SVM";
    EXPECT_TRUE(bit(extended.edx, 29)) << "long mode";
    EXPECT_EQ(cpu.leaf(0x8000'000a, 0, s).eax, 0u) << "beyond the highest leaf";
    EXPECT_EQ(cpu.leaf(0x1f, 0, s).eax, 0u);
    EXPECT_EQ(cpu.leaf(0x8000'0000, 0, s).eax, 0x8000'0008u);
    EXPECT_EQ(cpu.leaf(7, 1, s).eax, 0u);
    EXPECT_EQ(cpu.leaf(7, 0, s).edx & (1u << 26 | 1u << 20 | 1u << 29), 0u)
        << "SPEC_CTRL, CET, ARCH_CAPABILITIES";
}

TEST(CpuModel, xsave_is_as_large_as_what_is_on) {
    const CpuModel cpu(rich(), false);
    EXPECT_EQ(cpu.components(), 0xe7u) << "not PKRU and AMX";
    abi::GuestState s{};
    s.xcr0 = 3;
    EXPECT_EQ(cpu.leaf(0xd, 0, s).ebx, 576u);
    EXPECT_EQ(cpu.leaf(0xd, 0, s).ecx, 2688u);
    s.xcr0 = 7;
    EXPECT_EQ(cpu.leaf(0xd, 0, s).ebx, 832u);
    EXPECT_EQ(cpu.leaf(0xd, 9, s).eax, 0u);
    EXPECT_EQ(cpu.leaf(0xd, 1, s).eax, 7u) << "no XSAVES";
    s.cr4 = x86::cr4::osxsave;
    EXPECT_TRUE((cpu.leaf(1, 0, s).ecx >> 27 & 1) != 0) << "OSXSAVE is CR4's bit";
}

TEST(CpuModel, a_cpu_without_xsave_has_no_avx_either) {
    const CpuModel cpu(
        hello_of({{0, 0, 7, 0, 0, 0}, {1, 0, 0, 0, ~u32{0} & ~(1u << 27), 0}, {7, 0, 0, ~u32{0}, 0, 0}}),
        false);
    const abi::GuestState s{};
    EXPECT_EQ(cpu.components(), 0u);
    EXPECT_EQ(cpu.leaf(1, 0, s).ecx & (1u << 26 | 1u << 28), 0u);
    EXPECT_EQ(cpu.leaf(7, 0, s).ebx & (1u << 5 | 1u << 16), 0u);
}

TEST(Msr, state_is_read_and_written_and_the_rest_faults) {
    const CpuModel cpu(rich(), false);
    abi::GuestState s{};
    EXPECT_TRUE(write_msr(x86::msr::lstar, 0xffff'8000'0000'1000, s, cpu));
    EXPECT_EQ(s.lstar, 0xffff'8000'0000'1000);
    EXPECT_EQ(read_msr(x86::msr::lstar, s, 0), 0xffff'8000'0000'1000);
    EXPECT_FALSE(write_msr(x86::msr::lstar, u64{1} << 47, s, cpu)) << "not canonical";
    EXPECT_FALSE(write_msr(x86::msr::fs_base, u64{1} << 63, s, cpu));
    EXPECT_TRUE(write_msr(x86::msr::fs_base, 0x1234, s, cpu));
    EXPECT_EQ(s.segment[abi::fs].base, 0x1234u);
    EXPECT_FALSE(write_msr(x86::msr::pat, 0x02, s, cpu)) << "no memory type";
    EXPECT_TRUE(write_msr(x86::msr::pat, 0x0407'0105'0600'0406, s, cpu));
    EXPECT_FALSE(write_msr(x86::msr::tsc_aux, u64{1} << 32, s, cpu));
    EXPECT_EQ(read_msr(x86::msr::tsc, s, 99), 99u);
    EXPECT_EQ(read_msr(0x480, s, 0), std::nullopt) << "VMX is not offered";
    EXPECT_FALSE(write_msr(x86::msr::vm_cr, 0, s, cpu));
    EXPECT_EQ(read_msr(x86::msr::feature_control, s, 0), std::nullopt);
}

TEST(Msr, efer_keeps_its_rules) {
    using namespace x86::efer;
    const CpuModel cpu(rich(), false);
    abi::GuestState s{};
    EXPECT_TRUE(write_msr(x86::msr::efer, lme | nxe | sce, s, cpu));
    EXPECT_FALSE(write_msr(x86::msr::efer, svme, s, cpu));
    EXPECT_TRUE(write_msr(x86::msr::efer, lme | lma, s, cpu));
    EXPECT_EQ(s.efer, lme) << "LMA is the CPU's";
    s.cr0 = x86::cr0::pg;
    s.efer = lme | lma;
    EXPECT_FALSE(write_msr(x86::msr::efer, 0, s, cpu)) << "LME under paging";
    EXPECT_TRUE(write_msr(x86::msr::efer, lme | sce, s, cpu));
    EXPECT_EQ(s.efer, lme | lma | sce);
}

TEST(Acpi, every_table_adds_up_and_is_found_from_the_root) {
    for (const bool apic : {false, true}) {
        constexpr u32 at = 0xe'0000;
        const auto all = make_acpi_tables({0x600, 0x604, 0x608, 9, 5, {{0xd000'0000, 0x200, 16}}, apic}, at);
        const auto sum = [&](u64 from, u64 bytes) {
            return static_cast<u8>(std::accumulate(all.begin() + static_cast<long>(from),
                                                   all.begin() + static_cast<long>(from + bytes), 0u));
        };
        const auto word = [&](u64 offset) {
            u32 value = 0;
            std::memcpy(&value, all.data() + offset, sizeof value);
            return value;
        };
        EXPECT_EQ(std::memcmp(all.data(), "RSD PTR ", 8), 0);
        EXPECT_EQ(sum(0, 20), 0);
        EXPECT_EQ(sum(0, 36), 0);
        const u32 xsdt = word(24) - at;
        ASSERT_LT(xsdt, all.size());
        EXPECT_EQ(std::memcmp(all.data() + xsdt, "XSDT", 4), 0);
        const u32 tables = (word(xsdt + 4) - 36) / 8;
        EXPECT_EQ(tables, apic ? 2u : 1u);
        for (u32 i = 0; i < tables; ++i) {
            const u32 table = word(xsdt + 36 + 8 * i) - at;
            ASSERT_LT(table + word(table + 4), all.size() + 1);
            EXPECT_EQ(sum(table, word(table + 4)), 0) << i;
        }
        const u32 fadt = word(xsdt + 36) - at, dsdt = word(fadt + 40) - at;
        EXPECT_EQ(std::memcmp(all.data() + dsdt, "DSDT", 4), 0);
        EXPECT_EQ(sum(dsdt, word(dsdt + 4)), 0);
        EXPECT_EQ(word(fadt + 64), 0x604u);
    }
}

} // namespace
} // namespace refhv::monitor
