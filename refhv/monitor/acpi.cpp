// SPDX-License-Identifier: MIT
#include "refhv/monitor/acpi.hpp"

#include <cstring>
#include <numeric>
#include <span>

namespace refhv::monitor {

namespace {

constexpr usize header_bytes = 36;

class Table {
  public:
    Table(const char (&signature)[5], u8 revision, usize bytes = header_bytes) : bytes_(bytes) {
        std::memcpy(bytes_.data(), signature, 4);
        bytes_[8] = revision;
        std::memcpy(bytes_.data() + 10, "REFHV REFHV   ", 14);
        std::memcpy(bytes_.data() + 28, "RFHV", 4);
    }
    template <class T>
    void put(usize at, T value) {
        std::memcpy(bytes_.data() + at, &value, sizeof value);
    }
    void append(std::span<const u8> more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }
    [[nodiscard]] std::vector<u8> finish() {
        put(4, static_cast<u32>(bytes_.size()));
        bytes_[9] = 0;
        bytes_[9] = static_cast<u8>(-std::accumulate(bytes_.begin(), bytes_.end(), 0u));
        return bytes_;
    }

  private:
    std::vector<u8> bytes_;
};

// AML (ACPI 6.5, 20.2). A package length of one byte counts itself.
std::vector<u8> with_length(std::initializer_list<u8> op, const std::vector<u8>& content) {
    std::vector<u8> out(op);
    const usize one = content.size() + 1, two = content.size() + 2;
    if (one < 0x40) {
        out.push_back(static_cast<u8>(one));
    } else {
        out.push_back(static_cast<u8>(0x40 | (two & 0xf)));
        out.push_back(static_cast<u8>(two >> 4));
    }
    out.insert(out.end(), content.begin(), content.end());
    return out;
}

// Device (VRTn) { Name (_HID, "LNRO0005") Name (_UID, n) Name (_CCA, 1) Name (_CRS, Memory32Fixed, Interrupt)
// }
std::vector<u8> make_virtio(const AcpiMachine::Virtio& device, u8 number) {
    std::vector<u8> content{'V', 'R', 'T', static_cast<u8>('0' + number)};
    const auto add = [&](std::initializer_list<u8> bytes) { content.insert(content.end(), bytes); };
    add({0x08, '_', 'H', 'I', 'D', 0x0d, 'L', 'N', 'R', 'O', '0', '0', '0', '5', 0});
    add({0x08, '_', 'U', 'I', 'D', 0x0a, number});
    add({0x08, '_', 'C', 'C', 'A', 0x0a, 1});
    std::vector<u8> resources{0x86, 9, 0, 1}; // Memory32Fixed, read and write (6.4.3.4)
    const auto put = [&](u32 value) {
        for (unsigned i = 0; i < 4; ++i) {
            resources.push_back(static_cast<u8>(value >> (8 * i)));
        }
    };
    put(device.address);
    put(device.bytes);
    resources.insert(resources.end(), {0x89, 6, 0, 1, 1}); // consumer, level, active high; one (6.4.3.6)
    put(device.interrupt);
    resources.insert(resources.end(), {0x79, 0}); // the end, without a checksum
    std::vector<u8> buffer{0x0a, static_cast<u8>(resources.size())};
    buffer.insert(buffer.end(), resources.begin(), resources.end());
    add({0x08, '_', 'C', 'R', 'S'});
    const auto wrapped = with_length({0x11}, buffer);
    content.insert(content.end(), wrapped.begin(), wrapped.end());
    return with_length({0x5b, 0x82}, content);
}

// Name (\_S5, Package () {type, 0, 0, 0}) (ACPI 6.5, 7.4.2.6), and Scope (\_SB) with the devices.
std::vector<u8> make_dsdt(const AcpiMachine& m) {
    Table dsdt("DSDT", 2);
    dsdt.append(
        std::vector<u8>{0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, m.sleep_type, 0x0a, 0, 0, 0});
    std::vector<u8> devices{'\\', '_', 'S', 'B', '_'};
    for (const AcpiMachine::Virtio& each : m.virtio) {
        const auto device = make_virtio(each, static_cast<u8>(&each - m.virtio.data()));
        devices.insert(devices.end(), device.begin(), device.end());
    }
    if (!m.virtio.empty()) {
        dsdt.append(with_length({0x10}, devices));
    }
    return dsdt.finish();
}

void put_block(Table& fadt, usize at, u16 port, u8 bits) { // a generic address: port, width, in extended form
    fadt.put(at, u8{1});
    fadt.put(at + 1, bits);
    fadt.put(at + 3, static_cast<u8>(bits == 32 ? 3 : 2));
    fadt.put(at + 4, u64{port});
}

std::vector<u8> make_fadt(const AcpiMachine& m, u32 dsdt) {
    Table fadt("FACP", 3, 244);
    fadt.put(40, dsdt);
    fadt.put(46, u16{m.sci});
    fadt.put(56, u32{m.pm_event});
    fadt.put(64, u32{m.pm_control});
    fadt.put(76, u32{m.pm_timer});
    fadt.put(88, u8{4}); // lengths of the blocks
    fadt.put(89, u8{2});
    fadt.put(91, u8{4});
    fadt.put(96, u16{0xfff}); // no C2, no C3
    fadt.put(98, u16{0xfff});
    fadt.put(108, u8{0x32}); // the century's byte of CMOS
    constexpr u16 legacy_devices = 1, no_vga = 1u << 2, no_aspm = 1u << 4;
    fadt.put(109, static_cast<u16>(legacy_devices | no_vga | no_aspm));
    constexpr u32 wbinvd = 1, c1 = 1u << 2, power_button_is_no_fixed_one = 1u << 4,
                  sleep_button_is_no_fixed_one = 1u << 5, timer_has_32_bits = 1u << 8;
    fadt.put(112,
             wbinvd | c1 | power_button_is_no_fixed_one | sleep_button_is_no_fixed_one | timer_has_32_bits);
    fadt.put(140, u64{dsdt});
    put_block(fadt, 148, m.pm_event, 32);
    put_block(fadt, 172, m.pm_control, 16);
    put_block(fadt, 208, m.pm_timer, 32);
    return fadt.finish();
}

// Local APIC 0; I/O APIC 0 with interrupts 0 to 23; IRQ 0 at pin 2; the SCI, level and low (5.2.12).
std::vector<u8> make_madt(u8 sci) {
    Table madt("APIC", 3);
    madt.append(std::vector<u8>{0x00, 0x00, 0xe0, 0xfe, 1, 0, 0, 0});              // address, 8259 pair
    madt.append(std::vector<u8>{0, 8, 0, 0, 1, 0, 0, 0});                          // local APIC
    madt.append(std::vector<u8>{1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0}); // I/O APIC
    madt.append(std::vector<u8>{2, 10, 0, 0, 2, 0, 0, 0, 0, 0});                   // override of IRQ 0
    madt.append(std::vector<u8>{2, 10, 0, sci, sci, 0, 0, 0, 0xd, 0});             // of the SCI: high, level
    madt.append(std::vector<u8>{4, 6, 0xff, 0, 0, 1});                             // NMI at LINT1
    return madt.finish();
}

} // namespace

std::vector<u8> make_acpi_tables(const AcpiMachine& machine, u32 at) {
    constexpr usize rsdp_bytes = 36;
    std::vector<u8> all(64);
    const auto add = [&](const std::vector<u8>& table) {
        const u32 address = at + static_cast<u32>(all.size());
        all.insert(all.end(), table.begin(), table.end());
        all.resize((all.size() + 15) / 16 * 16);
        return address;
    };
    const u32 dsdt = add(make_dsdt(machine));
    std::vector<u64> listed{add(make_fadt(machine, dsdt))};
    if (machine.apic) {
        listed.push_back(add(make_madt(machine.sci)));
    }
    Table xsdt("XSDT", 1);
    xsdt.append({reinterpret_cast<const u8*>(listed.data()), listed.size() * sizeof(u64)});
    Table rsdt("RSDT", 1);
    for (const u64 each : listed) {
        const u32 low = static_cast<u32>(each);
        rsdt.append({reinterpret_cast<const u8*>(&low), sizeof low});
    }
    const u64 xsdt_at = add(xsdt.finish());
    const u32 rsdt_at = add(rsdt.finish());
    const auto sum = [&](usize bytes) {
        return static_cast<u8>(-std::accumulate(all.begin(), all.begin() + static_cast<long>(bytes), 0u));
    };
    std::memcpy(all.data(), "RSD PTR ", 8);
    std::memcpy(all.data() + 9, "REFHV ", 6);
    all[15] = 2;
    std::memcpy(all.data() + 16, &rsdt_at, sizeof rsdt_at);
    const u32 length = rsdp_bytes;
    std::memcpy(all.data() + 20, &length, sizeof length);
    std::memcpy(all.data() + 24, &xsdt_at, sizeof xsdt_at);
    all[8] = sum(20);
    all[32] = sum(rsdp_bytes);
    return all;
}

} // namespace refhv::monitor
