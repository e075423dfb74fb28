/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `run` and `exec` in the foreground: we are the process's parent and its terminal's other side.
 *
 * All signals but those that speak about ourselves are blocked from before the process exists (which begins by unblocking
 * them for itself), read from a signalfd and sent on by its pidfd. Output of the terminal is drained after the process
 * has ended, until its last slave is closed or nothing comes any more.
 */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>

static int signal_fd = -1;

struct relay {
	struct bh_bundle *notifies;
	pid_t pid;
	int pidfd, terminal_fd;
	struct termios saved;
	bool raw, input_ended, output_ended, exited;
	int status;
	char input[4096]; /* what the terminal has not taken yet */
	size_t input_length;
};

int bh_oci_foreground_begin(bool subreaper, struct bh_error *err)
{
	static const int own[] = { SIGPIPE, SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
	sigset_t set;

	sigfillset(&set);
	for (size_t i = 0; i < BH_ARRAY_SIZE(own); i++)
		sigdelset(&set, own[i]);
	if (subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return bh_error_set(err, errno, "become a subreaper");
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return bh_error_set(err, errno, "block signals");
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return signal_fd < 0 ? bh_error_set(err, errno, "signalfd") : 0;
}

static void copy_size(const struct relay *r)
{
	struct winsize size;

	if (r->terminal_fd >= 0 && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(r->terminal_fd, TIOCSWINSZ, &size);
}

static void take_status(struct relay *r, int status)
{
	r->exited = true;
	r->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Somebody else took its status: nobody will tell it any more. */
static void take_no_status(struct relay *r)
{
	r->exited = true;
	r->status = 255;
}

static void reap(struct relay *r)
{
	int status;
	pid_t pid = 0;

	/* Of adopted ones that are left when it has ended somebody else will be the parent. */
	while (!r->exited && (pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == r->pid)
			take_status(r, status);
	if (!r->exited && pid < 0 && errno == ECHILD)
		take_no_status(r);
}

static void take_signals(struct relay *r)
{
	struct signalfd_siginfo info;

	while (read(signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD)
			reap(r);
		else if (info.ssi_signo == SIGWINCH)
			copy_size(r);
		else
			bh_pidfd_send_signal(r->pidfd, (int)info.ssi_signo);
	}
}

static void take_output(struct relay *r)
{
	char bytes[16384];
	ssize_t n = read(r->terminal_fd, bytes, sizeof bytes);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	/* EIO: the last slave is closed. */
	if (n <= 0 || bh_write_all(STDOUT_FILENO, bytes, (size_t)n) < 0)
		r->output_ended = true;
}

static void take_input(struct relay *r)
{
	ssize_t n = read(STDIN_FILENO, r->input, sizeof r->input);

	if (n > 0)
		r->input_length = (size_t)n;
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		r->input_ended = true;
}

static void give_input(struct relay *r)
{
	ssize_t n = write(r->terminal_fd, r->input, r->input_length);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0) {
		r->input_ended = true;
		r->input_length = 0;
		return;
	}
	r->input_length -= (size_t)n;
	memmove(r->input, r->input + n, r->input_length);
}

static bool is_open(const struct relay *r)
{
	return r->terminal_fd >= 0 && !r->output_ended;
}

/* Without poll(2) the process can't be served, but what it ended with is still told. */
static void wait_only(struct relay *r)
{
	int status;

	while (!r->exited) {
		if (waitpid(r->pid, &status, 0) == r->pid)
			take_status(r, status);
		else if (errno != EINTR)
			take_no_status(r);
	}
}

static void serve(struct relay *r)
{
	while (!r->exited || is_open(r)) {
		struct pollfd fds[] = {
			{ signal_fd, POLLIN, 0 },
			{ is_open(r) ? r->terminal_fd : -1, (short)(POLLIN | (r->input_length ? POLLOUT : 0)), 0 },
			{ is_open(r) && !r->input_ended && !r->input_length ? STDIN_FILENO : -1, POLLIN, 0 },
			{ r->notifies ? r->notifies->notify_fd : -1, POLLIN, 0 },
			/* Beside SIGCHLD, which also speaks of adopted processes: this one asks again until it is reaped. */
			{ r->exited || !bh_linux_has(BH_CALL_PIDFD_OPEN) ? -1 : r->pidfd, POLLIN, 0 },
		};
		/* Others may hold the terminal open when the process is gone: then what is there now is all that is passed on. */
		int n = poll(fds, BH_ARRAY_SIZE(fds), r->exited ? 0 : -1);

		if (n == 0)
			return;
		if (n < 0 && errno != EINTR) {
			wait_only(r);
			return;
		}
		if (n < 0)
			continue;
		if (fds[0].revents)
			take_signals(r);
		if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
			take_output(r);
		if (fds[1].revents & POLLOUT && r->input_length)
			give_input(r);
		if (fds[2].revents)
			take_input(r);
		if (fds[3].revents)
			bh_bundle_take_notify(r->notifies, getenv("NOTIFY_SOCKET"));
		if (fds[4].revents)
			reap(r);
	}
}

int bh_oci_foreground(struct bh_bundle *notifies, pid_t pid, int pidfd, int terminal_fd)
{
	struct relay r = { .notifies = notifies, .pid = pid, .pidfd = pidfd, .terminal_fd = terminal_fd };

	if (terminal_fd >= 0) {
		bh_set_nonblock(terminal_fd, true);
		copy_size(&r);
		if (tcgetattr(STDIN_FILENO, &r.saved) == 0) {
			struct termios raw = r.saved;

			cfmakeraw(&raw);
			raw.c_oflag |= OPOST;
			r.raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
		}
	}
	/* Without a pidfd that can be polled, an end that came before the signals were blocked is not told. */
	if (!bh_linux_has(BH_CALL_PIDFD_OPEN))
		reap(&r);
	serve(&r);
	/* What it said just before its end. */
	if (notifies)
		bh_bundle_wait_notify(notifies, getenv("NOTIFY_SOCKET"));
	if (r.raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &r.saved);
	return r.status;
}
