/* SPDX-License-Identifier: MIT */
/* Offsets in refhv_self_frame, for self_enter.S; self_run.cpp asserts them. Registers come first, in the order of
 * abi.hpp. */
#define REFHV_SELF_RIP 128
#define REFHV_SELF_RFLAGS 136
#define REFHV_SELF_HOST_RSP 144
#define REFHV_SELF_IN_GUEST 152
#define REFHV_SELF_MXCSR 160
#define REFHV_SELF_FCW 164
