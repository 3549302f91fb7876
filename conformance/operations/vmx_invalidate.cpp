// SPDX-License-Identifier: MIT
// INVEPT and INVVPID: types, descriptors, and what they refuse.
#include "conformance/operations/vmx_case.hpp"

#include <random>

namespace refhv::front::root {

using namespace vmx_code;

namespace {

constexpr unsigned invept_cap = 20, invept_types = 24, invvpid_cap = 32, invvpid_types = 40;
constexpr u64 write_back = 6, walk_length_4 = 3u << 3;

// Boundaries, each bit, and some at random, of 32 bits.
std::vector<u64> low_types() {
    std::vector<u64> values = {0, 1, 2, 3, 4, 5, 6, 7, 0xff, 0xffff'ffff};
    for (unsigned bit = 3; bit < 32; ++bit) {
        for (u64 low = 0; low < 4; ++low) {
            values.push_back(u64{1} << bit | low);
        }
    }
    std::mt19937_64 random{31'283};
    for (unsigned i = 0; i < 16; ++i) {
        values.push_back(random() >> 32);
    }
    return values;
}

// With something in bits 63:32 they are no types, whatever stands below.
std::vector<u64> high_types() {
    std::vector<u64> values = {~u64{0}};
    for (unsigned bit = 32; bit < 64; ++bit) {
        for (u64 low = 0; low < 4; ++low) {
            values.push_back(u64{1} << bit | low);
        }
    }
    return values;
}

End refused() {
    return fails(vm_error::invalidate_operand);
}

} // namespace

class VmxInvalidate : public VmxRoot {
  protected:
    static bool has_invept() { return (ept_vpid() >> invept_cap & 1) != 0; }
    static bool has_invvpid() { return (ept_vpid() >> invvpid_cap & 1) != 0; }
    static bool offers_invept(u64 type) {
        return type < 8 && type != 0 && (ept_vpid() >> (invept_types + type) & 1) != 0;
    }
    static bool offers_invvpid(u64 type) {
        return type < 4 && (ept_vpid() >> (invvpid_types + type) & 1) != 0;
    }
    static void require(bool there, const char* what) {
        if (!there) {
            throw client::Refused(abi::Op::hello, abi::Outcome::unsupported, what);
        }
    }
    static void invept(VmxProgram& p, const std::string& what, u64 type, u64 eptp, const End& due) {
        p.add("INVEPT, type " + hex(type) + what, invept_of_rax_rdx(),
              {.rax = eptp, .rdx = 0, .rcx = type, .rdi = VmxProgram::operand()}, due);
    }
    static void invvpid(VmxProgram& p, const std::string& what, u64 type, u64 low, u64 address,
                        const End& due) {
        p.add("INVVPID, type " + hex(type) + what, invvpid_of_rax_rdx(),
              {.rax = low, .rdx = address, .rcx = type, .rdi = VmxProgram::operand()}, due);
    }
};

TEST_F(VmxInvalidate, invept_takes_the_types_that_are_offered) {
    root_claim("SDM 3C 31.3 INVEPT; SDM 3D A.10", [&](VmxProgram& p, Differences& d) {
        require(has_invept(), "no INVEPT (IA32_VMX_EPT_VPID_CAP bit 20)");
        p.enter();
        const u64 eptp = p.physical(third_page) | write_back | walk_length_4;
        for (const u64 type : low_types()) {
            invept(p, "", type, eptp, offers_invept(type) ? succeeds() : refused());
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxInvalidate, invept_looks_at_all_64_bits_of_its_type) {
    root_claim("SDM 3C 31.3 INVEPT", [&](VmxProgram& p, Differences& d) {
        require(has_invept(), "no INVEPT (IA32_VMX_EPT_VPID_CAP bit 20)");
        p.enter();
        const u64 eptp = p.physical(third_page) | write_back | walk_length_4;
        for (const u64 type : high_types()) {
            invept(p, "", type, eptp, offers_invept(type) ? succeeds() : refused());
        }
        p.leave();
        p.run(d);
    });
}

// As a VM entry would: memory type, page-walk length, accessed and dirty flags, reserved bits, width.
TEST_F(VmxInvalidate, invept_refuses_an_eptp_that_an_entry_would_refuse) {
    root_claim("SDM 3C 31.3 INVEPT, 25.6.11, 27.2.1.1", [&](VmxProgram& p, Differences& d) {
        require(has_invept() && offers_invept(1), "no single-context INVEPT");
        p.enter();
        const u64 root = p.physical(third_page);
        const auto cap = [&](unsigned bit) { return (ept_vpid() >> bit & 1) != 0; };
        for (u64 low = 0; low < 0x80; ++low) {
            const u64 type = low & 7, length = low >> 3 & 7;
            const bool valid = ((type == 0 && cap(8)) || (type == 6 && cap(14))) &&
                               ((length == 3 && cap(6)) || (length == 4 && cap(7))) &&
                               ((low & 0x40) == 0 || cap(21));
            invept(p, ", EPTP with low bits " + hex(low), 1, root | low, valid ? succeeds() : refused());
        }
        const u64 good = root | write_back | walk_length_4;
        for (unsigned bit = 7; bit < 64; ++bit) {
            if (bit >= 12 && bit < p.physical_bits()) {
                invept(p, ", EPTP with bit " + std::to_string(bit), 1, good | u64{1} << bit, succeeds());
            } else if (bit != 7 || !cap(23)) {
                invept(p, ", EPTP with bit " + std::to_string(bit), 1, good | u64{1} << bit, refused());
            }
        }
        invept(p, ", the EPTP without odd bits", 1, good, succeeds());
        if (offers_invept(2)) { // which looks at no EPTP
            for (const u64 eptp : {u64{0}, ~u64{0}, root, root | 7}) {
                invept(p, ", EPTP " + hex(eptp), 2, eptp, succeeds());
            }
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxInvalidate, invvpid_takes_the_types_that_are_offered) {
    root_claim("SDM 3C 31.3 INVVPID; SDM 3D A.10", [&](VmxProgram& p, Differences& d) {
        require(has_invvpid(), "no INVVPID (IA32_VMX_EPT_VPID_CAP bit 32)");
        p.enter();
        for (const u64 type : low_types()) {
            invvpid(p, "", type, 1, 0, offers_invvpid(type) ? succeeds() : refused());
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxInvalidate, invvpid_looks_at_all_64_bits_of_its_type) {
    root_claim("SDM 3C 31.3 INVVPID", [&](VmxProgram& p, Differences& d) {
        require(has_invvpid(), "no INVVPID (IA32_VMX_EPT_VPID_CAP bit 32)");
        p.enter();
        for (const u64 type : high_types()) {
            invvpid(p, "", type, 1, 0, offers_invvpid(type) ? succeeds() : refused());
        }
        p.leave();
        p.run(d);
    });
}

TEST_F(VmxInvalidate, invvpid_refuses_reserved_bits_and_vpid_0) {
    root_claim("SDM 3C 31.3 INVVPID", [&](VmxProgram& p, Differences& d) {
        require(has_invvpid(), "no INVVPID (IA32_VMX_EPT_VPID_CAP bit 32)");
        p.enter();
        for (u64 type = 0; type < 4; ++type) {
            if (!offers_invvpid(type)) {
                continue;
            }
            for (unsigned bit = 16; bit < 64; ++bit) {
                invvpid(p, ", descriptor with bit " + std::to_string(bit), type, 1 | u64{1} << bit, 0,
                        refused());
                invvpid(p, ", VPID 0, descriptor with bit " + std::to_string(bit), type, u64{1} << bit, 0,
                        refused());
            }
            invvpid(p, ", VPID 0", type, 0, 0, type == 2 ? succeeds() : refused());
            for (unsigned bit = 0; bit < 16; ++bit) {
                invvpid(p, ", VPID " + hex(u64{1} << bit), type, u64{1} << bit, 0, succeeds());
            }
            invvpid(p, ", VPID FFFFH", type, 0xffff, 0, succeeds());
        }
        p.leave();
        p.run(d);
    });
}

// Of type 0 alone: the others do not look at it.
TEST_F(VmxInvalidate, invvpid_refuses_an_address_that_is_not_canonical) {
    root_claim("SDM 3C 31.3 INVVPID", [&](VmxProgram& p, Differences& d) {
        require(has_invvpid(), "no INVVPID (IA32_VMX_EPT_VPID_CAP bit 32)");
        constexpr unsigned la57_leaf = 7, la57_bit = 16; // then either width may be meant
        const bool five_levels = (cpuid(hello(), la57_leaf, 0, 2) >> la57_bit & 1) != 0;
        const unsigned sign = 47;
        p.enter();
        for (u64 type = 0; type < 4; ++type) {
            if (!offers_invvpid(type)) {
                continue;
            }
            for (unsigned bit = 0; bit < 64; ++bit) {
                for (const bool negative : {false, true}) {
                    const u64 base = negative ? ~u64{0} << sign : 0;
                    const u64 address = base ^ u64 { 1 } << bit;
                    const bool canonical = bit < sign;
                    if (five_levels && bit >= sign && bit < 57) {
                        continue;
                    }
                    invvpid(p, ", address " + hex(address), type, 1, address,
                            type != 0 || canonical ? succeeds() : refused());
                }
            }
        }
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
