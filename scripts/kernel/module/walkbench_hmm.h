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
#define WALKBENCH_HMM_VERSION 1

/* Of one request: 16 GiB of 4 KiB pages. */
#define WALKBENCH_HMM_MAX_PAGES (1U << 22)
#define WALKBENCH_HMM_MAX_REPEATS 1024U

/* mode: what is asked of the pages. */
#define WALKBENCH_HMM_SNAPSHOT 0 /* say what is there */
#define WALKBENCH_HMM_DEFAULT 1 /* default_flags for all of them */
#define WALKBENCH_HMM_WISHES 2 /* a byte of wishes for each, beside default_flags */

/* default_flags and wishes. */
#define WALKBENCH_HMM_REQ_FAULT 1
#define WALKBENCH_HMM_REQ_WRITE 2

/* answers, a byte a page: flags, and the order of the mapping above them. Never a pfn. */
#define WALKBENCH_HMM_VALID 1
#define WALKBENCH_HMM_WRITE 2
#define WALKBENCH_HMM_ERROR 4
#define WALKBENCH_HMM_ORDER_SHIFT 3

/* A range of the caller's own memory, mirrored `repeats` times in calls of `call_pages`. */
struct walkbench_hmm_walk {
	__u64 addr; /* in: of the first page */
	__u64 nr_pages; /* in */
	__u64 call_pages; /* in: pages of a call of hmm_range_fault; 0 is all of them */
	__u64 wishes; /* in: __u8[nr_pages] with WALKBENCH_HMM_WISHES, else 0 */
	__u64 answers; /* in: where to put __u8[nr_pages] of the last repeat, if result is 0; 0 is nowhere */
	__u64 ns; /* in: where to put __u64[repeats], nanoseconds of each; 0 is nowhere */
	__u32 repeats; /* in */
	__u32 mode; /* in */
	__u32 default_flags; /* in */
	__s32 result; /* out: 0, or what hmm_range_fault returned where it gave up (-EFAULT, -EPERM, ...) */
	__u64 calls; /* out: of hmm_range_fault, all repeats */
	__u64 busy; /* out: of those, how many a collision made void */
};

#define WALKBENCH_HMM_GET_VERSION _IOR('w', 0xa0, __u32)
#define WALKBENCH_HMM_WALK _IOWR('w', 0xa1, struct walkbench_hmm_walk)

#endif
