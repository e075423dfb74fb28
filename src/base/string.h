/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strings, string vectors, byte buffers, and parsing of numbers with units.
 */
#pragma once

#include "base/error.h"
#include "base/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

static inline bool bh_streq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}
bool bh_has_prefix(const char *text, const char *prefix);
bool bh_has_suffix(const char *text, const char *suffix);

/* A growing NULL-terminated vector of strings it owns. All zero is a valid empty vector (then `items` is NULL). */
struct bh_strv {
	char **items;
	size_t count, capacity;
};
void bh_strv_add(struct bh_strv *v, const char *text);      /* copies */
void bh_strv_take(struct bh_strv *v, char *text);           /* takes ownership */
void bh_strv_addf(struct bh_strv *v, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bh_strv_extend(struct bh_strv *v, char *const *items); /* copies a NULL-terminated vector; NULL is empty */
bool bh_strv_contains(const struct bh_strv *v, const char *text);
void bh_strv_remove(struct bh_strv *v, size_t index);
/* Splits at each `separator`; empty fields are kept. */
struct bh_strv bh_strv_split(const char *text, char separator);
char *bh_strv_join(const struct bh_strv *v, const char *separator);
void bh_strv_clear(struct bh_strv *v);
#define bh_auto_strv __attribute__((cleanup(bh_strv_clear)))

/* Environment lists "KEY=value": the value of KEY or NULL; setting replaces. */
const char *bh_env_get(const struct bh_strv *env, const char *key);
void bh_env_set(struct bh_strv *env, const char *key_value);

/* A growing byte buffer, always NUL-terminated behind `length`. All zero is valid and empty (`data` may be NULL). */
struct bh_buf {
	char *data;
	size_t length, capacity;
};
void bh_buf_reserve(struct bh_buf *b, size_t more);
void bh_buf_add(struct bh_buf *b, const void *bytes, size_t length);
void bh_buf_adds(struct bh_buf *b, const char *text);
void bh_buf_addc(struct bh_buf *b, char c);
void bh_buf_addf(struct bh_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bh_buf_reset(struct bh_buf *b); /* keeps the memory */
void bh_buf_clear(struct bh_buf *b);
char *bh_buf_take(struct bh_buf *b); /* the string, never NULL; the buffer is empty afterwards */
#define bh_auto_buf __attribute__((cleanup(bh_buf_clear)))

/* Adds `text` as a JSON string with quotes. Invalid UTF-8 becomes U+FFFD. NULL gives null. */
void bh_buf_add_json(struct bh_buf *b, const char *text);
void bh_buf_add_jsonn(struct bh_buf *b, const char *bytes, size_t length);

/* Whole-string parsers: -EINVAL or -ERANGE, nothing skipped, no leading space or plus sign. */
int bh_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret_value);
int bh_parse_uint(const char *text, uint64_t max, uint64_t *ret_value);
/* "64m", "1.5g", "512", units b k m g t (also kb, KiB...), base 1024, as Docker takes them. */
int bh_parse_bytes(const char *text, uint64_t *ret_bytes);
/* Go durations: "1m30s", "500ms", "0". A bare number other than 0 is refused. */
int bh_parse_duration(const char *text, int64_t *ret_ns);
/* "0.5" -> 500000000 billionths. At most nine decimals. */
int bh_parse_nano(const char *text, int64_t *ret_nano);
int bh_parse_bool(const char *text, bool *ret_value);
int bh_parse_hex(const char *text, void *ret_bytes, size_t size);
void bh_format_hex(const void *bytes, size_t size, char *ret_text); /* 2 * size + 1 bytes */

/* "1.5MiB" (binary) / "1.5MB" (decimal), as docker stats and docker images print. Returns its buffer. */
const char *bh_format_bytes_binary(uint64_t bytes, char ret_text[32]);
const char *bh_format_bytes_decimal(uint64_t bytes, char ret_text[32]);
