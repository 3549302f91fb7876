// SPDX-License-Identifier: MIT
// VMREAD and VMWRITE: which encodings there are, and what of an operand they use (SDM 3C 25.11.2, 31.3).
#include "conformance/operations/vmcs_fields.hpp"
#include "conformance/operations/vmx_case.hpp"
#include "refhv/front/controls.hpp"
#include "refhv/x86/registers.hpp"

#include <algorithm>
#include <random>

namespace refhv::front::root {

using namespace vmx_code;

namespace {

constexpr u32 a_field = 0x6c10; // host IA32_SYSENTER_ESP
constexpr u64 nonsense = 0x5aa5'c33c'0ff0'9669;

// VMREAD of every encoding of 15 bits: one byte of each at RDI, bit 0 CF, 1 OF, 2 PF, 4 AF, 6 ZF, 7 SF.
GUEST(root_scan, "xor %ecx, %ecx\n"
                 "1: vmread %rcx, %rdx\n"
                 "lahf\n seto %al\n and $0xd5, %ah\n add %al, %al\n or %al, %ah\n"
                 "mov %ah, (%rdi,%rcx)\n"
                 "inc %ecx\n cmp $0x8000, %ecx\n jb 1b")
constexpr u64 scan_page = 224; // behind the results of a short program
constexpr u32 encodings = 0x8000;

bool writes_read_only(const client::HelloInfo& hello) {
    return (msr(hello, x86::msr::vmx_misc) >> 29 & 1) != 0;
}

void write_then_read(VmxProgram& p, const VmcsField& f, u64 value) {
    const std::string field = "field " + hex(f.encoding);
    p.add("VMWRITE of " + hex(value) + " to " + field, vmwrite(), {.rax = value, .rcx = f.encoding},
          succeeds());
    p.add("VMREAD of " + field, vmread(), {.rax = nonsense, .rcx = f.encoding}, reads(value & f.kept_bits()));
    if (f.has_high_part()) {
        p.add("VMREAD of the high part of " + field, vmread(), {.rax = nonsense, .rcx = f.encoding | 1},
              reads(value >> 32));
    }
}

} // namespace

// By a VMREAD of every encoding; what is not supported fails by ZF alone.
class VmxEncodings : public VmxRoot {
  protected:
    // f(encoding) for each that is supported.
    void each_supported(VmxProgram& p, Differences& d, const std::function<void(u32)>& f) {
        p.enter();
        p.add("VMREAD of every encoding", code(root_scan), {.rdi = VmxProgram::page(scan_page)}, runs());
        p.leave();
        p.run(d);
        const auto words = p.guest().read64(VmxProgram::page(scan_page), encodings / 8);
        u64 supported = 0;
        for (u32 encoding = 0; encoding < encodings; ++encoding) {
            const u64 flags = words[encoding / 8] >> encoding % 8 * 8 & 0xff;
            if (flags == 0) {
                ++supported;
                f(encoding);
            } else if (flags != zf) {
                d.add("VMREAD of ", hex(encoding), ": flags ", hex(flags), "; due none or ZF alone");
            }
        }
        EXPECT_GT(supported, 100u) << "fields";
    }
    static u64 highest_index() { return msr(hello(), x86::msr::vmx_vmcs_enum) >> 1 & 0x1ff; }
};

TEST_F(VmxEncodings, of_fields_have_no_reserved_bit_and_no_index_beyond_the_highest) {
    root_claim("SDM 3C 25.11.2; SDM 3D A.9", [&](VmxProgram& p, Differences& d) {
        each_supported(p, d, [&](u32 encoding) {
            const bool is_reserved = (encoding >> 12 & 1) != 0;
            const bool is_odd = (encoding & 1) != 0 && (encoding >> 13 & 3) != 1;
            if (is_reserved || is_odd || (encoding >> 1 & 0x1ff) > highest_index()) {
                d.add("VMREAD of ", hex(encoding), " succeeds");
            }
        });
    });
}

TEST_F(VmxEncodings, vmcs_enum_holds_the_highest_index) {
    root_claim("SDM 3D A.9", [&](VmxProgram& p, Differences& d) {
        u64 highest = 0;
        each_supported(p, d, [&](u32 encoding) { highest = std::max<u64>(highest, encoding >> 1 & 0x1ff); });
        d.expect("IA32_VMX_VMCS_ENUM", "highest index", highest_index(), highest);
    });
}

TEST_F(VmxRoot, fields_exist_as_the_capabilities_say) {
    root_claim("SDM 3D B.1 to B.4; SDM 3C 31.3 VMREAD, VMWRITE", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (const VmcsField& f : vmcs_fields(hello())) {
            const std::string field = " of field " + hex(f.encoding);
            const End due = f.exists ? succeeds() : fails(vm_error::unsupported_component);
            p.add("VMREAD" + field, vmread(), {.rcx = f.encoding}, due);
            p.add("VMWRITE" + field, vmwrite(), {.rcx = f.encoding},
                  f.exists && f.is_read_only() && !writes_read_only(hello())
                      ? fails(vm_error::read_only_component)
                      : due);
            if (f.has_high_part()) {
                p.add("VMREAD of the high part" + field, vmread(), {.rcx = f.encoding | 1}, due);
                p.add("VMWRITE of the high part" + field, vmwrite(), {.rcx = f.encoding | 1},
                      f.exists && f.is_read_only() && !writes_read_only(hello())
                          ? fails(vm_error::read_only_component)
                          : due);
            }
        }
        p.leave();
        p.run(d);
    });
}

// Bit 12, bits 31:15 and, in 64-bit mode, 63:32; bit 0 of a field that is not of 64 bits.
TEST_F(VmxRoot, reserved_bits_of_an_encoding_make_it_unsupported) {
    root_claim("SDM 3C 25.11.2, 31.3 VMREAD, VMWRITE", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (const u64 encoding : {0x0c00u, 0x2c00u, 0x4c00u, a_field, 0x6802u, 0x4402u}) {
            if (encoding == 0x2c00 && !offers(hello(), vmcs::exit_controls, 1u << 19)) {
                continue;
            }
            p.add("VMREAD of " + hex(encoding), vmread(), {.rcx = encoding}, succeeds());
            for (unsigned bit = 0; bit < 64; ++bit) {
                const bool high = bit == 0 && (encoding >> 13 & 3) != 1;
                if (!high && bit != 12 && bit < 15) {
                    continue;
                }
                const u64 odd = encoding | u64{1} << bit;
                p.add("VMREAD of " + hex(odd), vmread(), {.rax = nonsense, .rcx = odd},
                      fails(vm_error::unsupported_component));
                p.add("VMREAD of " + hex(odd) + " to memory", vmread_memory(),
                      {.rcx = odd, .rdi = VmxProgram::operand()}, fails(vm_error::unsupported_component));
                p.add("VMWRITE of " + hex(odd), vmwrite(), {.rax = nonsense, .rcx = odd},
                      fails(vm_error::unsupported_component));
                p.add("VMWRITE of " + hex(odd) + " from memory", vmwrite_memory(),
                      {.rcx = odd, .rdi = VmxProgram::operand()}, fails(vm_error::unsupported_component));
            }
        }
        p.leave();
        p.run(d);
    });
}

// A failed VMREAD leaves its destination alone.
TEST_F(VmxRoot, a_vmread_that_fails_writes_nothing) {
    root_claim("SDM 3C 31.3 VMREAD", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const auto all = [&](const std::string& when, const End& due) {
            End kept = due;
            kept.rax = nonsense;
            p.add("VMREAD of no field into a register" + when, vmread(), {.rax = nonsense, .rcx = 0x7ffe},
                  kept);
            p.with_address("store", vmx_code::store32(), 0, runs());
            p.add("VMREAD of no field into memory" + when, vmread_memory(),
                  {.rcx = 0x7ffe, .rdi = VmxProgram::operand()}, due);
            p.add("that memory" + when, load64(), {.rdi = VmxProgram::operand()}, holds(0));
        };
        all("", fails(vm_error::unsupported_component));
        p.add("VMWRITE", vmwrite(), {.rax = 7, .rcx = a_field}, succeeds());
        p.add("VMREAD into memory", vmread_memory(), {.rcx = a_field, .rdi = VmxProgram::operand()},
              succeeds());
        p.add("that memory", load64(), {.rdi = VmxProgram::operand()}, holds(7));
        p.with_address("VMCLEAR", vmclear_of_rax(), p.physical(vmcs_page), succeeds());
        p.add("VMREAD, no current VMCS", vmread(), {.rax = nonsense, .rcx = a_field},
              {.kind = End::Kind::invalid, .rax = nonsense});
        p.leave();
        p.run(d);
    });
}

// Each field of the CPU: widths are cut at VMWRITE and extended with 0 at VMREAD.
TEST_F(VmxRoot, fields_hold_what_is_written) {
    root_claim("SDM 3C 25.11.2, 31.3 VMREAD, VMWRITE", [&](VmxProgram& p, Differences& d) {
        std::mt19937_64 random{20'241};
        for (const unsigned part : {0u, 1u}) {
            p.enter();
            const auto fields = vmcs_fields(hello());
            const usize half = fields.size() / 2;
            for (usize i = part * half; i < (part == 0 ? half : fields.size()); ++i) {
                const VmcsField& f = fields[i];
                if (!f.exists || (f.is_read_only() && !writes_read_only(hello()))) {
                    continue;
                }
                for (const u64 value : {~u64{0}, u64{0}, nonsense, ~nonsense, u64{random()}}) {
                    write_then_read(p, f, value & (f.kept_bits() | ~f.mask()));
                }
            }
            p.leave();
            p.run(d);
        }
    });
}

// All at once, so that none is another's.
TEST_F(VmxRoot, fields_do_not_overlap) {
    root_claim("SDM 3C 25.11.2", [&](VmxProgram& p, Differences& d) {
        p.enter();
        const auto fields = vmcs_fields(hello());
        const auto value = [](const VmcsField& f) {
            return (u64{f.encoding} * 0x9e37'79b9'7f4a'7c15 ^ nonsense) & f.kept_bits();
        };
        const auto is_written = [&](const VmcsField& f) {
            return f.exists && (!f.is_read_only() || writes_read_only(hello())) && f.encoding != 0x4400;
        };
        for (const VmcsField& f : fields) {
            if (is_written(f)) {
                p.add("VMWRITE", vmwrite(), {.rax = value(f), .rcx = f.encoding}, succeeds());
            }
        }
        for (const VmcsField& f : fields) {
            if (is_written(f)) {
                p.add("VMREAD of field " + hex(f.encoding), vmread(), {.rcx = f.encoding}, reads(value(f)));
            }
        }
        p.leave();
        p.run(d);
    });
}

// The high half alone, with the low one as it was.
TEST_F(VmxRoot, high_access_is_to_bits_63_to_32) {
    root_claim("SDM 3C 25.11.2", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (const VmcsField& f : vmcs_fields(hello())) {
            if (!f.exists || !f.has_high_part() || (f.is_read_only() && !writes_read_only(hello()))) {
                continue;
            }
            const std::string field = " of field " + hex(f.encoding);
            for (const u64 high : {~u64{0}, nonsense, u64{0x8000'0001}, u64{0}}) {
                p.add("VMWRITE" + field, vmwrite(), {.rax = ~nonsense, .rcx = f.encoding}, succeeds());
                p.add("VMWRITE of " + hex(high) + " to the high part" + field, vmwrite(),
                      {.rax = high, .rcx = f.encoding | 1}, succeeds());
                p.add("VMREAD" + field, vmread(), {.rcx = f.encoding},
                      reads(high << 32 | (~nonsense & 0xffff'ffff)));
            }
        }
        p.leave();
        p.run(d);
    });
}

// IA32_VMX_MISC[29]: error 13 without it, and the field as it was.
TEST_F(VmxRoot, vmwrite_to_read_only_fields) {
    root_claim("SDM 3C 31.3 VMWRITE; SDM 3D A.6", [&](VmxProgram& p, Differences& d) {
        p.enter();
        for (const VmcsField& f : vmcs_fields(hello())) {
            if (!f.exists || !f.is_read_only() || f.encoding == 0x4400) {
                continue;
            }
            const std::string field = " of field " + hex(f.encoding);
            if (writes_read_only(hello())) {
                write_then_read(p, f, nonsense);
                continue;
            }
            p.add("VMWRITE" + field, vmwrite(), {.rax = nonsense, .rcx = f.encoding},
                  fails(vm_error::read_only_component));
            p.add("VMWRITE" + field + " from memory", vmwrite_memory(),
                  {.rcx = f.encoding, .rdi = VmxProgram::operand()}, fails(vm_error::read_only_component));
        }
        p.leave();
        p.run(d);
    });
}

} // namespace refhv::front::root
