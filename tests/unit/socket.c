/* SPDX-License-Identifier: Apache-2.0 */
/* Places that are paths or TCP addresses: what isn't one, who isn't there, and a connection both ways with the limits that its user relies on. */
#include "linux/socket.h"

#include "base/memory.h"
#include "base/string.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* One that nobody listens at, for now; 0: there is no such family here. */
static unsigned free_port(int family)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr *any = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&address;
	socklen_t length = family == AF_INET ? sizeof v4 : sizeof address;
	bh_auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, any, length) < 0 || getsockname(fd, any, &length) < 0)
		return 0;
	return ntohs(family == AF_INET ? v4.sin_port : address.sin6_port);
}

static void test_words(void **state)
{
	static const char *const wrong[] = {
		"tcp://",
		"tcp://127.0.0.1",
		"tcp://127.0.0.1:",
		"tcp://127.0.0.1:0",
		"tcp://127.0.0.1:65536",
		"tcp://127.0.0.1:1x",
		"tcp://:1",
		"tcp://host:1",
		"tcp://::1:1",
		"tcp://[::1]",
		"tcp://[::1]1:1",
		"tcp://[]:1",
		"tcp://[127.0.0.1]:1",
		"tcp://[::1:1",
		"tcp://127.0.0.1:-1",
		"tcp://1.2.3.4/5:1",
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(wrong); i++) {
		bh_auto_free char *words = bh_printf("%s: tcp://ADDRESS:PORT is expected, an IPv6 address in brackets", wrong[i]);
		struct bh_error err = BH_ERROR_INIT;

		assert_int_equal(bh_socket_connect(wrong[i], &err), -EINVAL);
		assert_string_equal(err.message, words);
		err = (struct bh_error)BH_ERROR_INIT;
		assert_int_equal(bh_socket_accept_one(wrong[i], &err), -EINVAL);
		assert_string_equal(err.message, words);
	}
}

static void test_refused(void **state)
{
	bh_auto_free char *place = bh_printf("tcp://127.0.0.1:%u", free_port(AF_INET));
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_socket_connect(place, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.message, place));
}

static void *accept_one(void *place)
{
	return (void *)(intptr_t)bh_socket_accept_one(place, NULL);
}

static int connect_soon(const char *place)
{
	const struct timespec moment = { .tv_nsec = 5000000 };
	int fd = -1;

	for (int i = 0; i < 1000 && fd < 0; i++) {
		fd = bh_socket_connect(place, NULL);
		if (fd < 0)
			nanosleep(&moment, NULL);
	}
	return fd;
}

static int64_t seconds_of(int fd, int option)
{
	struct timeval time = { 0 };
	socklen_t length = sizeof time;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, option, &time, &length), 0);
	return time.tv_sec;
}

static void check_limits(int fd, int send_ms)
{
	unsigned unanswered_ms = 0;
	socklen_t length = sizeof unanswered_ms;

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, &length), 0);
	assert_int_equal(unanswered_ms, BH_TCP_SILENCE_MS);
	assert_int_equal(seconds_of(fd, SO_RCVTIMEO), BH_TCP_SILENCE_MS / 1000);
	assert_int_equal(seconds_of(fd, SO_SNDTIMEO), send_ms / 1000);
}

/* The two ends of a connection; whoever comes second finds nobody. */
static void meet(const char *place, bool tcp)
{
	bh_auto_free char *copy = bh_strdup(place);
	bh_auto_close int out = -1, in = -1;
	pthread_t thread;
	void *accepted;
	char byte = 0;

	assert_int_equal(pthread_create(&thread, NULL, accept_one, copy), 0);
	out = connect_soon(place);
	assert_true(out >= 0);
	pthread_join(thread, &accepted);
	in = (int)(intptr_t)accepted;
	assert_true(in >= 0);
	assert_int_equal(write(out, "x", 1), 1);
	assert_int_equal(read(in, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	if (tcp) {
		check_limits(out, BH_TCP_CONNECT_MS);
		check_limits(in, BH_TCP_SILENCE_MS);
	}
	assert_int_equal(bh_socket_connect(place, NULL), tcp ? -ECONNREFUSED : -ENOENT);
}

static void test_meet(void **state)
{
	unsigned v4 = free_port(AF_INET), v6 = free_port(AF_INET6);
	bh_auto_free char *v4_place = bh_printf("tcp://127.0.0.1:%u", v4), *v6_place = bh_printf("tcp://[::1]:%u", v6);
	char folder[] = "/tmp/bulkhead-test.XXXXXX";
	bh_auto_free char *path = NULL;

	(void)state;
	assert_true(v4);
	meet(v4_place, true);
	if (v6)
		meet(v6_place, true);
	assert_non_null(mkdtemp(folder));
	path = bh_printf("%s/socket", folder);
	meet(path, false);
	assert_int_equal(rmdir(folder), 0);
}

/* Somebody listens there already, and goes on. */
static void test_taken(void **state)
{
	char folder[] = "/tmp/bulkhead-test.XXXXXX";
	bh_auto_free char *path = NULL;
	bh_auto_close int listener = -1, fd = -1;

	(void)state;
	assert_non_null(mkdtemp(folder));
	path = bh_printf("%s/socket", folder);
	listener = bh_unix_listen(path, NULL);
	assert_true(listener >= 0);
	assert_int_equal(bh_socket_accept_one(path, NULL), -EADDRINUSE);
	fd = bh_socket_connect(path, NULL);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_meet),
		cmocka_unit_test(test_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
