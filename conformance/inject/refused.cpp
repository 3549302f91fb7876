// SPDX-License-Identifier: MIT
// Events that an entry must refuse to inject.
#include "conformance/entry/failure.hpp"

namespace refhv::front {

namespace {

enum VmxField : u32 {
    entry_interruption_info = 0x4016,
    entry_exception_error = 0x4018,
    entry_length = 0x401a,
    guest_rflags = 0x6820,
    guest_interruptibility = 0x4824,
};
constexpr u32 vmcb_event_injection = 0xa8;

constexpr u32 invalid_control_fields = 7, invalid_guest_state = 33;

constexpr u64 valid = 1u << 31, deliver_error = 1u << 11;
enum Type : u64 {
    external = 0 << 8,
    nmi = 2 << 8,
    exception = 3 << 8,
    software_interrupt = 4 << 8,
    other_event = 7 << 8,
};

[[nodiscard]] SpoiltField field(u32 which, u64 value) {
    return {.field = which, .width = 4, .set = value, .clear = ~u64{0}};
}

// IA32_VMX_BASIC[56]: any hardware exception may be injected with or without an error code.
[[nodiscard]] bool any_error_code(const client::HelloInfo& hello) {
    constexpr u32 vmx_basic = 0x480;
    return (msr(hello, vmx_basic) >> 56 & 1) != 0;
}

} // namespace

TEST_F(EntryFailure, vmx_event_of_inconsistent_fields_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.3"}, [&] {
        constexpr u64 reserved_13 = 1u << 13, general_protection = 13;
        std::vector<u64> wrong{
            nmi | 3,                         // an NMI's vector is 2
            exception | 32,                  // an exception's is below 32
            external | 0x30 | deliver_error, // no error code but with exceptions
            external | 0x30 | reserved_13,
        };
        if (!any_error_code(hello())) {
            wrong.push_back(exception | 6 | deliver_error);  // … that push one
            wrong.push_back(exception | general_protection); // and those that do must have it
        }
        for (const u64 info : wrong) {
            SCOPED_TRACE(testing::Message() << "interruption information " << std::hex << info);
            expect_instruction_error({field(entry_interruption_info, valid | info)}, invalid_control_fields);
        }
        combinations(wrong.size());
    });
}

TEST_F(EntryFailure, vmx_event_with_a_wide_error_code_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.3"}, [&] {
        expect_instruction_error({field(entry_interruption_info, valid | exception | deliver_error | 13),
                                  field(entry_exception_error, 1u << 16)},
                                 invalid_control_fields);
    });
}

TEST_F(EntryFailure, vmx_software_event_of_impossible_length_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.3"}, [&] {
        constexpr u64 vector = 28;
        std::vector<u64> lengths{16, 255};
        constexpr u32 vmx_misc = 0x485;
        if ((msr(hello(), vmx_misc) >> 30 & 1) == 0) {
            lengths.push_back(0);
        }
        for (const u64 length : lengths) {
            SCOPED_TRACE(length);
            expect_instruction_error({field(entry_interruption_info, valid | software_interrupt | vector),
                                      field(entry_length, length)},
                                     invalid_control_fields);
        }
        combinations(lengths.size());
    });
}

TEST_F(EntryFailure, vmx_interrupt_into_a_guest_that_masks_it_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.4"}, [&] {
        expect_entry_failure({field(entry_interruption_info, valid | external | 0x30),
                              {.field = guest_rflags, .width = 8, .clear = 1u << 9}},
                             invalid_guest_state, 0);
    });
}

TEST_F(EntryFailure, vmx_event_into_a_shadow_that_blocks_it_is_reason_33) {
    claim({.sdm = "SDM 3C 27.3.1.5"}, [&] {
        constexpr u64 by_sti = 1, by_mov_ss = 2;
        const SpoiltField enabled{.field = guest_rflags, .width = 8, .set = 1u << 9};
        for (const auto& [info, blocking] :
             {std::pair{external | 0x30, by_sti}, {external | 0x30, by_mov_ss}, {nmi | 2, by_mov_ss}}) {
            SCOPED_TRACE(testing::Message() << std::hex << info << " under " << blocking);
            expect_entry_failure({field(entry_interruption_info, valid | info),
                                  field(guest_interruptibility, blocking), enabled},
                                 invalid_guest_state, 0);
        }
        combinations(3);
    });
}

TEST_F(EntryFailure, svm_event_of_inconsistent_fields_is_invalid) {
    claim({.apm = "APM 2 15.20"}, [&] {
        const std::vector<u64> wrong{exception | 2, exception | 32, u64{5} << 8 | 28, u64{6} << 8 | 28,
                                     u64{7} << 8 | 28};
        for (const u64 info : wrong) {
            SCOPED_TRACE(testing::Message() << "EVENTINJ " << std::hex << info);
            expect_vmexit_invalid(
                {{.field = vmcb_event_injection, .width = 8, .set = valid | info, .clear = ~u64{0}}});
        }
        combinations(wrong.size());
    });
}

// Last of the file: Bochs 2.7 does not survive it.
TEST_F(EntryFailure, vmx_pending_monitor_trap_with_a_vector_is_error_7) {
    claim({.sdm = "SDM 3C 27.2.1.3"}, [&] {
        expect_instruction_error({field(entry_interruption_info, valid | other_event | 1)},
                                 invalid_control_fields);
    });
}

} // namespace refhv::front
