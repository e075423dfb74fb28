/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard streams and the terminal.
 *
 * The pty pair is made in the container's own devpts, so its name is right inside; the slave is asked for by ioctl on
 * the master and never by path, and /dev/console is a copy of the mount behind that very fd (CVE-2025-52565). The
 * master goes to the caller through the sync socket.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <termios.h>

static int open_pair(int root_fd, int *ret_master, int *ret_slave, struct bh_error *err)
{
	bh_auto_close int master = bh_open_in_root(root_fd, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW);
	struct statfs fs;
	int slave, unlock = 0;

	if (master < 0)
		return bh_error_set(err, -master, "open /dev/pts/ptmx inside the container");
	if (fstatfs(master, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
		return bh_error_text(err, ENODEV, "/dev/pts inside the container is not devpts");
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return bh_error_set(err, errno, "unlock the terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return bh_error_set(err, errno, "open the terminal's slave side");
	*ret_master = BH_TAKE_FD(master);
	*ret_slave = slave;
	return 0;
}

static int make_console(struct bh_job *job, struct bh_error *err)
{
	static const struct bh_mount_options bind = { .bind = true };
	int file, copy, r;

	if (job->dev_fd < 0)
		return 0;
	file = openat(job->dev_fd, "console", O_CREAT | O_WRONLY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0666);
	if (file < 0)
		return bh_error_set(err, errno, "make /dev/console");
	if (!bh_linux_has(BH_CALL_MOUNT_API)) {
		r = bh_mount_classic(NULL, "terminal", job->terminal_fd, &bind, file, err);
		close(file);
		return r;
	}
	close(file);
	copy = bh_mount_copy(job->terminal_fd, "", false, err);
	if (copy < 0)
		return copy;
	r = bh_mount_attach(copy, job->dev_fd, "console");
	return r < 0 ? bh_error_set(err, -r, "attach /dev/console") : 0;
}

static int keep_newlines(int terminal_fd)
{
	struct termios mode;

	if (tcgetattr(terminal_fd, &mode) < 0)
		return -1;
	mode.c_oflag &= ~(tcflag_t)ONLCR;
	return tcsetattr(terminal_fd, TCSANOW, &mode);
}

static int prepare_terminal(struct bh_job *job, int master, struct bh_error *err)
{
	const struct bh_spec_process *p = job->process;
	struct winsize size = { .ws_row = p->console_size.height, .ws_col = p->console_size.width };

	if (job->stdio->plain_newlines && keep_newlines(job->terminal_fd) < 0)
		return bh_error_set(err, errno, "set the terminal's mode");
	if (p->console_size.set && ioctl(master, TIOCSWINSZ, &size) < 0)
		return bh_error_set(err, errno, "set the terminal's size");
	if (p->user.uid && fchown(job->terminal_fd, p->user.uid, (gid_t)-1) < 0)
		return bh_error_set(err, errno, "give the terminal to user %u", p->user.uid);
	return 0;
}

int bh_child_terminal(struct bh_job *job, struct bh_error *err)
{
	const struct bh_message message = { .kind = BH_MESSAGE_TERMINAL };
	bh_auto_close int master = -1;
	int r;

	if (!job->process->terminal)
		return 0;
	if (!job->stdio)
		return bh_error_text(err, EINVAL, "a terminal needs somebody who takes its other side");
	r = open_pair(job->root_fd, &master, &job->terminal_fd, err);
	if (r == 0)
		r = prepare_terminal(job, master, err);
	if (r == 0)
		r = make_console(job, err);
	if (r < 0)
		return r;
	r = bh_sync_send(job->sync_child, &message, master);
	if (r < 0)
		return bh_error_set(err, -r, "pass the terminal on");
	bh_explain("terminal", "console", "/dev/console");
	return 0;
}

/* Puts the three fds onto 0-2 whatever their numbers are: those that lie in the way are moved up first. */
static int place_streams(int streams[3], struct bh_error *err)
{
	for (int i = 0; i < 3; i++) {
		if (streams[i] < 3 && streams[i] != i) {
			streams[i] = fcntl(streams[i], F_DUPFD_CLOEXEC, 3);
			if (streams[i] < 0)
				return bh_error_set(err, errno, "move a standard stream");
		}
	}
	for (int i = 0; i < 3; i++)
		if (streams[i] != i && dup2(streams[i], i) < 0)
			return bh_error_set(err, errno, "set up the standard streams");
	return 0;
}

/* A workload that is not root opens /dev/stdout again (many images log that way): its pipes must be its own. */
static void own_streams(const struct bh_job *job)
{
	for (int i = 0; i < 3; i++) {
		struct stat st;

		if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) && st.st_uid != job->process->user.uid &&
		    fchown(i, job->process->user.uid, (gid_t)-1) < 0)
			bh_debug("fd %d keeps its owner: %s", i, strerror(errno));
	}
}

int bh_child_stdio(struct bh_job *job, struct bh_error *err)
{
	int streams[3] = { 0, 1, 2 };
	int r, null_fd = -1;

	if (job->terminal_fd >= 0) {
		streams[0] = streams[1] = streams[2] = job->terminal_fd;
	} else if (job->stdio) {
		streams[0] = job->stdio->stdin_fd;
		streams[1] = job->stdio->stdout_fd;
		streams[2] = job->stdio->stderr_fd;
	}
	for (int i = 0; i < 3; i++) {
		if (streams[i] < 0 && null_fd < 0)
			null_fd = bh_open_in_root(job->root_fd, "/dev/null", O_RDWR | O_NOCTTY);
		if (streams[i] < 0 && null_fd < 0)
			return bh_error_set(err, -null_fd, "open /dev/null inside the container");
		if (streams[i] < 0)
			streams[i] = null_fd;
	}
	r = place_streams(streams, err);
	if (r < 0)
		return r;
	if (job->terminal_fd >= 0 && !job->exec && ioctl(0, TIOCSCTTY, 0) < 0)
		return bh_error_set(err, errno, "make the terminal the controlling one");
	if (job->terminal_fd < 0 && job->process->user.uid)
		own_streams(job);
	return 0;
}
