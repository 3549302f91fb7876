// SPDX-License-Identifier: MIT
// What the doctor reads: files below a root, which for this machine is "/", and the CPU's leaves.
#pragma once

#include "refhv/client/target.hpp"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace refhv::front::doctor {

class Host {
  public:
    // The CPU that this runs on and the files of this system.
    [[nodiscard]] static Host here();

    Host(std::filesystem::path root, client::HelloInfo cpu) : root_(std::move(root)), cpu_(std::move(cpu)) {}

    // The first line, without control characters and shortened to what fits a report. None: there is no such
    // file, or it cannot be read; it is never waited for.
    [[nodiscard]] std::optional<std::string> line(const std::string& path) const;
    // All lines of the first 256 KiB, without control characters, and longer: to be searched, not shown.
    [[nodiscard]] std::vector<std::string> lines(const std::string& path) const;
    // The last byte of a file, as of an EFI variable.
    [[nodiscard]] std::optional<unsigned char> last_byte(const std::string& path) const;
    // An MSR of CPU 0; none: /dev/cpu/0/msr does not tell.
    [[nodiscard]] std::optional<u64> msr(u32 index) const;
    [[nodiscard]] bool exists(const std::string& path) const;
    // Names in a directory that begin with `prefix`, sorted by length and text: cpu2 before cpu10.
    [[nodiscard]] std::vector<std::string> names(const std::string& directory,
                                                 const std::string& prefix = "") const;
    // Empty: this user may read and write it; else why not.
    [[nodiscard]] std::string refusal(const std::string& path) const;

    // CPUID leaf, subleaf; index 0 to 3 is EAX to EDX.
    [[nodiscard]] u32 cpuid(u32 leaf, u32 subleaf, unsigned reg) const;
    [[nodiscard]] const client::HelloInfo& cpu() const { return cpu_; }
    [[nodiscard]] bool offers_vmx() const;
    [[nodiscard]] bool offers_svm() const;
    // The hypervisor underneath in words; empty: none tells.
    [[nodiscard]] std::string hypervisor() const;
    [[nodiscard]] std::string kernel() const; // its release; empty: not known

  private:
    std::filesystem::path root_;
    client::HelloInfo cpu_;
};

} // namespace refhv::front::doctor
