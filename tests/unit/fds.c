/* SPDX-License-Identifier: Apache-2.0 */
/* Closing many fds with few calls. */
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define FIRST 100

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Every third number is somebody else's, and the order is not that of the numbers. */
static void close_some(size_t count)
{
	int fds[120], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int *places[120];

	assert_true(null >= 0);
	for (size_t i = 0; i < count; i++) {
		fds[i] = dup3(null, FIRST + (int)(i * 7 % count), O_CLOEXEC);
		assert_true(fds[i] >= 0);
		places[i] = &fds[i];
	}
	for (size_t i = 0; i < count; i += 3)
		fds[i] = -1;
	bh_close_fds(places, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(fds[i], -1);
		assert_int_equal(is_open(FIRST + (int)(i * 7 % count)), i % 3 == 0);
	}
	close(null);
	assert_int_equal(bh_close_range(FIRST, FIRST + 200, 0), 0);
}

static void test_close_fds(void **state)
{
	static const size_t counts[] = { 0, 1, 2, 5, 24, 110 };

	(void)state;
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		close_some(counts[i]);
		bh_linux_force_enosys(BH_CALL_CLOSE_RANGE);
		close_some(counts[i]);
		bh_linux_force_enosys(0);
	}
}

static void test_started_as(void **state)
{
	(void)state;
	assert_int_equal(bh_started_as(), geteuid());
	assert_int_equal(bh_started_in_group(getegid()), getgid() == getegid());
	assert_false(bh_started_in_group(getegid() + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_close_fds), cmocka_unit_test(test_started_as) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
