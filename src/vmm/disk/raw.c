/* SPDX-License-Identifier: Apache-2.0 */
/* A file or a block device of the host whose bytes are the disk's. */
#include "vmm/disk/disk.h"

#include "base/iov.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

/* All of it, or an error: an image that became shorter is one. */
static int transfer(const struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length, bool write)
{
	struct iovec rest[BH_DISK_PIECES_MAX];
	size_t done = 0;

	while (done < length) {
		int left = (int)bh_iov_slice(iov, count, done, length - done, rest);
		ssize_t n = write ? pwritev(disk->file, rest, left, (off_t)(offset + done)) : preadv(disk->file, rest, left, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int read_raw(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	return transfer(disk, iov, count, offset, length, false);
}

static int write_raw(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	return transfer(disk, iov, count, offset, length, true);
}

static int flush_raw(struct bh_disk *disk)
{
	return fdatasync(disk->file) < 0 ? -errno : 0;
}

static int discard_raw(struct bh_disk *disk, uint64_t offset, uint64_t length, bool zeroes, bool unmap)
{
	int mode = FALLOC_FL_KEEP_SIZE | (zeroes && !unmap ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

	return fallocate(disk->file, mode, (off_t)offset, (off_t)length) < 0 ? -errno : 0;
}

static void free_raw(struct bh_disk *disk)
{
	bh_close_fd(&disk->file);
	free(disk);
}

static const struct bh_disk_driver driver = { "raw", read_raw, write_raw, flush_raw, discard_raw, free_raw };

int bh_disk_open_raw(int fd, bool readonly, struct bh_disk **ret_disk, struct bh_error *err)
{
	bh_auto_close int owned = fd;
	struct bh_disk *disk;
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0)
		return bh_error_set(err, errno, "look at the disk image");
	bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		return bh_error_set(err, errno, "ask the disk for its size");
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return bh_error_text(err, EINVAL, "a disk is a file or a block device");
	disk = bh_calloc(1, sizeof *disk);
	*disk = (struct bh_disk){ &driver, bytes / BH_DISK_SECTOR * BH_DISK_SECTOR, BLOCK, readonly, BH_TAKE_FD(owned) };
	*ret_disk = disk;
	return 0;
}
