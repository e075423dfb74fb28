/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/socket.h"

#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES_MAX 16

/* Through the folder's descriptor: sun_path has 107 bytes, a path may have more. */
static int address_of(const char *path, struct sockaddr_un *ret_address, int *ret_folder_fd, struct bh_error *err)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	bh_auto_free char *folder = slash ? bh_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : bh_strdup(".");
	int fd = bh_open_dir(AT_FDCWD, folder, O_PATH, err);

	if (fd < 0)
		return fd;
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "/proc/self/fd/%d/%s", fd, name) >= (int)sizeof ret_address->sun_path) {
		close(fd);
		return bh_error_set(err, ENAMETOOLONG, "the socket %s", path);
	}
	*ret_folder_fd = fd;
	return 0;
}

int bh_unix_listen(const char *path, struct bh_error *err)
{
	bh_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), folder = -1;
	struct sockaddr_un address;
	int r = fd < 0 ? bh_error_set(err, errno, "make a socket") : address_of(path, &address, &folder, err);

	if (r < 0)
		return r;
	/* The mode of the socket is that of its file: nobody else may connect, not even for a moment. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0)
		return bh_error_set(err, errno, "listen at %s", path);
	return BH_TAKE_FD(fd);
}

int bh_unix_connect(const char *path, struct bh_error *err)
{
	bh_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), folder = -1;
	struct sockaddr_un address;
	int r = fd < 0 ? bh_error_set(err, errno, "make a socket") : address_of(path, &address, &folder, err);

	if (r < 0)
		return r;
	return connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? bh_error_set(err, errno, "connect to %s", path) : BH_TAKE_FD(fd);
}

int bh_unix_send(int fd, const void *bytes, size_t length, const int *files, size_t file_count)
{
	union {
		char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)(uintptr_t)bytes, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t n;

	if (file_count > FILES_MAX)
		return -E2BIG;
	if (file_count) {
		struct cmsghdr *head = &control.align;

		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(file_count * sizeof(int));
		*head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(file_count * sizeof(int)) };
		memcpy(CMSG_DATA(head), files, file_count * sizeof(int));
	}
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)length ? 0 : -EMSGSIZE;
}
