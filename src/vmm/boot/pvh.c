/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PVH: the boot protocol that Xen made for guests without firmware, and that Linux, FreeBSD and small kernels have (Xen docs/misc/pvh, "x86/HVM
 * direct boot ABI"; layout of the start information: Xen public/arch-x86/hvm/start_info.h, version 1).
 *
 * The executable is loaded to its physical addresses. A note (owner "Xen", type 18) holds the address of the first instruction, which runs
 * in 32-bit protected mode without paging, flat segments, with the start information's address in EBX.
 */
#include "vmm/boot/boot.h"

#include <errno.h>
#include <string.h>

#define NOTE_OWNER "Xen"
#define NOTE_PHYS32_ENTRY 18
#define MAGIC 0x336ec578u
#define VERSION 1 /* the first with a map of memory */

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, acpi_root;
	uint64_t map; /* from here on: version 1 */
	uint32_t map_count, reserved;
};

struct module {
	uint64_t start, size, command_line, reserved;
};

struct map_entry {
	uint64_t start, size;
	uint32_t type, reserved; /* as in E820 */
};

/* What lies at BH_BOOT_INFO. */
struct placed {
	struct start_info info;
	struct module module;
	struct map_entry map[BH_BOOT_MAP_MAX];
	char module_name[256];
};

_Static_assert(sizeof(struct start_info) == 56 && sizeof(struct module) == 32 && sizeof(struct map_entry) == 24, "as Xen has them");

/* The note holds a word of the kernel's own width. */
static bool find_entry(const struct bh_boot_file *file, uint64_t *ret_entry)
{
	uint64_t entry = 0;
	size_t length;

	if (!bh_boot_find_note(file, NOTE_OWNER, NOTE_PHYS32_ENTRY, &entry, sizeof entry, &length) || (length != 4 && length != 8))
		return false;
	*ret_entry = entry;
	return entry <= UINT32_MAX;
}

enum bh_boot_protocol bh_boot_choose(const struct bh_boot_file *file)
{
	uint64_t entry;

	return !bh_boot_enters_wide(file) && find_entry(file, &entry) ? BH_BOOT_PVH : BH_BOOT_LINUX;
}

static void fill_map(const struct bh_guest_memory *memory, struct placed *placed)
{
	struct bh_boot_map_entry entries[BH_BOOT_MAP_MAX];

	placed->info.map_count = (uint32_t)bh_boot_map(memory, entries);
	placed->info.map = BH_BOOT_INFO + offsetof(struct placed, map);
	for (size_t i = 0; i < placed->info.map_count; i++)
		placed->map[i] = (struct map_entry){ entries[i].start, entries[i].size, entries[i].type, 0 };
}

static int place_module(const struct bh_boot_file *file, uint64_t kernel_end, struct bh_guest_memory *memory, struct placed *placed,
			struct bh_error *err)
{
	size_t length = strlen(file->name);
	int r = bh_boot_place_high(file, kernel_end, BH_GUEST_HOLE_START, memory, &placed->module.start, err);

	if (r < 0)
		return r;
	placed->module.size = file->size;
	placed->module.command_line = BH_BOOT_INFO + offsetof(struct placed, module_name);
	if (length < sizeof placed->module_name)
		memcpy(placed->module_name, file->name, length);
	placed->info.module_count = 1;
	placed->info.modules = BH_BOOT_INFO + offsetof(struct placed, module);
	return 0;
}

int bh_boot_pvh(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err)
{
	struct placed placed = { .info = { .magic = MAGIC, .version = VERSION, .acpi_root = request->acpi_root } };
	size_t length = strlen(request->command_line) + 1;
	struct bh_boot_range range = { 0 };
	uint64_t entry, unused;
	int r;

	if (!find_entry(&request->kernel, &entry))
		return bh_error_text(err, ENOEXEC, "%s: no ELF executable with an entry for PVH", request->kernel.name);
	if (length > BH_BOOT_COMMAND_LINE_MAX)
		return bh_error_text(err, E2BIG, "the kernel's command line has more than %d bytes", BH_BOOT_COMMAND_LINE_MAX - 1);
	r = bh_boot_load_elf(&request->kernel, memory, &unused, &range, err);
	if (r == 0 && range.start < BH_BOOT_COMMAND_LINE + BH_BOOT_COMMAND_LINE_MAX && range.end > BH_BOOT_INFO)
		r = bh_error_text(err, ENOTSUP, "%s: it lies at 0x%llx, where what it is told has to lie", request->kernel.name,
				  (unsigned long long)range.start);
	if (r == 0 && request->initrd.bytes)
		r = place_module(&request->initrd, range.end, memory, &placed, err);
	if (r < 0)
		return r;
	fill_map(memory, &placed);
	placed.info.command_line = BH_BOOT_COMMAND_LINE;
	bh_guest_write(memory, BH_BOOT_COMMAND_LINE, request->command_line, length);
	bh_guest_write(memory, BH_BOOT_INFO, &placed, sizeof placed);
	*ret_entry = (struct bh_entry){ .mode = BH_ENTRY_PROTECTED, .rip = entry, .rbx = BH_BOOT_INFO };
	return 0;
}
