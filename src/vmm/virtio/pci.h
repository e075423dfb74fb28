/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport of virtio devices. */
#pragma once

#include "vmm/devices/pci.h"
#include "vmm/virtio/virtio.h"

/* Gives the device a slot; it stays the caller's. */
int bh_virtio_pci_add(struct bh_pci *pci, struct bh_virtio_device *device, struct bh_error *err);
/* Before the device is freed. One without the transport is nothing. */
void bh_virtio_pci_free(struct bh_virtio_device *device);
/* The function's state and the device's. Everything that could touch it is paused. */
void bh_virtio_pci_save(struct bh_virtio_device *device, struct bh_buf *out);
int bh_virtio_pci_load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err);
