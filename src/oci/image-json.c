/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/image-json.h"

#include <errno.h>
#include <json-c/json.h>

int bh_image_json_parse(const char *bytes, size_t length, const char *what, struct json_object **ret_value, struct bh_error *err)
{
	struct json_tokener *tokener;
	struct json_object *value;
	enum json_tokener_error error;
	size_t end;

	if (length > BH_IMAGE_JSON_MAX)
		return bh_error_text(err, EFBIG, "%s: larger than %u bytes", what, BH_IMAGE_JSON_MAX);
	tokener = json_tokener_new_ex(BH_IMAGE_JSON_DEPTH);
	if (!tokener)
		return bh_error_set(err, ENOMEM, "%s", what);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(tokener, bytes ? bytes : "", (int)length);
	error = json_tokener_get_error(tokener);
	end = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	while (value && bytes && end < length && strchr(" \t\r\n", bytes[end]) && bytes[end])
		end++;
	if (!value || error != json_tokener_success || end != length) {
		json_object_put(value);
		return bh_error_text(err, EINVAL, "%s: not valid JSON (%s at byte %zu)", what,
				     error == json_tokener_continue ? "it ends too early" :
				     error != json_tokener_success  ? json_tokener_error_desc(error) :
								      "unexpected text",
				     end);
	}
	if (!json_object_is_type(value, json_type_object) && !json_object_is_type(value, json_type_array)) {
		json_object_put(value);
		return bh_error_text(err, EINVAL, "%s: not a JSON object", what);
	}
	*ret_value = value;
	return 0;
}

void bh_image_json_put(struct json_object **value)
{
	json_object_put(*value);
	*value = NULL;
}

static struct json_object *member(struct json_object *object, const char *name, enum json_type type)
{
	struct json_object *found = NULL;
	const char *dot;

	while ((dot = strchr(name, '.'))) {
		char part[64];

		snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
		if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, part, &object))
			return NULL;
		name = dot + 1;
	}
	if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, name, &found))
		return NULL;
	return json_object_is_type(found, type) ? found : NULL;
}

struct json_object *bh_image_json_object(struct json_object *object, const char *name)
{
	return member(object, name, json_type_object);
}

struct json_object *bh_image_json_array(struct json_object *object, const char *name)
{
	return member(object, name, json_type_array);
}

/* A string with a NUL inside would be cut short by every C user of it: it doesn't count as one. */
static const char *string_of(struct json_object *value)
{
	if (!json_object_is_type(value, json_type_string) || strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return NULL;
	return json_object_get_string(value);
}

const char *bh_image_json_string(struct json_object *object, const char *name)
{
	return string_of(member(object, name, json_type_string));
}

const char *bh_image_json_exact(struct json_object *object, const char *name)
{
	struct json_object *value = NULL;

	if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, name, &value))
		return NULL;
	return string_of(value);
}

int64_t bh_image_json_int(struct json_object *object, const char *name, int64_t fallback)
{
	struct json_object *value = member(object, name, json_type_int);

	return value ? json_object_get_int64(value) : fallback;
}

int bh_image_json_strings(struct json_object *array, struct bh_strv *v)
{
	size_t count = array ? json_object_array_length(array) : 0;

	for (size_t i = 0; i < count; i++) {
		const char *item = string_of(json_object_array_get_idx(array, i));

		if (!item)
			return -EINVAL;
		bh_strv_add(v, item);
	}
	return 0;
}

void bh_image_json_add(struct json_object *object, const char *name, const char *value)
{
	if (value)
		json_object_object_add(object, name, json_object_new_string(value));
}

const char *bh_image_json_text(struct json_object *value)
{
	return json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}
