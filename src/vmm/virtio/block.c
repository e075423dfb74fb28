/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block device (specification 5.2): a disk of vmm/disk.
 *
 * A request is served where it is found, on the device's own loop: guest memory goes to the disk's file and back without a copy of ours. Every request is answered, a wrong one with an error; only a chain that has no room for the answer breaks the device.
 */
#include "vmm/virtio/virtio.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "vmm/disk/disk.h"

#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR BH_DISK_SECTOR
#define PCI_CLASS_STORAGE 0x018000
/* Of one discard or write-zeroes request. */
#define RANGE_SECTORS_MAX (1u << 22)

struct block {
	struct bh_virtio_device device;
	struct bh_disk *disk;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct bh_limits limits;
};

/* How many bytes an offset in sectors is; too many for any disk where there is no number for it. */
static uint64_t to_bytes(uint64_t sectors)
{
	return sectors > UINT64_MAX / SECTOR ? UINT64_MAX / SECTOR * SECTOR : sectors * SECTOR;
}

static uint8_t read_or_write(struct block *b, const struct bh_chain *chain, uint64_t sector, bool write)
{
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
	size_t length = write ? chain->readable_bytes - sizeof(struct virtio_blk_outhdr) : chain->writable_bytes - 1;
	unsigned count;
	int r;

	count = write ? bh_iov_slice(bh_chain_readable(chain), chain->readable, sizeof(struct virtio_blk_outhdr), length, iov) :
			bh_iov_slice(bh_chain_writable(chain), chain->writable, 0, length, iov);
	r = write ? bh_disk_writev(b->disk, iov, count, to_bytes(sector), length) : bh_disk_readv(b->disk, iov, count, to_bytes(sector), length);
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

static void on_limit(void *context, uint32_t events);

/* True if the limits say so; a timer goes on then. */
static bool must_wait(struct block *b)
{
	int64_t until = bh_limits_are_set(&b->limits) ? bh_limits_wait(&b->limits, bh_monotonic_ns()) : 0;

	if (until)
		bh_loop_set_timer(b->device.loop, until, on_limit, b);
	return until != 0;
}

static void notify(struct bh_virtio_device *device, unsigned index)
{
	struct block *b = (struct block *)device;
	struct bh_virtqueue *queue = &device->queues[index];
	struct bh_chain chain;
	bool waits;

	do {
		bh_virtqueue_quiet(queue);
		while (!(waits = must_wait(b)) && bh_virtqueue_pop(queue, &chain) > 0) {
			uint8_t status;

			if (chain.writable_bytes == 0) {
				bh_virtio_fail(device);
				return;
			}
			status = serve(b, &chain);
			bh_limits_take(&b->limits, chain.readable_bytes + chain.writable_bytes);
			bh_chain_write(&chain, chain.writable_bytes - 1, &status, 1);
			bh_virtqueue_push(queue, &chain, chain.writable_bytes);
		}
		bh_virtqueue_interrupt(queue);
	} while (!waits && bh_virtqueue_listen(queue));
}

static void on_limit(void *context, uint32_t events)
{
	struct block *b = context;

	(void)events;
	pthread_mutex_lock(&b->device.lock);
	if (b->device.active)
		notify(&b->device, 0);
	pthread_mutex_unlock(&b->device.lock);
}

static void free_block(struct bh_virtio_device *device)
{
	struct block *b = (struct block *)device;

	bh_loop_set_timer(device->loop, 0, on_limit, b);
	bh_virtio_clear(device);
	bh_disk_free(b->disk);
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
	.notify = notify,
	.save = save_block,
	.free = free_block,
};

static void fill_config(struct block *b)
{
	struct virtio_blk_config config = {
		.capacity = b->disk->size / SECTOR,
		.seg_max = BH_VIRTIO_QUEUE_SIZE - 2,
		.blk_size = SECTOR,
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
	return bh_disk_open(config->format, config->fd, config->readonly, backing, ret_disk, err);
}

int bh_block_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_block_config *config, struct bh_virtio_device **ret_device,
		  struct bh_error *err)
{
	uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_FLUSH;
	struct block *b = bh_calloc(1, sizeof *b);
	int r = open_disk(config, &b->disk, err);

	features |= config->readonly ? 1ULL << VIRTIO_BLK_F_RO : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	b->limits = config->limits;
	bh_limits_init(&b->limits, bh_monotonic_ns());
	/* Without a NUL if it fills the field. */
	if (config->serial)
		memcpy(b->serial, config->serial, BH_MIN(strlen(config->serial), sizeof b->serial));
	if (r == 0)
		r = bh_virtio_init(&b->device, &driver, vm, loop, 1, features, err);
	if (r < 0) {
		bh_disk_free(b->disk);
		free(b);
		return r;
	}
	fill_config(b);
	*ret_device = &b->device;
	return 0;
}
