// SPDX-License-Identifier: MIT
// Multiboot 1 (gnu.org/software/grub/manual/multiboot), and PVH, whose CPU state is the same.
#include "refhv/monitor/boot/elf.hpp"
#include "refhv/monitor/boot/start.hpp"

#include <algorithm>

namespace refhv::monitor {

namespace {

constexpr u32 header_magic = 0x1bad'b002, loader_magic = 0x2bad'b002;
constexpr u64 searched = 8192; // bytes of the file that may hold the header
constexpr u32 has_addresses = 1u << 16, wants_unknown = 0xfff8;

struct Header {
    u32 magic, flags, checksum;
    u32 header_at, load_at, load_end, bss_end, entry;
};

struct Information {
    u32 flags;
    u32 lower_kb, upper_kb;
    u32 boot_device;
    u32 command_line;
    u32 modules, modules_at;
    u32 symbols[4];
    u32 map_bytes, map_at;
    u32 drives_bytes, drives_at, configuration, loader_name, apm, vbe[4];
};
static_assert(sizeof(Information) == 88);
enum InformationFlags : u32 {
    has_memory = 1u << 0,
    has_command_line = 1u << 2,
    has_modules = 1u << 3,
    has_map = 1u << 6,
    has_loader_name = 1u << 9,
};

struct [[gnu::packed]] MapEntry {
    u32 size; // of what follows
    u64 base, bytes;
    u32 type;
};

struct Module {
    u32 begin, end, text, zero;
};

constexpr u64 map_at = low::lists, module_at = low::lists + 0x100, name_at = low::lists + 0x200;

void place_by_header(Vm& vm, const Image& image, const Header& h, u64 header_offset) {
    const u64 before = u64{h.header_at} - h.load_at; // of the header, in what is loaded
    if (h.header_at < h.load_at || before > header_offset) {
        throw BadImage("a Multiboot header whose load address is behind it");
    }
    auto bytes = std::span<const u8>(image.kernel).subspan(header_offset - before);
    if (h.load_end != 0) {
        if (h.load_end < h.load_at || h.load_end - h.load_at > bytes.size()) {
            throw BadImage("a Multiboot kernel that is cut off");
        }
        bytes = bytes.first(h.load_end - h.load_at);
    }
    place(vm, h.load_at, bytes, "the kernel");
    if (h.bss_end != 0 && !vm.contains(h.load_at, u64{h.bss_end} - h.load_at)) {
        throw BadImage("a Multiboot kernel whose BSS does not fit into memory");
    }
}

} // namespace

std::optional<u64> multiboot_header(std::span<const u8> kernel) {
    for (u64 at = 0; at + 12 <= std::min<u64>(kernel.size(), searched); at += 4) {
        const auto h = object_at<std::array<u32, 3>>(kernel, at);
        if (h && (*h)[0] == header_magic && (*h)[0] + (*h)[1] + (*h)[2] == 0) {
            return at;
        }
    }
    return {};
}

void load_multiboot(Vm& vm, const Image& image) {
    const auto at = multiboot_header(image.kernel);
    if (!at) {
        throw BadImage("no Multiboot header within the first 8 KBytes");
    }
    Header h{};
    const auto all = std::span<const u8>(image.kernel).subspan(*at);
    std::memcpy(&h, all.data(), std::min(sizeof h, all.size()));
    if ((h.flags & wants_unknown) != 0) {
        throw BadImage("a Multiboot kernel that asks for what there is not: flags " +
                       std::to_string(h.flags));
    }
    u64 entry = h.entry;
    if ((h.flags & has_addresses) != 0) {
        place_by_header(vm, image, h, *at);
    } else if (const auto elf = Elf::parse(image.kernel); elf) {
        elf->place(vm);
        entry = elf->entry();
    } else {
        throw BadImage("a Multiboot kernel that is no ELF file, and does not say where it is to lie");
    }

    Information info{};
    info.flags = has_memory | has_command_line | has_map | has_loader_name;
    info.lower_kb = low::video / 1024;
    info.upper_kb = static_cast<u32>((vm.bytes() - low::high) / 1024);
    place_command_line(vm, image.command_line);
    info.command_line = low::command_line;
    if (!image.initrd.empty()) {
        const u64 begin = place_high(vm, image.initrd, ~u64{0}, "the module");
        const Module module{static_cast<u32>(begin), static_cast<u32>(begin + image.initrd.size()),
                            low::command_line, 0};
        place_object(vm, module_at, module, "the list of modules");
        info.flags |= has_modules;
        info.modules = 1;
        info.modules_at = module_at;
    }
    const std::array<MapEntry, 2> map = {{{sizeof(MapEntry) - 4, 0, low::video, 1},
                                          {sizeof(MapEntry) - 4, low::high, vm.bytes() - low::high, 1}}};
    place_object(vm, map_at, map, "the memory map");
    info.map_at = map_at;
    info.map_bytes = sizeof map;
    constexpr char name[] = "refhv";
    place_object(vm, name_at, name, "the loader's name");
    info.loader_name = name_at;
    place_object(vm, low::information, info, "the Multiboot information");

    vm.state = protected_state(static_cast<u32>(entry));
    vm.state.gpr[abi::rax] = loader_magic;
    vm.state.gpr[abi::rbx] = low::information;
    place_gdt(vm);
    need_mode(vm);
}

void load_pvh(Vm& vm, const Image& image) {
    const auto elf = Elf::parse(image.kernel);
    if (!elf || !elf->pvh_entry()) {
        throw BadImage("no ELF file with a PVH entry (note PHYS32_ENTRY)");
    }
    struct StartInfo {
        u32 magic, version, flags, modules;
        u64 modules_at, command_line, acpi_root, map_at;
        u32 map_entries, zero;
    };
    struct MapEntry64 {
        u64 base, bytes;
        u32 type, zero;
    };
    struct Module64 {
        u64 at, bytes, command_line, zero;
    };
    elf->place(vm);
    place_command_line(vm, image.command_line);
    StartInfo info{};
    info.magic = 0x336e'c578;
    info.version = 1;
    info.command_line = low::command_line;
    info.acpi_root = image.acpi_root;
    if (!image.initrd.empty()) {
        const Module64 module{place_high(vm, image.initrd, ~u64{0}, "the initramfs"), image.initrd.size(), 0,
                              0};
        place_object(vm, module_at, module, "the list of modules");
        info.modules = 1;
        info.modules_at = module_at;
    }
    const std::array<MapEntry64, 2> map = {
        {{0, low::video, 1, 0}, {low::high, vm.bytes() - low::high, 1, 0}}};
    place_object(vm, map_at, map, "the memory map");
    info.map_at = map_at;
    info.map_entries = map.size();
    place_object(vm, low::information, info, "the start info");
    vm.state = protected_state(*elf->pvh_entry());
    vm.state.gpr[abi::rbx] = low::information;
    place_gdt(vm);
    need_mode(vm);
}

} // namespace refhv::monitor
