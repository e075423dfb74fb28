/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus.h"

#include "base/memory.h"

#include <errno.h>
#include <string.h>

/* The range that begins last at or before `address`; its index is count - 1 if all do. */
static size_t before(const struct bh_bus *bus, uint64_t address)
{
	size_t low = 0, high = bus->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (bus->ranges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int bh_bus_add(struct bh_bus *bus, const struct bh_bus_range *range, struct bh_error *err)
{
	size_t at = before(bus, range->start);
	const struct bh_bus_range *left = at ? &bus->ranges[at - 1] : NULL, *right = at < bus->count ? &bus->ranges[at] : NULL;

	if ((left && range->start - left->start < left->length) || (right && right->start - range->start < range->length))
		return bh_error_text(err, EEXIST, "the addresses 0x%llx of %s are taken", (unsigned long long)range->start, range->name);
	bus->ranges = bh_grow(bus->ranges, &bus->capacity, bus->count + 1, sizeof *bus->ranges);
	memmove(bus->ranges + at + 1, bus->ranges + at, (bus->count - at) * sizeof *bus->ranges);
	bus->ranges[at] = *range;
	bus->count++;
	return 0;
}

void bh_bus_clear(struct bh_bus *bus)
{
	bh_free_ptr(&bus->ranges);
	*bus = (struct bh_bus){ 0 };
}

static const struct bh_bus_range *find(const struct bh_bus *bus, uint64_t address, unsigned size)
{
	size_t at = before(bus, address);
	const struct bh_bus_range *range = at ? &bus->ranges[at - 1] : NULL;

	return range && address - range->start < range->length && size <= range->length - (address - range->start) ? range : NULL;
}

bool bh_bus_read(const struct bh_bus *bus, uint64_t address, unsigned size, uint64_t *ret_value)
{
	const struct bh_bus_range *range = find(bus, address, size);

	*ret_value = range ? range->read(range->device, address - range->start, size) : UINT64_MAX;
	return range != NULL;
}

bool bh_bus_write(const struct bh_bus *bus, uint64_t address, unsigned size, uint64_t value)
{
	const struct bh_bus_range *range = find(bus, address, size);

	if (range)
		range->write(range->device, address - range->start, size, value);
	return range != NULL;
}
