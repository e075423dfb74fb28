/* SPDX-License-Identifier: Apache-2.0 */
/* Bounded reading of the JSON documents of images, which are hostile input: size, depth and types are checked. */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <json-c/json_types.h>
#include <stdint.h>

#define BH_IMAGE_JSON_MAX (8u << 20) /* bytes of a manifest, index or configuration */
#define BH_IMAGE_JSON_DEPTH 32

/* Parses an object or array; strict JSON, nothing behind it. `what` names the document. The caller puts the result. */
int bh_image_json_parse(const char *bytes, size_t length, const char *what, struct json_object **ret_value, struct bh_error *err);
void bh_image_json_put(struct json_object **value);
#define bh_auto_json __attribute__((cleanup(bh_image_json_put)))

/* Member of an object if it has that type, else NULL. The name may be a path "a.b". `object` may be NULL. */
struct json_object *bh_image_json_object(struct json_object *object, const char *name);
struct json_object *bh_image_json_array(struct json_object *object, const char *name);
/* NULL when it is missing, null, or not a string. */
const char *bh_image_json_string(struct json_object *object, const char *name);
/* Member of an object by its exact name, dots included (annotations, labels). */
const char *bh_image_json_exact(struct json_object *object, const char *name);
int64_t bh_image_json_int(struct json_object *object, const char *name, int64_t fallback);
/* Adds the array's strings to `v`; -EINVAL if an element isn't a string. NULL adds nothing. */
int bh_image_json_strings(struct json_object *array, struct bh_strv *v);
/* Adds a string member (no member for NULL). */
void bh_image_json_add(struct json_object *object, const char *name, const char *value);
/* Compact text without escaped slashes. */
const char *bh_image_json_text(struct json_object *value);
