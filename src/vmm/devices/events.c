/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events for the guest's system (ACPI 6.5, 5.6.9 "Interrupt-signaled ACPI events"): an interrupt, and a port from which the DSDT's method reads
 * which events there are. Reading takes them.
 */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"

static atomic_uint waiting; /* one machine a process */

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return atomic_exchange(&waiting, 0);
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device, (void)offset, (void)size, (void)value;
}

int bh_events_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { BH_BOOT_EVENTS, 1, "events", vm, read_port, write_port };

	return bh_bus_add(&vm->ports, &range, err);
}

void bh_events_raise(struct bh_vm *vm, unsigned events)
{
	atomic_fetch_or(&waiting, events);
	/* Edge-triggered. */
	bh_vm_set_irq(vm, BH_BOOT_EVENTS_LINE, true);
	bh_vm_set_irq(vm, BH_BOOT_EVENTS_LINE, false);
}

uint8_t bh_events_waiting(void)
{
	return (uint8_t)atomic_load(&waiting);
}

void bh_events_set_waiting(uint8_t events)
{
	atomic_store(&waiting, events);
}
