/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaders: from the bytes of a kernel to guest memory and a first instruction.
 *
 * What they place besides the kernel lies below 640 KiB:
 *	0x0500 GDT   0x7000 start information (multiboot, Linux boot parameters)   0x9000 page tables   0x20000 command line
 *
 * The bytes are hostile: every offset and size is checked against the file and against guest memory before it is used.
 */
#pragma once

#include "vmm/vm.h"

#define BH_BOOT_GDT 0x500
#define BH_BOOT_INFO 0x7000
#define BH_BOOT_COMMAND_LINE 0x20000
#define BH_BOOT_COMMAND_LINE_MAX 4096
#define BH_BOOT_LOW_END 0xa0000ULL /* where low memory ends for the guest */
#define BH_BOOT_HIGH_START 0x100000ULL

/* How a kernel is entered. AUTO is for bh_boot_choose alone: what it says is one of the others. */
enum bh_boot_protocol { BH_BOOT_LINUX, BH_BOOT_MULTIBOOT, BH_BOOT_PVH, BH_BOOT_AUTO };

struct bh_boot_file {
	const uint8_t *bytes;
	size_t size;
	const char *name; /* for errors, and as the multiboot module's string */
};

struct bh_boot_request {
	struct bh_boot_file kernel;
	struct bh_boot_file initrd; /* bytes NULL: none */
	const char *command_line;   /* "" if none */
	uint64_t acpi_root;         /* where ACPI's root pointer lies, 0: there is none (for Linux and PVH, which are told so) */
};

/* Where a kernel lies: `end` is the first address behind it. */
struct bh_boot_range {
	uint64_t start, end;
};

/* What the map of memory says of a range, numbered as in E820. */
enum { BH_BOOT_MEMORY = 1, BH_BOOT_RESERVED = 2 };
struct bh_boot_map_entry {
	uint64_t start, size;
	uint32_t type;
};
#define BH_BOOT_MAP_MAX (3 + BH_GUEST_REGIONS_MAX)

/* elf.c: copies the PT_LOAD segments of a 32- or 64-bit x86 executable to their physical addresses. *ret_range has all of them, and what lies
 * between them. */
int bh_boot_load_elf(const struct bh_boot_file *file, struct bh_guest_memory *memory, uint64_t *ret_entry, struct bh_boot_range *ret_range,
		     struct bh_error *err);

/* Whether it is a 64-bit executable whose entry lies where it is loaded: what Linux's 64-bit protocol needs. */
bool bh_boot_enters_wide(const struct bh_boot_file *file);
/* pvh.c: the protocol for this kernel: PVH if it has an entry for that and none that Linux's 64-bit protocol could use, else LINUX. */
enum bh_boot_protocol bh_boot_choose(const struct bh_boot_file *file);
/* Finds a note by its owner's name and type: up to `max` bytes of its content are copied to `content`. False if the executable has none, or
 * isn't one. */
bool bh_boot_find_note(const struct bh_boot_file *file, const char *owner, uint32_t type, void *content, size_t max, size_t *ret_length);

/* place.c: the map of memory, sorted by address; returns how many ranges. */
size_t bh_boot_map(const struct bh_guest_memory *memory, struct bh_boot_map_entry entries[BH_BOOT_MAP_MAX]);
/* Copies the file to a page as high as it may lie: from `from` on, before `limit` and the hole. -ENOMEM where it doesn't fit. */
int bh_boot_place_high(const struct bh_boot_file *file, uint64_t from, uint64_t limit, struct bh_guest_memory *memory, uint64_t *ret_start,
		       struct bh_error *err);

/* reset.c: what lies where a PC's processors begin after a reset, and where kernels jump that know no other way of it: it asks the
 * keyboard controller for one. */
void bh_boot_place_reset(struct bh_guest_memory *memory);

/* linux.c: a bzImage or a vmlinux. */
int bh_boot_linux(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err);

/* pvh.c: an ELF executable that says by a note of Xen's where it is entered in 32-bit mode. */
int bh_boot_pvh(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err);

/* acpi.c: the tables for this many processors and devices of virtio/mmio.h, at BH_BOOT_ACPI (ACPI 6.5). Hardware-reduced: no legacy timers, no legacy power management;
 * or, `fixed`, with the fixed registers of devices/pm-timer.c, and for readers that know ACPI 1.0 only. Returns where the root pointer lies. */
#define BH_BOOT_ACPI 0xe0000ULL
#define BH_BOOT_SLEEP_CONTROL 0x600 /* ports: power-off */
#define BH_BOOT_SLEEP_STATUS 0x601
#define BH_BOOT_EVENTS 0x602          /* port: which events there are (devices/events.c) */
#define BH_BOOT_PANIC 0x505           /* port: the kernel has panicked (devices/panic.c) */
#define BH_BOOT_EVENTS_LINE 5         /* their interrupt */
#define BH_BOOT_GENERATION 0xef000ULL /* 16 bytes: the virtual machine generation id, another one after each restore */
#define BH_BOOT_PM_TIMER 0x608        /* ports of the fixed registers */
#define BH_BOOT_PM_EVENTS 0x610
#define BH_BOOT_PM_CONTROL 0x614
#define BH_BOOT_PM_LINE 9 /* their interrupt, which nothing raises */
#define BH_BOOT_PLUG 0x620 /* ports: slots that get and lose devices (devices/plug.c) */
struct bh_boot_acpi {
	unsigned vcpus;
	bool fixed;
	bool pluggable;        /* the slots of PCI can get and lose devices */
	unsigned mmio_devices;
};
uint64_t bh_boot_acpi(const struct bh_boot_acpi *machine, struct bh_guest_memory *memory);

/* multiboot.c: Multiboot Specification 0.6.96; the initrd is its one module. */
int bh_boot_multiboot(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err);
