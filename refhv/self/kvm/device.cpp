// SPDX-License-Identifier: MIT
#include "refhv/self/kvm/device.hpp"

#include "refhv/self/kvm/api.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace refhv::client::self::kvm {
namespace {

constexpr int api_version = 12; // the only one there has been since Linux 2.6.22

struct Capability {
    int number;
    const char* name;
};

constexpr Capability needed[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"}, {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},     {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},     {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
};

// How a module translates, by its own parameter; empty: it does not say.
std::string paging(const char* module, const char* parameter) {
    std::ifstream file(std::string("/sys/module/") + module + "/parameters/" + parameter);
    std::string value;
    if (!(file >> value)) {
        return {};
    }
    const bool nested = value == "Y" || value == "1";
    return std::string(module) + (nested ? ", nested paging" : ", shadow paging");
}

} // namespace

int open_device() {
    return open(device, O_RDWR | O_CLOEXEC);
}

std::string obstacle() {
    const int fd = open_device();
    if (fd < 0) {
        switch (errno) {
        case ENOENT:
            return std::string(device) + " is not there: modprobe kvm_intel or kvm_amd";
        case EACCES:
        case EPERM:
            return std::string(device) + " may not be opened: join the group kvm, or be root";
        default:
            return std::string(device) + ": " + std::strerror(errno);
        }
    }
    std::string why;
    if (const int version = ioctl(fd, KVM_GET_API_VERSION, 0); version != api_version) {
        why = std::string(device) + " speaks API version " + std::to_string(version) + ", not " +
              std::to_string(api_version);
    }
    for (const Capability& capability : needed) {
        if (why.empty() && ioctl(fd, KVM_CHECK_EXTENSION, capability.number) <= 0) {
            why = std::string("this KVM lacks ") + capability.name;
        }
    }
    close(fd);
    return why;
}

bool is_hardware_assisted() {
    return access("/sys/module/kvm_intel", F_OK) == 0 || access("/sys/module/kvm_amd", F_OK) == 0;
}

std::string description() {
    utsname system{};
    uname(&system);
    std::string how = paging("kvm_intel", "ept");
    if (how.empty()) {
        how = paging("kvm_amd", "npt");
    }
    if (!is_hardware_assisted()) {
        how = "neither VMX nor SVM";
    }
    return std::string("KVM of Linux ") + system.release + (how.empty() ? "" : ", " + how);
}

} // namespace refhv::client::self::kvm
