// SPDX-License-Identifier: MIT
// Faults: intercepted exceptions, stepped over; pages that the nested tables do not map, mapped and tried
// again.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Reason;

namespace {

SAMPLED_GUEST(guest_ud, "", "", "ud2")
const Declare ud{{.name = "exit.ud",
                  .claims_about = "ud",
                  .guest = guest_ud,
                  .reason = Reason::exception,
                  .exceptions = 1u << 6,
                  .length = 2}};

SAMPLED_GUEST(guest_pf, "mov $" REFHV_ASM(REFHV_UNMAPPED) ", %esi", "", "mov (%rsi), %al")
const Declare pf{{.name = "exit.pf",
                  .claims_about = "pf",
                  .guest = guest_pf,
                  .reason = Reason::exception,
                  .exceptions = 1u << 14,
                  .length = 2}};

// The address moves on in the control too; only the access is the operation.
SAMPLED_GUEST(guest_nested, "mov $" REFHV_ASM(REFHV_ARENA) "-0x1000, %esi", "add $0x1000, %esi",
              "mov (%rsi), %al")
const Declare nested_violation{{.name = "exit.nested_violation",
                                .claims_about = "nested_violation",
                                .guest = guest_nested,
                                .reason = Reason::nested_violation,
                                .action = abi::Action::map_and_retry,
                                .page_each = true}};

} // namespace

} // namespace refhv::bench
