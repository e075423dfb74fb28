/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/syscall.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_AT_LEAST 16384
#define FDS_AT_MOST (1u << 20) /* fs.nr_open as the kernel has it */

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

int bh_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *ret_stx)
{
	return (int)syscall(SYS_statx, dirfd, path, flags, mask, ret_stx);
}

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
	if (!bh_linux_has(BH_CALL_PIDFD_OPEN))
		return -ENOSYS;
	return (int)result(syscall(SYS_pidfd_open, pid, 0), BH_CALL_PIDFD_OPEN);
}

int bh_pidfd_or_folder(pid_t pid)
{
	char path[32];
	int r = bh_pidfd_open(pid);

	if (r != -ENOSYS)
		return r;
	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	r = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r >= 0 ? r : errno == ENOENT ? -ESRCH : -errno;
}

/* Of a process that is known by its folder: 'Z' and so on, 0 when it is gone. The folder never becomes another process's. */
static char state_of(int folder_fd)
{
	int fd = openat(folder_fd, "stat", O_RDONLY | O_CLOEXEC);
	char text[512], *end;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	bh_close_fd(&fd);
	text[n < 0 ? 0 : n] = '\0';
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : 0;
}

static int signal_by_folder(int folder_fd, int signal)
{
	char path[32], folder[64];
	int pid;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/self/fd/%d", folder_fd);
	n = readlink(path, folder, sizeof folder - 1);
	folder[n < 0 ? 0 : n] = '\0';
	if (sscanf(folder, "/proc/%d", &pid) != 1 || pid <= 0)
		return -ENOSYS;
	if (!state_of(folder_fd))
		return -ESRCH;
	return kill(pid, signal) < 0 ? -errno : 0;
}

int bh_pidfd_send_signal(int pidfd, int signal)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0)
		return 0;
	return errno == ENOSYS ? signal_by_folder(pidfd, signal) : -errno;
}

int bh_pidfd_wait(int pidfd, int timeout_ms)
{
	struct pollfd ended = { pidfd, POLLIN, 0 };
	struct stat st;

	if (bh_linux_has(BH_CALL_PIDFD_OPEN) || fstat(pidfd, &st) < 0 || !S_ISDIR(st.st_mode)) {
		int r = poll(&ended, 1, timeout_ms);

		return r < 0 ? -errno : r;
	}
	/* Such a kernel tells nobody but the parent of a process's end: there is no other way than to look. */
	for (int waited_ms = 0; timeout_ms < 0 || waited_ms <= timeout_ms; waited_ms++) {
		char state = state_of(pidfd);

		if (!state || state == 'Z' || state == 'X')
			return 1;
		poll(NULL, 0, 1);
	}
	return 0;
}

/* Without the system call: one number after the other. Not those that /proc/self/fd lists: in a container that we are about to
 * join, /proc may be anything. An fd lies above the limit only if the limit was lowered after it was opened. */
static int close_one_by_one(unsigned first, unsigned last, unsigned flags)
{
	struct rlimit limit = { 0 };
	unsigned end;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	end = (unsigned)BH_MIN(BH_MAX(limit.rlim_max, (rlim_t)FDS_AT_LEAST), (rlim_t)FDS_AT_MOST);
	for (unsigned fd = first; fd <= last && fd < end; fd++) {
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

#define FDS_AT_ONCE 64

void bh_close_fds(int *const *fds, size_t count)
{
	int numbers[FDS_AT_ONCE];
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		size_t at = used;

		if (*fds[i] < 0)
			continue;
		if (used == FDS_AT_ONCE) {
			bh_close_fd(fds[i]);
			continue;
		}
		for (; at > 0 && numbers[at - 1] > *fds[i]; at--)
			numbers[at] = numbers[at - 1];
		numbers[at] = *fds[i];
		used++;
		*fds[i] = -1;
	}
	for (size_t first = 0, last; first < used; first = last + 1) {
		for (last = first; last + 1 < used && numbers[last + 1] == numbers[last] + 1; last++)
			continue;
		if (last == first || bh_close_range((unsigned)numbers[first], (unsigned)numbers[last], 0) < 0)
			for (size_t i = first; i <= last; i++)
				close(numbers[i]);
	}
}

static bool leave_open;

void bh_leave_helpers_open(void)
{
	leave_open = true;
}

void bh_close_helper(int *fd)
{
	if (!leave_open)
		bh_close_fd(fd);
}

uid_t bh_started_as(void)
{
	return (uid_t)getauxval(AT_EUID);
}

bool bh_started_in_group(gid_t gid)
{
	/* The saved id is the effective one after an execve(2). */
	return getauxval(AT_GID) == gid && getauxval(AT_EGID) == gid;
}
