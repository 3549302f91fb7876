/* SPDX-License-Identifier: MIT
 * Offsets into native::Context, for enter.S and for the assertions in vcpu.hpp. */
#pragma once
#define NATIVE_CTX_FRAME 144 /* RIP, CS, RFLAGS, RSP, SS as IRETQ takes them */
#define NATIVE_CTX_VECTOR 184
#define NATIVE_CTX_ERROR 192
#define NATIVE_CTX_GUEST_CR3 200
#define NATIVE_CTX_HOST_CR3 208
#define NATIVE_CTX_GUEST_GDT 216
#define NATIVE_CTX_GUEST_IDT 232
#define NATIVE_CTX_HOST_GDT 248
#define NATIVE_CTX_HOST_IDT 264
#define NATIVE_CTX_HOST_CS 280
#define NATIVE_CTX_HOST_SS 288
#define NATIVE_CTX_HOST_DS 296
#define NATIVE_CTX_HOST_ES 304
#define NATIVE_STUB_SIZE 16
