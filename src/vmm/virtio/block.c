/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block device (specification 5.2): a disk of vmm/disk.
 *
 * A request is served where it is found, on its queue's loop: guest memory goes to the disk's file and back without a copy of ours. Every
 * request is answered, a wrong one with an error; only a chain that has no room for the answer breaks the device.
 *
 * Where more than one request waits, reads of a raw image go to the kernel together, by a ring (linux/io-ring.h), and are answered in the order
 * in which they end; one alone is done at once, which costs less. What the ring didn't read as a whole is read again in the plain way, which
 * finds out why. Without rings (an old kernel, a forbidden system call) all is done in the plain way. A reset, a pause and the end wait for what
 * the kernel has.
 *
 * Queues are served beside each other. They share the disk, which a raw image allows, and the limits, which are the device's.
 */
#include "vmm/virtio/virtio.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "linux/io-ring.h"
#include "vmm/disk/disk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SECTOR BH_DISK_SECTOR
#define PCI_CLASS_STORAGE 0x018000
/* Of one discard or write-zeroes request. */
#define RANGE_SECTORS_MAX (1u << 22)

/* Of a queue with the kernel at a time: 8 KiB each, which are touched only by as many as there are. */
#define DEPTH 64

/* A chain whose bytes the kernel reads. */
struct flight {
	struct bh_chain chain;
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
	unsigned count;
	uint64_t offset;
	size_t length;
};

/* Under the queue's lock. */
struct flights {
	struct bh_io_ring ring;
	struct flight *slots; /* NULL: there is no ring */
	uint8_t free[DEPTH];  /* numbers of slots */
	unsigned free_count;
	bool watched; /* by the queue's loop */
};

struct block {
	struct bh_virtio_device device;
	struct bh_disk *disk;
	struct flights flights[BH_BLOCK_QUEUES_MAX];
	char serial[VIRTIO_BLK_ID_BYTES];
	int lock_fd;
	pthread_mutex_t limits_lock;
	struct bh_limits limits;
};

/* How many bytes an offset in sectors is; too many for any disk where there is no number for it. */
static uint64_t to_bytes(uint64_t sectors)
{
	return sectors > UINT64_MAX / SECTOR ? UINT64_MAX / SECTOR * SECTOR : sectors * SECTOR;
}

/* The guest's bytes of a read or a write. */
static unsigned data_of(const struct bh_chain *chain, bool write, struct iovec *ret_iov, size_t *ret_length)
{
	size_t header = write ? sizeof(struct virtio_blk_outhdr) : 0;

	*ret_length = write ? chain->readable_bytes - header : chain->writable_bytes - 1;
	return write ? bh_iov_slice(bh_chain_readable(chain), chain->readable, header, *ret_length, ret_iov) :
		       bh_iov_slice(bh_chain_writable(chain), chain->writable, 0, *ret_length, ret_iov);
}

static uint8_t read_or_write(struct block *b, const struct bh_chain *chain, uint64_t sector, bool write)
{
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
	size_t length;
	unsigned count = data_of(chain, write, iov, &length);
	int r = write ? bh_disk_writev(b->disk, iov, count, to_bytes(sector), length) : bh_disk_readv(b->disk, iov, count, to_bytes(sector), length);

	return r == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

static uint8_t give_id(struct block *b, const struct bh_chain *chain)
{
	if (chain->writable_bytes - 1 < sizeof b->serial)
		return VIRTIO_BLK_S_IOERR;
	bh_chain_write(chain, 0, b->serial, sizeof b->serial);
	return VIRTIO_BLK_S_OK;
}

static uint8_t discard(struct block *b, const struct bh_chain *chain, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes range;
	int r;

	/* One range a request: the configuration says so. */
	if (chain->readable_bytes != sizeof(struct virtio_blk_outhdr) + sizeof range)
		return VIRTIO_BLK_S_IOERR;
	bh_chain_read(chain, sizeof(struct virtio_blk_outhdr), &range, sizeof range);
	if (range.flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (range.num_sectors > RANGE_SECTORS_MAX)
		return VIRTIO_BLK_S_IOERR;
	r = zeroes ? bh_disk_write_zeroes(b->disk, to_bytes(range.sector), to_bytes(range.num_sectors),
					  range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) :
		     bh_disk_discard(b->disk, to_bytes(range.sector), to_bytes(range.num_sectors));
	if (r == -EOPNOTSUPP)
		return VIRTIO_BLK_S_UNSUPP;
	return r < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t serve(struct block *b, const struct bh_chain *chain)
{
	struct virtio_blk_outhdr header;

	if (bh_chain_read(chain, 0, &header, sizeof header) < sizeof header)
		return VIRTIO_BLK_S_IOERR;
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		return read_or_write(b, chain, header.sector, false);
	case VIRTIO_BLK_T_OUT:
		return read_or_write(b, chain, header.sector, true);
	case VIRTIO_BLK_T_FLUSH:
		return bh_disk_flush(b->disk) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
	case VIRTIO_BLK_T_GET_ID:
		return give_id(b, chain);
	case VIRTIO_BLK_T_DISCARD:
		return discard(b, chain, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return discard(b, chain, true);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

static void answer(struct bh_virtqueue *queue, const struct bh_chain *chain, uint8_t status)
{
	bh_chain_write(chain, chain->writable_bytes - 1, &status, 1);
	bh_virtqueue_push(queue, chain, chain->writable_bytes);
}

/* --- reads that are with the kernel; called with the queue's lock held ------------------------------------------------ */

static unsigned in_flight(const struct flights *f)
{
	return f->slots ? DEPTH - f->free_count : 0;
}

/* True: it is put into the ring, and answered later. */
static bool take_off(struct block *b, struct bh_virtqueue *queue, const struct bh_chain *chain)
{
	struct flights *f = &b->flights[queue->index];
	struct virtio_blk_outhdr header;
	struct flight *flight;
	unsigned slot;

	if (!f->watched || f->free_count == 0 || (in_flight(f) == 0 && !bh_virtqueue_has_more(queue)))
		return false;
	if (bh_chain_read(chain, 0, &header, sizeof header) < sizeof header || header.type != VIRTIO_BLK_T_IN)
		return false;
	slot = f->free[f->free_count - 1];
	flight = &f->slots[slot];
	flight->offset = to_bytes(header.sector);
	flight->count = data_of(chain, false, flight->iov, &flight->length);
	if (flight->length == 0 || !bh_disk_has(b->disk, flight->count, flight->offset, flight->length))
		return false;
	f->free_count--;
	memcpy(&flight->chain, chain, offsetof(struct bh_chain, iov) + (chain->readable + chain->writable) * sizeof chain->iov[0]);
	bh_io_ring_put(&f->ring, slot, flight->iov, flight->count, flight->offset);
	return true;
}

static void land(struct block *b, struct bh_virtqueue *queue, unsigned slot, int result)
{
	struct flights *f = &b->flights[queue->index];
	const struct flight *flight = &f->slots[slot];
	uint8_t status = VIRTIO_BLK_S_OK;

	if (result < 0 || (size_t)result != flight->length)
		status = bh_disk_readv(b->disk, flight->iov, flight->count, flight->offset, flight->length) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
	answer(queue, &flight->chain, status);
	f->free[f->free_count++] = (uint8_t)slot;
}

static void submit(struct block *b, struct bh_virtqueue *queue)
{
	uint8_t refused[DEPTH];
	unsigned count = b->flights[queue->index].slots ? bh_io_ring_submit(&b->flights[queue->index].ring, refused) : 0;

	for (unsigned i = 0; i < count; i++)
		land(b, queue, refused[i], -EAGAIN);
}

/* What has ended. Of a queue that is being reset (`answered` false) nobody waits for an answer. */
static void collect(struct block *b, struct bh_virtqueue *queue, bool answered)
{
	struct flights *f = &b->flights[queue->index];
	unsigned slot;
	int result;

	while (in_flight(f) && bh_io_ring_take(&f->ring, &slot, &result))
		if (answered)
			land(b, queue, slot, result);
		else
			f->free[f->free_count++] = (uint8_t)slot;
}

/* Until the kernel has none any more. */
static void wait_for_all(struct block *b, struct bh_virtqueue *queue, bool answered)
{
	struct flights *f = &b->flights[queue->index];
	struct pollfd ready = { f->ring.event_fd, POLLIN, 0 };
	uint64_t count;

	while (in_flight(f)) {
		poll(&ready, 1, -1);
		(void)!read(f->ring.event_fd, &count, sizeof count);
		collect(b, queue, answered);
	}
}

static void on_results(void *context, uint32_t events)
{
	struct bh_virtqueue *queue = context;
	struct block *b = (struct block *)queue->device;
	uint64_t count;

	(void)events;
	pthread_mutex_lock(&queue->lock);
	(void)!read(b->flights[queue->index].ring.event_fd, &count, sizeof count);
	collect(b, queue, true);
	bh_virtqueue_interrupt(queue);
	pthread_mutex_unlock(&queue->lock);
}

static void reset_block(struct bh_virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++)
		wait_for_all((struct block *)device, &device->queues[i], false);
}

static void settle_block(struct bh_virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++) {
		struct bh_virtqueue *queue = &device->queues[i];

		pthread_mutex_lock(&queue->lock);
		wait_for_all((struct block *)device, queue, true);
		bh_virtqueue_interrupt(queue);
		pthread_mutex_unlock(&queue->lock);
	}
}

/* On the queue's loop, which the ring was made before. */
static void watch(struct flights *f, struct bh_virtqueue *queue)
{
	if (f->slots && !f->watched)
		f->watched = bh_loop_add(queue->loop, f->ring.event_fd, EPOLLIN, on_results, queue, NULL) == 0;
}

static void free_flights(struct block *b, struct bh_virtqueue *queue)
{
	struct flights *f = &b->flights[queue->index];

	wait_for_all(b, queue, false);
	bh_loop_remove(queue->loop, f->ring.event_fd);
	bh_io_ring_clear(&f->ring);
	free(f->slots);
}

/* Where there can't be one all goes the plain way. */
static void make_flights(struct block *b, struct flights *f)
{
	if (b->disk->file < 0 || bh_io_ring_make(b->disk->file, DEPTH, &f->ring) < 0)
		return;
	f->slots = bh_calloc(DEPTH, sizeof *f->slots);
	for (f->free_count = 0; f->free_count < DEPTH; f->free_count++)
		f->free[f->free_count] = (uint8_t)f->free_count;
}

/* --- requests ------------------------------------------------------------------------------------------------------------ */

static void on_limit(void *context, uint32_t events);

/* True if the limits say so; a timer goes on then. */
static bool must_wait(struct block *b, struct bh_virtqueue *queue)
{
	int64_t until;

	if (!bh_limits_are_set(&b->limits))
		return false;
	pthread_mutex_lock(&b->limits_lock);
	until = bh_limits_wait(&b->limits, bh_monotonic_ns());
	pthread_mutex_unlock(&b->limits_lock);
	if (until)
		bh_loop_set_timer(queue->loop, until, on_limit, queue);
	return until != 0;
}

/* Before the work: other queues see it and wait. */
static void take_limits(struct block *b, const struct bh_chain *chain)
{
	if (!bh_limits_are_set(&b->limits))
		return;
	pthread_mutex_lock(&b->limits_lock);
	bh_limits_take(&b->limits, chain->readable_bytes + chain->writable_bytes);
	pthread_mutex_unlock(&b->limits_lock);
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct block *b = (struct block *)device;
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;
	bool waits;

	watch(&b->flights[index], queue);
	do {
		bh_virtqueue_quiet(queue);
		while (!(waits = must_wait(b, queue)) && bh_virtqueue_pop(queue, &chain) > 0) {
			if (chain.writable_bytes == 0) {
				submit(b, queue);
				bh_virtio_fail(device);
				return;
			}
			take_limits(b, &chain);
			if (take_off(b, queue, &chain))
				continue;
			submit(b, queue);
			answer(queue, &chain, serve(b, &chain));
		}
		submit(b, queue);
		/* What the page cache had is there already; and a guest that keeps us here waits for the others too. */
		collect(b, queue, true);
		bh_virtqueue_interrupt(queue);
	} while (!waits && bh_virtqueue_listen(queue));
}

static void on_limit(void *context, uint32_t events)
{
	(void)events;
	bh_virtqueue_serve(context);
}

static void free_block(struct bh_virtio_device *device)
{
	struct block *b = (struct block *)device;

	for (unsigned i = 0; i < device->queue_count; i++) {
		bh_loop_set_timer(device->queues[i].loop, 0, on_limit, &device->queues[i]);
		free_flights(b, &device->queues[i]);
	}
	bh_virtio_clear(device);
	bh_disk_free(b->disk);
	bh_close_fd(&b->lock_fd);
	free(b);
}

/* What the guest has not flushed is part of the state: whoever continues with it may be another process. */
static void save_block(struct bh_virtio_device *device, struct bh_buf *out)
{
	struct block *b = (struct block *)device;
	int r = bh_disk_flush(b->disk);

	(void)out;
	if (r < 0)
		bh_warn("a disk could not be flushed for its snapshot: %s", strerror(-r));
}

static const struct bh_virtio_driver driver = {
	.name = "block",
	.id = 2,
	.pci_class = PCI_CLASS_STORAGE,
	.parallel = true,
	.reset = reset_block,
	.notify = notify,
	.settle = settle_block,
	.save = save_block,
	.free = free_block,
};

static void fill_config(struct block *b)
{
	struct virtio_blk_config config = {
		.capacity = b->disk->size / SECTOR,
		.seg_max = BH_VIRTIO_QUEUE_SIZE - 2,
		.blk_size = SECTOR,
		.num_queues = (uint16_t)b->device.queue_count,
		.max_discard_sectors = RANGE_SECTORS_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = b->disk->block_size / SECTOR,
		.max_write_zeroes_sectors = RANGE_SECTORS_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(b->device.config, &config, sizeof config);
	b->device.config_size = sizeof config;
}

static int open_disk(const struct bh_block_config *config, struct bh_disk **ret_disk, struct bh_error *err)
{
	struct bh_disk *backing = NULL;
	int r = 0;

	if (config->backing_fd >= 0)
		r = bh_disk_open(config->backing_format, config->backing_fd, true, NULL, &backing, err);
	if (r < 0) {
		close(config->fd);
		return r;
	}
	r = bh_disk_open(config->format, config->fd, config->readonly, backing, ret_disk, err);
	if (r == 0 && config->queues > 1 && config->format != BH_DISK_RAW)
		r = bh_error_text(err, EINVAL, "block: %u queues are for raw images", config->queues);
	return r;
}

int bh_block_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_block_config *config, struct bh_virtio_device **ret_device,
		  struct bh_error *err)
{
	uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_FLUSH;
	struct block *b = bh_calloc(1, sizeof *b);
	int r = open_disk(config, &b->disk, err);

	if (config->queues > 1)
		features |= 1ULL << VIRTIO_BLK_F_MQ;
	features |= config->readonly ? 1ULL << VIRTIO_BLK_F_RO : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	pthread_mutex_init(&b->limits_lock, NULL);
	b->limits = config->limits;
	bh_limits_init(&b->limits, bh_monotonic_ns());
	/* Without a NUL if it fills the field. */
	if (config->serial)
		memcpy(b->serial, config->serial, BH_MIN(strlen(config->serial), sizeof b->serial));
	if (r == 0)
		r = bh_virtio_init(&b->device, &driver, vm, loop, config->queues, features, err);
	b->lock_fd = config->lock_fd;
	if (r < 0) {
		bh_disk_free(b->disk);
		bh_close_fd(&b->lock_fd);
		free(b);
		return r;
	}
	for (unsigned i = 0; i < config->queues; i++) {
		b->flights[i].ring = (struct bh_io_ring)BH_IO_RING_INIT;
		if (!config->no_rings)
			make_flights(b, &b->flights[i]);
	}
	bh_explain("disk", "reads", b->flights[0].slots ? "together" : "one by one");
	fill_config(b);
	*ret_device = &b->device;
	return 0;
}
