/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls that libc does not wrap or that older kernels lack. Each returns its result or a negative errno.
 *
 * A kernel without the call answers ENOSYS and the callers (path.c, mount.c) have another way; the first ENOSYS of a
 * family is remembered. Tests force those ways with bh_linux_force_enosys; nothing outside the process can.
 */
#pragma once

#include <linux/sched.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum bh_linux_call {
	BH_CALL_OPENAT2 = 1,      /* Linux 5.6 */
	BH_CALL_MOUNT_API = 2,    /* fsopen, fsconfig, fsmount, open_tree, move_mount (5.2), mount_setattr (5.12) */
	BH_CALL_CLONE3 = 4,       /* 5.3 */
	BH_CALL_CLOSE_RANGE = 8,  /* 5.9 */
	BH_CALL_SETNS_PIDFD = 16, /* setns on a pidfd: 5.8 */
	BH_CALL_FACCESSAT2 = 32,  /* 5.8 */
	BH_CALL_PIDFD_OPEN = 64,  /* 5.3 */
};

/* For tests: these calls (bits of enum bh_linux_call) fail with ENOSYS from now on. */
void bh_linux_force_enosys(unsigned calls);
/* Has the family not been found missing (yet)? */
bool bh_linux_has(enum bh_linux_call call);
/* Records that the kernel lacks it. */
void bh_linux_lacks(enum bh_linux_call call);

int bh_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
/* statx(2), which not every C library has. -1 and errno. */
int bh_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *ret_stx);
/* fork-like use only: no CLONE_VM. Without clone3 the flags that clone(2) knows work, others give -ENOSYS. */
pid_t bh_clone3(const struct clone_args *args);
int bh_pidfd_open(pid_t pid);
/* Without pidfds: the folder /proc/PID, which names the process as surely, but can't be polled; only for the two below. */
int bh_pidfd_or_folder(pid_t pid);
int bh_pidfd_send_signal(int pidfd, int signal);
/* 1: it has ended, 0: not within the time (-1: no limit), -errno (-EINTR too). */
int bh_pidfd_wait(int pidfd, int timeout_ms);
/* Closes them (those that are not negative) with as few calls as their numbers allow, and sets them to -1. */
void bh_close_fds(int *const *fds, size_t count);
/* A process that closes all its fds at once before it ends or executes need not close each one that it has used for a moment: after
 * the first of these the second does nothing. For bh_auto(bh_close_helper). */
void bh_leave_helpers_open(void);
void bh_close_helper(int *fd);
/* The effective user as which this program was executed: known without asking again. */
uid_t bh_started_as(void);
/* Were all group ids this one when it was executed? */
bool bh_started_in_group(gid_t gid);
/* close_range(2), or one close(2) after the other. `flags` as there (CLOSE_RANGE_CLOEXEC). */
int bh_close_range(unsigned first, unsigned last, unsigned flags);
