/* SPDX-License-Identifier: Apache-2.0 */
/* The monitor's parts that need no KVM: guest memory, buses, loaders. */
#include "vmm/boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct bh_guest_memory memory;

static int make_memory(void **state)
{
	(void)state;
	return bh_guest_memory_make(4 << 20, BH_MEMORY_ANONYMOUS, &memory, NULL);
}

static int clear_memory(void **state)
{
	(void)state;
	bh_guest_memory_clear(&memory);
	return 0;
}

static void test_memory_bounds(void **state)
{
	uint32_t word = 0x12345678;

	(void)state;
	assert_non_null(bh_guest_at(&memory, 0, 4 << 20));
	assert_null(bh_guest_at(&memory, 0, (4 << 20) + 1));
	assert_null(bh_guest_at(&memory, 1, 4 << 20));
	assert_null(bh_guest_at(&memory, UINT64_MAX, 2));
	assert_null(bh_guest_at(&memory, 16, UINT64_MAX - 8));
	assert_non_null(bh_guest_at(&memory, 4 << 20, 0));
	assert_false(bh_guest_write(&memory, (4 << 20) - 3, &word, sizeof word));
	assert_true(bh_guest_write(&memory, (4 << 20) - 4, &word, sizeof word));
	word = 0;
	assert_true(bh_guest_read(&memory, (4 << 20) - 4, &word, sizeof word));
	assert_int_equal(word, 0x12345678);
}

static void test_memory_hole(void **state)
{
	struct bh_guest_memory large;
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	/* Nothing of it is touched, so it costs nothing. */
	assert_int_equal(bh_guest_memory_make(5ULL << 30, BH_MEMORY_SHARED, &large, &err), 0);
	assert_int_equal(large.count, 2);
	assert_null(bh_guest_at(&large, BH_GUEST_HOLE_START - 1, 2));
	assert_null(bh_guest_at(&large, BH_GUEST_HOLE_END - 1, 1));
	assert_non_null(bh_guest_at(&large, BH_GUEST_HOLE_END, 2ULL << 30));
	assert_null(bh_guest_at(&large, BH_GUEST_HOLE_END, (2ULL << 30) + 1));
	bh_guest_memory_clear(&large);
	assert_int_equal(bh_guest_memory_make(4100 << 10, BH_MEMORY_ANONYMOUS, &large, &err), 0);
	bh_guest_memory_clear(&large);
	assert_int_equal(bh_guest_memory_make((4 << 20) + 1, BH_MEMORY_ANONYMOUS, &large, &err), -EINVAL);
	assert_int_equal(bh_guest_memory_make(1ULL << 41, BH_MEMORY_ANONYMOUS, &large, &err), -EINVAL);
}

/* --- buses ---------------------------------------------------------------------------------------------------------- */

static uint64_t last_offset, last_value;
static unsigned last_size;

static uint64_t read_device(void *device, uint64_t offset, unsigned size)
{
	last_offset = offset, last_size = size;
	return *(uint64_t *)device;
}

static void write_device(void *device, uint64_t offset, unsigned size, uint64_t value)
{
	(void)device;
	last_offset = offset, last_size = size, last_value = value;
}

static void test_bus(void **state)
{
	uint64_t values[] = { 11, 22 }, value;
	const struct bh_bus_range ranges[] = {
		{ 0x100, 8, "first", &values[0], read_device, write_device },
		{ 0x108, 4, "second", &values[1], read_device, write_device },
	};
	const struct bh_bus_range overlaps[] = {
		{ 0x107, 1, "inside", NULL, read_device, write_device },
		{ 0xff, 2, "from before", NULL, read_device, write_device },
		{ 0x0, 0x200, "around", NULL, read_device, write_device },
	};
	struct bh_error err = BH_ERROR_INIT;
	struct bh_bus bus = { 0 };

	(void)state;
	assert_int_equal(bh_bus_add(&bus, &ranges[1], &err), 0);
	assert_int_equal(bh_bus_add(&bus, &ranges[0], &err), 0);
	for (size_t i = 0; i < sizeof overlaps / sizeof *overlaps; i++)
		assert_int_equal(bh_bus_add(&bus, &overlaps[i], &err), -EEXIST);
	assert_true(bh_bus_read(&bus, 0x104, 4, &value));
	assert_int_equal(value, 11);
	assert_int_equal(last_offset, 4);
	assert_int_equal(last_size, 4);
	assert_true(bh_bus_write(&bus, 0x10b, 1, 7));
	assert_int_equal(last_offset, 3);
	assert_int_equal(last_value, 7);
	/* Nobody, and across the end of one. */
	assert_false(bh_bus_read(&bus, 0x10c, 1, &value));
	assert_true(value == UINT64_MAX);
	assert_false(bh_bus_read(&bus, 0x106, 4, &value));
	assert_false(bh_bus_read(&bus, 0xff, 1, &value));
	assert_false(bh_bus_write(&bus, 0x10a, 4, 0));
	bh_bus_clear(&bus);
	assert_false(bh_bus_read(&bus, 0x104, 4, &value));
}

/* --- loaders -------------------------------------------------------------------------------------------------------- */

struct kernel {
	Elf32_Ehdr header;
	Elf32_Phdr segment;
	uint32_t multiboot[8];
	char content[64];
};

static struct kernel good_kernel(void)
{
	struct kernel k = {
		.header = { .e_type = ET_EXEC,
			    .e_machine = EM_386,
			    .e_entry = 0x100010,
			    .e_phoff = offsetof(struct kernel, segment),
			    .e_phentsize = sizeof(Elf32_Phdr),
			    .e_phnum = 1 },
		.segment = { .p_type = PT_LOAD, .p_offset = offsetof(struct kernel, content), .p_paddr = 0x100000, .p_filesz = 64, .p_memsz = 128 },
		.multiboot = { 0x1badb002, 0, -0x1badb002u },
		.content = "the kernel",
	};

	memcpy(k.header.e_ident, ELFMAG, SELFMAG);
	k.header.e_ident[EI_CLASS] = ELFCLASS32;
	k.header.e_ident[EI_DATA] = ELFDATA2LSB;
	return k;
}

static int load(const struct kernel *kernel, size_t size, struct bh_entry *ret_entry, struct bh_error *err)
{
	/* At the very end of its allocation: a read behind it is seen by the sanitizer. */
	uint8_t *bytes = malloc(size);
	struct bh_boot_request request = { .kernel = { bytes, size, "kernel" }, .command_line = "words" };
	int r;

	memcpy(bytes, kernel, size);
	r = bh_boot_multiboot(&request, &memory, ret_entry, err);
	free(bytes);
	return r;
}

static void test_multiboot_elf(void **state)
{
	struct kernel kernel = good_kernel();
	struct bh_error err = BH_ERROR_INIT;
	struct bh_entry entry;
	uint32_t information[16];

	(void)state;
	memset(bh_guest_at(&memory, 0x100000, 256), 0xff, 256);
	assert_int_equal(load(&kernel, sizeof kernel, &entry, &err), 0);
	assert_int_equal(entry.mode, BH_ENTRY_PROTECTED);
	assert_int_equal(entry.rip, 0x100010);
	assert_int_equal(entry.rax, 0x2badb002);
	assert_string_equal(bh_guest_at(&memory, 0x100000, 64), "the kernel");
	assert_int_equal(*(uint8_t *)bh_guest_at(&memory, 0x10007f, 1), 0);
	assert_int_equal(*(uint8_t *)bh_guest_at(&memory, 0x100080, 1), 0xff);
	assert_true(bh_guest_read(&memory, entry.rbx, information, sizeof information));
	assert_int_equal(information[0] & 1, 1);
	assert_int_equal(information[1], 640);
	assert_int_equal(information[2], 3 << 10);
	assert_string_equal(bh_guest_at(&memory, information[4], 6), "words");
}

/* Where a kernel lies that covers the usual place of what it is told, that is somewhere else: nothing of the kernel is written over. */
static void test_multiboot_low(void **state)
{
	static const struct {
		uint32_t address, size;
		uint64_t information;
	} places[] = {
		{ 0x8000, 0x10000, BH_BOOT_INFO }, /* between the two */
		{ 0x4000, 0x4000, 0x90000 },       /* over the information */
		{ 0x8000, 0x18001, 0x90000 },      /* over the command line */
		{ 0x1000, 0x8f001, 0x103000 },     /* and over the other place: behind the module */
		{ 0x1000, 0x200000, 0x204000 },    /* behind it and the module */
	};
	static uint8_t module[2 * 4096 + 1];

	(void)state;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct kernel kernel = good_kernel();
		struct bh_boot_request request = { .kernel = { (const uint8_t *)&kernel, sizeof kernel, "kernel" },
						   .initrd = { module, sizeof module, "module" },
						   .command_line = "words" };
		struct bh_error err = BH_ERROR_INIT;
		struct bh_entry entry;
		uint32_t information[16], described[2];
		const uint8_t *bytes;

		kernel.segment.p_paddr = places[i].address;
		kernel.segment.p_memsz = places[i].size;
		assert_int_equal(bh_boot_multiboot(&request, &memory, &entry, &err), 0);
		assert_int_equal(entry.rbx, places[i].information);
		bytes = bh_guest_at(&memory, places[i].address, places[i].size);
		assert_string_equal((const char *)bytes, "the kernel");
		for (uint32_t at = sizeof kernel.content; at < places[i].size; at++)
			assert_int_equal(bytes[at], 0);
		assert_true(bh_guest_read(&memory, entry.rbx, information, sizeof information));
		assert_string_equal(bh_guest_at(&memory, information[4], 6), "words");
		assert_true(bh_guest_read(&memory, information[6], described, sizeof described));
		assert_int_equal(described[1] - described[0], sizeof module);
		assert_true(described[0] >= 0x100000 && described[0] >= places[i].address + places[i].size);
		assert_true(described[1] <= entry.rbx || entry.rbx < 0x100000);
	}

	/* It fills all of it: there is no place left. */
	struct kernel kernel = good_kernel();
	struct bh_error err = BH_ERROR_INIT;
	struct bh_entry entry;

	kernel.segment.p_paddr = 0x1000;
	kernel.segment.p_memsz = (4 << 20) - 0x1000;
	assert_int_equal(load(&kernel, sizeof kernel, &entry, &err), -ENOMEM);
}

static void test_multiboot_addresses(void **state)
{
	struct kernel kernel = good_kernel();
	struct bh_error err = BH_ERROR_INIT;
	struct bh_entry entry;
	uint32_t at = offsetof(struct kernel, multiboot);

	(void)state;
	kernel.multiboot[1] = 1 << 16;
	kernel.multiboot[2] = -(0x1badb002u + (1 << 16));
	kernel.multiboot[3] = 0x200000 + at; /* the header itself */
	kernel.multiboot[4] = 0x200000;      /* the file's first byte */
	kernel.multiboot[5] = 0;             /* to the file's end */
	kernel.multiboot[6] = 0x200000 + sizeof kernel + 16;
	kernel.multiboot[7] = 0x200020;
	assert_int_equal(load(&kernel, sizeof kernel, &entry, &err), 0);
	assert_int_equal(entry.rip, 0x200020);
	assert_memory_equal(bh_guest_at(&memory, 0x200000, sizeof kernel), &kernel, sizeof kernel);

	static const struct {
		int field;
		uint32_t value;
	} wrong[] = {
		{ 3, 0x1fffff }, { 3, 0x300000 }, { 4, 0xfffffff0 }, { 5, 0x1fffff },
		{ 5, 0x300000 }, { 6, 0x1fffff }, { 6, 0x200001 },   { 6, 0xffffffff },
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct kernel changed = kernel;

		changed.multiboot[wrong[i].field] = wrong[i].value;
		assert_true(load(&changed, sizeof changed, &entry, &err) < 0);
	}
}

static void test_hostile_elf(void **state)
{
	const struct kernel good = good_kernel();
	struct bh_error err = BH_ERROR_INIT;
	struct bh_entry entry;

	(void)state;
	/* Every field that says where something is, with values at the edges. */
	static const uint32_t edges[] = { 0xffffffff, 0x80000000, 0x7fffffff, 0xfffff000, sizeof(struct kernel), 0x400000, 0x3fffff };
	uint8_t accepted = 0;

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		struct kernel k = good;

		k.header.e_phoff = edges[i];
		assert_true(load(&k, sizeof k, &entry, &err) < 0);
		k = good;
		k.segment.p_offset = edges[i];
		assert_true(load(&k, sizeof k, &entry, &err) < 0);
		k = good;
		k.segment.p_filesz = edges[i];
		assert_true(load(&k, sizeof k, &entry, &err) < 0);
		k = good;
		k.segment.p_paddr = edges[i];
		accepted += load(&k, sizeof k, &entry, &err) == 0; /* as a number it is small enough: the size of the kernel */
		k = good;
		k.segment.p_memsz = edges[i];
		accepted += load(&k, sizeof k, &entry, &err) == 0;
	}
	assert_int_equal(accepted, 2);
	for (size_t size = 0; size < sizeof good; size++)
		assert_true(load(&good, size, &entry, &err) < 0);

	struct kernel k = good;

	k.header.e_machine = EM_ARM;
	assert_int_equal(load(&k, sizeof k, &entry, &err), -ENOEXEC);
	k = good;
	k.header.e_phnum = 0;
	assert_int_equal(load(&k, sizeof k, &entry, &err), -ENOEXEC);
	k = good;
	k.header.e_phnum = 0xffff;
	assert_int_equal(load(&k, sizeof k, &entry, &err), -ENOEXEC);
	k = good;
	k.header.e_phentsize = 1;
	assert_int_equal(load(&k, sizeof k, &entry, &err), -ENOEXEC);
	k = good;
	k.segment.p_type = PT_NOTE;
	assert_int_equal(load(&k, sizeof k, &entry, &err), -ENOEXEC);
	assert_string_equal(err.message, "kernel: nothing of it is to be loaded");
}

static void test_command_line(void **state)
{
	struct kernel kernel = good_kernel();
	struct bh_error err = BH_ERROR_INIT;
	static char words[BH_BOOT_COMMAND_LINE_MAX + 1];
	struct bh_boot_request request = { .kernel = { (const uint8_t *)&kernel, sizeof kernel, "kernel" }, .command_line = words };
	struct bh_entry entry;

	(void)state;
	memset(words, 'w', BH_BOOT_COMMAND_LINE_MAX - 1);
	assert_int_equal(bh_boot_multiboot(&request, &memory, &entry, &err), 0);
	words[BH_BOOT_COMMAND_LINE_MAX - 1] = 'w';
	assert_int_equal(bh_boot_multiboot(&request, &memory, &entry, &err), -E2BIG);
}

/* --- PVH ------------------------------------------------------------------------------------------------------------ */

struct pvh_kernel {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	struct {
		Elf64_Nhdr head;
		char owner[8];
		uint32_t content;
	} other;
	struct {
		Elf64_Nhdr head;
		char owner[4];
		uint64_t entry;
	} __attribute__((packed)) note;
	char content[64];
};

static struct pvh_kernel good_pvh(void)
{
	struct pvh_kernel k = {
		.header = { .e_type = ET_EXEC,
			    .e_machine = EM_X86_64,
			    .e_entry = 0x100010,
			    .e_phoff = offsetof(struct pvh_kernel, segments),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 2 },
		.segments = { { .p_type = PT_LOAD,
				.p_offset = offsetof(struct pvh_kernel, content),
				.p_vaddr = 0xffffffff80100000,
				.p_paddr = 0x100000,
				.p_filesz = 64,
				.p_memsz = 0x1000 },
			      { .p_type = PT_NOTE, .p_offset = offsetof(struct pvh_kernel, other), .p_filesz = sizeof k.other + sizeof k.note } },
		/* Another note's name is padded to four bytes. */
		.other = { { 7, 3, 18 }, "Other!", 7 },
		.note = { { 4, 8, 18 }, "Xen", 0x100020 },
		.content = "the kernel",
	};

	memcpy(k.header.e_ident, ELFMAG, SELFMAG);
	k.header.e_ident[EI_CLASS] = ELFCLASS64;
	k.header.e_ident[EI_DATA] = ELFDATA2LSB;
	return k;
}

/* `size` bytes of it, by PVH, with a module; *ret_choice: what `auto` makes of it. */
static int load_pvh(const struct pvh_kernel *kernel, size_t size, struct bh_entry *ret_entry, enum bh_boot_protocol *ret_choice, struct bh_error *err)
{
	uint8_t *bytes = malloc(size ? size : 1);
	struct bh_boot_request request = {
		.kernel = { bytes, size, "kernel" },
		.initrd = { (const uint8_t *)"a module", 8, "its name" },
		.command_line = "words",
		.acpi_root = 0xe0000,
	};
	int r;

	memcpy(bytes, kernel, size);
	*ret_choice = bh_boot_choose(&request.kernel);
	r = bh_boot_pvh(&request, &memory, ret_entry, err);
	free(bytes);
	return r;
}

static void test_pvh(void **state)
{
	struct pvh_kernel kernel = good_pvh();
	struct bh_error err = BH_ERROR_INIT;
	enum bh_boot_protocol choice;
	struct bh_entry entry;
	uint32_t words[14];
	uint64_t wide[7], module[4], map[4][3];

	(void)state;
	assert_int_equal(load_pvh(&kernel, sizeof kernel, &entry, &choice, &err), 0);
	assert_int_equal(entry.mode, BH_ENTRY_PROTECTED);
	assert_int_equal(entry.rip, 0x100020);
	assert_string_equal(bh_guest_at(&memory, 0x100000, 64), "the kernel");
	assert_true(bh_guest_read(&memory, entry.rbx, words, sizeof words));
	memcpy(wide, words, sizeof wide);
	assert_int_equal(words[0], 0x336ec578);
	assert_int_equal(words[1], 1);
	assert_int_equal(words[2], 0);
	assert_int_equal(words[3], 1);
	assert_string_equal(bh_guest_at(&memory, wide[3], 6), "words");
	assert_int_equal(wide[4], 0xe0000);
	assert_true(bh_guest_read(&memory, wide[2], module, sizeof module));
	assert_int_equal(module[0], 0x3ff000); /* as high as it can be */
	assert_int_equal(module[1], 8);
	assert_memory_equal(bh_guest_at(&memory, module[0], 8), "a module", 8);
	assert_string_equal(bh_guest_at(&memory, module[2], 9), "its name");
	assert_int_equal(words[12], 4);
	assert_true(bh_guest_read(&memory, wide[5], map, sizeof map));
	static const uint64_t expected[4][3] = { { 0, 0xa0000, 1 }, { 0xa0000, 0x60000, 2 }, { 0x100000, 0x300000, 1 }, { 0xe0000000, 0x100000, 2 } };
	assert_memory_equal(map, expected, sizeof map);
	/* A word of four bytes is an entry too. */
	kernel.note.head.n_descsz = 4;
	assert_int_equal(load_pvh(&kernel, sizeof kernel, &entry, &choice, &err), 0);
	assert_int_equal(entry.rip, 0x100020);
}

static void test_pvh_choice(void **state)
{
	struct pvh_kernel kernel = good_pvh();
	struct bh_error err = BH_ERROR_INIT;
	enum bh_boot_protocol choice;
	struct bh_entry entry;

	(void)state;
	load_pvh(&kernel, sizeof kernel, &entry, &choice, &err);
	assert_int_equal(choice, BH_BOOT_LINUX);    /* both are there */
	kernel.header.e_entry = 0xffffffff80100010; /* a virtual address: no entry for Linux's protocol */
	load_pvh(&kernel, sizeof kernel, &entry, &choice, &err);
	assert_int_equal(choice, BH_BOOT_PVH);
	kernel.note.head.n_type = 17;
	assert_int_equal(load_pvh(&kernel, sizeof kernel, &entry, &choice, &err), -ENOEXEC);
	assert_int_equal(choice, BH_BOOT_LINUX);
	assert_string_equal(err.message, "kernel: no ELF executable with an entry for PVH");
	assert_int_equal(bh_boot_choose(&(struct bh_boot_file){ (const uint8_t *)"MZ", 2, "image" }), BH_BOOT_LINUX);
	assert_int_equal(bh_boot_choose(&(struct bh_boot_file){ NULL, 0, "none" }), BH_BOOT_LINUX);
}

static void test_hostile_pvh(void **state)
{
	const struct pvh_kernel good = good_pvh();
	static const uint32_t edges[] = { 0xffffffff, 0xfffffffc, 0xfffffff0, 0x80000000, 0x7fffffff, sizeof(struct pvh_kernel) };
	struct bh_error err = BH_ERROR_INIT;
	enum bh_boot_protocol choice;
	struct bh_entry entry;

	(void)state;
	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		struct pvh_kernel k = good;

		k.other.head.n_namesz = edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
		k = good;
		k.other.head.n_descsz = edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
		k = good;
		k.note.head.n_descsz = edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
		k = good;
		k.note.head.n_namesz = edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
		k = good;
		k.segments[1].p_offset = edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
		k = good;
		k.segments[1].p_filesz = UINT64_MAX - edges[i];
		assert_true(load_pvh(&k, sizeof k, &entry, &choice, &err) < 0);
	}
	for (size_t size = 0; size < offsetof(struct pvh_kernel, content); size++)
		assert_true(load_pvh(&good, size, &entry, &choice, &err) < 0);

	struct pvh_kernel k = good;

	k.note.head.n_descsz = 2;
	assert_int_equal(load_pvh(&k, sizeof k, &entry, &choice, &err), -ENOEXEC);
	k = good;
	k.note.entry = 1ULL << 32;
	assert_int_equal(load_pvh(&k, sizeof k, &entry, &choice, &err), -ENOEXEC);
	/* The module has no room. */
	k = good;
	k.segments[0].p_memsz = 3 << 20;
	assert_int_equal(load_pvh(&k, sizeof k, &entry, &choice, &err), -ENOMEM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory_bounds), cmocka_unit_test(test_memory_hole),         cmocka_unit_test(test_bus),
		cmocka_unit_test(test_multiboot_elf), cmocka_unit_test(test_multiboot_addresses), cmocka_unit_test(test_multiboot_low),
		cmocka_unit_test(test_hostile_elf),   cmocka_unit_test(test_command_line),        cmocka_unit_test(test_pvh),
		cmocka_unit_test(test_pvh_choice),    cmocka_unit_test(test_hostile_pvh),
	};

	return cmocka_run_group_tests(tests, make_memory, clear_memory);
}
