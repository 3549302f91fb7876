// SPDX-License-Identifier: MIT
// Files that a tool leaves behind: whole, or as they were.
#pragma once

#include <string>
#include <string_view>

namespace refhv::front {

// Writes beside the file and renames, so that nobody ever reads half of it, and leaves nothing beside it.
// Throws UsageError: the path, the system's reason, and what to do.
void write_whole(const std::string& path, std::string_view text);

// Throws what write_whole would throw if a file cannot be made there.
void try_to_write(const std::string& path);

} // namespace refhv::front
