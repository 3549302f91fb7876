// SPDX-License-Identifier: MIT
#include "refhv/monitor/boot/boot.hpp"

#include "refhv/monitor/boot/elf.hpp"
#include "refhv/monitor/boot/layout.hpp"
#include "refhv/monitor/boot/start.hpp"

namespace refhv::monitor {

Protocol detect(std::span<const u8> kernel) {
    if (is_linux(kernel)) {
        return Protocol::linux64;
    }
    if (multiboot_header(kernel)) {
        return Protocol::multiboot;
    }
    if (const auto elf = Elf::parse(kernel); elf && elf->pvh_entry()) {
        return Protocol::pvh;
    }
    return Protocol::flat;
}

const char* name_of(Protocol protocol) {
    switch (protocol) {
    case Protocol::flat:
        return "flat";
    case Protocol::multiboot:
        return "multiboot";
    case Protocol::linux64:
        return "linux";
    case Protocol::pvh:
        return "pvh";
    case Protocol::detect:
        break;
    }
    return "detect";
}

void load(Vm& vm, const Image& image) {
    switch (image.protocol == Protocol::detect ? detect(image.kernel) : image.protocol) {
    case Protocol::multiboot:
        return load_multiboot(vm, image);
    case Protocol::linux64:
        return load_linux(vm, image);
    case Protocol::pvh:
        return load_pvh(vm, image);
    case Protocol::flat:
        if (image.protocol == Protocol::detect) {
            throw BadImage("neither a Linux bzImage, a Multiboot kernel nor an ELF file with a PVH entry; "
                           "a flat binary is named as such (--protocol=flat)");
        }
        return load_flat(vm, image);
    case Protocol::detect:
        break;
    }
}

void load_flat(Vm& vm, const Image& image) {
    place(vm, image.address, image.kernel, "the binary");
    switch (image.mode) {
    case StartMode::real:
        vm.state = real_state(image.address);
        break;
    case StartMode::protected32:
        vm.state = protected_state(static_cast<u32>(image.address));
        break;
    case StartMode::long64:
        map_identity(vm);
        vm.state = long_state(image.address);
        break;
    }
    need_mode(vm);
}

} // namespace refhv::monitor
