/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of the control protocol: one JSON object (RFC 8259) without nested ones. A JSON library would be a third of this program.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BH_FLAT_MEMBERS_MAX 16
#define BH_FLAT_TEXT_MAX 256 /* bytes of a key or a value, with its NUL */

struct bh_flat_member {
	char key[BH_FLAT_TEXT_MAX];
	enum { BH_FLAT_STRING, BH_FLAT_NUMBER, BH_FLAT_BOOL, BH_FLAT_NULL } type;
	char text[BH_FLAT_TEXT_MAX]; /* of a string */
	int64_t number;              /* of a number (whole ones only) or a bool */
	bool taken;
};

struct bh_flat_object {
	struct bh_flat_member members[BH_FLAT_MEMBERS_MAX];
	size_t count;
};

/* -EINVAL with what is wrong and where. */
int bh_flat_parse(const char *text, size_t length, struct bh_flat_object *ret_object, struct bh_error *err);
/* The member's value, or `missing` where there is none of that type; it counts as known then. */
const char *bh_flat_text(struct bh_flat_object *object, const char *key, const char *missing);
int64_t bh_flat_number(struct bh_flat_object *object, const char *key, int64_t missing);
bool bh_flat_bool(struct bh_flat_object *object, const char *key);
/* The first member that nobody has asked for, or NULL. */
const char *bh_flat_unknown(const struct bh_flat_object *object);
