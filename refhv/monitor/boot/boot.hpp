// SPDX-License-Identifier: MIT
// Boot protocols: what stands in memory, and in which state the CPU begins.
#pragma once

#include "refhv/monitor/vm.hpp"

namespace refhv::monitor {

// The file is not what it should be, or does not fit. One line.
struct BadImage : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class Protocol : u8 {
    detect,
    flat,      // bytes at an address, in a mode
    multiboot, // Multiboot 1: ELF, or as its header says where
    linux64,   // bzImage, by its 64-bit entry (Documentation/arch/x86/boot.rst)
    pvh,       // ELF with the note PHYS32_ENTRY (docs of Xen, misc/pvh.html)
};

enum class StartMode : u8 {
    real,
    protected32,
    long64,
};

struct Image {
    std::vector<u8> kernel;
    std::vector<u8> initrd; // Linux' initramfs; the one module of a Multiboot kernel
    std::string command_line;
    Protocol protocol = Protocol::detect;
    // Of a flat binary: where it lies and begins.
    u64 address = 0x10'0000;
    StartMode mode = StartMode::long64;
    u64 acpi_root = 0; // guest-physical address of the RSDP; 0: none
};

// What the file looks like; flat is nothing's look.
[[nodiscard]] Protocol detect(std::span<const u8> kernel);
[[nodiscard]] const char* name_of(Protocol protocol);

// Puts the image into the VM's memory and sets its state. Throws BadImage.
void load(Vm& vm, const Image& image);

// The protocols, one by one.
void load_flat(Vm& vm, const Image& image);
void load_multiboot(Vm& vm, const Image& image);
void load_linux(Vm& vm, const Image& image);
void load_pvh(Vm& vm, const Image& image);

} // namespace refhv::monitor
