/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multiboot 1 (Multiboot Specification 0.6.96): small kernels and test guests.
 *
 * The kernel is an ELF executable, or its header says itself where its bytes go (flag 16). It starts in 32-bit protected mode without
 * paging, with the magic number in EAX and the information structure's address in EBX. Behind the kernel lies the module; information and
 * command line lie where boot.h says, or, if the kernel is there, high in low memory, or behind all of it.
 */
#include "vmm/boot/boot.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEADER_SEARCH 8192 /* bytes of the file that may hold the header */
#define HEADER_MAGIC 0x1badb002u
#define LOADER_MAGIC 0x2badb002u
#define HEADER_HAS_ADDRESSES (1u << 16)
#define PAGE 4096ULL
#define OTHER_INFO 0x90000ULL

struct header {
	uint32_t magic, flags, checksum;
	uint32_t header_address, load_address, load_end, bss_end, entry; /* with HEADER_HAS_ADDRESSES */
};

enum { INFO_MEMORY = 1, INFO_COMMAND_LINE = 4, INFO_MODULES = 8, INFO_MEMORY_MAP = 64, INFO_LOADER_NAME = 512 };

struct information {
	uint32_t flags, memory_lower_kib, memory_upper_kib, boot_device, command_line, module_count, modules;
	uint32_t symbols[4];
	uint32_t map_length, map;
	uint32_t drives_length, drives, config_table, loader_name, apm_table;
};

struct module {
	uint32_t start, end, string, reserved;
};

struct map_entry {
	uint32_t size; /* of what follows */
	uint64_t address, length;
	uint32_t type;
} __attribute__((packed));

static const char loader_name[] = "bulkhead";

struct placed {
	struct information information;
	struct module module;
	struct map_entry map[2 + BH_GUEST_REGIONS_MAX];
	char loader_name[sizeof loader_name];
	char module_name[256];
};

_Static_assert(sizeof(struct placed) <= PAGE, "the command line may lie a page behind it");

static bool find_header(const struct bh_boot_file *file, struct header *ret_header, size_t *ret_offset)
{
	size_t end = BH_MIN(file->size, (size_t)HEADER_SEARCH);

	for (size_t at = 0; at + 12 <= end; at += 4) {
		struct header header = { 0 };

		memcpy(&header, file->bytes + at, 12);
		if (header.magic != HEADER_MAGIC || header.magic + header.flags + header.checksum != 0)
			continue;
		memcpy(&header, file->bytes + at, BH_MIN(sizeof header, file->size - at));
		*ret_header = header;
		*ret_offset = at;
		return true;
	}
	return false;
}

static int load_by_header(const struct bh_boot_file *file, const struct header *h, size_t header_offset, struct bh_guest_memory *memory,
			  struct bh_boot_range *ret_range, struct bh_error *err)
{
	uint64_t before = (uint64_t)h->header_address - h->load_address, offset = header_offset - before;
	uint64_t length = h->load_end ? (uint64_t)h->load_end - h->load_address : file->size - offset;
	uint64_t whole = h->bss_end ? (uint64_t)h->bss_end - h->load_address : length;
	uint8_t *to;

	if (h->header_address < h->load_address || before > header_offset || (h->load_end && h->load_end < h->load_address) ||
	    (h->bss_end && h->bss_end < h->load_address) || length > file->size - offset || whole < length)
		return bh_error_text(err, ENOEXEC, "%s: the addresses of its multiboot header are damaged", file->name);
	to = bh_guest_at(memory, h->load_address, whole);
	if (!to)
		return bh_error_text(err, ENOMEM, "%s: %llu bytes at 0x%x don't fit into the guest's memory", file->name, (unsigned long long)whole,
				     h->load_address);
	memcpy(to, file->bytes + offset, length);
	memset(to + length, 0, whole - length);
	*ret_range = (struct bh_boot_range){ h->load_address, h->load_address + whole };
	return 0;
}

static size_t fill_map(const struct bh_guest_memory *memory, struct map_entry *map)
{
	size_t count = 0;

	for (size_t i = 0; i < memory->count; i++) {
		uint64_t start = memory->regions[i].address, end = start + memory->regions[i].size;

		if (start == 0) {
			map[count++] = (struct map_entry){ sizeof *map - 4, 0, BH_BOOT_LOW_END, 1 };
			map[count++] = (struct map_entry){ sizeof *map - 4, BH_BOOT_LOW_END, BH_BOOT_HIGH_START - BH_BOOT_LOW_END, 2 };
			start = BH_BOOT_HIGH_START;
		}
		if (end > start)
			map[count++] = (struct map_entry){ sizeof *map - 4, start, end - start, 1 };
	}
	return count;
}

static uint64_t next_page(uint64_t address)
{
	return (address + PAGE - 1) / PAGE * PAGE;
}

static bool touches(const struct bh_boot_range *kernel, uint64_t start, uint64_t size)
{
	return start < kernel->end && kernel->start < start + size;
}

/* Of the information, and of the command line a page behind it or at its own place. */
static void choose_places(const struct bh_boot_range *kernel, uint64_t module_end, uint64_t *ret_information, uint64_t *ret_line)
{
	*ret_information = BH_BOOT_INFO;
	*ret_line = BH_BOOT_COMMAND_LINE;
	if (!touches(kernel, BH_BOOT_INFO, sizeof(struct placed)) && !touches(kernel, BH_BOOT_COMMAND_LINE, BH_BOOT_COMMAND_LINE_MAX))
		return;
	*ret_information = touches(kernel, OTHER_INFO, PAGE + BH_BOOT_COMMAND_LINE_MAX) ? module_end : OTHER_INFO;
	*ret_line = *ret_information + PAGE;
}

/* *ret_end: the first page behind kernel and module, above 1 MiB. */
static int place_module(const struct bh_boot_file *file, const struct bh_boot_range *kernel, struct bh_guest_memory *memory, uint64_t *ret_start,
			uint64_t *ret_end, struct bh_error *err)
{
	uint64_t start = BH_MAX(next_page(kernel->end), BH_BOOT_HIGH_START);

	*ret_start = *ret_end = start;
	if (!file->bytes)
		return 0;
	if (start + file->size > UINT32_MAX || !bh_guest_write(memory, start, file->bytes, file->size))
		return bh_error_text(err, ENOMEM, "%s: %zu bytes don't fit into the guest's memory behind the kernel", file->name, file->size);
	*ret_end = next_page(start + file->size);
	return 0;
}

static void describe_module(const struct bh_boot_file *file, uint64_t start, uint64_t base, struct placed *placed)
{
	placed->module = (struct module){
		.start = (uint32_t)start,
		.end = (uint32_t)(start + file->size),
		.string = (uint32_t)(base + offsetof(struct placed, module_name)),
	};
	snprintf(placed->module_name, sizeof placed->module_name, "%s", file->name);
	placed->information.flags |= INFO_MODULES;
	placed->information.module_count = 1;
	placed->information.modules = (uint32_t)(base + offsetof(struct placed, module));
}

static int place_information(const struct bh_boot_request *request, const struct bh_boot_range *kernel, struct bh_guest_memory *memory,
			     uint64_t *ret_base, struct bh_error *err)
{
	struct placed placed = { .information = { .flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MEMORY_MAP | INFO_LOADER_NAME } };
	struct information *information = &placed.information;
	size_t length = strlen(request->command_line) + 1;
	uint64_t low = BH_MIN(memory->size, BH_GUEST_HOLE_START), module, end, base, line;
	int r;

	if (length > BH_BOOT_COMMAND_LINE_MAX)
		return bh_error_text(err, E2BIG, "the kernel's command line has more than %d bytes", BH_BOOT_COMMAND_LINE_MAX - 1);
	r = place_module(&request->initrd, kernel, memory, &module, &end, err);
	if (r < 0)
		return r;
	choose_places(kernel, end, &base, &line);

	information->memory_lower_kib = BH_BOOT_LOW_END / 1024;
	information->memory_upper_kib = (uint32_t)((low - BH_BOOT_HIGH_START) / 1024);
	information->map_length = (uint32_t)(fill_map(memory, placed.map) * sizeof placed.map[0]);
	information->map = (uint32_t)(base + offsetof(struct placed, map));
	memcpy(placed.loader_name, loader_name, sizeof loader_name);
	information->loader_name = (uint32_t)(base + offsetof(struct placed, loader_name));
	information->command_line = (uint32_t)line;
	if (request->initrd.bytes)
		describe_module(&request->initrd, module, base, &placed);
	if (line + length > UINT32_MAX || !bh_guest_write(memory, line, request->command_line, length) ||
	    !bh_guest_write(memory, base, &placed, sizeof placed))
		return bh_error_text(err, ENOMEM, "%s: what the kernel is told doesn't fit into the guest's memory behind it", request->kernel.name);
	*ret_base = base;
	return 0;
}

int bh_boot_multiboot(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err)
{
	const struct bh_boot_file *file = &request->kernel;
	struct bh_boot_range range = { 0 };
	uint64_t entry, base = 0;
	struct header header;
	size_t offset;
	int r;

	if (!find_header(file, &header, &offset))
		return bh_error_text(err, ENOEXEC, "%s: no multiboot header", file->name);
	if (header.flags & HEADER_HAS_ADDRESSES) {
		entry = header.entry;
		r = load_by_header(file, &header, offset, memory, &range, err);
	} else {
		r = bh_boot_load_elf(file, memory, &entry, &range, err);
	}
	if (r == 0)
		r = place_information(request, &range, memory, &base, err);
	if (r < 0)
		return r;
	*ret_entry = (struct bh_entry){ .mode = BH_ENTRY_PROTECTED, .rip = entry, .rax = LOADER_MAGIC, .rbx = base };
	return 0;
}
