/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory balloon (specification 5.5): pages that the guest gives back to the host.
 *
 *	inflate, deflate   page numbers; what is inflated is dropped, and reads as zeros from then on
 *	statistics         one buffer that stays here and goes back when somebody wants to know anew
 *	reporting          free memory as buffers: dropped at once, and the guest may use it again without asking
 *
 * A guest can only name pages of its own memory: every number is looked up there. Dropped pages count as written: what a
 * migration has sent of them before isn't what they hold now.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PCI_CLASS_OTHER 0x00ff00
#define BIT(feature) (1ULL << (feature))
/* Page numbers of one request. */
#define PAGES_MAX 4096
/* Chains of one turn of the loop. */
#define TURN_CHAINS 64

/* Linux counts only the queues whose features it has taken: reporting is the third or the fourth one. */
enum { INFLATE, DEFLATE, STATISTICS, REPORTING, QUEUES };

struct balloon {
	struct bh_virtio_device device;
	bool statistics_wait; /* the guest's buffer for them has been read, and is not yet given back */
	struct bh_balloon_statistics statistics;
};

/* The host's page goes; the guest finds zeros. */
static void drop(const struct balloon *b, void *host, size_t length)
{
	const struct bh_guest_memory *memory = &b->device.vm->memory;

	for (size_t i = 0; memory->fd >= 0 && i < memory->count; i++) {
		const struct bh_guest_region *region = &memory->regions[i];
		uint64_t offset = 0;

		for (size_t j = 0; j < i; j++)
			offset += memory->regions[j].size;
		if ((uint8_t *)host >= region->host && (uint8_t *)host < region->host + region->size)
			fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)(offset + (uint64_t)((uint8_t *)host - region->host)), (off_t)length);
	}
	if (memory->fd < 0)
		madvise(host, length, MADV_DONTNEED);
	bh_guest_mark_dirty(memory, host, length);
}

/* Neighbours go together. */
static void inflate(struct balloon *b, const struct bh_chain *chain)
{
	size_t count = BH_MIN(chain->readable_bytes / sizeof(uint32_t), (size_t)PAGES_MAX), run = 0;
	uint8_t *start = NULL;

	for (size_t i = 0; i < count; i++) {
		uint32_t page;
		uint8_t *host;

		bh_chain_read(chain, i * sizeof page, &page, sizeof page);
		host = bh_guest_at(&b->device.vm->memory, (uint64_t)page << VIRTIO_BALLOON_PFN_SHIFT, BH_GUEST_PAGE);
		if (!host)
			continue;
		if (run && host == start + run) {
			run += BH_GUEST_PAGE;
			continue;
		}
		if (run)
			drop(b, start, run);
		start = host;
		run = BH_GUEST_PAGE;
	}
	if (run)
		drop(b, start, run);
}

/* Whole pages only: what else is in a page isn't the guest's word. */
static void report(const struct balloon *b, const struct bh_chain *chain)
{
	const struct iovec *iov = bh_chain_writable(chain);

	for (unsigned i = 0; i < chain->writable; i++) {
		uintptr_t start = ((uintptr_t)iov[i].iov_base + BH_GUEST_PAGE - 1) & ~(BH_GUEST_PAGE - 1);
		uintptr_t end = ((uintptr_t)iov[i].iov_base + iov[i].iov_len) & ~(BH_GUEST_PAGE - 1);

		if (end > start)
			drop(b, (void *)start, end - start);
	}
}

static void take_statistics(struct balloon *b, const struct bh_chain *chain)
{
	size_t count = chain->readable_bytes / sizeof(struct virtio_balloon_stat);

	for (size_t i = 0; i < count && i < VIRTIO_BALLOON_S_NR; i++) {
		struct virtio_balloon_stat entry;

		bh_chain_read(chain, i * sizeof entry, &entry, sizeof entry);
		if (entry.tag < BH_BALLOON_STATISTICS)
			b->statistics.values[entry.tag] = entry.val;
	}
	b->statistics.updates++;
}

static unsigned role_of(const struct balloon *b, unsigned queue)
{
	return queue == STATISTICS && !bh_virtio_has(&b->device, BIT(VIRTIO_BALLOON_F_STATS_VQ)) ? REPORTING : queue;
}

/* The newest buffer is kept: it is popped again for the answer, since nothing comes before it. */
static void serve_statistics(struct balloon *b)
{
	struct bh_virtqueue *queue = &b->device.queues[STATISTICS];
	struct bh_chain chain;

	if (b->statistics_wait || bh_virtqueue_pop(queue, &chain) <= 0)
		return;
	take_statistics(b, &chain);
	bh_virtqueue_undo_pop(queue);
	b->statistics_wait = true;
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct balloon *b = (struct balloon *)device;
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;
	unsigned role = role_of(b, index);
	uint64_t one = 1;
	int chains = 0;

	if (role == STATISTICS) {
		serve_statistics(b);
		return;
	}
	do {
		bh_virtqueue_quiet(queue);
		while (chains < TURN_CHAINS && bh_virtqueue_pop(queue, &chain) > 0) {
			if (role == INFLATE)
				inflate(b, &chain);
			else if (role == REPORTING)
				report(b, &chain);
			bh_virtqueue_push(queue, &chain, 0);
			chains++;
		}
	} while (chains < TURN_CHAINS && bh_virtqueue_listen(queue));
	bh_virtqueue_interrupt(queue);
	if (chains == TURN_CHAINS)
		(void)!write(queue->event_fd, &one, sizeof one);
}

static void reset(struct bh_virtio_device *device)
{
	struct balloon *b = (struct balloon *)device;

	b->statistics_wait = false;
	b->statistics = (struct bh_balloon_statistics){ 0 };
}

static void save(struct bh_virtio_device *device, struct bh_buf *out)
{
	bh_state_put(out, ((struct balloon *)device)->statistics_wait, 1);
}

static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	(void)err;
	((struct balloon *)device)->statistics_wait = bh_state_get(in, 1) != 0;
	return 0;
}

static void free_balloon(struct bh_virtio_device *device)
{
	bh_virtio_clear(device);
	free(device);
}

static const struct bh_virtio_driver driver = {
	.name = "balloon",
	.id = 5,
	.pci_class = PCI_CLASS_OTHER,
	.reset = reset,
	.notify = notify,
	.save = save,
	.load = load,
	.free = free_balloon,
};

void bh_balloon_set_target(struct bh_virtio_device *device, uint32_t pages)
{
	pthread_mutex_lock(&device->lock);
	pages = (uint32_t)BH_MIN((uint64_t)pages, device->vm->memory.size / BH_GUEST_PAGE);
	memcpy(device->config + offsetof(struct virtio_balloon_config, num_pages), &pages, sizeof pages);
	bh_virtio_config_changed(device);
	pthread_mutex_unlock(&device->lock);
}

void bh_balloon_statistics(struct bh_virtio_device *device, struct bh_balloon_statistics *ret_statistics)
{
	struct balloon *b = (struct balloon *)device;
	struct bh_virtqueue *queue = &device->queues[STATISTICS];
	struct bh_chain chain;

	pthread_mutex_lock(&device->lock);
	*ret_statistics = b->statistics;
	memcpy(&ret_statistics->pages, device->config + offsetof(struct virtio_balloon_config, actual), sizeof ret_statistics->pages);
	/* The buffer goes back, and comes again with new numbers. */
	if (b->statistics_wait && bh_virtqueue_pop(queue, &chain) > 0) {
		bh_virtqueue_push(queue, &chain, 0);
		bh_virtqueue_interrupt(queue);
	}
	b->statistics_wait = false;
	pthread_mutex_unlock(&device->lock);
}

int bh_balloon_make(struct bh_vm *vm, struct bh_loop *loop, uint32_t pages, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	struct balloon *b = bh_calloc(1, sizeof *b);
	const uint64_t features = BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) | BIT(VIRTIO_BALLOON_F_REPORTING);
	int r = bh_virtio_init(&b->device, &driver, vm, loop, QUEUES, features, err);

	if (r < 0) {
		free(b);
		return r;
	}
	b->device.config_size = sizeof(struct virtio_balloon_config);
	/* `actual` is the guest's to write, and lies behind what isn't: num_pages is checked when it is read. */
	b->device.config_writable = offsetof(struct virtio_balloon_config, actual) + sizeof(uint32_t);
	bh_balloon_set_target(&b->device, pages);
	*ret_device = &b->device;
	return 0;
}
