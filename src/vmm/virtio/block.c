/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block device (specification 5.2): an image file or a block device of the host.
 *
 * A request is served where it is found, on the device's own loop: guest memory goes to the file and back by preadv and pwritev, without a
 * copy of ours. Every request is answered, a wrong one with an error; only a chain that has no room for the answer breaks the device.
 */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512u
#define BLOCK 4096u
#define PCI_CLASS_STORAGE 0x018000
/* Of one discard or write-zeroes request. */
#define RANGE_SECTORS_MAX (1u << 22)

struct block {
	struct bh_virtio_device device;
	int fd;
	uint64_t sectors;
	bool readonly;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct bh_limits limits;
};

static bool inside(const struct block *b, uint64_t sector, uint64_t bytes)
{
	return bytes % SECTOR == 0 && sector <= b->sectors && bytes / SECTOR <= b->sectors - sector;
}

/* All of it, or an error: an image that became shorter is one. */
static bool transfer(const struct block *b, const struct iovec *iov, unsigned count, uint64_t offset, size_t length, bool write)
{
	struct iovec rest[BH_VIRTIO_QUEUE_SIZE];
	size_t done = 0;

	while (done < length) {
		unsigned left = bh_iov_slice(iov, count, done, length - done, rest);
		ssize_t n = write ? pwritev(b->fd, rest, (int)left, (off_t)(offset + done)) : preadv(b->fd, rest, (int)left, (off_t)(offset + done));

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return false;
		done += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static uint8_t read_or_write(struct block *b, const struct bh_chain *chain, uint64_t sector, bool write)
{
	struct iovec iov[BH_VIRTIO_QUEUE_SIZE];
	size_t length = write ? chain->readable_bytes - sizeof(struct virtio_blk_outhdr) : chain->writable_bytes - 1;
	unsigned count;

	if (!inside(b, sector, length) || (write && b->readonly))
		return VIRTIO_BLK_S_IOERR;
	count = write ? bh_iov_slice(bh_chain_readable(chain), chain->readable, sizeof(struct virtio_blk_outhdr), length, iov) :
			bh_iov_slice(bh_chain_writable(chain), chain->writable, 0, length, iov);
	return transfer(b, iov, count, sector * SECTOR, length, write) ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

static uint8_t give_id(struct block *b, const struct bh_chain *chain)
{
	if (chain->writable_bytes - 1 < sizeof b->serial)
		return VIRTIO_BLK_S_IOERR;
	bh_chain_write(chain, 0, b->serial, sizeof b->serial);
	return VIRTIO_BLK_S_OK;
}

static int punch(const struct block *b, uint64_t offset, uint64_t length, bool zeroes, bool unmap)
{
	int mode = zeroes && !unmap ? FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	return fallocate(b->fd, mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

static uint8_t discard(struct block *b, const struct bh_chain *chain, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes range;
	int r;

	/* One range a request: the configuration says so. */
	if (chain->readable_bytes != sizeof(struct virtio_blk_outhdr) + sizeof range || b->readonly)
		return VIRTIO_BLK_S_IOERR;
	bh_chain_read(chain, sizeof(struct virtio_blk_outhdr), &range, sizeof range);
	if (range.flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
		return VIRTIO_BLK_S_UNSUPP;
	if (range.num_sectors > RANGE_SECTORS_MAX || !inside(b, range.sector, (uint64_t)range.num_sectors * SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (range.num_sectors == 0)
		return VIRTIO_BLK_S_OK;
	r = punch(b, range.sector * SECTOR, (uint64_t)range.num_sectors * SECTOR, zeroes, range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	/* A discard is a hint; zeroes are a promise. */
	if (r == -EOPNOTSUPP)
		return zeroes ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_OK;
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
		return b->readonly || fdatasync(b->fd) == 0 ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
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
	bh_close_fd(&b->fd);
	free(b);
}

static const struct bh_virtio_driver driver = {
	.name = "block",
	.id = 2,
	.pci_class = PCI_CLASS_STORAGE,
	.notify = notify,
	.free = free_block,
};

static int find_size(struct block *b, struct bh_error *err)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(b->fd, &st) < 0)
		return bh_error_set(err, errno, "look at the disk image");
	bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(b->fd, BLKGETSIZE64, &bytes) < 0)
		return bh_error_set(err, errno, "ask the disk for its size");
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return bh_error_text(err, EINVAL, "a disk is a file or a block device");
	b->sectors = bytes / SECTOR;
	return 0;
}

static void fill_config(struct block *b)
{
	struct virtio_blk_config config = {
		.capacity = b->sectors,
		.seg_max = BH_VIRTIO_QUEUE_SIZE - 2,
		.blk_size = SECTOR,
		.max_discard_sectors = RANGE_SECTORS_MAX,
		.max_discard_seg = 1,
		.discard_sector_alignment = BLOCK / SECTOR,
		.max_write_zeroes_sectors = RANGE_SECTORS_MAX,
		.max_write_zeroes_seg = 1,
		.write_zeroes_may_unmap = 1,
	};

	memcpy(b->device.config, &config, sizeof config);
	b->device.config_size = sizeof config;
}

int bh_block_make(struct bh_vm *vm, struct bh_loop *loop, const struct bh_block_config *config, struct bh_virtio_device **ret_device,
		  struct bh_error *err)
{
	uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE | 1ULL << VIRTIO_BLK_F_FLUSH;
	struct block *b = bh_calloc(1, sizeof *b);
	int r;

	features |= config->readonly ? 1ULL << VIRTIO_BLK_F_RO : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	b->fd = config->fd;
	b->readonly = config->readonly;
	b->limits = config->limits;
	bh_limits_init(&b->limits, bh_monotonic_ns());
	/* Without a NUL if it fills the field. */
	if (config->serial)
		memcpy(b->serial, config->serial, BH_MIN(strlen(config->serial), sizeof b->serial));
	r = find_size(b, err);
	if (r == 0)
		r = bh_virtio_init(&b->device, &driver, vm, loop, 1, features, err);
	if (r < 0) {
		bh_close_fd(&b->fd);
		free(b);
		return r;
	}
	fill_config(b);
	*ret_device = &b->device;
	return 0;
}
