// SPDX-License-Identifier: MIT
#include "refhv/front/models.hpp"

#include "refhv/front/session.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace refhv::front {

namespace {

struct Model {
    u32 family;
    u32 first, last; // models
    const char* name;
    u32 first_stepping = 0, last_stepping = 15;
};

// Sources: SDM 4, table 2-1 (DisplayFamily_DisplayModel); Intel's specification updates for what it leaves
// out.
constexpr Model intel[] = {
    {6, 0x0e, 0x0e, "Yonah"},
    {6, 0x0f, 0x0f, "Merom"},
    {6, 0x16, 0x16, "Merom-L"},
    {6, 0x17, 0x17, "Penryn"},
    {6, 0x1d, 0x1d, "Dunnington"},
    {6, 0x1a, 0x1a, "Nehalem-EP"},
    {6, 0x1e, 0x1f, "Nehalem"},
    {6, 0x2e, 0x2e, "Nehalem-EX"},
    {6, 0x25, 0x25, "Westmere"},
    {6, 0x2c, 0x2c, "Westmere-EP"},
    {6, 0x2f, 0x2f, "Westmere-EX"},
    {6, 0x2a, 0x2a, "Sandy Bridge"},
    {6, 0x2d, 0x2d, "Sandy Bridge-E"},
    {6, 0x3a, 0x3a, "Ivy Bridge"},
    {6, 0x3e, 0x3e, "Ivy Bridge-E"},
    {6, 0x3c, 0x3c, "Haswell"},
    {6, 0x3f, 0x3f, "Haswell-E"},
    {6, 0x45, 0x46, "Haswell"},
    {6, 0x3d, 0x3d, "Broadwell"},
    {6, 0x47, 0x47, "Broadwell"},
    {6, 0x4f, 0x4f, "Broadwell-E"},
    {6, 0x56, 0x56, "Broadwell-DE"},
    {6, 0x4e, 0x4e, "Skylake"},
    {6, 0x5e, 0x5e, "Skylake"},
    {6, 0x55, 0x55, "Skylake-X", 0, 4},
    {6, 0x55, 0x55, "Cascade Lake", 5, 7},
    {6, 0x55, 0x55, "Cooper Lake", 10, 11},
    {6, 0x8e, 0x8e, "Kaby Lake", 0, 9},
    {6, 0x8e, 0x8e, "Whiskey Lake or Comet Lake", 10, 15},
    {6, 0x9e, 0x9e, "Kaby Lake", 0, 9},
    {6, 0x9e, 0x9e, "Coffee Lake", 10, 15},
    {6, 0xa5, 0xa6, "Comet Lake"},
    {6, 0x66, 0x66, "Cannon Lake"},
    {6, 0x7d, 0x7e, "Ice Lake"},
    {6, 0x6a, 0x6a, "Ice Lake-SP"},
    {6, 0x6c, 0x6c, "Ice Lake-D"},
    {6, 0x8c, 0x8d, "Tiger Lake"},
    {6, 0xa7, 0xa7, "Rocket Lake"},
    {6, 0x97, 0x97, "Alder Lake"},
    {6, 0x9a, 0x9a, "Alder Lake"},
    {6, 0xbe, 0xbe, "Alder Lake-N"},
    {6, 0xb7, 0xb7, "Raptor Lake"},
    {6, 0xba, 0xba, "Raptor Lake"},
    {6, 0xbf, 0xbf, "Raptor Lake"},
    {6, 0x8f, 0x8f, "Sapphire Rapids"},
    {6, 0xcf, 0xcf, "Emerald Rapids"},
    {6, 0xad, 0xae, "Granite Rapids"},
    {6, 0xaa, 0xaa, "Meteor Lake"},
    {6, 0xac, 0xac, "Meteor Lake"},
    {6, 0xbd, 0xbd, "Lunar Lake"},
    {6, 0xb5, 0xb5, "Arrow Lake"},
    {6, 0xc5, 0xc6, "Arrow Lake"},
    {6, 0xcc, 0xcc, "Panther Lake"},
    {6, 0xaf, 0xaf, "Sierra Forest"},
    {6, 0xb6, 0xb6, "Grand Ridge"},
    {6, 0xdd, 0xdd, "Clearwater Forest"},
    {6, 0x1c, 0x1c, "Bonnell"},
    {6, 0x26, 0x26, "Bonnell"},
    {6, 0x27, 0x27, "Saltwell"},
    {6, 0x35, 0x36, "Saltwell"},
    {6, 0x37, 0x37, "Silvermont"},
    {6, 0x4a, 0x4a, "Silvermont"},
    {6, 0x4d, 0x4d, "Silvermont"},
    {6, 0x5a, 0x5a, "Silvermont"},
    {6, 0x5d, 0x5d, "Silvermont"},
    {6, 0x4c, 0x4c, "Airmont"},
    {6, 0x5c, 0x5c, "Goldmont"},
    {6, 0x5f, 0x5f, "Goldmont"},
    {6, 0x7a, 0x7a, "Goldmont Plus"},
    {6, 0x86, 0x86, "Tremont"},
    {6, 0x96, 0x96, "Tremont"},
    {6, 0x9c, 0x9c, "Tremont"},
    {6, 0x57, 0x57, "Knights Landing"},
    {6, 0x85, 0x85, "Knights Mill"},
    {15, 0x00, 0xff, "NetBurst"},
};

// Sources: AMD's BIOS and Kernel Developer's Guides, Processor Programming References and Revision Guides of
// each family, which are titled by family and model range.
constexpr Model amd[] = {
    {0x0f, 0x00, 0xff, "K8"},          {0x10, 0x00, 0xff, "K10"},        {0x11, 0x00, 0xff, "K8 (Griffin)"},
    {0x12, 0x00, 0xff, "K10 (Llano)"}, {0x14, 0x00, 0xff, "Bobcat"},     {0x15, 0x02, 0x02, "Piledriver"},
    {0x15, 0x00, 0x0f, "Bulldozer"},   {0x15, 0x10, 0x1f, "Piledriver"}, {0x15, 0x30, 0x3f, "Steamroller"},
    {0x15, 0x60, 0x7f, "Excavator"},   {0x16, 0x00, 0x0f, "Jaguar"},     {0x16, 0x30, 0x3f, "Puma"},
    {0x17, 0x08, 0x08, "Zen+"},        {0x17, 0x18, 0x18, "Zen+"},       {0x17, 0x00, 0x2f, "Zen"},
    {0x17, 0x30, 0xaf, "Zen 2"},       {0x19, 0x10, 0x1f, "Zen 4"},      {0x19, 0x40, 0x4f, "Zen 3+"},
    {0x19, 0x60, 0x7f, "Zen 4"},       {0x19, 0xa0, 0xaf, "Zen 4c"},     {0x19, 0x00, 0x5f, "Zen 3"},
    {0x1a, 0x10, 0x1f, "Zen 5c"},      {0x1a, 0x00, 0x7f, "Zen 5"},
};

constexpr Model hygon[] = {{0x18, 0x00, 0xff, "Dhyana (Zen)"}};

template <usize n>
const char* find(const Model (&table)[n], const Signature& s) {
    const auto* const hit = std::find_if(std::begin(table), std::end(table), [&](const Model& m) {
        return m.family == s.family && m.first <= s.model && s.model <= m.last &&
               m.first_stepping <= s.stepping && s.stepping <= m.last_stepping;
    });
    return hit == std::end(table) ? nullptr : hit->name;
}

void append(std::string& out, u32 word) {
    char bytes[4];
    std::memcpy(bytes, &word, sizeof bytes);
    out.append(bytes, strnlen(bytes, sizeof bytes));
}

bool has_leaf(const client::HelloInfo& hello, u32 leaf) {
    return std::any_of(hello.cpuid.begin(), hello.cpuid.end(), [&](const auto& l) { return l.leaf == leaf; });
}

} // namespace

Signature signature_of(const client::HelloInfo& hello) {
    Signature s;
    for (unsigned reg : {1u, 3u, 2u}) {
        append(s.vendor, cpuid(hello, 0, 0, reg));
    }
    const u32 eax = cpuid(hello, 1, 0, 0);
    s.stepping = eax & 0xf;
    s.model = eax >> 4 & 0xf;
    s.family = eax >> 8 & 0xf;
    if (s.family == 0x6 || s.family == 0xf) {
        s.model |= (eax >> 16 & 0xf) << 4;
    }
    if (s.family == 0xf) {
        s.family += eax >> 20 & 0xff;
    }
    return s;
}

std::string brand_of(const client::HelloInfo& hello) {
    std::string brand;
    for (u32 leaf = 0x8000'0002; leaf <= 0x8000'0004; ++leaf) {
        for (unsigned reg = 0; reg < 4; ++reg) {
            append(brand, cpuid(hello, leaf, 0, reg));
        }
    }
    const auto begin = brand.find_first_not_of(' ');
    const auto end = brand.find_last_not_of(' ');
    return begin == std::string::npos ? "" : brand.substr(begin, end - begin + 1);
}

std::string hypervisor_of(const client::HelloInfo& hello) {
    constexpr u32 hypervisor_bit = 1u << 31;
    if ((cpuid(hello, 1, 0, 2) & hypervisor_bit) == 0) {
        return "";
    }
    if (!has_leaf(hello, 0x4000'0000)) {
        return "one that does not name itself";
    }
    std::string name;
    for (unsigned reg = 1; reg < 4; ++reg) {
        append(name, cpuid(hello, 0x4000'0000, 0, reg));
    }
    constexpr std::pair<std::string_view, const char*> known[] = {
        {"KVMKVMKVM", "KVM"},           {"Microsoft Hv", "Microsoft Hyper-V"},
        {"VMwareVMware", "VMware"},     {"XenVMMXenVMM", "Xen"},
        {"VBoxVBoxVBox", "VirtualBox"}, {"bhyve bhyve ", "bhyve"},
        {"TCGTCGTCGTCG", "QEMU TCG"},   {"ACRNACRNACRN", "ACRN"},
        {"EVMMEVMMEVMM", "Evmm"},
    };
    for (const auto& [signature, words] : known) {
        if (name == signature) {
            return words;
        }
    }
    return name.empty() ? "one that does not name itself" : name;
}

std::string model_name(const Signature& s) {
    const char* name = s.vendor == "GenuineIntel"   ? find(intel, s)
                       : s.vendor == "AuthenticAMD" ? find(amd, s)
                       : s.vendor == "HygonGenuine" ? find(hygon, s)
                                                    : nullptr;
    if (name != nullptr) {
        return name;
    }
    char text[64];
    std::snprintf(text, sizeof text, " family %02xh model %02xh", s.family, s.model);
    return "unknown " + s.vendor + text;
}

std::string machine_name(const client::HelloInfo& hello) {
    const std::string brand = brand_of(hello);
    return brand.starts_with("QEMU ") ? brand : model_name(signature_of(hello));
}

std::string describe_machine(const client::HelloInfo& hello) {
    const Signature s = signature_of(hello);
    char numbers[32];
    std::snprintf(numbers, sizeof numbers, " (%02x-%02x-%x)", s.family, s.model, s.stepping);
    const std::string brand = brand_of(hello);
    const std::string hypervisor = hypervisor_of(hello);
    const std::string name = machine_name(hello);
    return name + numbers + (brand.empty() || brand == name ? "" : ", " + brand) +
           (hypervisor.empty() ? "" : ", under " + hypervisor);
}

} // namespace refhv::front
