/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of annotations "org.systemd.property.NAME" in GVariant's text format, as D-Bus values.
 *
 *	true  5  -1.5  uint64 5  'text'  "text"  ['a', 'b']  @as []  [1, 2]
 *
 * A number without a type is an int32, or a double if it has a point or an exponent; a type in front says otherwise ("byte int16
 * uint16 int32 uint32 int64 uint64 double string objectpath signature boolean", or "@" and a signature). That is what systemd's
 * properties are made of; dictionaries, tuples and variants are refused.
 */
#include "cgroup/dbus-internal.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>

#define TEXT_MAX 65536
#define NUMBER_MAX 64

/* An array's element type is 0 until the first element is read. */
struct reader {
	const char *at;
	char type;
};

static const struct {
	const char *name;
	char type;
	int64_t min;
	uint64_t max;
} types[] = {
	{ "boolean", 'b', 0, 0 },
	{ "byte", 'y', 0, UINT8_MAX },
	{ "int16", 'n', INT16_MIN, INT16_MAX },
	{ "uint16", 'q', 0, UINT16_MAX },
	{ "int32", 'i', INT32_MIN, INT32_MAX },
	{ "uint32", 'u', 0, UINT32_MAX },
	{ "int64", 'x', INT64_MIN, INT64_MAX },
	{ "uint64", 't', 0, UINT64_MAX },
	{ "double", 'd', 0, 0 },
	{ "string", 's', 0, 0 },
	{ "objectpath", 'o', 0, 0 },
	{ "signature", 'g', 0, 0 },
};

static void skip_space(struct reader *r)
{
	r->at += strspn(r->at, " \t\n\r");
}

static size_t word_length(const char *at)
{
	size_t length = 0;

	while (isalnum((unsigned char)at[length]))
		length++;
	return length;
}

/* A type's name before a value. */
static void take_type_name(struct reader *r)
{
	size_t length = word_length(r->at);

	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++)
		if (length == strlen(types[i].name) && strncmp(r->at, types[i].name, length) == 0 && (!r->type || r->type == types[i].type)) {
			r->type = types[i].type;
			r->at += length;
			skip_space(r);
			return;
		}
}

static int put_bool(struct reader *r, struct bh_buf *out)
{
	bool value = bh_has_prefix(r->at, "true");
	size_t length = value ? 4 : 5;

	if ((!value && !bh_has_prefix(r->at, "false")) || word_length(r->at) != length || (r->type && r->type != 'b'))
		return -EINVAL;
	r->type = 'b';
	r->at += length;
	bh_dbus_put_u32(out, value);
	return 0;
}

static void put_integer(char type, uint64_t value, struct bh_buf *out)
{
	switch (bh_dbus_alignment(type)) {
	case 1:
		bh_dbus_put_u8(out, (uint8_t)value);
		break;
	case 2:
		bh_dbus_put_u16(out, (uint16_t)value);
		break;
	case 4:
		bh_dbus_put_u32(out, (uint32_t)value);
		break;
	default:
		bh_dbus_put_u64(out, value);
	}
}

/* Decimal, 0x or 0 (octal), with a sign. */
static int parse_integer(const char *text, char type, uint64_t *ret_value)
{
	bool negative = *text == '-';
	const char *digits = text + (negative || *text == '+');
	unsigned long long value;
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)*digits))
		return -EINVAL;
	value = strtoull(digits, &end, 0);
	if (*end || errno)
		return errno ? -ERANGE : -EINVAL;
	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++) {
		uint64_t lowest = (uint64_t)0 - (uint64_t)types[i].min;

		if (types[i].type != type || types[i].max == 0)
			continue;
		if (negative ? value > lowest : value > types[i].max)
			return -ERANGE;
		*ret_value = negative ? (uint64_t)0 - value : value;
		return 0;
	}
	return -EINVAL;
}

static int put_number(struct reader *r, struct bh_buf *out)
{
	size_t length = strspn(r->at, "+-.0123456789abcdefABCDEFxX");
	bool hex = length > 2 && (bh_has_prefix(r->at, "0x") || bh_has_prefix(r->at, "-0x"));
	char text[NUMBER_MAX];
	uint64_t value = 0;
	int result;

	if (length == 0 || length >= sizeof text)
		return -EINVAL;
	snprintf(text, sizeof text, "%.*s", (int)length, r->at);
	if (!r->type)
		r->type = !hex && strpbrk(text, ".eE") ? 'd' : 'i';
	if (r->type == 'd') {
		char *end;
		double number = strtod(text, &end);

		if (*end || !isfinite(number))
			return -EINVAL;
		memcpy(&value, &number, sizeof value);
		bh_dbus_put_u64(out, value);
	} else {
		result = parse_integer(text, r->type, &value);
		if (result < 0)
			return result;
		put_integer(r->type, value, out);
	}
	r->at += length;
	return 0;
}

/* 'text' with backslash for what follows it. */
static int put_text(struct reader *r, struct bh_buf *out)
{
	bh_auto_buf struct bh_buf text = { 0 };
	char quote = *r->at++;

	if (!r->type)
		r->type = 's';
	if (!strchr("sog", r->type))
		return -EINVAL;
	bh_buf_adds(&text, "");
	for (; *r->at && *r->at != quote; r->at++) {
		static const char escapes[] = "abfnrtv", meant[] = "\a\b\f\n\r\t\v";
		const char *escape;

		if (*r->at == '\\') {
			if (!*++r->at || strchr("uUx", *r->at))
				return -EINVAL;
			escape = strchr(escapes, *r->at);
			bh_buf_addc(&text, escape ? meant[escape - escapes] : *r->at);
		} else {
			bh_buf_addc(&text, *r->at);
		}
	}
	if (!*r->at)
		return -EINVAL;
	r->at++;
	if (r->type == 'g' && text.length > 255)
		return -EINVAL;
	if (r->type == 'g')
		bh_dbus_put_signature(out, text.data);
	else
		bh_dbus_put_string(out, text.data);
	return 0;
}

static int put_basic(struct reader *r, struct bh_buf *out)
{
	int result;

	skip_space(r);
	take_type_name(r);
	if (*r->at == '\'' || *r->at == '"')
		result = put_text(r, out);
	else if (*r->at == 't' || *r->at == 'f')
		result = put_bool(r, out);
	else
		result = put_number(r, out);
	skip_space(r);
	return result;
}

/* The element's type, where it isn't given, is that of the first element, whose text is read twice for it. */
static int put_array(struct reader *r, struct bh_buf *out)
{
	size_t mark, alignment;
	int result = 0;

	r->at++;
	skip_space(r);
	if (!r->type) {
		bh_auto_buf struct bh_buf ignored = { 0 };
		struct reader first = *r;

		result = put_basic(&first, &ignored);
		r->type = first.type;
	}
	if (result < 0)
		return result;
	alignment = bh_dbus_alignment(r->type);
	mark = bh_dbus_open_array(out, alignment);
	while (*r->at != ']') {
		result = put_basic(r, out);
		if (result < 0 || (*r->at != ',' && *r->at != ']'))
			return -EINVAL;
		if (*r->at == ',')
			r->at++;
		skip_space(r);
	}
	r->at++;
	skip_space(r);
	bh_dbus_close_array(out, mark, alignment);
	return 0;
}

/* "@as ": a signature before the value. */
static int take_signature(struct reader *r, bool *ret_array)
{
	static const char basics[] = "ybnqiuxtdsog";

	if (*r->at != '@')
		return 0;
	r->at++;
	*ret_array = *r->at == 'a';
	r->at += *ret_array;
	if (!*r->at || !strchr(basics, *r->at))
		return -EINVAL;
	r->type = *r->at++;
	if (!isspace((unsigned char)*r->at))
		return -EINVAL;
	skip_space(r);
	return *ret_array == (*r->at == '[') ? 0 : -EINVAL;
}

int bh_dbus_value_parse(const char *text, struct bh_dbus_value *ret_value, struct bh_error *err)
{
	struct bh_dbus_value value = { 0 };
	struct reader r = { .at = text };
	bool array = false;
	int result = strlen(text) > TEXT_MAX ? -E2BIG : 0;

	skip_space(&r);
	if (result == 0)
		result = take_signature(&r, &array);
	array = *r.at == '[';
	if (result == 0)
		result = array ? put_array(&r, &value.bytes) : put_basic(&r, &value.bytes);
	if (result == 0 && *r.at)
		result = -EINVAL;
	if (result < 0) {
		bh_dbus_value_clear(&value);
		return bh_error_text(err, -result, "'%.128s': not a value of GVariant's text format that systemd properties have", text);
	}
	snprintf(value.signature, sizeof value.signature, "%s%c", array ? "a" : "", r.type);
	*ret_value = value;
	return 0;
}

void bh_dbus_value_clear(struct bh_dbus_value *value)
{
	bh_buf_clear(&value->bytes);
	*value = (struct bh_dbus_value){ 0 };
}

int bh_dbus_value_to_usec(struct bh_dbus_value *value)
{
	const char type = value->signature[0];
	uint64_t seconds = 0;
	double number;

	if (value->signature[1] || !strchr("ynqiuxtd", type))
		return -EINVAL;
	memcpy(&seconds, value->bytes.data, BH_MIN(value->bytes.length, sizeof seconds));
	if (type == 'd')
		memcpy(&number, &seconds, sizeof number);
	else if (type == 'n')
		number = (int16_t)seconds;
	else if (type == 'i')
		number = (int32_t)seconds;
	else
		number = type == 'x' ? (double)(int64_t)seconds : (double)seconds;
	if (number < 0 || number > (double)(UINT64_MAX / 2000000))
		return -EINVAL;
	bh_buf_reset(&value->bytes);
	bh_dbus_put_u64(&value->bytes, type == 'd' ? (uint64_t)(number * 1000000) : (uint64_t)number * 1000000);
	snprintf(value->signature, sizeof value->signature, "t");
	return 0;
}

/* The value's bytes were laid out from offset 0. Scalars keep their form at any aligned offset; an array's padding behind its
 * length depends on where it stands, so that is written anew. */
void bh_dbus_put_value(struct bh_buf *out, const struct bh_dbus_value *value)
{
	const char element = value->signature[1];

	bh_dbus_put_signature(out, value->signature);
	if (value->signature[0] == 'a') {
		size_t alignment = bh_dbus_alignment(element), first = BH_MAX(sizeof(uint32_t), alignment);
		size_t mark = bh_dbus_open_array(out, alignment);

		if (value->bytes.length > first)
			bh_buf_add(out, value->bytes.data + first, value->bytes.length - first);
		bh_dbus_close_array(out, mark, alignment);
		return;
	}
	bh_dbus_align(out, bh_dbus_alignment(value->signature[0]));
	bh_buf_add(out, value->bytes.data, value->bytes.length);
}
