// SPDX-License-Identifier: MIT
#include "refhv/client/guest/stubs.hpp"

namespace refhv::client {

namespace {

GUEST(stop_by_hlt, "1: hlt\n jmp 1b")
GUEST(stop_by_port, "1: out %al, $0xf5\n jmp 1b")
GUEST(stop_natively, "1: int $0x20\n jmp 1b")
GUEST(stop_as_user, "1: int3\n jmp 1b")

// Vectors that push an error code: SDM 3A table 6-1, APM 2 table 8-1 (8, 10-14, 17, 21, 29, 30).
// Frame at 9: vector 0, error 8, rip 16, cs 24, rflags 32, rsp 40, ss 48.
GUEST(
    vectors,
    ".set refhv_vector, 0\n"
    ".rept 32\n"
    ".balign 16, 0xcc\n"
    ".if ((0x60227d00 >> refhv_vector) & 1) == 0\n"
    "push $0\n"
    ".endif\n"
    ".byte 0x6a, refhv_vector\n" // push $vector, the short form
    "jmp 9f\n"
    ".set refhv_vector, refhv_vector + 1\n"
    ".endr\n"
    ".balign 16, 0xcc\n"
    "9: push %rax\n"
    "cmpq $0, " REFHV_ASM(
        REFHV_RECORD) "\n"
                      "jne 2f\n"
                      "mov 8(%rsp), %rax\n mov %rax, " REFHV_ASM(
                          REFHV_RECORD) "+8\n"
                                        "mov 16(%rsp), %rax\n mov %rax, " REFHV_ASM(
                                            REFHV_RECORD) "+16\n"
                                                          "mov 24(%rsp), %rax\n mov %rax, " REFHV_ASM(
                                                              REFHV_RECORD) "+24\n"
                                                                            "mov 40(%rsp), %rax\n mov "
                                                                            "%rax, " REFHV_ASM(
                                                                                REFHV_RECORD) "+40\n"
                                                                                              "cmpq $14, "
                                                                                              "8(%rsp)\n"
                                                                                              "jne 2f\n"
                                                                                              "mov %cr2, "
                                                                                              "%rax\n mov "
                                                                                              "%rax,"
                                                                                              " " REFHV_ASM(
                                                                                                  REFHV_RECORD) "+32\n"
                                                                                                                "2: incq " REFHV_ASM(
                                                                                                                    REFHV_RECORD) "\n"
                                                                                                                                  "mov " REFHV_ASM(
                                                                                                                                      REFHV_PARAMETER_ADVANCE) ", %rax\n"
                                                                                                                                                               "test %rax, %rax\n"
                                                                                                                                                               "jz 3f\n"
                                                                                                                                                               "add %rax, 24(%rsp)\n"
                                                                                                                                                               "pop %rax\n"
                                                                                                                                                               "add $16, %rsp\n"
                                                                                                                                                               "iretq\n"
                                                                                                                                                               "3: pop %rax\n"
                                                                                                                                                               "push $" REFHV_ASM(
                                                                                                                                                                   REFHV_STOP) "\n"
                                                                                                                                                                               "ret")

} // namespace

GuestCode stop_stub(abi::Mode mode, Stop stop) {
    switch (mode) {
    case abi::Mode::native:
        return stop_natively;
    case abi::Mode::user:
        return stop_as_user;
    default:
        return stop == Stop::hlt ? stop_by_hlt : stop_by_port;
    }
}

GuestCode vector_stubs() {
    return vectors;
}

} // namespace refhv::client
