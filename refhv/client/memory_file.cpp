// SPDX-License-Identifier: MIT
#include "refhv/client/memory_file.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>

namespace refhv::client {

MemoryFile::MemoryFile(const char* name, std::string_view content) : file_(memfd_create(name, MFD_CLOEXEC)) {
    if (!file_ ||
        pwrite(file_.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
        throw std::system_error(errno, std::generic_category(), "a file in memory cannot be made");
    }
}

std::string MemoryFile::tail(std::size_t bytes) const {
    struct stat facts {};
    if (fstat(file_.get(), &facts) != 0) {
        return {};
    }
    const auto size = static_cast<std::size_t>(facts.st_size);
    std::string text(std::min(bytes, size), '\0');
    const ssize_t got = pread(file_.get(), text.data(), text.size(), static_cast<off_t>(size - text.size()));
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
}

std::string MemoryFile::last_line(std::string_view prefix) const {
    constexpr std::size_t longest = 200;
    const std::string text = tail(std::size_t{64} * 1024);
    for (std::size_t end = text.size(); end != 0;) {
        const std::size_t before = text.rfind('\n', end - 1);
        const std::size_t first = before == std::string::npos ? 0 : before + 1;
        const std::string_view line = std::string_view{text}.substr(first, end - first);
        if (line.find_first_not_of(" \t\r") != std::string_view::npos && line.starts_with(prefix)) {
            return std::string(line.substr(0, longest));
        }
        end = before == std::string::npos ? 0 : before;
    }
    return {};
}

} // namespace refhv::client
