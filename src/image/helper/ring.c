/* SPDX-License-Identifier: Apache-2.0 */
#include "image/helper/ring.h"

#include "base/memory.h"

#include <errno.h>
#include <pthread.h>

#define SLOTS 16

struct ring {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t first, used; /* the slots that hold bytes; the first may be in the consumer's hands */
	bool taken, finished, failed, left;
	size_t sizes[SLOTS];
	char slots[SLOTS][RING_SLOT_SIZE];
};

struct ring *ring_new(void)
{
	struct ring *ring = bh_malloc(sizeof *ring);

	pthread_mutex_init(&ring->lock, NULL);
	pthread_cond_init(&ring->changed, NULL);
	ring->first = ring->used = 0;
	ring->taken = ring->finished = ring->failed = ring->left = false;
	return ring;
}

void ring_free(struct ring *ring)
{
	pthread_cond_destroy(&ring->changed);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}

void *ring_reserve(struct ring *ring)
{
	void *slot;

	pthread_mutex_lock(&ring->lock);
	while (ring->used == SLOTS && !ring->left)
		pthread_cond_wait(&ring->changed, &ring->lock);
	slot = ring->slots[(ring->first + ring->used) % SLOTS];
	pthread_mutex_unlock(&ring->lock);
	return slot;
}

void ring_commit(struct ring *ring, size_t size)
{
	pthread_mutex_lock(&ring->lock);
	if (!ring->left && size) {
		ring->sizes[(ring->first + ring->used) % SLOTS] = size;
		ring->used++;
		pthread_cond_signal(&ring->changed);
	}
	pthread_mutex_unlock(&ring->lock);
}

void ring_finish(struct ring *ring, bool failed)
{
	pthread_mutex_lock(&ring->lock);
	ring->finished = true;
	ring->failed = failed;
	pthread_cond_signal(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}

ssize_t ring_next(struct ring *ring, const void **ret_bytes)
{
	ssize_t n;

	pthread_mutex_lock(&ring->lock);
	if (ring->taken) {
		ring->first = (ring->first + 1) % SLOTS;
		ring->used--;
		ring->taken = false;
		pthread_cond_signal(&ring->changed);
	}
	while (!ring->used && !ring->finished)
		pthread_cond_wait(&ring->changed, &ring->lock);
	if (ring->used) {
		*ret_bytes = ring->slots[ring->first];
		n = (ssize_t)ring->sizes[ring->first];
		ring->taken = true;
	} else {
		n = ring->failed ? -EPIPE : 0;
	}
	pthread_mutex_unlock(&ring->lock);
	return n;
}

void ring_leave(struct ring *ring)
{
	pthread_mutex_lock(&ring->lock);
	ring->left = true;
	ring->used = 0;
	pthread_cond_signal(&ring->changed);
	pthread_mutex_unlock(&ring->lock);
}
