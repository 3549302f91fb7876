// SPDX-License-Identifier: MIT
// Guests with encrypted memory: what the CPU offers, and whether this machine is such a guest.
#include "refhv/x86/encrypted_memory.hpp"
#include "refhv/front/doctor/doctor.hpp"

namespace refhv::front::doctor {
namespace {

abi::CpuidLeaf leaf_of(const Host& host, u32 leaf) {
    return {.leaf = leaf,
            .subleaf = 0,
            .eax = host.cpuid(leaf, 0, 0),
            .ebx = host.cpuid(leaf, 0, 1),
            .ecx = host.cpuid(leaf, 0, 2),
            .edx = host.cpuid(leaf, 0, 3)};
}

std::string of_amd(const x86::EncryptedMemory& offered) {
    std::string text = offered.sme ? "SME" : "";
    const auto add = [&](bool has, const std::string& what) {
        text += has ? join({text.empty() ? "" : ", ", what}) : "";
    };
    add(offered.sev,
        join({"SEV (", std::to_string(offered.guests), " guests, C-bit ", std::to_string(offered.c_bit), ", ",
              std::to_string(offered.reduction), " address bits fewer)"}));
    add(offered.sev_es, join({"SEV-ES (ASIDs below ", std::to_string(offered.first_without_es), ")"}));
    add(offered.sev_snp, join({"SEV-SNP (", std::to_string(offered.vmpls), " permission levels)"}));
    return text;
}

} // namespace

void examine_encrypted_memory(const Host& host, Findings& out) {
    constexpr u32 sev_status = 0xc001'0131, svm_leaf = 0x8000'000a, tdx_leaf = 0x21;
    constexpr u64 sev_enabled = 1;
    const auto offered = x86::EncryptedMemory::of(leaf_of(host, x86::EncryptedMemory::leaf));
    const bool in_sev = offered.sev && (host.msr(sev_status).value_or(0) & sev_enabled) != 0;
    if (in_sev || x86::is_td_guest(leaf_of(host, tdx_leaf))) {
        out.push_back({"encrypted-memory", State::warn,
                       join({"this machine is ", in_sev ? "an SEV guest" : "a trust domain of TDX",
                             ": exits that it takes go through code that guards it, and cost more"}),
                       "for numbers of the hardware use a bare-metal machine"});
        return;
    }
    if (const char* const why = offered.contradiction(host.offers_svm() ? host.cpuid(svm_leaf, 0, 1) : 0);
        offered.any() && why != nullptr) {
        out.push_back({"encrypted-memory", State::warn,
                       join({"CPUID leaf 8000_001FH contradicts itself: ", why}),
                       "look for a newer firmware; in a virtual machine, tell whoever runs it"});
        return;
    }
    std::string text = of_amd(offered);
    const u32 keys = x86::private_key_ids(host.msr(x86::msr_mtrrcap).value_or(0),
                                          host.msr(x86::msr_keyid_partitioning).value_or(0));
    if (keys != 0) {
        text = join({"TDX (", std::to_string(keys), " private KeyIDs)"});
    }
    out.push_back(
        {"encrypted-memory", State::ok,
         text.empty()
             ? "none offered"
             : join({text,
                     ": offered; refhv's guests do without, since they would need the platform's firmware"}),
         ""});
}

} // namespace refhv::front::doctor
