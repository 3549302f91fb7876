// SPDX-License-Identifier: MIT
// VM-exit instruction information: operand sizes, and operands that are registers. SDM 3C 28.2.5, tables
// 28-10 to 28-14.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

// An instruction whose operand is a register of 64-bit mode.
ProbeClaim::Row register_form(const std::string& name, unsigned reg, std::vector<u8> code,
                              const std::vector<RawField>& controls, u64 raw, Bits info) {
    Probe p(name + ", register " + std::to_string(reg), Kind::long64, std::move(code));
    p.fields = controls;
    Due due = exits(p, raw, Bits{0});
    due.info = info;
    return {std::move(p), due};
}

} // namespace

// Bit 11 is the operand size outside 64-bit mode.
TEST_F(ExitTable, vmx_exits_of_descriptor_tables_tell_the_operand_size) {
    const Section section{.sdm = "SDM 3C 28.2.5, table 28-10"};
    claim(section, [&] {
        Prober prober(host());
        if (!offers(hello(), vmcs::secondary_controls, vmx::proc2::descriptor_table)) {
            GTEST_SKIP() << "no descriptor-table exiting";
        }
        const auto controls = every_instruction_exits(prober, hello(), true);
        std::vector<Row> rows;
        for (const Kind kind : {Kind::paged16, Kind::paged32, Kind::compat16, Kind::compat32}) {
            for (const bool prefix : {false, true}) {
                for (unsigned id = 0; id < 4; ++id) {
                    std::vector<u8> code = machine::hex(prefix ? "66 0f 01 07" : "0f 01 07");
                    code.back() |= static_cast<u8>(id << 3);
                    Probe p(std::string(machine::name_of(kind)) +
                                (prefix ? ": prefixed SGDT to LIDT " : ": SGDT to LIDT ") +
                                std::to_string(id),
                            kind, code);
                    p.fields = controls;
                    p.state.gpr[abi::rbx] = p.state.gpr[abi::rdi] = 0x2340;
                    Due due = exits(p, 46, Bits{0});
                    const u64 size = machine::is_16(kind) == prefix ? 1 : 0;
                    due.info = Bits{size << 11 | id << 28, 1u << 11 | 3u << 28};
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

// In register form: bit 10, the register in bits 6:3.
TEST_F(ExitTable, vmx_exits_name_register_operands) {
    const Section section{.sdm = "SDM 3C 28.2.5, tables 28-11, 28-14"};
    claim(section, [&] {
        Prober prober(host());
        const auto controls = every_instruction_exits(prober, hello(), true);
        const bool descriptors = offers(hello(), vmcs::secondary_controls, vmx::proc2::descriptor_table);
        std::vector<Row> rows;
        for (unsigned r = 0; r < 16; ++r) {
            const auto rex_b = static_cast<u8>(0x40 | (r >= 8 ? 1 : 0));
            const auto low = static_cast<u8>(r & 7);
            for (unsigned id = 0; id < 4 && descriptors; ++id) {
                rows.push_back(register_form("SLDT, STR, LLDT, LTR " + std::to_string(id), r,
                                             {rex_b, 0x0f, 0x00, static_cast<u8>(0xc0 | id << 3 | low)},
                                             controls, 47,
                                             {1u << 10 | r << 3 | id << 28, 3u << 28 | 1u << 10 | 0x78}));
            }
            const unsigned field = 15 - r;
            const auto rex = static_cast<u8>(rex_b | (field >= 8 ? 4 : 0));
            const auto modrm = static_cast<u8>(0xc0 | (field & 7) << 3 | low);
            const Bits info{1u << 10 | r << 3 | u64{field} << 28, 0xf000'0478};
            rows.push_back(register_form("VMREAD", r, {rex, 0x0f, 0x78, modrm}, controls, 23, info));
            rows.push_back(register_form("VMWRITE", r, {rex, 0x0f, 0x79, modrm}, controls, 25, info));
        }
        hold_rows(prober, rows, section.sdm);
    });
}

TEST_F(ExitTable, vmx_exits_of_rdrand_and_rdseed_tell_register_and_size) {
    const Section section{.sdm = "SDM 3C 28.2.5, table 28-12"};
    claim(section, [&] {
        Prober prober(host());
        const auto controls = every_instruction_exits(prober, hello(), true);
        const u32 offered = front::offered(hello(), vmcs::secondary_controls);
        const bool rdrand = (cpuid(hello(), 1, 0, 2) >> 30 & 1) != 0 && (offered & vmx::proc2::rdrand) != 0;
        const bool rdseed = (cpuid(hello(), 7, 0, 1) >> 18 & 1) != 0 && (offered & vmx::proc2::rdseed) != 0;
        std::vector<Row> rows;
        for (const bool seed : {false, true}) {
            for (unsigned r = 0; r < 16 && (seed ? rdseed : rdrand); ++r) {
                const auto rex = static_cast<u8>(0x40 | (r >= 8 ? 1 : 0));
                const auto modrm = static_cast<u8>((seed ? 0xf8 : 0xf0) | (r & 7));
                const u64 raw = seed ? 61 : 57;
                const std::string name = seed ? "RDSEED" : "RDRAND";
                rows.push_back(register_form(name + ", 64-bit", r,
                                             {static_cast<u8>(rex | 8), 0x0f, 0xc7, modrm}, controls, raw,
                                             {r << 3 | 2u << 11, 0x1878}));
                rows.push_back(register_form(name + ", 32-bit", r, {rex, 0x0f, 0xc7, modrm}, controls, raw,
                                             {r << 3 | 1u << 11, 0x1878}));
                rows.push_back(register_form(name + ", 16-bit", r, {0x66, rex, 0x0f, 0xc7, modrm}, controls,
                                             raw, {r << 3, 0x1878}));
            }
        }
        if (rows.empty()) {
            GTEST_SKIP() << "no exits of RDRAND or RDSEED";
        }
        hold_rows(prober, rows, section.sdm);
    });
}

} // namespace refhv::front
