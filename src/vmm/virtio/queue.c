/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Split virtqueues (specification 2.7), from the device's side, with the guest as the enemy.
 *
 * The guest can write all three areas at any moment. So: a descriptor is copied before it is looked at; an index out of a ring is
 * checked against the queue's size; a chain has at most as many buffers as the queue (a longer one is a circle); each buffer
 * lies in one region of guest memory as a whole, or the chain is refused. Where we are in the rings is kept here, never read back.
 *
 * The order of accesses to the rings is the specification's (2.7.13): the index is read before the entries it covers (acquire), and
 * written behind them (release); between our writing an index and our reading of whether the other side wants to be told lies a
 * full barrier.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#define DESCRIPTOR_ALIGN 16
#define AVAILABLE_ALIGN 2
#define USED_ALIGN 4

/* Offsets behind flags (16 bits) and index (16 bits). */
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_ENTRIES 4

static const struct bh_guest_memory *memory_of(const struct bh_virtqueue *q)
{
	return &q->device->vm->memory;
}

static uint64_t available_size(const struct bh_virtqueue *q)
{
	return RING_ENTRIES + 2ULL * q->size + 2;
}

static uint64_t used_size(const struct bh_virtqueue *q)
{
	return RING_ENTRIES + sizeof(struct vring_used_elem) * (uint64_t)q->size + 2;
}

/* The areas are in guest memory: bh_virtqueue_is_valid was asked when the queue was enabled, and memory doesn't go away. */
static void *at(const struct bh_virtqueue *q, uint64_t address, uint64_t offset, uint64_t size)
{
	return bh_guest_at(memory_of(q), address + offset, size);
}

static uint16_t load(const void *from)
{
	return __atomic_load_n((const uint16_t *)from, __ATOMIC_ACQUIRE);
}

static void store(void *to, uint16_t value)
{
	__atomic_store_n((uint16_t *)to, value, __ATOMIC_RELEASE);
}

bool bh_virtqueue_is_valid(const struct bh_virtqueue *q)
{
	if (q->size == 0 || q->size > BH_VIRTIO_QUEUE_SIZE || (q->size & (q->size - 1)))
		return false;
	if (q->descriptors % DESCRIPTOR_ALIGN || q->available % AVAILABLE_ALIGN || q->used % USED_ALIGN)
		return false;
	return bh_guest_at(memory_of(q), q->descriptors, sizeof(struct vring_desc) * (uint64_t)q->size) &&
	       bh_guest_at(memory_of(q), q->available, available_size(q)) && bh_guest_at(memory_of(q), q->used, used_size(q));
}

void bh_virtqueue_enable(struct bh_virtqueue *q)
{
	pthread_mutex_lock(&q->lock);
	if (q->size == 0)
		q->size = BH_VIRTIO_QUEUE_SIZE;
	if (bh_virtqueue_is_valid(q))
		q->enabled = true;
	else
		bh_virtio_fail(q->device);
	pthread_mutex_unlock(&q->lock);
}

void bh_virtqueue_clear(struct bh_virtqueue *q)
{
	q->size = q->next_available = q->next_used = q->signalled = 0;
	q->enabled = false;
	q->descriptors = q->available = q->used = 0;
	q->vector = BH_VIRTIO_NO_VECTOR;
}

void bh_virtqueue_disable(struct bh_virtqueue *q)
{
	if (q->device->driver->disabling)
		q->device->driver->disabling(q->device);
	/* One that is served now ends first. */
	pthread_mutex_lock(&q->lock);
	bh_virtqueue_clear(q);
	pthread_mutex_unlock(&q->lock);
}

void bh_virtqueue_serve(struct bh_virtqueue *q)
{
	const struct bh_virtio_driver *driver = q->device->driver;
	pthread_mutex_t *lock = driver->parallel ? &q->lock : &q->device->lock;

	pthread_mutex_lock(lock);
	if (q->device->active && q->enabled && driver->notify)
		driver->notify(q->device, q->index);
	pthread_mutex_unlock(lock);
}

static bool ready(const struct bh_virtqueue *q)
{
	return q->enabled && q->device->active;
}

/* --- chains --------------------------------------------------------------------------------------------------------- */

/* Where descriptors are read from: the queue's own table, or the guest's indirect one. */
struct table {
	const uint8_t *descriptors;
	uint32_t count;
};

static bool add_buffer(const struct bh_virtqueue *q, const struct vring_desc *d, struct bh_chain *chain)
{
	unsigned count = chain->readable + chain->writable;
	bool writable = d->flags & VRING_DESC_F_WRITE;
	void *host = bh_guest_at(memory_of(q), d->addr, d->len);

	/* 2.7.4.2: what the device writes comes behind what it reads. */
	if (!host || count == BH_VIRTIO_QUEUE_SIZE || (!writable && chain->writable))
		return false;
	chain->iov[count] = (struct iovec){ host, d->len };
	if (writable) {
		chain->writable++;
		chain->writable_bytes += d->len;
	} else {
		chain->readable++;
		chain->readable_bytes += d->len;
	}
	return true;
}

static bool enter_indirect(const struct bh_virtqueue *q, const struct vring_desc *d, struct table *table)
{
	if (!bh_virtio_has(q->device, BH_VIRTIO_F_INDIRECT_DESC) || d->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE))
		return false;
	if (d->len == 0 || d->len % sizeof *d || d->len / sizeof *d > BH_VIRTIO_QUEUE_SIZE)
		return false;
	table->descriptors = bh_guest_at(memory_of(q), d->addr, d->len);
	table->count = (uint32_t)(d->len / sizeof *d);
	return table->descriptors != NULL;
}

static bool read_chain(const struct bh_virtqueue *q, uint16_t head, struct bh_chain *chain)
{
	struct table table = { at(q, q->descriptors, 0, sizeof(struct vring_desc) * (uint64_t)q->size), q->size };
	uint32_t index = head;
	bool indirect = false;

	chain->head = head;
	chain->readable = chain->writable = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	for (unsigned seen = 0; seen <= BH_VIRTIO_QUEUE_SIZE; seen++) {
		struct vring_desc d;

		if (index >= table.count)
			return false;
		memcpy(&d, table.descriptors + index * sizeof d, sizeof d);
		if (d.flags & VRING_DESC_F_INDIRECT) {
			if (indirect || seen > 0 || !enter_indirect(q, &d, &table))
				return false;
			indirect = true;
			index = 0;
			continue;
		}
		if (!add_buffer(q, &d, chain))
			return false;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return true;
		index = d.next;
	}
	return false;
}

int bh_virtqueue_pop(struct bh_virtqueue *q, struct bh_chain *ret_chain)
{
	uint16_t there, head;

	if (!ready(q))
		return 0;
	there = (uint16_t)(load(at(q, q->available, RING_INDEX, 2)) - q->next_available);
	if (there == 0)
		return 0;
	if (there <= q->size) {
		head = load(at(q, q->available, RING_ENTRIES + 2ULL * (q->next_available % q->size), 2));
		if (head < q->size && read_chain(q, head, ret_chain)) {
			q->next_available++;
			return 1;
		}
	}
	bh_virtio_fail(q->device);
	return -EINVAL;
}

bool bh_virtqueue_has_more(const struct bh_virtqueue *q)
{
	return ready(q) && load(at(q, q->available, RING_INDEX, 2)) != q->next_available;
}

void bh_virtqueue_undo_pop(struct bh_virtqueue *q)
{
	q->next_available--;
}

static void mark_written(const struct bh_virtqueue *q, const struct bh_chain *chain, size_t written)
{
	const struct iovec *iov = bh_chain_writable(chain);

	for (unsigned i = 0; i < chain->writable && written; i++) {
		size_t length = BH_MIN(written, iov[i].iov_len);

		bh_guest_mark_dirty(memory_of(q), iov[i].iov_base, length);
		written -= length;
	}
}

void bh_virtqueue_push(struct bh_virtqueue *q, const struct bh_chain *chain, size_t written)
{
	struct vring_used_elem element = { chain->head, (uint32_t)BH_MIN(written, chain->writable_bytes) };
	uint8_t *to, *index;

	/* A reset may have come while the buffers were away. */
	if (!ready(q))
		return;
	mark_written(q, chain, element.len);
	to = at(q, q->used, RING_ENTRIES + sizeof element * (uint64_t)(q->next_used % q->size), sizeof element);
	memcpy(to, &element, sizeof element);
	index = at(q, q->used, RING_INDEX, 2);
	store(index, ++q->next_used);
	bh_guest_mark_dirty(memory_of(q), at(q, q->used, 0, used_size(q)), used_size(q));
}

/* --- who tells whom (2.7.7, 2.7.10) --------------------------------------------------------------------------------- */

void bh_virtqueue_interrupt(struct bh_virtqueue *q)
{
	uint16_t before = q->signalled;

	if (!ready(q) || before == q->next_used)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	q->signalled = q->next_used;
	if (bh_virtio_has(q->device, BH_VIRTIO_F_EVENT_IDX)) {
		uint16_t event = load(at(q, q->available, RING_ENTRIES + 2ULL * q->size, 2));

		if (!vring_need_event(event, q->next_used, before))
			return;
	} else if (load(at(q, q->available, RING_FLAGS, 2)) & VRING_AVAIL_F_NO_INTERRUPT) {
		return;
	}
	bh_virtio_interrupt(q->device, q->index);
}

/* In the used ring. */
static void store_for_guest(const struct bh_virtqueue *q, uint64_t offset, uint16_t value)
{
	void *to = at(q, q->used, offset, sizeof value);

	store(to, value);
	bh_guest_mark_dirty(memory_of(q), to, sizeof value);
}

void bh_virtqueue_quiet(struct bh_virtqueue *q)
{
	/* With event indices the guest is quiet until its index passes the one it was told last. */
	if (ready(q) && !bh_virtio_has(q->device, BH_VIRTIO_F_EVENT_IDX))
		store_for_guest(q, RING_FLAGS, VRING_USED_F_NO_NOTIFY);
}

bool bh_virtqueue_listen(struct bh_virtqueue *q)
{
	if (!ready(q))
		return false;
	if (bh_virtio_has(q->device, BH_VIRTIO_F_EVENT_IDX))
		store_for_guest(q, RING_ENTRIES + sizeof(struct vring_used_elem) * (uint64_t)q->size, q->next_available);
	else
		store_for_guest(q, RING_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return bh_virtqueue_has_more(q);
}

uint16_t bh_virtqueue_listen_behind(struct bh_virtqueue *q)
{
	uint16_t index;

	if (!ready(q))
		return q->next_available;
	index = load(at(q, q->available, RING_INDEX, sizeof index));
	if (bh_virtio_has(q->device, BH_VIRTIO_F_EVENT_IDX))
		store_for_guest(q, RING_ENTRIES + sizeof(struct vring_used_elem) * (uint64_t)q->size, index);
	else
		store_for_guest(q, RING_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return index;
}

/* --- bytes ---------------------------------------------------------------------------------------------------------- */

size_t bh_chain_read(const struct bh_chain *chain, size_t offset, void *bytes, size_t length)
{
	return bh_iov_copy_from(bh_chain_readable(chain), chain->readable, offset, bytes, length);
}

size_t bh_chain_write(const struct bh_chain *chain, size_t offset, const void *bytes, size_t length)
{
	return bh_iov_copy_to(bh_chain_writable(chain), chain->writable, offset, bytes, length);
}
