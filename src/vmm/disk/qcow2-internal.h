/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the qcow2 driver; the head of qcow2.c tells how they work together. */
#pragma once

#include "vmm/disk/disk.h"

#include <stddef.h>

#define BH_QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define BH_QCOW2_COPIED (1ull << 63)     /* the reference count is one: it may be written in place */
#define BH_QCOW2_COMPRESSED (1ull << 62)
#define BH_QCOW2_ZERO 1ull               /* version 3: reads as zeros, whatever the offset says */
#define BH_QCOW2_RESERVED 0x3f000000000001feull

enum bh_qcow2_table_kind { BH_QCOW2_L2, BH_QCOW2_REFCOUNTS };

/* A cluster of metadata in memory, as it is on disk. Pointers to one are good until the next call that may load another. */
struct bh_qcow2_table {
	uint64_t offset; /* 0: unused */
	enum bh_qcow2_table_kind kind;
	bool dirty;
	uint64_t used; /* when, by q->clock */
	uint8_t *bytes;
};

/* A table that is whole in memory, in our byte order. `dirty_from` < `dirty_to`: these entries differ from the disk's. */
struct bh_qcow2_array {
	uint64_t *entries;
	size_t count, dirty_from, dirty_to;
	uint64_t offset;
};

/* A run of clusters whose reference is to be dropped once nothing on disk refers to them. */
struct bh_qcow2_freed {
	uint64_t first, count;
};

struct bh_qcow2 {
	struct bh_disk disk;
	int fd;
	struct bh_disk *backing;
	unsigned version, cluster_bits, refcount_bits_log2;
	uint32_t cluster_size;
	bool zstd, is_file;
	uint64_t end;             /* of the file, with all clusters that were given out ... */
	uint64_t file_end;        /* ... and without those that it doesn't have yet */
	struct bh_qcow2_array l1, refcount_table;
	bool refcount_table_moved;
	struct bh_qcow2_table *tables;
	size_t table_count;
	uint64_t clock;
	uint64_t *metadata;       /* sorted indexes of the clusters that tables are in */
	size_t metadata_count, metadata_capacity;
	uint64_t cursor;          /* no cluster before this one is free */
	struct bh_qcow2_freed *freed;
	size_t freed_count, freed_capacity;
	uint8_t *scratch;         /* one cluster */
	uint8_t *packed, *unpacked; /* a compressed cluster, and what is in it */
	uint64_t unpacked_entry;  /* 0: none */
};

/* --- qcow2-tables.c ------------------------------------------------------------------------------------------------- */

int bh_qcow2_read(const struct bh_qcow2 *q, void *bytes, size_t size, uint64_t offset); /* zeros behind the file's end */
int bh_qcow2_write(const struct bh_qcow2 *q, const void *bytes, size_t size, uint64_t offset);
uint64_t bh_qcow2_get64(const uint8_t *bytes);
void bh_qcow2_put64(uint8_t *bytes, uint64_t value);

/* Is this the offset of a cluster that the file has? */
bool bh_qcow2_is_cluster(const struct bh_qcow2 *q, uint64_t offset);
bool bh_qcow2_is_metadata(const struct bh_qcow2 *q, uint64_t cluster);
/* -EIO if it is one already. */
int bh_qcow2_add_metadata(struct bh_qcow2 *q, uint64_t cluster);
void bh_qcow2_remove_metadata(struct bh_qcow2 *q, uint64_t cluster);

/* The table at this offset; with `fresh` it isn't read but begins as zeros. */
int bh_qcow2_get_table(struct bh_qcow2 *q, uint64_t offset, enum bh_qcow2_table_kind kind, bool fresh, struct bh_qcow2_table **ret_table);
void bh_qcow2_set_array(struct bh_qcow2_array *array, size_t index, uint64_t value);

/* The entry for a byte of the disk. */
int bh_qcow2_find(struct bh_qcow2 *q, uint64_t offset, uint64_t *ret_entry);
/* Sets it, in a table that is this image's alone. */
int bh_qcow2_set(struct bh_qcow2 *q, uint64_t offset, uint64_t entry);
/* Brings the tables to the disk, in the order that is safe. */
int bh_qcow2_commit(struct bh_qcow2 *q);

/* --- qcow2-refcounts.c ---------------------------------------------------------------------------------------------- */

int bh_qcow2_allocate(struct bh_qcow2 *q, uint64_t *ret_offset);
/* Drops one reference, after the next commit. */
void bh_qcow2_drop(struct bh_qcow2 *q, uint64_t first_cluster, uint64_t count);
/* What an entry refers to. */
void bh_qcow2_drop_entry(struct bh_qcow2 *q, uint64_t entry);
int bh_qcow2_apply_drops(struct bh_qcow2 *q);

/* --- qcow2-compressed.c --------------------------------------------------------------------------------------------- */

/* The bytes of the file in which a compressed cluster is. */
void bh_qcow2_packed_range(const struct bh_qcow2 *q, uint64_t entry, uint64_t *ret_offset, size_t *ret_size);
/* Makes q->unpacked the content. */
int bh_qcow2_unpack(struct bh_qcow2 *q, uint64_t entry);
