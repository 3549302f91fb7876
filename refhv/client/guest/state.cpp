// SPDX-License-Identifier: MIT
// The register state in which a guest starts.
#include "refhv/client/guest/vm.hpp"

namespace refhv::client {

namespace {

constexpr u64 cr0_pe_mp_et_ne_wp_pg = 0x8001'0033;
constexpr u64 cr4_pae = 1u << 5;
constexpr u64 cr4_osxsave = 1u << 18;
constexpr u64 efer_lme_lma_nxe = 0xd00;

constexpr u32 code64_rights = 0xa09b;
constexpr u32 data_rights = 0xc093;
constexpr u32 busy_tss_rights = 0x8b;
constexpr u32 unusable_rights = 0x1'0000;

} // namespace

abi::GuestState initial_state(const Plan& plan) {
    abi::GuestState s{};
    s.gpr[abi::rsp] = layout::stack_top;
    s.rip = layout::code;
    s.rflags = 2;
    s.cr0 = cr0_pe_mp_et_ne_wp_pg;
    s.cr3 = layout::pml4;
    s.cr4 = cr4_pae | (plan.osxsave ? cr4_osxsave : 0);
    s.xcr0 = 1;
    s.efer = efer_lme_lma_nxe;
    s.dr6 = 0xffff'0ff0;
    s.dr7 = 0x400;
    for (auto index : {abi::es, abi::ss, abi::ds, abi::fs, abi::gs}) {
        s.segment[index] = {
            .base = 0, .limit = ~0u, .rights = data_rights, .selector = layout::data, .zero = {}};
    }
    s.segment[abi::cs] = {
        .base = 0, .limit = ~0u, .rights = code64_rights, .selector = layout::code64, .zero = {}};
    s.segment[abi::ldtr] = {.base = 0, .limit = 0, .rights = unusable_rights, .selector = 0, .zero = {}};
    s.segment[abi::tr] = {
        .base = layout::tss, .limit = 0x67, .rights = busy_tss_rights, .selector = layout::task, .zero = {}};
    s.gdtr = {.base = layout::gdt, .limit = layout::gdt_limit, .zero = 0};
    s.idtr = {.base = layout::idt, .limit = layout::idt_limit, .zero = 0};
    s.pat = 0x0007'0406'0007'0406;
    return s;
}

} // namespace refhv::client
