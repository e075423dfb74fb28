/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport of virtio devices. */
#pragma once

#include "vmm/devices/pci.h"
#include "vmm/virtio/virtio.h"

/* Gives the device a slot; it stays the caller's. */
int bh_virtio_pci_add(struct bh_pci *pci, struct bh_virtio_device *device, struct bh_error *err);
