/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that reads and writes the registers of two devices on the MMIO bus as the bytes say: a balloon's and those of a source of randomness. */
#include "../unit/virtio-test.h"

#include "base/memory.h"
#include "vmm/virtio/mmio.h"

#include <linux/virtio_mmio.h>
#include <stdlib.h>

#define ACCESSES_MAX 1024
#define DEVICES 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What an access is: where (3 bits of the first byte), its size, whether loops turn (0x40), whether it reads (0x80); offset; value. */
struct access {
	uint8_t what;
	uint16_t offset;
	uint32_t value;
} __attribute__((packed));

static void do_access(struct driver *d, const struct access *a)
{
	/* Those that a driver writes to bring a device up, so that mutations find them. */
	static const uint16_t often[] = { VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
					  VIRTIO_MMIO_QUEUE_SEL,       VIRTIO_MMIO_QUEUE_NUM,
					  VIRTIO_MMIO_QUEUE_READY,     VIRTIO_MMIO_QUEUE_NOTIFY,
					  VIRTIO_MMIO_QUEUE_NOTIFY,    VIRTIO_MMIO_INTERRUPT_ACK,
					  VIRTIO_MMIO_STATUS,          VIRTIO_MMIO_STATUS,
					  VIRTIO_MMIO_CONFIG,          VIRTIO_MMIO_CONFIG };
	static const uint16_t addresses[] = { VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_USED_LOW };
	unsigned size = 1u << (a->what >> 3 & 3);
	uint64_t address = BH_VIRTIO_MMIO_START, value = a->value;

	switch (a->what & 7) {
	case 0:
	case 1:
	case 2:
	case 3:
		address += often[a->offset % BH_ARRAY_SIZE(often)] + (a->what & 1) * BH_VIRTIO_MMIO_SIZE;
		size = 4;
		break;
	case 4:
	case 5:
		address += addresses[a->offset % BH_ARRAY_SIZE(addresses)] + (a->what & 1) * BH_VIRTIO_MMIO_SIZE;
		value %= MEMORY;
		size = 4;
		break;
	default:
		address += a->offset % (DEVICES * BH_VIRTIO_MMIO_SIZE + 16);
		break;
	}
	if (a->what & 0x80)
		bh_bus_read(&d->vm.mmio, address, size, &value);
	else
		bh_bus_write(&d->vm.mmio, address, size, size == 8 ? value << 32 | a->value : value);
	if (a->what & 0x40)
		turn(d);
}

static void save_and_load(struct driver *d, struct bh_virtio_device *device)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;
	struct bh_error err = BH_ERROR_INIT;

	device->transport->save(device, &saved);
	pthread_mutex_lock(&device->lock);
	bh_virtio_set_status(device, 0);
	pthread_mutex_unlock(&device->lock);
	in = bh_state_reader(saved.data, saved.length);
	if (device->transport->load(device, &in, &err) < 0 || in.at != in.end)
		abort();
	turn(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bh_virtio_mmio *bus = NULL;
	struct bh_virtio_device *other = NULL;
	struct driver d;

	if (driver_make(&d) < 0 || bh_balloon_make(&d.vm, d.loop, 3, &d.device, NULL) < 0 || bh_rng_make(&d.vm, d.loop, &other, NULL) < 0)
		abort();
	bh_virtio_mmio_make(&d.vm, &bus);
	if (bh_virtio_mmio_add(bus, d.device, NULL) < 0 || bh_virtio_mmio_add(bus, other, NULL) < 0)
		abort();
	for (size_t i = 0; i < ACCESSES_MAX && size >= sizeof(struct access); i++) {
		struct access a;

		memcpy(&a, data, sizeof a);
		do_access(&d, &a);
		data += sizeof a;
		size -= sizeof a;
	}
	save_and_load(&d, d.device);
	save_and_load(&d, other);
	bh_virtio_detach(d.device);
	bh_virtio_detach(other);
	bh_virtio_free(other);
	driver_clear(&d);
	bh_virtio_mmio_free(bus);
	bh_bus_clear(&d.vm.mmio);
	return 0;
}
