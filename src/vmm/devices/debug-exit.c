/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/devices.h"

#define PORT 0xf4

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return 0;
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	int code = (int)(value & 0xff);

	(void)offset, (void)size;
	bh_vm_end(device, BH_VM_EXITED, code, "the guest ended with %d", code);
}

int bh_debug_exit_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { PORT, 4, "debug exit", vm, read_port, write_port };

	return bh_bus_add(&vm->ports, &range, err);
}
