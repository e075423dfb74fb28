/* SPDX-License-Identifier: Apache-2.0 */
/* What more than one loader places: the map of memory, and a file beside the kernel. */
#include "vmm/boot/boot.h"

#include "base/memory.h"
#include "vmm/devices/pci.h"

#include <errno.h>

static size_t add(struct bh_boot_map_entry *entries, size_t count, uint64_t start, uint64_t end, uint32_t type)
{
	if (end > start)
		entries[count++] = (struct bh_boot_map_entry){ start, end - start, type };
	return count;
}

size_t bh_boot_map(const struct bh_guest_memory *memory, struct bh_boot_map_entry entries[BH_BOOT_MAP_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < memory->count; i++) {
		uint64_t start = memory->regions[i].address, end = start + memory->regions[i].size;

		/* Linux trusts PCI's memory-mapped configuration only where the map has it. It lies in the hole, before what lies behind that. */
		if (start == BH_GUEST_HOLE_END)
			count = add(entries, count, BH_PCI_ECAM_START, BH_PCI_ECAM_START + BH_PCI_ECAM_SIZE, BH_BOOT_RESERVED);
		if (start == 0) {
			count = add(entries, count, 0, BH_BOOT_LOW_END, BH_BOOT_MEMORY);
			count = add(entries, count, BH_BOOT_LOW_END, BH_BOOT_HIGH_START, BH_BOOT_RESERVED);
			start = BH_BOOT_HIGH_START;
		}
		count = add(entries, count, start, end, BH_BOOT_MEMORY);
	}
	if (memory->count == 1)
		count = add(entries, count, BH_PCI_ECAM_START, BH_PCI_ECAM_START + BH_PCI_ECAM_SIZE, BH_BOOT_RESERVED);
	return count;
}

int bh_boot_place_high(const struct bh_boot_file *file, uint64_t from, uint64_t limit, struct bh_guest_memory *memory, uint64_t *ret_start,
		       struct bh_error *err)
{
	uint64_t top = BH_MIN(BH_MIN(memory->size, BH_GUEST_HOLE_START), limit);
	uint64_t start = file->size <= top ? (top - file->size) / BH_GUEST_PAGE * BH_GUEST_PAGE : 0;

	if (start < from || !bh_guest_write(memory, start, file->bytes, file->size))
		return bh_error_text(err, ENOMEM, "%s: %zu bytes don't fit into the guest's memory behind the kernel", file->name, file->size);
	*ret_start = start;
	return 0;
}
