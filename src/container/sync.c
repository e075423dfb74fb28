/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages over the sync socket (SOCK_SEQPACKET: one send is one receive, and the end is told to the other side).
 * Both ends are this program until the container's process executes the stub, whose messages are shorter.
 */
#include "container/container-internal.h"

#include "container/stub/exec-stub.h"

#include <errno.h>
#include <sys/socket.h>

union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int bh_sync_send(int sync, const struct bh_message *message, int pass_fd)
{
	struct iovec part = { (void *)(uintptr_t)message, offsetof(struct bh_message, text) + strlen(message->text) + 1 };
	union control control = { 0 };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

	if (pass_fd >= 0) {
		header.msg_control = &control;
		header.msg_controllen = sizeof control.space;
		control.header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof pass_fd);
	}
	while (sendmsg(sync, &header, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int take_fd(struct msghdr *header)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(header);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd;
}

static struct bh_message from_stub(const void *bytes)
{
	struct bh_stub_message stub;

	memcpy(&stub, bytes, sizeof stub);
	switch (stub.kind) {
	case BH_STUB_FAILED:
		return (struct bh_message){ .kind = BH_MESSAGE_FAILED, .errnum = stub.value };
	case BH_STUB_PID:
		return (struct bh_message){ .kind = BH_MESSAGE_PID, .value = stub.value };
	case BH_STUB_READY:
		return (struct bh_message){ .kind = BH_MESSAGE_READY };
	default:
		return (struct bh_message){ 0 };
	}
}

int bh_sync_receive(int sync, struct bh_message *ret_message, int *ret_fd)
{
	struct bh_message message = { 0 };
	struct iovec part = { &message, sizeof message - 1 };
	union control control = { 0 };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space };
	ssize_t n;
	int fd;

	do
		n = recvmsg(sync, &header, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return 0;
	fd = take_fd(&header);
	if (n == sizeof(struct bh_stub_message))
		message = from_stub(&message);
	else if ((size_t)n < offsetof(struct bh_message, text))
		message.kind = 0;
	if (ret_fd)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	*ret_message = message;
	return 1;
}

int bh_sync_send_error(int sync, const struct bh_error *why)
{
	struct bh_message message = { .kind = BH_MESSAGE_ERROR, .errnum = why->errnum, .exit_code = why->exit_code };

	snprintf(message.text, sizeof message.text, "%s", why->message);
	return bh_sync_send(sync, &message, -1);
}
