/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of src/cgroup share. */
#pragma once

#include "cgroup/cgroup.h"

#include <errno.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

static struct bh_error err;

#define OK(call) assert_ok((call), #call, __LINE__)
static inline void assert_ok(int r, const char *what, int line)
{
	if (r < 0)
		fail_msg("line %d: %s: %d %s", line, what, r, err.message);
}

/* As fork(2); the child is inside the cgroup and dies with us. */
static inline pid_t fork_into(const struct bh_cgroup *cgroup)
{
	int clone_fd = bh_cgroup_clone_fd(cgroup);
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t pid;

	if (clone_fd >= 0) {
		args.flags = CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)clone_fd;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	assert_return_code(pid, errno);
	if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || bh_cgroup_enter_self(cgroup, &err) < 0))
		_exit(99);
	return pid;
}
