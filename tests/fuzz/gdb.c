/* SPDX-License-Identifier: Apache-2.0 */
/* What a debugger sends, to a machine of three processors with a page of memory. */
#include "vmm/gdb-session.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct machine {
	struct bh_gdb_session session;
	struct bh_gdb_registers registers[3];
	uint8_t page[4096];
};

static unsigned threads(void *context)
{
	(void)context;
	return 3;
}

static void check(unsigned thread)
{
	if (thread >= 3)
		abort();
}

static bool read_registers(void *context, unsigned thread, struct bh_gdb_registers *registers)
{
	check(thread);
	*registers = ((struct machine *)context)->registers[thread];
	return true;
}

static bool write_registers(void *context, unsigned thread, const struct bh_gdb_registers *registers)
{
	check(thread);
	((struct machine *)context)->registers[thread] = *registers;
	return true;
}

static size_t read_memory(void *context, unsigned thread, uint64_t address, void *bytes, size_t length)
{
	check(thread);
	if (address >= 4096)
		return 0;
	length = length < 4096 - address ? length : 4096 - address;
	memcpy(bytes, ((struct machine *)context)->page + address, length);
	return length;
}

static bool write_memory(void *context, unsigned thread, uint64_t address, const void *bytes, size_t length)
{
	check(thread);
	if (address > 4096 || length > 4096 - address)
		return false;
	memcpy(((struct machine *)context)->page + address, bytes, length);
	return true;
}

static bool set_breakpoint(void *context, unsigned thread, enum bh_gdb_breakpoint kind, uint64_t address, uint64_t length, bool on)
{
	(void)context, (void)address, (void)length, (void)on;
	check(thread);
	return kind != BH_GDB_WATCH_READ;
}

static void resume(void *context, const enum bh_gdb_action *actions)
{
	(void)context;
	for (int i = 3; i < BH_GDB_THREADS_MAX; i++)
		if (actions[i] != BH_GDB_STAY)
			abort();
}

static void interrupt(void *context)
{
	const struct bh_gdb_stop stop = { .thread = 2, .reason = BH_GDB_BY_BREAKPOINT, .breakpoint = BH_GDB_WATCH_WRITE, .address = 64 };

	bh_gdb_stopped(&((struct machine *)context)->session, &stop);
}

static void nothing(void *context)
{
	(void)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct bh_gdb_target target = { threads,        read_registers, write_registers, read_memory, write_memory,
						     set_breakpoint, resume,         interrupt,       nothing,     nothing };
	static struct machine machine;

	memset(&machine, 0, sizeof machine);
	bh_gdb_begin(&machine.session, &target, &machine);
	bh_gdb_feed(&machine.session, data, size);
	bh_gdb_exited(&machine.session, 7);
	bh_gdb_end(&machine.session);
	return 0;
}
