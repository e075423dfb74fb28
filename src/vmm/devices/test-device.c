/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What test guests try a machine's paths with; its places are those of QEMU's pc-testdev, for which such guests are written:
 *	ports 0xe0-0xe3, again at 0xe8	four bytes that read as they were written, in accesses of any size
 *	port 0xe4			a page's address, so that the next access to it has to ask the host: accepted; ours needs no help
 *	ports 0x2000-0x2017		a byte raises (not 0) or lowers a line of the interrupt controllers
 *	0xff000000-0xff00ffff		memory that is a device: every access leaves the guest
 */
#include "vmm/devices/devices.h"

#include "base/memory.h"

#include <string.h>

#define LATCH_PORT 0xe0
#define FLUSH_PORT 0xe4
#define LATCH_PORT_AGAIN 0xe8
#define LINES_PORT 0x2000
#define LINES 24
#define MEMORY_ADDRESS 0xff000000ULL
#define MEMORY_SIZE 0x10000

struct bh_test_device {
	struct bh_vm *vm;
	pthread_mutex_t lock; /* of what follows */
	uint8_t latch[4];
	uint8_t memory[MEMORY_SIZE];
};

/* The bus lets no access reach behind its range's end. */
static uint64_t read_bytes(struct bh_test_device *t, const uint8_t *from, unsigned size)
{
	uint64_t value = 0;

	pthread_mutex_lock(&t->lock);
	memcpy(&value, from, size);
	pthread_mutex_unlock(&t->lock);
	return value;
}

static void write_bytes(struct bh_test_device *t, uint8_t *to, unsigned size, uint64_t value)
{
	pthread_mutex_lock(&t->lock);
	memcpy(to, &value, size);
	pthread_mutex_unlock(&t->lock);
}

static uint64_t read_latch(void *device, uint64_t offset, unsigned size)
{
	struct bh_test_device *t = device;

	return read_bytes(t, t->latch + offset, size);
}

static void write_latch(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_test_device *t = device;

	write_bytes(t, t->latch + offset, size, value);
}

static uint64_t read_memory(void *device, uint64_t offset, unsigned size)
{
	struct bh_test_device *t = device;

	return read_bytes(t, t->memory + offset, size);
}

static void write_memory(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_test_device *t = device;

	write_bytes(t, t->memory + offset, size, value);
}

static uint64_t read_nothing(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return UINT64_MAX;
}

static void write_nothing(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device, (void)offset, (void)size, (void)value;
}

static void write_line(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct bh_test_device *t = device;

	(void)size;
	bh_vm_set_irq(t->vm, (unsigned)offset, (value & 0xff) != 0);
}

int bh_test_device_make(struct bh_vm *vm, struct bh_test_device **ret_device, struct bh_error *err)
{
	struct bh_test_device *t = bh_calloc(1, sizeof *t);
	const struct bh_bus_range ports[] = {
		{ LATCH_PORT, 4, "test latch", t, read_latch, write_latch },
		{ FLUSH_PORT, 4, "test flush", t, read_nothing, write_nothing },
		{ LATCH_PORT_AGAIN, 4, "test latch", t, read_latch, write_latch },
		{ LINES_PORT, LINES, "test lines", t, read_nothing, write_line },
	};
	const struct bh_bus_range memory = { MEMORY_ADDRESS, MEMORY_SIZE, "test memory", t, read_memory, write_memory };
	int r = 0;

	t->vm = vm;
	pthread_mutex_init(&t->lock, NULL);
	*ret_device = t;
	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(ports); i++)
		r = bh_bus_add(&vm->ports, &ports[i], err);
	return r < 0 ? r : bh_bus_add(&vm->mmio, &memory, err);
}

void bh_test_device_free(struct bh_test_device *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void bh_test_device_save(const struct bh_test_device *t, struct bh_buf *out)
{
	bh_state_put_bytes(out, t->latch, sizeof t->latch);
	bh_state_put_bytes(out, t->memory, sizeof t->memory);
}

void bh_test_device_load(struct bh_test_device *t, struct bh_state_reader *in)
{
	bh_state_get_exactly(in, t->latch, sizeof t->latch);
	bh_state_get_exactly(in, t->memory, sizeof t->memory);
}
