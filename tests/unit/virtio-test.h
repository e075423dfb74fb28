/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests and fuzzers of virtio devices share: a machine without KVM, and the guest's side of a split queue.
 *
 * Queue N of the device has its areas at QUEUE_BASE + N * QUEUE_SPACING; a test's buffers lie from BUFFERS on. The device's loop isn't
 * started: turn() handles what is ready.
 */
#pragma once

#include "vmm/virtio/virtio.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <unistd.h>

#define MEMORY (4u << 20)
#define QUEUE_BASE 0x10000u
#define QUEUE_SPACING 0x4000u
#define AVAILABLE 0x2000u
#define USED 0x3000u
#define BUFFERS 0x200000u

struct driver {
	struct bh_vm vm;
	struct bh_loop *loop;
	struct bh_virtio_device *device;
	unsigned interrupts[BH_VIRTIO_QUEUES_MAX + 1]; /* the last one: of the configuration */
	uint16_t offered[BH_VIRTIO_QUEUES_MAX], seen[BH_VIRTIO_QUEUES_MAX];
};

static inline void count_interrupt(struct bh_virtio_device *device, unsigned queue)
{
	((struct driver *)device->transport_data)->interrupts[queue]++;
}

static const struct bh_virtio_transport counting = { .interrupt = count_interrupt };

/* Memory and a loop; make the device then, and take it with driver_start. */
static inline int driver_make(struct driver *d)
{
	*d = (struct driver){ .vm = BH_VM_INIT };
	if (bh_guest_memory_make(MEMORY, BH_MEMORY_ANONYMOUS, &d->vm.memory, NULL) < 0)
		return -1;
	return bh_loop_make("test", &d->loop, NULL);
}

static inline void driver_clear(struct driver *d)
{
	bh_virtio_free(d->device);
	bh_loop_free(d->loop);
	bh_guest_memory_clear(&d->vm.memory);
}

static inline void *guest(const struct driver *d, uint64_t address, uint64_t length)
{
	return bh_guest_at(&d->vm.memory, address, length);
}

static inline void turn(struct driver *d)
{
	bh_loop_turn(d->loop);
}

/* What a driver does when it begins: features, queues of `size`, DRIVER_OK. */
static inline void driver_start(struct driver *d, uint64_t features, uint16_t size)
{
	struct bh_virtio_device *device = d->device;

	device->transport = &counting;
	device->transport_data = d;
	pthread_mutex_lock(&device->lock);
	bh_virtio_set_status(device, 0);
	bh_virtio_set_status(device, BH_VIRTIO_ACKNOWLEDGE | BH_VIRTIO_DRIVER);
	device->features = features | BH_VIRTIO_F_VERSION_1;
	bh_virtio_set_status(device, device->status | BH_VIRTIO_FEATURES_OK);
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct bh_virtqueue *q = &device->queues[i];

		q->size = size;
		q->descriptors = QUEUE_BASE + i * QUEUE_SPACING;
		q->available = q->descriptors + AVAILABLE;
		q->used = q->descriptors + USED;
		q->enabled = bh_virtqueue_is_valid(q);
		memset(guest(d, q->descriptors, QUEUE_SPACING), 0, QUEUE_SPACING);
		d->offered[i] = d->seen[i] = 0;
	}
	bh_virtio_set_status(device, device->status | BH_VIRTIO_DRIVER_OK);
	pthread_mutex_unlock(&device->lock);
	memset(d->interrupts, 0, sizeof d->interrupts);
	turn(d);
}

static inline void put_descriptor(struct driver *d, unsigned queue, uint16_t index, uint64_t address, uint32_t length, uint16_t flags, uint16_t next)
{
	struct vring_desc *table = guest(d, d->device->queues[queue].descriptors, 1);

	table[index] = (struct vring_desc){ address, length, flags, next };
}

/* Makes a chain available, without a notification. */
static inline void offer(struct driver *d, unsigned queue, uint16_t head)
{
	const struct bh_virtqueue *q = &d->device->queues[queue];
	uint16_t *ring = guest(d, q->available, 6 + 2u * q->size);

	ring[2 + d->offered[queue] % q->size] = head;
	ring[1] = ++d->offered[queue];
}

static inline void notify_device(struct driver *d, unsigned queue)
{
	uint64_t one = 1;

	(void)!write(d->device->queues[queue].event_fd, &one, sizeof one);
	turn(d);
}

/* The next chain that came back, or -1. */
static inline int take_used(struct driver *d, unsigned queue, uint32_t *ret_length)
{
	const struct bh_virtqueue *q = &d->device->queues[queue];
	const struct vring_used *used = guest(d, q->used, 4);
	const struct vring_used_elem *element = &used->ring[d->seen[queue] % q->size];

	if (used->idx == d->seen[queue])
		return -1;
	d->seen[queue]++;
	if (ret_length)
		*ret_length = element->len;
	return (int)element->id;
}

static inline void set_event(struct driver *d, unsigned queue, uint16_t event)
{
	const struct bh_virtqueue *q = &d->device->queues[queue];

	*(uint16_t *)guest(d, q->available + 4 + 2u * q->size, 2) = event;
}

static inline uint16_t asked_event(struct driver *d, unsigned queue)
{
	const struct bh_virtqueue *q = &d->device->queues[queue];

	return *(uint16_t *)guest(d, q->used + 4 + 8u * q->size, 2);
}

static inline bool is_broken(const struct driver *d)
{
	return d->device->status & BH_VIRTIO_NEEDS_RESET;
}
