/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of devices as bytes: what a snapshot keeps and a migration sends.
 *
 * Little-endian numbers one after the other, without alignment. A reader never goes beyond its bytes: after the first failure it
 * gives zeros, and bh_state_failed says so at the end, so that each field needn't be asked for. The bytes are hostile: who loads checks the values.
 */
#pragma once

#include "base/string.h"

struct bh_state_reader {
	const uint8_t *at, *end;
	bool failed;
};

static inline struct bh_state_reader bh_state_reader(const void *bytes, size_t length)
{
	return (struct bh_state_reader){ bytes, (const uint8_t *)bytes + length, false };
}

static inline void bh_state_put(struct bh_buf *out, uint64_t value, unsigned size)
{
	bh_buf_add(out, &value, size); /* this machine is little-endian too */
}

static inline void bh_state_put_bytes(struct bh_buf *out, const void *bytes, size_t length)
{
	bh_state_put(out, length, 4);
	bh_buf_add(out, bytes, length);
}

static inline uint64_t bh_state_get(struct bh_state_reader *in, unsigned size)
{
	uint64_t value = 0;

	if (in->failed || (size_t)(in->end - in->at) < size) {
		in->failed = true;
		return 0;
	}
	memcpy(&value, in->at, size);
	in->at += size;
	return value;
}

/* What bh_state_put_bytes wrote; NULL and 0 after a failure. The bytes belong to the reader's. */
static inline const uint8_t *bh_state_get_bytes(struct bh_state_reader *in, size_t *ret_length)
{
	size_t length = bh_state_get(in, 4);
	const uint8_t *bytes = in->at;

	*ret_length = 0;
	if (in->failed || (size_t)(in->end - in->at) < length) {
		in->failed = true;
		return NULL;
	}
	in->at += length;
	*ret_length = length;
	return bytes;
}

/* The same, for a field of known size. */
static inline void bh_state_get_exactly(struct bh_state_reader *in, void *bytes, size_t size)
{
	size_t length;
	const uint8_t *from = bh_state_get_bytes(in, &length);

	if (from && length == size)
		memcpy(bytes, from, size);
	else
		in->failed = true;
}
