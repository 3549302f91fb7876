// SPDX-License-Identifier: MIT
// A PC, as small as operating systems and test kernels take it: which devices there are, where, and how their
// interrupts go to the CPU.
#pragma once

#include "refhv/monitor/acpi.hpp"
#include "refhv/monitor/bus.hpp"
#include "refhv/monitor/device/acpi_pm.hpp"
#include "refhv/monitor/device/debug_port.hpp"
#include "refhv/monitor/device/fw_cfg.hpp"
#include "refhv/monitor/device/io_apic.hpp"
#include "refhv/monitor/device/keyboard.hpp"
#include "refhv/monitor/device/local_apic.hpp"
#include "refhv/monitor/device/pci_config.hpp"
#include "refhv/monitor/device/pic_pair.hpp"
#include "refhv/monitor/device/pit.hpp"
#include "refhv/monitor/device/rtc.hpp"
#include "refhv/monitor/device/test_device.hpp"
#include "refhv/monitor/device/uart.hpp"
#include "refhv/monitor/device/virtio_block.hpp"
#include "refhv/monitor/device/virtio_console.hpp"
#include "refhv/monitor/ending.hpp"

#include <utility>

namespace refhv::monitor {

class Vm;

class Board {
  public:
    struct Options {
        std::function<void(u8)> console; // what the UART at 3F8H sends, and what goes to ports E9H and 402H
        u64 memory_bytes = 0;
        i64 epoch = 0;                         // seconds since 1970, of the clock's 0
        std::shared_ptr<const BlockBase> disk; // of the virtio disk; what the machine writes is its own
        bool read_only = false;                // the disk
        bool virtio_console = false;           // writes to `console`, too
        bool apic = true;                      // local APIC and I/O APIC; else the 8259 pair alone
        unsigned address_bits = 36;            // LocalApic::Outside
        std::function<Time(u64)> time_of_tsc;  // LocalApic::Outside
    };
    Board(Options options, GuestMemory& memory);

    // Who is told that the machine has ended.
    void on_end(std::function<void(Ending::How, int)> told) { end_ = std::move(told); }

    // Puts the ACPI tables into memory; the address of their root.
    [[nodiscard]] u64 place_firmware(Vm& vm) const;

    [[nodiscard]] Bus& ports() { return ports_; }
    [[nodiscard]] Bus& memory() { return memory_; }
    [[nodiscard]] bool has_apic() const { return options_.apic; }

    // RDMSR and WRMSR of what the board has. Nothing: another's; else the value, or whether it was taken.
    struct MsrValue {
        bool ok; // false: #GP
        u64 value;
    };
    [[nodiscard]] std::optional<MsrValue> read_msr(u32 index);
    [[nodiscard]] std::optional<bool> write_msr(u32 index, u64 value);

    // The clock has come to `now`; when a device next acts by itself.
    void pass(Time now);
    [[nodiscard]] std::optional<Time> due() const;

    // The vector that waits for the CPU; it has been taken.
    [[nodiscard]] std::optional<u8> interrupt() const;
    void acknowledge();
    // An NMI waits; it is asked for once.
    [[nodiscard]] bool take_nmi() { return std::exchange(nmi_, false); }

    // CR8 is bits 7:4 of the local APIC's task priority. Without one the board does not look at it.
    void set_cr8(u64 cr8);
    [[nodiscard]] std::optional<u64> cr8() const;

  private:
    void attach();
    void attach_virtio(GuestMemory& memory);
    template <class Virtio, class... Rest>
    void add_virtio(std::unique_ptr<Virtio>& device, GuestMemory& memory, Rest&&... rest);
    enum class Source : u8 {
        none,
        pic,
        apic,
    };
    [[nodiscard]] std::pair<Source, u8> waiting() const;
    void raise(unsigned irq, bool level);
    void signal(Delivery delivery);
    void sleep(u8 type);
    void end(Ending::How how, int code);

    Options options_;
    std::function<void(Ending::How, int)> end_;
    bool nmi_ = false;

    PicPair pic_;
    LocalApic local_apic_;
    IoApic io_apic_;
    Uart uart_;
    Pit pit_;
    Rtc rtc_;
    AcpiPm pm_;
    Keyboard keyboard_;
    PciConfig pci_;
    DebugExit debug_exit_;
    DebugConsole debug_console_;
    FwCfg fw_cfg_;
    TestDevice test_device_;
    std::unique_ptr<BlockImage> image_;
    std::unique_ptr<VirtioBlock> disk_;
    std::unique_ptr<VirtioConsole> console_;
    std::vector<AcpiMachine::Virtio> virtio_;
    std::vector<Device*> devices_; // all of them
    Bus ports_, memory_;
};

} // namespace refhv::monitor
