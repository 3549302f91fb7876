// SPDX-License-Identifier: MIT
// PAE paging under EPT: entries load the PDPTEs from the VMCS, exits store them, and MOV to CR3 loads them
// from memory, #GP if a reserved bit is set. SDM 3A 4.4.1; SDM 3C 27.3.2.4, 28.3.1, 27.3.1.6.
#include "conformance/mode/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

constexpr u32 pdpte(u32 n) {
    return vmcs::guest_pdpte0 + 2 * n;
}

constexpr u64 other_pdpt = 0x8020; // at a multiple of 32 bytes, beside the usual one

std::vector<RawField> all_pdptes() {
    return {{pdpte(0), 0}, {pdpte(1), 0}, {pdpte(2), 0}, {pdpte(3), 0}};
}

std::vector<u8> entries(std::initializer_list<u64> list) {
    std::vector<u8> out;
    for (const u64 e : list) {
        const auto bytes = machine::bytes_of(e);
        out.insert(out.end(), bytes.begin(), bytes.end());
    }
    return out;
}

constexpr u64 present = machine::pae_directory | 1;

} // namespace

TEST_F(GuestMode, vmx_pdptes_are_loaded_from_the_vmcs_and_stored_there) {
    const Section section{.sdm = "SDM 3C 27.3.2.4, 28.3.1"};
    claim(section, [&] {
        Prober prober(host());
        prober.write(machine::pae_pdpt + 24, machine::bytes_of(u64{0}));
        std::vector<Row> rows;
        for (u32 n = 0; n < 16; ++n) {
            // Those that memory does not have: the fourth GByte is mapped by the VMCS alone, and so on.
            Probe p("PDPTEs " + std::to_string(n), Kind::pae, machine::hex("8a 07"));
            std::vector<u64> values;
            for (u32 i = 0; i < 4; ++i) {
                const bool there = i == 0 || i == 3 || (n >> i & 1) != 0;
                values.push_back(there ? present | (n & 8) | (n & 1) << 9 : n << 1 & 6);
                p.set(pdpte(i), values.back(), 8);
            }
            p.state.gpr[abi::rdi] = 0xc000'0000 + machine::data;
            p.memory = {{machine::data, {static_cast<u8>(0xa0 + n)}}};
            p.read_fields = all_pdptes();
            Due due = runs(p, true);
            u64& rax = due.state.gpr[abi::rax];
            rax = (rax & ~u64{0xff}) | (0xa0 + n);
            due.fields = values;
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section.sdm);
    });
}

TEST_F(GuestMode, mov_to_cr3_loads_the_pdptes) {
    const Section section{"SDM 3A 4.4.1; SDM 3C 28.3.1", "APM 2 5.2.1, 15.25.10"};
    claim(section, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        const auto add = [&](const char* name, std::initializer_list<u64> list, bool valid) {
            Probe p(name, Kind::pae, machine::hex("0f 22 d8 8a 07"));
            const auto bytes = entries(list);
            p.memory = {{other_pdpt, bytes}, {machine::data, {0x5a}}};
            p.state.gpr[abi::rax] = other_pdpt | 0x18; // PWT and PCD are no part of the address
            p.state.gpr[abi::rdi] = 0xc000'0000 + machine::data;
            Due due = valid ? runs(p, on_vmx()) : faults(p, on_vmx(), 13);
            if (valid) {
                due.state.cr3 = p.state.gpr[abi::rax];
                u64& rax = due.state.gpr[abi::rax];
                rax = (rax & ~u64{0xff}) | 0x5a;
            }
            if (on_vmx()) {
                p.read_fields = all_pdptes();
                due.fields =
                    valid ? std::vector<u64>(list) : std::vector<u64>{present, present, present, present};
            }
            rows.push_back({std::move(p), due});
        };
        add("PDPTEs of another table", {present, present, present, present | 0x18}, true);
        add("PDPTEs with ignored bits", {present, present | 0xe00, 0, present | 0x800}, true);
        add("PDPTEs that are not present, reserved bits set", {present, 0x1e6, 0, present}, true);
        if (on_vmx()) { // AMD CPUs may read them when they are used
            for (const u64 bit : {1, 2, 5, 6, 7, 8, 63}) {
                add("reserved bit of PDPTE 1", {present, present | u64{1} << bit, present, present}, false);
                add("reserved bit of PDPTE 3", {present, present, present, present | u64{1} << bit}, false);
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

} // namespace refhv::front
