/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a Linux guest: connects to a port of the host, or waits for one connection at a port, and copies both ways until both sides have ended.
 *	vsock-peer connect PORT      vsock-peer listen PORT      vsock-peer echo PORT (gives everything back)
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int copy(int from, int to)
{
	static char bytes[65536];
	ssize_t n = read(from, bytes, sizeof bytes);

	for (ssize_t done = 0; done < n;) {
		ssize_t written = write(to, bytes + done, (size_t)(n - done));

		if (written < 0) {
			perror("write");
			exit(1);
		}
		done += written;
	}
	return n > 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0), echo;
	struct pollfd set[2];

	if (argc != 3 || fd < 0)
		return 2;
	echo = !strcmp(argv[1], "echo");
	address.svm_port = (unsigned)atoi(argv[2]);
	address.svm_cid = !strcmp(argv[1], "connect") ? VMADDR_CID_HOST : VMADDR_CID_ANY;
	if (address.svm_cid == VMADDR_CID_HOST) {
		if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
			perror("connect");
			return 1;
		}
	} else {
		if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0)
			return 1;
		puts("listening");
		fflush(stdout);
		fd = accept(fd, NULL, NULL);
	}
	if (echo) {
		while (copy(fd, fd))
			continue;
		return 0;
	}
	set[0] = (struct pollfd){ .fd = 0, .events = POLLIN };
	set[1] = (struct pollfd){ .fd = fd, .events = POLLIN };
	while (set[1].fd >= 0 && poll(set, 2, -1) > 0) {
		if (set[0].revents && !copy(0, fd)) {
			shutdown(fd, SHUT_WR);
			set[0].fd = -1;
		}
		if (set[1].revents && !copy(fd, 1))
			set[1].fd = -1;
	}
	return 0;
}
