// SPDX-License-Identifier: MIT
// Boot protocols: what stands in memory, in which state the CPU begins, and which files are refused.
#include "conformance/test/monitor/buffer_target.hpp"
#include "refhv/monitor/boot/elf.hpp"
#include "refhv/monitor/boot/layout.hpp"
#include "refhv/x86/registers.hpp"

#include <elf.h>
#include <gtest/gtest.h>

namespace refhv::monitor {
namespace {

struct Boot : testing::Test {
    BufferTarget target;
    Vm vm{target, {.mode = abi::Mode::nested, .bytes = 8u << 20, .slot = 0}};

    template <class T>
    T at(u64 gpa) {
        T out;
        std::memcpy(&out, target.memory.data() + gpa, sizeof out);
        return out;
    }
    std::string refusal(const Image& image) {
        try {
            load(vm, image);
        } catch (const BadImage& bad) {
            return bad.what();
        }
        return "";
    }
};

template <class T>
void put(std::vector<u8>& bytes, usize at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
}

Image linux_image() {
    Image image;
    image.kernel.resize(0x400 * 4 + 0x1000);
    put<u8>(image.kernel, 0x1f1, 1); // one sector of setup
    put<u16>(image.kernel, 0x1fe, 0xaa55);
    put<u16>(image.kernel, 0x200, 0x66eb); // a jump over the header
    put<u32>(image.kernel, 0x202, 0x5372'6448);
    put<u16>(image.kernel, 0x206, 0x20f);
    put<u16>(image.kernel, 0x236, 1);
    put<u32>(image.kernel, 0x22c, 0x7fff'ffff);
    put<u64>(image.kernel, 0x258, 0x10'0000);
    put<u32>(image.kernel, 0x260, 0x10'0000);
    put<u32>(image.kernel, 0x400, 0xcafe'f00d); // the kernel's first word
    image.command_line = "console=ttyS0";
    image.acpi_root = 0xe'0000;
    image.initrd = {1, 2, 3};
    return image;
}

TEST_F(Boot, linux_finds_its_parameters_and_begins_in_long_mode) {
    const Image image = linux_image();
    load(vm, image);
    EXPECT_EQ(at<u32>(0x10'0000), 0xcafe'f00d);
    EXPECT_EQ(vm.state.rip, 0x10'0200u);
    const u64 zero_page = vm.state.gpr[abi::rsi];
    EXPECT_EQ(at<u32>(zero_page + 0x202), 0x5372'6448u);
    EXPECT_EQ(at<u64>(zero_page + 0x70), 0xe'0000u);
    const u32 line = at<u32>(zero_page + 0x228);
    EXPECT_STREQ(reinterpret_cast<const char*>(target.memory.data() + line), "console=ttyS0");
    const u32 initrd = at<u32>(zero_page + 0x218);
    EXPECT_EQ(at<u32>(zero_page + 0x21c), 3u);
    EXPECT_EQ(initrd % page_size, 0u);
    EXPECT_EQ(at<u8>(initrd + 2), 3);
    EXPECT_EQ(at<u8>(zero_page + 0x1e8), 2) << "two ranges of memory";
    EXPECT_EQ(at<u64>(zero_page + 0x2d0 + 8), 0xa'0000u);
    EXPECT_EQ(at<u64>(zero_page + 0x2d0 + 20 + 8), (8u << 20) - 0x10'0000u);
    EXPECT_NE(vm.state.efer & x86::efer::lma, 0u);
    EXPECT_EQ(vm.state.segment[abi::cs].selector, 0x10);
    EXPECT_EQ(at<u64>(vm.state.gdtr.base + 0x10) >> 53 & 1, 1u) << "the GDT has a 64-bit segment there";
    // Its tables map the first 4 GBytes, one to one.
    for (const u64 address : {u64{0}, u64{0x10'0000}, u64{0xfee0'0000}, u64{0xffff'ffff}}) {
        const u64 pdpte = at<u64>((at<u64>(vm.state.cr3) & ~u64{0xfff}) + 8 * (address >> 30));
        const u64 leaf = at<u64>((pdpte & ~u64{0xfff}) + 8 * (address >> 21 & 511));
        EXPECT_EQ(leaf & ~u64{0x1f'ffff}, address & ~u64{0x1f'ffff});
        EXPECT_EQ(leaf & 0x83, 0x83u);
    }
}

TEST_F(Boot, kernels_that_do_not_fit_or_are_cut_off_are_refused_by_what_is_wrong) {
    Image image = linux_image();
    put<u32>(image.kernel, 0x260, 0x1000'0000);
    EXPECT_NE(refusal(image).find("wants 257 MBytes"), std::string::npos) << refusal(image);
    image = linux_image();
    put<u16>(image.kernel, 0x236, 0);
    EXPECT_NE(refusal(image).find("64-bit entry"), std::string::npos);
    image = linux_image();
    put<u8>(image.kernel, 0x1f1, 60);
    EXPECT_NE(refusal(image).find("cut off"), std::string::npos);
    image = linux_image();
    image.initrd.resize(9u << 20);
    EXPECT_NE(refusal(image).find("initramfs"), std::string::npos);
    image = linux_image();
    image.command_line = std::string(3000, 'x');
    EXPECT_NE(refusal(image).find("command line"), std::string::npos);
    EXPECT_NE(refusal({.kernel = {1, 2, 3}, .initrd = {}, .command_line = {}}).find("--protocol=flat"),
              std::string::npos);
}

// A Multiboot kernel of ELF, of either class.
template <class Header, class Program, unsigned char elf_class, u16 machine>
std::vector<u8> elf_kernel() {
    std::vector<u8> file(0x2000);
    Header h{};
    std::memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = elf_class;
    h.e_type = ET_EXEC;
    h.e_machine = machine;
    h.e_entry = 0xc010'0020;
    h.e_phoff = sizeof h;
    h.e_phentsize = sizeof(Program);
    h.e_phnum = 1;
    put(file, 0, h);
    Program p{};
    p.p_type = PT_LOAD;
    p.p_offset = 0x1000;
    p.p_vaddr = 0xc010'0000;
    p.p_paddr = 0x10'0000;
    p.p_filesz = 0x800;
    p.p_memsz = 0x1800;
    put(file, sizeof h, p);
    put<u32>(file, 0x1000, 0x1bad'b002);
    put<u32>(file, 0x1004, 3);
    put<u32>(file, 0x1008, -(0x1bad'b002u + 3));
    put<u32>(file, 0x1020, 0x1234'5678);
    return file;
}

TEST_F(Boot, multiboot_kernels_lie_where_their_segments_say_and_get_their_information) {
    for (const auto& kernel : {elf_kernel<Elf32_Ehdr, Elf32_Phdr, ELFCLASS32, EM_386>(),
                               elf_kernel<Elf64_Ehdr, Elf64_Phdr, ELFCLASS64, EM_X86_64>()}) {
        Image image;
        image.kernel = kernel;
        image.command_line = "one two";
        image.initrd = {9, 8};
        ASSERT_EQ(detect(kernel), Protocol::multiboot);
        load(vm, image);
        EXPECT_EQ(vm.state.rip, 0x10'0020u) << "physical, though the entry is virtual";
        EXPECT_EQ(at<u32>(0x10'0020), 0x1234'5678u);
        EXPECT_EQ(vm.state.gpr[abi::rax], 0x2bad'b002u);
        EXPECT_EQ(vm.state.cr0 & (x86::cr0::pe | x86::cr0::pg), x86::cr0::pe);
        const u64 info = vm.state.gpr[abi::rbx];
        EXPECT_EQ(at<u32>(info + 4), 640u);
        EXPECT_EQ(at<u32>(info + 8), 7u << 10);
        EXPECT_STREQ(reinterpret_cast<const char*>(target.memory.data() + at<u32>(info + 16)), "one two");
        EXPECT_EQ(at<u32>(info + 20), 1u);
        EXPECT_EQ(at<u8>(at<u32>(at<u32>(info + 24))), 9);
        EXPECT_EQ(at<u32>(info + 44), 48u) << "two entries of the map";
    }
}

TEST_F(Boot, broken_elf_files_are_refused) {
    auto kernel = elf_kernel<Elf32_Ehdr, Elf32_Phdr, ELFCLASS32, EM_386>();
    Image image;
    image.kernel = kernel;
    image.kernel.resize(0x1100); // its segment is longer
    EXPECT_NE(refusal(image).find("beyond its end"), std::string::npos);
    image.kernel = kernel;
    put<u32>(image.kernel, sizeof(Elf32_Ehdr) + offsetof(Elf32_Phdr, p_paddr), 0xf000'0000);
    EXPECT_NE(refusal(image).find("does not fit"), std::string::npos);
    image.kernel = kernel;
    put<u16>(image.kernel, offsetof(Elf32_Ehdr, e_phnum), 60'000);
    EXPECT_NE(refusal(image).find("program headers"), std::string::npos);
}

TEST_F(Boot, a_header_with_addresses_says_where_a_flat_kernel_lies) {
    Image image;
    image.kernel.resize(0x1000);
    const u32 words[] = {0x1bad'b002, 0x1'0003, -(0x1bad'b002u + 0x1'0003), 0x20'0100, 0x20'0000, 0,
                         0,           0x20'0200};
    std::memcpy(image.kernel.data() + 0x100, words, sizeof words);
    put<u32>(image.kernel, 0x200, 77);
    load(vm, image);
    EXPECT_EQ(vm.state.rip, 0x20'0200u);
    EXPECT_EQ(at<u32>(0x20'0200), 77u);
    put<u32>(image.kernel, 0x100 + 16, 0x20'0f00); // loads behind its own header
    EXPECT_NE(refusal(image).find("behind it"), std::string::npos);
}

TEST_F(Boot, an_elf_file_with_the_note_begins_by_pvh) {
    auto kernel = elf_kernel<Elf64_Ehdr, Elf64_Phdr, ELFCLASS64, EM_X86_64>();
    put<u32>(kernel, 0x1000, 0); // no Multiboot header
    put<u16>(kernel, offsetof(Elf64_Ehdr, e_phnum), 2);
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = 0x1900;
    note.p_filesz = 20;
    put(kernel, sizeof(Elf64_Ehdr) + sizeof note, note);
    const u32 words[] = {4, 4, 18, 0x006e'6558, 0x10'0040}; // "Xen", PHYS32_ENTRY
    std::memcpy(kernel.data() + 0x1900, words, sizeof words);
    Image image;
    image.kernel = kernel;
    image.command_line = "quiet";
    image.acpi_root = 0xe'0000;
    ASSERT_EQ(detect(kernel), Protocol::pvh);
    load(vm, image);
    EXPECT_EQ(vm.state.rip, 0x10'0040u);
    const u64 info = vm.state.gpr[abi::rbx];
    EXPECT_EQ(at<u32>(info), 0x336e'c578u);
    EXPECT_EQ(at<u64>(info + 32), 0xe'0000u);
    EXPECT_EQ(at<u32>(info + 48), 2u);
}

TEST_F(Boot, flat_binaries_begin_in_any_mode) {
    Image image;
    image.kernel = {0xf4};
    image.protocol = Protocol::flat;
    image.address = 0x7c00;
    image.mode = StartMode::real;
    load(vm, image);
    EXPECT_EQ(vm.state.segment[abi::cs].base + vm.state.rip, 0x7c00u);
    EXPECT_EQ(vm.state.cr0 & x86::cr0::pe, 0u);
    image.address = 0x20'0000;
    image.mode = StartMode::protected32;
    load(vm, image);
    EXPECT_EQ(vm.state.rip, 0x20'0000u);
    image.mode = StartMode::long64;
    load(vm, image);
    EXPECT_NE(vm.state.efer & x86::efer::lma, 0u);
    EXPECT_EQ(at<u8>(0x20'0000), 0xf4);
}

TEST(BootOnVmx, without_unrestricted_guests_a_guest_begins_with_paging) {
    BufferTarget target(abi::Vendor::vmx); // whose capabilities say nothing of them
    Vm vm(target, {.mode = abi::Mode::shadow, .bytes = 4u << 20, .slot = 0});
    Image image;
    image.kernel = {0xf4};
    image.protocol = Protocol::flat;
    image.mode = StartMode::real;
    image.address = 0x7c00;
    EXPECT_THROW(load(vm, image), BadImage);
}

} // namespace
} // namespace refhv::monitor
