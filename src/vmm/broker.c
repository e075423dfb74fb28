/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/broker.h"

#include "linux/socket.h"

#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

int bh_broker_pair(int *ret_ours, int *ret_monitors, struct bh_error *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return bh_error_set(err, errno, "make a socket for the monitor's questions");
	*ret_ours = fds[0];
	*ret_monitors = fds[1];
	return 0;
}

int bh_broker_read(int fd, uint32_t *ret_port, uint32_t *ret_id)
{
	uint32_t question[2];
	ssize_t n = recv(fd, question, sizeof question, MSG_DONTWAIT);

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n != sizeof question)
		return -EPIPE;
	*ret_port = question[0];
	*ret_id = question[1];
	return 0;
}

int bh_broker_answer(int fd, uint32_t id, int errnum, int socket_fd)
{
	const uint32_t reply[2] = { id, (uint32_t)errnum };

	return bh_unix_send(fd, reply, sizeof reply, &socket_fd, errnum ? 0 : 1);
}
