/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that reads and writes the PCI host's ports, configuration space and registers as the bytes say. */
#include "../unit/virtio-test.h"

#include "base/memory.h"
#include "vmm/virtio/pci.h"

#include <linux/pci_regs.h>
#include <stdlib.h>

#define ACCESSES_MAX 1024
#define PORTS 0xcf8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an access is: where (3 bits of the first byte), its size, whether it writes; offset; value. */
struct access {
	uint8_t what;
	uint16_t offset;
	uint32_t value;
} __attribute__((packed));

static void do_access(struct driver *d, const struct access *a)
{
	unsigned size = 1u << (a->what >> 3 & 3);
	uint64_t address = BH_PCI_WINDOW_START + a->offset, value = a->value;
	const struct bh_bus *bus = &d->vm.mmio;

	switch (a->what & 7) {
	case 0:
	case 1:
		address = BH_PCI_ECAM_START + (1u << 15) + a->offset % 0x120;
		break;
	case 2:
		address = BH_PCI_ECAM_START + a->offset * 16u;
		break;
	case 3:
		bus = &d->vm.ports;
		address = PORTS + a->offset % 8;
		size = BH_MIN(size, 4u);
		break;
	case 4: /* a queue's registers, which take addresses */
		address = BH_PCI_WINDOW_START + a->offset % 0x40;
		value = (uint64_t)a->value % MEMORY;
		break;
	default:
		break;
	}
	if (a->what & 0x80)
		bh_bus_read(bus, address, size, &value);
	else
		bh_bus_write(bus, address, size, size == 8 ? value << 32 | a->value : value);
	if (a->what & 0x40)
		turn(d);
}

static void save_and_load(struct driver *d)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;
	struct bh_error err = BH_ERROR_INIT;

	d->device->transport->save(d->device, &saved);
	pthread_mutex_lock(&d->device->lock);
	bh_virtio_set_status(d->device, 0);
	pthread_mutex_unlock(&d->device->lock);
	in = bh_state_reader(saved.data, saved.length);
	if (d->device->transport->load(d->device, &in, &err) < 0 || in.at != in.end)
		abort();
	turn(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_pci *pci = NULL;
	struct driver d;

	if (driver_make(&d) < 0 || bh_rng_make(&d.vm, d.loop, &d.device, NULL) < 0 || bh_pci_make(&d.vm, true, &pci, NULL) < 0 ||
	    bh_virtio_pci_add(pci, d.device, NULL) < 0)
		abort();
	bh_bus_write(&d.vm.mmio, BH_PCI_ECAM_START + (1u << 15) + PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (size_t i = 0; i < ACCESSES_MAX && size >= sizeof(struct access); i++) {
		struct access a;

		memcpy(&a, data, sizeof a);
		do_access(&d, &a);
		data += sizeof a;
		size -= sizeof a;
	}
	save_and_load(&d);
	bh_virtio_detach(d.device);
	driver_clear(&d);
	bh_pci_free(pci);
	bh_bus_clear(&d.vm.mmio);
	bh_bus_clear(&d.vm.ports);
	return 0;
}
