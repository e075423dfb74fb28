/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template-internal.h"

#include "oci/image-json.h"

#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>

#define PRINT_DEPTH_MAX 32
#define WIDTH_MAX 4096
#define FLAGS "-+# 0"

/* What a function gets and gives. */
struct call {
	struct json_object **arguments;
	size_t count;
	struct json_object *result;
	const char *why;
	int which; /* for functions that share an implementation */
};

static int refuse(struct call *c, const char *why)
{
	c->why = why;
	return -EINVAL;
}

static const char *text_of(struct json_object *value)
{
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

bool bh_template_is_true(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_boolean:
		return json_object_get_boolean(value);
	case json_type_int:
		return json_object_get_int64(value) != 0;
	case json_type_double:
		return json_object_get_double(value) != 0;
	case json_type_string:
		return json_object_get_string_len(value) > 0;
	case json_type_array:
		return json_object_array_length(value) > 0;
	case json_type_object:
		return json_object_object_length(value) > 0;
	default:
		return false;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print(struct json_object *value, struct bh_buf *out, unsigned depth);

static void print_object(struct json_object *object, struct bh_buf *out, unsigned depth)
{
	bh_auto_strv struct bh_strv keys = { 0 };

	json_object_object_foreach(object, key, unused)
	{
		(void)unused;
		bh_strv_add(&keys, key);
	}
	if (keys.count)
		qsort(keys.items, keys.count, sizeof *keys.items, by_name);
	bh_buf_adds(out, "map[");
	for (size_t i = 0; i < keys.count; i++) {
		struct json_object *member = NULL;

		json_object_object_get_ex(object, keys.items[i], &member);
		bh_buf_addf(out, "%s%s:", i ? " " : "", keys.items[i]);
		print(member, out, depth + 1);
	}
	bh_buf_addc(out, ']');
}

static void print(struct json_object *value, struct bh_buf *out, unsigned depth)
{
	if (depth > PRINT_DEPTH_MAX)
		return;
	switch (json_object_get_type(value)) {
	case json_type_null:
		bh_buf_adds(out, depth ? "<nil>" : "<no value>");
		break;
	case json_type_string:
		bh_buf_add(out, json_object_get_string(value), (size_t)json_object_get_string_len(value));
		break;
	case json_type_array:
		bh_buf_addc(out, '[');
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			if (i)
				bh_buf_addc(out, ' ');
			print(json_object_array_get_idx(value, i), out, depth + 1);
		}
		bh_buf_addc(out, ']');
		break;
	case json_type_object:
		print_object(value, out, depth);
		break;
	case json_type_double:
		bh_buf_addf(out, "%.12g", json_object_get_double(value));
		break;
	default:
		bh_buf_adds(out, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
	}
}

void bh_template_print(struct json_object *value, struct bh_buf *out)
{
	print(value, out, 0);
}

static int call_json(struct call *c)
{
	c->result = json_object_new_string(json_object_to_json_string_ext(c->arguments[0], JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	return 0;
}

static int call_index(struct call *c)
{
	struct json_object *value = c->arguments[0];

	for (size_t i = 1; i < c->count; i++) {
		struct json_object *key = c->arguments[i], *found = NULL;

		if (json_object_is_type(value, json_type_object) && text_of(key)) {
			json_object_object_get_ex(value, text_of(key), &found);
		} else if (json_object_is_type(value, json_type_array) && json_object_is_type(key, json_type_int)) {
			int64_t place = json_object_get_int64(key);

			if (place < 0 || (size_t)place >= json_object_array_length(value))
				return refuse(c, "index out of range");
			found = json_object_array_get_idx(value, (size_t)place);
		} else {
			return refuse(c, value ? "can't index item of this type" : "index of untyped nil");
		}
		value = found;
	}
	c->result = json_object_get(value);
	return 0;
}

static int call_len(struct call *c)
{
	struct json_object *value = c->arguments[0];

	switch (json_object_get_type(value)) {
	case json_type_string:
		c->result = json_object_new_int64(json_object_get_string_len(value));
		return 0;
	case json_type_array:
		c->result = json_object_new_int64((int64_t)json_object_array_length(value));
		return 0;
	case json_type_object:
		c->result = json_object_new_int64(json_object_object_length(value));
		return 0;
	default:
		return refuse(c, "len of a value without length");
	}
}

static int call_join(struct call *c)
{
	bh_auto_buf struct bh_buf text = { 0 };
	const char *separator = text_of(c->arguments[1]);

	if ((c->arguments[0] && !json_object_is_type(c->arguments[0], json_type_array)) || !separator)
		return refuse(c, "expected a list and a separator");
	bh_buf_reserve(&text, 0);
	text.data[0] = '\0';
	for (size_t i = 0; c->arguments[0] && i < json_object_array_length(c->arguments[0]); i++) {
		if (i)
			bh_buf_adds(&text, separator);
		print(json_object_array_get_idx(c->arguments[0], i), &text, 1);
	}
	c->result = json_object_new_string_len(text.data, (int)text.length);
	return 0;
}

static int call_split(struct call *c)
{
	const char *text = text_of(c->arguments[0]), *separator = text_of(c->arguments[1]), *end;

	if (!text || !separator || !*separator)
		return refuse(c, "expected a string and a separator");
	c->result = json_object_new_array();
	for (; (end = strstr(text, separator)); text = end + strlen(separator))
		json_object_array_add(c->result, json_object_new_string_len(text, (int)(end - text)));
	json_object_array_add(c->result, json_object_new_string(text));
	return 0;
}

enum { CASE_UPPER, CASE_LOWER, CASE_TITLE };

static int call_case(struct call *c)
{
	const char *text = text_of(c->arguments[0]);
	bh_auto_free char *copy = bh_strdup(text);
	bool first = true;

	if (!text)
		return refuse(c, "expected a string");
	for (char *p = copy; *p; p++) {
		if (c->which == CASE_UPPER || (c->which == CASE_TITLE && first))
			*p = (char)toupper((unsigned char)*p);
		else if (c->which == CASE_LOWER)
			*p = (char)tolower((unsigned char)*p);
		first = isspace((unsigned char)*p);
	}
	c->result = json_object_new_string(copy);
	return 0;
}

static int call_print(struct call *c)
{
	bh_auto_buf struct bh_buf text = { 0 };

	bh_buf_reserve(&text, 1);
	text.data[0] = '\0';
	for (size_t i = 0; i < c->count; i++) {
		/* Println puts a space between all, Print only where neither is a string. */
		if (i && (c->which || (!text_of(c->arguments[i]) && !text_of(c->arguments[i - 1]))))
			bh_buf_addc(&text, ' ');
		print(c->arguments[i], &text, 0);
	}
	if (c->which)
		bh_buf_addc(&text, '\n');
	c->result = json_object_new_string_len(text.data, (int)text.length);
	return 0;
}

/* The bytes of the first `count` characters. */
static size_t prefix_bytes(const char *text, int64_t count)
{
	const char *p = text;

	while (*p && count > 0) {
		for (p++; (*p & 0xc0) == 0x80; p++)
			;
		count--;
	}
	return (size_t)(p - text);
}

static int call_truncate(struct call *c)
{
	const char *text = text_of(c->arguments[0]);

	if (!text || !json_object_is_type(c->arguments[1], json_type_int))
		return refuse(c, "expected a string and a length");
	c->result = json_object_new_string_len(text, (int)prefix_bytes(text, json_object_get_int64(c->arguments[1])));
	return 0;
}

static int call_slice(struct call *c)
{
	struct json_object *value = c->arguments[0];
	bool is_text = text_of(value);
	int64_t length, from = 0, to;

	if (!is_text && !json_object_is_type(value, json_type_array))
		return refuse(c, "can't slice item of this type");
	length = is_text ? json_object_get_string_len(value) : (int64_t)json_object_array_length(value);
	from = c->count > 1 ? json_object_get_int64(c->arguments[1]) : 0;
	to = c->count > 2 ? json_object_get_int64(c->arguments[2]) : length;
	if (from < 0 || to > length || from > to)
		return refuse(c, "index out of range");
	if (is_text) {
		c->result = json_object_new_string_len(text_of(value) + from, (int)(to - from));
		return 0;
	}
	c->result = json_object_new_array();
	for (; from < to; from++)
		json_object_array_add(c->result, json_object_get(json_object_array_get_idx(value, (size_t)from)));
	return 0;
}

/* -1, 0, 1, or 2 if they can't be compared */
static int compare(struct json_object *a, struct json_object *b)
{
	enum json_type x = json_object_get_type(a), y = json_object_get_type(b);
	bool numbers = (x == json_type_int || x == json_type_double) && (y == json_type_int || y == json_type_double);

	if (numbers && x == json_type_int && y == json_type_int)
		return (json_object_get_int64(a) > json_object_get_int64(b)) - (json_object_get_int64(a) < json_object_get_int64(b));
	if (numbers)
		return (json_object_get_double(a) > json_object_get_double(b)) - (json_object_get_double(a) < json_object_get_double(b));
	if (x != y)
		return 2;
	if (x == json_type_string) {
		int r = strcmp(text_of(a), text_of(b));

		return (r > 0) - (r < 0);
	}
	return json_object_equal(a, b) ? 0 : 2;
}

enum { COMPARE_EQ, COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

static int call_compare(struct call *c)
{
	int order = compare(c->arguments[0], c->arguments[1]);
	bool results[] = { order == 0, order != 0, order == -1, order == -1 || order == 0, order == 1, order == 1 || order == 0 };

	if (order == 2 && c->which >= COMPARE_LT)
		return refuse(c, "incompatible types for comparison");
	for (size_t i = 2; c->which == COMPARE_EQ && i < c->count; i++)
		results[COMPARE_EQ] = results[COMPARE_EQ] || compare(c->arguments[0], c->arguments[i]) == 0;
	c->result = json_object_new_boolean(results[c->which]);
	return 0;
}

/* `and` gives its first false argument or the last one, `or` the first true one or the last. */
static int call_logic(struct call *c)
{
	size_t i = 0;

	while (i + 1 < c->count && bh_template_is_true(c->arguments[i]) == (c->which == 0))
		i++;
	c->result = json_object_get(c->arguments[i]);
	return 0;
}

static int call_not(struct call *c)
{
	c->result = json_object_new_boolean(!bh_template_is_true(c->arguments[0]));
	return 0;
}

/* One verb of printf with its flags; `spec` is "%-10". */
static int format_argument(struct call *c, const char *spec, char verb, struct json_object *value, struct bh_buf *out)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_free char *format = NULL;

	if (strchr("dxXoc", verb) && json_object_is_type(value, json_type_int)) {
		format = bh_printf("%sll%c", spec, verb);
		if (verb == 'c')
			return refuse(c, "printf: %c is not supported");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		bh_buf_addf(out, format, (long long)json_object_get_int64(value));
		return 0;
	}
	if (strchr("feg", verb) && (json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int))) {
		format = bh_printf("%s%c", spec, verb);
		bh_buf_addf(out, format, json_object_get_double(value));
		return 0;
	}
	if (verb == 'q')
		bh_buf_add_json(&text, text_of(value) ? text_of(value) : "");
	else if (strchr("svtd", verb))
		print(value, &text, 0);
	else
		return refuse(c, "printf: unknown verb");
	format = bh_printf("%ss", spec);
	bh_buf_addf(out, format, text.data ? text.data : "");
#pragma GCC diagnostic pop
	return 0;
}

/* Copies "%-10.3" into spec; refuses what could make the output huge. Returns the verb, or 0. */
static char read_spec(const char **p, char spec[32])
{
	size_t flags = strspn(*p + 1, FLAGS), width = strspn(*p + 1 + flags, "0123456789"), length = 1 + flags + width, precision = 0;

	if ((*p)[length] == '.')
		precision = 1 + strspn(*p + length + 1, "0123456789");
	if (flags > 5 || width > 4 || precision > 5 || strtoul(*p + 1 + flags, NULL, 10) > WIDTH_MAX)
		return 0;
	length += precision;
	memcpy(spec, *p, length);
	spec[length] = '\0';
	*p += length;
	return **p;
}

static int call_printf(struct call *c)
{
	bh_auto_buf struct bh_buf text = { 0 };
	const char *p = text_of(c->arguments[0]);
	size_t next = 1;

	if (!p)
		return refuse(c, "printf: expected a format");
	bh_buf_reserve(&text, 1);
	text.data[0] = '\0';
	for (; *p; p++) {
		char spec[32], verb;
		int r;

		if (*p != '%') {
			bh_buf_addc(&text, *p);
			continue;
		}
		if (p[1] == '%') {
			bh_buf_addc(&text, *p++);
			continue;
		}
		verb = read_spec(&p, spec);
		if (!verb || !isalpha((unsigned char)verb))
			return refuse(c, "printf: bad format");
		if (next >= c->count)
			return refuse(c, "printf: missing argument");
		r = format_argument(c, spec, verb, c->arguments[next++], &text);
		if (r < 0)
			return r;
	}
	c->result = json_object_new_string_len(text.data, (int)text.length);
	return 0;
}

static const struct {
	const char *name;
	size_t min, max;
	int (*call)(struct call *c);
	int which;
} functions[] = {
	{ "json", 1, 1, call_json, 0 },
	{ "index", 1, 16, call_index, 0 },
	{ "len", 1, 1, call_len, 0 },
	{ "join", 2, 2, call_join, 0 },
	{ "split", 2, 2, call_split, 0 },
	{ "upper", 1, 1, call_case, CASE_UPPER },
	{ "lower", 1, 1, call_case, CASE_LOWER },
	{ "title", 1, 1, call_case, CASE_TITLE },
	{ "print", 0, 16, call_print, 0 },
	{ "println", 0, 16, call_print, 1 },
	{ "printf", 1, 16, call_printf, 0 },
	{ "truncate", 2, 2, call_truncate, 0 },
	{ "slice", 1, 3, call_slice, 0 },
	{ "eq", 2, 16, call_compare, COMPARE_EQ },
	{ "ne", 2, 2, call_compare, COMPARE_NE },
	{ "lt", 2, 2, call_compare, COMPARE_LT },
	{ "le", 2, 2, call_compare, COMPARE_LE },
	{ "gt", 2, 2, call_compare, COMPARE_GT },
	{ "ge", 2, 2, call_compare, COMPARE_GE },
	{ "and", 1, 16, call_logic, 0 },
	{ "or", 1, 16, call_logic, 1 },
	{ "not", 1, 1, call_not, 0 },
};

bool bh_template_has_function(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(functions); i++)
		if (bh_streq(functions[i].name, name))
			return true;
	return false;
}

int bh_template_call(const char *name, struct json_object **arguments, size_t count, struct json_object **ret_value, const char **ret_why)
{
	struct call c = { .arguments = arguments, .count = count };

	for (size_t i = 0; i < BH_ARRAY_SIZE(functions); i++) {
		if (!bh_streq(functions[i].name, name))
			continue;
		c.which = functions[i].which;
		if (count < functions[i].min || count > functions[i].max) {
			*ret_why = "wrong number of arguments";
			return -EINVAL;
		}
		if (functions[i].call(&c) < 0) {
			*ret_why = c.why;
			return -EINVAL;
		}
		*ret_value = c.result;
		return 0;
	}
	*ret_why = "no such function";
	return -EINVAL;
}
