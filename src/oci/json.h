/* SPDX-License-Identifier: Apache-2.0 */
/* json-c helpers: a dotted path, with a default when it is missing or of another type. */
#pragma once

#include "base/string.h"

#include <json-c/json.h>

json_object *bh_json_at(json_object *object, const char *path);
const char *bh_json_text(json_object *object, const char *path, const char *fallback);
int64_t bh_json_int(json_object *object, const char *path, int64_t fallback);
bool bh_json_bool(json_object *object, const char *path, bool fallback);
/* An array of strings into a vector. */
void bh_json_strv(json_object *object, const char *path, struct bh_strv *ret_list);
json_object *bh_json_from_strv(const struct bh_strv *list);
