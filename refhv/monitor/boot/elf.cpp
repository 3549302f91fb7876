// SPDX-License-Identifier: MIT
#include "refhv/monitor/boot/elf.hpp"

#include <algorithm>
#include <elf.h>

namespace refhv::monitor {

namespace {

constexpr usize most_segments = 64;
constexpr u32 phys32_entry = 18; // XEN_ELFNOTE_PHYS32_ENTRY

} // namespace

std::optional<Elf> Elf::parse(std::span<const u8> file) {
    if (file.size() < EI_NIDENT || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) {
        return {};
    }
    if (file[EI_CLASS] == ELFCLASS32) {
        return read<Elf32_Ehdr, Elf32_Phdr>(file);
    }
    return file[EI_CLASS] == ELFCLASS64 ? read<Elf64_Ehdr, Elf64_Phdr>(file) : std::nullopt;
}

template <class Header, class Program>
std::optional<Elf> Elf::read(std::span<const u8> file) {
    const auto header = object_at<Header>(file, 0);
    if (!header || (header->e_machine != EM_386 && header->e_machine != EM_X86_64) ||
        (header->e_type != ET_EXEC && header->e_type != ET_DYN)) {
        return {};
    }
    if (header->e_phnum > most_segments || header->e_phentsize != sizeof(Program)) {
        throw BadImage("an ELF file with " + std::to_string(header->e_phnum) + " program headers of " +
                       std::to_string(header->e_phentsize) + " bytes");
    }
    Elf elf;
    elf.file_ = file;
    elf.entry_ = header->e_entry;
    for (unsigned i = 0; i < header->e_phnum; ++i) {
        const auto program = object_at<Program>(file, header->e_phoff + u64{i} * sizeof(Program));
        const bool inside = program && program->p_offset <= file.size() &&
                            program->p_filesz <= file.size() - program->p_offset;
        if (!inside || (program->p_type == PT_LOAD && program->p_filesz > program->p_memsz)) {
            throw BadImage("an ELF file that is cut off: its program header " + std::to_string(i) +
                           " leads beyond its end");
        }
        if (program->p_type == PT_LOAD && program->p_memsz != 0) {
            elf.segments_.push_back(
                {program->p_paddr, program->p_offset, program->p_filesz, program->p_memsz});
            const u64 into = header->e_entry - program->p_vaddr;
            if (header->e_entry >= program->p_vaddr && into < program->p_memsz) {
                elf.entry_ = program->p_paddr + into;
            }
        } else if (program->p_type == PT_NOTE) {
            elf.read_notes(program->p_offset, program->p_filesz);
        }
    }
    return elf;
}

void Elf::read_notes(u64 at, u64 bytes) {
    const auto notes = file_.subspan(at, bytes);
    const auto round = [](u64 n) { return (n + 3) & ~u64{3}; };
    for (u64 i = 0; i < notes.size();) {
        const auto note = object_at<Elf32_Nhdr>(notes, i); // of both classes
        if (!note) {
            return;
        }
        const u64 name = i + sizeof *note, value = name + round(note->n_namesz);
        const auto entry = object_at<u32>(notes, value);
        const bool xen = note->n_namesz == 4 && name + 4 <= notes.size() &&
                         std::memcmp(notes.data() + name, "Xen", 4) == 0;
        if (xen && note->n_type == phys32_entry && entry) {
            pvh_entry_ = *entry;
        }
        i = value + round(note->n_descsz);
    }
}

void Elf::place(Vm& vm) const {
    for (const Segment& s : segments_) {
        if (!vm.contains(s.physical, s.memory_bytes)) {
            throw BadImage("a segment of " + std::to_string(s.memory_bytes) + " bytes at " +
                           std::to_string(s.physical >> 10) + " KBytes does not fit into " +
                           std::to_string(vm.bytes() >> 20) + " MBytes of memory");
        }
        vm.write(s.physical, file_.subspan(s.offset, s.file_bytes)); // the rest is zero, as all memory is
    }
}

u64 Elf::end() const {
    u64 end = 0;
    for (const Segment& s : segments_) {
        end = std::max(end, s.physical + s.memory_bytes);
    }
    return end;
}

} // namespace refhv::monitor
