// SPDX-License-Identifier: MIT
// What the manuals say must come of a combination, and which bits of the answer they leave open. Written from
// SDM 3A 4.5 to 4.8 (4-level and 5-level paging) and APM 2 5.3 to 5.6, for one address and without a page
// table: it shares no code with the walkers of the core.
#pragma once

#include "conformance/paging/case.hpp"

namespace refhv::front {

struct Predicted {
    u16 result; // bits result_*
    u16 care;   // the bits that are architecture
    [[nodiscard]] bool admits(u16 found) const { return ((found ^ result) & care) == 0; }
};

[[nodiscard]] Predicted predict(const PagingMachine& machine, const EntrySet& set, u64 control, Try access);

} // namespace refhv::front
