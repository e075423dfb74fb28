/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots of the PCI bus whose devices come and go while the guest runs. The guest hears of it by an event (events.c); its ACPI's methods
 * (boot/acpi.c) read here which slots it is about, and write here when the kernel has let go of one:
 *
 *	BH_BOOT_PLUG + 0   slots that have a new device, a bit each; reading takes them
 *	             + 4   slots whose device is to go; the same
 *	             + 8   written: the slots' devices aren't used any more
 */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { COMING = 0, GOING = 4, GONE = 8, SIZE = 12 };

/* One machine a process. */
static atomic_uint coming, going, gone;
static int gone_fd = -1;

static uint64_t read_port(void *device, uint64_t offset, unsigned size)
{
	(void)device;
	if (size != 4)
		return 0;
	return offset == COMING ? atomic_exchange(&coming, 0) : offset == GOING ? atomic_exchange(&going, 0) : 0;
}

static void write_port(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	uint64_t one = 1;

	(void)device;
	if (offset != GONE || size != 4)
		return;
	atomic_fetch_or(&gone, (unsigned)value);
	(void)!write(gone_fd, &one, sizeof one);
}

int bh_plug_make(struct bh_vm *vm, struct bh_error *err)
{
	const struct bh_bus_range range = { BH_BOOT_PLUG, SIZE, "plug", vm, read_port, write_port };

	gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return gone_fd < 0 ? bh_error_set(err, errno, "make an eventfd") : bh_bus_add(&vm->ports, &range, err);
}

void bh_plug_clear(void)
{
	bh_close_fd(&gone_fd);
}

void bh_plug_tell(struct bh_vm *vm, unsigned slot, bool comes)
{
	atomic_fetch_and(comes ? &gone : &coming, ~(1u << slot));
	atomic_fetch_or(comes ? &coming : &going, 1u << slot);
	bh_events_raise(vm, BH_EVENT_PLUG);
}

bool bh_plug_take_gone(unsigned slot)
{
	uint64_t count;

	(void)!read(gone_fd, &count, sizeof count);
	return atomic_fetch_and(&gone, ~(1u << slot)) & 1u << slot;
}

int bh_plug_gone_fd(void)
{
	return gone_fd;
}

void bh_plug_save(struct bh_buf *out)
{
	bh_state_put(out, atomic_load(&coming), 4);
	bh_state_put(out, atomic_load(&going), 4);
	bh_state_put(out, atomic_load(&gone), 4);
}

void bh_plug_load(struct bh_state_reader *in)
{
	atomic_store(&coming, (unsigned)bh_state_get(in, 4));
	atomic_store(&going, (unsigned)bh_state_get(in, 4));
	atomic_store(&gone, (unsigned)bh_state_get(in, 4));
}
