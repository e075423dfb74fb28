/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for virtio devices over PCI or MMIO, for guests without interrupts: it looks at the used ring. MSI-X is on with all vectors masked, so
 * that an interrupt shows as a pending bit; over MMIO it shows in the status of interrupts.
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

/* Registers of a device on the MMIO bus (4.2.2). */
enum {
	MMIO_FEATURES = 0x10,
	MMIO_FEATURE_SELECT = 0x14,
	MMIO_DRIVER_FEATURES = 0x20,
	MMIO_DRIVER_SELECT = 0x24,
	MMIO_QUEUE_SELECT = 0x30,
	MMIO_SIZE = 0x38,
	MMIO_READY = 0x44,
	MMIO_NOTIFY = 0x50,
	MMIO_INTERRUPT = 0x60,
	MMIO_ACKNOWLEDGE = 0x64,
	MMIO_STATUS = 0x70,
	MMIO_DESCRIPTORS = 0x80,
	MMIO_AVAILABLE = 0x90,
	MMIO_USED = 0xa0,
	MMIO_CONFIG = 0x100
};
#define MMIO_START 0xe0100000u
#define MMIO_EACH 0x1000u
#define MMIO_MAGIC 0x74726976u
#define MMIO_LINE 16

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
	uint32_t mmio; /* its registers, 0: it is on PCI, which the line above is about but for config */
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

/* One of its registers that both transports have: by its offset over PCI, and over MMIO. */
static inline uint32_t get(const struct virtio *v, uint32_t pci, uint32_t mmio)
{
	return v->mmio ? *AT(uint32_t, v->mmio + mmio) : *AT(uint32_t, v->common + pci);
}

static inline void set(const struct virtio *v, uint32_t pci, uint32_t mmio, uint32_t value)
{
	*AT(uint32_t, v->mmio ? v->mmio + mmio : v->common + pci) = value;
}

static inline uint8_t virtio_status(const struct virtio *v)
{
	return v->mmio ? (uint8_t)*AT(uint32_t, v->mmio + MMIO_STATUS) : *AT(uint8_t, v->common + STATUS);
}

static inline void set_status(const struct virtio *v, uint8_t status)
{
	if (v->mmio)
		*AT(uint32_t, v->mmio + MMIO_STATUS) = status;
	else
		*AT(uint8_t, v->common + STATUS) = status;
}

static inline uint32_t virtio_pending(const struct virtio *v)
{
	return *AT(uint32_t, v->mmio ? v->mmio + MMIO_INTERRUPT : v->pending);
}

static inline int virtio_find_mmio(struct virtio *v, uint32_t type)
{
	for (v->slot = 0; v->slot < 31; v->slot++) {
		v->mmio = MMIO_START + v->slot * MMIO_EACH;
		v->config = v->mmio + MMIO_CONFIG;
		if (*AT(uint32_t, v->mmio) == MMIO_MAGIC && *AT(uint32_t, v->mmio + 4) == 2 && *AT(uint32_t, v->mmio + 8) == type)
			return 1;
	}
	return 0;
}

/* The first device of this type. False: there is none. */
static inline int virtio_find(struct virtio *v, uint32_t type)
{
	uint32_t bar;

	for (v->slot = 1; v->slot < 32; v->slot++)
		if (pci_read(v->slot, 0) == (0x1af4 | (0x1040 + type) << 16))
			break;
	if (v->slot == 32)
		return virtio_find_mmio(v, type);
	pci_write(v->slot, 4, 6); /* memory, bus master */
	bar = pci_read(v->slot, 0x10) & ~15u;
	for (uint32_t at = pci_read(v->slot, 0x34) & 0xfc; at; at = pci_read(v->slot, at) >> 8 & 0xfc)
		read_capability(v, at, bar);
	return v->common && v->notify && v->pending;
}

static inline void set_mmio_queue(struct virtio *v, uint16_t index)
{
	volatile struct queue *q = &v->queues[index];

	*AT(uint32_t, v->mmio + MMIO_QUEUE_SELECT) = index;
	*AT(uint32_t, v->mmio + MMIO_SIZE) = QUEUE_SIZE;
	*AT(uint32_t, v->mmio + MMIO_DESCRIPTORS) = (uint32_t)(uintptr_t)q->descriptors;
	*AT(uint32_t, v->mmio + MMIO_AVAILABLE) = (uint32_t)(uintptr_t)&q->available;
	*AT(uint32_t, v->mmio + MMIO_USED) = (uint32_t)(uintptr_t)&q->used;
	q->notify = v->mmio + MMIO_NOTIFY;
	*AT(uint32_t, v->mmio + MMIO_READY) = 1;
}

static inline void set_queue(struct virtio *v, uint16_t index)
{
	volatile struct queue *q = &v->queues[index];

	for (uint32_t *word = (uint32_t *)(uintptr_t)q; word < (uint32_t *)(uintptr_t)(q + 1); word++)
		*word = 0;
	if (v->mmio) {
		set_mmio_queue(v, index);
		return;
	}
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
	set_status(v, 0);
	set_status(v, ACKNOWLEDGE_DRIVER);
	set(v, FEATURE_SELECT, MMIO_FEATURE_SELECT, 0);
	set(v, DRIVER_SELECT, MMIO_DRIVER_SELECT, 0);
	set(v, DRIVER_FEATURES, MMIO_DRIVER_FEATURES, get(v, FEATURES, MMIO_FEATURES) & features);
	set(v, DRIVER_SELECT, MMIO_DRIVER_SELECT, 1);
	set(v, DRIVER_FEATURES, MMIO_DRIVER_FEATURES, 1);
	set_status(v, ACKNOWLEDGE_DRIVER | FEATURES_OK);
	if (!(virtio_status(v) & FEATURES_OK))
		return 0;
	for (uint16_t i = 0; i < queues; i++)
		set_queue(v, i);
	set_status(v, ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
	return virtio_status(v) == (ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
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
	if (v->mmio)
		*AT(uint32_t, q->notify) = queue;
	else
		*AT(uint16_t, q->notify) = (uint16_t)queue;
}

/* Waits for the next chain that comes back; its head. The device being broken is -1. */
static inline int take(struct virtio *v, unsigned queue, uint32_t *ret_length)
{
	volatile struct queue *q = &v->queues[queue];

	for (uint32_t spins = 0; q->used.index == q->seen; spins++) {
		__asm__ volatile("pause");
		if (spins % 65536 == 65535 && virtio_status(v) & NEEDS_RESET)
			return -1;
	}
	__asm__ volatile("" : : : "memory");
	*ret_length = q->used.ring[q->seen % QUEUE_SIZE].length;
	return (int)q->used.ring[q->seen++ % QUEUE_SIZE].id;
}
