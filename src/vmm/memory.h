/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's physical memory, and the map of its address space.
 *
 *	0x0000_0000_0000 .. 0x0000_000a_0000  RAM (boot structures of ours lie here, see boot/boot.h)
 *	0x0000_000a_0000 .. 0x0000_0010_0000  RAM too; ACPI's root pointer is at 0xe0000
 *	0x0000_0010_0000 .. 0x0000_c000_0000  RAM: the kernel, and all that fits
 *	0x0000_c000_0000 .. 0x0001_0000_0000  the hole for devices: PCI, IOAPIC at 0xfec00000, local APICs at 0xfee00000
 *	0x0001_0000_0000 ..                   RAM that did not fit below the hole
 *
 * Everything that reads or writes the guest's memory for it asks bh_guest_at: a range is inside one region or it isn't there.
 * The guest changes its memory while we look at it: a value that decides something is copied first and used from the copy.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BH_GUEST_HOLE_START 0xc0000000ULL
#define BH_GUEST_HOLE_END 0x100000000ULL
#define BH_GUEST_PAGE 4096ULL
#define BH_GUEST_MEMORY_MIN (1ULL << 20)
#define BH_GUEST_MEMORY_MAX (1ULL << 40)
#define BH_GUEST_REGIONS_MAX 2

struct bh_guest_region {
	uint64_t address, size; /* guest physical, bytes */
	uint8_t *host;
};

/*
 * Which pages have been written since somebody began to ask: what the monitor itself writes is logged here, what the processors
 * write KVM logs (KVM_GET_DIRTY_LOG). One bit a page, counted from address 0 without the hole. NULL: nobody asks.
 */
struct bh_guest_memory {
	struct bh_guest_region regions[BH_GUEST_REGIONS_MAX];
	size_t count;
	uint64_t size;      /* bytes in all */
	int fd;             /* memfd, or -1 for anonymous memory */
	_Atomic(_Atomic uint64_t *) dirty;
	_Atomic uint64_t *dirty_words; /* what that points to, kept: who ends a log doesn't wait for those who write to it */
};
#define BH_GUEST_MEMORY_INIT { .fd = -1 }

enum bh_memory_backing {
	BH_MEMORY_ANONYMOUS, /* transparent huge pages where the kernel has them */
	BH_MEMORY_SHARED,    /* a memfd, which other processes may map */
	BH_MEMORY_HUGETLB,   /* a memfd of reserved 2 MiB pages */
};

/* `size` in bytes, a multiple of 4096. Maps it without reserving swap; pages come when the guest touches them. */
int bh_guest_memory_make(uint64_t size, enum bh_memory_backing backing, struct bh_guest_memory *ret_memory, struct bh_error *err);
void bh_guest_memory_clear(struct bh_guest_memory *memory);

/* Where `length` bytes at a guest physical address are mapped, or NULL if they aren't all in one region. */
void *bh_guest_at(const struct bh_guest_memory *memory, uint64_t address, uint64_t length);
/* Copies. False if the range isn't memory: nothing is copied then. */
bool bh_guest_read(const struct bh_guest_memory *memory, uint64_t address, void *bytes, size_t length);
bool bh_guest_write(const struct bh_guest_memory *memory, uint64_t address, const void *bytes, size_t length);
/* For whoever writes through a pointer of bh_guest_at. */
void bh_guest_mark_dirty(const struct bh_guest_memory *memory, const void *host, size_t length);
/* Begins with an empty log, or ends it. */
void bh_guest_log_dirty(struct bh_guest_memory *memory, bool on);
/* Number of the page in which a guest physical address lies, without the hole; it must be in memory. */
static inline uint64_t bh_guest_page(uint64_t address)
{
	return (address >= BH_GUEST_HOLE_END ? address - (BH_GUEST_HOLE_END - BH_GUEST_HOLE_START) : address) / BH_GUEST_PAGE;
}
