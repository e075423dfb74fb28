/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/syscall.h"

#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

static unsigned missing_calls;

void bh_linux_force_enosys(unsigned calls)
{
	missing_calls = calls;
}

bool bh_linux_has(enum bh_linux_call call)
{
	return !(missing_calls & call);
}

void bh_linux_lacks(enum bh_linux_call call)
{
	missing_calls |= call;
}

static long result(long r, enum bh_linux_call call)
{
	if (r >= 0)
		return r;
	if (errno == ENOSYS)
		bh_linux_lacks(call);
	return -errno;
}

int bh_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };

	if (!bh_linux_has(BH_CALL_OPENAT2))
		return -ENOSYS;
	return (int)result(syscall(SYS_openat2, dirfd, path, &how, sizeof how), BH_CALL_OPENAT2);
}

/* What clone(2) can take; the rest came with clone3. */
#define CLONE_OLD_FLAGS UINT64_C(0xffffff00)

pid_t bh_clone3(const struct clone_args *args)
{
	long r;

	if (bh_linux_has(BH_CALL_CLONE3)) {
		r = result(syscall(SYS_clone3, args, sizeof *args), BH_CALL_CLONE3);
		if (r != -ENOSYS)
			return (pid_t)r;
	}
	if (args->flags & ~CLONE_OLD_FLAGS)
		return -ENOSYS;
	/* clone(2) returns the pidfd through the place of the parent's tid. */
	r = syscall(SYS_clone, args->flags | args->exit_signal, NULL, args->pidfd, NULL, NULL);
	return r < 0 ? -errno : (pid_t)r;
}

int bh_pidfd_open(pid_t pid)
{
	long r = syscall(SYS_pidfd_open, pid, 0);

	return r < 0 ? -errno : (int)r;
}

int bh_pidfd_send_signal(int pidfd, int signal)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

/* Without the system call: the open fds are those that /proc/self/fd lists. */
static int close_one_by_one(unsigned first, unsigned last, unsigned flags)
{
	bh_auto_closedir DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		char *end;
		unsigned long fd = strtoul(entry->d_name, &end, 10);

		if (*end || end == entry->d_name || fd < first || fd > last || (int)fd == dirfd(dir))
			continue;
		if (flags & CLOSE_RANGE_CLOEXEC)
			fcntl((int)fd, F_SETFD, FD_CLOEXEC);
		else
			close((int)fd);
	}
	return 0;
}

int bh_close_range(unsigned first, unsigned last, unsigned flags)
{
	if (bh_linux_has(BH_CALL_CLOSE_RANGE)) {
		long r = result(syscall(SYS_close_range, first, last, flags), BH_CALL_CLOSE_RANGE);

		if (r != -ENOSYS)
			return (int)r;
	}
	return close_one_by_one(first, last, flags);
}
