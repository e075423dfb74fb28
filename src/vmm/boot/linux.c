/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linux: a bzImage or an ELF vmlinux, entered in 64-bit mode (Linux Documentation/arch/x86/boot.rst, "64-bit boot protocol").
 *
 * A bzImage inflates itself in the guest; a vmlinux is there at once. Both find the same "zero page" at BH_BOOT_INFO: the image's own
 * setup header (a vmlinux has none: zeros), the memory map, the command line, the initial RAM disk and ACPI's root pointer.
 */
#include "vmm/boot/boot.h"

#include "base/memory.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <string.h>

#define PAGE 4096ULL
#define HUGE_PAGE (2ULL << 20)
#define SECTOR 512
#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define PROTOCOL_MIN 0x020c      /* the first with XLF_KERNEL_64 */
#define LOADER_UNKNOWN 0xff
#define ENTRY_64 0x200
#define INITRD_MAX_DEFAULT 0x37ffffffU /* where the image doesn't say */

/* Page tables that map the first 4 GiB to themselves. */
#define TABLES 0x9000ULL
#define TABLE_PRESENT 3ULL
#define TABLE_HUGE 0x83ULL

static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };

struct kernel {
	uint64_t entry, end; /* the first instruction; behind all that it needs */
	uint32_t initrd_max; /* the last address that an initrd may have */
	struct setup_header header;
};

static bool is_elf(const struct bh_boot_file *file)
{
	return file->size > SELFMAG && memcmp(file->bytes, ELFMAG, SELFMAG) == 0;
}

static int read_header(const struct bh_boot_file *file, struct setup_header *ret_header, struct bh_error *err)
{
	const size_t offset = offsetof(struct boot_params, hdr);
	struct setup_header header = { 0 };
	size_t length;

	if (file->size < offset + sizeof header)
		return bh_error_text(err, ENOEXEC, "%s: neither a bzImage nor an ELF executable", file->name);
	memcpy(&header, file->bytes + offset, sizeof header);
	if (header.boot_flag != BOOT_FLAG || header.header != HEADER_MAGIC)
		return bh_error_text(err, ENOEXEC, "%s: neither a bzImage nor an ELF executable", file->name);
	if (header.version < PROTOCOL_MIN || !(header.xloadflags & XLF_KERNEL_64))
		return bh_error_text(err, ENOEXEC, "%s: not a 64-bit kernel (boot protocol 0x%x)", file->name, header.version);
	/* The header says itself where it ends: behind the jump's target. What lies beyond is code. */
	length = 0x202 + (header.jump >> 8) - offset;
	if (length < sizeof header)
		memset((char *)&header + length, 0, sizeof header - length);
	*ret_header = header;
	return 0;
}

static int load_bzimage(const struct bh_boot_file *file, struct bh_guest_memory *memory, struct kernel *ret_kernel, struct bh_error *err)
{
	struct setup_header header;
	uint64_t start, size, needed;
	size_t offset;
	int r = read_header(file, &header, err);

	if (r < 0)
		return r;
	offset = ((header.setup_sects ? header.setup_sects : 4) + 1) * (size_t)SECTOR;
	if (offset >= file->size || file->size - offset <= ENTRY_64)
		return bh_error_text(err, ENOEXEC, "%s: the file is torn", file->name);
	size = file->size - offset;
	start = header.relocatable_kernel ? header.pref_address : BH_BOOT_HIGH_START;
	needed = BH_MAX((uint64_t)header.init_size, size);
	if (start < BH_BOOT_HIGH_START || !bh_guest_at(memory, start, needed))
		return bh_error_text(err, ENOMEM, "%s: it needs %llu MiB of memory from 0x%llx on", file->name,
				     (unsigned long long)(needed >> 20) + 1, (unsigned long long)start);
	bh_guest_write(memory, start, file->bytes + offset, size);
	*ret_kernel = (struct kernel){
		.entry = start + ENTRY_64,
		.end = start + needed,
		.initrd_max = header.initrd_addr_max ? header.initrd_addr_max : INITRD_MAX_DEFAULT,
		.header = header,
	};
	return 0;
}

static int load_vmlinux(const struct bh_boot_file *file, struct bh_guest_memory *memory, struct kernel *ret_kernel, struct bh_error *err)
{
	struct kernel kernel = { .initrd_max = INT32_MAX };
	struct bh_boot_range range;
	int r = bh_boot_load_elf(file, memory, &kernel.entry, &range, err);

	if (r < 0)
		return r;
	if (file->bytes[EI_CLASS] != ELFCLASS64)
		return bh_error_text(err, ENOEXEC, "%s: not a 64-bit kernel", file->name);
	kernel.end = range.end;
	kernel.header.boot_flag = BOOT_FLAG;
	kernel.header.header = HEADER_MAGIC;
	kernel.header.version = PROTOCOL_MIN;
	*ret_kernel = kernel;
	return 0;
}

static void fill_map(const struct bh_guest_memory *memory, struct boot_params *zero)
{
	struct bh_boot_map_entry entries[BH_BOOT_MAP_MAX];

	zero->e820_entries = (uint8_t)bh_boot_map(memory, entries);
	for (size_t i = 0; i < zero->e820_entries; i++)
		zero->e820_table[i] = (struct boot_e820_entry){ entries[i].start, entries[i].size, entries[i].type };
}

static int place_initrd(const struct bh_boot_file *file, const struct kernel *kernel, struct bh_guest_memory *memory, struct boot_params *zero,
			struct bh_error *err)
{
	uint64_t start;
	int r = file->bytes ? bh_boot_place_high(file, kernel->end, (uint64_t)kernel->initrd_max + 1, memory, &start, err) : 0;

	if (!file->bytes || r < 0)
		return r;
	zero->hdr.ramdisk_image = (uint32_t)start;
	zero->hdr.ramdisk_size = (uint32_t)file->size;
	return 0;
}

static void place_tables(struct bh_guest_memory *memory)
{
	uint64_t table[512] = { 0 };

	table[0] = (TABLES + PAGE) | TABLE_PRESENT;
	bh_guest_write(memory, TABLES, table, sizeof table);
	for (uint64_t i = 0; i < 4; i++)
		table[i] = (TABLES + (2 + i) * PAGE) | TABLE_PRESENT;
	bh_guest_write(memory, TABLES + PAGE, table, sizeof table);
	for (uint64_t gib = 0; gib < 4; gib++) {
		for (uint64_t i = 0; i < 512; i++)
			table[i] = (gib * 512 + i) * HUGE_PAGE | TABLE_HUGE;
		bh_guest_write(memory, TABLES + (2 + gib) * PAGE, table, sizeof table);
	}
	bh_guest_write(memory, BH_BOOT_GDT, gdt, sizeof gdt);
}

int bh_boot_linux(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err)
{
	struct kernel kernel = { 0 };
	struct boot_params zero = { 0 };
	size_t length = strlen(request->command_line) + 1;
	int r = is_elf(&request->kernel) ? load_vmlinux(&request->kernel, memory, &kernel, err) : load_bzimage(&request->kernel, memory, &kernel, err);

	if (r < 0)
		return r;
	zero.hdr = kernel.header;
	zero.hdr.type_of_loader = LOADER_UNKNOWN;
	zero.hdr.cmd_line_ptr = BH_BOOT_COMMAND_LINE;
	zero.acpi_rsdp_addr = request->acpi_root;
	if (length > BH_MIN((size_t)BH_BOOT_COMMAND_LINE_MAX, kernel.header.cmdline_size ? kernel.header.cmdline_size + 1 : SIZE_MAX))
		return bh_error_text(err, E2BIG, "the kernel's command line has %zu bytes, too many for it", length - 1);
	fill_map(memory, &zero);
	r = place_initrd(&request->initrd, &kernel, memory, &zero, err);
	if (r < 0)
		return r;
	place_tables(memory);
	bh_guest_write(memory, BH_BOOT_COMMAND_LINE, request->command_line, length);
	bh_guest_write(memory, BH_BOOT_INFO, &zero, sizeof zero);
	*ret_entry = (struct bh_entry){
		.mode = BH_ENTRY_LONG,
		.rip = kernel.entry,
		.rsp = BH_BOOT_INFO - 0x10, /* the kernel makes its own at once */
		.rsi = BH_BOOT_INFO,
		.cr3 = TABLES,
		.gdt = BH_BOOT_GDT,
		.gdt_size = sizeof gdt,
	};
	return 0;
}
