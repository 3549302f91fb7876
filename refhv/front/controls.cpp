// SPDX-License-Identifier: MIT
#include "refhv/front/controls.hpp"

#include "refhv/front/session.hpp"

namespace refhv::front {

u32 offered(const client::HelloInfo& hello, u32 control_field) {
    constexpr u32 vmx_basic = 0x480, vmx_proc2 = 0x48b, activate_secondary = 1u << 31;
    const bool true_controls = (msr(hello, vmx_basic) >> 55 & 1) != 0;
    u32 capability = 0;
    switch (control_field) {
    case vmcs::pin_controls:
        capability = true_controls ? 0x48d : 0x481;
        break;
    case vmcs::proc_controls:
        capability = true_controls ? 0x48e : 0x482;
        break;
    case vmcs::exit_controls:
        capability = true_controls ? 0x48f : 0x483;
        break;
    case vmcs::entry_controls:
        capability = true_controls ? 0x490 : 0x484;
        break;
    case vmcs::secondary_controls:
        if (!offers(hello, vmcs::proc_controls, activate_secondary)) {
            return 0;
        }
        capability = vmx_proc2;
        break;
    default:
        throw std::logic_error("no control field of VMX");
    }
    return static_cast<u32>(msr(hello, capability) >> 32);
}

bool offers(const client::HelloInfo& hello, u32 control_field, u64 bits) {
    return (offered(hello, control_field) & bits) == bits;
}

void change(client::Guest& guest, u32 field, u64 set, u64 clear) {
    guest.field(field, 4, (guest.read_field(field, 4) & ~clear) | set);
}

} // namespace refhv::front
