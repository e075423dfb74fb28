/* SPDX-License-Identifier: Apache-2.0 */
/* ELF executables (System V ABI, chapters 4 and 5; elf(5)). */
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define SEGMENTS_MAX 256
#define NOTES_MAX 1024 /* that are looked at in one file */

/* What we need of the file header of either class. */
struct header {
	uint64_t table, count, size; /* of the program headers; size: of one */
	uint64_t entry;
	bool wide;
};

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

static int read_header(const struct bh_boot_file *file, struct header *ret_header, struct bh_error *err)
{
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;
	struct header h;

	if (file->size < sizeof e32 || memcmp(file->bytes, ELFMAG, SELFMAG) != 0 || file->bytes[EI_DATA] != ELFDATA2LSB)
		return bad(file, "not an ELF executable", err);
	memcpy(&e32, file->bytes, sizeof e32);
	h.wide = e32.e_ident[EI_CLASS] == ELFCLASS64;
	if (h.wide && file->size < sizeof e64)
		return bad(file, "not an ELF executable", err);
	if (h.wide) {
		memcpy(&e64, file->bytes, sizeof e64);
		h.table = e64.e_phoff, h.count = e64.e_phnum, h.size = e64.e_phentsize, h.entry = e64.e_entry;
	} else {
		h.table = e32.e_phoff, h.count = e32.e_phnum, h.size = e32.e_phentsize, h.entry = e32.e_entry;
	}
	if (e32.e_machine != (h.wide ? EM_X86_64 : EM_386) && e32.e_machine != EM_X86_64)
		return bad(file, "an executable for another machine", err);
	if (h.count == 0 || h.count > SEGMENTS_MAX || h.size < (h.wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) ||
	    !inside(file, h.table, h.count * h.size))
		return bad(file, "its program headers are damaged", err);
	*ret_header = h;
	return 0;
}

static struct segment segment_at(const struct bh_boot_file *file, const struct header *h, uint64_t index)
{
	return read_segment(file->bytes + h->table + index * h->size, h->wide);
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
	struct header h;
	int r = read_header(file, &h, err);

	for (uint64_t i = 0; r == 0 && i < h.count; i++) {
		struct segment s = segment_at(file, &h, i);

		if (s.type != PT_LOAD || s.memory_size == 0)
			continue;
		r = load_segment(file, memory, &s, err);
		if (r < 0)
			return r;
		range.start = BH_MIN(range.start, s.address);
		range.end = BH_MAX(range.end, s.address + s.memory_size);
	}
	if (r < 0)
		return r;
	if (range.end == 0)
		return bad(file, "nothing of it is to be loaded", err);
	*ret_entry = h.entry;
	*ret_range = range;
	return 0;
}

bool bh_boot_enters_wide(const struct bh_boot_file *file)
{
	struct header h;

	if (read_header(file, &h, NULL) < 0 || !h.wide)
		return false;
	for (uint64_t i = 0; i < h.count; i++) {
		struct segment s = segment_at(file, &h, i);

		if (s.type == PT_LOAD && h.entry >= s.address && h.entry - s.address < s.memory_size)
			return true;
	}
	return false;
}

/* --- notes (gABI, "Note Section"; Linux and Xen align them to 4 bytes in files of either class) --------------------------- */

struct note_search {
	const struct bh_boot_file *file;
	const char *owner;
	uint32_t type;
	unsigned seen;
};

/* The content's place in the file and its length; false if it isn't in this segment. */
static bool search_segment(struct note_search *search, const struct segment *s, uint64_t *ret_offset, uint64_t *ret_length)
{
	const struct bh_boot_file *file = search->file;
	size_t owner_size = strlen(search->owner) + 1;
	uint64_t at = s->offset, end = s->offset + s->file_size;
	Elf32_Nhdr note;

	while (end - at >= sizeof note && search->seen++ < NOTES_MAX) {
		uint64_t name, content;

		memcpy(&note, file->bytes + at, sizeof note);
		name = at + sizeof note;
		content = name + (note.n_namesz + 3ULL) / 4 * 4;
		if (content > end || note.n_descsz > end - content)
			return false;
		if (note.n_type == search->type && note.n_namesz == owner_size && memcmp(file->bytes + name, search->owner, owner_size) == 0) {
			*ret_offset = content;
			*ret_length = note.n_descsz;
			return true;
		}
		at = content + (note.n_descsz + 3ULL) / 4 * 4;
		if (at > end)
			return false;
	}
	return false;
}

bool bh_boot_find_note(const struct bh_boot_file *file, const char *owner, uint32_t type, void *content, size_t max, size_t *ret_length)
{
	struct note_search search = { file, owner, type, 0 };
	uint64_t offset, length;
	struct header h;

	if (read_header(file, &h, NULL) < 0)
		return false;
	for (uint64_t i = 0; i < h.count; i++) {
		struct segment s = segment_at(file, &h, i);

		if (s.type != PT_NOTE || !inside(file, s.offset, s.file_size) || !search_segment(&search, &s, &offset, &length))
			continue;
		memcpy(content, file->bytes + offset, length < max ? length : max);
		*ret_length = length;
		return true;
	}
	return false;
}
