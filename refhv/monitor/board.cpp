// SPDX-License-Identifier: MIT
#include "refhv/monitor/board.hpp"

#include "refhv/monitor/acpi.hpp"
#include "refhv/monitor/boot/layout.hpp"

namespace refhv::monitor {

namespace port {
constexpr u64 uart = 0x3f8, master = 0x20, slave = 0xa0, elcr = 0x4d0, pm = 0x600, pit = 0x40, port_b = 0x61,
              rtc = 0x70, keyboard = 0x60, pci = 0xcf8, debug_exit = 0xf4, bochs_console = 0xe9,
              qemu_console = 0x402, fw_cfg = 0x510, test = 0xe0, test_bytes = 0xe8, test_lines = 0x2000;
}
constexpr u64 io_apic_at = 0xfec0'0000, virtio_at = 0xd000'0000, test_memory_at = 0xff00'0000;
constexpr u8 soft_off = 5; // SLP_TYP of S5

namespace irq {
constexpr unsigned timer = 0, keyboard = 1, uart = 4, rtc = 8, sci = 9, virtio = 16, virtio_pic = 10;
}

Board::Board(Options options, GuestMemory& memory)
    : options_(std::move(options)),
      local_apic_({.signal = [this](Delivery delivery, u8) { signal(delivery); },
                   .end_of_interrupt = [this](u8 vector) { io_apic_.end_of_interrupt(vector); },
                   .time_of_tsc = options_.time_of_tsc,
                   .address_bits = options_.address_bits}),
      io_apic_([this](const ApicMessage& message) { return local_apic_.receive(message); }, IoApic::with_eoi),
      uart_([this](u8 c) { options_.console ? options_.console(c) : void(); },
            [this](bool level) { raise(irq::uart, level); }),
      pit_([this](bool level) { raise(irq::timer, level); }),
      rtc_(options_.epoch, [this](bool level) { raise(irq::rtc, level); }),
      pm_([this](u8 type) { sleep(type); }, [this](bool level) { raise(irq::sci, level); }),
      keyboard_([this] { end(Ending::How::reset, 0); }, [this](bool level) { raise(irq::keyboard, level); }),
      pci_([this] { end(Ending::How::reset, 0); }),
      debug_exit_([this](u32 code) { end(Ending::How::exited, static_cast<int>(code & 0xff)); }),
      debug_console_([this](u8 c) { options_.console ? options_.console(c) : void(); }),
      fw_cfg_(1, options_.memory_bytes),
      test_device_([this](unsigned line, bool level) { raise(line, level); }) {
    rtc_.set_memory(options_.memory_bytes, 0);
    local_apic_.virtual_wire();
    attach();
    attach_virtio(memory);
}

void Board::attach() {
    ports_.attach(port::master, 2, pic_, PicPair::master_ports);
    ports_.attach(port::slave, 2, pic_, PicPair::slave_ports);
    ports_.attach(port::elcr, 2, pic_, PicPair::elcr_ports);
    ports_.attach(port::uart, 8, uart_);
    ports_.attach(port::pit, 4, pit_);
    ports_.attach(port::port_b, 1, pit_, Pit::port_b);
    ports_.attach(port::rtc, 2, rtc_);
    ports_.attach(port::pm, AcpiPm::length, pm_);
    ports_.attach(port::keyboard + Keyboard::data, 1, keyboard_, Keyboard::data);
    ports_.attach(port::keyboard + Keyboard::command, 1, keyboard_, Keyboard::command);
    ports_.attach(port::pci, 8, pci_);
    ports_.attach(port::debug_exit, 4, debug_exit_);
    ports_.attach(port::bochs_console, 1, debug_console_);
    ports_.attach(port::qemu_console, 1, debug_console_);
    ports_.attach(port::fw_cfg, 2, fw_cfg_);
    ports_.attach(port::test, 8, test_device_, TestDevice::data);
    ports_.attach(port::test_bytes, 4, test_device_, TestDevice::data);
    ports_.attach(port::test_lines, TestDevice::line_count, test_device_, TestDevice::lines);
    memory_.attach(test_memory_at, TestDevice::memory_bytes, test_device_, TestDevice::memory);
    devices_ = {&pic_, &uart_, &pit_, &rtc_, &pm_, &keyboard_, &pci_, &fw_cfg_, &test_device_};
    if (has_apic()) {
        memory_.attach(local_apic_.address(), page_size, local_apic_);
        memory_.attach(io_apic_at, page_size, io_apic_);
        devices_.insert(devices_.end(), {&local_apic_, &io_apic_});
    }
}

// One page and one line each: pins of the I/O APIC behind those of the old devices, or lines of the 8259
// pair.
template <class Virtio, class... Rest>
void Board::add_virtio(std::unique_ptr<Virtio>& device, GuestMemory& memory, Rest&&... rest) {
    const unsigned number = static_cast<unsigned>(virtio_.size());
    const unsigned line = (has_apic() ? irq::virtio : irq::virtio_pic) + number;
    const u64 address = virtio_at + number * page_size;
    device = std::make_unique<Virtio>(memory, std::forward<Rest>(rest)...,
                                      [this, line](bool level) { raise(line, level); });
    memory_.attach(address, VirtioMmio::length, *device);
    virtio_.push_back(
        {static_cast<u32>(address), static_cast<u32>(VirtioMmio::length), static_cast<u8>(line)});
    devices_.push_back(device.get());
}

void Board::attach_virtio(GuestMemory& memory) {
    if (options_.disk != nullptr) {
        image_ = std::make_unique<BlockImage>(options_.disk);
        add_virtio(disk_, memory, *image_, options_.read_only, std::string("refhv0"));
    }
    if (options_.virtio_console) {
        add_virtio(console_, memory, [this](std::span<const u8> characters) {
            for (const u8 c : characters) {
                options_.console ? options_.console(c) : void();
            }
        });
    }
}

u64 Board::place_firmware(Vm& vm) const {
    const auto tables = make_acpi_tables({.pm_event = port::pm + AcpiPm::event,
                                          .pm_control = port::pm + AcpiPm::control,
                                          .pm_timer = port::pm + AcpiPm::timer,
                                          .sci = irq::sci,
                                          .sleep_type = soft_off,
                                          .virtio = virtio_,
                                          .apic = has_apic()},
                                         low::firmware);
    place(vm, low::firmware, tables, "the ACPI tables");
    return low::firmware;
}

void Board::sleep(u8 type) {
    if (type == soft_off) {
        end(Ending::How::powered_off, 0);
    }
}

void Board::raise(unsigned line, bool level) {
    if (line < 16) {
        pic_.set(line, level);
    }
    io_apic_.set(line == irq::timer ? 2 : line, level); // as the MADT says
}

void Board::end(Ending::How how, int code) {
    if (end_) {
        end_(how, code);
    }
}

namespace {

bool is_apics(u32 index) {
    return index == LocalApic::apic_base || index == LocalApic::deadline ||
           (index >= LocalApic::first_x2apic && index <= LocalApic::last_x2apic);
}

} // namespace

std::optional<Board::MsrValue> Board::read_msr(u32 index) {
    if (!has_apic() || !is_apics(index)) {
        return {};
    }
    const auto value = local_apic_.read_msr(index);
    return MsrValue{value.has_value(), value.value_or(0)};
}

std::optional<bool> Board::write_msr(u32 index, u64 value) {
    if (!has_apic() || !is_apics(index)) {
        return {};
    }
    return local_apic_.write_msr(index, value);
}

void Board::pass(Time now) {
    for (Device* const d : devices_) {
        d->pass(now);
    }
}

std::optional<Time> Board::due() const {
    std::optional<Time> first;
    for (const Device* const d : devices_) {
        const auto at = d->due();
        first = at && (!first || *at < *first) ? at : first;
    }
    return first;
}

std::pair<Board::Source, u8> Board::waiting() const {
    if (const auto vector = pic_.vector();
        vector && (!has_apic() || local_apic_.accepts_extint() || io_apic_.accepts_extint())) {
        return {Source::pic, *vector};
    }
    if (const auto vector = local_apic_.pending(); vector && has_apic()) {
        return {Source::apic, *vector};
    }
    return {Source::none, 0};
}

std::optional<u8> Board::interrupt() const {
    const auto [source, vector] = waiting();
    return source != Source::none ? std::optional(vector) : std::nullopt;
}

void Board::acknowledge() {
    switch (waiting().first) {
    case Source::pic:
        (void)pic_.acknowledge();
        break;
    case Source::apic:
        (void)local_apic_.acknowledge();
        break;
    case Source::none:
        break;
    }
}

void Board::signal(Delivery delivery) {
    nmi_ = nmi_ || delivery == Delivery::nmi; // INIT and start-up of the only CPU, and SMI, are nobody's
}

void Board::set_cr8(u64 cr8) {
    if (cr8 != u64{local_apic_.task_priority()} >> 4) {
        local_apic_.set_task_priority(static_cast<u8>(cr8 << 4));
    }
}

std::optional<u64> Board::cr8() const {
    return has_apic() ? std::optional(u64{local_apic_.task_priority()} >> 4) : std::nullopt;
}

} // namespace refhv::monitor
