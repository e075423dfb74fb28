/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport of virtio devices. */
#pragma once

#include "vmm/devices/pci.h"
#include "vmm/virtio/virtio.h"

/* Gives the device a slot; it stays the caller's. */
int bh_virtio_pci_add(struct bh_pci *pci, struct bh_virtio_device *device, struct bh_error *err);
/* Takes it out of its slot, for another one or for good. The processors are outside of the guest. */
void bh_virtio_pci_remove(struct bh_virtio_device *device);
void bh_virtio_pci_place(struct bh_pci *pci, struct bh_virtio_device *device, unsigned slot);
