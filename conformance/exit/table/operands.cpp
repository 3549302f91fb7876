// SPDX-License-Identifier: MIT
// VM-exit instruction information and the displacement in the exit qualification, for memory operands of
// every form. SDM 3C 28.2.1, 28.2.5, tables 28-9 to 28-14.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

struct Instruction {
    const char* name;
    u8 prefix; // 0: none
    std::vector<u8> opcode;
    unsigned digit; // /digit, or a register operand
    u64 raw;
    int identity = -1;     // bits 29:28
    bool reg2 = false;     // bits 31:28 name the register operand
    bool reg_form = false; // has bit 10 and, in register form, bits 6:3
};

std::vector<Instruction> instructions() {
    return {
        {.name = "SGDT", .prefix = 0, .opcode = {0x0f, 0x01}, .digit = 0, .raw = 46, .identity = 0},
        {.name = "SIDT", .prefix = 0, .opcode = {0x0f, 0x01}, .digit = 1, .raw = 46, .identity = 1},
        {.name = "LGDT", .prefix = 0, .opcode = {0x0f, 0x01}, .digit = 2, .raw = 46, .identity = 2},
        {.name = "LIDT", .prefix = 0, .opcode = {0x0f, 0x01}, .digit = 3, .raw = 46, .identity = 3},
        {.name = "SLDT",
         .prefix = 0,
         .opcode = {0x0f, 0x00},
         .digit = 0,
         .raw = 47,
         .identity = 0,
         .reg_form = true},
        {.name = "STR",
         .prefix = 0,
         .opcode = {0x0f, 0x00},
         .digit = 1,
         .raw = 47,
         .identity = 1,
         .reg_form = true},
        {.name = "LLDT",
         .prefix = 0,
         .opcode = {0x0f, 0x00},
         .digit = 2,
         .raw = 47,
         .identity = 2,
         .reg_form = true},
        {.name = "LTR",
         .prefix = 0,
         .opcode = {0x0f, 0x00},
         .digit = 3,
         .raw = 47,
         .identity = 3,
         .reg_form = true},
        {.name = "VMCLEAR", .prefix = 0x66, .opcode = {0x0f, 0xc7}, .digit = 6, .raw = 19},
        {.name = "VMPTRLD", .prefix = 0, .opcode = {0x0f, 0xc7}, .digit = 6, .raw = 21},
        {.name = "VMPTRST", .prefix = 0, .opcode = {0x0f, 0xc7}, .digit = 7, .raw = 22},
        {.name = "VMXON", .prefix = 0xf3, .opcode = {0x0f, 0xc7}, .digit = 6, .raw = 27},
        {.name = "INVEPT", .prefix = 0x66, .opcode = {0x0f, 0x38, 0x80}, .digit = 0, .raw = 50, .reg2 = true},
        {.name = "INVVPID",
         .prefix = 0x66,
         .opcode = {0x0f, 0x38, 0x81},
         .digit = 0,
         .raw = 53,
         .reg2 = true},
        {.name = "VMREAD",
         .prefix = 0,
         .opcode = {0x0f, 0x78},
         .digit = 0,
         .raw = 23,
         .reg2 = true,
         .reg_form = true},
        {.name = "VMWRITE",
         .prefix = 0,
         .opcode = {0x0f, 0x79},
         .digit = 0,
         .raw = 25,
         .reg2 = true,
         .reg_form = true},
    };
}

constexpr u8 overrides[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}; // ES, CS, SS, DS, FS, GS

// A random memory operand of 32- or 64-bit addressing: SIB always, so that any base and index can be.
struct Operand {
    std::vector<u8> prefixes, modrm; // modrm with SIB and displacement
    u8 rex = 0;
    u64 info = 0, defined = 0;
    u64 displacement = 0;
    bool rip_relative = false;
};

Operand random_operand(std::mt19937_64& random, Kind kind, unsigned digit) {
    const bool long64 = machine::is_64(kind);
    Operand o;
    const u64 r = random();
    const bool other = (r & 1) != 0;
    const unsigned address = long64 ? (other ? 1 : 2) : 1;
    if (long64 && other) {
        o.prefixes.push_back(0x67);
    }
    const unsigned registers = long64 ? 16 : 8;
    const unsigned base = static_cast<unsigned>(r >> 8) % registers;
    const unsigned index = static_cast<unsigned>(r >> 16) % registers;
    const unsigned scale = r >> 24 & 3, mod = static_cast<unsigned>(r >> 26) % 3;
    const bool no_base = mod == 0 && (base & 7) == 5, no_index = index == 4;
    const bool stack = !no_base && (base == 4 || base == 5);
    unsigned segment = stack ? 2 : 3;
    if ((r >> 32 & 3) != 0) {
        const unsigned n = static_cast<unsigned>(r >> 34) % 6;
        // In 64-bit mode only FS and GS are sure to count.
        if (!long64 || n >= 4) {
            segment = n;
            o.prefixes.push_back(overrides[n]);
        }
    }
    o.rex = static_cast<u8>((index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
    o.modrm = {static_cast<u8>(mod << 6 | (digit & 7) << 3 | 4),
               static_cast<u8>(scale << 6 | (index & 7) << 3 | (base & 7))};
    const auto value = static_cast<u32>(random());
    if (mod == 1) {
        o.modrm.push_back(static_cast<u8>(value));
        o.displacement = static_cast<u64>(static_cast<i64>(static_cast<signed char>(value)));
    } else if (mod == 2 || no_base) {
        for (unsigned i = 0; i < 4; ++i) {
            o.modrm.push_back(static_cast<u8>(value >> 8 * i));
        }
        o.displacement = static_cast<u64>(static_cast<i64>(static_cast<int>(value)));
    }
    o.info = address << 7 | segment << 15 | (no_index ? 1u << 22 : scale | index << 18) |
             (no_base ? 1u << 27 : base << 23);
    o.defined =
        0x380 | 7u << 15 | 1u << 22 | 1u << 27 | (no_index ? 0 : 3 | 15u << 18) | (no_base ? 0 : 15u << 23);
    if (long64 && segment < 4) {
        o.defined &= ~u64{7u << 15}; // the segment is moot
    }
    if (address == 1) {
        o.displacement &= 0xffff'ffff; // above the address size it is undefined
    }
    return o;
}

} // namespace

TEST_F(ExitTable, vmx_exits_describe_memory_operands) {
    const Section section{.sdm = "SDM 3C 28.2.1, 28.2.5, tables 28-9 to 28-14"};
    claim(section, [&] {
        Prober prober(host());
        const auto controls = every_instruction_exits(prober, hello(), true);
        const bool descriptors = offers(hello(), vmcs::secondary_controls, vmx::proc2::descriptor_table);
        std::mt19937_64 random(28'2'5);
        std::vector<Row> rows;
        for (const Instruction& i : instructions()) {
            for (unsigned n = 0; n < 12; ++n) {
                const bool long64 = n % 3 != 0;
                if ((i.identity >= 0 && !descriptors)) {
                    continue;
                }
                const unsigned reg2 = static_cast<unsigned>(random()) % (long64 ? 16 : 8);
                Operand o =
                    random_operand(random, long64 ? Kind::long64 : Kind::paged32, i.reg2 ? reg2 : i.digit);
                std::vector<u8> code = o.prefixes;
                if (i.prefix != 0) {
                    code.push_back(i.prefix);
                }
                const auto rex = static_cast<u8>(o.rex | (i.reg2 && reg2 >= 8 ? 4 : 0));
                if (rex != 0) {
                    code.push_back(0x40 | rex);
                }
                code.insert(code.end(), i.opcode.begin(), i.opcode.end());
                code.insert(code.end(), o.modrm.begin(), o.modrm.end());
                Probe p(std::string(i.name) + (long64 ? ", 64-bit " : ", 32-bit ") + std::to_string(n),
                        long64 ? Kind::long64 : Kind::paged32, code);
                for (unsigned g = 0; g < 16; ++g) { // no operand that could fault first
                    p.state.gpr[g] = machine::data + 8 * g;
                }
                p.fields = controls;
                u64 info = o.info, defined = o.defined;
                if (i.identity >= 0) {
                    info |= static_cast<u64>(i.identity) << 28;
                    defined |= 3u << 28;
                }
                if (i.reg2) {
                    info |= u64{reg2} << 28;
                    defined |= 15u << 28;
                }
                defined |= i.reg_form ? 1u << 10 : 0; // 0: memory
                const bool narrow = (o.info >> 7 & 7) == 1;
                Due due = exits(p, i.raw, Bits{o.displacement, narrow ? 0xffff'ffff : ~u64{0}});
                due.info = Bits{info, defined};
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

// Relative to RIP, the qualification is the address; and forms of 16 bits.
TEST_F(ExitTable, vmx_exits_describe_rip_relative_and_16_bit_operands) {
    const Section section{.sdm = "SDM 3C 28.2.1, 28.2.5, table 28-10"};
    claim(section, [&] {
        Prober prober(host());
        if (!offers(hello(), vmcs::secondary_controls, vmx::proc2::descriptor_table)) {
            GTEST_SKIP() << "no descriptor-table exiting";
        }
        const auto controls = every_instruction_exits(prober, hello(), true);
        std::vector<Row> rows;
        for (const u32 displacement : {0x100u, 0xffff'ff00u, 0u, 0x7fff'0000u}) {
            std::vector<u8> code = {0x0f, 0x01, 0x05};
            for (unsigned i = 0; i < 4; ++i) {
                code.push_back(static_cast<u8>(displacement >> 8 * i));
            }
            Probe p("SGDT relative to RIP", Kind::long64, code);
            p.fields = controls;
            const u64 target =
                p.state.rip + 7 + static_cast<u64>(static_cast<i64>(static_cast<int>(displacement)));
            Due due = exits(p, 46, Bits{target});
            due.info = Bits{2u << 7 | 1u << 22 | 1u << 27, 0x380 | 1u << 22 | 1u << 27 | 3u << 28};
            rows.push_back({std::move(p), due});
        }
        struct Form16 {
            u8 rm;
            unsigned base, index, segment;
        };
        constexpr Form16 forms[] = {{0, 3, 6, 3}, {1, 3, 7, 3}, {2, 5, 6, 2}, {3, 5, 7, 2}};
        for (const Kind kind : {Kind::real, Kind::paged16, Kind::compat16}) {
            for (const Form16& f : forms) {
                for (const unsigned mod : {0u, 1u, 2u}) {
                    if (!prober.offers(kind)) {
                        continue;
                    }
                    std::vector<u8> code = {0x0f, 0x01, static_cast<u8>(mod << 6 | f.rm)};
                    const u16 displacement = mod == 0 ? 0 : mod == 1 ? 0xfff0 : 0x8642;
                    for (unsigned i = 0; i < mod; ++i) {
                        code.push_back(static_cast<u8>(displacement >> 8 * i));
                    }
                    Probe p(std::string(machine::name_of(kind)) + ": SGDT, 16-bit form " +
                                std::to_string(f.rm),
                            kind, code);
                    p.fields = controls;
                    Due due = exits(p, 46, Bits{displacement, 0xffff});
                    due.info = Bits{f.segment << 15 | f.index << 18 | f.base << 23,
                                    0x380 | 7u << 15 | 31u << 18 | 31u << 23 | 3u << 28 | 3 | 1u << 11};
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

} // namespace refhv::front
