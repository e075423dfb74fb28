/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>

/* One line only: a newline or control byte in a message (from an image, a config) would forge lines of output. */
static void flatten(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = ' ';
}

static int result(int errnum)
{
	return errnum ? -errnum : -EINVAL;
}

int(bh_error_set)(struct bh_error *err, int errnum, const char *format, ...)
{
	va_list args;
	size_t length;

	if (!err)
		return result(errnum);
	va_start(args, format);
	vsnprintf(err->message, sizeof err->message, format, args);
	va_end(args);
	length = strlen(err->message);
	if (errnum)
		snprintf(err->message + length, sizeof err->message - length, ": %s", strerror(errnum));
	flatten(err->message);
	err->errnum = errnum;
	return result(errnum);
}

int(bh_error_text)(struct bh_error *err, int errnum, const char *format, ...)
{
	va_list args;

	if (!err)
		return result(errnum);
	va_start(args, format);
	vsnprintf(err->message, sizeof err->message, format, args);
	va_end(args);
	flatten(err->message);
	err->errnum = errnum;
	return result(errnum);
}

int(bh_error_prefix)(struct bh_error *err, const char *format, ...)
{
	char old[sizeof err->message];
	va_list args;
	size_t length;

	if (!err)
		return -EINVAL;
	memcpy(old, err->message, sizeof old);
	va_start(args, format);
	vsnprintf(err->message, sizeof err->message, format, args);
	va_end(args);
	length = strlen(err->message);
	snprintf(err->message + length, sizeof err->message - length, ": %s", old);
	flatten(err->message);
	return result(err->errnum);
}

void bh_error_clear(struct bh_error *err)
{
	if (!err)
		return;
	err->errnum = 0;
	err->exit_code = 0;
	err->of_workload = false;
	err->message[0] = '\0';
}
