/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/socket.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define FILES_MAX 16
#define TCP_PREFIX "tcp://"

union tcp_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

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

static int parse_tcp(const char *place, union tcp_address *ret_address, socklen_t *ret_length, struct bh_error *err)
{
	const char *host = place + strlen(TCP_PREFIX), *colon = strrchr(host, ':');
	size_t length = colon ? (size_t)(colon - host) : 0;
	bool v6 = length > 2 && host[0] == '[' && host[length - 1] == ']';
	bh_auto_free char *text = v6 ? bh_strndup(host + 1, length - 2) : bh_strndup(host, length);
	union tcp_address address = { 0 };
	int64_t port;

	if (!colon || bh_parse_int(colon + 1, 1, UINT16_MAX, &port) < 0 ||
	    inet_pton(v6 ? AF_INET6 : AF_INET, text, v6 ? (void *)&address.v6.sin6_addr : (void *)&address.v4.sin_addr) != 1)
		return bh_error_text(err, EINVAL, "%s: tcp://ADDRESS:PORT is expected, an IPv6 address in brackets", place);
	if (v6) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons((uint16_t)port);
	} else {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons((uint16_t)port);
	}
	*ret_address = address;
	*ret_length = v6 ? sizeof address.v6 : sizeof address.v4;
	return 0;
}

/* A connect(2) ends with the time that a send may take. What is written goes out at once: the last words are small, and the machine stands. */
static int limit_tcp(int fd, int send_ms)
{
	const struct timeval silence = { .tv_sec = BH_TCP_SILENCE_MS / 1000 }, send = { .tv_sec = send_ms / 1000 };
	const unsigned unanswered_ms = BH_TCP_SILENCE_MS;
	const int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof send) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
		return -errno;
	return 0;
}

static int tcp_connect(const char *place, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	union tcp_address address = { 0 };
	socklen_t length = 0;
	int r = parse_tcp(place, &address, &length, err);

	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || limit_tcp(fd, BH_TCP_CONNECT_MS) < 0)
		return bh_error_set(err, errno, "make a socket");
	if (connect(fd, &address.any, length) < 0)
		return bh_error_set(err, errno == EINPROGRESS ? ETIMEDOUT : errno, "connect to %s", place);
	return BH_TAKE_FD(fd);
}

static int tcp_listen(const char *place, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	union tcp_address address = { 0 };
	const int on = 1;
	socklen_t length = 0;
	int r = parse_tcp(place, &address, &length, err);

	if (r < 0)
		return r;
	fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return bh_error_set(err, errno, "make a socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind(fd, &address.any, length) < 0 || listen(fd, 1) < 0)
		return bh_error_set(err, errno, "listen at %s", place);
	return BH_TAKE_FD(fd);
}

int bh_socket_connect(const char *place, struct bh_error *err)
{
	return bh_has_prefix(place, TCP_PREFIX) ? tcp_connect(place, err) : bh_unix_connect(place, err);
}

int bh_socket_accept_one(const char *place, struct bh_error *err)
{
	bool tcp = bh_has_prefix(place, TCP_PREFIX);
	bh_auto_close int listener = tcp ? tcp_listen(place, err) : bh_unix_listen(place, err), fd = -1;
	int r;

	if (listener < 0)
		return listener;
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	r = fd < 0 ? -errno : tcp ? limit_tcp(fd, BH_TCP_SILENCE_MS) : 0;
	if (!tcp)
		unlink(place);
	return r < 0 ? bh_error_set(err, -r, "wait for somebody at %s", place) : BH_TAKE_FD(fd);
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
