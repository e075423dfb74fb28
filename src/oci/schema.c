/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walkers over tables of JSON fields (see schema-internal.h).
 *
 * Input is hostile: types are strict (no string that happens to be a number), numbers are range-checked against the C
 * field before they are stored, strings must not hold NUL bytes, arrays have a size limit. Names that the table does
 * not know are ignored, as the specification asks for extensibility; `null` counts as missing.
 */
#include "oci/schema-internal.h"

#include "oci/spec.h"

#include <errno.h>

static void add_path(const struct bh_json_path *path, struct bh_buf *out)
{
	if (!path)
		return;
	add_path(path->parent, out);
	if (!path->name)
		bh_buf_addf(out, "[%zu]", path->index);
	else
		bh_buf_addf(out, "%s%s", out->length ? "." : "", path->name);
}

int bh_schema_error(const struct bh_json_path *path, struct bh_error *err, const char *format, ...)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_free char *words = NULL;
	va_list args;

	va_start(args, format);
	words = bh_vprintf(format, args);
	va_end(args);
	add_path(path, &text);
	return bh_error_text(err, EINVAL, "%s%s%s", text.length ? text.data : "", text.length ? ": " : "", words);
}

int bh_schema_string(json_object *value, const struct bh_json_path *path, const char **ret_text, struct bh_error *err)
{
	const char *text;

	if (!json_object_is_type(value, json_type_string))
		return bh_schema_error(path, err, "expected a string");
	text = json_object_get_string(value);
	if (strlen(text) != (size_t)json_object_get_string_len(value))
		return bh_schema_error(path, err, "holds a NUL byte");
	*ret_text = text;
	return 0;
}

static int parse_signed(json_object *value, int64_t *ret_value, const struct bh_json_path *path, struct bh_error *err)
{
	int64_t number;

	if (!json_object_is_type(value, json_type_int))
		return bh_schema_error(path, err, "expected an integer");
	number = json_object_get_int64(value);
	/* json-c clamps: the unsigned reading tells a true INT64_MAX from a larger number. */
	if (number == INT64_MAX && json_object_get_uint64(value) > (uint64_t)INT64_MAX)
		return bh_schema_error(path, err, "the number is too large");
	*ret_value = number;
	return 0;
}

static int parse_unsigned(json_object *value, uint64_t max, uint64_t *ret_value, const struct bh_json_path *path, struct bh_error *err)
{
	uint64_t number;

	if (!json_object_is_type(value, json_type_int))
		return bh_schema_error(path, err, "expected an integer");
	if (json_object_get_int64(value) < 0)
		return bh_schema_error(path, err, "must not be negative");
	number = json_object_get_uint64(value);
	if (number > max)
		return bh_schema_error(path, err, "the number is too large (at most %llu)", (unsigned long long)max);
	*ret_value = number;
	return 0;
}

static int parse_strings(json_object *value, struct bh_strv *ret, const struct bh_json_path *path, struct bh_error *err)
{
	bh_auto_strv struct bh_strv items = { 0 };
	size_t count;

	if (!json_object_is_type(value, json_type_array))
		return bh_schema_error(path, err, "expected an array of strings");
	count = json_object_array_length(value);
	if (count > BH_SCHEMA_ARRAY_MAX)
		return bh_schema_error(path, err, "has too many elements (at most %d)", BH_SCHEMA_ARRAY_MAX);
	for (size_t i = 0; i < count; i++) {
		struct bh_json_path here = { path, NULL, i };
		const char *text = "";
		int r = bh_schema_string(json_object_array_get_idx(value, i), &here, &text, err);

		if (r < 0)
			return r;
		bh_strv_add(&items, text);
	}
	bh_strv_clear(ret);
	*ret = items;
	items = (struct bh_strv){ 0 };
	return 0;
}

/* What a '=' of a key is kept as: a byte that UTF-8 never uses. */
#define KEPT_EQUALS '\xff'

static void add_pair(struct bh_strv *map, const char *key, const char *value)
{
	size_t length = strlen(key);
	char *item = bh_printf("%s=%s", key, value);

	for (size_t i = 0; i < length; i++)
		if (item[i] == '=')
			item[i] = KEPT_EQUALS;
	bh_strv_take(map, item);
}

const char *bh_map_write_key(const char *item, struct bh_buf *out)
{
	const char *equals = strchrnul(item, '=');
	bh_auto_free char *key = bh_strndup(item, (size_t)(equals - item));

	for (char *p = key; *p; p++)
		if (*p == KEPT_EQUALS)
			*p = '=';
	bh_buf_add_json(out, key);
	return *equals ? equals + 1 : "";
}

void bh_map_write(const struct bh_strv *map, struct bh_buf *out)
{
	bh_buf_addc(out, '{');
	for (size_t i = 0; i < map->count; i++) {
		const char *value;

		bh_buf_adds(out, i ? "," : "");
		value = bh_map_write_key(map->items[i], out);
		bh_buf_addc(out, ':');
		bh_buf_add_json(out, value);
	}
	bh_buf_addc(out, '}');
}

const char *bh_map_get(const struct bh_strv *map, const char *key)
{
	for (size_t i = 0; i < map->count; i++) {
		const char *p = map->items[i], *k = key;

		while (*k && *p == (*k == '=' ? KEPT_EQUALS : *k))
			p++, k++;
		if (!*k && *p == '=')
			return p + 1;
	}
	return NULL;
}

static int parse_map(json_object *value, struct bh_strv *ret, const struct bh_json_path *path, struct bh_error *err)
{
	bh_auto_strv struct bh_strv items = { 0 };

	if (!json_object_is_type(value, json_type_object))
		return bh_schema_error(path, err, "expected an object of strings");
	json_object_object_foreach(value, key, member)
	{
		struct bh_json_path here = { path, key, 0 };
		const char *text = "";
		int r = bh_schema_string(member, &here, &text, err);

		if (r < 0)
			return r;
		add_pair(&items, key, text);
	}
	bh_strv_clear(ret);
	*ret = items;
	items = (struct bh_strv){ 0 };
	return 0;
}

static int parse_array(json_object *value, const struct bh_field *field, char *base, const struct bh_json_path *path, struct bh_error *err)
{
	size_t count, *ret_count = (size_t *)(base + field->extra);
	char **ret_items = (char **)(base + field->offset);

	if (!json_object_is_type(value, json_type_array))
		return bh_schema_error(path, err, "expected an array");
	count = json_object_array_length(value);
	if (count > BH_SCHEMA_ARRAY_MAX)
		return bh_schema_error(path, err, "has too many elements (at most %d)", BH_SCHEMA_ARRAY_MAX);
	if (*ret_items || count == 0)
		return *ret_items ? bh_schema_error(path, err, "is given twice") : 0;
	*ret_items = bh_calloc(count, field->size);
	for (size_t i = 0; i < count; i++) {
		struct bh_json_path here = { path, NULL, i };
		json_object *element = json_object_array_get_idx(value, i);
		int r;

		/* Counted before it is filled, so that a clear after a failure frees it. */
		*ret_count = i + 1;
		if (field->codec)
			r = field->codec->parse(element, *ret_items + i * field->size, &here, err);
		else
			r = bh_schema_parse(element, field->fields, *ret_items + i * field->size, &here, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_text(json_object *value, char **at, const struct bh_json_path *path, struct bh_error *err)
{
	const char *text = "";
	int r = bh_schema_string(value, path, &text, err);

	if (r < 0)
		return r;
	free(*at);
	*at = bh_strdup(text);
	return 0;
}

static int parse_number(json_object *value, enum bh_field_type type, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	static const uint64_t limits[] = { [BH_FIELD_U16] = UINT16_MAX, [BH_FIELD_U32] = UINT32_MAX, [BH_FIELD_I64] = 0,
					   [BH_FIELD_U64] = UINT64_MAX, [BH_FIELD_OPT_I64] = 0,      [BH_FIELD_OPT_U64] = UINT64_MAX };
	uint64_t number = 0;
	int64_t signed_number = 0;
	int r = limits[type] ? parse_unsigned(value, limits[type], &number, path, err) : parse_signed(value, &signed_number, path, err);

	if (r < 0)
		return r;
	switch (type) {
	case BH_FIELD_U16:
		*(uint16_t *)at = (uint16_t)number;
		break;
	case BH_FIELD_U32:
		*(uint32_t *)at = (uint32_t)number;
		break;
	case BH_FIELD_U64:
		*(uint64_t *)at = number;
		break;
	case BH_FIELD_I64:
		*(int64_t *)at = signed_number;
		break;
	case BH_FIELD_OPT_I64:
		*(struct bh_opt_i64 *)at = (struct bh_opt_i64)BH_SOME(signed_number);
		break;
	default:
		*(struct bh_opt_u64 *)at = (struct bh_opt_u64)BH_SOME(number);
		break;
	}
	return 0;
}

static int parse_field(json_object *value, const struct bh_field *field, char *base, const struct bh_json_path *path, struct bh_error *err)
{
	void *at = base + field->offset;

	switch (field->type) {
	case BH_FIELD_STRING:
		return parse_text(value, at, path, err);
	case BH_FIELD_BOOL:
		if (!json_object_is_type(value, json_type_boolean))
			return bh_schema_error(path, err, "expected true or false");
		*(bool *)at = json_object_get_boolean(value);
		return 0;
	case BH_FIELD_STRINGS:
		return parse_strings(value, at, path, err);
	case BH_FIELD_MAP:
		return parse_map(value, at, path, err);
	case BH_FIELD_OBJECT:
		return bh_schema_parse(value, field->fields, base, path, err);
	case BH_FIELD_ARRAY:
		return parse_array(value, field, base, path, err);
	case BH_FIELD_CUSTOM:
		return field->codec->parse(value, at, path, err);
	default:
		return parse_number(value, field->type, at, path, err);
	}
}

/* As Go's encoding/json, which every other reader of these documents is built on: a key of another case counts when there is none of
 * the exact one. */
static json_object *find_value(json_object *object, const char *name)
{
	json_object *value;

	if (json_object_object_get_ex(object, name, &value))
		return value;
	json_object_object_foreach(object, key, other)
	{
		if (strcasecmp(key, name) == 0)
			return other;
	}
	return NULL;
}

int bh_schema_parse(json_object *object, const struct bh_field *fields, void *base, const struct bh_json_path *path, struct bh_error *err)
{
	if (!json_object_is_type(object, json_type_object))
		return bh_schema_error(path, err, "expected an object");
	for (const struct bh_field *f = fields; f->name; f++) {
		struct bh_json_path here = { path, f->name, 0 };
		json_object *value = find_value(object, f->name);
		int r;

		if (!value) {
			if (f->required)
				return bh_schema_error(&here, err, "is missing");
			continue;
		}
		r = parse_field(value, f, base, &here, err);
		if (r < 0)
			return r;
		if (f->extra != BH_FIELD_NOWHERE && f->type != BH_FIELD_ARRAY)
			*(bool *)((char *)base + f->extra) = true;
	}
	return 0;
}

static bool write_strings(const struct bh_strv *v, struct bh_buf *out)
{
	bh_buf_addc(out, '[');
	for (size_t i = 0; i < v->count; i++) {
		if (i)
			bh_buf_addc(out, ',');
		bh_buf_add_json(out, v->items[i]);
	}
	bh_buf_addc(out, ']');
	return v->count > 0;
}

static bool write_array(const struct bh_field *field, const char *base, struct bh_buf *out)
{
	size_t count = *(const size_t *)(base + field->extra);
	const char *items = *(char *const *)(base + field->offset);

	bh_buf_addc(out, '[');
	for (size_t i = 0; i < count; i++) {
		if (i)
			bh_buf_addc(out, ',');
		if (field->codec)
			field->codec->write(items + i * field->size, out);
		else
			bh_schema_write(field->fields, items + i * field->size, out);
	}
	bh_buf_addc(out, ']');
	return count > 0;
}

static bool write_unsigned(uint64_t number, struct bh_buf *out)
{
	bh_buf_addf(out, "%llu", (unsigned long long)number);
	return number != 0;
}

static bool write_signed(int64_t number, struct bh_buf *out)
{
	bh_buf_addf(out, "%lld", (long long)number);
	return number != 0;
}

/* Adds the value; true if it differs from what a missing field means. */
static bool write_value(const struct bh_field *field, const char *base, struct bh_buf *out)
{
	const void *at = base + field->offset;
	size_t before = out->length;

	switch (field->type) {
	case BH_FIELD_STRING:
		bh_buf_add_json(out, *(char *const *)at);
		return *(char *const *)at != NULL;
	case BH_FIELD_BOOL:
		bh_buf_adds(out, *(const bool *)at ? "true" : "false");
		return *(const bool *)at;
	case BH_FIELD_U16:
		return write_unsigned(*(const uint16_t *)at, out);
	case BH_FIELD_U32:
		return write_unsigned(*(const uint32_t *)at, out);
	case BH_FIELD_U64:
		return write_unsigned(*(const uint64_t *)at, out);
	case BH_FIELD_I64:
		return write_signed(*(const int64_t *)at, out);
	case BH_FIELD_OPT_U64:
		write_unsigned(((const struct bh_opt_u64 *)at)->value, out);
		return ((const struct bh_opt_u64 *)at)->set;
	case BH_FIELD_OPT_I64:
		write_signed(((const struct bh_opt_i64 *)at)->value, out);
		return ((const struct bh_opt_i64 *)at)->set;
	case BH_FIELD_STRINGS:
		return write_strings(at, out);
	case BH_FIELD_MAP:
		bh_map_write(at, out);
		return ((const struct bh_strv *)at)->count > 0;
	case BH_FIELD_OBJECT:
		bh_schema_write(field->fields, base, out);
		return out->length - before > strlen("{}");
	case BH_FIELD_ARRAY:
		return write_array(field, base, out);
	case BH_FIELD_CUSTOM:
		return field->codec->write(at, out);
	}
	return false;
}

void bh_schema_write(const struct bh_field *fields, const void *base, struct bh_buf *out)
{
	bool first = true;

	bh_buf_addc(out, '{');
	for (const struct bh_field *f = fields; f->name; f++) {
		size_t before = out->length;
		bool wanted;

		bh_buf_addf(out, "%s\"%s\":", first ? "" : ",", f->name);
		wanted = write_value(f, base, out);
		if (f->extra != BH_FIELD_NOWHERE && f->type != BH_FIELD_ARRAY)
			wanted = *(const bool *)((const char *)base + f->extra);
		if (wanted || f->required) {
			first = false;
			continue;
		}
		out->length = before;
		out->data[before] = '\0';
	}
	bh_buf_addc(out, '}');
}

static void clear_array(const struct bh_field *field, char *base)
{
	size_t *count = (size_t *)(base + field->extra);
	char **items = (char **)(base + field->offset);

	for (size_t i = 0; i < *count && field->fields; i++)
		bh_schema_clear(field->fields, *items + i * field->size);
	free(*items);
	*items = NULL;
	*count = 0;
}

void bh_schema_clear(const struct bh_field *fields, void *base)
{
	for (const struct bh_field *f = fields; f->name; f++) {
		void *at = (char *)base + f->offset;

		if (f->type == BH_FIELD_STRING) {
			free(*(char **)at);
			*(char **)at = NULL;
		} else if (f->type == BH_FIELD_STRINGS || f->type == BH_FIELD_MAP) {
			bh_strv_clear(at);
		} else if (f->type == BH_FIELD_OBJECT) {
			bh_schema_clear(f->fields, base);
		} else if (f->type == BH_FIELD_ARRAY) {
			clear_array(f, base);
		} else if (f->type == BH_FIELD_CUSTOM && f->codec->clear) {
			f->codec->clear(at);
		}
	}
}
