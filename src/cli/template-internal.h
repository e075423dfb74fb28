/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of templates (template-functions.c). */
#pragma once

#include "base/string.h"

#include <json-c/json_types.h>

#define BH_TEMPLATE_ARGUMENTS_MAX 32

bool bh_template_has_function(const char *name);
/* Calls it. *ret_value is owned by the caller. -EINVAL: *ret_why says why. */
int bh_template_call(const char *name, struct json_object **arguments, size_t count, struct json_object **ret_value, const char **ret_why);
/* Go's truth: not null, false, 0, "", or empty. */
bool bh_template_is_true(struct json_object *value);
/* As Go's %v prints it: "[a b]", "map[k:v]", "<no value>". */
void bh_template_print(struct json_object *value, struct bh_buf *out);
