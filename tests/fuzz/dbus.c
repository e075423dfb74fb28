/* SPDX-License-Identifier: Apache-2.0 */
/* What a bus could send: the first byte chooses between a message and the text of a value. */
#include "cgroup/dbus-internal.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_message(const uint8_t *data, size_t size)
{
	struct bh_dbus_message message;
	struct bh_dbus_cursor cursor;

	if (bh_dbus_parse(data, size, &message) < 0)
		return;
	cursor = (struct bh_dbus_cursor){ .bytes = message.body, .length = message.body_length };
	while (!cursor.failed && cursor.offset < cursor.length) {
		(void)strlen(bh_dbus_get_string(&cursor));
		bh_dbus_get_u32(&cursor);
		(void)strlen(bh_dbus_get_signature(&cursor));
	}
}

static void read_value(const uint8_t *data, size_t size)
{
	bh_auto_free char *text = bh_strndup((const char *)data, size);
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_dbus_value value;

	if (bh_dbus_value_parse(text, &value, NULL) < 0)
		return;
	bh_dbus_put_u8(&out, 0);
	bh_dbus_put_value(&out, &value);
	(void)bh_dbus_value_to_usec(&value);
	bh_dbus_value_clear(&value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (*data & 1)
		read_message(data + 1, size - 1);
	else
		read_value(data + 1, size - 1);
	return 0;
}
