// SPDX-License-Identifier: MIT
// The exhaustive paging table: what an access does under every combination of rights, sizes, reserved bits,
// keys and controls is what the oracle says, in every mode alike. A mode's claims together try well over
// 50,000 combinations; each records its own number as the property `combinations`.
#include "conformance/paging/cases.hpp"
#include "conformance/paging/claim.hpp"
#include "conformance/paging/engine.hpp"
#include "conformance/paging/oracle.hpp"

namespace refhv::front {

using abi::Mode;

class PagingTable : public Claim {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::native; } // which every core has

    static constexpr u16 all_but_cr2 = static_cast<u16>(~result_cr2);

    static PagingMachine machine(unsigned levels) {
        const auto bit = [](u32 leaf, unsigned reg, unsigned n) {
            return (cpuid(hello(), leaf, 0, reg) >> n & 1) != 0;
        };
        enum : unsigned {
            eax,
            ebx,
            ecx,
            edx
        };
        const u32 bits = cpuid(hello(), 0x8000'0008, 0, eax) & 0xff;
        constexpr u32 authentic_amd = 0x6874'7541; // EBX of leaf 0
        return {.levels = levels,
                .physical_bits = bits != 0 ? bits : 36,
                .has_1g_pages = bit(0x8000'0001, edx, 26),
                .has_smep = bit(7, ebx, 7),
                .has_smap = bit(7, ebx, 20),
                .has_pku = bit(7, ecx, 3),
                .amd = cpuid(hello(), 0, 0, ebx) == authentic_amd,
                .has_cet = open_dirty_flag(hello())};
    }

    template <class Batch>
    void check(Mode where, Batch make, u16 subject = all_but_cr2, unsigned levels = 4) {
        if ((hello().fixed.modes >> static_cast<u8>(where) & 1) == 0) {
            GTEST_SKIP() << "the core offers no mode " << client::name_of(where);
        }
        const PagingMachine m = machine(levels);
        try_batches(where, m, make(m), subject);
    }

    // A guest's keys are the CPU's to obey in every mode. A CPU that binds other accesses with them than the
    // manual says would end the guest, which binds its own pages too, or loop in the shadow modes: a few
    // cases of native code come first.
    void check_keys(Mode where) {
        const PagingMachine m = machine(4);
        if (!m.has_pku) {
            GTEST_SKIP() << "CPUID.7.0:ECX.PKU[3] is 0";
        }
        try_batches(Mode::native, m, protection_keys_probe(m), all_but_cr2);
        if (!HasFailure()) {
            check(where, protection_keys_batches);
        }
    }

  private:
    void try_batches(Mode where, const PagingMachine& m, const PagingBatches& batches, u16 subject) {
        u64 tried = 0;
        for (const PagingBatch& batch : batches) {
            const u64 wrong = compare(m, batch, try_all(host(), where, m, batch), subject);
            tried += batch.combinations();
            if (wrong != 0) { // what is left would take its time and tell no more
                break;
            }
        }
        combinations(tried);
    }

    // How many are wrong.
    static u64 compare(const PagingMachine& m, const PagingBatch& batch, const std::vector<u16>& found,
                       u16 subject) {
        constexpr u64 most_shown = 8;
        u64 wrong = 0;
        auto at = found.begin();
        for (const u64 control : batch.controls) {
            for (const EntrySet& set : batch.sets) {
                for (unsigned i = 0; i < tries; ++i, ++at) {
                    const auto t = static_cast<Try>(i);
                    Predicted due = predict(m, set, control, t);
                    due.care &= subject;
                    if (!due.admits(*at) && ++wrong <= most_shown) {
                        ADD_FAILURE() << to_string(control, t) << "; " << to_string(set) << ": "
                                      << result_to_string(*at) << ", due " << result_to_string(due.result);
                    }
                }
            }
        }
        EXPECT_EQ(wrong, 0u) << "of " << found.size() << " combinations of one batch";
        return wrong;
    }
};

// One claim a mode, so that a mode that fails says so by its name.
#define IN_EVERY_MODE(subject, sdm, apm, ...)                                                                \
    TEST_F(PagingTable, paging_##subject##_native) {                                                         \
        claim({sdm, apm}, [&] { check(Mode::native, __VA_ARGS__); });                                        \
    }                                                                                                        \
    TEST_F(PagingTable, paging_##subject##_nested) {                                                         \
        claim({sdm, apm}, [&] { check(Mode::nested, __VA_ARGS__); });                                        \
    }                                                                                                        \
    TEST_F(PagingTable, paging_##subject##_shadow) {                                                         \
        claim({sdm, apm}, [&] { check(Mode::shadow, __VA_ARGS__); });                                        \
    }                                                                                                        \
    TEST_F(PagingTable, paging_##subject##_vtlb) {                                                           \
        claim({sdm, apm}, [&] { check(Mode::vtlb, __VA_ARGS__); });                                          \
    }

IN_EVERY_MODE(rights_of_4k_pages, "SDM 3A 4.6.1", "APM 2 5.6",
              [](const auto& m) { return rights_batches(m, 1); })
IN_EVERY_MODE(rights_of_2m_pages, "SDM 3A 4.6.1", "APM 2 5.6",
              [](const auto& m) { return rights_batches(m, 2); })
IN_EVERY_MODE(rights_of_1g_pages, "SDM 3A 4.6.1", "APM 2 5.6", [](const auto& m) {
    if (!m.has_1g_pages) {
        throw client::Refused(abi::Op::run, abi::Outcome::unsupported,
                              "CPUID.80000001H:EDX.Page1GB[26] is 0");
    }
    return rights_batches(m, 3);
})
IN_EVERY_MODE(
    fault_addresses, "SDM 3A 4.7", "APM 2 8.2.15", [](const auto& m) { return rights_batches(m, 2); },
    result_cr2)
IN_EVERY_MODE(execute_disable_is_reserved_without_nxe, "SDM 3A 4.7", "APM 2 5.6.1", [](const auto& m) {
    PagingBatches all;
    for (const unsigned leaf : {1u, 2u}) {
        const auto some = xd_without_nxe_batches(m, leaf);
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
})
IN_EVERY_MODE(reserved_bits, "SDM 3A 4.5.4", "APM 2 5.3", reserved_bits_batches)
IN_EVERY_MODE(ignored_bits, "SDM 3A 4.5.4", "APM 2 5.4", ignored_bits_batches)
IN_EVERY_MODE(bit_8_above_pages, "SDM 3A 4.5.4", "APM 2 5.3.3", global_above_leaf_batches)
#define KEYS_IN(mode)                                                                                        \
    TEST_F(PagingTable, paging_protection_keys_##mode) {                                                     \
        claim({"SDM 3A 4.6.2", "APM 2 5.6.7"}, [&] { check_keys(Mode::mode); });                             \
    }
KEYS_IN(native)
KEYS_IN(nested)
KEYS_IN(shadow)
KEYS_IN(vtlb)

class PagingTableOfFiveLevels : public PagingTable {
  protected:
    [[nodiscard]] Mode mode() const override { return Mode::nested; } // not native: the core has four

    void check_rights(Mode where) {
        constexpr u32 la57 = 1u << 16;
        if ((cpuid(hello(), 7, 0, 2) & la57) == 0) {
            GTEST_SKIP() << "CPUID.7.0:ECX.LA57[16] is 0";
        }
        check(
            where, [](const auto& m) { return rights_batches(m, 1); }, all_but_cr2, 5);
    }
};

TEST_F(PagingTableOfFiveLevels, paging_rights_of_4k_pages_nested) {
    claim({"SDM 3A 4.6.1", "APM 2 5.6"}, [&] { check_rights(Mode::nested); });
}
TEST_F(PagingTableOfFiveLevels, paging_rights_of_4k_pages_shadow) {
    claim({"SDM 3A 4.6.1", "APM 2 5.6"}, [&] { check_rights(Mode::shadow); });
}
TEST_F(PagingTableOfFiveLevels, paging_rights_of_4k_pages_vtlb) {
    claim({"SDM 3A 4.6.1", "APM 2 5.6"}, [&] { check_rights(Mode::vtlb); });
}

} // namespace refhv::front
