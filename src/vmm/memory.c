/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/memfd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE BH_GUEST_PAGE
#define HUGE_PAGE (2ULL << 20)

static int make_fd(uint64_t size, bool huge, struct bh_error *err)
{
	bh_auto_close int fd = memfd_create("guest-memory", MFD_CLOEXEC | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));

	if (fd < 0)
		return bh_error_set(err, errno, "memfd_create for %llu MiB of guest memory", (unsigned long long)(size >> 20));
	if (ftruncate(fd, (off_t)size) < 0)
		return bh_error_set(err, errno, "reserve %llu MiB of guest memory", (unsigned long long)(size >> 20));
	return BH_TAKE_FD(fd);
}

static int map_region(struct bh_guest_memory *memory, uint64_t address, uint64_t size, uint64_t offset, struct bh_error *err)
{
	int flags = memory->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	/* One page of slack on each side would catch overruns of our own; the kernel leaves such gaps between its mappings anyway. */
	void *host = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, memory->fd, (off_t)offset);

	if (host == MAP_FAILED)
		return bh_error_set(err, errno, "map %llu MiB of guest memory", (unsigned long long)(size >> 20));
	/* Neither is needed for anything but speed and small core dumps. */
	madvise(host, size, MADV_HUGEPAGE);
	madvise(host, size, MADV_DONTDUMP);
	memory->regions[memory->count++] = (struct bh_guest_region){ address, size, host };
	return 0;
}

int bh_guest_memory_make(uint64_t size, enum bh_memory_backing backing, struct bh_guest_memory *ret_memory, struct bh_error *err)
{
	struct bh_guest_memory memory = BH_GUEST_MEMORY_INIT;
	uint64_t unit = backing == BH_MEMORY_HUGETLB ? HUGE_PAGE : PAGE, low = BH_MIN(size, BH_GUEST_HOLE_START);
	int r = 0;

	if (size < BH_GUEST_MEMORY_MIN || size > BH_GUEST_MEMORY_MAX || size % unit)
		return bh_error_text(err, EINVAL, "guest memory of %llu bytes: from 1 MiB to 1 TiB, in steps of %llu KiB", (unsigned long long)size,
				     (unsigned long long)(unit >> 10));
	memory.size = size;
	if (backing != BH_MEMORY_ANONYMOUS)
		r = memory.fd = make_fd(size, backing == BH_MEMORY_HUGETLB, err);
	if (r >= 0)
		r = map_region(&memory, 0, low, 0, err);
	if (r == 0 && size > low)
		r = map_region(&memory, BH_GUEST_HOLE_END, size - low, low, err);
	if (r < 0) {
		bh_guest_memory_clear(&memory);
		return r;
	}
	*ret_memory = memory;
	return 0;
}

void bh_guest_memory_clear(struct bh_guest_memory *memory)
{
	for (size_t i = 0; i < memory->count; i++)
		munmap(memory->regions[i].host, memory->regions[i].size);
	bh_close_fd(&memory->fd);
	free((void *)memory->dirty_words);
	*memory = (struct bh_guest_memory)BH_GUEST_MEMORY_INIT;
}

void *bh_guest_at(const struct bh_guest_memory *memory, uint64_t address, uint64_t length)
{
	for (size_t i = 0; i < memory->count; i++) {
		const struct bh_guest_region *region = &memory->regions[i];

		if (address >= region->address && address - region->address <= region->size && length <= region->size - (address - region->address))
			return region->host + (address - region->address);
	}
	return NULL;
}

bool bh_guest_read(const struct bh_guest_memory *memory, uint64_t address, void *bytes, size_t length)
{
	const void *from = bh_guest_at(memory, address, length);

	if (from)
		memcpy(bytes, from, length);
	return from != NULL;
}

bool bh_guest_write(const struct bh_guest_memory *memory, uint64_t address, const void *bytes, size_t length)
{
	void *to = bh_guest_at(memory, address, length);

	if (to) {
		memcpy(to, bytes, length);
		bh_guest_mark_dirty(memory, to, length);
	}
	return to != NULL;
}

/* --- the log of what we write ----------------------------------------------------------------------------------------- */

void bh_guest_mark_dirty(const struct bh_guest_memory *memory, const void *host, size_t length)
{
	_Atomic uint64_t *dirty = atomic_load_explicit(&memory->dirty, memory_order_acquire);

	if (!dirty || length == 0)
		return;
	for (size_t i = 0; i < memory->count; i++) {
		const struct bh_guest_region *region = &memory->regions[i];
		const uint8_t *at = host;

		if (at < region->host || at >= region->host + region->size)
			continue;
		for (uint64_t page = bh_guest_page(region->address + (uint64_t)(at - region->host)),
			      last = bh_guest_page(region->address + (uint64_t)(at - region->host) + length - 1);
		     page <= last; page++)
			atomic_fetch_or_explicit(&dirty[page / 64], 1ULL << (page % 64), memory_order_relaxed);
	}
}

void bh_guest_log_dirty(struct bh_guest_memory *memory, bool on)
{
	size_t words = (memory->size / PAGE + 63) / 64;

	if (on && !memory->dirty_words)
		memory->dirty_words = bh_calloc(words, sizeof *memory->dirty_words);
	/* A late mark of an earlier log is a page too many, and no harm. */
	for (size_t i = 0; on && i < words; i++)
		atomic_store_explicit(&memory->dirty_words[i], 0, memory_order_relaxed);
	atomic_store(&memory->dirty, on ? memory->dirty_words : NULL);
}
