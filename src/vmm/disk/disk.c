/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/disk/disk.h"

#include "base/memory.h"
#include "base/string.h"

#include <errno.h>

bool bh_disk_format_by_name(const char *name, enum bh_disk_format *ret_format)
{
	if (!bh_streq(name, "raw") && !bh_streq(name, "qcow2"))
		return false;
	*ret_format = bh_streq(name, "raw") ? BH_DISK_RAW : BH_DISK_QCOW2;
	return true;
}

int bh_disk_open(enum bh_disk_format format, int fd, bool readonly, struct bh_disk *backing, struct bh_disk **ret_disk, struct bh_error *err)
{
	if (format == BH_DISK_QCOW2)
		return bh_disk_open_qcow2(fd, readonly, backing, ret_disk, err);
	if (!backing)
		return bh_disk_open_raw(fd, readonly, ret_disk, err);
	bh_disk_free(backing);
	bh_close_fd(&fd);
	return bh_error_text(err, EINVAL, "a raw disk can't have another one behind it");
}

static bool inside(const struct bh_disk *disk, uint64_t offset, uint64_t length)
{
	return (offset | length) % BH_DISK_SECTOR == 0 && offset <= disk->size && length <= disk->size - offset;
}

bool bh_disk_has(const struct bh_disk *disk, unsigned count, uint64_t offset, size_t length)
{
	return inside(disk, offset, length) && count <= BH_DISK_PIECES_MAX;
}

int bh_disk_readv(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	if (!bh_disk_has(disk, count, offset, length))
		return -EINVAL;
	return length ? disk->driver->readv(disk, iov, count, offset, length) : 0;
}

int bh_disk_writev(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	if (!bh_disk_has(disk, count, offset, length))
		return -EINVAL;
	if (disk->readonly)
		return -EROFS;
	return length ? disk->driver->writev(disk, iov, count, offset, length) : 0;
}

int bh_disk_flush(struct bh_disk *disk)
{
	return disk->readonly ? 0 : disk->driver->flush(disk);
}

static int discard(struct bh_disk *disk, uint64_t offset, uint64_t length, bool zeroes, bool unmap)
{
	if (!inside(disk, offset, length))
		return -EINVAL;
	if (disk->readonly)
		return -EROFS;
	return length ? disk->driver->discard(disk, offset, length, zeroes, unmap) : 0;
}

int bh_disk_discard(struct bh_disk *disk, uint64_t offset, uint64_t length)
{
	int r = discard(disk, offset, length, false, true);

	return r == -EOPNOTSUPP ? 0 : r; /* a hint; zeros are a promise */
}

int bh_disk_write_zeroes(struct bh_disk *disk, uint64_t offset, uint64_t length, bool unmap)
{
	return discard(disk, offset, length, true, unmap);
}

void bh_disk_free(struct bh_disk *disk)
{
	if (!disk)
		return;
	(void)bh_disk_flush(disk);
	disk->driver->free(disk);
}
