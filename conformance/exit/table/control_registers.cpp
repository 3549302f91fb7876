// SPDX-License-Identifier: MIT
// MOV to and from control and debug registers by every general register, exiting and not. VMX: SDM 3C 26.1.3,
// tables 28-3 and 28-4. SVM: APM 2 15.9, 15.8.1.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

constexpr u64 cr0_ts = 1u << 3, cr4_pce = 1u << 8, cr3_pcd_pwt = 0x18;

// MOV between register number `reg` (of control or debug registers) and general register `gpr`, 64-bit code.
std::vector<u8> mov(u8 opcode, unsigned reg, unsigned gpr) {
    std::vector<u8> code = {static_cast<u8>(0x40 | (reg >= 8 ? 4 : 0) | (gpr >= 8 ? 1 : 0)), 0x0f, opcode,
                            static_cast<u8>(0xc0 | (reg & 7) << 3 | (gpr & 7))};
    if (code.front() == 0x40) { // no REX prefix
        code.erase(code.begin());
    }
    return code;
}
constexpr u8 from_cr = 0x20, from_dr = 0x21, to_cr = 0x22, to_dr = 0x23;

std::string text(const char* what, unsigned reg, unsigned gpr) {
    return std::string(what) + std::to_string(reg) + ", general register " + std::to_string(gpr);
}

// What the guest writes: a change that a control register takes.
u64 operand(const abi::GuestState& s, unsigned cr) {
    return cr == 0   ? s.cr0 ^ cr0_ts
           : cr == 3 ? s.cr3 | cr3_pcd_pwt
           : cr == 4 ? s.cr4 ^ cr4_pce
           : cr == 8 ? 5
                     : 0x1234;
}

u64* register_of(abi::GuestState& s, unsigned cr) {
    return cr == 0 ? &s.cr0 : cr == 2 ? &s.cr2 : cr == 3 ? &s.cr3 : cr == 4 ? &s.cr4 : &s.cr8;
}

} // namespace

// Every general register names itself in the qualification; RSP among them.
TEST_F(ExitTable, mov_cr_names_every_general_register) {
    const Section section{"SDM 3C 26.1.3, table 28-3", "APM 2 15.9, 15.8.1"};
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        const bool assists = (cpuid(hello(), 0x8000'000a, 0, 3) >> 7 & 1) != 0;
        const auto controls = every_instruction_exits(prober, hello(), vmx);
        std::vector<Row> rows;
        for (const unsigned cr : {0u, 2u, 3u, 4u, 8u}) {
            for (unsigned gpr = 0; gpr < 16; ++gpr) {
                for (const bool write : {false, true}) {
                    if (vmx && (cr == 2 || (!write && (cr == 0 || cr == 4)))) {
                        continue;
                    }
                    Probe p(text(write ? "MOV to CR" : "MOV from CR", cr, gpr), Kind::long64,
                            mov(write ? to_cr : from_cr, cr, gpr));
                    p.fields = controls;
                    if (write) {
                        p.state.gpr[gpr] = operand(p.state, cr);
                    }
                    if (vmx) {
                        p.set(vmcs::cr0_mask, ~u64{0});
                        p.set(vmcs::cr4_mask, ~u64{0});
                    }
                    Due due = exits(p, vmx ? 28 : cr + (write ? 0x10 : 0));
                    if (vmx) {
                        due.qualification = Bits{cr | (write ? 0u : 1u) << 4 | gpr << 8};
                    } else if (assists) {
                        due.qualification = Bits{u64{1} << 63 | gpr};
                    }
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

TEST_F(ExitTable, mov_cr_moves_every_general_register) {
    const Section section{"SDM 3C 26.1.3; SDM 2B MOV", "APM 2 15.9; APM 3 MOV CRn"};
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        std::vector<Row> rows;
        for (const unsigned cr : {0u, 2u, 3u, 4u, 8u}) {
            for (unsigned gpr = 0; gpr < 16; ++gpr) {
                for (const bool write : {false, true}) {
                    Probe p(text(write ? "MOV to CR" : "MOV from CR", cr, gpr), Kind::long64,
                            mov(write ? to_cr : from_cr, cr, gpr));
                    p.state.cr2 = 0x5678'9abc;
                    p.state.cr8 = 3;
                    if (write) {
                        p.state.gpr[gpr] = operand(p.state, cr);
                    }
                    if (vmx) { // what VMX operation fixes stays the host's
                        constexpr u64 vmxe = 1u << 13;
                        p.set(vmcs::cr0_mask, 0);
                        p.set(vmcs::cr4_mask, vmxe);
                    }
                    Due due = runs(p, vmx);
                    if (write) {
                        *register_of(due.state, cr) = p.state.gpr[gpr];
                    } else {
                        due.state.gpr[gpr] = *register_of(p.state, cr);
                    }
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

TEST_F(ExitTable, mov_dr_names_every_register) {
    const Section section{"SDM 3C 26.1.3, table 28-4", "APM 2 15.9, 15.8.1"};
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        const bool assists = (cpuid(hello(), 0x8000'000a, 0, 3) >> 7 & 1) != 0;
        const auto controls = every_instruction_exits(prober, hello(), vmx);
        std::vector<Row> rows;
        for (const unsigned dr : {0u, 1u, 2u, 3u, 6u, 7u}) {
            for (unsigned gpr = 0; gpr < 16; ++gpr) {
                for (const bool write : {false, true}) {
                    if (dr != 7 && gpr % 6 != dr) {
                        continue; // every general register with DR7, every debug register with some
                    }
                    Probe p(text(write ? "MOV to DR" : "MOV from DR", dr, gpr), Kind::long64,
                            mov(write ? to_dr : from_dr, dr, gpr));
                    p.fields = controls;
                    if (write) {
                        p.state.gpr[gpr] = 0x400;
                    }
                    Due due = exits(p, vmx ? 29 : 0x20 + dr + (write ? 0x10 : 0));
                    if (vmx) {
                        due.qualification = Bits{dr | (write ? 0u : 1u) << 4 | gpr << 8};
                    } else if (assists) {
                        due.qualification = Bits{gpr};
                    }
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// SVM: one bit a register and direction, and no bit for its neighbours.
TEST_F(ExitTable, svm_each_cr_and_dr_intercept_is_for_its_register) {
    const Section section{.apm = "APM 2 15.9, appendix B"};
    claim(section, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        const auto add = [&](bool debug, unsigned reg, bool write, unsigned bit, bool of_writes) {
            Probe p(text(debug ? "DR" : "CR", reg, 9) + (write ? ", write" : ", read") + " under bit " +
                        std::to_string(bit) + (of_writes ? " of writes" : " of reads"),
                    Kind::long64,
                    mov(static_cast<u8>((debug ? from_dr : from_cr) + (write ? 2 : 0)), reg, 9));
            p.state.gpr[9] = debug ? (reg == 7   ? 0x400u
                                      : reg == 6 ? 0xffff'0ff0u
                                                 : 0x1234u)
                                   : operand(p.state, reg);
            p.set((debug ? vmcb::dr_read : vmcb::cr_read) + (of_writes ? 2 : 0), u64{1} << bit, 2);
            const bool exits_now = bit == reg && write == of_writes;
            Due due = exits_now ? exits(p, (debug ? 0x20 : 0) + reg + (write ? 0x10 : 0)) : runs(p, false);
            due.registers = due.control = exits_now;
            rows.push_back({std::move(p), due});
        };
        for (const bool debug : {false, true}) {
            for (const unsigned reg : {0u, 2u, 3u, 4u, 8u, 1u, 6u, 7u}) {
                const bool exists = debug ? reg != 4 && reg != 8 : reg != 1 && reg != 6 && reg != 7;
                for (const bool write : {false, true}) {
                    for (const unsigned bit : {reg, reg ^ 1, reg ^ 8}) {
                        if (exists && !(debug && bit >= 16)) {
                            add(debug, reg, write, bit, write);
                        }
                    }
                    if (exists) {
                        add(debug, reg, write, reg, !write);
                    }
                }
            }
        }
        hold_rows(prober, rows, section.apm);
    });
}

} // namespace refhv::front
