/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/json.h"

json_object *bh_json_at(json_object *object, const char *path)
{
	while (object && *path) {
		size_t length = strcspn(path, ".");
		bh_auto_free char *key = bh_strndup(path, length);
		json_object *next = NULL;

		if (!json_object_is_type(object, json_type_object) || !json_object_object_get_ex(object, key, &next))
			return NULL;
		object = next;
		path += length + (path[length] == '.');
	}
	return object;
}

const char *bh_json_text(json_object *object, const char *path, const char *fallback)
{
	json_object *value = bh_json_at(object, path);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : fallback;
}

int64_t bh_json_int(json_object *object, const char *path, int64_t fallback)
{
	json_object *value = bh_json_at(object, path);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : fallback;
}

bool bh_json_bool(json_object *object, const char *path, bool fallback)
{
	json_object *value = bh_json_at(object, path);

	return json_object_is_type(value, json_type_boolean) ? json_object_get_boolean(value) : fallback;
}

void bh_json_strv(json_object *object, const char *path, struct bh_strv *ret_list)
{
	json_object *value = bh_json_at(object, path);

	if (!json_object_is_type(value, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(value, i));

		bh_strv_add(ret_list, text ? text : "");
	}
}

json_object *bh_json_from_strv(const struct bh_strv *list)
{
	json_object *array = json_object_new_array_ext((int)list->count);

	for (size_t i = 0; i < list->count; i++)
		json_object_array_add(array, json_object_new_string(list->items[i]));
	return array;
}
