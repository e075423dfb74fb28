/* SPDX-License-Identifier: Apache-2.0 */
/*
 * D-Bus messages (D-Bus specification 0.43, "Message Protocol" and "Marshaling"), as far as systemd's manager needs them.
 *
 * A message is a header (fixed part, then an array of fields: path, interface, member, ...) and a body, both of values that are
 * aligned to their own size, counted from the message's first byte; the header is padded to 8, so a body can be written on its
 * own. Only this machine's byte order is spoken: the other side is always on it.
 *
 * What comes in is hostile: lengths are compared with what is there before anything is read, strings must end with NUL where
 * they say and hold none before, unknown header fields are skipped by their type, and nesting has a limit. Nothing is copied.
 */
#include "cgroup/dbus-internal.h"

#include <errno.h>
#include <sys/types.h>

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BYTE_ORDER_MARK 'l'
#else
#define BYTE_ORDER_MARK 'B'
#endif
#define PROTOCOL_VERSION 1
#define FLAG_NO_REPLY 1
#define SKIP_DEPTH_MAX 8
#define SIGNATURE_MAX 255

enum header_field {
	FIELD_PATH = 1,
	FIELD_INTERFACE = 2,
	FIELD_MEMBER = 3,
	FIELD_ERROR_NAME = 4,
	FIELD_REPLY_SERIAL = 5,
	FIELD_DESTINATION = 6,
	FIELD_SIGNATURE = 8,
};

/* --- writing ------------------------------------------------------------------------------------------------------------------ */

void bh_dbus_align(struct bh_buf *out, size_t alignment)
{
	while (out->length % alignment)
		bh_buf_addc(out, '\0');
}

void bh_dbus_put_u8(struct bh_buf *out, uint8_t value)
{
	bh_buf_add(out, &value, sizeof value);
}

void bh_dbus_put_u16(struct bh_buf *out, uint16_t value)
{
	bh_dbus_align(out, sizeof value);
	bh_buf_add(out, &value, sizeof value);
}

void bh_dbus_put_u32(struct bh_buf *out, uint32_t value)
{
	bh_dbus_align(out, sizeof value);
	bh_buf_add(out, &value, sizeof value);
}

void bh_dbus_put_u64(struct bh_buf *out, uint64_t value)
{
	bh_dbus_align(out, sizeof value);
	bh_buf_add(out, &value, sizeof value);
}

void bh_dbus_put_string(struct bh_buf *out, const char *text)
{
	size_t length = strlen(text);

	bh_dbus_put_u32(out, (uint32_t)length);
	bh_buf_add(out, text, length + 1);
}

void bh_dbus_put_signature(struct bh_buf *out, const char *text)
{
	size_t length = strlen(text);

	bh_dbus_put_u8(out, (uint8_t)length);
	bh_buf_add(out, text, length + 1);
}

/* Length, padding to the first element (which the length doesn't count), elements. */
size_t bh_dbus_open_array(struct bh_buf *out, size_t alignment)
{
	size_t mark;

	bh_dbus_put_u32(out, 0);
	mark = out->length - sizeof(uint32_t);
	bh_dbus_align(out, alignment);
	return mark;
}

void bh_dbus_close_array(struct bh_buf *out, size_t mark, size_t alignment)
{
	size_t first = (mark + sizeof(uint32_t) + alignment - 1) / alignment * alignment;
	uint32_t length = (uint32_t)(out->length - first);

	memcpy(out->data + mark, &length, sizeof length);
}

size_t bh_dbus_alignment(char type)
{
	static const char *const by_size[] = { "ygv", "nq", "biusoah", "xtd({" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(by_size); i++)
		if (type && strchr(by_size[i], type))
			return (size_t)1 << i;
	return 1;
}

static void put_header_field(struct bh_buf *out, enum header_field field, char type, const char *value)
{
	char signature[2] = { type, '\0' };

	if (!value || !*value)
		return;
	bh_dbus_align(out, 8);
	bh_dbus_put_u8(out, (uint8_t)field);
	bh_dbus_put_signature(out, signature);
	if (type == 'g')
		bh_dbus_put_signature(out, value);
	else
		bh_dbus_put_string(out, value);
}

void bh_dbus_put_call(struct bh_buf *out, uint32_t serial, const struct bh_dbus_call *call)
{
	bh_auto_buf struct bh_buf message = { 0 };
	size_t mark;

	bh_dbus_put_u8(&message, BYTE_ORDER_MARK);
	bh_dbus_put_u8(&message, BH_DBUS_CALL);
	bh_dbus_put_u8(&message, call->no_reply ? FLAG_NO_REPLY : 0);
	bh_dbus_put_u8(&message, PROTOCOL_VERSION);
	bh_dbus_put_u32(&message, call->body ? (uint32_t)call->body->length : 0);
	bh_dbus_put_u32(&message, serial);
	mark = bh_dbus_open_array(&message, 8);
	put_header_field(&message, FIELD_PATH, 'o', call->path);
	put_header_field(&message, FIELD_INTERFACE, 's', call->interface);
	put_header_field(&message, FIELD_MEMBER, 's', call->member);
	put_header_field(&message, FIELD_DESTINATION, 's', call->destination);
	put_header_field(&message, FIELD_SIGNATURE, 'g', call->signature);
	bh_dbus_close_array(&message, mark, 8);
	bh_dbus_align(&message, 8);
	bh_buf_add(out, message.data, message.length);
	if (call->body && call->body->length)
		bh_buf_add(out, call->body->data, call->body->length);
}

/* --- reading ------------------------------------------------------------------------------------------------------------------- */

/* `size` bytes aligned to `alignment`, or NULL. */
static const uint8_t *take(struct bh_dbus_cursor *cursor, size_t size, size_t alignment)
{
	size_t start = (cursor->offset + alignment - 1) / alignment * alignment;

	if (cursor->failed || start > cursor->length || size > cursor->length - start) {
		cursor->failed = true;
		return NULL;
	}
	cursor->offset = start + size;
	return cursor->bytes + start;
}

static uint8_t get_u8(struct bh_dbus_cursor *cursor)
{
	const uint8_t *at = take(cursor, 1, 1);

	return at ? *at : 0;
}

uint32_t bh_dbus_get_u32(struct bh_dbus_cursor *cursor)
{
	const uint8_t *at = take(cursor, sizeof(uint32_t), sizeof(uint32_t));
	uint32_t value = 0;

	if (at)
		memcpy(&value, at, sizeof value);
	return value;
}

static const char *get_text(struct bh_dbus_cursor *cursor, size_t length)
{
	const uint8_t *at = length < DBUS_MESSAGE_MAX ? take(cursor, length + 1, 1) : NULL;

	if (!at || memchr(at, '\0', length + 1) != at + length) {
		cursor->failed = true;
		return "";
	}
	return (const char *)at;
}

const char *bh_dbus_get_string(struct bh_dbus_cursor *cursor)
{
	return get_text(cursor, bh_dbus_get_u32(cursor));
}

const char *bh_dbus_get_signature(struct bh_dbus_cursor *cursor)
{
	return get_text(cursor, get_u8(cursor));
}

/* Skips one value of the type that `signature` begins with; returns what follows the type, or NULL. */
static const char *skip_value(struct bh_dbus_cursor *cursor, const char *signature, int depth);

static const char *skip_variant(struct bh_dbus_cursor *cursor, const char *signature, int depth)
{
	const char *inner = bh_dbus_get_signature(cursor), *rest = skip_value(cursor, inner, depth - 1);

	return rest && !*rest ? signature + 1 : NULL;
}

/* The type behind this one, of any kind; NULL if it isn't complete. */
static const char *next_type(const char *signature, int depth)
{
	if (depth <= 0 || !*signature || strchr(")}", *signature))
		return NULL;
	if (*signature == 'a')
		return next_type(signature + 1, depth - 1);
	if (*signature != '(' && *signature != '{')
		return signature + 1;
	for (const char close = *signature++ == '(' ? ')' : '}'; signature && *signature != close;)
		signature = next_type(signature, depth - 1);
	return signature ? signature + 1 : NULL;
}

static const char *skip_array(struct bh_dbus_cursor *cursor, const char *signature, int depth)
{
	uint32_t length = bh_dbus_get_u32(cursor);

	/* The elements need not be looked at: their length says it all. */
	take(cursor, 0, bh_dbus_alignment(signature[1]));
	take(cursor, length, 1);
	return next_type(signature, depth);
}

static const char *skip_value(struct bh_dbus_cursor *cursor, const char *signature, int depth)
{
	size_t size = bh_dbus_alignment(*signature);

	if (depth <= 0 || !*signature)
		return NULL;
	switch (*signature) {
	case 's':
	case 'o':
		bh_dbus_get_string(cursor);
		return signature + 1;
	case 'g':
		bh_dbus_get_signature(cursor);
		return signature + 1;
	case 'v':
		return skip_variant(cursor, signature, depth);
	case 'a':
		return skip_array(cursor, signature, depth);
	case '(':
		take(cursor, 0, 8);
		for (signature++; signature && *signature != ')';)
			signature = skip_value(cursor, signature, depth - 1);
		return signature ? signature + 1 : NULL;
	default:
		if (!strchr("ynqbiuxtdh", *signature))
			return NULL;
		take(cursor, size, size);
		return signature + 1;
	}
}

static int parse_header_field(struct bh_dbus_cursor *cursor, struct bh_dbus_message *message)
{
	static const struct {
		enum header_field field;
		char type;
		size_t offset;
	} texts[] = {
		{ FIELD_PATH, 'o', offsetof(struct bh_dbus_message, path) },
		{ FIELD_INTERFACE, 's', offsetof(struct bh_dbus_message, interface) },
		{ FIELD_MEMBER, 's', offsetof(struct bh_dbus_message, member) },
		{ FIELD_ERROR_NAME, 's', offsetof(struct bh_dbus_message, error_name) },
		{ FIELD_SIGNATURE, 'g', offsetof(struct bh_dbus_message, signature) },
	};
	const char *signature, *rest;
	uint8_t field;

	take(cursor, 0, 8);
	field = get_u8(cursor);
	signature = bh_dbus_get_signature(cursor);
	for (size_t i = 0; i < BH_ARRAY_SIZE(texts); i++) {
		const char **at = (const char **)(void *)((char *)message + texts[i].offset);

		if (field != texts[i].field)
			continue;
		if (signature[0] != texts[i].type || signature[1])
			return -EBADMSG;
		*at = texts[i].type == 'g' ? bh_dbus_get_signature(cursor) : bh_dbus_get_string(cursor);
		return cursor->failed ? -EBADMSG : 0;
	}
	if (field == FIELD_REPLY_SERIAL) {
		if (!bh_streq(signature, "u"))
			return -EBADMSG;
		message->reply_serial = bh_dbus_get_u32(cursor);
		return cursor->failed ? -EBADMSG : 0;
	}
	rest = skip_value(cursor, signature, SKIP_DEPTH_MAX);
	return cursor->failed || !rest || *rest ? -EBADMSG : 0;
}

ssize_t bh_dbus_message_length(const uint8_t header[DBUS_FIXED_HEADER])
{
	uint32_t body, fields;

	memcpy(&body, header + 4, sizeof body);
	memcpy(&fields, header + 12, sizeof fields);
	if (header[0] != BYTE_ORDER_MARK || header[1] < BH_DBUS_CALL || header[1] > BH_DBUS_SIGNAL || header[3] != PROTOCOL_VERSION)
		return -EBADMSG;
	if (body > DBUS_MESSAGE_MAX || fields > DBUS_MESSAGE_MAX)
		return -EMSGSIZE;
	return (ssize_t)(DBUS_FIXED_HEADER + (fields + 7u) / 8 * 8 + body);
}

int bh_dbus_parse(const uint8_t *bytes, size_t length, struct bh_dbus_message *ret_message)
{
	struct bh_dbus_message message = { .signature = "" };
	struct bh_dbus_cursor cursor = { .bytes = bytes, .length = length };
	uint32_t fields, body;
	size_t header_end;
	int r = 0;

	if (length < DBUS_FIXED_HEADER || bh_dbus_message_length(bytes) != (ssize_t)length)
		return -EBADMSG;
	message.type = (enum bh_dbus_type)bytes[1];
	memcpy(&body, bytes + 4, sizeof body);
	memcpy(&message.serial, bytes + 8, sizeof message.serial);
	memcpy(&fields, bytes + 12, sizeof fields);
	cursor.offset = DBUS_FIXED_HEADER;
	cursor.length = header_end = DBUS_FIXED_HEADER + fields;
	while (r == 0 && cursor.offset < header_end)
		r = parse_header_field(&cursor, &message);
	if (r < 0)
		return r;
	if ((message.type == BH_DBUS_RETURN || message.type == BH_DBUS_ERROR) && !message.reply_serial)
		return -EBADMSG;
	message.body = bytes + length - body;
	message.body_length = body;
	*ret_message = message;
	return 0;
}
