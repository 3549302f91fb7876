// SPDX-License-Identifier: MIT
// Accesses that the nested tables refuse, through every segment, in every mode: guest-linear and
// guest-physical address, and what kind of access it was. VMX: SDM 3C 28.2.1, table 28-7. SVM: APM 2 15.25.6.
#include "conformance/mode/case.hpp"

namespace refhv::front {

using machine::Kind;

namespace {

const Section section{"SDM 3C 28.2.1, 29.3.3.2", "APM 2 15.25.6"};

// Pages that no nested table maps, each in reach of some segments.
constexpr u64 hidden_data = 0x50000, hidden_stack = 0x3f000, hidden_code = 0x2e000;

struct Prefix {
    u8 byte;
    abi::SegmentIndex segment;
    u64 page;
};
constexpr Prefix prefixes[] = {{0x3e, abi::ds, hidden_data},  {0x26, abi::es, hidden_data},
                               {0x64, abi::fs, hidden_data},  {0x65, abi::gs, hidden_data},
                               {0x36, abi::ss, hidden_stack}, {0x2e, abi::cs, hidden_code}};

enum class Access : u8 {
    read,
    write,
    fetch
};

Due violation(const Probe& p, Access access, u64 linear, bool vmx) {
    const bool write = access == Access::write, fetch = access == Access::fetch;
    Due due{.raw = vmx ? 48u : 0x400u, .state = p.state};
    if (vmx) {
        constexpr u64 linear_valid = 1u << 7, of_the_access = 1u << 8, defined = 0x1bf;
        due.qualification = Bits{linear_valid | of_the_access | (fetch ? 4u : write ? 2u : 1u), defined};
        due.linear = linear;
        due.physical = linear;
    } else {
        constexpr u64 user = 1u << 2, final = u64{1} << 32, defined = final | 0x1f;
        due.qualification = Bits{final | user | (write ? 2u : 0u) | (fetch ? 0x10u : 0u), defined};
        due.info = Bits{linear};
    }
    return due;
}

// Modes whose segments work alike have one in their stead for most segments.
bool is_plain(Kind k) {
    return k == Kind::paged16 || k == Kind::paged32_user || k == Kind::pae || k == Kind::pae_user ||
           k == Kind::compat32 || k == Kind::compat32_user || k == Kind::long64_user;
}

} // namespace

void GuestMode::hold_violations(const std::vector<Kind>& modes, Prober& prober) {
    const bool vmx = on_vmx();
    for (const u64 page : {hidden_data, hidden_stack, hidden_code}) {
        prober.protect(page, 1, 0);
    }
    std::vector<Row> rows;
    for (const Kind kind : modes) {
        for (const Prefix& prefix : prefixes) {
            for (const Access access : {Access::read, Access::write}) {
                const bool code = prefix.segment == abi::cs, write = access == Access::write;
                if ((code && write) || (is_plain(kind) && prefix.segment != abi::ds)) {
                    continue;
                }
                Probe p(named(kind, write ? "write" : "read"), kind,
                        {prefix.byte, static_cast<u8>(write ? 0x88 : 0x8a), 0x07}); // [BX], [EDI], [RDI]
                p.name += " by segment " + std::to_string(prefix.segment);
                const bool flat = machine::is_64(kind) && prefix.segment < abi::fs;
                const u64 base = flat ? 0 : p.state.segment[prefix.segment].base;
                const u64 linear = prefix.page + 0x123;
                p.state.gpr[abi::rbx] = p.state.gpr[abi::rdi] = linear - base;
                const Due due = violation(p, access, linear, vmx);
                rows.push_back({std::move(p), due});
            }
        }
        Probe p(named(kind, "fetch"), kind, {0x90});
        p.state.rip += hidden_code + 0x40 - machine::linear_rip(p.state);
        const Due due = violation(p, Access::fetch, hidden_code + 0x40, vmx);
        rows.push_back({std::move(p), due});
    }
    hold_rows(prober, rows, section_of(section));
}

TEST_F(GuestMode, nested_violations_tell_the_address_of_the_segment) {
    claim(section, [&] {
        Prober prober(host());
        hold_violations(kinds(prober), prober);
    });
}

} // namespace refhv::front
