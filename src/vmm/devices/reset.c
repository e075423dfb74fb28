/* SPDX-License-Identifier: Apache-2.0 */
/* Two of the ways a PC is reset by a port; the third, 0xcf9, lies among the ports of PCI (pci.c). */
#include "vmm/devices/devices.h"

#define KEYBOARD_DATA 0x60
#define KEYBOARD_COMMAND 0x64
#define KEYBOARD_PULSE_RESET 0xfe
#define SYSTEM_CONTROL 0x92
#define SYSTEM_CONTROL_RESET 1
#define SYSTEM_CONTROL_A20 2

static uint64_t read_keyboard(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return 0; /* nothing to read, and ready for a command */
}

static void write_keyboard_data(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device, (void)offset, (void)size, (void)value;
}

static void write_keyboard_command(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	if ((value & 0xff) == KEYBOARD_PULSE_RESET)
		bh_vm_end(device, BH_VM_RESET, 0, "by the keyboard controller");
}

static uint64_t read_system_control(void *device, uint64_t offset, unsigned size)
{
	(void)device, (void)offset, (void)size;
	return SYSTEM_CONTROL_A20;
}

static void write_system_control(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)offset, (void)size;
	if (value & SYSTEM_CONTROL_RESET)
		bh_vm_end(device, BH_VM_RESET, 0, "by the system control port");
}

int bh_reset_ports_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range ranges[] = {
		{ KEYBOARD_DATA, 1, "keyboard", vm, read_keyboard, write_keyboard_data },
		{ KEYBOARD_COMMAND, 1, "keyboard", vm, read_keyboard, write_keyboard_command },
		{ SYSTEM_CONTROL, 1, "system control", vm, read_system_control, write_system_control },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof ranges / sizeof *ranges; i++)
		r = bh_bus_add(&vm->ports, &ranges[i], err);
	return r;
}
