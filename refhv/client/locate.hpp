// SPDX-License-Identifier: MIT
// Where the programs and files are that a launcher needs.
#pragma once

#include <string>
#include <string_view>

namespace refhv::client {

// The path of `program`: the value of the environment's `variable` if set, else searched for in PATH.
// Throws TargetUnusable: not there or not executable; names `package` as the Debian package to install.
[[nodiscard]] std::string find_program(std::string_view program, const char* variable,
                                       std::string_view package);

// The same for a program that a user has named: a path, or a name to be searched for in PATH.
[[nodiscard]] std::string find_named_program(const std::string& program);

// `path`, once it is readable. Throws TargetUnusable, naming `package`.
[[nodiscard]] std::string require_file(std::string path, std::string_view package);

// Where the bootable images are if they are not beside this program's executable: for an interpreter that has
// this library as a module. Before any target is opened.
void set_image_directory(std::string directory);

// The path of a bootable image: in the environment's REFHV_IMAGE_DIR if set, else in what set_image_directory
// said, else beside this program's executable. Throws TargetUnusable.
[[nodiscard]] std::string find_image(std::string_view name);

} // namespace refhv::client
