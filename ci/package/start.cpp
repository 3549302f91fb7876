// SPDX-License-Identifier: MIT
// In the tarball, the place of each program: starts FILE.program, which lies beside it, by the loader and the
// libraries that came along (ci/package/carried.cmake). Linked statically, so that it needs nothing of the
// machine itself.
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/auxv.h>
#include <unistd.h>
#include <vector>

namespace {

// This file, links followed. By its name at the start where /proc is not mounted. Empty: neither says it.
std::string own_path() {
    char path[PATH_MAX] = {};
    if (const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1); length > 0) {
        return {path, static_cast<std::size_t>(length)};
    }
    const auto* const name = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
    return name != nullptr && realpath(name, path) != nullptr ? path : "";
}

} // namespace

int main(int count, char** arguments) {
    const std::string own = own_path();
    const std::string folder = own.substr(0, own.rfind('/') + 1);
    const std::string loader = folder + "loader";
    // What a machine preloads is linked with its own libc.
    unsetenv("LD_PRELOAD");
    std::vector<std::string> words = {loader,           "--inhibit-cache",
                                      "--library-path", folder + "carried",
                                      "--argv0",        count > 0 ? arguments[0] : own,
                                      own + ".program"};
    words.insert(words.end(), arguments + (count > 0 ? 1 : 0), arguments + count);
    std::vector<char*> pointers;
    for (std::string& word : words) {
        pointers.push_back(word.data());
    }
    pointers.push_back(nullptr);
    execv(loader.c_str(), pointers.data());
    std::fprintf(stderr, "%s: %s: %s\n", own.c_str(), loader.c_str(), std::strerror(errno));
    return 2;
}
