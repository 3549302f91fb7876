// SPDX-License-Identifier: MIT
// I/O bitmaps at every boundary, and what an I/O exit tells. VMX: SDM 3C 25.6.4, 26.1.3, table 28-5, 28.2.5.
// SVM: APM 2 15.10.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

const Section section{"SDM 3C 25.6.4, 26.1.3, table 28-5", "APM 2 15.10"};

struct Form {
    const char* name;
    const char* code;
    u32 size;
    bool in, immediate;
};
constexpr Form forms[] = {{"IN AL, DX", "ec", 1, true, false},      {"IN AX, DX", "66 ed", 2, true, false},
                          {"IN EAX, DX", "ed", 4, true, false},     {"OUT DX, AL", "ee", 1, false, false},
                          {"OUT DX, AX", "66 ef", 2, false, false}, {"OUT DX, EAX", "ef", 4, false, false}};

u64 qualification(bool vmx, u32 port, u32 size, bool in, bool immediate) {
    return vmx ? (size - 1) | (in ? 8u : 0u) | (immediate ? 0x40u : 0u) | u64{port} << 16
               : (in ? 1u : 0u) | size << 4 | u64{port} << 16;
}
// SVM's address size and segment are a string instruction's.
constexpr u64 svm_defined = 0xffff'007d, vmx_defined = 0xffff'007f;

Due io_exit(const Probe& p, bool vmx, u32 port, u32 size, bool in, bool immediate) {
    Due due = exits(p, vmx ? 30 : 0x7b,
                    Bits{qualification(vmx, port, size, in, immediate), vmx ? vmx_defined : svm_defined});
    if (!vmx) {
        due.info = Bits{p.state.rip + p.length()};
    }
    return due;
}

void use_own_bitmaps(Prober& prober, Probe& p, bool vmx) {
    if (vmx) {
        p.set(vmcs::io_bitmap_a, prober.host_physical(machine::bitmaps), 8);
        p.set(vmcs::io_bitmap_b, prober.host_physical(machine::bitmaps + page_size), 8);
    } else {
        p.set(vmcb::iopm, prober.host_physical(machine::bitmaps), 8);
    }
}

} // namespace

// One bit is set, and all its neighbours are clear; an access of any size exits if it touches that port.
TEST_F(ExitTable, each_bit_of_the_io_bitmaps_is_for_its_port) {
    claim(section, [&] {
        needs(abi::Permit::permission_maps);
        Prober prober(host());
        const bool vmx = on_vmx();
        prober.fill(machine::bitmaps, 0, 0, 3 * page_size / 8);
        std::vector<Row> rows;
        u32 before = 0;
        // Ports at the ends of bytes, words, pages and of the whole space, where no device answers in any way
        // that matters.
        constexpr u32 bits[] = {0x7fff, 0x8000, 0xffff, 0x1007, 0x1008};
        for (const u32 bit : bits) {
            for (const Form& form : forms) {
                for (int offset = -4; offset <= 1; ++offset) {
                    const u32 port = bit + static_cast<u32>(offset);
                    if (port + form.size > 0x10000 || (!form.in && offset != 0 && offset != -3)) {
                        continue;
                    }
                    Probe p("bit " + std::to_string(bit) + ", port " + std::to_string(port) + ", " +
                                form.name,
                            Kind::paged32, machine::hex(form.code));
                    use_own_bitmaps(prober, p, vmx);
                    p.state.gpr[abi::rdx] = port | 0xabcd'0000; // DX alone counts
                    p.memory = {{machine::bitmaps + before / 8, {0}},
                                {machine::bitmaps + bit / 8, {static_cast<u8>(1u << (bit & 7))}}};
                    before = bit;
                    const bool touches = port <= bit && bit < port + form.size;
                    Due due = touches ? io_exit(p, vmx, port, form.size, form.in, false) : runs(p, vmx);
                    due.registers = touches || !form.in;
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// An access that goes on behind FFFFH: VMX exits whatever the bitmaps say, SVM has three bits more.
TEST_F(ExitTable, an_access_beyond_port_ffffh_exits) {
    claim({"SDM 3C 26.1.3", "APM 2 15.10.1"}, [&] {
        needs(abi::Permit::permission_maps);
        Prober prober(host());
        const bool vmx = on_vmx();
        prober.fill(machine::bitmaps, 0, 0, 3 * page_size / 8);
        std::vector<Row> rows;
        for (const u32 port : {0xfffdu, 0xfffeu, 0xffffu}) {
            for (const Form& form : forms) {
                if (port + form.size <= 0x10000) {
                    continue;
                }
                Probe p("port " + std::to_string(port) + ", " + form.name, Kind::paged32,
                        machine::hex(form.code));
                use_own_bitmaps(prober, p, vmx);
                p.state.gpr[abi::rdx] = port;
                const u32 last = port + form.size - 1 - 0x10000; // of the bits behind the map of 64 Kbits
                p.memory = {{machine::bitmaps + 2 * page_size, {static_cast<u8>(vmx ? 0 : 1u << last)}}};
                const Due due = io_exit(p, vmx, port, form.size, form.in, false);
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

// All ports exit; the immediate form says so, and its port is a byte.
TEST_F(ExitTable, io_exits_tell_port_size_and_form) {
    claim(section, [&] {
        Prober prober(host());
        const bool vmx = on_vmx();
        std::vector<Row> rows;
        for (const Kind kind :
             {Kind::real, Kind::paged32, Kind::paged32_user, Kind::compat16, Kind::long64}) {
            if (!prober.offers(kind)) {
                continue;
            }
            for (unsigned n = 0; n < 6; ++n) {
                const bool in = n % 2 == 0;
                const u32 size = 1u << (n / 2);
                const bool word = size > 1, prefix = word && (size == 2) != machine::is_16(kind);
                for (const bool immediate : {false, true}) {
                    std::vector<u8> code;
                    if (prefix) {
                        code.push_back(0x66);
                    }
                    code.push_back(
                        static_cast<u8>((immediate ? 0xe4 : 0xec) | (in ? 0 : 2) | (word ? 1 : 0)));
                    const u32 port = immediate ? 0xf0 + n : 0x1230 + n;
                    if (immediate) {
                        code.push_back(static_cast<u8>(port));
                    }
                    Probe p(std::string(machine::name_of(kind)) + (in ? ": IN of " : ": OUT of ") +
                                std::to_string(size) + (immediate ? ", immediate" : ", DX"),
                            kind, code);
                    p.state.gpr[abi::rdx] = immediate ? 0x9999 : port;
                    const Due due = io_exit(p, vmx, port, size, in, immediate);
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section_of(section));
    });
}

namespace {

struct StringCase {
    bool in, rep, down;
    u32 size;
    u8 prefix; // of a segment; 0: none
    bool other_address_size;
};

// Number of the segment in the exit's information, which is abi::SegmentIndex for both vendors.
unsigned segment_of(const StringCase& c) {
    switch (c.in ? 0x26 : c.prefix) {
    case 0x26:
        return 0;
    case 0x2e:
        return 1;
    case 0x36:
        return 2;
    case 0x64:
        return 4;
    case 0x65:
        return 5;
    default:
        return 3;
    }
}

} // namespace

void ExitTable::hold_string_io(Prober& prober, bool svm_segments, const char* section_text) {
    const bool vmx = on_vmx();
    const bool has_info = (msr(hello(), 0x480) >> 54 & 1) != 0;
    std::mt19937_64 random(15'10'3);
    std::vector<Row> rows;
    for (const Kind kind : {Kind::real, Kind::big_real, Kind::unpaged16, Kind::paged32, Kind::paged32_user,
                            Kind::compat16, Kind::compat32, Kind::long64}) {
        const bool alike = kind == Kind::big_real || kind == Kind::unpaged16 || kind == Kind::paged32_user ||
                           kind == Kind::compat32;
        if (!prober.offers(kind) || (!vmx && alike)) {
            continue;
        }
        constexpr u8 segments[] = {0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
        for (unsigned n = 0; n < 14; ++n) {
            const u64 r = random();
            const StringCase c{.in = n % 2 == 0,
                               .rep = (r & 1) != 0,
                               .down = (r & 2) != 0,
                               .size = 1u << (r >> 2) % 3,
                               .prefix = segments[n % 7],
                               .other_address_size = (r & 16) != 0};
            const bool word = c.size > 1, operand = word && (c.size == 2) != machine::is_16(kind);
            std::vector<u8> code;
            if (c.other_address_size) {
                code.push_back(0x67);
            }
            if (c.prefix != 0) {
                code.push_back(c.prefix);
            }
            if (operand) {
                code.push_back(0x66);
            }
            if (c.rep) {
                code.push_back(0xf3);
            }
            code.push_back(static_cast<u8>((c.in ? 0x6c : 0x6e) | (word ? 1 : 0)));
            const u32 address = machine::is_64(kind) ? (c.other_address_size ? 1 : 2)
                                : machine::is_16(kind) != c.other_address_size ? 0
                                                                               : 1;
            Probe p(std::string(machine::name_of(kind)) + (c.in ? ": INS " : ": OUTS ") + std::to_string(n),
                    kind, code);
            abi::GuestState& s = p.state;
            const u64 index = 0x4560 + n * 4;
            s.gpr[abi::rdx] = 0x1230 + n;
            s.gpr[abi::rcx] = 5;
            // Above the address size, what does not count.
            const u64 high = address == 0                           ? 0x7777'0000
                             : address == 1 && machine::is_64(kind) ? u64{7} << 32
                                                                    : 0;
            s.gpr[abi::rsi] = s.gpr[abi::rdi] = index | high;
            s.rflags |= c.down ? 0x400 : 0;
            const unsigned segment = segment_of(c);
            const bool flat = machine::is_64(kind) && segment < abi::fs; // such a prefix is ignored
            const u64 linear = index + (flat ? 0 : s.segment[segment].base);
            const u64 string =
                vmx ? 0x10 | (c.rep ? 0x20u : 0u) : 4 | (c.rep ? 8u : 0u) | 0x80u << address | segment << 10;
            const u64 svm_defined = svm_segments ? (flat ? 0 : 0x1c00) : 0xffff'03fd;
            Due due = exits(p, vmx ? 30 : 0x7b,
                            Bits{qualification(vmx, 0x1230 + n, c.size, c.in, false) | string,
                                 vmx ? vmx_defined : svm_defined});
            if (vmx) {
                due.linear = linear;
                if (has_info) {
                    due.info = Bits{address << 7 | segment << 15, c.in || flat ? 0x380u : 0x38380u};
                }
            } else {
                due.info = Bits{s.rip + p.length()};
            }
            rows.push_back({std::move(p), due});
        }
    }
    hold_rows(prober, rows, section_text);
}

TEST_F(ExitTable, string_io_exits_tell_address_and_repetition) {
    const Section strings{"SDM 3C 28.2.1, 28.2.5, tables 28-5, 28-8", "APM 2 15.10.2, 15.10.3"};
    claim(strings, [&] {
        Prober prober(host());
        hold_string_io(prober, false, section_of(strings));
    });
}

TEST_F(ExitTable, svm_string_io_exits_tell_the_segment) {
    claim({.apm = "APM 2 15.10.3"}, [&] {
        Prober prober(host());
        hold_string_io(prober, true, "APM 2 15.10.3");
    });
}

} // namespace refhv::front
