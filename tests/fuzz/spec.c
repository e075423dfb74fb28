/* SPDX-License-Identifier: Apache-2.0 */
/* Runtime configuration JSON: what parses must be writable, and what was written must parse to the same text. */
#include "oci/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec first = { 0 }, second = { 0 };
	bh_auto_buf struct bh_buf one = { 0 }, two = { 0 };

	if (bh_spec_parse((const char *)data, size, &first, &err) < 0) {
		if (!err.message[0])
			__builtin_trap();
		return 0;
	}
	bh_spec_write(&first, &one);
	if (bh_spec_parse(one.data, one.length, &second, &err) < 0)
		__builtin_trap();
	bh_spec_write(&second, &two);
	if (one.length != two.length || memcmp(one.data, two.data, one.length) != 0)
		__builtin_trap();
	bh_spec_clear(&first);
	bh_spec_clear(&second);
	return 0;
}
