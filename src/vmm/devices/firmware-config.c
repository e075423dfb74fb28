/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How test guests ask for the size of their machine: the two ports of QEMU's firmware configuration (its docs/specs/fw_cfg.rst). A number
 * written to the first one selects an item, each read of the second gives its next byte, and zeros behind its end. There are no files,
 * and nothing can be written.
 */
#include "vmm/devices/devices.h"

#define PORT 0x510

enum { ITEM_SIGNATURE = 0, ITEM_ID = 1, ITEM_MEMORY = 3, ITEM_PROCESSORS = 5, ITEM_PROCESSORS_MAX = 15, ITEM_FILES = 25 };

/* The item in the high half, how many bytes of it have been read in the low one. One machine a process. */
static atomic_ullong position;

static uint64_t item(const struct bh_vm *vm, uint32_t number, unsigned *ret_size)
{
	switch (number) {
	case ITEM_SIGNATURE:
		*ret_size = 4;
		return 'Q' | 'E' << 8 | 'M' << 16 | 'U' << 24;
	case ITEM_ID:
		*ret_size = 4;
		return 1; /* these ports, no DMA */
	case ITEM_MEMORY:
		*ret_size = 8;
		return vm->memory.size;
	case ITEM_PROCESSORS:
	case ITEM_PROCESSORS_MAX:
		*ret_size = 2;
		return vm->vcpus_wanted;
	case ITEM_FILES:
	default:
		*ret_size = 0;
		return 0;
	}
}

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	unsigned long long at;
	unsigned item_size;
	uint64_t value;

	(void)size;
	if (offset != 1)
		return 0xffff;
	at = atomic_fetch_add(&position, 1);
	value = item(device, (uint32_t)(at >> 32), &item_size);
	at &= UINT32_MAX;
	return at < item_size ? value >> (8 * at) & 0xff : 0;
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device;
	if (offset == 0 && size == 2)
		atomic_store(&position, (unsigned long long)(value & 0xffff) << 32);
}

int bh_firmware_config_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { PORT, 2, "firmware configuration", vm, read_port, write_port };

	return bh_bus_add(&vm->ports, &range, err);
}

void bh_firmware_config_save(struct bh_buf *out)
{
	bh_state_put(out, atomic_load(&position), 8);
}

void bh_firmware_config_load(struct bh_state_reader *in)
{
	atomic_store(&position, bh_state_get(in, 8));
}
