// SPDX-License-Identifier: MIT
#include "conformance/probe/machine.hpp"

namespace refhv::front::machine {

namespace {

constexpr u64 pe = 1, mp = 2, et = 16, ne = 32, pg = u64{1} << 31;
constexpr u64 cr4_pse = 1u << 4, cr4_pae = 1u << 5;
constexpr u64 lme = 1u << 8, lma = 1u << 10;
constexpr u64 iopl3 = 3u << 12, vm = 1u << 17;

constexpr u32 data16_rights = 0x93, code16_rights = 0x9b, real_code_rights = 0x93, v86_rights = 0xf3;
constexpr u32 data32_rights = 0xc093, code32_rights = 0xc09b, code64_rights = 0xa09b;
constexpr u32 dpl3 = 0x60;

constexpr abi::Segment segment(u16 selector, u64 base, u32 limit, u32 rights) {
    return {.base = base, .limit = limit, .rights = rights, .selector = selector, .zero = {}};
}

constexpr abi::Segment segment8086(u64 base, u32 rights) {
    return segment(static_cast<u16>(base >> 4), base, 0xffff, rights);
}

// Five data segments, each of a base of its own, so that none is taken for another.
constexpr u64 data_bases[] = {data + 0x1230, 0, stack - 0x8000, data + 0x4560, data + 0x7890, data + 0xabc0};

void set_8086(abi::GuestState& s, u32 code_rights, u32 data_rights) {
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs}) {
        s.segment[i] = segment8086(data_bases[i], data_rights);
    }
    constexpr u64 offset = 0x140; // so that the selector's low bits are 0
    s.segment[abi::cs] = segment8086(code - offset, code_rights);
    s.rip = offset;
    s.gpr[abi::rsp] = 0x8000;
}

void set_flat(abi::GuestState& s, u16 code_selector, u16 data_selector, u32 code_rights, u32 data_rights,
              bool bases) {
    const u32 limit = (code_rights & 0x8000) != 0 ? ~0u : 0xffff;
    for (const auto i : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs}) {
        const bool based = bases || i == abi::fs || i == abi::gs;
        s.segment[i] = segment(data_selector, based ? data_bases[i] : 0, limit, data_rights);
    }
    const u64 offset = bases ? 0x450 : code;
    s.segment[abi::cs] = segment(code_selector, bases ? code - offset : 0, limit, code_rights);
    s.rip = offset;
    s.gpr[abi::rsp] = bases ? 0x8000 : stack;
}

void set_paging(abi::GuestState& s, Kind kind) {
    if (is_unpaged(kind)) {
        s.cr3 = 0x5'5000; // nothing looks there
        return;
    }
    s.cr0 |= pg;
    if (is_long(kind)) {
        s.cr3 = pml4;
        s.cr4 = cr4_pae;
        s.efer = lme | lma;
    } else if (kind == Kind::pae || kind == Kind::pae_user) {
        s.cr3 = pae_pdpt;
        s.cr4 = cr4_pae;
    } else {
        s.cr3 = directory;
        s.cr4 = cr4_pse;
    }
}

} // namespace

std::string_view name_of(Kind kind) {
    constexpr std::string_view names[] = {"real",
                                          "big real",
                                          "virtual-8086",
                                          "16-bit unpaged",
                                          "32-bit unpaged",
                                          "16-bit",
                                          "32-bit",
                                          "32-bit at CPL 3",
                                          "PAE",
                                          "PAE at CPL 3",
                                          "compatibility",
                                          "compatibility at CPL 3",
                                          "16-bit compatibility",
                                          "64-bit",
                                          "64-bit at CPL 3"};
    static_assert(std::size(names) == static_cast<usize>(Kind::count_));
    return names[static_cast<usize>(kind)];
}

abi::GuestState start(Kind kind) {
    abi::GuestState s{};
    for (u64 i = 0; i < 16; ++i) {
        const u64 pattern = 0x0123'4567'89ab'cdef * (2 * i + 1);
        s.gpr[i] = is_64(kind) ? pattern : static_cast<u32>(pattern);
    }
    s.rflags = 2;
    s.cr0 = mp | et | ne | (is_real(kind) ? 0 : pe);
    s.xcr0 = 1;
    s.dr6 = 0xffff'0ff0;
    s.dr7 = 0x400;
    s.pat = 0x0007'0406'0007'0406;
    set_paging(s, kind);
    const u32 user = is_user(kind) ? dpl3 : 0;
    switch (kind) {
    case Kind::real:
    case Kind::big_real:
        set_8086(s, real_code_rights, data16_rights);
        break;
    case Kind::v86:
        set_8086(s, v86_rights, v86_rights);
        s.rflags |= vm | iopl3;
        break;
    case Kind::unpaged16:
    case Kind::paged16:
    case Kind::compat16:
        set_flat(s, code16, data16, code16_rights, data16_rights, true);
        break;
    case Kind::long64:
    case Kind::long64_user:
        set_flat(s, user != 0 ? code64_user : code64, user != 0 ? data32_user : data32, code64_rights | user,
                 data32_rights | user, false);
        break;
    default:
        set_flat(s, user != 0 ? code32_user : code32, user != 0 ? data32_user : data32, code32_rights | user,
                 data32_rights | user, kind == Kind::unpaged32);
        break;
    }
    if (kind == Kind::big_real) {
        for (const auto i : {abi::es, abi::ds, abi::fs, abi::gs}) {
            s.segment[i].limit = ~0u;
            s.segment[i].rights = 0x8093;
        }
    }
    s.segment[abi::ldtr] = segment(0, 0, 0, unusable);
    s.segment[abi::tr] = segment(task, tss, tss_limit, busy_tss);
    s.gdtr = {.base = gdt, .limit = 0x7f + 8, .zero = 0};
    s.idtr = is_real(kind)   ? abi::TableRegister{.base = 0, .limit = 0x3ff, .zero = 0}
             : is_long(kind) ? abi::TableRegister{.base = idt64, .limit = 0xfff, .zero = 0}
                             : abi::TableRegister{.base = idt32, .limit = 0x7ff, .zero = 0};
    return s;
}

std::vector<u8> hex(std::string_view text) {
    std::vector<u8> out;
    int high = -1;
    for (const char c : text) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit >= 0 && high >= 0) {
            out.push_back(static_cast<u8>(high << 4 | digit));
            high = -1;
        } else if (digit >= 0) {
            high = digit;
        }
    }
    return out;
}

} // namespace refhv::front::machine
