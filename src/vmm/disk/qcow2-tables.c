/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables in memory: the first level and the table of reference counts whole, the second level and the counts themselves as a cache
 * of clusters. Changes stay in memory until they are committed: because the guest asks for a flush, or no clean table is left to
 * throw away. A commit is the order that makes each state of the file in between a good one:
 *
 *	counts that were raised, and the data of the guest     | nothing may point to what isn't counted
 *	the table of counts                                    | or to a block of counts that isn't written
 *	second level                                           |
 *	first level                                            | or to a second level that isn't written
 *	then counts are lowered, in memory: they go with the next commit
 *
 * with a sync of the file at each line's end where the next line has something to write.
 */
#include "base/memory.h"
#include "vmm/disk/qcow2-internal.h"

#include <endian.h>
#include <errno.h>
#include <unistd.h>

#define HEADER_REFCOUNT_TABLE 48 /* its offset, then (4 bytes) its clusters */

uint64_t bh_qcow2_get64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof value);
	return be64toh(value);
}

void bh_qcow2_put64(uint8_t *bytes, uint64_t value)
{
	value = htobe64(value);
	memcpy(bytes, &value, sizeof value);
}

int bh_qcow2_read(const struct bh_qcow2 *q, void *bytes, size_t size, uint64_t offset)
{
	char *to = bytes;

	while (size) {
		ssize_t n = pread(q->fd, to, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			memset(to, 0, size);
			return 0;
		}
		to += n;
		offset += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

int bh_qcow2_write(const struct bh_qcow2 *q, const void *bytes, size_t size, uint64_t offset)
{
	const char *from = bytes;

	while (size) {
		ssize_t n = pwrite(q->fd, from, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		offset += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* --- which clusters are tables -------------------------------------------------------------------------------------- */

bool bh_qcow2_is_cluster(const struct bh_qcow2 *q, uint64_t offset)
{
	return offset && offset % q->cluster_size == 0 && offset < q->end;
}

/* Where it is, or would be. */
static size_t find_metadata(const struct bh_qcow2 *q, uint64_t cluster)
{
	size_t low = 0, high = q->metadata_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (q->metadata[middle] < cluster)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool bh_qcow2_is_metadata(const struct bh_qcow2 *q, uint64_t cluster)
{
	size_t at = find_metadata(q, cluster);

	return at < q->metadata_count && q->metadata[at] == cluster;
}

int bh_qcow2_add_metadata(struct bh_qcow2 *q, uint64_t cluster)
{
	size_t at = find_metadata(q, cluster);

	if (at < q->metadata_count && q->metadata[at] == cluster)
		return -EIO;
	q->metadata = bh_grow(q->metadata, &q->metadata_capacity, q->metadata_count + 1, sizeof *q->metadata);
	memmove(q->metadata + at + 1, q->metadata + at, (q->metadata_count - at) * sizeof *q->metadata);
	q->metadata[at] = cluster;
	q->metadata_count++;
	return 0;
}

void bh_qcow2_remove_metadata(struct bh_qcow2 *q, uint64_t cluster)
{
	size_t at = find_metadata(q, cluster);

	if (at == q->metadata_count || q->metadata[at] != cluster)
		return;
	q->metadata_count--;
	memmove(q->metadata + at, q->metadata + at + 1, (q->metadata_count - at) * sizeof *q->metadata);
}

/* --- the cache ------------------------------------------------------------------------------------------------------ */

static struct bh_qcow2_table *oldest_clean(struct bh_qcow2 *q)
{
	struct bh_qcow2_table *oldest = NULL;

	for (size_t i = 0; i < q->table_count; i++)
		if (!q->tables[i].dirty && (!oldest || q->tables[i].used < oldest->used))
			oldest = &q->tables[i];
	return oldest;
}

int bh_qcow2_get_table(struct bh_qcow2 *q, uint64_t offset, enum bh_qcow2_table_kind kind, bool fresh, struct bh_qcow2_table **ret_table)
{
	struct bh_qcow2_table *table = NULL;
	int r = 0;

	if (!bh_qcow2_is_cluster(q, offset))
		return -EIO;
	for (size_t i = 0; i < q->table_count && !table; i++)
		if (q->tables[i].offset == offset)
			table = &q->tables[i];
	if (table && (table->kind != kind || fresh))
		return -EIO;
	if (!table) {
		table = oldest_clean(q);
		if (!table) {
			r = bh_qcow2_commit(q);
			table = oldest_clean(q);
		}
		if (r < 0 || !table)
			return r < 0 ? r : -EIO;
		if (!table->bytes)
			table->bytes = bh_malloc(q->cluster_size);
		table->offset = 0;
		if (fresh)
			memset(table->bytes, 0, q->cluster_size);
		else
			r = bh_qcow2_read(q, table->bytes, q->cluster_size, offset);
		if (r < 0)
			return r;
		table->offset = offset;
		table->kind = kind;
		table->dirty = fresh;
	}
	table->used = ++q->clock;
	*ret_table = table;
	return 0;
}

void bh_qcow2_set_array(struct bh_qcow2_array *array, size_t index, uint64_t value)
{
	bool clean = array->dirty_from == array->dirty_to;

	array->entries[index] = value;
	array->dirty_from = clean ? index : BH_MIN(array->dirty_from, index);
	array->dirty_to = clean ? index + 1 : BH_MAX(array->dirty_to, index + 1);
}

/* --- commit --------------------------------------------------------------------------------------------------------- */

static int sync_file(const struct bh_qcow2 *q)
{
	return fdatasync(q->fd) < 0 ? -errno : 0;
}

static int write_tables(struct bh_qcow2 *q, enum bh_qcow2_table_kind kind)
{
	for (size_t i = 0; i < q->table_count; i++) {
		struct bh_qcow2_table *table = &q->tables[i];
		int r;

		if (!table->dirty || table->kind != kind)
			continue;
		r = bh_qcow2_write(q, table->bytes, q->cluster_size, table->offset);
		if (r < 0)
			return r;
		table->dirty = false;
	}
	return 0;
}

static int write_array(struct bh_qcow2 *q, struct bh_qcow2_array *array, size_t from, size_t to)
{
	bh_auto_free uint8_t *bytes = bh_malloc((to - from + 1) * sizeof(uint64_t));
	int r;

	for (size_t i = from; i < to; i++)
		bh_qcow2_put64(bytes + (i - from) * sizeof(uint64_t), array->entries[i]);
	r = bh_qcow2_write(q, bytes, (to - from) * sizeof(uint64_t), array->offset + from * sizeof(uint64_t));
	if (r == 0)
		array->dirty_from = array->dirty_to = 0;
	return r;
}

static int write_refcount_table(struct bh_qcow2 *q)
{
	struct bh_qcow2_array *table = &q->refcount_table;
	uint8_t header[12];
	uint32_t clusters = htobe32((uint32_t)(table->count * sizeof(uint64_t) / q->cluster_size));
	int r = sync_file(q);

	if (r == 0 && !q->refcount_table_moved)
		return write_array(q, table, table->dirty_from, table->dirty_to);
	if (r == 0)
		r = write_array(q, table, 0, table->count);
	if (r == 0)
		r = sync_file(q);
	if (r < 0)
		return r;
	/* In one sector: the old table or the new one. */
	bh_qcow2_put64(header, table->offset);
	memcpy(header + sizeof(uint64_t), &clusters, sizeof clusters);
	r = bh_qcow2_write(q, header, sizeof header, HEADER_REFCOUNT_TABLE);
	q->refcount_table_moved = r < 0;
	return r;
}

static bool has_changes(const struct bh_qcow2 *q)
{
	for (size_t i = 0; i < q->table_count; i++)
		if (q->tables[i].dirty)
			return true;
	return q->l1.dirty_to || q->refcount_table.dirty_to || q->refcount_table_moved || q->freed_count;
}

/* Clusters that were given out and written only in part are part of the file. */
static int set_end(struct bh_qcow2 *q)
{
	if (!q->is_file || q->file_end == q->end)
		return 0;
	if (ftruncate(q->fd, (off_t)q->end) < 0)
		return -errno;
	q->file_end = q->end;
	return 0;
}

int bh_qcow2_commit(struct bh_qcow2 *q)
{
	int r;

	if (!has_changes(q))
		return sync_file(q);
	r = set_end(q);
	if (r == 0)
		r = write_tables(q, BH_QCOW2_REFCOUNTS);
	if (r == 0 && (q->refcount_table.dirty_to || q->refcount_table_moved))
		r = write_refcount_table(q);
	if (r == 0)
		r = sync_file(q);
	if (r == 0)
		r = write_tables(q, BH_QCOW2_L2);
	if (r == 0 && q->l1.dirty_to) {
		r = sync_file(q);
		if (r == 0)
			r = write_array(q, &q->l1, q->l1.dirty_from, q->l1.dirty_to);
	}
	if (r == 0)
		r = sync_file(q);
	return r < 0 ? r : bh_qcow2_apply_drops(q);
}

/* --- entries of the disk's clusters --------------------------------------------------------------------------------- */

int bh_qcow2_find(struct bh_qcow2 *q, uint64_t offset, uint64_t *ret_entry)
{
	uint64_t cluster = offset >> q->cluster_bits, per_table = q->cluster_size / sizeof(uint64_t);
	uint64_t l2 = q->l1.entries[cluster / per_table] & BH_QCOW2_OFFSET_MASK;
	struct bh_qcow2_table *table = NULL;
	uint64_t entry;
	int r;

	*ret_entry = 0;
	if (!l2)
		return 0;
	r = bh_qcow2_get_table(q, l2, BH_QCOW2_L2, false, &table);
	if (r < 0)
		return r;
	entry = bh_qcow2_get64(table->bytes + cluster % per_table * sizeof(uint64_t));
	if (!(entry & BH_QCOW2_COMPRESSED) && (entry & BH_QCOW2_RESERVED || (entry & BH_QCOW2_ZERO && q->version < 3)))
		return -EIO;
	*ret_entry = entry;
	return 0;
}

/* A second level of this image's alone for one entry of the first: new, or copied from one that a snapshot has too. */
static int own_table(struct bh_qcow2 *q, size_t index)
{
	uint64_t old = q->l1.entries[index] & BH_QCOW2_OFFSET_MASK, offset;
	struct bh_qcow2_table *table = NULL;
	int r = bh_qcow2_allocate(q, &offset);

	if (r == 0)
		r = bh_qcow2_add_metadata(q, offset >> q->cluster_bits);
	if (r < 0)
		return r;
	r = bh_qcow2_get_table(q, old ? old : offset, BH_QCOW2_L2, !old, &table);
	if (r < 0) /* the cluster is lost */
		return r;
	table->offset = offset;
	table->dirty = true;
	bh_qcow2_set_array(&q->l1, index, offset | BH_QCOW2_COPIED);
	if (old) {
		bh_qcow2_remove_metadata(q, old >> q->cluster_bits);
		bh_qcow2_drop(q, old >> q->cluster_bits, 1);
	}
	return 0;
}

int bh_qcow2_set(struct bh_qcow2 *q, uint64_t offset, uint64_t entry)
{
	uint64_t cluster = offset >> q->cluster_bits, per_table = q->cluster_size / sizeof(uint64_t);
	size_t index = (size_t)(cluster / per_table);
	struct bh_qcow2_table *table = NULL;
	int r = 0;

	if (!(q->l1.entries[index] & BH_QCOW2_COPIED))
		r = own_table(q, index);
	if (r == 0)
		r = bh_qcow2_get_table(q, q->l1.entries[index] & BH_QCOW2_OFFSET_MASK, BH_QCOW2_L2, false, &table);
	if (r < 0)
		return r;
	bh_qcow2_put64(table->bytes + cluster % per_table * sizeof(uint64_t), entry);
	table->dirty = true;
	return 0;
}
