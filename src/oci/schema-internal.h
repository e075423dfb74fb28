/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON object described by a table of fields; one walker reads it, one writes it and one frees it.
 *
 * The three walks use the same table, so what can be read is also written and freed. A field names where it lies in the C
 * structure; shapes that the generic types don't cover (sets of capabilities, namespaces by type) bring a codec.
 */
#pragma once

#include "base/error.h"
#include "base/string.h"

#include <json-c/json.h>
#include <limits.h>

enum bh_field_type {
	BH_FIELD_STRING,  /* char * */
	BH_FIELD_BOOL,    /* bool */
	BH_FIELD_U16,     /* uint16_t */
	BH_FIELD_U32,     /* uint32_t */
	BH_FIELD_I64,     /* int64_t */
	BH_FIELD_U64,     /* uint64_t */
	BH_FIELD_OPT_I64, /* struct bh_opt_i64 */
	BH_FIELD_OPT_U64, /* struct bh_opt_u64 */
	BH_FIELD_STRINGS, /* struct bh_strv, an array of strings */
	BH_FIELD_MAP,     /* struct bh_strv "key=value", an object of strings */
	BH_FIELD_OBJECT,  /* `fields` of the same structure, one JSON level deeper */
	BH_FIELD_ARRAY,   /* pointer at `offset`, size_t at `extra`, elements of `size` bytes described by `fields` */
	BH_FIELD_CUSTOM,  /* `codec` on the address at `offset` */
};

#define BH_FIELD_NOWHERE USHRT_MAX

/* The JSON path of the value at hand, for error words. */
struct bh_json_path {
	const struct bh_json_path *parent;
	const char *name; /* NULL: an array index */
	size_t index;
};

struct bh_field_codec {
	int (*parse)(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err);
	/* Adds the value to `out`, or returns false (and adds nothing) if there is nothing to write. */
	bool (*write)(const void *at, struct bh_buf *out);
	void (*clear)(void *at); /* may be NULL */
};

struct bh_field {
	const char *name; /* NULL ends a table */
	enum bh_field_type type;
	bool required;            /* an error when missing; written even if zero */
	unsigned short offset;
	unsigned short extra;     /* ARRAY: of the count; others: of a bool that says "was given", or NOWHERE */
	unsigned short size;      /* ARRAY: of an element */
	const struct bh_field *fields;
	const struct bh_field_codec *codec;
};

#define BH_SCHEMA_ARRAY_MAX 65536

int bh_schema_parse(json_object *object, const struct bh_field *fields, void *base, const struct bh_json_path *path, struct bh_error *err);
void bh_schema_write(const struct bh_field *fields, const void *base, struct bh_buf *out);
void bh_schema_clear(const struct bh_field *fields, void *base);

/* "linux.resources.memory.limit: WORDS" with -EINVAL. */
int bh_schema_error(const struct bh_json_path *path, struct bh_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The string's bytes; an error unless it is a string without NUL bytes. */
int bh_schema_string(json_object *value, const struct bh_json_path *path, const char **ret_text, struct bh_error *err);
