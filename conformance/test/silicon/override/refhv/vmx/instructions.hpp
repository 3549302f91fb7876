// SPDX-License-Identifier: MIT
// The VMX instructions on the machine in conformance/test/silicon/vmx_machine.hpp.
#pragma once

#include "conformance/test/silicon/vmx_machine.hpp"

namespace refhv::vmx {

using Result = silicon::VmxResult;

[[nodiscard]] inline Result vmxon(u64 region) {
    return silicon::vmx().vmxon(region);
}
inline void vmxoff() {
    silicon::vmx().vmxoff();
}
[[nodiscard]] inline Result vmclear(u64 vmcs) {
    return silicon::vmx().vmclear(vmcs);
}
[[nodiscard]] inline Result vmptrld(u64 vmcs) {
    return silicon::vmx().vmptrld(vmcs);
}
[[nodiscard]] inline Result vmread(u64 encoding, u64& value) {
    return silicon::vmx().vmread(encoding, value);
}
[[nodiscard]] inline Result vmwrite(u64 encoding, u64 value) {
    return silicon::vmx().vmwrite(encoding, value);
}

struct InvalidateDescriptor {
    u64 tag;
    u64 address;
};

[[nodiscard]] inline Result invept(u64, const InvalidateDescriptor&) {
    return Result::succeed;
}
[[nodiscard]] inline Result invvpid(u64, const InvalidateDescriptor&) {
    ++silicon::vmx().invvpids;
    return Result::succeed;
}

[[nodiscard]] inline u64 read(Field f) {
    u64 v = 0;
    (void)vmread(static_cast<u64>(f), v);
    return v;
}
inline void write(Field f, u64 value) {
    (void)vmwrite(static_cast<u64>(f), value);
}

} // namespace refhv::vmx
