/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal's master goes to whoever listens on --console-socket (one message with the fd, as runc sends it), or, when
 * we stay in the foreground, is served by us. Without a terminal the process gets our own standard streams.
 */
#include "cli/oci/oci.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

int bh_oci_console_check(struct bh_oci_console *console, struct bh_error *err)
{
	console->stdio = (struct bh_container_stdio){ STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, -1, !console->detach };
	if (console->socket && !*console->socket)
		console->socket = NULL;
	if (console->terminal && console->detach && !console->socket)
		return bh_error_text(err, EINVAL, "cannot allocate tty if runc will detach without setting console socket");
	if (console->socket && (!console->terminal || !console->detach))
		return bh_error_text(err, EINVAL, "cannot use console socket if runc will not detach or allocate tty");
	return 0;
}

int bh_oci_send_fd(const char *what, const char *path, const char *name, int fd, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)name, strlen(name) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space };
	bh_auto_close int socket_fd = -1;

	if (strlen(path) >= sizeof address.sun_path)
		return bh_error_text(err, ENAMETOOLONG, "%s socket %s: the path is too long", what, path);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0 || connect(socket_fd, (struct sockaddr *)&address, sizeof address) < 0)
		return bh_error_set(err, errno, "connect to the %s socket %s", what, path);
	control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	while (sendmsg(socket_fd, &message, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return bh_error_set(err, errno, "send to the %s socket %s", what, path);
	return 0;
}

int bh_oci_console_send(void *arg, int master_fd, struct bh_error *err)
{
	const struct bh_oci_console *console = arg;

	return console->socket ? bh_oci_send_fd("console", console->socket, "/dev/ptmx", master_fd, err) : 0;
}
