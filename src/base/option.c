/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <errno.h>

static bool takes_value(const struct bh_option *o)
{
	return o->type != BH_OPTION_BOOL && o->type != BH_OPTION_OPTIONAL && o->type != BH_OPTION_TRISTATE;
}

static const struct bh_option *find_long(const struct bh_option *const *sets, const char *name, size_t length)
{
	for (size_t s = 0; s < BH_OPTION_SETS_MAX && sets[s]; s++)
		for (const struct bh_option *o = sets[s]; o->name; o++)
			if (strlen(o->name) == length && memcmp(o->name, name, length) == 0)
				return o;
	return NULL;
}

static const struct bh_option *find_short(const struct bh_option *const *sets, char name)
{
	for (size_t s = 0; s < BH_OPTION_SETS_MAX && sets[s]; s++)
		for (const struct bh_option *o = sets[s]; o->name; o++)
			if (o->short_name == name)
				return o;
	return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
	bh_auto_strv struct bh_strv allowed = bh_strv_split(choices, '|');

	return bh_strv_contains(&allowed, value);
}

static int parse_number(const struct bh_option *o, const char *value, int64_t *field)
{
	uint64_t bytes = 0;
	int r;

	switch (o->type) {
	case BH_OPTION_INT:
		return bh_parse_int(value, INT64_MIN, INT64_MAX, field);
	case BH_OPTION_BYTES:
		if (bh_streq(value, "-1")) {
			*field = -1;
			return 0;
		}
		r = bh_parse_bytes(value, &bytes);
		if (r == 0)
			*field = (int64_t)bytes;
		return r;
	case BH_OPTION_DURATION:
		return bh_parse_duration(value, field);
	default:
		return bh_parse_nano(value, field);
	}
}

static int store(const struct bh_option *o, void *options, const char *value, const char *shown, struct bh_error *err)
{
	void *field = (char *)options + o->offset;
	bool flag = true;
	int r = 0;

	if (o->choices && value && !is_choice(o->choices, value))
		return bh_error_text(err, EINVAL, "invalid argument \"%s\" for \"%s\" flag: must be one of %s", value, shown, o->choices);
	switch (o->type) {
	case BH_OPTION_BOOL:
	case BH_OPTION_TRISTATE:
		if (value)
			r = bh_parse_bool(value, &flag);
		if (r == 0 && o->type == BH_OPTION_BOOL)
			*(bool *)field = flag;
		else if (r == 0)
			*(int *)field = flag;
		break;
	case BH_OPTION_STRING:
	case BH_OPTION_OPTIONAL:
		*(const char **)field = value ? value : "";
		break;
	case BH_OPTION_LIST:
		bh_strv_add(field, value);
		break;
	default:
		r = parse_number(o, value, field);
	}
	if (r < 0)
		return bh_error_text(err, EINVAL, "invalid argument \"%s\" for \"%s\" flag: %s", value, shown,
				     r == -ERANGE ? "value out of range" : "invalid syntax");
	return 0;
}

static int parse_long(const struct bh_option *const *sets, void *options, int argc, char **argv, int *index, struct bh_error *err)
{
	const char *name = argv[*index] + 2, *value = strchr(name, '=');
	size_t length = value ? (size_t)(value - name) : strlen(name);
	const struct bh_option *o = find_long(sets, name, length);
	char shown[64];

	if (!o && length == 4 && memcmp(name, "help", 4) == 0)
		return -ECANCELED;
	if (!o)
		return bh_error_text(err, EINVAL, "unknown flag: --%.*s", (int)length, name);
	snprintf(shown, sizeof shown, "--%s", o->name);
	if (value)
		return store(o, options, value + 1, shown, err);
	if (!takes_value(o))
		return store(o, options, NULL, shown, err);
	if (*index + 1 >= argc)
		return bh_error_text(err, EINVAL, "flag needs an argument: --%s", o->name);
	return store(o, options, argv[++*index], shown, err);
}

static int parse_short(const struct bh_option *const *sets, void *options, int argc, char **argv, int *index, struct bh_error *err)
{
	const char *bundle = argv[*index] + 1;

	for (const char *c = bundle; *c; c++) {
		const struct bh_option *o = find_short(sets, *c);
		char shown[80];
		const char *value;
		int r;

		if (!o && *c == 'h' && !c[1])
			return -ECANCELED;
		if (!o)
			return bh_error_text(err, EINVAL, "unknown shorthand flag: '%c' in -%s", *c, bundle);
		snprintf(shown, sizeof shown, "-%c, --%s", *c, o->name);
		if (c[1] == '=')
			return store(o, options, c + 2, shown, err);
		if (!takes_value(o)) {
			r = store(o, options, NULL, shown, err);
			if (r < 0)
				return r;
			continue;
		}
		value = c[1] ? c + 1 : *index + 1 < argc ? argv[++*index] : NULL;
		if (!value)
			return bh_error_text(err, EINVAL, "flag needs an argument: '%c' in -%s", *c, bundle);
		return store(o, options, value, shown, err);
	}
	return 0;
}

int bh_options_parse(const struct bh_option *const *sets, void *options, bool stop_at_argument, int argc, char **argv, int *ret_argc,
		     struct bh_error *err)
{
	bool end = false;
	int kept = 0;

	for (int i = 0; i < argc; i++) {
		int r = 0;

		if (end || argv[i][0] != '-' || !argv[i][1]) {
			argv[kept++] = argv[i];
			end = end || stop_at_argument;
			continue;
		}
		if (bh_streq(argv[i], "--"))
			end = true;
		else if (argv[i][1] == '-')
			r = parse_long(sets, options, argc, argv, &i, err);
		else
			r = parse_short(sets, options, argc, argv, &i, err);
		if (r < 0)
			return r;
	}
	if (kept < argc)
		argv[kept] = NULL;
	*ret_argc = kept;
	return 0;
}

void bh_options_clear(const struct bh_option *const *sets, void *options)
{
	for (size_t s = 0; s < BH_OPTION_SETS_MAX && sets[s]; s++)
		for (const struct bh_option *o = sets[s]; o->name; o++)
			if (o->type == BH_OPTION_LIST)
				bh_strv_clear((struct bh_strv *)(void *)((char *)options + o->offset));
}

static int by_name(const void *a, const void *b)
{
	const struct bh_option *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

/* An option that is wider has its words on the next line. */
#define OPTION_WIDTH_MAX 36

void bh_command_help(const struct bh_command *command, const char *program, struct bh_buf *out)
{
	const struct bh_option *sorted[256];
	size_t count = 0, width = 0;

	bh_buf_addf(out, "Usage:  %s %s %s\n\n%s\n", program, command->name, command->synopsis, command->summary);
	if (command->alias) {
		bh_buf_adds(out, "\nAliases:  ");
		for (const char *c = command->alias; *c; c++)
			bh_buf_adds(out, *c == ' ' ? ", " : *c == '.' ? " " : (char[]){ *c, '\0' });
		bh_buf_addc(out, '\n');
	}
	for (size_t s = 0; s < BH_OPTION_SETS_MAX && command->sets[s]; s++)
		for (const struct bh_option *o = command->sets[s]; o->name && count < BH_ARRAY_SIZE(sorted); o++)
			if (!o->hidden)
				sorted[count++] = o;
	qsort((void *)sorted, count, sizeof sorted[0], by_name); /* NOLINT(bugprone-sizeof-expression): an array of pointers */
	for (size_t i = 0; i < count; i++)
		width = BH_MIN(BH_MAX(width, strlen(sorted[i]->name) + (sorted[i]->argument ? strlen(sorted[i]->argument) + 1 : 0)),
			       (size_t)OPTION_WIDTH_MAX);
	if (count)
		bh_buf_adds(out, "\nOptions:\n");
	for (size_t i = 0; i < count; i++) {
		const struct bh_option *o = sorted[i];
		bh_auto_free char *left = o->argument ? bh_printf("%s %s", o->name, o->argument) : bh_strdup(o->name);

		if (o->short_name)
			bh_buf_addf(out, "  -%c, ", o->short_name);
		else
			bh_buf_adds(out, "      ");
		bh_buf_addf(out, "--%-*s", (int)width, left);
		if (strlen(left) > width)
			bh_buf_addf(out, "\n%*s", (int)width + 8, "");
		bh_buf_addf(out, "   %s\n", o->help);
	}
}
