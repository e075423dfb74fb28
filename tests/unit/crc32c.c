/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of snapshots, against the values of RFC 3720, B.4. */
#include "vmm/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

static void test_values(void **state)
{
	uint8_t bytes[32] = { 0 };

	(void)state;
	assert_int_equal(bh_crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof bytes);
	assert_int_equal(bh_crc32c(0, bytes, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(bh_crc32c(0, bytes, 32), 0x46dd794e);
	assert_int_equal(bh_crc32c(bh_crc32c(0, bytes, 5), bytes + 5, 27), 0x46dd794e);
	assert_int_equal(bh_crc32c(0, bytes, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_values) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
