// SPDX-License-Identifier: MIT
// VMX instructions with their result as RFLAGS gives it (SDM 3C 31.2).
#pragma once

#include "refhv/vmx/fields.hpp"

namespace refhv::vmx {

enum class Result : u8 {
    succeed,
    fail_valid,   // ZF: the VM-instruction error field holds the number
    fail_invalid, // CF: no current VMCS
};

#define REFHV_VMX_RESULT(c, z) ((c) ? Result::fail_invalid : (z) ? Result::fail_valid : Result::succeed)

[[nodiscard]] inline Result vmxon(u64 region) {
    bool c, z;
    asm volatile("vmxon %2" : "=@ccc"(c), "=@ccz"(z) : "m"(region) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

inline void vmxoff() {
    asm volatile("vmxoff" ::: "cc", "memory");
}

[[nodiscard]] inline Result vmclear(u64 vmcs) {
    bool c, z;
    asm volatile("vmclear %2" : "=@ccc"(c), "=@ccz"(z) : "m"(vmcs) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

[[nodiscard]] inline Result vmptrld(u64 vmcs) {
    bool c, z;
    asm volatile("vmptrld %2" : "=@ccc"(c), "=@ccz"(z) : "m"(vmcs) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

[[nodiscard]] inline Result vmread(u64 encoding, u64& value) {
    bool c, z;
    asm volatile("vmread %3, %2" : "=@ccc"(c), "=@ccz"(z), "=r"(value) : "r"(encoding) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

[[nodiscard]] inline Result vmwrite(u64 encoding, u64 value) {
    bool c, z;
    asm volatile("vmwrite %2, %3" : "=@ccc"(c), "=@ccz"(z) : "r"(value), "r"(encoding) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

struct InvalidateDescriptor {
    u64 tag; // EPTP, or VPID
    u64 address;
};

[[nodiscard]] inline Result invept(u64 type, const InvalidateDescriptor& d) {
    bool c, z;
    asm volatile("invept %2, %3" : "=@ccc"(c), "=@ccz"(z) : "m"(d), "r"(type) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

[[nodiscard]] inline Result invvpid(u64 type, const InvalidateDescriptor& d) {
    bool c, z;
    asm volatile("invvpid %2, %3" : "=@ccc"(c), "=@ccz"(z) : "m"(d), "r"(type) : "memory");
    return REFHV_VMX_RESULT(c, z);
}

// For fields that this core knows to exist; a failure would be its own error.
[[nodiscard]] inline u64 read(Field f) {
    u64 v = 0;
    (void)vmread(static_cast<u64>(f), v);
    return v;
}
inline void write(Field f, u64 value) {
    (void)vmwrite(static_cast<u64>(f), value);
}

} // namespace refhv::vmx
