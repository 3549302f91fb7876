// SPDX-License-Identifier: MIT
#pragma once

namespace refhv::front {

// Of refhv's own sources, as this program was built from them: `git describe --always --dirty`, "unknown"
// where they were not in a git checkout of their own.
[[nodiscard]] const char* revision();

} // namespace refhv::front
