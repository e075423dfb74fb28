/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/inflate.h"

#include "base/file.h"
#include "base/memory.h"
#include "linux/syscall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNKNOWN 3 /* image/helper/inflate.c */
#define WORDS_MAX 300
#define KEPT_MAX 8 /* kernels; the oldest go */

static _Noreturn void execute(const char *program, int in, int out, int words)
{
	static char *const environment[] = { NULL };
	char name[] = "bulkhead-image", verb[] = "inflate";
	char *const argv[] = { name, verb, NULL };
	int high[3] = { fcntl(in, F_DUPFD, 16), fcntl(out, F_DUPFD, 16), fcntl(words, F_DUPFD, 16) };

	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (int i = 0; i < 3; i++)
		if (high[i] < 0 || dup2(high[i], i) < 0)
			_exit(125);
	bh_close_range(3, ~0u, 0);
	execve(program, argv, environment);
	dprintf(STDERR_FILENO, "bulkhead: execute %s: %s", program, strerror(errno));
	_exit(125);
}

/* Runs the helper: 1 if there was nothing to inflate. */
static int inflate(int kernel_fd, int out_fd, struct bh_error *err)
{
	bh_auto_free char *program = bh_find_program("bulkhead-image");
	bh_auto_buf struct bh_buf said = { 0 };
	bh_auto_close int words = -1;
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	words = ends[0];
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		execute(program, kernel_fd, out_fd, ends[1]);
	close(ends[1]);
	if (pid < 0)
		return bh_error_set(err, errno, "start %s", program);
	bh_read_fd(words, WORDS_MAX, &said);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFEXITED(status) && WEXITSTATUS(status) == UNKNOWN)
		return 1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return bh_error_text(err, EINVAL, "inflate the kernel: %.*s", said.data ? (int)strcspn(said.data, "\n") : 5, said.data ? said.data : "ended");
}

static int again(int kernel_fd, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("/proc/self/fd/%d", kernel_fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? bh_error_set(err, errno, "open the kernel again") : fd;
}

static int inflate_unkept(int kernel_fd, struct bh_error *err)
{
	bh_auto_close int source = again(kernel_fd, err), out = source < 0 ? -1 : memfd_create("kernel", MFD_CLOEXEC);
	int r;

	if (out < 0)
		return source < 0 ? source : bh_error_set(err, errno, "memfd_create");
	r = inflate(source, out, err);
	if (r != 0)
		return r < 0 ? r : again(kernel_fd, err);
	return lseek(out, 0, SEEK_SET) < 0 ? bh_error_set(err, errno, "rewind the kernel") : BH_TAKE_FD(out);
}

static void remove_oldest(int dir_fd)
{
	for (;;) {
		int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
		char oldest[256] = "";
		struct timespec least = { 0 };
		const struct dirent *entry;
		unsigned count = 0;

		while (dir && (entry = readdir(dir))) {
			struct stat st;

			if (entry->d_name[0] == '.' || fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				continue;
			if (count++ == 0 || st.st_mtim.tv_sec < least.tv_sec) {
				least = st.st_mtim;
				snprintf(oldest, sizeof oldest, "%s", entry->d_name);
			}
		}
		if (count <= KEPT_MAX || unlinkat(dir_fd, oldest, 0) < 0)
			return;
	}
}

int bh_vmm_inflate(int kernel_fd, const char *folder, struct bh_error *err)
{
	bh_auto_close int dir = -1, source = -1, out = -1;
	bh_auto_free char *name = NULL, *temporary = NULL;
	struct stat st;
	int fd, r;

	if (fstat(kernel_fd, &st) < 0)
		return bh_error_set(err, errno, "look at the kernel");
	if (!folder)
		return inflate_unkept(kernel_fd, err);
	dir = bh_make_dir(AT_FDCWD, folder, 0711, err);
	if (dir < 0)
		return dir;
	name = bh_printf("%llx-%llx-%llx-%llx.%09ld", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
			 (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0)
		return fd;
	temporary = bh_printf(".%s.%d", name, (int)getpid());
	source = again(kernel_fd, err);
	out = source < 0 ? -1 : openat(dir, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0)
		return source < 0 ? source : bh_error_set(err, errno, "make %s/%s", folder, temporary);
	r = inflate(source, out, err);
	if (r == 0 && renameat(dir, temporary, dir, name) < 0)
		r = bh_error_set(err, errno, "keep the kernel in %s", folder);
	if (r != 0)
		unlinkat(dir, temporary, 0);
	if (r != 0)
		return r < 0 ? r : again(kernel_fd, err);
	remove_oldest(dir);
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? bh_error_set(err, errno, "open %s/%s", folder, name) : fd;
}
