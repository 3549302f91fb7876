// SPDX-License-Identifier: MIT
// VM entries that VMX refuses.
#include "conformance/entry/failure.hpp"

namespace refhv::front {

namespace {

// VMCS encodings: SDM 3D appendix B.
enum Encoding : u32 {
    host_tr_selector = 0x0c0c,
    host_cs_selector = 0x0c02,
    vmcs_link_pointer = 0x2800,
    pin_based_controls = 0x4000,
    vm_entry_interruption_information = 0x4016,
    guest_tr_access_rights = 0x4822,
    guest_activity_state = 0x4826,
    guest_cr0 = 0x6800,
    guest_rip = 0x681e,
    guest_rflags = 0x6820,
    host_rip = 0x6c16,
};

// VM-instruction errors: SDM 3C 31.4.
constexpr u32 invalid_control_fields = 7;
constexpr u32 invalid_host_state = 8;
// Basic exit reason: SDM 3D appendix C.
constexpr u32 invalid_guest_state = 33;
// Exit qualification of reason 33: SDM 3C 27.8.
constexpr u64 invalid_link_pointer = 4;

constexpr u64 reserved_control = 1u << 31;
constexpr u64 noncanonical = u64{1} << 62;

} // namespace

TEST_F(EntryFailure, vmx_reserved_pin_based_control_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        expect_instruction_error({{.field = pin_based_controls, .width = 4, .set = reserved_control}},
                                 invalid_control_fields);
    });
}

TEST_F(EntryFailure, vmx_cleared_default1_pin_based_control_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.1"}, [&] {
        constexpr u64 default1 = 1u << 1;
        expect_instruction_error({{.field = pin_based_controls, .width = 4, .clear = default1}},
                                 invalid_control_fields);
    });
}

TEST_F(EntryFailure, vmx_reserved_event_type_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.3"}, [&] {
        constexpr u64 valid_type_1 = 0x8000'0100; // type 1 is reserved
        expect_instruction_error(
            {{.field = vm_entry_interruption_information, .width = 4, .set = valid_type_1, .clear = ~u64{0}}},
            invalid_control_fields);
    });
}

TEST_F(EntryFailure, vmx_host_selector_with_rpl_is_error_8) {
    claim({.sdm = "SDM 3C 27.2.3"}, [&] {
        expect_instruction_error({{.field = host_cs_selector, .width = 2, .set = 3}}, invalid_host_state);
    });
}

TEST_F(EntryFailure, vmx_null_host_task_register_is_error_8) {
    claim({.sdm = "SDM 3C 27.2.3"}, [&] {
        expect_instruction_error({{.field = host_tr_selector, .width = 2, .clear = 0xffff}},
                                 invalid_host_state);
    });
}

TEST_F(EntryFailure, vmx_noncanonical_host_rip_is_error_8) {
    claim({.sdm = "SDM 3C 27.2.4"}, [&] {
        expect_instruction_error({{.field = host_rip, .width = 8, .set = noncanonical}}, invalid_host_state);
    });
}

TEST_F(EntryFailure, vmx_paging_without_protection_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.1"}, [&] {
        constexpr u64 pe = 1;
        expect_entry_failure({{.field = guest_cr0, .width = 8, .clear = pe}}, invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_rflags_bit_1_clear_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.4"}, [&] {
        expect_entry_failure({{.field = guest_rflags, .width = 8, .clear = 2}}, invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_rflags_bit_15_set_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.4"}, [&] {
        expect_entry_failure({{.field = guest_rflags, .width = 8, .set = 1u << 15}}, invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_noncanonical_rip_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.4"}, [&] {
        expect_entry_failure({{.field = guest_rip, .width = 8, .set = noncanonical}}, invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_unusable_task_register_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.2"}, [&] {
        constexpr u64 unusable = 1u << 16;
        expect_entry_failure({{.field = guest_tr_access_rights, .width = 4, .set = unusable}},
                             invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_unknown_activity_state_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] {
        constexpr u64 unknown = 4;
        expect_entry_failure({{.field = guest_activity_state, .width = 4, .set = unknown}},
                             invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_bad_link_pointer_is_reason_33_with_qualification_4) {
    claim({.sdm = "SDM 3C 27.3.1.5, 27.8"}, [&] {
        constexpr u64 misaligned = 0xffe; // bits 11:0 must be 0 unless all bits are 1
        expect_entry_failure({{.field = vmcs_link_pointer, .width = 8, .set = misaligned, .clear = ~u64{0}}},
                             invalid_guest_state, invalid_link_pointer);
    });
}

} // namespace refhv::front
