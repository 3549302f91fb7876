/* SPDX-License-Identifier: MIT */
/* /dev/refhv: one request payload in, one reply payload out (refhv/contract/abi.hpp says what they are). */
#ifndef REFHV_KMOD_IOCTL_H
#define REFHV_KMOD_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct refhv_call {
	__u64 request;		/* address of the payload */
	__u64 reply;		/* address of the room for the reply's */
	__u32 request_bytes;	/* at most REFHV_MAX_PAYLOAD */
	__u32 reply_room;	/* REFHV_MAX_PAYLOAD */
	__u32 reply_bytes;	/* out */
	__u32 zero;
};

#define REFHV_MAX_PAYLOAD (1u << 20)

/*
 * EBUSY: another process has the device, KVM is loaded, or the system is about to sleep. ESTALE: the VMs are
 * gone, because the CPU went offline or the system slept; the next call starts afresh. ENODEV: the CPU is
 * offline. EINVAL: a size or a field that must be 0. EFAULT: an address.
 * A signal asks a batch for its end; its reply then says `stopped`.
 */
#define REFHV_CALL _IOWR('~', 0x76, struct refhv_call)

#endif
