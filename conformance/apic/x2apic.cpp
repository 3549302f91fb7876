// SPDX-License-Identifier: MIT
// VMX: MSR-based accesses to a virtual APIC (SDM 3C 30.5): what RDMSR reads from the virtual-APIC page, which
// WRMSR are virtualized, which raise #GP, and that an intercept goes before all of it.
#include "conformance/apic/case.hpp"

namespace refhv::front {

using abi::Reason;
using client::Guest;
using client::layout::code;
using List = std::vector<unsigned>;

namespace {

// Reads all of 800H to 8FFH into the pages of steps, 8 bytes each.
GUEST(guest_reads_all,
      "mov $0x800, %ecx\n mov $" REFHV_ASM(
          REFHV_APIC_STEPS) ", %edi\n"
                            "1: rdmsr\n mov %eax, (%rdi)\n mov %edx, 4(%rdi)\n add $8, %rdi\n inc %ecx\n"
                            "cmp $0x900, %ecx\n jne 1b")
GUEST(guest_reads_one, "rdmsr")
GUEST(guest_writes_one, "wrmsr\n nop")
GUEST(guest_writes_one_only, "wrmsr")

constexpr u32 first_msr = 0x800, tpr_msr = 0x808, eoi_msr = 0x80b, self_ipi_msr = 0x83f;
constexpr u64 general_protection = 13;

constexpr u64 pattern(u32 offset) {
    return 0xc0de'0000'0000'0000u | u64{offset} << 32 | 0x8765'0000u | offset;
}

struct Write {
    u32 msr;
    u64 value;
    bool faults;
};

} // namespace

class ApicX2apic : public Apic {
  protected:
    static void value(Guest& guest, u32 msr, u64 v) {
        guest.state.gpr[abi::rcx] = msr;
        guest.state.gpr[abi::rax] = v & 0xffff'ffff;
        guest.state.gpr[abi::rdx] = v >> 32;
    }
    static void fill_page(Guest& guest) {
        std::vector<u64> words;
        for (u32 offset = 0; offset < page_size; offset += 8) {
            words.push_back(pattern(offset));
        }
        guest.write(apic::page, {reinterpret_cast<const u8*>(words.data()), page_size});
    }
};

TEST_F(ApicX2apic, vmx_rdmsr_of_the_tpr_reads_the_page) {
    claim({.sdm = "SDM 3C 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        value(guest, tpr_msr, 0);
        guest.load(guest_reads_one);
        apic::virtualize(guest, needed);
        fill_page(guest);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u) << "whatever mode the CPU's own APIC is in";
        EXPECT_EQ(r.reply.state.gpr[abi::rdx] << 32 | r.reply.state.gpr[abi::rax], pattern(apic::tpr));
    });
}

TEST_F(ApicX2apic, vmx_rdmsr_of_any_register_reads_the_page_under_register_virtualization) {
    claim({.sdm = "SDM 3C 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::registers};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        guest.load(guest_reads_all);
        apic::virtualize(guest, needed);
        fill_page(guest);
        const auto r = guest.run({});
        expect_stopped(r);
        EXPECT_EQ(r.exceptions.count, 0u) << "at RIP " << r.exceptions.rip;
        constexpr u32 msrs = 0x100;
        const auto found = guest.read64(apic::steps, msrs);
        for (u32 i = 0; i < msrs; ++i) {
            EXPECT_EQ(found[i], pattern(i << 4)) << std::hex << "MSR " << first_msr + i;
        }
        combinations(msrs);
    });
}

TEST_F(ApicX2apic, vmx_wrmsr_with_reserved_bits_raises_gp_and_changes_nothing) {
    claim({.sdm = "SDM 3C 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        std::vector<Write> writes{{tpr_msr, 0, false},
                                  {tpr_msr, 0xff, false},
                                  {eoi_msr, 0, false},
                                  {self_ipi_msr, 0x10, false},
                                  {self_ipi_msr, 0xff, false}};
        for (unsigned bit = 0; bit < 64; ++bit) {
            writes.push_back({eoi_msr, u64{1} << bit, true});
            if (bit >= 8) {
                writes.push_back({tpr_msr, u64{1} << bit | 0x20, true});
                writes.push_back({self_ipi_msr, u64{1} << bit | 0x20, true});
            }
        }
        Guest guest(host(), plan());
        guest.load(guest_writes_one);
        apic::virtualize(guest, needed);
        for (const Write& w : writes) {
            SCOPED_TRACE(testing::Message() << std::hex << "WRMSR " << w.msr << " of " << w.value);
            value(guest, w.msr, w.value);
            apic::clear_page(guest);
            apic::put(guest, apic::tpr, 0x70);
            apic::put_vectors(guest, apic::isr, {0x41});
            apic::put_status(guest, 0x41, 0);
            const auto r = guest.run({});
            expect_stopped(r);
            EXPECT_EQ(r.exceptions.count, w.faults ? 1u : 0u);
            const bool tpr = !w.faults && w.msr == tpr_msr, eoi = !w.faults && w.msr == eoi_msr,
                       self = !w.faults && w.msr == self_ipi_msr;
            if (w.faults) {
                EXPECT_EQ(r.exceptions.vector, general_protection);
                EXPECT_EQ(r.exceptions.error, 0u);
                EXPECT_EQ(r.exceptions.rip, code);
            }
            EXPECT_EQ(apic::left(guest, apic::tpr), tpr ? w.value : 0x70) << "VTPR";
            EXPECT_EQ(apic::vectors_left(guest, apic::isr), eoi ? List{} : List{0x41}) << "VISR";
            EXPECT_EQ(apic::vectors_left(guest, apic::irr),
                      self ? List{static_cast<unsigned>(w.value)} : List{})
                << "VIRR";
        }
        combinations(writes.size());
    });
}

TEST_F(ApicX2apic, vmx_self_ipi_of_a_vector_below_16_exits_behind_itself) {
    claim({.sdm = "SDM 3C 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        Guest guest(host(), plan());
        guest.load(guest_writes_one);
        apic::virtualize(guest, needed);
        for (unsigned vector = 0; vector < 16; ++vector) {
            SCOPED_TRACE(vector);
            value(guest, self_ipi_msr, vector);
            const auto r = guest.run({});
            expect_exit(r, Reason::apic_write, code + guest_writes_one_only.size());
            EXPECT_EQ(r.reply.exit.qualification, apic::self_ipi);
            EXPECT_EQ(apic::vectors_left(guest, apic::irr), List{}) << "VIRR";
        }
        combinations(16);
    });
}

TEST_F(ApicX2apic, vmx_wrmsr_of_the_tpr_exits_behind_itself_below_the_threshold) {
    claim({.sdm = "SDM 3C 30.1.2, 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        u64 tried = 0;
        for (const u32 threshold : {0u, 1u, 8u, 15u}) {
            for (const u32 tpr : {0x00u, 0x0fu, 0x10u, 0x7fu, 0x80u, 0xefu, 0xf0u}) {
                SCOPED_TRACE(testing::Message() << std::hex << "threshold " << threshold << ", TPR " << tpr);
                Guest guest(host(), plan());
                value(guest, tpr_msr, tpr);
                guest.load(guest_writes_one);
                apic::virtualize(guest, needed);
                apic::put(guest, apic::tpr, 0xff);
                guest.field(apic::tpr_threshold, 4, threshold);
                const auto r = guest.run({});
                if (tpr >> 4 < threshold) {
                    expect_exit(r, Reason::tpr_threshold, code + guest_writes_one_only.size());
                } else {
                    expect_stopped(r);
                }
                EXPECT_EQ(apic::left(guest, apic::tpr), tpr) << "VTPR";
                ++tried;
            }
        }
        combinations(tried);
    });
}

TEST_F(ApicX2apic, vmx_intercepted_accesses_exit_before_they_are_virtualized) {
    claim({.sdm = "SDM 3C 26.1.3, 30.5"}, [&] {
        static constexpr apic::Controls needed{apic::tpr_shadow, apic::x2apic, apic::registers,
                                               apic::delivery};
        if (const std::string why = lacking(needed); !why.empty()) {
            GTEST_SKIP() << why;
        }
        for (const bool is_write : {false, true}) {
            for (const u32 msr : {tpr_msr, eoi_msr, self_ipi_msr}) {
                SCOPED_TRACE(testing::Message() << std::hex << msr << ", write " << is_write);
                Guest guest(host(), plan());
                value(guest, msr, msr == self_ipi_msr ? 0x41 : 0);
                guest.load(is_write ? guest_writes_one : guest_reads_one);
                apic::virtualize(guest, needed);
                guest.fill(apic::bitmap, ~u64{0}, 0, page_size / 8, false); // intercepts all
                apic::put(guest, apic::tpr, 0x70);
                expect_exit(guest.run({}), is_write ? Reason::wrmsr : Reason::rdmsr, code);
                EXPECT_EQ(apic::left(guest, apic::tpr), 0x70u) << "VTPR";
                EXPECT_EQ(apic::vectors_left(guest, apic::irr), List{}) << "VIRR";
            }
        }
        combinations(6);
    });
}

} // namespace refhv::front
