// SPDX-License-Identifier: MIT
// The A/A control: nothing, measured against nothing. What it shows beyond its stamp cost, every other row
// may show.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

namespace {

SAMPLED_GUEST(guest_empty, "", "", "")
const Declare empty{{.name = "control.empty", .guest = guest_empty, .native = true, .user = true}};

} // namespace

} // namespace refhv::bench
