/* SPDX-License-Identifier: Apache-2.0 */
/* The little of D-Bus that talking to systemd takes; see dbus.c. */
#pragma once

#include "base/error.h"
#include "base/string.h"

/* Replies and signals beyond this are an error; the specification allows 128 MiB. */
#define DBUS_MESSAGE_MAX (1u << 20)
/* Fixed part of a header, with the length of the array of its fields. */
#define DBUS_FIXED_HEADER 16

enum bh_dbus_type { BH_DBUS_CALL = 1, BH_DBUS_RETURN = 2, BH_DBUS_ERROR = 3, BH_DBUS_SIGNAL = 4 };

/* --- writing: values are appended to `out`, each aligned to its own size from the buffer's beginning ------------------------- */

void bh_dbus_align(struct bh_buf *out, size_t alignment);
void bh_dbus_put_u8(struct bh_buf *out, uint8_t value);
void bh_dbus_put_u16(struct bh_buf *out, uint16_t value);
void bh_dbus_put_u32(struct bh_buf *out, uint32_t value);
void bh_dbus_put_u64(struct bh_buf *out, uint64_t value);
void bh_dbus_put_string(struct bh_buf *out, const char *text);    /* also an object path */
void bh_dbus_put_signature(struct bh_buf *out, const char *text); /* at most 255 characters */
/* An array: returns a mark for its end. `alignment` is that of an element. */
size_t bh_dbus_open_array(struct bh_buf *out, size_t alignment);
void bh_dbus_close_array(struct bh_buf *out, size_t mark, size_t alignment);
/* How a value of this type is aligned. */
size_t bh_dbus_alignment(char type);

struct bh_dbus_call {
	const char *destination, *path, *interface, *member;
	const char *signature; /* of the body, "" without one */
	const struct bh_buf *body;
	bool no_reply;
};
/* Appends the whole message; `out` must be empty or hold only whole messages, each of which begins at its own offset 0. */
void bh_dbus_put_call(struct bh_buf *out, uint32_t serial, const struct bh_dbus_call *call);

/* --- reading ----------------------------------------------------------------------------------------------------------------- */

/* A message whose strings point into its bytes. */
struct bh_dbus_message {
	enum bh_dbus_type type;
	uint32_t serial, reply_serial;
	const char *path, *interface, *member, *error_name, *signature; /* NULL or "" if it has none */
	const uint8_t *body;
	size_t body_length;
};
/* The length of the message that begins with these 16 bytes, or -EBADMSG, -EMSGSIZE. */
ssize_t bh_dbus_message_length(const uint8_t header[DBUS_FIXED_HEADER]);
/* Exactly one message. -EBADMSG. */
int bh_dbus_parse(const uint8_t *bytes, size_t length, struct bh_dbus_message *ret_message);

/* Walks over a body. What doesn't fit sets `failed`, and everything after gives zero or "". */
struct bh_dbus_cursor {
	const uint8_t *bytes;
	size_t length, offset;
	bool failed;
};
uint32_t bh_dbus_get_u32(struct bh_dbus_cursor *cursor);
/* NUL-terminated inside the message. */
const char *bh_dbus_get_string(struct bh_dbus_cursor *cursor);
const char *bh_dbus_get_signature(struct bh_dbus_cursor *cursor);

/* --- gvariant.c ------------------------------------------------------------------------------------------------------------- */

/* A value in GVariant's text format ("true", "uint64 5", "['a', 'b']"), as D-Bus has it. */
struct bh_dbus_value {
	char signature[8];
	struct bh_buf bytes; /* marshalled at offset 0: an array's elements follow their padding */
};
int bh_dbus_value_parse(const char *text, struct bh_dbus_value *ret_value, struct bh_error *err);
void bh_dbus_value_clear(struct bh_dbus_value *value);
/* A number of seconds of any type becomes microseconds ("t"). -EINVAL if it is none. */
int bh_dbus_value_to_usec(struct bh_dbus_value *value);
/* Appends a variant of it. */
void bh_dbus_put_value(struct bh_buf *out, const struct bh_dbus_value *value);
