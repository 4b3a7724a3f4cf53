/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What a program and the device /dev/walkbench_hmm say to each other.
 *
 * bench/src/os/hmm.rs has the same layout; bench/tests/kernel.rs compares the two.
 */
#ifndef WALKBENCH_HMM_H
#define WALKBENCH_HMM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Grows with every change of what is below. */
#define WALKBENCH_HMM_VERSION 4

/* Of one request: 16 GiB of 4 KiB pages. */
#define WALKBENCH_HMM_MAX_PAGES (1U << 22)
#define WALKBENCH_HMM_MAX_REPEATS 1024U
/* Of those that a request holds in migration. */
#define WALKBENCH_HMM_MAX_HELD 512U

/* default_flags, pfn_flags_mask and wishes: hmm_range_fault's own. A snapshot asks for none. */
#define WALKBENCH_HMM_REQ_FAULT 1
#define WALKBENCH_HMM_REQ_WRITE 2

/*
 * hold_flags: what becomes of the pages that were held. Anonymous ones, and pages where there were none, move to other
 * memory of the system; without it, and of all others, nothing moves.
 */
#define WALKBENCH_HMM_HOLD_MOVE 1

/* answers, a byte a page: flags, and the order of the mapping above them. Never a pfn. */
#define WALKBENCH_HMM_VALID 1
#define WALKBENCH_HMM_WRITE 2
#define WALKBENCH_HMM_ERROR 4
#define WALKBENCH_HMM_ORDER_SHIFT 3
/* The whole byte, an order that there is not: the last call, which failed, never got to this page. */
#define WALKBENCH_HMM_UNWRITTEN 0xf8

/* A range of the caller's own memory, mirrored `repeats` times in calls of `call_pages`. */
struct walkbench_hmm_walk {
	__u64 addr; /* in: of the first page */
	__u64 nr_pages; /* in */
	__u64 call_pages; /* in: pages of a call of hmm_range_fault; 0 is all of them */
	__u64 wishes; /* in: __u8[nr_pages], of which pfn_flags_mask lets through what it has; 0 is none */
	__u64 answers; /* in: where to put __u8[nr_pages] of the last repeat, failed or not; 0 is nowhere */
	__u64 ns; /* in: where to put __u64[repeats], nanoseconds of each; 0 is nowhere */
	__u32 repeats; /* in */
	__u32 default_flags; /* in */
	__u32 pfn_flags_mask; /* in: 0 without wishes */
	__s32 result; /* out: 0, or what hmm_range_fault returned where it gave up (-EFAULT, -EPERM, ...) */
	__u64 calls; /* out: of hmm_range_fault, all repeats */
	__u64 busy; /* out: of those, how many a collision made void */
	__u64 hold; /* in: of the first of the pages that are in migration meanwhile */
	__u64 nr_held; /* in: how many, all of one VMA; 0 is none. out: that were */
	__u32 hold_flags; /* in: 0 without nr_held */
	__u32 waited; /* out: 1 if the migration ended because somebody waited for it, 0 if because the walk was over */
};

#define WALKBENCH_HMM_GET_VERSION _IOR('w', 0xa0, __u32)
#define WALKBENCH_HMM_WALK _IOWR('w', 0xa1, struct walkbench_hmm_walk)
/*
 * Whose device memory counts as the caller's own in the walks of this file: his who migrates the page at the address
 * given, between a call with it and a call with 0 (ENODATA if nobody did). Before that, nobody's.
 */
#define WALKBENCH_HMM_LEARN_OWNER _IOW('w', 0xa2, __u64)

#endif
