// SPDX-License-Identifier: MIT
// What a CPU says of its newer controls has to fit: capability MSRs that exist with a control, and VMCS
// fields that do (SDM 3D appendices A and B).
#include "refhv/front/claim.hpp"
#include "refhv/front/controls.hpp"

namespace refhv::front {

namespace {

constexpr u32 vmx_basic = 0x480, vmx_proc = 0x482, vmx_entry = 0x484, vmx_exit = 0x483, vmx_proc2 = 0x48b,
              vmx_true_proc = 0x48e, vmx_true_exit = 0x48f, vmx_true_entry = 0x490, vmx_proc3 = 0x492;
constexpr unsigned tertiary = 17, secondary = 31;

[[nodiscard]] bool exists(const client::HelloInfo& hello, u32 index) {
    return std::any_of(hello.msrs.begin(), hello.msrs.end(),
                       [&](const abi::MsrValue& m) { return m.index == index && m.present != 0; });
}

// May the control be 1, by this MSR?
[[nodiscard]] bool may_be_1(const client::HelloInfo& hello, u32 index, unsigned control) {
    return (msr(hello, index) >> (32 + control) & 1) != 0;
}

} // namespace

class EntryCapabilities : public Claim {
  protected:
    // By a VMREAD of it (SDM 3C 31.4: error 12 for a component that is not supported).
    static bool has_field(client::Guest& guest, u32 field) {
        try {
            static_cast<void>(guest.read_field(field, 8, false));
            return true;
        } catch (const client::Refused& refused) {
            if (refused.outcome != abi::Outcome::bad_request) {
                throw;
            }
            EXPECT_EQ(refused.text, "VM-instruction error 12") << "field " << std::hex << field;
            return false;
        }
    }
};

// IA32_VMX_PROCBASED_CTLS3 is there where tertiary controls may be activated, and nowhere else; the same of
// the secondary ones. Both MSRs about the primary controls say the same of them.
TEST_F(EntryCapabilities, vmx_capability_msrs_exist_with_the_controls_that_activate_them) {
    claim({.sdm = "SDM 3D A.3.2, A.3.3, A.3.4"}, [&] {
        const bool is_true = (msr(hello(), vmx_basic) >> 55 & 1) != 0;
        EXPECT_EQ(exists(hello(), vmx_proc3), may_be_1(hello(), vmx_proc, tertiary))
            << "IA32_VMX_PROCBASED_CTLS3 and IA32_VMX_PROCBASED_CTLS[49]";
        EXPECT_EQ(exists(hello(), vmx_proc2), may_be_1(hello(), vmx_proc, secondary))
            << "IA32_VMX_PROCBASED_CTLS2 and IA32_VMX_PROCBASED_CTLS[63]";
        EXPECT_EQ(exists(hello(), vmx_true_proc), is_true);
        for (const auto& [plain, exact] :
             {std::pair{vmx_proc, vmx_true_proc}, {vmx_exit, vmx_true_exit}, {vmx_entry, vmx_true_entry}}) {
            if (is_true) {
                EXPECT_EQ(msr(hello(), plain) >> 32, msr(hello(), exact) >> 32)
                    << "what may be 1, by MSRs " << std::hex << plain << "h and " << exact << 'h';
            }
        }
        for (const u32 index : {vmx_true_proc, vmx_proc}) {
            EXPECT_EQ(msr(hello(), index) >> tertiary & 1, 0u) << "a control whose 0-setting is not allowed";
        }
    });
}

// A field that belongs to a control exists where that may be 1, and nowhere else.
TEST_F(EntryCapabilities, vmx_fields_exist_with_their_controls) {
    claim({.sdm = "SDM 3D B.1 to B.4; SDM 3C 31.4"}, [&] {
        needs(abi::Permit::unlisted_fields);
        needs(abi::Permit::host_fields);
        const u32 primary = offered(hello(), vmcs::proc_controls),
                  exits = offered(hello(), vmcs::exit_controls);
        const u32 entries = offered(hello(), vmcs::entry_controls);
        const u64 three = (primary >> tertiary & 1) != 0 ? msr(hello(), vmx_proc3) : 0;
        const auto bit = [](u64 controls, unsigned number) { return (controls >> number & 1) != 0; };
        struct Owned {
            u32 field;
            const char* control;
            bool may_be_1;
        };
        const Owned fields[] = {
            {0x401e, "activate secondary controls", bit(primary, secondary)},
            {0x2034, "activate tertiary controls", bit(primary, tertiary)},
            {0x2044, "activate secondary controls (exit)", bit(exits, 31)},
            {0x0008, "IPI virtualization (last PID-pointer index)", bit(three, 4)},
            {0x2042, "IPI virtualization (PID-pointer table)", bit(three, 4)},
            {0x204a, "virtualize IA32_SPEC_CTRL (mask)", bit(three, 7)},
            {0x204c, "virtualize IA32_SPEC_CTRL (shadow)", bit(three, 7)},
            {0x2818, "load PKRS (entry)", bit(entries, 22)},
            {0x2c06, "load PKRS (exit)", bit(exits, 29)},
            {0x6828, "load CET state (entry): IA32_S_CET", bit(entries, 20)},
            {0x682a, "load CET state (entry): SSP", bit(entries, 20)},
            {0x682c, "load CET state (entry): IA32_INTERRUPT_SSP_TABLE_ADDR", bit(entries, 20)},
            {0x6c18, "load CET state (exit): IA32_S_CET", bit(exits, 28)},
            {0x6c1a, "load CET state (exit): SSP", bit(exits, 28)},
            {0x6c1c, "load CET state (exit): IA32_INTERRUPT_SSP_TABLE_ADDR", bit(exits, 28)},
        };
        client::Guest guest(host(), {});
        guest.settle();
        EXPECT_TRUE(has_field(guest, vmcs::guest_cr0));
        for (const Owned& f : fields) {
            EXPECT_EQ(has_field(guest, f.field), f.may_be_1)
                << f.control << ", field " << std::hex << f.field << 'h';
        }
        combinations(std::size(fields));
    });
}

} // namespace refhv::front
