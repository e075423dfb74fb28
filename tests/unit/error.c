/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: words, order of prefixes, and that nothing from outside can forge a second line. */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_set_names_the_reason(void **state)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_error_set(&err, ENOENT, "open %s", "/x"), -ENOENT);
	assert_string_equal(err.message, "open /x: No such file or directory");
	assert_int_equal(bh_error_prefix(&err, "image %s", "a"), -ENOENT);
	assert_string_equal(err.message, "image a: open /x: No such file or directory");
}

static void test_text_is_one_line(void **state)
{
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(bh_error_text(&err, 0, "bad name 'a\nbulkhead: forged\x1b[2J'"), -EINVAL);
	assert_null(strchr(err.message, '\n'));
	assert_null(strchr(err.message, '\x1b'));
}

static void test_long_messages_are_cut(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	char text[3000];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_int_equal(bh_error_set(&err, EIO, "%s", text), -EIO);
	assert_int_equal(strlen(err.message), sizeof err.message - 1);
	assert_int_equal(bh_error_prefix(&err, "%s", text), -EIO);
	assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void test_null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(bh_error_set(NULL, EIO, "x"), -EIO);
	assert_int_equal(bh_error_text(NULL, 0, "x"), -EINVAL);
	bh_error_clear(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_names_the_reason),
		cmocka_unit_test(test_text_is_one_line),
		cmocka_unit_test(test_long_messages_are_cut),
		cmocka_unit_test(test_null_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
