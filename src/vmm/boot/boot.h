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
#define BH_BOOT_LOW_END 0xa0000ULL   /* where low memory ends for the guest */
#define BH_BOOT_HIGH_START 0x100000ULL

struct bh_boot_file {
	const uint8_t *bytes;
	size_t size;
	const char *name; /* for errors, and as the multiboot module's string */
};

struct bh_boot_request {
	struct bh_boot_file kernel;
	struct bh_boot_file initrd;     /* bytes NULL: none */
	const char *command_line;       /* "" if none */
	uint64_t acpi_root;             /* where ACPI's root pointer lies, 0: there is none (for Linux, which is told so) */
};

/* Where a kernel lies: `end` is the first address behind it. */
struct bh_boot_range {
	uint64_t start, end;
};

/* elf.c: copies the PT_LOAD segments of a 32- or 64-bit x86 executable to their physical addresses. *ret_range has all of them, and what lies
 * between them. */
int bh_boot_load_elf(const struct bh_boot_file *file, struct bh_guest_memory *memory, uint64_t *ret_entry, struct bh_boot_range *ret_range,
		     struct bh_error *err);

/* reset.c: what lies where a PC's processors begin after a reset, and where kernels jump that know no other way of it: it asks the
 * keyboard controller for one. */
void bh_boot_place_reset(struct bh_guest_memory *memory);

/* linux.c: a bzImage or a vmlinux. */
int bh_boot_linux(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err);

/* acpi.c: the tables for this many processors, at BH_BOOT_ACPI (ACPI 6.5). Hardware-reduced: no legacy timers, no legacy power management;
 * or, `fixed`, with the fixed registers of devices/pm-timer.c, and for readers that know ACPI 1.0 only. Returns where the root pointer lies. */
#define BH_BOOT_ACPI 0xe0000ULL
#define BH_BOOT_SLEEP_CONTROL 0x600 /* ports: power-off */
#define BH_BOOT_SLEEP_STATUS 0x601
#define BH_BOOT_EVENTS 0x602        /* port: which events there are (devices/events.c) */
#define BH_BOOT_PANIC 0x505         /* port: the kernel has panicked (devices/panic.c) */
#define BH_BOOT_EVENTS_LINE 5       /* their interrupt */
#define BH_BOOT_GENERATION 0xef000ULL /* 16 bytes: the virtual machine generation id, another one after each restore */
#define BH_BOOT_PM_TIMER 0x608      /* ports of the fixed registers */
#define BH_BOOT_PM_EVENTS 0x610
#define BH_BOOT_PM_CONTROL 0x614
#define BH_BOOT_PM_LINE 9           /* their interrupt, which nothing raises */
uint64_t bh_boot_acpi(unsigned vcpus, bool fixed, struct bh_guest_memory *memory);

/* multiboot.c: Multiboot Specification 0.6.96; the initrd is its one module. */
int bh_boot_multiboot(const struct bh_boot_request *request, struct bh_guest_memory *memory, struct bh_entry *ret_entry, struct bh_error *err);
