// SPDX-License-Identifier: MIT
#include "refhv/client/locate.hpp"

#include "refhv/client/target.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace refhv::client {
namespace {

bool is_program(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && access(path.c_str(), X_OK) == 0;
}

// Empty: it is not there.
std::string in_path(std::string_view program) {
    const char* path = std::getenv("PATH");
    for (std::string_view rest = path != nullptr ? path : ""; !rest.empty();) {
        const std::string_view directory = rest.substr(0, rest.find(':'));
        rest.remove_prefix(std::min(rest.size(), directory.size() + 1));
        std::string candidate = std::string(directory) + "/" + std::string(program);
        if (!directory.empty() && is_program(candidate)) {
            return candidate;
        }
    }
    return {};
}

std::string& image_directory() {
    static std::string directory;
    return directory;
}

std::string install(std::string_view package) {
    return "install the Debian package " + std::string(package);
}

} // namespace

std::string find_program(std::string_view program, const char* variable, std::string_view package) {
    if (const char* given = std::getenv(variable); given != nullptr && *given != '\0') {
        if (is_program(given)) {
            return given;
        }
        throw TargetUnusable(std::string(variable) + " is '" + given + "', which is no executable file");
    }
    if (std::string path = in_path(program); !path.empty()) {
        return path;
    }
    throw TargetUnusable(std::string(program) + " is not in PATH: " + install(package));
}

std::string find_named_program(const std::string& program) {
    if (program.find('/') != std::string::npos) {
        if (is_program(program)) {
            return program;
        }
        throw TargetUnusable("'" + program + "' is no executable file");
    }
    if (std::string path = in_path(program); !path.empty()) {
        return path;
    }
    throw TargetUnusable("'" + program + "' is not in PATH: install it, or name it with its path");
}

std::string require_file(std::string path, std::string_view package) {
    if (access(path.c_str(), R_OK) != 0) {
        throw TargetUnusable(path + " cannot be read: " + install(package));
    }
    return path;
}

void set_image_directory(std::string directory) {
    image_directory() = std::move(directory);
}

std::string find_image(std::string_view name) {
    const char* given = std::getenv("REFHV_IMAGE_DIR");
    std::error_code error;
    const std::filesystem::path directory =
        given != nullptr && *given != '\0' ? std::filesystem::path(given)
        : !image_directory().empty()       ? std::filesystem::path(image_directory())
                                     : std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
    std::string path = (directory / name).string();
    if (access(path.c_str(), R_OK) != 0) {
        throw TargetUnusable("the image " + path +
                             " cannot be read: build it, or set REFHV_IMAGE_DIR to where it is");
    }
    return path;
}

} // namespace refhv::client
