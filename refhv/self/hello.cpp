// SPDX-License-Identifier: MIT
#include "refhv/self/hello.hpp"

#include "refhv/self/kvm/device.hpp"
#include "refhv/self/vm.hpp"
#include "refhv/x86/cpuid_leaves.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace refhv::client::self {
namespace {

// As the kernel tells everyone; 0 if it does not.
u32 microcode() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        unsigned revision = 0;
        if (std::sscanf(line.c_str(), "microcode : %x", &revision) == 1) {
            return revision;
        }
    }
    return 0;
}

} // namespace

std::string hypervisor_signature() {
    if ((x86::cpuid(1, 0).ecx >> 31) == 0) {
        return {};
    }
    const abi::CpuidLeaf leaf = x86::cpuid(0x4000'0000, 0);
    char raw[12];
    std::memcpy(raw, &leaf.ebx, 4);
    std::memcpy(raw + 4, &leaf.ecx, 4);
    std::memcpy(raw + 8, &leaf.edx, 4);
    std::string signature;
    std::copy_if(std::begin(raw), std::end(raw), std::back_inserter(signature),
                 [](char c) { return c >= ' ' && c < 0x7f; });
    return signature.empty() ? "?" : signature;
}

std::vector<u8> hello_body(u32 cpus, const TscRate& tsc, abi::Mode mode) {
    std::vector<abi::CpuidLeaf> leaves;
    x86::enumerate_cpuid([&leaves](const abi::CpuidLeaf& leaf) { leaves.push_back(leaf); });
    // `self` cannot use them, but a person may want to know why this target has no vendor.
    const bool vmx = (x86::cpuid(1, 0).ecx & 1u << 5) != 0;
    const bool svm =
        x86::cpuid(0x8000'0000, 0).eax >= 0x8000'0001 && (x86::cpuid(0x8000'0001, 0).ecx & 1u << 2) != 0;
    abi::HelloReply fixed{};
    fixed.version = abi::version;
    const bool kvm = mode == abi::Mode::kvm;
    fixed.status = static_cast<u16>(kvm && kvm::is_hardware_assisted() ? abi::BackendStatus::usable
                                    : vmx || svm                       ? abi::BackendStatus::lacking
                                                                       : abi::BackendStatus::absent);
    fixed.platform = static_cast<u16>(kvm ? abi::Platform::kvm : abi::Platform::process);
    fixed.vendor = static_cast<u16>(abi::Vendor::none);
    fixed.cpus = cpus;
    fixed.tsc_source = static_cast<u16>(tsc.source);
    fixed.tsc_hz = tsc.hz;
    fixed.arena_bytes = arena_bytes();
    fixed.max_payload = abi::max_frame_payload;
    fixed.microcode = microcode();
    fixed.cpuid_count = static_cast<u32>(leaves.size());
    fixed.modes = u64{1} << static_cast<u8>(mode);
    const std::string hypervisor = hypervisor_signature();
    std::snprintf(fixed.note, sizeof fixed.note, "%s; %s%s",
                  kvm ? kvm::description().c_str() : "a process without privileges",
                  hypervisor.empty() ? "no hypervisor announces itself" : "under the hypervisor ",
                  hypervisor.c_str());
    std::vector<u8> body(sizeof fixed + leaves.size() * sizeof(abi::CpuidLeaf));
    std::memcpy(body.data(), &fixed, sizeof fixed);
    std::memcpy(body.data() + sizeof fixed, leaves.data(), leaves.size() * sizeof(abi::CpuidLeaf));
    return body;
}

} // namespace refhv::client::self
