/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/files.h"

#include "base/file.h"
#include "base/memory.h"
#include "linux/credentials.h"
#include "linux/syscall.h"
#include "vmm/fuse/fuse.h"
#include "vmm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FAILED 125
#define FOLDER_FD 3
#define SOCKET_FD 4

struct head {
	uint32_t length, room;
};

static size_t total(const struct iovec *iov, size_t count)
{
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += iov[i].iov_len;
	return sum;
}

/* --- the client -------------------------------------------------------------------------------------------------------- */

/* All of the pieces, first the head. `iov` is changed. */
static int transfer(int fd, struct iovec *iov, size_t count, size_t length, bool sends)
{
	while (length) {
		struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
		ssize_t n = sends ? sendmsg(fd, &message, MSG_NOSIGNAL) : recvmsg(fd, &message, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		length -= (size_t)n;
		while (count && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* The first `length` bytes of the pieces. */
static size_t cut(struct iovec *to, const struct iovec *from, size_t count, size_t length)
{
	size_t made = 0;

	for (size_t i = 0; i < count && length; i++) {
		to[made] = from[i];
		to[made].iov_len = BH_MIN(from[i].iov_len, length);
		length -= to[made++].iov_len;
	}
	return made;
}

int bh_files_ask(int fd, const struct iovec *in, size_t in_count, const struct iovec *out, size_t out_count, size_t *ret_length)
{
	struct head head = { (uint32_t)total(in, in_count), (uint32_t)BH_MIN(total(out, out_count), (size_t)BH_FUSE_MESSAGE_MAX) };
	struct iovec pieces[1 + BH_FUSE_PIECES_MAX];
	size_t count;
	int r;

	if (in_count > BH_FUSE_PIECES_MAX || out_count > BH_FUSE_PIECES_MAX || total(in, in_count) > BH_FUSE_MESSAGE_MAX)
		return -E2BIG;
	pieces[0] = (struct iovec){ &head, sizeof head };
	memcpy(pieces + 1, in, in_count * sizeof *in);
	r = transfer(fd, pieces, in_count + 1, sizeof head + head.length, true);
	pieces[0] = (struct iovec){ &head, sizeof head };
	if (r == 0)
		r = transfer(fd, pieces, 1, sizeof head, false);
	if (r < 0 || head.length > total(out, out_count))
		return r < 0 ? r : -EBADMSG;
	count = cut(pieces, out, out_count, head.length);
	r = transfer(fd, pieces, count, head.length, false);
	if (r == 0)
		*ret_length = head.length;
	return r;
}

/* --- the server -------------------------------------------------------------------------------------------------------- */

static int answer_one(struct bh_fuse *fuse, int fd, uint8_t *in, uint8_t *out)
{
	struct iovec pieces[2];
	struct head head;
	size_t length = 0;
	int r = bh_read_all(fd, &head, sizeof head);

	if (r == 0 && (head.length > BH_FUSE_MESSAGE_MAX || head.room > BH_FUSE_MESSAGE_MAX))
		r = -EBADMSG;
	if (r == 0)
		r = bh_read_all(fd, in, head.length);
	if (r < 0)
		return r;
	pieces[0] = (struct iovec){ in, head.length };
	pieces[1] = (struct iovec){ out, head.room };
	/* What can't be answered is left without a reply: the guest's own mistake. */
	if (bh_fuse_handle(fuse, &pieces[0], 1, &pieces[1], 1, &length) < 0)
		length = 0;
	head = (struct head){ .length = (uint32_t)length };
	pieces[0] = (struct iovec){ &head, sizeof head };
	pieces[1] = (struct iovec){ out, length };
	return transfer(fd, pieces, 2, sizeof head + length, true);
}

int bh_files_serve(int folder_fd, int socket_fd, bool readonly)
{
	/* Looked up now: nothing of /proc is there later but this. */
	struct bh_fuse_options options = { .root_fd = folder_fd,
					   .proc_fds_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC),
					   .readonly = readonly };
	bh_auto_free uint8_t *in = bh_malloc(BH_FUSE_MESSAGE_MAX), *out = bh_malloc(BH_FUSE_MESSAGE_MAX);
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_fuse struct bh_fuse *fuse = NULL;
	int r = options.proc_fds_fd < 0 ? bh_error_set(&err, errno, "open /proc/self/fd") : bh_fuse_make(&options, &fuse, &err);

	if (r == 0)
		r = bh_jail_leave_file_system(&err);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = bh_error_set(&err, errno, "set no_new_privs");
	if (r == 0)
		r = bh_fuse_enter_thread(fuse, &err);
	if (r == 0)
		r = bh_jail_lock(BH_THREAD_FILES, &err);
	if (r < 0) {
		bh_auto_free char *line = bh_printf("bulkhead-vmm: share a folder: %s\n", err.message);

		bh_write_all(STDERR_FILENO, line, strlen(line));
		return FAILED;
	}
	while (answer_one(fuse, socket_fd, in, out) == 0)
		continue;
	return 0;
}

/* --- its start ----------------------------------------------------------------------------------------------------------- */

static _Noreturn void child(const char *program, int folder_fd, int socket_fd, bool readonly)
{
	static char *const no_environment[] = { NULL };
	char name[] = "bulkhead-vmm", files[] = "--files", only[] = "--readonly";
	char *const argv[] = { name, files, readonly ? only : NULL, NULL };
	int folder = fcntl(folder_fd, F_DUPFD, 16), socket = fcntl(socket_fd, F_DUPFD, 16);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (dup2(folder, FOLDER_FD) < 0 || dup2(socket, SOCKET_FD) < 0 || bh_close_range(SOCKET_FD + 1, ~0u, 0) < 0)
		_exit(FAILED);
	execve(program, argv, no_environment);
	dprintf(STDERR_FILENO, "bulkhead: execute %s: %s\n", program, strerror(errno));
	_exit(FAILED);
}

int bh_files_spawn(int folder_fd, bool readonly, int *ret_socket_fd, pid_t *ret_pid, struct bh_error *err)
{
	bh_auto_free char *program = bh_find_program("bulkhead-vmm");
	struct clone_args clone = { .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, .exit_signal = SIGCHLD };
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return bh_error_set(err, errno, "make a socket");
	pid = bh_clone3(&clone);
	if (pid == 0)
		child(program, folder_fd, ends[1], readonly);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return bh_error_set(err, (int)-pid, "start a file server");
	}
	*ret_socket_fd = ends[0];
	*ret_pid = pid;
	return 0;
}
