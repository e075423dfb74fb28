/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two address buses of a PC: ports and memory-mapped registers. Devices take ranges when the machine is put together; after that
 * the tables don't change, so vcpu threads look them up without a lock. A device that is reached by more than one vcpu guards its
 * own state.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_bus_range {
	uint64_t start, length;
	const char *name; /* static: for counters and --explain */
	void *device;
	/* `offset` from the start of the range, `size` 1, 2, 4 or 8 bytes; an access never crosses the range's end. Values are
	 * little-endian numbers in the low bytes. */
	uint64_t (*read)(void *device, uint64_t offset, unsigned size);
	void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
};

struct bh_bus {
	struct bh_bus_range *ranges; /* by start */
	size_t count, capacity;
};

/* -EEXIST if the range overlaps another one. */
int bh_bus_add(struct bh_bus *bus, const struct bh_bus_range *range, struct bh_error *err);
void bh_bus_clear(struct bh_bus *bus);
/* Where nobody is, all bits read as one and writes are lost: false then. */
bool bh_bus_read(const struct bh_bus *bus, uint64_t address, unsigned size, uint64_t *ret_value);
bool bh_bus_write(const struct bh_bus *bus, uint64_t address, unsigned size, uint64_t value);
