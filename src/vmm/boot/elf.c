/* SPDX-License-Identifier: Apache-2.0 */
/* ELF executables (System V ABI, chapters 4 and 5; elf(5)). */
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define SEGMENTS_MAX 256

/* A program header of either class. */
struct segment {
	uint32_t type;
	uint64_t offset, address, file_size, memory_size;
};

static int bad(const struct bh_boot_file *file, const char *what, struct bh_error *err)
{
	return bh_error_text(err, ENOEXEC, "%s: %s", file->name, what);
}

static bool inside(const struct bh_boot_file *file, uint64_t offset, uint64_t length)
{
	return offset <= file->size && length <= file->size - offset;
}

static struct segment read_segment(const uint8_t *at, bool wide)
{
	Elf64_Phdr p64;
	Elf32_Phdr p32;

	if (wide) {
		memcpy(&p64, at, sizeof p64);
		return (struct segment){ p64.p_type, p64.p_offset, p64.p_paddr, p64.p_filesz, p64.p_memsz };
	}
	memcpy(&p32, at, sizeof p32);
	return (struct segment){ p32.p_type, p32.p_offset, p32.p_paddr, p32.p_filesz, p32.p_memsz };
}

static int load_segment(const struct bh_boot_file *file, struct bh_guest_memory *memory, const struct segment *s, struct bh_error *err)
{
	uint8_t *to;

	if (s->file_size > s->memory_size || !inside(file, s->offset, s->file_size))
		return bad(file, "a segment lies outside of the file", err);
	to = bh_guest_at(memory, s->address, s->memory_size);
	if (!to)
		return bh_error_text(err, ENOMEM, "%s: a segment of %llu bytes at 0x%llx doesn't fit into the guest's memory", file->name,
				     (unsigned long long)s->memory_size, (unsigned long long)s->address);
	/* New guest memory is zero already. */
	memcpy(to, file->bytes + s->offset, s->file_size);
	if (s->memory_size > s->file_size)
		memset(to + s->file_size, 0, s->memory_size - s->file_size);
	return 0;
}

int bh_boot_load_elf(const struct bh_boot_file *file, struct bh_guest_memory *memory, uint64_t *ret_entry, struct bh_boot_range *ret_range,
		     struct bh_error *err)
{
	struct bh_boot_range range = { UINT64_MAX, 0 };
	uint64_t table, count, size, entry;
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;
	bool wide;

	if (file->size < sizeof e32 || memcmp(file->bytes, ELFMAG, SELFMAG) != 0 || file->bytes[EI_DATA] != ELFDATA2LSB)
		return bad(file, "not an ELF executable", err);
	memcpy(&e32, file->bytes, sizeof e32);
	wide = e32.e_ident[EI_CLASS] == ELFCLASS64;
	if (wide && file->size < sizeof e64)
		return bad(file, "not an ELF executable", err);
	if (wide) {
		memcpy(&e64, file->bytes, sizeof e64);
		table = e64.e_phoff, count = e64.e_phnum, size = e64.e_phentsize, entry = e64.e_entry;
	} else {
		table = e32.e_phoff, count = e32.e_phnum, size = e32.e_phentsize, entry = e32.e_entry;
	}
	if (e32.e_machine != (wide ? EM_X86_64 : EM_386) && e32.e_machine != EM_X86_64)
		return bad(file, "an executable for another machine", err);
	if (count == 0 || count > SEGMENTS_MAX || size < (wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) || !inside(file, table, count * size))
		return bad(file, "its program headers are damaged", err);
	for (uint64_t i = 0; i < count; i++) {
		struct segment s = read_segment(file->bytes + table + i * size, wide);
		int r;

		if (s.type != PT_LOAD || s.memory_size == 0)
			continue;
		r = load_segment(file, memory, &s, err);
		if (r < 0)
			return r;
		range.start = BH_MIN(range.start, s.address);
		range.end = BH_MAX(range.end, s.address + s.memory_size);
	}
	if (range.end == 0)
		return bad(file, "nothing of it is to be loaded", err);
	*ret_entry = entry;
	*ret_range = range;
	return 0;
}
