/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port at which a kernel says that it has panicked (QEMU docs/specs/pvpanic.rst; Linux drivers/misc/pvpanic). Reading gives the events that are
 * taken. A machine whose kernel has panicked ends: else it would spin, or begin again and hide what was.
 */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"

#define PANICKED 1u

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return PANICKED;
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	if (value & PANICKED)
		bh_vm_end(device, BH_VM_FAILED, 0, "the guest's kernel has panicked");
}

int bh_panic_port_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { BH_BOOT_PANIC, 1, "panic", vm, read_port, write_port };

	return bh_bus_add(&vm->ports, &range, err);
}
