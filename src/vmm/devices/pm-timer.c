/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI's fixed registers as PCs have had them (ACPI 6.5, 4.8.3), for guests that look for them in the tables: events, of which there are none,
 * the control register with its power-off, and the timer. It counts 3.579545 MHz in 24 bits.
 */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"

#include "base/time.h"

#define TIMER_HZ 3579545u
#define TIMER_MASK 0xffffffu
#define SECOND_NS 1000000000

#define CONTROL_ACPI 1 /* the mode, which can't be left */
#define CONTROL_SLEEP 0x2000
#define CONTROL_SLEEP_TYPE(value) ((value) >> 10 & 7)
#define TYPE_OFF 5 /* as the DSDT's _S5 says */

static uint64_t read_timer(void *device, uint64_t offset, unsigned size)
{
	int64_t now = bh_monotonic_ns();
	uint64_t ticks = (uint64_t)(now / SECOND_NS) * TIMER_HZ + (uint64_t)(now % SECOND_NS) * TIMER_HZ / SECOND_NS;

	(void)device, (void)size;
	return (ticks & TIMER_MASK) >> (8 * offset);
}

static uint64_t read_events(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return 0;
}

static uint64_t read_control(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)size;
	return offset == 0 ? CONTROL_ACPI : 0;
}

static void write_nothing(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device, (void)offset, (void)size, (void)value;
}

static void write_control(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset == 0 && size == 2 && value & CONTROL_SLEEP && CONTROL_SLEEP_TYPE(value) == TYPE_OFF)
		bh_vm_end(device, BH_VM_POWERED_OFF, 0, "powered off");
}

int bh_pm_timer_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range ranges[] = {
		{ BH_BOOT_PM_TIMER, 4, "pm timer", vm, read_timer, write_nothing },
		{ BH_BOOT_PM_EVENTS, 4, "pm events", vm, read_events, write_nothing },
		{ BH_BOOT_PM_CONTROL, 2, "pm control", vm, read_control, write_control },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof ranges / sizeof *ranges; i++)
		r = bh_bus_add(&vm->ports, &ranges[i], err);
	return r;
}
