// SPDX-License-Identifier: MIT
// Ports for test programs, QEMU's fw_cfg, PCI configuration with nothing there.
#include "conformance/test/monitor/device_harness.hpp"
#include "refhv/monitor/device/debug_port.hpp"
#include "refhv/monitor/device/fw_cfg.hpp"
#include "refhv/monitor/device/pci_config.hpp"

#include <string>

namespace refhv::monitor {
namespace {

TEST(DebugPort, exit_codes_are_odd) {
    std::vector<u32> codes;
    DebugExit port([&](u32 code) { codes.push_back(code); });
    port.write(0, 4, 0);
    port.write(0, 1, 0x10);
    port.write(1, 1, 0x20);
    EXPECT_EQ(codes, std::vector<u32>({1, 0x21}));
    EXPECT_EQ(port.read(0, 4), 0U);
}

TEST(DebugPort, console) {
    std::string text;
    DebugConsole port([&](u8 c) { text += static_cast<char>(c); });
    port.write(0, 1, 'o');
    port.write(0, 2, 0x2100 | 'k');
    port.write(1, 1, 'x');
    EXPECT_EQ(text, "ok");
    EXPECT_EQ(port.read(0, 1), 0xe9U);
    EXPECT_EQ(port.read(0, 4), 0xffff'ffe9U);
}

class FwCfgTest : public ::testing::Test {
  protected:
    u64 item(u16 key, unsigned bytes) {
        config.write(0, 2, key);
        u64 value = 0;
        for (unsigned i = 0; i < bytes; i++) {
            value |= config.read(1, 1) << (8 * i);
        }
        return value;
    }

    FwCfg config{2, 0x1'2345'6000};
};

TEST_F(FwCfgTest, items) {
    EXPECT_EQ(item(0, 4), 0x554d'4551U) << "QEMU";
    EXPECT_EQ(item(1, 4), 1U);
    EXPECT_EQ(item(3, 8), 0x1'2345'6000U);
    EXPECT_EQ(config.read(1, 1), 0U) << "behind its end";
    EXPECT_EQ(item(5, 2), 2U);
    EXPECT_EQ(item(0xf, 2), 2U);
    EXPECT_EQ(item(0x19, 4), 0U) << "no files";
    EXPECT_EQ(item(0x8003, 8), 0U);
    EXPECT_EQ(item(0x4005, 2), 2U);
    EXPECT_EQ(item(2, 8), 0U);
}

TEST_F(FwCfgTest, accesses_of_other_kinds) {
    EXPECT_EQ(item(3, 2), 0x6000U);
    config.write(0, 1, 5);
    config.write(1, 1, 5);
    EXPECT_EQ(config.read(1, 1), 0x45U) << "nothing was selected anew";
    EXPECT_EQ(config.read(0, 1), 0xffU);
}

class PciConfigTest : public ::testing::Test {
  protected:
    unsigned resets = 0;
    PciConfig pci{[this] { resets++; }};
};

TEST_F(PciConfigTest, is_there_and_nothing_behind_it) {
    pci.write(3, 1, 1); // as Linux looks for it
    pci.write(0, 4, 0x8000'0000);
    EXPECT_EQ(pci.read(0, 4), 0x8000'0000U);
    pci.write(0, 4, 0xffff'ffff);
    EXPECT_EQ(pci.read(0, 4), 0x80ff'fffcU);
    pci.write(0, 2, 0);
    EXPECT_EQ(pci.read(0, 4), 0x80ff'fffcU) << "an address is written as a whole";
    EXPECT_EQ(pci.read(4, 4), 0xffff'ffffU);
    EXPECT_EQ(pci.read(6, 2), 0xffffU);
    pci.write(4, 4, 0);
    EXPECT_EQ(pci.read(4, 4), 0xffff'ffffU);
}

TEST_F(PciConfigTest, reset_control) {
    pci.write(1, 1, 2);
    EXPECT_EQ(pci.read(1, 1), 2U);
    EXPECT_EQ(resets, 0U);
    pci.write(1, 1, 6);
    EXPECT_EQ(resets, 1U);
    pci.write(1, 1, 6);
    EXPECT_EQ(resets, 1U) << "a rise of bit 2 resets";
    pci.write(1, 1, 0xff);
    EXPECT_EQ(pci.read(1, 1), 0x0eU);
}

test::Subject config_subject() {
    return {.make = [](test::Log&) { return std::make_unique<FwCfg>(1, 1 << 30); },
            .extent = 2,
            .favourites = {0, 1}};
}

test::Subject pci_subject() {
    return {.make = [](test::Log& log) { return std::make_unique<PciConfig>([&] { log.push_back(1); }); },
            .extent = 8,
            .favourites = {0, 1}};
}

TEST(SmallDevicesRandom, survive_random_accesses) {
    test::survives_random_accesses(config_subject());
    test::survives_random_accesses(pci_subject());
    test::survives_random_accesses({.make = [](test::Log& log) {
        return std::make_unique<DebugExit>([&](u32 code) { log.push_back(code); });
    }});
    test::survives_random_accesses({.make = [](test::Log& log) {
        return std::make_unique<DebugConsole>([&](u8 code) { log.push_back(code); });
    }});
}
TEST(SmallDevicesRandom, survive_random_states) {
    test::survives_random_states(config_subject());
    test::survives_random_states(pci_subject());
}
TEST(SmallDevicesRandom, go_on_from_a_snapshot) {
    test::goes_on_from_a_snapshot(config_subject());
    test::goes_on_from_a_snapshot(pci_subject());
}

} // namespace
} // namespace refhv::monitor
