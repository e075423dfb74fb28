/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's jail: what a guest that has taken over this process still finds.
 *
 * The starter (spawn.h) has cloned it into user, mount, pid, network, ipc and uts namespaces of its own, with one user of the host
 * that nobody else is. Here it leaves the file system for an empty read-only one, gives up every capability and the way to get
 * new ones, and each thread locks itself into the system calls of its kind (seccomp.def).
 */
#pragma once

#include "base/error.h"

/* Called once, before the first byte from outside is read. Works in the namespaces that bh_vmm_spawn makes only. */
int bh_jail_enter(struct bh_error *err);

/* Its first step alone: the root becomes an empty read-only file system. In a mount namespace of one's own. */
int bh_jail_leave_file_system(struct bh_error *err);

enum bh_thread_kind { BH_THREAD_OWNER, BH_THREAD_VCPU, BH_THREAD_DEVICE, BH_THREAD_JOBS, BH_THREAD_FILES };

/* The calling thread, for good. Anything outside of its list ends the process with SIGSYS. Needs bh_jail_enter or root. */
int bh_jail_lock(enum bh_thread_kind kind, struct bh_error *err);
