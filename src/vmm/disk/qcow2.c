/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images, versions 2 and 3 (docs/interop/qcow2.txt of QEMU).
 *
 * The disk is cut into clusters. Two levels of tables say for each where it is in the file: nowhere (then the image behind this one
 * has it, or it is zeros), zeros, in a cluster of the file, or compressed. A cluster of the file that nothing else refers to is
 * written in place. Otherwise a write gets a new one: its data first, then the entry is changed in memory; qcow2-tables.c brings
 * tables to the disk in an order that survives any crash, qcow2-refcounts.c gives out clusters. What was not flushed may be lost by
 * a crash, as with the write cache of a disk.
 *
 * The image is the enemy: it may come from anywhere, and a guest that could once write to its file could have left anything there.
 * Each offset is checked when it is used; what is written is never a table of ours; sizes of tables have limits; names of files in
 * the header are not looked at.
 */
#include "vmm/disk/qcow2-internal.h"

#include "base/iov.h"
#include "base/memory.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC 0x514649fbu
#define HEADER_SIZE_2 72
#define HEADER_SIZE_3 104
#define HEADER_READ 112
#define HEADER_AUTOCLEAR 88
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define L1_BYTES_MAX (32u << 20)
#define REFCOUNT_TABLE_BYTES_MAX (8u << 20)
#define CACHE_BYTES (4u << 20)
#define CACHE_MIN 8
#define CACHE_MAX 64
#define ZEROS_SIZE 4096

enum {
	FEATURE_DIRTY = 1,
	FEATURE_CORRUPT = 2,
	FEATURE_EXTERNAL_DATA = 4,
	FEATURE_COMPRESSION = 8,
	FEATURE_EXTENDED_L2 = 16,
};

enum kind { UNALLOCATED, ZERO, NORMAL, COMPRESSED };

/* --- reading -------------------------------------------------------------------------------------------------------- */

static enum kind kind_of(uint64_t entry)
{
	if (entry & BH_QCOW2_COMPRESSED)
		return COMPRESSED;
	if (entry & BH_QCOW2_ZERO)
		return ZERO;
	return entry & BH_QCOW2_OFFSET_MASK ? NORMAL : UNALLOCATED;
}

struct run {
	uint64_t entry; /* of the first cluster */
	enum kind kind;
	size_t length;
};

/* How far from `offset` on the disk is of one kind, and in the file in one piece. */
static int find_run(struct bh_qcow2 *q, uint64_t offset, size_t length, struct run *ret_run)
{
	uint64_t entry, next;
	size_t at = q->cluster_size - offset % q->cluster_size;
	int r = bh_qcow2_find(q, offset, &entry);

	if (r < 0)
		return r;
	*ret_run = (struct run){ entry, kind_of(entry), BH_MIN(at, length) };
	if (ret_run->kind == NORMAL && !bh_qcow2_is_cluster(q, entry & BH_QCOW2_OFFSET_MASK))
		return -EIO;
	for (; at < length && ret_run->kind != COMPRESSED; at += q->cluster_size) {
		r = bh_qcow2_find(q, offset + at, &next);
		if (ret_run->kind == NORMAL)
			entry += q->cluster_size;
		if (r < 0 || kind_of(next) != ret_run->kind || (ret_run->kind == NORMAL && (next != entry || (next & BH_QCOW2_OFFSET_MASK) >= q->end)))
			return 0; /* an error comes again, for that cluster */
		ret_run->length = BH_MIN(at + q->cluster_size, length);
	}
	return 0;
}

static int transfer(const struct bh_qcow2 *q, const struct iovec *iov, unsigned count, size_t done, size_t length, uint64_t at, bool write)
{
	struct iovec rest[BH_DISK_PIECES_MAX];

	while (length) {
		int left = (int)bh_iov_slice(iov, count, done, length, rest);
		ssize_t n = write ? pwritev(q->fd, rest, left, (off_t)at) : preadv(q->fd, rest, left, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (n == 0 && write))
			return n < 0 ? -errno : -EIO;
		if (n == 0) {
			bh_iov_zero(iov, count, done, length);
			return 0;
		}
		done += (size_t)n;
		at += (size_t)n;
		length -= (size_t)n;
	}
	return 0;
}

/* The image behind may be shorter. */
static int read_backing(struct bh_qcow2 *q, const struct iovec *iov, unsigned count, size_t done, size_t length, uint64_t offset)
{
	struct iovec part[BH_DISK_PIECES_MAX];
	uint64_t size = q->backing ? q->backing->size : 0;
	size_t there = offset < size ? (size_t)BH_MIN(length, size - offset) : 0;
	int r = 0;

	if (there) {
		unsigned pieces = bh_iov_slice(iov, count, done, there, part);

		r = bh_disk_readv(q->backing, part, pieces, offset, there);
	}
	bh_iov_zero(iov, count, done + there, length - there);
	return r;
}

static int read_run(struct bh_qcow2 *q, const struct run *run, const struct iovec *iov, unsigned count, size_t done, uint64_t offset)
{
	uint64_t inside = offset % q->cluster_size;
	int r;

	switch (run->kind) {
	case ZERO:
		bh_iov_zero(iov, count, done, run->length);
		return 0;
	case NORMAL:
		return transfer(q, iov, count, done, run->length, (run->entry & BH_QCOW2_OFFSET_MASK) + inside, false);
	case COMPRESSED:
		r = bh_qcow2_unpack(q, run->entry);
		if (r == 0)
			bh_iov_copy_to(iov, count, done, q->unpacked + inside, run->length);
		return r;
	default:
		return read_backing(q, iov, count, done, run->length, offset);
	}
}

static int read_qcow2(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	struct bh_qcow2 *q = (struct bh_qcow2 *)disk;
	struct run run;
	int r = 0;

	for (size_t done = 0; r == 0 && done < length; done += run.length) {
		r = find_run(q, offset + done, length - done, &run);
		if (r == 0)
			r = read_run(q, &run, iov, count, done, offset + done);
	}
	return r;
}

/* --- writing -------------------------------------------------------------------------------------------------------- */

/* What of the new cluster isn't written now: as it was. */
static int fill_around(struct bh_qcow2 *q, uint64_t host, uint64_t offset, size_t length)
{
	uint64_t start = offset / q->cluster_size * q->cluster_size;
	size_t before = offset % q->cluster_size, after = before + length;
	struct iovec whole = { q->scratch, (size_t)BH_MIN(q->cluster_size, q->disk.size - start) };
	int r;

	memset(q->scratch, 0, q->cluster_size);
	r = read_qcow2(&q->disk, &whole, 1, start, whole.iov_len);
	if (r == 0)
		r = bh_qcow2_write(q, q->scratch, before, host);
	return r < 0 ? r : bh_qcow2_write(q, q->scratch + after, q->cluster_size - after, host + after);
}

/* Part of one cluster, into a new one. */
static int write_new(struct bh_qcow2 *q, const struct run *run, const struct iovec *iov, unsigned count, size_t done, size_t length, uint64_t offset)
{
	uint64_t host, end = q->end;
	bool was_zero = run->kind == ZERO || (run->kind == UNALLOCATED && !q->backing);
	int r = bh_qcow2_allocate(q, &host);

	if (r < 0)
		return r;
	/* Behind the file's end there are zeros already. */
	if (length < q->cluster_size && !(was_zero && host >= end))
		r = fill_around(q, host, offset, length);
	if (r == 0)
		r = transfer(q, iov, count, done, length, host + offset % q->cluster_size, true);
	if (r == 0)
		r = bh_qcow2_set(q, offset, host | BH_QCOW2_COPIED);
	if (r < 0) {
		bh_qcow2_drop(q, host >> q->cluster_bits, 1);
		return r;
	}
	bh_qcow2_drop_entry(q, run->entry);
	return 0;
}

static int write_in_place(struct bh_qcow2 *q, const struct run *run, const struct iovec *iov, unsigned count, size_t done, uint64_t offset)
{
	uint64_t host = (run->entry & BH_QCOW2_OFFSET_MASK) + offset % q->cluster_size;

	for (uint64_t cluster = host >> q->cluster_bits; cluster <= (host + run->length - 1) >> q->cluster_bits; cluster++)
		if (bh_qcow2_is_metadata(q, cluster))
			return -EIO;
	return transfer(q, iov, count, done, run->length, host, true);
}

static int write_qcow2(struct bh_disk *disk, const struct iovec *iov, unsigned count, uint64_t offset, size_t length)
{
	struct bh_qcow2 *q = (struct bh_qcow2 *)disk;
	struct run run;
	int r = 0;

	for (size_t done = 0; r == 0 && done < length; done += run.length) {
		uint64_t at = offset + done;

		r = find_run(q, at, length - done, &run);
		if (r < 0)
			return r;
		if (run.kind == NORMAL && run.entry & BH_QCOW2_COPIED) {
			r = write_in_place(q, &run, iov, count, done, at);
			continue;
		}
		run.length = BH_MIN(run.length, q->cluster_size - at % q->cluster_size);
		r = write_new(q, &run, iov, count, done, run.length, at);
	}
	return r;
}

static int flush_qcow2(struct bh_disk *disk)
{
	return bh_qcow2_commit((struct bh_qcow2 *)disk);
}

/* --- discarding ----------------------------------------------------------------------------------------------------- */

static int write_zeros(struct bh_qcow2 *q, uint64_t offset, uint64_t length)
{
	static const char zeros[ZEROS_SIZE];
	struct iovec iov[BH_DISK_PIECES_MAX];
	unsigned count = 0;

	for (uint64_t left = length; left; left -= iov[count++].iov_len)
		iov[count] = (struct iovec){ (char *)(uintptr_t)zeros, (size_t)BH_MIN(left, sizeof zeros) };
	return write_qcow2(&q->disk, iov, count, offset, (size_t)length);
}

/* A whole cluster. */
static int discard_cluster(struct bh_qcow2 *q, uint64_t offset, bool zeroes)
{
	uint64_t old, new = q->backing ? BH_QCOW2_ZERO : 0;
	int r = bh_qcow2_find(q, offset, &old);

	if (r < 0 || old == new || kind_of(old) == ZERO || (kind_of(old) == UNALLOCATED && !zeroes))
		return r;
	if (new && q->version < 3) /* which can't say that something of the image behind is gone */
		return zeroes ? write_zeros(q, offset, BH_MIN(q->cluster_size, q->disk.size - offset)) : 0;
	r = bh_qcow2_set(q, offset, new);
	if (r == 0)
		bh_qcow2_drop_entry(q, old);
	return r;
}

static int discard_qcow2(struct bh_disk *disk, uint64_t offset, uint64_t length, bool zeroes, bool unmap)
{
	struct bh_qcow2 *q = (struct bh_qcow2 *)disk;
	int r = 0;

	(void)unmap; /* zeros take no space here anyway */
	while (r == 0 && length) {
		uint64_t part = BH_MIN(length, q->cluster_size - offset % q->cluster_size);
		bool whole = part == q->cluster_size || (offset % q->cluster_size == 0 && offset + part == q->disk.size);

		if (whole)
			r = discard_cluster(q, offset, zeroes);
		else if (zeroes)
			r = write_zeros(q, offset, part);
		offset += part;
		length -= part;
	}
	return r;
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

static void clear(struct bh_qcow2 *q)
{
	bh_disk_free(q->backing);
	bh_close_fd(&q->fd);
	for (size_t i = 0; i < q->table_count; i++)
		free(q->tables[i].bytes);
	free(q->tables);
	free(q->l1.entries);
	free(q->refcount_table.entries);
	free(q->metadata);
	free(q->freed);
	free(q->scratch);
	free(q->packed);
	free(q->unpacked);
	free(q);
}

static void free_qcow2(struct bh_disk *disk)
{
	struct bh_qcow2 *q = (struct bh_qcow2 *)disk;

	/* What the last flush could lower the counts of. */
	if (!disk->readonly)
		(void)bh_qcow2_commit(q);
	clear(q);
}

static const struct bh_disk_driver driver = { "qcow2", read_qcow2, write_qcow2, flush_qcow2, discard_qcow2, free_qcow2 };

static uint32_t get32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof value);
	return be32toh(value);
}

static int check_features(struct bh_qcow2 *q, const uint8_t *header, struct bh_error *err)
{
	uint64_t features = bh_qcow2_get64(header + 72), unknown;
	uint32_t length = get32(header + 100);

	q->refcount_bits_log2 = get32(header + 96);
	if (features & FEATURE_EXTERNAL_DATA)
		return bh_error_text(err, ENOTSUP, "a qcow2 image whose data is in another file can't be used");
	if (features & FEATURE_EXTENDED_L2)
		return bh_error_text(err, ENOTSUP, "a qcow2 image with subclusters (extended_l2) can't be used");
	unknown = features & ~(uint64_t)(FEATURE_DIRTY | FEATURE_CORRUPT | FEATURE_COMPRESSION);
	if (unknown)
		return bh_error_text(err, ENOTSUP, "the qcow2 image needs features that are not known here (0x%llx)", (unsigned long long)unknown);
	if (!q->disk.readonly && features & FEATURE_CORRUPT)
		return bh_error_text(err, EINVAL, "the qcow2 image is marked as corrupt: `qemu-img check -r all` may repair it");
	if (!q->disk.readonly && features & FEATURE_DIRTY)
		return bh_error_text(err, EINVAL, "the qcow2 image was not closed by its last user: `qemu-img check -r all` repairs it");
	q->zstd = features & FEATURE_COMPRESSION && length > HEADER_SIZE_3 && header[104] == 1;
	if (length < HEADER_SIZE_3 || q->refcount_bits_log2 > 6 || (features & FEATURE_COMPRESSION && !q->zstd))
		return bh_error_text(err, EINVAL, "the header of the qcow2 image is not a good one");
	return 0;
}

static int parse_header(struct bh_qcow2 *q, const uint8_t *header, struct bh_error *err)
{
	uint64_t per_l2, needed;
	int r = 0;

	if (get32(header) != MAGIC)
		return bh_error_text(err, EINVAL, "this is not a qcow2 image");
	q->version = get32(header + 4);
	q->cluster_bits = get32(header + 20);
	q->refcount_bits_log2 = 4;
	if (q->version < 2 || q->version > 3)
		return bh_error_text(err, ENOTSUP, "a qcow2 image of version %u can't be used", q->version);
	if (q->cluster_bits < CLUSTER_BITS_MIN || q->cluster_bits > CLUSTER_BITS_MAX)
		return bh_error_text(err, EINVAL, "the qcow2 image has clusters of a size that isn't allowed");
	q->cluster_size = q->disk.block_size = 1u << q->cluster_bits;
	if (get32(header + 32))
		return bh_error_text(err, ENOTSUP, "an encrypted qcow2 image can't be used");
	if (q->version == 3)
		r = check_features(q, header, err);
	if (r < 0)
		return r;
	q->disk.size = bh_qcow2_get64(header + 24);
	per_l2 = q->cluster_size / sizeof(uint64_t) * (uint64_t)q->cluster_size;
	if (q->disk.size > per_l2 * (L1_BYTES_MAX / sizeof(uint64_t)))
		return bh_error_text(err, EFBIG, "the disk in the qcow2 image is larger than its tables may be");
	q->disk.size = (q->disk.size + BH_DISK_SECTOR - 1) / BH_DISK_SECTOR * BH_DISK_SECTOR;
	needed = (q->disk.size + per_l2 - 1) / per_l2;
	q->l1 = (struct bh_qcow2_array){ .count = get32(header + 36), .offset = bh_qcow2_get64(header + 40) };
	if (q->l1.count < needed || q->l1.count > L1_BYTES_MAX / sizeof(uint64_t))
		return bh_error_text(err, EINVAL, "the first table of the qcow2 image has a size that isn't allowed");
	q->refcount_table.offset = bh_qcow2_get64(header + 48);
	q->refcount_table.count = (size_t)get32(header + 56) * (q->cluster_size / sizeof(uint64_t));
	if (q->refcount_table.count > REFCOUNT_TABLE_BYTES_MAX / sizeof(uint64_t) || !q->refcount_table.count)
		return bh_error_text(err, EINVAL, "the table of reference counts of the qcow2 image has a size that isn't allowed");
	if (!bh_qcow2_get64(header + 8) != !q->backing)
		return bh_error_text(err, EINVAL,
				     q->backing ? "no other image belongs behind this qcow2 image" :
						  "the image that belongs behind this qcow2 image is not given");
	return 0;
}

static int load_array(struct bh_qcow2 *q, struct bh_qcow2_array *array, struct bh_error *err)
{
	size_t bytes = array->count * sizeof(uint64_t);
	int r;

	if (array->count && (!bh_qcow2_is_cluster(q, array->offset) || bytes > q->end - array->offset))
		return bh_error_text(err, EINVAL, "a table of the qcow2 image is outside of the file");
	array->entries = bh_malloc(bytes + 1);
	r = bh_qcow2_read(q, array->entries, bytes, array->offset);
	if (r < 0)
		return bh_error_set(err, -r, "read the tables of the qcow2 image");
	for (size_t i = 0; i < array->count; i++)
		array->entries[i] = be64toh(array->entries[i]);
	return 0;
}

static int compare_clusters(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void note_metadata(struct bh_qcow2 *q, uint64_t cluster)
{
	q->metadata = bh_grow(q->metadata, &q->metadata_capacity, q->metadata_count + 1, sizeof *q->metadata);
	q->metadata[q->metadata_count++] = cluster;
}

static bool note_array(struct bh_qcow2 *q, const struct bh_qcow2_array *array, uint64_t allowed)
{
	uint64_t clusters = (array->count * sizeof(uint64_t) + q->cluster_size - 1) >> q->cluster_bits;

	for (uint64_t i = 0; i < clusters; i++)
		note_metadata(q, (array->offset >> q->cluster_bits) + i);
	for (size_t i = 0; i < array->count; i++) {
		uint64_t offset = array->entries[i] & BH_QCOW2_OFFSET_MASK;

		if (array->entries[i] & ~(BH_QCOW2_OFFSET_MASK | allowed))
			return false;
		if (offset && !bh_qcow2_is_cluster(q, offset))
			return false;
		if (offset)
			note_metadata(q, offset >> q->cluster_bits);
	}
	return true;
}

/* Before anything is written: no two tables may lie in one place. */
static int prepare_writing(struct bh_qcow2 *q, struct bh_error *err)
{
	int r = load_array(q, &q->refcount_table, err);

	if (r < 0)
		return r;
	note_metadata(q, 0);
	if (!note_array(q, &q->refcount_table, 0) || !note_array(q, &q->l1, BH_QCOW2_COPIED))
		return bh_error_text(err, EINVAL, "a table of the qcow2 image points to where no table can be");
	qsort(q->metadata, q->metadata_count, sizeof *q->metadata, compare_clusters);
	for (size_t i = 1; i < q->metadata_count; i++)
		if (q->metadata[i] == q->metadata[i - 1])
			return bh_error_text(err, EINVAL, "tables of the qcow2 image overlap");
	return 0;
}

static int open_image(struct bh_qcow2 *q, struct bh_error *err)
{
	static const uint8_t no_features[sizeof(uint64_t)];
	uint8_t header[HEADER_READ] = { 0 };
	off_t size = lseek(q->fd, 0, SEEK_END);
	struct stat st;
	int r;

	if (size < 0 || fstat(q->fd, &st) < 0)
		return bh_error_set(err, errno, "look at the qcow2 image");
	q->is_file = S_ISREG(st.st_mode);
	r = bh_qcow2_read(q, header, sizeof header, 0);
	if (r < 0)
		return bh_error_set(err, -r, "read the header of the qcow2 image");
	r = parse_header(q, header, err);
	if (r < 0)
		return r;
	q->end = q->file_end = ((uint64_t)size + q->cluster_size - 1) / q->cluster_size * q->cluster_size;
	q->table_count = BH_MIN(BH_MAX(CACHE_BYTES >> q->cluster_bits, CACHE_MIN), CACHE_MAX);
	q->tables = bh_calloc(q->table_count, sizeof *q->tables);
	q->scratch = bh_malloc(q->cluster_size);
	r = load_array(q, &q->l1, err);
	if (r < 0 || q->disk.readonly)
		return r;
	r = prepare_writing(q, err);
	/* Whoever kept something beside the data, like bitmaps of changes, must see that it no longer fits. */
	if (r == 0 && q->version == 3 && bh_qcow2_get64(header + HEADER_AUTOCLEAR)) {
		r = bh_qcow2_write(q, no_features, sizeof no_features, HEADER_AUTOCLEAR);
		r = r < 0 ? bh_error_set(err, -r, "write the header of the qcow2 image") : 0;
	}
	return r;
}

int bh_disk_open_qcow2(int fd, bool readonly, struct bh_disk *backing, struct bh_disk **ret_disk, struct bh_error *err)
{
	struct bh_qcow2 *q = bh_calloc(1, sizeof *q);
	int r;

	q->disk = (struct bh_disk){ .driver = &driver, .readonly = readonly, .file = -1 };
	q->fd = fd;
	q->backing = backing;
	r = open_image(q, err);
	if (r < 0) {
		clear(q);
		return r;
	}
	*ret_disk = &q->disk;
	return 0;
}
