/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which clusters of the file are in use: a number for each, in blocks that a table points to.
 *
 * A cluster is given out by raising its number in memory; the block goes to the disk before anything that refers to the cluster
 * (bh_qcow2_commit). Dropping is the other way round: what is no longer referred to is remembered, its number is lowered when the
 * disk no longer refers to it, and only then it can be given out again. So whenever the host stops, a number may be too high, which
 * loses a cluster, never too low, which would give one out twice.
 */
#include "base/memory.h"
#include "vmm/disk/qcow2-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#define DROPS_MAX 65536
#define TABLE_BYTES_MAX (8u << 20)

static uint64_t clusters_per_block(const struct bh_qcow2 *q)
{
	return (uint64_t)q->cluster_size * 8 >> q->refcount_bits_log2;
}

static uint64_t get_count(const struct bh_qcow2 *q, const uint8_t *block, uint64_t index)
{
	unsigned bits = 1u << q->refcount_bits_log2;
	uint64_t value = 0;

	if (bits < 8)
		return block[index * bits / 8] >> (index * bits % 8) & ((1u << bits) - 1);
	for (unsigned i = 0; i < bits / 8; i++)
		value = value << 8 | block[index * (bits / 8) + i];
	return value;
}

static void set_count(const struct bh_qcow2 *q, uint8_t *block, uint64_t index, uint64_t value)
{
	unsigned bits = 1u << q->refcount_bits_log2, shift = index * bits % 8, mask = bits < 8 ? (1u << bits) - 1 : 0;

	if (bits < 8) {
		block[index * bits / 8] = (uint8_t)((block[index * bits / 8] & ~(mask << shift)) | (unsigned)value << shift);
		return;
	}
	for (unsigned i = bits / 8; i--; value >>= 8)
		block[index * (bits / 8) + i] = (uint8_t)value;
}

/* Clusters that become tables, where nothing can be yet. */
static int claim(struct bh_qcow2 *q, uint64_t first, uint64_t count)
{
	int r = 0;

	for (uint64_t i = 0; r == 0 && i < count; i++)
		r = bh_qcow2_add_metadata(q, first + i);
	if (r == 0 && (first + count) << q->cluster_bits > q->end)
		q->end = (first + count) << q->cluster_bits;
	return r;
}

/* Makes the block that counts `cluster`: it lies there itself. */
static int add_block(struct bh_qcow2 *q, uint64_t cluster)
{
	uint64_t offset = cluster << q->cluster_bits, per_block = clusters_per_block(q);
	struct bh_qcow2_table *block = NULL;
	int r = claim(q, cluster, 1);

	if (r < 0)
		return r;
	r = bh_qcow2_get_table(q, offset, BH_QCOW2_REFCOUNTS, true, &block);
	if (r < 0)
		return r;
	set_count(q, block->bytes, cluster % per_block, 1);
	bh_qcow2_set_array(&q->refcount_table, cluster / per_block, offset);
	return 0;
}

/* All blocks that the table has room for are there and full: a larger table, behind all that the old one can count, and the block
 * that counts it. */
static int grow_table(struct bh_qcow2 *q)
{
	struct bh_qcow2_array *table = &q->refcount_table;
	uint64_t per_block = clusters_per_block(q), base = table->count * per_block;
	size_t old_count = table->count, entries_per_cluster = q->cluster_size / sizeof(uint64_t);
	size_t clusters = (old_count + BH_MAX(old_count / 2, 1u) + entries_per_cluster - 1) / entries_per_cluster;
	uint64_t old_first = table->offset >> q->cluster_bits, old_clusters = (old_count + entries_per_cluster - 1) / entries_per_cluster;
	struct bh_qcow2_table *block = NULL;
	int r;

	if (clusters + 1 > per_block || clusters * q->cluster_size > TABLE_BYTES_MAX)
		return -EFBIG;
	r = claim(q, base, clusters + 1);
	if (r < 0)
		return r;
	r = bh_qcow2_get_table(q, base << q->cluster_bits, BH_QCOW2_REFCOUNTS, true, &block);
	if (r < 0)
		return r;
	for (size_t i = 0; i <= clusters; i++)
		set_count(q, block->bytes, i, 1);
	table->count = clusters * entries_per_cluster;
	table->entries = bh_realloc(table->entries, table->count * sizeof(uint64_t));
	memset(table->entries + old_count, 0, (table->count - old_count) * sizeof(uint64_t));
	table->entries[old_count] = base << q->cluster_bits;
	table->offset = (base + 1) << q->cluster_bits;
	q->refcount_table_moved = true;
	for (uint64_t i = 0; i < old_clusters; i++)
		bh_qcow2_remove_metadata(q, old_first + i);
	bh_qcow2_drop(q, old_first, old_clusters);
	return 0;
}

/* The block that counts a cluster, which is made if there is none. */
static int get_block(struct bh_qcow2 *q, uint64_t cluster, struct bh_qcow2_table **ret_block)
{
	uint64_t index = cluster / clusters_per_block(q);
	int r = 0;

	if (index >= q->refcount_table.count)
		r = grow_table(q);
	if (r == 0 && !q->refcount_table.entries[index])
		r = add_block(q, cluster);
	return r < 0 ? r : bh_qcow2_get_table(q, q->refcount_table.entries[index], BH_QCOW2_REFCOUNTS, false, ret_block);
}

int bh_qcow2_allocate(struct bh_qcow2 *q, uint64_t *ret_offset)
{
	uint64_t per_block = clusters_per_block(q), cluster;
	struct bh_qcow2_table *block = NULL;

	for (;;) {
		int r;

		cluster = q->cursor;
		r = get_block(q, cluster, &block);
		if (r < 0)
			return r;
		if (q->cursor != cluster) /* loading the block has committed, and clusters have become free */
			continue;
		q->cursor++;
		if (get_count(q, block->bytes, cluster % per_block) == 0)
			break;
	}
	/* The image says that a table lies in a free cluster. */
	if (bh_qcow2_is_metadata(q, cluster))
		return -EIO;
	set_count(q, block->bytes, cluster % per_block, 1);
	block->dirty = true;
	*ret_offset = cluster << q->cluster_bits;
	if (*ret_offset + q->cluster_size > q->end)
		q->end = *ret_offset + q->cluster_size;
	return 0;
}

void bh_qcow2_drop(struct bh_qcow2 *q, uint64_t first_cluster, uint64_t count)
{
	struct bh_qcow2_freed *last = q->freed_count ? &q->freed[q->freed_count - 1] : NULL;

	if (last && last->first + last->count == first_cluster) {
		last->count += count;
		return;
	}
	/* Beyond what anybody would remember they are lost, which does no harm. */
	if (q->freed_count == DROPS_MAX)
		return;
	q->freed = bh_grow(q->freed, &q->freed_capacity, q->freed_count + 1, sizeof *q->freed);
	q->freed[q->freed_count++] = (struct bh_qcow2_freed){ first_cluster, count };
}

void bh_qcow2_drop_entry(struct bh_qcow2 *q, uint64_t entry)
{
	uint64_t offset, first;
	size_t size;

	if (entry & BH_QCOW2_COMPRESSED) {
		bh_qcow2_packed_range(q, entry, &offset, &size);
		first = offset >> q->cluster_bits;
		bh_qcow2_drop(q, first, ((offset + size - 1) >> q->cluster_bits) - first + 1);
	} else if (entry & BH_QCOW2_OFFSET_MASK) {
		bh_qcow2_drop(q, (entry & BH_QCOW2_OFFSET_MASK) >> q->cluster_bits, 1);
	}
}

static int drop_now(struct bh_qcow2 *q, uint64_t cluster)
{
	uint64_t per_block = clusters_per_block(q), index = cluster / per_block, count;
	struct bh_qcow2_table *block = NULL;
	int r;

	/* Nothing of an image may make a table of ours free, nor something that isn't counted. */
	if (index >= q->refcount_table.count || !q->refcount_table.entries[index] || bh_qcow2_is_metadata(q, cluster))
		return 0;
	r = bh_qcow2_get_table(q, q->refcount_table.entries[index], BH_QCOW2_REFCOUNTS, false, &block);
	if (r < 0)
		return r;
	count = get_count(q, block->bytes, cluster % per_block);
	if (count == 0)
		return 0;
	set_count(q, block->bytes, cluster % per_block, count - 1);
	block->dirty = true;
	if (count > 1)
		return 0;
	q->cursor = BH_MIN(q->cursor, cluster);
	(void)fallocate(q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(cluster << q->cluster_bits), q->cluster_size);
	return 0;
}

int bh_qcow2_apply_drops(struct bh_qcow2 *q)
{
	/* Loading a block may commit, which comes here again: for what is new. */
	bh_auto_free struct bh_qcow2_freed *freed = BH_TAKE_PTR(q->freed);
	size_t count = q->freed_count;
	int r = 0;

	q->freed_count = q->freed_capacity = 0;
	for (size_t i = 0; r == 0 && i < count; i++)
		for (uint64_t k = 0; r == 0 && k < freed[i].count; k++)
			r = drop_now(q, freed[i].first + k);
	return r;
}
