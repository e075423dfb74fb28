/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for virtio devices over PCI, for guests without interrupts: it looks at the used ring. MSI-X is on with all vectors masked, so
 * that an interrupt shows as a pending bit.
 */
#pragma once

#include "guest.h"

#define QUEUE_SIZE 16
#define QUEUES 3
#define NO_QUEUE 0xffff
#define NEXT 1
#define WRITE 2
#define ACKNOWLEDGE_DRIVER 3
#define FEATURES_OK 8
#define DRIVER_OK 4
#define NEEDS_RESET 64

/* Offsets of the common configuration (4.1.4.3). */
enum {
	FEATURE_SELECT = 0,
	FEATURES = 4,
	DRIVER_SELECT = 8,
	DRIVER_FEATURES = 12,
	CONFIG_VECTOR = 16,
	STATUS = 20,
	QUEUE_SELECT = 22,
	SIZE = 24,
	VECTOR = 26,
	ENABLE = 28,
	NOTIFY_OFFSET = 30,
	DESCRIPTORS = 32,
	AVAILABLE = 40,
	USED = 48
};

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct queue {
	struct descriptor descriptors[QUEUE_SIZE];
	struct {
		uint16_t flags, index, ring[QUEUE_SIZE], event;
	} available __attribute__((aligned(16)));
	struct {
		uint16_t flags, index;
		struct {
			uint32_t id, length;
		} ring[QUEUE_SIZE];
		uint16_t event;
	} used __attribute__((aligned(16)));
	uint16_t seen;
	uint32_t notify; /* register */
} __attribute__((aligned(4096)));

struct virtio {
	uint32_t slot, common, config, notify, multiplier, table, pending;
	volatile struct queue queues[QUEUES];
};

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint32_t pci_read(uint32_t slot, uint32_t offset)
{
	outl(0xcf8, 0x80000000 | slot << 11 | offset);
	return inl(0xcfc);
}

static inline void pci_write(uint32_t slot, uint32_t offset, uint32_t value)
{
	outl(0xcf8, 0x80000000 | slot << 11 | offset);
	outl(0xcfc, value);
}

static inline void read_capability(struct virtio *v, uint32_t at, uint32_t bar)
{
	uint32_t word = pci_read(v->slot, at);

	if ((word & 0xff) == 0x11) {
		v->table = bar + (pci_read(v->slot, at + 4) & ~7u);
		v->pending = bar + (pci_read(v->slot, at + 8) & ~7u);
		pci_write(v->slot, at, word | 0x80000000); /* on */
	} else if (word >> 24 == 1) {
		v->common = bar + pci_read(v->slot, at + 8);
	} else if (word >> 24 == 2) {
		v->notify = bar + pci_read(v->slot, at + 8);
		v->multiplier = pci_read(v->slot, at + 16);
	} else if (word >> 24 == 4) {
		v->config = bar + pci_read(v->slot, at + 8);
	}
}

/* The first device of this type. False: there is none. */
static inline int virtio_find(struct virtio *v, uint32_t type)
{
	uint32_t bar;

	for (v->slot = 1; v->slot < 32; v->slot++)
		if (pci_read(v->slot, 0) == (0x1af4 | (0x1040 + type) << 16))
			break;
	if (v->slot == 32)
		return 0;
	pci_write(v->slot, 4, 6); /* memory, bus master */
	bar = pci_read(v->slot, 0x10) & ~15u;
	for (uint32_t at = pci_read(v->slot, 0x34) & 0xfc; at; at = pci_read(v->slot, at) >> 8 & 0xfc)
		read_capability(v, at, bar);
	return v->common && v->notify && v->pending;
}

static inline void set_queue(struct virtio *v, uint16_t index)
{
	volatile struct queue *q = &v->queues[index];

	for (uint32_t *word = (uint32_t *)(uintptr_t)q; word < (uint32_t *)(uintptr_t)(q + 1); word++)
		*word = 0;
	*AT(uint16_t, v->common + QUEUE_SELECT) = index;
	*AT(uint16_t, v->common + SIZE) = QUEUE_SIZE;
	*AT(uint16_t, v->common + VECTOR) = (uint16_t)(index + 1);
	*AT(uint32_t, v->common + DESCRIPTORS) = (uint32_t)(uintptr_t)q->descriptors;
	*AT(uint32_t, v->common + AVAILABLE) = (uint32_t)(uintptr_t)&q->available;
	*AT(uint32_t, v->common + USED) = (uint32_t)(uintptr_t)&q->used;
	q->notify = v->notify + *AT(uint16_t, v->common + NOTIFY_OFFSET) * v->multiplier;
	*AT(uint16_t, v->common + ENABLE) = 1;
}

/* Resets the device and takes the first 32 features that it offers of `features`, and version 1. False: it won't. */
static inline int virtio_start(struct virtio *v, uint32_t features, uint16_t queues)
{
	volatile uint8_t *status = AT(uint8_t, v->common + STATUS);

	*status = 0;
	*status = ACKNOWLEDGE_DRIVER;
	*AT(uint32_t, v->common + FEATURE_SELECT) = 0;
	*AT(uint32_t, v->common + DRIVER_SELECT) = 0;
	*AT(uint32_t, v->common + DRIVER_FEATURES) = *AT(uint32_t, v->common + FEATURES) & features;
	*AT(uint32_t, v->common + DRIVER_SELECT) = 1;
	*AT(uint32_t, v->common + DRIVER_FEATURES) = 1;
	*status = ACKNOWLEDGE_DRIVER | FEATURES_OK;
	if (!(*status & FEATURES_OK))
		return 0;
	for (uint16_t i = 0; i < queues; i++)
		set_queue(v, i);
	*status = ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK;
	return *status == (ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
}

static inline void describe(struct virtio *v, unsigned queue, uint16_t index, const volatile void *at, uint32_t length, uint16_t flags)
{
	v->queues[queue].descriptors[index] = (struct descriptor){ (uint32_t)(uintptr_t)at, length, flags, (uint16_t)(index + 1) };
}

static inline void offer(struct virtio *v, unsigned queue, uint16_t head)
{
	volatile struct queue *q = &v->queues[queue];

	q->available.ring[q->available.index % QUEUE_SIZE] = head;
	__asm__ volatile("" : : : "memory");
	q->available.index++;
	__sync_synchronize();
	*AT(uint16_t, q->notify) = (uint16_t)queue;
}

/* Waits for the next chain that comes back; its head. The device being broken is -1. */
static inline int take(struct virtio *v, unsigned queue, uint32_t *ret_length)
{
	volatile struct queue *q = &v->queues[queue];

	for (uint32_t spins = 0; q->used.index == q->seen; spins++) {
		__asm__ volatile("pause");
		if (spins % 65536 == 65535 && *AT(uint8_t, v->common + STATUS) & NEEDS_RESET)
			return -1;
	}
	__asm__ volatile("" : : : "memory");
	*ret_length = q->used.ring[q->seen % QUEUE_SIZE].length;
	return (int)q->used.ring[q->seen++ % QUEUE_SIZE].id;
}
