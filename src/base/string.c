/* SPDX-License-Identifier: Apache-2.0 */
#include "base/string.h"

#include <ctype.h>
#include <errno.h>

bool bh_has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool bh_has_suffix(const char *text, const char *suffix)
{
	size_t text_length = strlen(text), length = strlen(suffix);

	return text_length >= length && memcmp(text + text_length - length, suffix, length) == 0;
}

void bh_strv_take(struct bh_strv *v, char *text)
{
	v->items = bh_grow(v->items, &v->capacity, v->count + 2, sizeof *v->items);
	v->items[v->count++] = text;
	v->items[v->count] = NULL;
}

void bh_strv_add(struct bh_strv *v, const char *text)
{
	bh_strv_take(v, bh_strdup(text));
}

void bh_strv_addf(struct bh_strv *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	bh_strv_take(v, bh_vprintf(format, args));
	va_end(args);
}

void bh_strv_extend(struct bh_strv *v, char *const *items)
{
	for (; items && *items; items++)
		bh_strv_add(v, *items);
}

bool bh_strv_contains(const struct bh_strv *v, const char *text)
{
	for (size_t i = 0; i < v->count; i++)
		if (strcmp(v->items[i], text) == 0)
			return true;
	return false;
}

void bh_strv_remove(struct bh_strv *v, size_t index)
{
	free(v->items[index]);
	memmove(v->items + index, v->items + index + 1, (v->count - index) * sizeof *v->items);
	v->count--;
}

struct bh_strv bh_strv_split(const char *text, char separator)
{
	struct bh_strv v = { 0 };
	const char *end;

	while ((end = strchr(text, separator))) {
		bh_strv_take(&v, bh_strndup(text, (size_t)(end - text)));
		text = end + 1;
	}
	bh_strv_add(&v, text);
	return v;
}

char *bh_strv_join(const struct bh_strv *v, const char *separator)
{
	struct bh_buf b = { 0 };

	for (size_t i = 0; i < v->count; i++) {
		if (i)
			bh_buf_adds(&b, separator);
		bh_buf_adds(&b, v->items[i]);
	}
	return bh_buf_take(&b);
}

void bh_strv_clear(struct bh_strv *v)
{
	for (size_t i = 0; i < v->count; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct bh_strv){ 0 };
}

static size_t key_length(const char *key_value)
{
	return strcspn(key_value, "=");
}

const char *bh_env_get(const struct bh_strv *env, const char *key)
{
	size_t length = strlen(key);

	for (size_t i = env->count; i-- > 0;)
		if (key_length(env->items[i]) == length && memcmp(env->items[i], key, length) == 0 && env->items[i][length] == '=')
			return env->items[i] + length + 1;
	return NULL;
}

void bh_env_set(struct bh_strv *env, const char *key_value)
{
	size_t length = key_length(key_value);

	for (size_t i = 0; i < env->count; i++) {
		if (key_length(env->items[i]) != length || memcmp(env->items[i], key_value, length) != 0)
			continue;
		free(env->items[i]);
		env->items[i] = bh_strdup(key_value);
		return;
	}
	bh_strv_add(env, key_value);
}

void bh_buf_reserve(struct bh_buf *b, size_t more)
{
	b->data = bh_grow(b->data, &b->capacity, b->length + more + 1, 1);
}

void bh_buf_add(struct bh_buf *b, const void *bytes, size_t length)
{
	bh_buf_reserve(b, length);
	if (length)
		memcpy(b->data + b->length, bytes, length);
	b->length += length;
	b->data[b->length] = '\0';
}

void bh_buf_adds(struct bh_buf *b, const char *text)
{
	bh_buf_add(b, text, strlen(text));
}

void bh_buf_addc(struct bh_buf *b, char c)
{
	bh_buf_add(b, &c, 1);
}

void bh_buf_addf(struct bh_buf *b, const char *format, ...)
{
	va_list args, again;
	int length;

	bh_buf_reserve(b, 128);
	va_start(args, format);
	va_copy(again, args);
	length = vsnprintf(b->data + b->length, b->capacity - b->length, format, args);
	if (length >= 0 && (size_t)length >= b->capacity - b->length) {
		bh_buf_reserve(b, (size_t)length);
		vsnprintf(b->data + b->length, b->capacity - b->length, format, again);
	}
	va_end(again);
	va_end(args);
	if (length > 0)
		b->length += (size_t)length;
}

void bh_buf_reset(struct bh_buf *b)
{
	b->length = 0;
	if (b->data)
		b->data[0] = '\0';
}

void bh_buf_clear(struct bh_buf *b)
{
	free(b->data);
	*b = (struct bh_buf){ 0 };
}

char *bh_buf_take(struct bh_buf *b)
{
	char *text;

	bh_buf_reserve(b, 0);
	b->data[b->length] = '\0';
	text = b->data;
	*b = (struct bh_buf){ 0 };
	return text;
}

/* Length of the well-formed UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates), 0 if there is none. */
static size_t utf8_length(const unsigned char *s, size_t left)
{
	size_t length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		length = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		length = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (left < length)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return length;
}

static void add_json_byte(struct bh_buf *b, unsigned char c)
{
	switch (c) {
	case '"':
	case '\\':
		bh_buf_addc(b, '\\');
		bh_buf_addc(b, (char)c);
		break;
	case '\n':
		bh_buf_adds(b, "\\n");
		break;
	case '\r':
		bh_buf_adds(b, "\\r");
		break;
	case '\t':
		bh_buf_adds(b, "\\t");
		break;
	default:
		if (c < 0x20 || c == 0x7f)
			bh_buf_addf(b, "\\u%04x", c);
		else
			bh_buf_addc(b, (char)c);
	}
}

void bh_buf_add_jsonn(struct bh_buf *b, const char *bytes, size_t length)
{
	const unsigned char *s = (const unsigned char *)bytes, *end = s + length;

	bh_buf_reserve(b, length + 2);
	bh_buf_addc(b, '"');
	while (s < end) {
		size_t n = utf8_length(s, (size_t)(end - s));

		if (n == 0) {
			bh_buf_adds(b, "\xef\xbf\xbd");
			s++;
		} else if (n == 1) {
			add_json_byte(b, *s++);
		} else {
			bh_buf_add(b, s, n);
			s += n;
		}
	}
	bh_buf_addc(b, '"');
}

void bh_buf_add_json(struct bh_buf *b, const char *text)
{
	if (text)
		bh_buf_add_jsonn(b, text, strlen(text));
	else
		bh_buf_adds(b, "null");
}

int bh_parse_uint(const char *text, uint64_t max, uint64_t *ret_value)
{
	char *end;
	unsigned long long value;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

int bh_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
	char *end;
	long long value;

	if (!isdigit((unsigned char)text[0]) && !(text[0] == '-' && isdigit((unsigned char)text[1])))
		return -EINVAL;
	errno = 0;
	value = strtoll(text, &end, 10);
	if (*end)
		return -EINVAL;
	if (errno == ERANGE || value < min || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

/* Reads "12.345" as value * 10^9, at most nine decimals; sets *end behind it. */
static int decimal(const char *text, const char **end, unsigned __int128 *ret_nano)
{
	unsigned __int128 value = 0;
	const char *start = text;
	int decimals = 0;

	for (; isdigit((unsigned char)*text); text++) {
		value = value * 10 + (unsigned)(*text - '0');
		if (value > UINT64_MAX)
			return -ERANGE;
	}
	value *= 1000000000;
	if (*text == '.') {
		unsigned __int128 unit = 100000000;

		for (text++; isdigit((unsigned char)*text); text++, unit /= 10, decimals++)
			value += unit * (unsigned)(*text - '0');
		if (decimals == 0)
			return -EINVAL;
	}
	if (text == start || decimals > 9)
		return -EINVAL;
	*end = text;
	*ret_nano = value;
	return 0;
}

int bh_parse_bytes(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "bkmgtp";
	unsigned __int128 nano;
	const char *end, *unit;
	unsigned shift = 0;
	int r = decimal(text, &end, &nano);

	if (r < 0)
		return r;
	if (*end == ' ')
		end++;
	if (*end) {
		unit = strchr(units, tolower((unsigned char)*end));
		if (!unit)
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units);
		end++;
		if (shift && tolower((unsigned char)*end) == 'i' && tolower((unsigned char)end[1]) == 'b')
			end += 2;
		else if (shift && tolower((unsigned char)*end) == 'b')
			end++;
		if (*end)
			return -EINVAL;
	}
	if (nano > ((unsigned __int128)INT64_MAX * 1000000000) >> shift)
		return -ERANGE;
	*ret_bytes = (uint64_t)((nano << shift) / 1000000000);
	return 0;
}

int bh_parse_nano(const char *text, int64_t *ret_nano)
{
	unsigned __int128 nano;
	const char *end;
	int r = decimal(text, &end, &nano);

	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	if (nano > INT64_MAX)
		return -ERANGE;
	*ret_nano = (int64_t)nano;
	return 0;
}

int bh_parse_duration(const char *text, int64_t *ret_ns)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = { { "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 } };
	unsigned __int128 total = 0;

	if (bh_streq(text, "0")) {
		*ret_ns = 0;
		return 0;
	}
	if (!*text)
		return -EINVAL;
	while (*text) {
		unsigned __int128 nano;
		const char *end;
		size_t length, i;
		int r = decimal(text, &end, &nano);

		if (r < 0)
			return r;
		length = strspn(end, "numsh");
		for (i = 0; i < BH_ARRAY_SIZE(units); i++)
			if (strlen(units[i].name) == length && memcmp(units[i].name, end, length) == 0)
				break;
		if (i == BH_ARRAY_SIZE(units))
			return -EINVAL;
		total += nano * units[i].ns / 1000000000;
		if (total > INT64_MAX)
			return -ERANGE;
		text = end + length;
	}
	*ret_ns = (int64_t)total;
	return 0;
}

int bh_parse_bool(const char *text, bool *ret_value)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(yes); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*ret_value = strcmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int bh_parse_hex(const char *text, void *ret_bytes, size_t size)
{
	unsigned char *bytes = ret_bytes;

	if (strlen(text) != 2 * size)
		return -EINVAL;
	for (size_t i = 0; i < 2 * size; i++)
		if (hex_digit(text[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)((unsigned)hex_digit(text[2 * i]) << 4 | (unsigned)hex_digit(text[2 * i + 1]));
	return 0;
}

void bh_format_hex(const void *bytes, size_t size, char *ret_text)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = bytes;

	for (size_t i = 0; i < size; i++) {
		ret_text[2 * i] = digits[b[i] >> 4];
		ret_text[2 * i + 1] = digits[b[i] & 15];
	}
	ret_text[2 * size] = '\0';
}

static const char *format_bytes(uint64_t bytes, unsigned base, const char *const *units, char ret_text[32])
{
	double value = (double)bytes;
	size_t i = 0;

	while (value >= base && i < 5) {
		value /= base;
		i++;
	}
	/* Four significant digits for binary, three for decimal: what docker stats and docker images show. */
	snprintf(ret_text, 32, base == 1024 ? "%.4g%s" : "%.3g%s", value, units[i]);
	return ret_text;
}

const char *bh_format_bytes_binary(uint64_t bytes, char ret_text[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };

	return format_bytes(bytes, 1024, units, ret_text);
}

const char *bh_format_bytes_decimal(uint64_t bytes, char ret_text[32])
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };

	return format_bytes(bytes, 1000, units, ret_text);
}
