// SPDX-License-Identifier: MIT
// CPUID Fn8000_000A by itself: what a feature of SVM needs (APM 3 E.4.9).
#include "conformance/operations/svm_case.hpp"

namespace refhv::front::root {

namespace {

constexpr u32 leaf = 0x8000'000a;

GUEST(host_cpuid_eax_edx, "xor %ecx, %ecx\n cpuid")
GUEST(host_cpuid_ebx_ecx, "xor %ecx, %ecx\n cpuid\n mov %rbx, %rax\n mov %rcx, %rdx")

} // namespace

TEST_F(SvmHost, features_come_with_those_that_they_need) {
    host_claim("APM 3 E.4.9; APM 2 15.4", [&](SvmProgram& p, Differences& d) {
        const auto known = [&](unsigned reg) { return u64{cpuid(hello(), leaf, 0, reg)}; };
        p.add("CPUID", code(host_cpuid_eax_edx), {.rax = leaf},
              {.kind = End::Kind::runs, .rax = known(0), .rdx = known(3)});
        p.add("CPUID", code(host_cpuid_ebx_ecx), {.rax = leaf},
              {.kind = End::Kind::runs, .rax = known(1), .rdx = known(2)});
        const auto results = p.run(d);
        const u64 revision = results[0].rax, features = results[0].rdx, asids = results[1].rax,
                  reserved = results[1].rdx;
        const auto has = [&](unsigned number) { return (features >> number & 1) != 0; };
        constexpr unsigned nested_paging = 0, pause_filter = 10, pause_threshold = 12, avic = 13,
                           virtual_vmsave = 15, virtual_gif = 16, x2avic = 18, virtual_nmi = 25;
        d.expect("EAX", "SvmRev", revision & 0xff, 1);
        d.expect("EAX", "reserved bits 31:8", revision >> 8, 0);
        d.expect("ECX", "reserved", reserved, 0);
        const auto implies = [&](unsigned what, unsigned other, const char* text) {
            if (has(what) && !has(other)) {
                d.add("EDX: ", text);
            }
        };
        if (asids < 2) {
            d.add("EBX: ", asids, " ASIDs; 0 is the host's");
        }
        implies(pause_threshold, pause_filter, "PauseFilterThreshold without PauseFilter");
        implies(avic, nested_paging, "AVIC without nested paging");
        implies(x2avic, avic, "x2AVIC without AVIC");
        implies(virtual_vmsave, nested_paging, "virtualized VMSAVE and VMLOAD without nested paging");
        implies(virtual_nmi, virtual_gif, "VNMI without VGIF");
    });
}

} // namespace refhv::front::root
