// SPDX-License-Identifier: MIT
// Linux by the 64-bit boot protocol (Documentation/arch/x86/boot.rst, zero-page.rst).
#include "refhv/monitor/boot/layout.hpp"
#include "refhv/monitor/boot/start.hpp"

#include <array>

namespace refhv::monitor {

namespace {

// Offsets in the file, and in boot_params likewise.
namespace header {
constexpr u64 setup_sectors = 0x1f1, magic = 0x202, version = 0x206, loader = 0x210, initrd_at = 0x218,
              initrd_bytes = 0x21c, command_line = 0x228, initrd_limit = 0x22c, long_flags = 0x236,
              preferred = 0x258, init_bytes = 0x260, first = 0x1f1, jump = 0x200;
} // namespace header
namespace zero_page {
constexpr u64 acpi_root = 0x70, map_count = 0x1e8, map = 0x2d0;
}
constexpr u32 hdrs = 0x5372'6448; // "HdrS"
constexpr u16 oldest = 0x20c;     // the first with a 64-bit entry
constexpr u16 entry64 = 1;        // of long_flags
constexpr u64 entry_offset = 0x200;
constexpr u8 undefined_loader = 0xff;

struct [[gnu::packed]] MapEntry {
    u64 base, bytes;
    u32 type; // 1: memory
};

template <class T>
T field(std::span<const u8> kernel, u64 at) {
    return object_at<T>(kernel, at).value_or(T{});
}

} // namespace

bool is_linux(std::span<const u8> kernel) {
    return field<u32>(kernel, header::magic) == hdrs && field<u16>(kernel, 0x1fe) == 0xaa55;
}

void load_linux(Vm& vm, const Image& image) {
    const std::span<const u8> kernel = image.kernel;
    if (!is_linux(kernel)) {
        throw BadImage("no Linux bzImage");
    }
    const u16 version = field<u16>(kernel, header::version);
    if (version < oldest || (field<u16>(kernel, header::long_flags) & entry64) == 0) {
        throw BadImage("a Linux kernel without a 64-bit entry (boot protocol 2.12)");
    }
    const u64 sectors = kernel[header::setup_sectors] == 0 ? 4 : kernel[header::setup_sectors];
    const u64 setup = (sectors + 1) * 512;
    if (setup >= kernel.size()) {
        throw BadImage("a bzImage that is cut off: its setup alone is longer");
    }
    const u64 at = field<u64>(kernel, header::preferred);
    if (!vm.contains(at, field<u32>(kernel, header::init_bytes))) {
        throw BadImage("this kernel wants " +
                       std::to_string((at + field<u32>(kernel, header::init_bytes) + 0xf'ffff) >> 20) +
                       " MBytes to begin in; there are " + std::to_string(vm.bytes() >> 20));
    }
    place(vm, at, kernel.subspan(setup), "the kernel");

    std::array<u8, page_size> page{};
    const auto put = [&](u64 offset, auto value) { std::memcpy(page.data() + offset, &value, sizeof value); };
    const u64 header_end = header::jump + 2 + kernel[header::jump + 1];
    std::memcpy(page.data() + header::first, kernel.data() + header::first, header_end - header::first);
    put(header::loader, undefined_loader);
    place_command_line(vm, image.command_line);
    put(header::command_line, static_cast<u32>(low::command_line));
    if (!image.initrd.empty()) {
        const u64 limit = u64{field<u32>(kernel, header::initrd_limit)} + 1;
        put(header::initrd_at, static_cast<u32>(place_high(vm, image.initrd, limit, "the initramfs")));
        put(header::initrd_bytes, static_cast<u32>(image.initrd.size()));
    }
    put(zero_page::acpi_root, image.acpi_root);
    const std::array<MapEntry, 2> map = {{{0, low::video, 1}, {low::high, vm.bytes() - low::high, 1}}};
    put(zero_page::map_count, static_cast<u8>(map.size()));
    std::memcpy(page.data() + zero_page::map, map.data(), sizeof map);
    place(vm, low::information, page, "boot_params");

    map_identity(vm);
    vm.state = long_state(at + entry_offset);
    vm.state.gpr[abi::rsi] = low::information;
    place_gdt(vm);
    need_mode(vm);
}

} // namespace refhv::monitor
