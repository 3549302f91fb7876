// SPDX-License-Identifier: MIT
// VMX: guest/host masks and read shadows of CR0 and CR4 bit by bit, CLTS, LMSW, SMSW, the CR3-target list,
// and the bits that VMX operation fixes. SDM 3C 24.8, 25.6.6, 25.6.7, 26.1.3, 26.3.
#include "conformance/exit/table/case.hpp"

namespace refhv::front {

using machine::Kind;
namespace {

constexpr u64 cr_access = 28;

// MOV to CR0 or CR4 from RAX; MOV from either to RAX.
std::vector<u8> mov(unsigned cr, bool write) {
    return {0x0f, static_cast<u8>(write ? 0x22 : 0x20), static_cast<u8>(0xc0 | cr << 3)};
}

struct Masked {
    u64 mask, shadow;
};

// Every bit that is defined, and some of those that are not.
bool is_tried(unsigned bit) {
    return bit <= 32 || bit == 47 || bit == 63;
}

void set_masked(Probe& p, unsigned cr, Masked m) {
    p.set(static_cast<u32>(cr == 0 ? vmcs::cr0_mask : vmcs::cr4_mask), m.mask);
    p.set(static_cast<u32>(cr == 0 ? vmcs::cr0_shadow : vmcs::cr4_shadow), m.shadow);
}

// What the guest reads, and what it is read back as.
u64 seen(u64 real, Masked m) {
    return (real & ~m.mask) | (m.shadow & m.mask);
}

u64& control(abi::GuestState& s, unsigned cr) {
    return cr == 0 ? s.cr0 : s.cr4;
}

std::string text(const char* what, unsigned cr, u64 number) {
    std::ostringstream out;
    out << what << " CR" << cr << ", " << std::hex << number << "H";
    return out.str();
}

constexpr u64 vmxe = 1u << 13;
// As the CPU holds it, where the guest's state says less.
u64 real_value(const abi::GuestState& s, unsigned cr) {
    return cr == 0 ? s.cr0 : s.cr4 | vmxe;
}

} // namespace

TEST_F(ExitTable, vmx_reads_give_the_shadow_where_the_mask_is_set) {
    const Section section{.sdm = "SDM 3C 25.6.6, 26.3"};
    claim(section, [&] {
        Prober prober(host());
        std::mt19937_64 random(25'6'6);
        std::vector<Row> rows;
        for (const unsigned cr : {0u, 4u}) {
            for (unsigned n = 0; n < 80; ++n) {
                if (n < 64 && !is_tried(n)) {
                    continue;
                }
                Probe p(text("read of", cr, n), Kind::long64, mov(cr, false));
                const u64 real = real_value(p.state, cr);
                const u64 bit = u64{1} << (n & 63);
                const Masked m = n < 64 ? Masked{bit, ~real} : Masked{random(), random()};
                set_masked(p, cr, m);
                Due due = runs(p, true);
                control(due.state, cr) = due.state.gpr[abi::rax] = seen(real, m);
                rows.push_back({std::move(p), due});
            }
        }
        for (unsigned n = 0; n < 8; ++n) { // SMSW AX
            Probe p(text("SMSW of", 0, n), Kind::long64, machine::hex("66 0f 01 e0"));
            const Masked m{random(), random()};
            set_masked(p, 0, m);
            Due due = runs(p, true);
            due.state.cr0 = seen(p.state.cr0, m);
            u64& rax = due.state.gpr[abi::rax];
            rax = (rax & ~u64{0xffff}) | (due.state.cr0 & 0xffff);
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section.sdm);
    });
}

// A bit that the mask gives to the host exits where it differs from the shadow, whatever the CPU's own bit
// is; that comes before a #GP for reserved bits.
TEST_F(ExitTable, vmx_writes_exit_where_a_masked_bit_differs_from_the_shadow) {
    const Section section{.sdm = "SDM 3C 26.1.1, 26.1.3"};
    claim(section, [&] {
        Prober prober(host());
        std::vector<Row> rows;
        for (const unsigned cr : {0u, 4u}) {
            for (unsigned bit = 0; bit < 64; ++bit) {
                if (!is_tried(bit)) {
                    continue;
                }
                Probe p(text("write that differs in a bit of", cr, u64{1} << bit), Kind::long64,
                        mov(cr, true));
                const u64 real = real_value(p.state, cr);
                const Masked m{u64{1} << bit, real};
                set_masked(p, cr, m);
                p.state.gpr[abi::rax] = real ^ u64 { 1 } << bit;
                Due due = exits(p, cr_access, Bits{cr});
                control(due.state, cr) = seen(real, m);
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

// Where every masked bit is as the shadow has it, the write is done with the others, and the host's stay.
TEST_F(ExitTable, vmx_writes_leave_the_masked_bits_alone) {
    const Section section{.sdm = "SDM 3C 26.1.3, 26.3"};
    claim(section, [&] {
        Prober prober(host());
        // Bits that may change in 64-bit mode: MP, EM, TS, WP, AM; TSD, DE, PGE, PCE, OSFXSR, OSXMMEXCPT.
        constexpr u64 free[] = {0x5000e, 0x78c};
        std::mt19937_64 random(26'3);
        std::vector<Row> rows;
        for (const unsigned cr : {0u, 4u}) {
            for (unsigned n = 0; n < 48; ++n) {
                Probe p(text("write under a mask to", cr, n), Kind::long64, mov(cr, true));
                const u64 fixed = cr == 0 ? 0x20 : vmxe;
                const u64 may = free[cr != 0];
                const u64 real = real_value(p.state, cr) ^ (random() & may);
                control(p.state, cr) = cr == 0 ? real : real & ~vmxe;
                const Masked m{(random() & may) | fixed, (random() & may) | fixed};
                const u64 value = ((real ^ (random() & may)) & ~m.mask) | (m.shadow & m.mask);
                set_masked(p, cr, m);
                p.state.gpr[abi::rax] = value;
                p.read_fields = {{static_cast<u32>(cr == 0 ? vmcs::guest_cr0 : vmcs::guest_cr4), 0}};
                Due due = runs(p, true);
                control(due.state, cr) = value;
                due.fields = {(real & m.mask) | (value & ~m.mask)};
                rows.push_back({std::move(p), due});
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

TEST_F(ExitTable, vmx_clts_and_lmsw_exit_by_mask_and_shadow) {
    const Section section{.sdm = "SDM 3C 26.1.3, 26.3, table 28-3"};
    claim(section, [&] {
        Prober prober(host());
        constexpr u64 ts = 8, clts = 2u << 4, lmsw = 3u << 4;
        std::vector<Row> rows;
        for (unsigned n = 0; n < 8; ++n) {
            Probe p(text("CLTS under mask, shadow, real bit", 0, n), Kind::long64, machine::hex("0f 06"));
            const Masked m{(n & 1) != 0 ? ts : 0, (n & 2) != 0 ? ts : 0};
            p.state.cr0 |= (n & 4) != 0 ? ts : 0;
            set_masked(p, 0, m);
            const bool leaves = (m.mask & m.shadow & ts) != 0;
            Due due = leaves ? exits(p, cr_access, Bits{clts}) : runs(p, true);
            const u64 real = leaves || m.mask != 0 ? p.state.cr0 : p.state.cr0 & ~ts;
            due.state.cr0 = seen(real, m);
            p.read_fields = {{vmcs::guest_cr0, 0}};
            due.fields = {real};
            rows.push_back({std::move(p), due});
        }
        std::mt19937_64 random(26'1'3);
        for (unsigned n = 0; n < 96; ++n) {
            const bool memory = n % 3 == 0;
            Probe p(text("LMSW", 0, n), Kind::long64, machine::hex(memory ? "0f 01 37" : "0f 01 f0"));
            const u64 source = random() & 0xffff;
            const Masked m{random() & 15, random() & 15};
            set_masked(p, 0, m);
            p.state.cr0 ^= random() & 14;
            p.state.gpr[abi::rdi] = machine::data + 0x100 + 2 * n;
            if (memory) {
                p.memory = {{machine::data + 0x100 + 2 * n, machine::bytes_of(static_cast<u16>(source))}};
            } else {
                p.state.gpr[abi::rax] = source | 0x55aa'0000;
            }
            const bool sets_pe = (source & m.mask & ~m.shadow & 1) != 0;
            const bool leaves = sets_pe || ((source ^ m.shadow) & m.mask & 14) != 0;
            Due due = leaves ? exits(p, cr_access, Bits{lmsw | (memory ? 0x40u : 0u) | source << 16})
                             : runs(p, true);
            if (leaves && memory) {
                due.linear = p.state.gpr[abi::rdi];
            }
            const u64 writable = 14 & ~m.mask; // PE is 1 and cannot be cleared so
            const u64 real = leaves ? p.state.cr0 : (p.state.cr0 & ~writable) | (source & writable);
            due.state.cr0 = seen(real, m);
            p.read_fields = {{vmcs::guest_cr0, 0}};
            due.fields = {real};
            rows.push_back({std::move(p), due});
        }
        hold_rows(prober, rows, section.sdm);
    });
}

TEST_F(ExitTable, vmx_cr3_targets_do_not_exit) {
    const Section section{.sdm = "SDM 3C 25.6.7, 26.1.3"};
    claim(section, [&] {
        Prober prober(host());
        const u64 most = msr(hello(), 0x485) >> 16 & 0x1ff;
        constexpr u64 values[] = {machine::pml4, machine::pml4 | 8, machine::pml4 | 0x10,
                                  machine::pml4 | 0x18};
        const u32 proc = vmcs::proc_controls;
        const u64 exiting = prober.base(proc) | vmx::proc::cr3_load;
        std::vector<Row> rows;
        for (u64 count = 0; count <= std::min<u64>(most, 4); ++count) {
            for (u64 i = 0; i < 4; ++i) {
                for (const unsigned gpr : {0u, 12u}) {
                    Probe p("MOV to CR3 of target " + std::to_string(i) + " of " + std::to_string(count),
                            Kind::long64, machine::hex(gpr == 0 ? "0f 22 d8" : "41 0f 22 dc"));
                    p.set(proc, exiting);
                    p.set(vmcs::cr3_target_count, count);
                    for (u32 k = 0; k < std::min<u64>(most, 4); ++k) {
                        p.set(0x6008 + 2 * k, values[k], 8);
                    }
                    p.state.gpr[gpr] = values[i];
                    Due due = i < count ? runs(p, true) : exits(p, cr_access, Bits{3 | gpr << 8});
                    due.state.cr3 = i < count ? values[i] : p.state.cr3;
                    rows.push_back({std::move(p), due});
                }
            }
        }
        hold_rows(prober, rows, section.sdm);
    });
}

namespace {

constexpr u64 pg = u64{1} << 31, ne = 1u << 5;

// A MOV to a control register that is #GP although no mask holds a bit of it.
ProbeClaim::Row refused(Prober& prober, const char* name, unsigned cr, u64 value, bool unrestricted) {
    const u32 proc2 = vmcs::secondary_controls;
    Probe p(name, Kind::paged32, mov(cr, true));
    set_masked(p, 0, {0, 0});
    set_masked(p, 4, {0, 0});
    p.state.gpr[abi::rax] = value;
    if (!unrestricted) {
        p.set(proc2, prober.base(proc2) & ~u64{vmx::proc2::unrestricted_guest});
    }
    Due due = faults(p, true, 13);
    due.state.cr4 |= vmxe;
    return {std::move(p), due};
}

} // namespace

// What VMX operation fixes, a guest cannot change, whoever owns the bit.
TEST_F(ExitTable, vmx_fixed_bits_of_control_registers_are_gp) {
    const Section section{.sdm = "SDM 3C 24.8, 26.3"};
    claim(section, [&] {
        Prober prober(host());
        const abi::GuestState s = machine::start(Kind::paged32);
        std::vector<Row> rows = {refused(prober, "clearing CR0.NE", 0, s.cr0 & ~ne, false),
                                 refused(prober, "clearing CR0.PE under paging", 0, s.cr0 & ~u64{1}, false),
                                 refused(prober, "clearing CR4.VMXE", 4, s.cr4, false)};
        if (prober.has_unrestricted()) {
            rows.push_back(refused(prober, "clearing CR0.NE, unrestricted", 0, s.cr0 & ~ne, true));
            rows.push_back(refused(prober, "clearing CR4.VMXE, unrestricted", 4, s.cr4, true));
            rows.push_back(
                refused(prober, "clearing CR0.PE under paging, unrestricted", 0, s.cr0 & ~u64{1}, true));
        }
        hold_rows(prober, rows, section.sdm);
    });
}

// PE and PG are free in an unrestricted guest only.
TEST_F(ExitTable, vmx_restricted_guests_cannot_end_paging) {
    const Section section{.sdm = "SDM 3C 24.8, 26.3"};
    claim(section, [&] {
        Prober prober(host());
        const abi::GuestState s = machine::start(Kind::paged32);
        hold_rows(prober,
                  {refused(prober, "clearing CR0.PG", 0, s.cr0 & ~pg, false),
                   refused(prober, "clearing CR0.PE and PG", 0, s.cr0 & ~(pg | 1), false)},
                  section.sdm);
    });
}

} // namespace refhv::front
