/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One poll loop for both kinds of peer. Input is copied with one buffer: while the peer has not taken it, stdin is not
 * read; output is written as it comes. So neither side can make the other wait for ever, and nothing is lost.
 */
#include "cli/stream.h"

#include "linux/syscall.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define KEYS_MAX 16

struct keys {
	unsigned char bytes[KEYS_MAX];
	size_t count, matched;
};

struct loop {
	const struct bh_stream *options;
	int socket_fd;        /* the shim, or -1 */
	struct bh_exec *exec; /* or an exec's fds */
	int signal_fd;
	struct keys keys;
	unsigned char pending[1 + BH_FRAME_MAX]; /* a frame: its type, then input the peer has not taken yet */
	size_t pending_length;                   /* without the type */
	bool input_ended, end_sent, detached;
	int output_errno; /* why our stdout or stderr could not be written, 0 if it could */
	struct termios saved;
	bool raw;
};

bool bh_terminal_size(uint16_t *ret_rows, uint16_t *ret_columns)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0)
		return false;
	*ret_rows = size.ws_row;
	*ret_columns = size.ws_col;
	return true;
}

/* "ctrl-p,ctrl-q" or "a,b": characters, and ctrl- with a letter or one of @[\]^_ */
static int parse_keys(const char *text, struct keys *ret_keys, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(text ? text : "ctrl-p,ctrl-q", ',');

	ret_keys->count = ret_keys->matched = 0;
	for (size_t i = 0; i < parts.count && *parts.items[0]; i++) {
		const char *part = parts.items[i];
		int c = bh_has_prefix(part, "ctrl-") && strlen(part) == 6 ? toupper((unsigned char)part[5]) : 0;

		if (i == KEYS_MAX || (!(c >= '@' && c <= '_') && strlen(part) != 1))
			return bh_error_text(err, EINVAL, "invalid detach keys (%s) provided", text);
		ret_keys->bytes[ret_keys->count++] = (unsigned char)(c ? c - '@' : part[0]);
	}
	return 0;
}

int bh_stream_check(const struct bh_stream *stream, struct bh_error *err)
{
	struct keys keys;

	if (stream->tty && stream->input && !isatty(STDIN_FILENO))
		return bh_error_text(err, ENOTTY, "the input device is not a TTY");
	return parse_keys(stream->detach_keys, &keys, err);
}

static int open_signals(const struct bh_stream *options)
{
	static const int proxied[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	sigset_t set;

	sigemptyset(&set);
	if (options->signals)
		for (size_t i = 0; i < BH_ARRAY_SIZE(proxied); i++)
			sigaddset(&set, proxied[i]);
	if (options->tty)
		sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void make_raw(struct loop *loop)
{
	struct termios raw;

	if (!loop->options->tty || !loop->options->input || tcgetattr(STDIN_FILENO, &loop->saved) < 0)
		return;
	raw = loop->saved;
	cfmakeraw(&raw);
	loop->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void send_size(struct loop *loop)
{
	struct bh_frame_size size;
	char frame[1 + sizeof size] = { BH_FRAME_RESIZE };

	if (!bh_terminal_size(&size.rows, &size.columns))
		return;
	if (loop->exec) {
		struct winsize window = { .ws_row = size.rows, .ws_col = size.columns };

		ioctl(loop->exec->tty_fd, TIOCSWINSZ, &window);
		return;
	}
	memcpy(frame + 1, &size, sizeof size);
	(void)!send(loop->socket_fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void take_signals(struct loop *loop)
{
	struct signalfd_siginfo info;

	while (read(loop->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGWINCH)
			send_size(loop);
		else if (loop->options->pidfd >= 0)
			bh_pidfd_send_signal(loop->options->pidfd, (int)info.ssi_signo);
	}
}

/* Takes the detach keys out of the stream; what only began like them is passed on. True when they are complete. */
static bool filter_keys(struct loop *loop, const unsigned char *bytes, size_t length)
{
	struct keys *keys = &loop->keys;
	unsigned char *out = loop->pending + 1;
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		if (keys->count && bytes[i] == keys->bytes[keys->matched]) {
			if (++keys->matched == keys->count)
				return true;
			continue;
		}
		memcpy(out + n, keys->bytes, keys->matched);
		n += keys->matched;
		keys->matched = 0;
		if (keys->count && bytes[i] == keys->bytes[0])
			keys->matched = 1;
		else
			out[n++] = bytes[i];
	}
	loop->pending_length = n;
	return false;
}

static void read_input(struct loop *loop)
{
	unsigned char bytes[BH_FRAME_MAX - KEYS_MAX];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		loop->input_ended = true;
		return;
	}
	if (loop->options->tty) {
		loop->detached = filter_keys(loop, bytes, (size_t)n);
		return;
	}
	memcpy(loop->pending + 1, bytes, (size_t)n);
	loop->pending_length = (size_t)n;
}

static int input_target(const struct loop *loop)
{
	return loop->exec ? (loop->exec->tty_fd >= 0 ? loop->exec->tty_fd : loop->exec->stdin_fd) : loop->socket_fd;
}

static void flush_to_exec(struct loop *loop)
{
	ssize_t n = write(input_target(loop), loop->pending + 1, loop->pending_length);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) { /* the process closed its end */
		loop->pending_length = 0;
		loop->input_ended = true;
		return;
	}
	loop->pending_length -= (size_t)n;
	memmove(loop->pending + 1, loop->pending + 1 + n, loop->pending_length);
}

static void flush_to_shim(struct loop *loop)
{
	loop->pending[0] = BH_FRAME_STDIN;
	if (send(loop->socket_fd, loop->pending, 1 + loop->pending_length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	loop->pending_length = 0;
}

static void flush_input(struct loop *loop)
{
	char end = BH_FRAME_STDIN_END;

	if (loop->pending_length && loop->exec)
		flush_to_exec(loop);
	else if (loop->pending_length)
		flush_to_shim(loop);
	if (!loop->input_ended || loop->pending_length || loop->end_sent)
		return;
	loop->end_sent = true;
	if (loop->exec)
		bh_close_fd(&loop->exec->stdin_fd);
	else
		(void)!send(loop->socket_fd, &end, 1, MSG_NOSIGNAL);
}

/* Goes on after an error, so that the process is not held up, and remembers it for the end. */
static void put_output(struct loop *loop, int fd, const char *bytes, size_t length)
{
	int r = loop->output_errno ? 0 : bh_write_all(fd, bytes, length);

	if (r < 0)
		loop->output_errno = -r;
}

static bool lost_output;

bool bh_stream_lost_output(void)
{
	return lost_output;
}

/* One frame of the shim. False at the end of the connection. */
static bool take_frame(struct loop *loop, struct bh_frame_exit *exit_frame, bool *ret_exited)
{
	static char frame[1 + BH_FRAME_MAX];
	ssize_t n = recv(loop->socket_fd, frame, sizeof frame, 0);

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	if (frame[0] == BH_FRAME_STDOUT && !loop->options->no_stdout)
		put_output(loop, STDOUT_FILENO, frame + 1, (size_t)n - 1);
	else if (frame[0] == BH_FRAME_STDERR && !loop->options->no_stderr)
		put_output(loop, STDERR_FILENO, frame + 1, (size_t)n - 1);
	else if (frame[0] == BH_FRAME_EXIT && (size_t)n == 1 + sizeof *exit_frame) {
		memcpy(exit_frame, frame + 1, sizeof *exit_frame);
		*ret_exited = true;
		return false;
	}
	return true;
}

static int start_loop(struct loop *loop, const struct bh_stream *options, struct bh_error *err)
{
	int r = parse_keys(options->detach_keys, &loop->keys, err);

	if (r < 0)
		return r;
	loop->options = options;
	loop->signal_fd = open_signals(options);
	loop->input_ended = loop->end_sent = !options->input;
	make_raw(loop);
	if (options->tty)
		send_size(loop);
	return 0;
}

static void end_loop(struct loop *loop)
{
	if (loop->raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &loop->saved);
	bh_close_fd(&loop->signal_fd);
	lost_output = loop->output_errno != 0;
	if (lost_output)
		dprintf(STDERR_FILENO, "bulkhead: write the output of the process: %s\n", strerror(loop->output_errno));
}

int bh_stream_attach(const struct bh_stream *options, int socket_fd, enum bh_stream_end *ret_end, struct bh_frame_exit *ret_exit, struct bh_error *err)
{
	static struct loop loop;
	bool exited = false, open = true;
	int r;

	loop = (struct loop){ .socket_fd = socket_fd };
	r = start_loop(&loop, options, err);
	if (r < 0)
		return r;
	while (open && !loop.detached) {
		struct pollfd set[3] = {
			{ .fd = socket_fd, .events = (short)(POLLIN | (loop.pending_length ? POLLOUT : 0)) },
			{ .fd = loop.signal_fd, .events = POLLIN },
			{ .fd = loop.input_ended || loop.pending_length ? -1 : STDIN_FILENO, .events = POLLIN },
		};

		if (poll(set, 3, -1) < 0)
			continue;
		if (set[1].revents)
			take_signals(&loop);
		if (set[2].revents)
			read_input(&loop);
		if (loop.pending_length || loop.input_ended)
			flush_input(&loop);
		if (set[0].revents & (POLLIN | POLLHUP | POLLERR))
			open = take_frame(&loop, ret_exit, &exited);
	}
	end_loop(&loop);
	*ret_end = exited ? BH_STREAM_EXITED : loop.detached ? BH_STREAM_DETACHED : BH_STREAM_LOST;
	return 0;
}

/* Copies once from an exec's output; closes it at its end. */
static void copy_output(struct loop *loop, int *fd, int target)
{
	static char bytes[BH_FRAME_MAX];
	ssize_t n = read(*fd, bytes, sizeof bytes);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0)
		bh_close_fd(fd);
	else
		put_output(loop, target, bytes, (size_t)n);
}

/* After the process ended: what is left in its pipes, without waiting for others that may hold them. */
static void drain_exec(struct loop *loop)
{
	struct bh_exec *exec = loop->exec;
	int *fds[] = { exec->tty_fd >= 0 ? &exec->tty_fd : &exec->stdout_fd, &exec->stderr_fd };

	for (int i = 0; i < 2; i++) {
		struct pollfd p = { .fd = *fds[i], .events = POLLIN };

		while (*fds[i] >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP | POLLERR)))
			copy_output(loop, fds[i], i ? STDERR_FILENO : STDOUT_FILENO);
	}
}

static void exec_round(struct loop *loop, bool *ret_ended)
{
	struct bh_exec *exec = loop->exec;
	int *output = exec->tty_fd >= 0 ? &exec->tty_fd : &exec->stdout_fd;
	struct pollfd set[6] = {
		{ .fd = exec->pidfd, .events = POLLIN },
		{ .fd = loop->signal_fd, .events = POLLIN },
		{ .fd = loop->input_ended || loop->pending_length ? -1 : STDIN_FILENO, .events = POLLIN },
		{ .fd = *output, .events = POLLIN },
		{ .fd = exec->stderr_fd, .events = POLLIN },
		{ .fd = loop->pending_length ? input_target(loop) : -1, .events = POLLOUT },
	};

	if (poll(set, 6, -1) < 0)
		return;
	if (set[1].revents)
		take_signals(loop);
	if (set[2].revents)
		read_input(loop);
	if (loop->pending_length || loop->input_ended)
		flush_input(loop);
	if (set[3].revents & (POLLIN | POLLHUP | POLLERR))
		copy_output(loop, output, STDOUT_FILENO);
	if (set[4].revents)
		copy_output(loop, &exec->stderr_fd, STDERR_FILENO);
	*ret_ended = set[0].revents != 0;
}

int bh_stream_exec(const struct bh_stream *options, struct bh_exec *exec, enum bh_stream_end *ret_end, int *ret_exit_code, struct bh_error *err)
{
	static struct loop loop;
	bool ended = false;
	int status = 0, r;

	loop = (struct loop){ .socket_fd = -1, .exec = exec };
	r = start_loop(&loop, options, err);
	if (r < 0)
		return r;
	if (exec->stdin_fd >= 0)
		bh_set_nonblock(exec->stdin_fd, true);
	signal(SIGPIPE, SIG_IGN); /* the process may close its stdin; our own stdout's end shows as a failed write */
	while (!ended && !loop.detached)
		exec_round(&loop, &ended);
	if (!loop.detached)
		drain_exec(&loop);
	end_loop(&loop);
	if (loop.detached) {
		*ret_end = BH_STREAM_DETACHED;
		return 0;
	}
	if (waitpid(exec->pid, &status, 0) < 0)
		return bh_error_set(err, errno, "wait for the process");
	*ret_end = BH_STREAM_EXITED;
	*ret_exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return 0;
}
