// SPDX-License-Identifier: MIT
// A file without a name, for what a child reads (its configuration) or writes (its log): nothing is left on
// the disk, however we end.
#pragma once

#include "refhv/client/descriptor.hpp"

#include <string>
#include <string_view>

namespace refhv::client {

class MemoryFile {
  public:
    // `name` is seen in /proc only. Throws std::system_error.
    explicit MemoryFile(const char* name, std::string_view content = {});

    [[nodiscard]] int get() const { return file_.get(); }
    // Its last `bytes` bytes, or all if it has fewer.
    [[nodiscard]] std::string tail(std::size_t bytes) const;
    // The last of its lines that begins with `prefix`, shortened to what fits a message; empty if there is
    // none.
    [[nodiscard]] std::string last_line(std::string_view prefix) const;

  private:
    Descriptor file_;
};

} // namespace refhv::client
