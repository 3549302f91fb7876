// SPDX-License-Identifier: MIT
#include "refhv/monitor/boot/start.hpp"

#include "refhv/monitor/boot/layout.hpp"
#include "refhv/x86/registers.hpp"

#include <algorithm>
#include <array>

namespace refhv::monitor {

namespace {

constexpr u32 code64 = 0xa09b, code32 = 0xc09b, data32 = 0xc093, code16 = 0x9b, data16 = 0x93, ldt = 0x82,
              busy_tss = 0x8b;
constexpr u16 code_selector = 0x10, data_selector = 0x18;

// SDM 3A table 10-1: after power-up, but for what the caller sets.
abi::GuestState reset_state() {
    abi::GuestState s{};
    s.rflags = x86::rflags_bits::fixed;
    s.cr0 = x86::cr0::et | x86::cr0::ne;
    s.xcr0 = 1;
    s.dr6 = 0xffff'0ff0;
    s.dr7 = 0x400;
    s.pat = 0x0007'0406'0007'0406;
    s.segment[abi::ldtr] = {.base = 0, .limit = 0xffff, .rights = ldt, .selector = 0, .zero = {}};
    s.segment[abi::tr] = {.base = 0, .limit = 0xffff, .rights = busy_tss, .selector = 0, .zero = {}};
    s.idtr = {.base = 0, .limit = 0x3ff, .zero = 0};
    s.gdtr = {.base = 0, .limit = 0xffff, .zero = 0};
    return s;
}

void flat_segments(abi::GuestState& s, u32 code) {
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs}) {
        s.segment[i] = {.base = 0, .limit = ~u32{0}, .rights = data32, .selector = data_selector, .zero = {}};
    }
    s.segment[abi::cs] = {.base = 0, .limit = ~u32{0}, .rights = code, .selector = code_selector, .zero = {}};
    s.gdtr = {.base = low::gdt, .limit = 0x1f, .zero = 0};
    s.idtr = {.base = 0, .limit = 0, .zero = 0};
    s.gpr[abi::rsp] = low::stack;
}

} // namespace

abi::GuestState real_state(u64 address) {
    abi::GuestState s = reset_state();
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs}) {
        s.segment[i] = {.base = 0, .limit = 0xffff, .rights = data16, .selector = 0, .zero = {}};
    }
    const u64 base = address & 0xf'0000;
    s.segment[abi::cs] = {
        .base = base, .limit = 0xffff, .rights = code16, .selector = static_cast<u16>(base >> 4), .zero = {}};
    s.rip = address & 0xffff;
    s.gpr[abi::rsp] = 0x7000;
    return s;
}

abi::GuestState protected_state(u32 entry) {
    abi::GuestState s = reset_state();
    s.cr0 |= x86::cr0::pe;
    flat_segments(s, code32);
    s.rip = entry;
    return s;
}

abi::GuestState long_state(u64 entry) {
    abi::GuestState s = reset_state();
    s.cr0 |= x86::cr0::pe | x86::cr0::pg;
    s.cr3 = low::page_tables;
    s.cr4 = x86::cr4::pae;
    s.efer = x86::efer::lme | x86::efer::lma;
    flat_segments(s, code64);
    s.rip = entry;
    return s;
}

void place_gdt(Vm& vm) {
    constexpr std::array<u64, 4> gdt = {0, 0, 0x00af'9b00'0000'ffff, 0x00cf'9300'0000'ffff};
    constexpr std::array<u64, 4> gdt32 = {0, 0, 0x00cf'9b00'0000'ffff, 0x00cf'9300'0000'ffff};
    place_object(vm, low::gdt, (vm.state.efer & x86::efer::lma) != 0 ? gdt : gdt32, "the GDT");
}

void map_identity(Vm& vm) {
    constexpr u64 present_writable = 3, large = 0x80, gbytes = 4;
    constexpr u64 large_bytes = 2u << 20;
    std::vector<u64> tables((2 + gbytes) * page_size / 8);
    const usize per_page = page_size / 8;
    tables[0] = (low::page_tables + page_size) | present_writable;
    for (u64 i = 0; i < gbytes; ++i) {
        tables[per_page + i] = (low::page_tables + (2 + i) * page_size) | present_writable;
    }
    for (u64 i = 0; i < gbytes * per_page; ++i) {
        tables[2 * per_page + i] = i * large_bytes | large | present_writable;
    }
    place(vm, low::page_tables, {reinterpret_cast<const u8*>(tables.data()), tables.size() * 8},
          "page tables");
}

void need_mode(const Vm& vm) {
    constexpr u64 both = x86::cr0::pe | x86::cr0::pg;
    if ((vm.state.cr0 & x86::cr0::pe) == 0 && vm.mode() != abi::Mode::nested) {
        throw BadImage("real mode takes nested paging");
    }
    if ((vm.state.cr0 & both) != both && !vm.runs_unpaged()) {
        throw BadImage("this CPU has no unrestricted guests (IA32_VMX_PROCBASED_CTLS2 bit 39): a guest of it "
                       "begins with paging on");
    }
}

void place(Vm& vm, u64 gpa, std::span<const u8> bytes, const char* what) {
    if (!vm.contains(gpa, bytes.size())) {
        throw BadImage(std::string(what) + " of " + std::to_string(bytes.size()) + " bytes at " +
                       std::to_string(gpa >> 10) + " KBytes does not fit into " +
                       std::to_string(vm.bytes() >> 20) + " MBytes of memory");
    }
    vm.write(gpa, bytes);
}

void place_command_line(Vm& vm, const std::string& text) {
    if (text.size() >= low::most_command_line) {
        throw BadImage("a command line of " + std::to_string(text.size()) + " bytes; there is room for " +
                       std::to_string(low::most_command_line - 1));
    }
    place(vm, low::command_line, {reinterpret_cast<const u8*>(text.c_str()), text.size() + 1},
          "the command line");
}

u64 place_high(Vm& vm, std::span<const u8> bytes, u64 limit, const char* what) {
    constexpr u64 below_4g = 0xc000'0000;
    const u64 end = std::min({vm.bytes(), limit, below_4g});
    if (bytes.size() > end || end - bytes.size() < low::high) {
        throw BadImage(std::string(what) + " of " + std::to_string(bytes.size()) +
                       " bytes does not fit into " + std::to_string(vm.bytes() >> 20) + " MBytes of memory");
    }
    const u64 at = (end - bytes.size()) / page_size * page_size;
    vm.write(at, bytes);
    return at;
}

} // namespace refhv::monitor
