// SPDX-License-Identifier: MIT
// Making a VM of KVM, and its statistics. Source: Linux, Documentation/virt/kvm/api.rst.
#include "refhv/self/kvm/vcpu.hpp"

#include "refhv/self/kvm/device.hpp"

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace refhv::client::self::kvm {
namespace {

[[noreturn]] void refused(const char* call) {
    throw Unusable(std::string("KVM refuses ") + call + ": " + std::strerror(errno));
}

// A page of KVM's own structure that VMX without unrestricted guest wants below 4 GBytes and outside of the
// guest's memory (KVM_SET_TSS_ADDR, three pages; KVM_SET_IDENTITY_MAP_ADDR, one).
constexpr u64 tss_address = 0xfffb'd000;
constexpr u64 identity_map = 0xfffb'c000;

} // namespace

int Vcpu::call(unsigned long request, void* argument, const char* name) {
    const int result = ioctl(vcpu_, request, argument);
    if (result < 0) {
        refused(name);
    }
    return result;
}

Vcpu::Vcpu(u64 gpa, std::span<u8> memory) {
    const int kvm = open_device();
    if (kvm < 0) {
        refused(device);
    }
    try {
        vm_ = ioctl(kvm, KVM_CREATE_VM, 0);
        if (vm_ < 0) {
            refused("KVM_CREATE_VM");
        }
        u64 identity = identity_map;
        static_cast<void>(ioctl(vm_, KVM_SET_IDENTITY_MAP_ADDR, &identity)); // SVM wants neither
        static_cast<void>(ioctl(vm_, KVM_SET_TSS_ADDR, tss_address));
        kvm_userspace_memory_region region{.slot = 0,
                                           .flags = 0,
                                           .guest_phys_addr = gpa,
                                           .memory_size = memory.size(),
                                           .userspace_addr = reinterpret_cast<u64>(memory.data())};
        if (ioctl(vm_, KVM_SET_USER_MEMORY_REGION, &region) < 0) {
            refused("KVM_SET_USER_MEMORY_REGION");
        }
        vcpu_ = ioctl(vm_, KVM_CREATE_VCPU, 0);
        if (vcpu_ < 0) {
            refused("KVM_CREATE_VCPU");
        }
        const int bytes = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        void* const shared =
            bytes > 0 ? mmap(nullptr, static_cast<usize>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_, 0)
                      : MAP_FAILED;
        if (shared == MAP_FAILED) {
            refused("to share kvm_run");
        }
        shared_ = static_cast<kvm_run*>(shared);
        shared_bytes_ = static_cast<usize>(bytes);
        offer_cpuid(kvm);
        share_tsc();
        find_exits();
    } catch (...) {
        close(kvm);
        release();
        throw;
    }
    close(kvm);
}

Vcpu::~Vcpu() {
    release();
}

void Vcpu::release() {
    if (shared_ != nullptr) {
        munmap(shared_, shared_bytes_);
    }
    for (const int fd : {statistics_, vcpu_, vm_}) {
        if (fd >= 0) {
            close(fd);
        }
    }
}

void Vcpu::offer_cpuid(int kvm) {
    for (u32 room = 128;; room *= 2) {
        std::vector<u8> storage(sizeof(kvm_cpuid2) + room * sizeof(kvm_cpuid_entry2));
        auto* const leaves = reinterpret_cast<kvm_cpuid2*>(storage.data());
        leaves->nent = room;
        if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, leaves) == 0) {
            call(KVM_SET_CPUID2, leaves, "KVM_SET_CPUID2");
            return;
        }
        if (errno != E2BIG || room > 4096) {
            refused("KVM_GET_SUPPORTED_CPUID");
        }
    }
}

// Linux 5.16 and later.
void Vcpu::share_tsc() {
    u64 none = 0;
    kvm_device_attr offset{.flags = 0,
                           .group = KVM_VCPU_TSC_CTRL,
                           .attr = KVM_VCPU_TSC_OFFSET,
                           .addr = reinterpret_cast<u64>(&none)};
    tsc_is_the_hosts_ = ioctl(vcpu_, KVM_SET_DEVICE_ATTR, &offset) == 0;
}

void Vcpu::find_exits() {
    statistics_ = ioctl(vcpu_, KVM_GET_STATS_FD, nullptr);
    kvm_stats_header header{};
    if (statistics_ < 0 || pread(statistics_, &header, sizeof header, 0) != sizeof header ||
        header.name_size > 4096) {
        return;
    }
    const usize each = sizeof(kvm_stats_desc) + header.name_size;
    std::vector<u8> storage(each);
    for (u32 i = 0; i < header.num_desc; ++i) {
        if (pread(statistics_, storage.data(), each, header.desc_offset + static_cast<off_t>(i * each)) !=
            static_cast<ssize_t>(each)) {
            return;
        }
        const auto* const one = reinterpret_cast<const kvm_stats_desc*>(storage.data());
        const auto* const name = reinterpret_cast<const char*>(storage.data() + sizeof *one);
        if (std::string_view(name, strnlen(name, header.name_size)) == "exits") {
            exits_at_ = u64{header.data_offset} + one->offset;
            return;
        }
    }
}

std::optional<u64> Vcpu::exits() const {
    u64 count = 0;
    if (!exits_at_ ||
        pread(statistics_, &count, sizeof count, static_cast<off_t>(*exits_at_)) != sizeof count) {
        return std::nullopt;
    }
    return count;
}

int Vcpu::run() {
    return ioctl(vcpu_, KVM_RUN, 0) == 0 ? 0 : errno;
}

void Vcpu::finish_access() {
    shared_->immediate_exit = 1;
    static_cast<void>(run());
    shared_->immediate_exit = 0;
}

} // namespace refhv::client::self::kvm
