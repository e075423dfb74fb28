/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The MMIO transport of virtio devices: a page of registers each, and an interrupt line of the I/O APIC that up to four devices share. A guest
 * hears of them by ACPI (boot/acpi.c).
 */
#pragma once

#include "vmm/virtio/virtio.h"

#define BH_VIRTIO_MMIO_START 0xe0100000ULL /* behind PCI's configuration space */
#define BH_VIRTIO_MMIO_SIZE 0x1000ULL      /* of one device */
#define BH_VIRTIO_MMIO_DEVICES 31
#define BH_VIRTIO_MMIO_FIRST_LINE 16 /* those before it are the PC's */
#define BH_VIRTIO_MMIO_LINES 8

static inline uint64_t bh_virtio_mmio_address(unsigned index)
{
	return BH_VIRTIO_MMIO_START + index * BH_VIRTIO_MMIO_SIZE;
}
static inline unsigned bh_virtio_mmio_line(unsigned index)
{
	return BH_VIRTIO_MMIO_FIRST_LINE + index % BH_VIRTIO_MMIO_LINES;
}

struct bh_virtio_mmio;

void bh_virtio_mmio_make(struct bh_vm *vm, struct bh_virtio_mmio **ret_bus);
/* Its devices have been detached. NULL is nothing. */
void bh_virtio_mmio_free(struct bh_virtio_mmio *bus);
/* Gives the device the next page of registers and its line; it stays the caller's. -ENOSPC behind the last one, -EEXIST where somebody is. */
int bh_virtio_mmio_add(struct bh_virtio_mmio *bus, struct bh_virtio_device *device, struct bh_error *err);
