/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: process -> log and clients, clients -> process.
 *
 * Output is lossless: a client that doesn't read stops the reading of the process's pipe (back-pressure), exactly as a
 * terminal would. Input is bounded by one frame: while the process has not taken it, no client is read.
 */
#include "shim/shim-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

void shim_client_add(struct shim *shim, int fd)
{
	if (shim->client_count == SHIM_CLIENTS_MAX) {
		close(fd);
		return;
	}
	shim->quiet[shim->client_count] = false;
	shim->clients[shim->client_count++] = fd;
}

static void client_drop(struct shim *shim, size_t index)
{
	bool was_quiet;
	size_t left = 0;

	if (shim->clients[index] == shim->owner)
		shim->owner = -1;
	close(shim->clients[index]);
	shim->client_count--;
	shim->clients[index] = shim->clients[shim->client_count];
	was_quiet = shim->quiet[index];
	shim->quiet[index] = shim->quiet[shim->client_count];
	for (size_t i = 0; i < shim->client_count; i++)
		left += !shim->quiet[i];
	if (shim->stdin_once && !was_quiet && left == 0) {
		shim->pending_end = true;
		shim_stdin_flush(shim);
	}
}

static int send_frame(int fd, enum bh_frame_type type, const void *bytes, size_t length, int timeout_ms)
{
	char head = (char)type;
	struct iovec parts[2] = { { &head, 1 }, { (void *)bytes, length } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = length ? 2 : 1 };

	while (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };

		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || poll(&p, 1, timeout_ms) <= 0)
			return -errno;
	}
	return 0;
}

void shim_broadcast(struct shim *shim, enum bh_frame_type type, const void *bytes, size_t length, int timeout_ms)
{
	for (size_t i = shim->client_count; i-- > 0;)
		if ((!shim->quiet[i] || type == BH_FRAME_EXIT) && send_frame(shim->clients[i], type, bytes, length, timeout_ms) < 0)
			client_drop(shim, i);
}

void shim_stdin_flush(struct shim *shim)
{
	int fd = shim->tty_fd >= 0 ? shim->tty_fd : shim->stdin_fd;

	while (shim->pending_length && fd >= 0) {
		ssize_t n = write(fd, shim->pending, shim->pending_length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) { /* the process closed its end */
			shim->pending_end = true;
			break;
		}
		shim->pending_length -= (size_t)n;
		memmove(shim->pending, shim->pending + n, shim->pending_length);
	}
	shim->pending_length = 0;
	/* On a terminal the end of input is a character (VEOF) that the client's user types, and stdin_fd is not open. */
	if (shim->pending_end)
		bh_close_fd(&shim->stdin_fd);
}

static void resize(const struct shim *shim, const char *payload, size_t length)
{
	struct bh_frame_size size;
	struct winsize window = { 0 };

	if (length != sizeof size || shim->tty_fd < 0)
		return;
	memcpy(&size, payload, sizeof size);
	window.ws_row = size.rows;
	window.ws_col = size.columns;
	ioctl(shim->tty_fd, TIOCSWINSZ, &window);
}

void shim_client_read(struct shim *shim, size_t index)
{
	static char frame[BH_FRAME_MAX + 1];
	ssize_t n = recv(shim->clients[index], frame, sizeof frame, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_drop(shim, index);
		return;
	}
	switch (frame[0]) {
	case BH_FRAME_STDIN:
		if (shim->stdin_fd < 0 && shim->tty_fd < 0)
			return;
		memcpy(shim->pending, frame + 1, (size_t)n - 1);
		shim->pending_length = (size_t)n - 1;
		shim_stdin_flush(shim);
		return;
	case BH_FRAME_STDIN_END:
		shim->pending_end = true;
		shim_stdin_flush(shim);
		return;
	case BH_FRAME_RESIZE:
		resize(shim, frame + 1, (size_t)n - 1);
		return;
	case BH_FRAME_QUIET:
		shim->quiet[index] = true;
		return;
	default:
		client_drop(shim, index); /* not our protocol */
	}
}

bool shim_output_read(struct shim *shim, int stream)
{
	static char bytes[BH_FRAME_MAX];
	ssize_t n = read(shim->out_fd[stream], bytes, sizeof bytes);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n <= 0) { /* 0: the pipe's last writer went; EIO: the terminal's last user went */
		if (shim->tty_fd < 0)
			close(shim->out_fd[stream]);
		shim->out_fd[stream] = -1;
		return false;
	}
	shim_log_write(&shim->log, stream, bytes, (size_t)n);
	shim_broadcast(shim, stream ? BH_FRAME_STDERR : BH_FRAME_STDOUT, bytes, (size_t)n, -1);
	return true;
}
