/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of buffers between one producing and one consuming thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define RING_SLOT_SIZE (256u << 10)

struct ring;
struct ring *ring_new(void);
void ring_free(struct ring *ring);

/* Producer: the next free buffer (waits), then how much is in it. Once the consumer is gone the bytes lead nowhere. */
void *ring_reserve(struct ring *ring);
void ring_commit(struct ring *ring, size_t size);
/* Producer: no more bytes; `failed`: the consumer must not take what it has for the whole. */
void ring_finish(struct ring *ring, bool failed);

/* Consumer: the next bytes, valid until the next call; 0 at the end, -EPIPE if the producer failed. */
ssize_t ring_next(struct ring *ring, const void **ret_bytes);
/* Consumer: it won't read on. */
void ring_leave(struct ring *ring);
