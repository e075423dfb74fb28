/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/reference.h"

#include "base/string.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
	const char *text, *full, *familiar;
} good[] = {
	{ "busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36" },
	{ "library/busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest" },
	{ "team/box:v1", "docker.io/team/box:v1", "team/box:v1" },
	{ "localhost/box", "localhost/box:latest", "localhost/box:latest" },
	{ "localhost:5000/box", "localhost:5000/box:latest", "localhost:5000/box:latest" },
	{ "there.example/a/b/c:x", "there.example/a/b/c:x", "there.example/a/b/c:x" },
	{ "Upper/box", "Upper/box:latest", "Upper/box:latest" },
	{ "127.0.0.1:5000/a-b_c.d__e", "127.0.0.1:5000/a-b_c.d__e:latest", "127.0.0.1:5000/a-b_c.d__e:latest" },
	{ "[::1]:5000/box", "[::1]:5000/box:latest", "[::1]:5000/box:latest" },
	{ "docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest" },
	{ "box@sha256:" HEX, "docker.io/library/box@sha256:" HEX, "box@sha256:" HEX },
	{ "box:1@sha256:" HEX, "docker.io/library/box:1@sha256:" HEX, "box:1@sha256:" HEX },
};

static const char *const bad[] = {
	"",
	":",
	"/",
	"@",
	"box:",
	"box@",
	"box@sha256:12",
	"Box",
	"a//b",
	"/box",
	"box/",
	"a..b",
	"a___b",
	"-a",
	"a-",
	".a",
	"a.",
	"_a",
	"a b",
	"a\tb",
	"box:-x",
	"box:a b",
	"box:a/b:c",
	"there.example:port/box",
	"there..example/box",
	"-x.example/box",
	"box:ü",
	HEX,
	"a@sha512:" HEX,
	"[::1/box",
	"box@sha256:" HEX "0",
	"a/../b",
	"../a",
};

static void test_good(void **state)
{
	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(good); i++) {
		bh_auto_reference struct bh_reference reference = { 0 };
		struct bh_error err = BH_ERROR_INIT;
		bh_auto_free char *full = NULL, *familiar = NULL;

		if (bh_reference_parse(good[i].text, &reference, &err) < 0)
			fail_msg("%s: %s", good[i].text, err.message);
		full = bh_reference_full(&reference);
		familiar = bh_reference_familiar(&reference);
		assert_string_equal(full, good[i].full);
		assert_string_equal(familiar, good[i].familiar);
	}
}

static void test_bad(void **state)
{
	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
		struct bh_reference reference = { 0 };
		struct bh_error err = BH_ERROR_INIT;

		if (bh_reference_parse(bad[i], &reference, &err) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_null(reference.registry);
		assert_non_null(strstr(err.message, "invalid re"));
	}
}

static void test_lengths(void **state)
{
	char text[2000];
	struct bh_reference reference = { 0 };

	(void)state;
	memset(text, 'a', sizeof text);
	text[1500] = '\0';
	assert_int_equal(bh_reference_parse(text, &reference, NULL), -EINVAL);
	text[256] = '\0';
	assert_int_equal(bh_reference_parse(text, &reference, NULL), -EINVAL);
	text[10] = ':';
	text[11 + 128] = '\0';
	assert_int_equal(bh_reference_parse(text, &reference, NULL), 0);
	bh_reference_clear(&reference);
	text[11 + 128] = 'a';
	text[11 + 129] = '\0';
	assert_int_equal(bh_reference_parse(text, &reference, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
