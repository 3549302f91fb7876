// SPDX-License-Identifier: MIT
// Descriptor-table registers. LIDT is measured in guests only: in mode native the IDT leads back to the core.
#include "microbench/measure/row.hpp"

namespace refhv::bench {

using abi::Intercept;
using abi::Reason;
using client::on;

namespace {

constexpr u8 table_length = 3; // 0F 01 /r with (%rsi)

#define SCRATCH "mov $" REFHV_ASM(REFHV_SCRATCH) ", %esi"

SAMPLED_GUEST(guest_sgdt, SCRATCH, "", "sgdt (%rsi)")
const Declare sgdt{{.name = "exit.sgdt",
                    .claims_about = "sgdt",
                    .guest = guest_sgdt,
                    .reason = Reason::gdtr_idtr,
                    .intercepts = on(Intercept::gdtr_idtr_read),
                    .length = table_length,
                    .native = true}};

SAMPLED_GUEST(guest_sidt, SCRATCH, "", "sidt (%rsi)")
const Declare sidt{{.name = "exit.sidt",
                    .claims_about = "sidt",
                    .guest = guest_sidt,
                    .reason = Reason::gdtr_idtr,
                    .intercepts = on(Intercept::gdtr_idtr_read),
                    .length = table_length,
                    .native = true}};

SAMPLED_GUEST(guest_lgdt, "mov $" REFHV_ASM(REFHV_PARAMETER_GDTR) ", %esi", "", "lgdt (%rsi)")
const Declare lgdt{{.name = "exit.lgdt",
                    .claims_about = "lgdt",
                    .guest = guest_lgdt,
                    .reason = Reason::gdtr_idtr,
                    .intercepts = on(Intercept::gdtr_idtr_write),
                    .length = table_length,
                    .native = true}};

SAMPLED_GUEST(guest_lidt, "mov $" REFHV_ASM(REFHV_PARAMETER_IDTR) ", %esi", "", "lidt (%rsi)")
const Declare lidt{{.name = "exit.lidt",
                    .claims_about = "lidt",
                    .guest = guest_lidt,
                    .reason = Reason::gdtr_idtr,
                    .intercepts = on(Intercept::gdtr_idtr_write),
                    .length = table_length}};

SAMPLED_GUEST(guest_sldt, "", "", "sldt %ecx")
const Declare sldt{{.name = "exit.sldt",
                    .claims_about = "sldt",
                    .guest = guest_sldt,
                    .reason = Reason::ldtr_tr,
                    .intercepts = on(Intercept::ldtr_tr_read),
                    .length = 3,
                    .native = true}};

SAMPLED_GUEST(guest_str, "", "", "str %ecx")
const Declare str{{.name = "exit.str",
                   .claims_about = "str",
                   .guest = guest_str,
                   .reason = Reason::ldtr_tr,
                   .intercepts = on(Intercept::ldtr_tr_read),
                   .length = 3,
                   .native = true}};

SAMPLED_GUEST(guest_lldt, "", "xor %ecx, %ecx", "lldt %cx")
const Declare lldt{{.name = "exit.lldt",
                    .claims_about = "lldt",
                    .guest = guest_lldt,
                    .reason = Reason::ldtr_tr,
                    .intercepts = on(Intercept::ldtr_tr_write),
                    .length = 3,
                    .native = true}};

} // namespace

} // namespace refhv::bench
