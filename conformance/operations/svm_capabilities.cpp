// SPDX-License-Identifier: MIT
// CPUID Fn8000_000A by itself: what a feature of SVM needs (APM 3 E.4.9, APM 2 15.30).
#include "refhv/front/claim.hpp"
#include "refhv/front/differences.hpp"

namespace refhv::front {

class SvmCapabilities : public Claim {};

TEST_F(SvmCapabilities, features_come_with_those_that_they_need) {
    claim({"", "APM 3 E.4.9; APM 2 15.4"}, [&] {
        Differences d("APM 3 E.4.9; APM 2 15.4");
        constexpr u32 leaf = 0x8000'000a;
        const u32 revision = cpuid(hello(), leaf, 0, 0), asids = cpuid(hello(), leaf, 0, 1);
        const u32 reserved = cpuid(hello(), leaf, 0, 2), features = cpuid(hello(), leaf, 0, 3);
        const auto has = [&](unsigned number) { return (features >> number & 1) != 0; };
        constexpr unsigned nested_paging = 0, pause_filter = 10, pause_threshold = 12, avic = 13,
                           virtual_vmsave = 15, x2avic = 18, virtual_nmi = 25, virtual_gif = 16;
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
        combinations(9);
    });
}

} // namespace refhv::front
