// SPDX-License-Identifier: MIT
#include "refhv/front/file.hpp"

#include "refhv/client/children.hpp"
#include "refhv/client/descriptor.hpp"
#include "refhv/front/options.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace refhv::front {
namespace {

const char* mend(int error) {
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "free space there, or name another file";
    case EFBIG:
        return "raise the limit of a file's size (ulimit -f)";
    case ENOENT:
    case ENOTDIR:
        return "make its directory first, or name another file";
    case EISDIR:
        return "name a file";
    default:
        return "make it writable, or name another file";
    }
}

[[noreturn]] void fail(const std::string& path, int error) {
    throw UsageError("cannot write " + path + ": " + std::strerror(error) + "; " + mend(error));
}

// 0, or why not.
int fill(int file, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(file, text.data(), text.size());
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        text.remove_prefix(n < 0 ? 0 : static_cast<std::size_t>(n));
    }
    return 0;
}

// A file with this text beside `path`; its name.
std::string write_beside(const std::string& path, std::string_view text) {
    std::string part = path + ".part";
    client::Descriptor file{::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    if (!file) {
        fail(path, errno);
    }
    if (const int error = fill(file.get(), text); error != 0) {
        ::unlink(part.c_str());
        fail(path, error);
    }
    return part;
}

} // namespace

void write_whole(const std::string& path, std::string_view text) {
    const client::SignalsHeld held; // a signal between the two steps would leave the part
    const std::string part = write_beside(path, text);
    if (std::rename(part.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(part.c_str());
        fail(path, error);
    }
}

void try_to_write(const std::string& path) {
    const client::SignalsHeld held;
    ::unlink(write_beside(path, "").c_str());
}

} // namespace refhv::front
