// SPDX-License-Identifier: MIT
// Guest states that VMRUN refuses with VMEXIT_INVALID: APM 2 15.5.1, "Canonicalization and Consistency
// Checks".
#include "conformance/entry/failure.hpp"

namespace refhv::front {

namespace {

// VMCB offsets: APM 2 appendix B, tables B-1 and B-2.
enum Offset : u32 {
    intercepts_3 = 0x010, // VMRUN is bit 0
    guest_asid = 0x058,
    event_injection = 0x0a8,
    efer = 0x4d0,
    cr4 = 0x548,
    cr3 = 0x550,
    cr0 = 0x558,
    dr7 = 0x560,
    dr6 = 0x568,
};

constexpr const char* section = "APM 2 15.5.1";

constexpr u64 high_bit = u64{1} << 40;

} // namespace

TEST_F(EntryFailure, svm_asid_0_is_invalid) {
    claim({.apm = section},
          [&] { expect_vmexit_invalid({{.field = guest_asid, .width = 4, .clear = ~u64{0}}}); });
}

TEST_F(EntryFailure, svm_vmexit_invalid_is_minus_one_in_64_bits) {
    claim({.apm = "APM 2 appendix C"}, [&] {
        const auto r = run_spoilt({{.field = guest_asid, .width = 4, .clear = ~u64{0}}});
        EXPECT_EQ(r.reply.exit.raw_reason, ~u64{0}) << "EXITCODE";
        expect_healthy();
    });
}

TEST_F(EntryFailure, svm_vmrun_not_intercepted_is_invalid) {
    claim({.apm = section},
          [&] { expect_vmexit_invalid({{.field = intercepts_3, .width = 4, .clear = 1}}); });
}

TEST_F(EntryFailure, svm_efer_svme_clear_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = efer, .width = 8, .clear = 1u << 12}}); });
}

TEST_F(EntryFailure, svm_efer_reserved_bit_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = efer, .width = 8, .set = high_bit}}); });
}

TEST_F(EntryFailure, svm_cr0_nw_without_cd_is_invalid) {
    claim({.apm = section},
          [&] { expect_vmexit_invalid({{.field = cr0, .width = 8, .set = 1u << 29, .clear = 1u << 30}}); });
}

TEST_F(EntryFailure, svm_cr0_upper_half_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = cr0, .width = 8, .set = high_bit}}); });
}

TEST_F(EntryFailure, svm_cr3_reserved_bit_is_invalid) {
    claim({.apm = section},
          [&] { expect_vmexit_invalid({{.field = cr3, .width = 8, .set = u64{1} << 62}}); });
}

TEST_F(EntryFailure, svm_cr4_reserved_bit_is_invalid) {
    claim({.apm = section}, [&] {
        needs(abi::Permit::control_bits);
        expect_vmexit_invalid({{.field = cr4, .width = 8, .set = high_bit}});
    });
}

TEST_F(EntryFailure, svm_dr6_upper_half_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = dr6, .width = 8, .set = high_bit}}); });
}

TEST_F(EntryFailure, svm_dr7_upper_half_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = dr7, .width = 8, .set = high_bit}}); });
}

TEST_F(EntryFailure, svm_long_mode_without_pae_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = cr4, .width = 8, .clear = 1u << 5}}); });
}

TEST_F(EntryFailure, svm_reserved_event_type_is_invalid) {
    claim({.apm = "APM 2 15.5.1, 15.20"}, [&] {
        constexpr u64 valid_type_1 = 0x8000'0100; // type 1 is reserved
        expect_vmexit_invalid(
            {{.field = event_injection, .width = 8, .set = valid_type_1, .clear = ~u64{0}}});
    });
}

// Last: on Bochs 2.7 this one takes the whole emulator with it. That is a MISS, and the next target starts
// afresh.
TEST_F(EntryFailure, svm_long_mode_without_protection_is_invalid) {
    claim({.apm = section}, [&] { expect_vmexit_invalid({{.field = cr0, .width = 8, .clear = 1}}); });
}

} // namespace refhv::front
