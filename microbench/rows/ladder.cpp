// SPDX-License-Identifier: MIT
// The cost ladder: the CPUID exit of exit.cpuid with one more thing a rung. ladder.bare is that exit itself;
// every other rung saves and restores all general registers, as ladder.general_registers does, and does its
// one Extra besides. The core refuses what the CPU lacks, and names the bit that says so.
#include "microbench/measure/row.hpp"

#include <deque>

namespace refhv::bench {

using abi::Extra;
using abi::Mode;
using abi::Reason;
using abi::Vendor;

namespace {

SAMPLED_GUEST(guest_cpuid, "", "xor %eax, %eax", "cpuid")

Row rung(std::string name, u64 extras, u32 count, std::optional<Vendor> vendor = {}) {
    static std::deque<std::string> names; // addresses stay
    Row row{.name = names.emplace_back("ladder." + std::move(name)).c_str(),
            .claims_about = "cpuid",
            .guest = guest_cpuid,
            .reason = Reason::cpuid,
            .intercepts = client::on(abi::Intercept::cpuid),
            .length = 2,
            .extra_count = count,
            .extras = extras,
            .vendor = vendor};
    if (extras != 0) {
        row.rests_on = {"Ladder.extras_leave_the_guests_registers"};
    }
    return row;
}

Row rung(Extra extra, const char* name, std::optional<Vendor> vendor = {}) {
    return rung(name, abi::extra_bit(extra), 0, vendor);
}

#define RUNG(extra, ...) const Declare extra{rung(Extra::extra, #extra __VA_OPT__(, ) __VA_ARGS__)};

const Declare bare{rung("bare", 0, 0)};
RUNG(general_registers)

// State components. The guest has something in each that it has at all, so that none is in its initial
// configuration (SDM 1 13.6); the control leaves the same on the host.
#define X87 "fninit\n fld1\n"
#define EACH_OF_16(text) ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n" text "\n .endr\n"
#define SSE EACH_OF_16("pcmpeqd %xmm\\n, %xmm\\n")
#define AVX EACH_OF_16("vcmptrue_uqps %ymm\\n, %ymm\\n, %ymm\\n")
#define AVX_512                                                                                              \
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"        \
    "vpternlogd $255, %zmm\\n, %zmm\\n, %zmm\\n\n .endr\n"                                                   \
    ".irp n, 0,1,2,3,4,5,6,7\n kxnorw %k\\n, %k\\n, %k\\n\n .endr\n"
SAMPLED_GUEST(guest_x87, X87, "xor %eax, %eax", "cpuid")
SAMPLED_GUEST(guest_sse, X87 SSE, "xor %eax, %eax", "cpuid")
SAMPLED_GUEST(guest_avx, X87 SSE AVX, "xor %eax, %eax", "cpuid")
SAMPLED_GUEST(guest_avx_512, X87 SSE AVX AVX_512, "xor %eax, %eax", "cpuid")
// The first use of a component behind the exit before.
SAMPLED_GUEST(guest_uses_sse, X87 SSE, "xor %eax, %eax", "movaps %xmm0, %xmm0\n cpuid")

constexpr u64 osfxsr = 1u << 9;                          // CR4
constexpr u32 x87 = 1, sse = 2, avx = 4, avx_512 = 0xe0; // XCR0 (SDM 1 13.1)

Row components(const char* name, Extra extra, u32 mask, const client::SampledGuest& guest) {
    Row row = rung(name, abi::extra_bit(extra), mask);
    row.guest = guest;
    row.osxsave = true;
    row.build = [mask](Mode, client::Guest& built) {
        const u64 offered = front::cpuid(front::Session::get().hello(), 0xd, 0, 0);
        built.state.cr4 |= osfxsr;
        built.state.xcr0 = mask == abi::all_components ? offered : mask;
    };
    row.rests_on.emplace_back("Ladder.guest_and_host_keep_their_vectors");
    return row;
}

const Declare xsave_x87{components("xsave_x87", Extra::xsave, x87, guest_x87)};
const Declare xsave_sse{components("xsave_sse", Extra::xsave, x87 | sse, guest_sse)};
const Declare xsave_avx{components("xsave_avx", Extra::xsave, x87 | sse | avx, guest_avx)};
const Declare xsave_avx_512{
    components("xsave_avx_512", Extra::xsave, x87 | sse | avx | avx_512, guest_avx_512)};
const Declare xsave_all{components("xsave_all", Extra::xsave, abi::all_components, guest_sse)};
const Declare xsave_lazy_unused{
    components("xsave_lazy_unused", Extra::xsave_lazy, abi::all_components, guest_cpuid)};
const Declare xsave_lazy_used{[] {
    Row row = components("xsave_lazy_used", Extra::xsave_lazy, abi::all_components, guest_uses_sse);
    row.unseen = Reason::exception;
    return row;
}()};

// Lists of MSRs.
constexpr u64 all_areas = abi::extra_bit(Extra::msr_exit_store) | abi::extra_bit(Extra::msr_exit_load) |
                          abi::extra_bit(Extra::msr_entry_load);

struct Lists {
    Lists() {
        for (u32 n = 1; n <= abi::max_extra_count; n *= 2) {
            declare("msr_areas_", all_areas, n, Vendor::vmx);
        }
        constexpr u32 most = abi::max_extra_count;
        declare("msr_exit_store_", abi::extra_bit(Extra::msr_exit_store), most, Vendor::vmx);
        declare("msr_exit_load_", abi::extra_bit(Extra::msr_exit_load), most, Vendor::vmx);
        declare("msr_entry_load_", abi::extra_bit(Extra::msr_entry_load), most, Vendor::vmx);
        for (u32 n = 1; n <= abi::max_extra_count; n *= 2) {
            declare("msr_by_hand_", abi::extra_bit(Extra::msr_by_hand), n, {});
        }
    }
    static void declare(const char* name, u64 extras, u32 n, std::optional<Vendor> vendor) {
        Row row = rung(name + std::to_string(n), extras, n, vendor);
        row.rests_on.emplace_back("Ladder.guest_and_host_keep_their_msrs");
        const Declare declared(std::move(row));
    }
};
const Lists lists;

// Mitigations and dispatch.
RUNG(spec_ctrl)
RUNG(ibpb)
RUNG(verw)
RUNG(l1d_flush)
RUNG(rsb_fill)
RUNG(indirect_call)
RUNG(retpoline)

// The vendor's own instructions.
struct Accesses {
    Accesses() {
        for (const u32 n : {1u, 16u}) {
            declare("vmread_", Extra::vmread, n);
        }
        for (const u32 n : {1u, 16u}) {
            declare("vmwrite_", Extra::vmwrite, n);
        }
    }
    static void declare(const char* name, Extra extra, u32 n) {
        const Declare declared(rung(name + std::to_string(n), abi::extra_bit(extra), n, Vendor::vmx));
    }
};
const Accesses accesses;
RUNG(vmcs_switch, Vendor::vmx)
RUNG(vmcs_clear, Vendor::vmx)
RUNG(vmcb_clean_none, Vendor::svm)
RUNG(vmcb_clean_all, Vendor::svm)
RUNG(vmsave, Vendor::svm)
RUNG(vmload_vmsave, Vendor::svm)

} // namespace

} // namespace refhv::bench
