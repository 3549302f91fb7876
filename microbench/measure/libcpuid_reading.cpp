// SPDX-License-Identifier: MIT
#include "microbench/measure/machine_record.hpp"

#include <cstring>
#include <libcpuid/libcpuid.h>
#include <nlohmann/json.hpp>
#include <span>

namespace refhv::bench {

namespace {

// Puts the subleaves of one leaf, or a range of leaves, where libcpuid wants them.
void put(std::span<u32[4]> table, u32 index, const abi::CpuidLeaf& l) {
    if (index < table.size()) {
        const u32 row[4] = {l.eax, l.ebx, l.ecx, l.edx};
        std::memcpy(table[index], row, sizeof row);
    }
}

cpu_raw_data_t raw_data(const client::HelloInfo& hello) {
    cpu_raw_data_t raw{};
    for (const auto& l : hello.cpuid) {
        if (l.subleaf == 0 && l.leaf < 0x4000'0000) {
            put(raw.basic_cpuid, l.leaf, l);
        } else if (l.subleaf == 0 && l.leaf >= 0x8000'0000) {
            put(raw.ext_cpuid, l.leaf - 0x8000'0000, l);
        }
        switch (l.leaf) {
        case 4:
            put(raw.intel_fn4, l.subleaf, l);
            break;
        case 0xb:
            put(raw.intel_fn11, l.subleaf, l);
            break;
        case 0x12:
            put(raw.intel_fn12h, l.subleaf, l);
            break;
        case 0x14:
            put(raw.intel_fn14h, l.subleaf, l);
            break;
        case 0x8000'001d:
            put(raw.amd_fn8000001dh, l.subleaf, l);
            break;
        default:
            break;
        }
    }
    return raw;
}

// libcpuid 0.7 moved family, model and stepping into the part for x86.
template <class Id>
const auto& signature_in(const Id& id) {
    if constexpr (requires { id.x86; }) {
        return id.x86;
    } else {
        return id;
    }
}

} // namespace

nlohmann::ordered_json libcpuid_reading(const client::HelloInfo& hello) {
    cpu_raw_data_t raw = raw_data(hello);
    cpu_id_t id{};
    cpuid_set_warn_function(nullptr); // it talks on stderr about CPUs younger than it is
    if (cpu_identify(&raw, &id) != ERR_OK) {
        return nullptr;
    }
    const auto& signature = signature_in(id);
    nlohmann::ordered_json features = nlohmann::ordered_json::array();
    for (int f = 0; f < NUM_CPU_FEATURES; ++f) {
        if (id.flags[f] != 0) {
            features.push_back(cpu_feature_str(static_cast<cpu_feature_t>(f)));
        }
    }
    return {{"version", cpuid_lib_version()},
            {"vendor", id.vendor_str},
            {"brand", id.brand_str},
            {"codename", id.cpu_codename},
            {"family", signature.ext_family},
            {"model", signature.ext_model},
            {"stepping", signature.stepping},
            {"l1_data_cache_kb", id.l1_data_cache},
            {"l2_cache_kb", id.l2_cache},
            {"l3_cache_kb", id.l3_cache},
            {"features", features}};
}

} // namespace refhv::bench
