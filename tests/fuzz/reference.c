/* SPDX-License-Identifier: Apache-2.0 */
/* Image references: the familiar and the full form of what parses mean the same again. */
#include "oci/reference.h"

#include "base/string.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bh_auto_free char *text = bh_strndup((const char *)data, size);
	bh_auto_reference struct bh_reference first = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	if (bh_reference_parse(text, &first, &err) < 0) {
		if (!err.message[0])
			__builtin_trap();
		return 0;
	}
	for (int form = 0; form < 2; form++) {
		bh_auto_reference struct bh_reference second = { 0 };
		bh_auto_free char *shown = form ? bh_reference_full(&first) : bh_reference_familiar(&first);

		if (bh_reference_parse(shown, &second, NULL) < 0 || !bh_streq(first.registry, second.registry) ||
		    !bh_streq(first.repository, second.repository) || !bh_streq(first.tag, second.tag) || !bh_streq(first.digest, second.digest))
			__builtin_trap();
	}
	return 0;
}
