/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: what a machine's owner wants where no option and no variable says it.
 *
 * A line is KEY = VALUE, or empty, or begins with '#'. A key is the long name of the option that it stands for. What isn't understood is an
 * error for whoever needs the file: a default that is silently not applied is worse than none.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

#define CONFIG_MAX (64u << 10)
#define BLANKS " \t\r"

void bh_microvm_defaults_clear(struct bh_microvm_defaults *d)
{
	bh_free_ptr(&d->kernel);
	bh_free_ptr(&d->accelerator);
}

static bool is_absolute(const char *value)
{
	return *value == '/';
}

static bool is_accelerator(const char *value)
{
	return bh_streq(value, "auto") || bh_streq(value, "kvm") || bh_streq(value, "tcg");
}

static const struct key {
	const char *name;
	size_t offset;
	bool (*fits)(const char *value);
	const char *wanted;
} keys[] = {
	{ "kernel", offsetof(struct bh_microvm_defaults, kernel), is_absolute, "the absolute path of a file" },
	{ "accel", offsetof(struct bh_microvm_defaults, accelerator), is_accelerator, "kvm, tcg or auto" },
};

static const struct key *find_key(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(keys); i++)
		if (bh_streq(name, keys[i].name))
			return &keys[i];
	return NULL;
}

/* Without the blanks around it; shortens the text in place. */
static char *trim(char *text)
{
	size_t length;

	text += strspn(text, BLANKS);
	length = strlen(text);
	while (length && strchr(BLANKS, text[length - 1]))
		length--;
	text[length] = '\0';
	return text;
}

static int take_line(char *line, struct bh_microvm_defaults *d, struct bh_error *err)
{
	char *name = trim(line), *value = strchr(name, '='), **field;
	const struct key *key;

	if (!*name || *name == '#')
		return 0;
	if (!value)
		return bh_error_text(err, EINVAL, "KEY = VALUE is expected, not '%s'", name);
	*value++ = '\0';
	name = trim(name);
	value = trim(value);
	key = find_key(name);
	if (!key)
		return bh_error_text(err, EINVAL, "the key '%s' is unknown", name);
	if (!key->fits(value))
		return bh_error_text(err, EINVAL, "%s = %s: %s is expected", name, value, key->wanted);
	field = (char **)((char *)d + key->offset);
	if (*field)
		return bh_error_text(err, EINVAL, "%s is set for the second time", name);
	*field = bh_strdup(value);
	return 0;
}

int bh_microvm_defaults_read(const char *path, struct bh_microvm_defaults *ret_defaults, struct bh_error *err)
{
	bh_auto(bh_microvm_defaults_clear) struct bh_microvm_defaults d = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(AT_FDCWD, path, CONFIG_MAX, &text, err);

	if (r == -ENOENT) {
		bh_error_clear(err);
		*ret_defaults = d;
		return 0;
	}
	if (r < 0)
		return r;
	if (text.length && memchr(text.data, '\0', text.length))
		return bh_error_text(err, EINVAL, "%s: is no text", path);
	lines = bh_strv_split(text.data ? text.data : "", '\n');
	for (size_t i = 0; i < lines.count; i++)
		if (take_line(lines.items[i], &d, err) < 0)
			return bh_error_prefix(err, "%s:%zu", path, i + 1);
	*ret_defaults = d;
	d = (struct bh_microvm_defaults){ 0 };
	return 0;
}
