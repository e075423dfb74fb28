/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Works a disk or a TCP stream and says how it went: "NAME OPERATIONS BYTES NANOSECONDS".
 *	io read|write|random FILE BLOCK COUNT    past the page cache; random reads
 *	io send ADDRESS PORT BYTES               until the other side has it all
 *	io sink ADDRESS PORT                     one connection, read to its end
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char *buffer;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int disk(const char *name, const char *path, size_t block, uint64_t count)
{
	int writes = strcmp(name, "write") == 0, random_place = strcmp(name, "random") == 0;
	int fd = open(path, (writes ? O_WRONLY : O_RDONLY) | O_DIRECT);
	uint64_t blocks, place = 0, begin;

	if (fd < 0)
		fail(path);
	blocks = (uint64_t)lseek(fd, 0, SEEK_END) / block;
	begin = now();
	for (uint64_t i = 0; i < count; i++) {
		off_t at;

		/* A full period for a power of two (Knuth, volume 2, 3.2.1.2). */
		place = random_place ? place * 5 + 12345 : i;
		at = (off_t)(place % blocks * block);
		if ((writes ? pwrite(fd, buffer, block, at) : pread(fd, buffer, block, at)) != (ssize_t)block)
			fail(name);
	}
	if (writes && fsync(fd) < 0)
		fail("fsync");
	printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", name, count, count * block, now() - begin);
	return 0;
}

static int make_socket(const char *address, const char *port, struct sockaddr_in *ret_place)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	*ret_place = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	if (fd < 0 || inet_pton(AF_INET, address, &ret_place->sin_addr) != 1)
		fail(address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	return fd;
}

static int send_all(const char *address, const char *port, uint64_t bytes)
{
	struct sockaddr_in place;
	int fd = make_socket(address, port, &place);
	uint64_t begin, operations = 0, done = 0;

	if (connect(fd, (struct sockaddr *)&place, sizeof place) < 0)
		fail("connect");
	for (begin = now(); done < bytes; operations++) {
		ssize_t n = write(fd, buffer, 65536);

		if (n <= 0)
			fail("write");
		done += (uint64_t)n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, buffer, 1) != 0)
		fail("the other side");
	printf("send %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", operations, done, now() - begin);
	return 0;
}

static int sink(const char *address, const char *port)
{
	struct sockaddr_in place;
	int fd = make_socket(address, port, &place), connection;

	if (bind(fd, (struct sockaddr *)&place, sizeof place) < 0 || listen(fd, 1) < 0)
		fail("listen");
	connection = accept(fd, NULL, NULL);
	if (connection < 0)
		fail("accept");
	while (read(connection, buffer, 65536) > 0)
		continue;
	return 0;
}

int main(int argc, char **argv)
{
	if (posix_memalign((void **)&buffer, 65536, 1 << 20))
		fail("memory");
	memset(buffer, 0x5a, 1 << 20);
	if (argc == 5 && strcmp(argv[1], "send") == 0)
		return send_all(argv[2], argv[3], strtoull(argv[4], NULL, 10));
	if (argc == 5)
		return disk(argv[1], argv[2], (size_t)strtoul(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "sink") == 0)
		return sink(argv[2], argv[3]);
	return 2;
}
