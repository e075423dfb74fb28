/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI's sleep registers (ACPI 6.5, 4.8.3.7): the only sleep there is is the end. */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"

#define SLEEP_ENABLE 0x20
#define SLEEP_TYPE(value) ((value) >> 2 & 7)
#define TYPE_OFF 5 /* as the DSDT's _S5 says */

static uint64_t read_ports(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return 0;
}

static void write_ports(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)size;
	if (offset == 0 && value & SLEEP_ENABLE && SLEEP_TYPE(value) == TYPE_OFF)
		bh_vm_end(device, BH_VM_POWERED_OFF, 0, "powered off");
}

int bh_power_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { BH_BOOT_SLEEP_CONTROL, 2, "power", vm, read_ports, write_ports };

	return bh_bus_add(&vm->ports, &range, err);
}
