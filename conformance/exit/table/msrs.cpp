// SPDX-License-Identifier: MIT
// MSR bitmaps: the ends of each range, reads and writes apart, one bit set and its neighbours clear, and what
// no bitmap covers. VMX: SDM 3C 25.6.9, 26.1.3. SVM: APM 2 15.11.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

struct Range {
    u32 first;
    u64 vmx_read, vmx_write; // byte offsets of the bitmaps; ~0: not there
    u64 svm;                 // byte offset, two bits an MSR
};
constexpr u64 none = ~u64{0};
constexpr Range ranges[] = {
    {0, 0, 0x800, 0}, {0xc000'0000, 0x400, 0xc00, 0x800}, {0xc001'0000, none, none, 0x1000}};
constexpr u32 range_size = 0x2000;

struct Bit {
    u64 byte;
    u8 mask;
};

// The bit for an MSR of the range, if the vendor has one.
std::optional<Bit> bit_of(const Range& r, u32 offset, bool write, bool vmx) {
    if (vmx) {
        const u64 at = write ? r.vmx_write : r.vmx_read;
        return at == none ? std::nullopt
                          : std::optional(Bit{at + offset / 8, static_cast<u8>(1u << (offset & 7))});
    }
    const u64 bit = 2 * offset + (write ? 1 : 0);
    return Bit{r.svm + bit / 8, static_cast<u8>(1u << (bit & 7))};
}

void use_own_bitmap(Prober& prober, Probe& p, bool vmx) {
    const u64 at = prober.host_physical(machine::bitmaps);
    if (vmx) {
        p.set(vmcs::msr_bitmap, at, 8);
    } else {
        p.set(vmcb::msrpm, at, 8);
    }
}

struct Case {
    Probe probe;
    bool exits;
    bool write;
};

} // namespace

TEST_F(ExitTable, each_bit_of_the_msr_bitmaps_is_for_its_msr) {
    const Section section{"SDM 3C 25.6.9, 26.1.3", "APM 2 15.11"};
    claim(section, [&] {
        needs(abi::Permit::permission_maps);
        Prober prober(host());
        const bool vmx = on_vmx();
        prober.fill(machine::bitmaps, 0, 0, 2 * page_size / 8);
        std::vector<Case> cases;
        std::optional<u64> before;
        const auto add = [&](u32 msr, bool write, std::optional<Bit> bit, bool due, const std::string& what) {
            std::ostringstream name;
            name << (write ? "WRMSR of " : "RDMSR of ") << std::hex << msr << "H, " << what;
            Probe p(name.str(), Kind::long64, machine::hex(write ? "0f 30" : "0f 32"));
            use_own_bitmap(prober, p, vmx);
            // Bits 63:32 of RCX do not count. What is written, if it is, is refused or harmless.
            p.state.gpr[abi::rcx] = msr | u64{0x1234'5678} << 32;
            p.state.gpr[abi::rax] = 0;
            p.state.gpr[abi::rdx] = 0;
            if (before) {
                p.memory.push_back({machine::bitmaps + *before, {0}});
            }
            if (bit) {
                p.memory.push_back({machine::bitmaps + bit->byte, {bit->mask}});
            }
            before = bit ? std::optional(bit->byte) : std::nullopt;
            cases.push_back({std::move(p), due, write});
        };
        for (const Range& r : ranges) {
            for (const u32 offset : {0u, 1u, 7u, 8u, range_size / 2, range_size - 1}) {
                for (const bool write_bit : {false, true}) {
                    const auto bit = bit_of(r, offset, write_bit, vmx);
                    if (!bit) {
                        continue;
                    }
                    const u32 msr = r.first + offset;
                    add(msr, write_bit, bit, true, "its bit set");
                    // No MSR that matters is among those that are read; written are only those that nobody
                    // has.
                    add(msr, false, bit, !write_bit,
                        write_bit ? "the bit of its writes set" : "its bit, again");
                    add(msr ^ 1, false, bit, false, "its neighbour's bit set");
                    if (offset == range_size - 1) {
                        add(msr, true, bit, write_bit,
                            write_bit ? "its bit, again" : "the bit of its reads set");
                    }
                }
            }
        }
        // Beyond every range: always, with all bits clear.
        for (const u32 msr :
             {0x2000u, 0x3fffu, 0x4000'0000u, 0x7fff'ffffu, 0x8000'0000u, 0xbfff'ffffu, 0xc000'2000u,
              0xc001'2000u, 0xc001'ffffu, 0xffff'ffffu, 0xc000'ffffu, 0xc002'0000u}) {
            add(msr, false, {}, true, "in no range");
            add(msr, true, {}, true, "in no range");
        }
        if (vmx) {
            add(0xc001'0000, false, {}, true, "in no range of VMX");
            add(0xc001'1fff, true, {}, true, "in no range of VMX");
        }
        std::vector<Probe> probes;
        probes.reserve(cases.size());
        for (const Case& c : cases) {
            probes.push_back(c.probe);
        }
        const auto results = prober.run(probes);
        Differences differences(section_of(section));
        for (usize i = 0; i < cases.size(); ++i) {
            const Case& c = cases[i];
            const u64 raw = vmx ? (c.write ? 32 : 31) : 0x7c;
            if (c.exits) {
                const Due due = vmx ? exits(c.probe, raw) : exits(c.probe, raw, Bits{c.write ? 1u : 0u});
                hold(differences, c.probe.name, results[i], due, vmx, has_next_rip());
            } else { // done, or #GP because there is no such MSR
                const abi::Exit& x = results[i].exit();
                const bool stopped = x.raw_reason == hlt_exit(vmx);
                const bool faulted = x.raw_reason == exception_exit(vmx, 13) && (!vmx || x.vector == 13);
                if (!stopped && !faulted) {
                    differences.expect(c.probe.name, "exit", x.raw_reason, hlt_exit(vmx));
                }
            }
        }
        combinations(cases.size());
    });
}

} // namespace refhv::front
