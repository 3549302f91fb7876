// SPDX-License-Identifier: MIT
// A guest that changes its own mode: what every exit on the way shows of it, and what VMX keeps of EFER.LMA
// and the PDPTEs. SDM 3A 10.9.1, 10.9.2; SDM 3C 26.3, 27.3.2.4, 28.3.1, 28.3.3. APM 2 14.6 to 14.8, 15.6.
#include "conformance/mode/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

constexpr u64 pe = 1, pg = u64{1} << 31, pae = 1u << 5, pse = 1u << 4, lme = 1u << 8, lma = 1u << 10;

// What a stage of the way must show.
struct Stage {
    const char* name;
    u64 cr0, cr4, efer; // of PE, PG; of PAE, PSE; of LME, LMA
    u16 cs;
    u64 cs_base;
    u32 cs_rights;         // of L and D/B
    bool loaded_cs = true; // by a far transfer, so that rights and limit are known
};

void hold_stage(Differences& f, const Stage& due, const abi::RunReply& r) {
    const abi::GuestState& s = r.state;
    const abi::Segment& cs = s.segment[abi::cs];
    f.expect(due.name, "exit is HLT's: neutral reason", r.exit.reason * (r.handled != 0 ? 0u : 1u),
             r.handled != 0 ? 0u : static_cast<u64>(abi::Reason::hlt));
    f.expect(due.name, "CR0.PE and PG", s.cr0 & (pe | pg), due.cr0);
    f.expect(due.name, "CR4.PAE and PSE", s.cr4 & (pae | pse), due.cr4);
    f.expect(due.name, "EFER.LME and LMA", s.efer & (lme | lma), due.efer);
    f.expect(due.name, "CS", cs.selector, due.cs);
    f.expect(due.name, "CS base", cs.base, due.cs_base);
    if (due.loaded_cs) {
        f.expect(due.name, "CS.L and D/B", cs.rights & 0x6000, due.cs_rights);
    }
}

void append(std::vector<u8>& code, std::string_view bytes) {
    const auto more = machine::hex(bytes);
    code.insert(code.end(), more.begin(), more.end());
}

template <class T>
void append_value(std::vector<u8>& code, T value) {
    const auto more = machine::bytes_of(value);
    code.insert(code.end(), more.begin(), more.end());
}

constexpr u64 origin = machine::code; // linear, of the first byte

// real -> protected -> paged -> long -> 64-bit and back to real mode, a HLT at each stage.
std::vector<u8> whole_way() {
    std::vector<u8> c;
    const auto here = [&] { return static_cast<u32>(origin + c.size()); };
    append(c, "f4");                               // real
    append(c, "0f 20 c0 66 83 c8 01 0f 22 c0 f4"); // PE = 1, still the old CS
    append(c, "66 ea");                            // JMP ptr16:32 to 32-bit code
    append_value(c, static_cast<u32>(here() + 6));
    append_value(c, machine::code32);
    append(c, "66 b8 10 00 8e d8 8e d0 f4"); // DS, SS flat
    append(c, "b8");                         // CR3 = PML4
    append_value(c, static_cast<u32>(machine::pml4));
    append(c, "0f 22 d8 0f 20 e0 83 c8 20 0f 22 e0"); // CR4.PAE
    append(c, "b9 80 00 00 c0 0f 32 80 cc 01 0f 30"); // EFER.LME
    append(c, "f4");                                  // LME, not yet LMA
    append(c, "0f 20 c0 0d 00 00 00 80 0f 22 c0 f4"); // PG: LMA, compatibility mode
    append(c, "ea");
    append_value(c, static_cast<u32>(here() + 6));
    append_value(c, machine::code64);
    append(c, "f4"); // 64-bit mode
    // Back: a far return to compatibility mode.
    append(c, "6a 18 68");
    append_value(c, static_cast<u32>(here() + 4 + 2));
    append(c, "48 cb f4");
    append(c, "0f 20 c0 25 ff ff ff 7f 0f 22 c0 f4"); // PG = 0: LMA = 0
    append(c, "b9 80 00 00 c0 0f 32 80 e4 fe 0f 30"); // LME = 0
    append(c, "0f 20 e0 83 e0 df 0f 22 e0");          // PAE = 0
    append(c, "ea");                                  // to 16-bit code
    append_value(c, static_cast<u32>(here() + 6 - 0x20000));
    append_value(c, u16{0x80});
    append(c, "f4 0f 20 c0 66 83 e0 fe 0f 22 c0"); // PE = 0
    append(c, "ea");                               // JMP ptr16:16
    append_value(c, static_cast<u16>(here() + 4 - origin));
    append_value(c, static_cast<u16>(origin >> 4));
    return c; // the last HLT: real mode again
}

} // namespace

TEST_F(GuestMode, a_guest_goes_from_real_to_64_bit_mode_and_back) {
    const Section section{"SDM 3C 26.3, 28.3.1, 28.3.3; SDM 3A 10.9", "APM 2 14.6 to 14.8, 15.6"};
    claim(section, [&] {
        Prober prober(host());
        if (!prober.offers(Kind::real)) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        // 16-bit code whose base is that of the code.
        prober.write(machine::gdt + 0x80, machine::bytes_of(machine::descriptor(origin, 0xffff, 0x9b)));
        const u16 real_cs = origin >> 4;
        constexpr Stage stages[] = {
            {"real mode", 0, 0, 0, real_cs, origin, 0, false},
            {"CR0.PE set", pe, 0, 0, real_cs, origin, 0, false},
            {"protected mode", pe, 0, 0, machine::code32, 0, 0x4000},
            {"EFER.LME set", pe, pae, lme, machine::code32, 0, 0x4000},
            {"compatibility mode", pe | pg, pae, lme | lma, machine::code32, 0, 0x4000},
            {"64-bit mode", pe | pg, pae, lme | lma, machine::code64, 0, 0x2000},
            {"compatibility mode again", pe | pg, pae, lme | lma, machine::code32, 0, 0x4000},
            {"paging off", pe, pae, lme, machine::code32, 0, 0x4000},
            {"16-bit protected mode", pe, 0, 0, 0x80, origin, 0},
            {"real mode again", 0, 0, 0, real_cs, origin, 0, false},
        };
        Probe p("the way", Kind::real, whole_way());
        p.state.segment[abi::cs].base = origin;
        p.state.segment[abi::cs].selector = real_cs;
        p.state.rip = 0;
        p.rounds = std::size(stages);
        if (on_vmx()) {
            p.read_fields = {{vmcs::entry_controls, 0}};
            p.set(vmcs::msr_bitmap, prober.host_physical(machine::bitmaps), 8);
        } else {
            p.set(0x48, prober.host_physical(machine::bitmaps), 8);
        }
        needs(abi::Permit::permission_maps);
        prober.fill(machine::bitmaps, 0, 0, 2 * page_size / 8);
        const auto results = prober.run({p});
        Differences differences(section_of(section));
        for (usize i = 0; i < std::size(stages); ++i) {
            const bool last = i + 1 == std::size(stages);
            hold_stage(differences, stages[i], last ? results[0].reply : results[0].earlier[i]);
        }
        combinations(std::size(stages));
    });
}

// With unrestricted guests the exit stores EFER.LMA in the entry control; else the guest could not go on.
TEST_F(GuestMode, vmx_exits_store_lma_in_the_entry_control) {
    const Section section{.sdm = "SDM 3C 28.3.1"};
    claim(section, [&] {
        Prober prober(host());
        if (!prober.has_unrestricted()) {
            GTEST_SKIP() << "no unrestricted guest";
        }
        const u32 entry = vmcs::entry_controls;
        constexpr u64 ia32e = vmx::entry_control::ia32e_guest;
        const u64 base = prober.base(entry) & ~ia32e;
        std::vector<Row> rows;
        // Paging off in compatibility mode, and on with LME in protected mode.
        Probe off("CR0.PG cleared", Kind::compat32, machine::hex("0f 22 c0"));
        off.state.gpr[abi::rax] = off.state.cr0 & ~pg;
        off.read_fields = {{entry, 0}};
        off.set(vmcs::cr0_mask, 0x20);
        Due due = runs(off, true);
        due.state.cr0 &= ~pg;
        due.state.efer = lme;
        due.fields = {base};
        rows.push_back({std::move(off), due});
        Probe on("CR0.PG set", Kind::unpaged32, machine::hex("0f 22 c0"));
        on.state.segment[abi::cs].base = 0;
        on.state.rip = machine::code;
        on.state.efer = lme;
        on.state.cr4 = pae;
        on.state.cr3 = machine::pml4;
        on.state.gpr[abi::rax] = on.state.cr0 | pg;
        on.read_fields = {{entry, 0}};
        due = runs(on, true);
        due.state.cr0 |= pg;
        due.state.efer = lme | lma;
        due.fields = {base | ia32e};
        rows.push_back({std::move(on), due});
        hold_rows(prober, rows, section.sdm);
    });
}

} // namespace refhv::front
