/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a virtual machine: what a block device reads and writes, whatever form it has in files of the host.
 *
 * Which form an image has is said by who names it, never found out by looking at it: the guest of a raw image could write the header
 * of another form into its first sector, and name files of the host there.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/uio.h>

#define BH_DISK_SECTOR 512u
#define BH_DISK_PIECES_MAX 512

struct bh_disk;

/* The caller of these has checked that the range is inside the disk and whole sectors; 0 or -errno. */
struct bh_disk_driver {
	const char *name;
	int (*readv)(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length);
	int (*writev)(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length);
	int (*flush)(struct bh_disk *disk);
	/* What is read there from now on is anybody's guess, or with `zeroes` zeros; `unmap`: the space may be given back. */
	int (*discard)(struct bh_disk *disk, uint64_t offset, uint64_t length, bool zeroes, bool unmap);
	void (*free)(struct bh_disk *disk);
};

struct bh_disk {
	const struct bh_disk_driver *driver;
	uint64_t size;       /* bytes, whole sectors */
	uint32_t block_size; /* discarding less than this, or not aligned to it, gives nothing back */
	bool readonly;
	int file;            /* whose bytes are the disk's, for who reads it another way; -1: it isn't so simple */
};

/* Take over their descriptors and disks, also when they fail. A raw disk is used by any number of threads, another by one at a time. */
int bh_disk_open_raw(int fd, bool readonly, struct bh_disk **ret_disk, struct bh_error *err);
/* `backing` has what the image doesn't have (it is only read); NULL for an image that stands alone. The names of files that an image
 * has in it are never used. */
int bh_disk_open_qcow2(int fd, bool readonly, struct bh_disk *backing, struct bh_disk **ret_disk, struct bh_error *err);

enum bh_disk_format { BH_DISK_RAW, BH_DISK_QCOW2 };
/* "raw", "qcow2"; false: no such format. */
bool bh_disk_format_by_name(const char *name, enum bh_disk_format *ret_format);
int bh_disk_open(enum bh_disk_format format, int fd, bool readonly, struct bh_disk *backing, struct bh_disk **ret_disk, struct bh_error *err);

/* All of it is read or written, or -errno: -EINVAL outside the disk, -EROFS. `count` is at most BH_DISK_PIECES_MAX. */
int bh_disk_readv(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length);
int bh_disk_writev(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length);
/* Could that be read? */
bool bh_disk_has(const struct bh_disk *disk, unsigned count, uint64_t offset, size_t length);
/* What was written before is on the host's disk, together with all that is needed to find it. */
int bh_disk_flush(struct bh_disk *disk);
int bh_disk_discard(struct bh_disk *disk, uint64_t offset, uint64_t length);
int bh_disk_write_zeroes(struct bh_disk *disk, uint64_t offset, uint64_t length, bool unmap);
/* Flushes and closes. NULL is none. */
void bh_disk_free(struct bh_disk *disk);
