// SPDX-License-Identifier: MIT
#include "refhv/front/doctor/host.hpp"

#include "refhv/client/descriptor.hpp"
#include "refhv/front/models.hpp"
#include "refhv/front/session.hpp"
#include "refhv/x86/cpuid_leaves.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace refhv::front::doctor {
namespace {

constexpr usize longest_line = 200;   // of what is shown
constexpr usize longest_list = 8'192; // of what is searched: the flags of a CPU
constexpr usize most_bytes = usize{256} * 1024;

// Empty where it cannot be read. A pipe or a device in its place is not waited for.
std::optional<std::string> content(const std::filesystem::path& path) {
    const client::Descriptor file{open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
    struct stat facts {};
    if (!file || fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return std::nullopt;
    }
    std::string text(most_bytes, '\0');
    usize size = 0;
    while (size < text.size()) {
        const ssize_t got = read(file.get(), text.data() + size, text.size() - size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && size == 0) {
            return std::nullopt;
        }
        if (got <= 0) {
            break;
        }
        size += static_cast<usize>(got);
    }
    text.resize(size);
    return text;
}

// What may stand in a report: printable ASCII, blanks single, not too long.
std::string clean(std::string_view raw, usize longest) {
    std::string text;
    for (const char c : raw) {
        const bool printable = c > ' ' && c < 0x7f;
        if (printable || (!text.empty() && text.back() != ' ')) {
            text += printable ? c : ' ';
        }
        if (text.size() == longest) {
            break;
        }
    }
    return text.substr(0, text.find_last_not_of(' ') + 1);
}

client::HelloInfo this_cpu() {
    client::HelloInfo info;
    x86::enumerate_cpuid([&](const abi::CpuidLeaf& leaf) { info.cpuid.push_back(leaf); });
    return info;
}

} // namespace

Host Host::here() {
    return {"/", this_cpu()};
}

std::optional<std::string> Host::line(const std::string& path) const {
    const auto text = content(root_ / path);
    if (!text) {
        return std::nullopt;
    }
    return clean(std::string_view(*text).substr(0, text->find('\n')), longest_line);
}

std::vector<std::string> Host::lines(const std::string& path) const {
    std::vector<std::string> found;
    const std::string text = content(root_ / path).value_or("");
    for (std::string_view rest = text; !rest.empty();) {
        const usize end = std::min(rest.find('\n'), rest.size());
        found.push_back(clean(rest.substr(0, end), longest_list));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return found;
}

std::optional<unsigned char> Host::last_byte(const std::string& path) const {
    const auto text = content(root_ / path);
    return !text || text->empty() ? std::nullopt : std::optional(static_cast<unsigned char>(text->back()));
}

std::optional<u64> Host::msr(u32 index) const {
    const client::Descriptor file{
        open((root_ / "dev/cpu/0/msr").c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
    u64 value = 0;
    if (!file || pread(file.get(), &value, sizeof value, index) != sizeof value) {
        return std::nullopt;
    }
    return value;
}

bool Host::exists(const std::string& path) const {
    std::error_code ignored;
    return std::filesystem::exists(root_ / path, ignored);
}

std::vector<std::string> Host::names(const std::string& directory, const std::string& prefix) const {
    std::vector<std::string> found;
    std::error_code error;
    for (std::filesystem::directory_iterator at(root_ / directory, error), end; !error && at != end;
         at.increment(error)) {
        if (const std::string name = at->path().filename().string(); name.starts_with(prefix)) {
            found.push_back(name);
        }
    }
    std::sort(found.begin(), found.end(), [](const std::string& a, const std::string& b) {
        return a.size() != b.size() ? a.size() < b.size() : a < b;
    });
    return found;
}

std::string Host::refusal(const std::string& path) const {
    return access((root_ / path).c_str(), R_OK | W_OK) == 0 ? "" : std::strerror(errno);
}

u32 Host::cpuid(u32 leaf, u32 subleaf, unsigned reg) const {
    return front::cpuid(cpu_, leaf, subleaf, reg);
}

bool Host::offers_vmx() const {
    return (cpuid(1, 0, 2) >> 5 & 1) != 0; // SDM 3C 24.6
}

bool Host::offers_svm() const {
    return (cpuid(0x8000'0001, 0, 2) >> 2 & 1) != 0; // APM 2 15.4
}

std::string Host::hypervisor() const {
    return hypervisor_of(cpu_);
}

std::string Host::kernel() const {
    return line("proc/sys/kernel/osrelease").value_or("");
}

} // namespace refhv::front::doctor
