/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a snapshot's memory: all at once, or each chunk when somebody first touches it.
 *
 * The second way (userfaultfd(2)) has a thread of its own, which waits for faults in guest memory: of the guest, or of ours. It reads the chunk
 * from its file, checks it and puts it in place; between faults it loads what is still missing, so that a while later no file is needed any more. A
 * chunk that can't be read or isn't what was saved ends the machine.
 */
#pragma once

#include "vmm/machine-internal.h"
#include "vmm/snapshot.h"

enum { BH_CHUNK_UNCHANGED, BH_CHUNK_ZERO, BH_CHUNK_STORED };
struct bh_snapshot_chunk {
	uint32_t crc, kind;
};

/* Where the bytes of a chunk come from. */
struct bh_snapshot_source {
	int fd; /* borrowed; -1: it is zero */
	uint32_t crc;
};

static inline uint64_t bh_snapshot_chunks(const struct bh_guest_memory *memory)
{
	return (memory->size + BH_SNAPSHOT_CHUNK - 1) / BH_SNAPSHOT_CHUNK;
}
/* Where a chunk lies, and its length: the last one may be shorter. */
static inline uint8_t *bh_snapshot_chunk_at(const struct bh_guest_memory *memory, uint64_t number, size_t *ret_length)
{
	uint64_t offset = number * BH_SNAPSHOT_CHUNK, left = memory->size - offset;
	uint64_t address = offset < BH_GUEST_HOLE_START ? offset : offset - BH_GUEST_HOLE_START + BH_GUEST_HOLE_END;

	*ret_length = left < BH_SNAPSHOT_CHUNK ? left : BH_SNAPSHOT_CHUNK;
	return bh_guest_at(memory, address, *ret_length);
}

int bh_snapshot_load_all(struct bh_machine *machine, const struct bh_snapshot_source *sources, struct bh_error *err);

struct bh_pager;
/* From now on memory that is touched is loaded. Takes `sources` over, and config->userfault_fd. */
int bh_pager_make(struct bh_machine *machine, struct bh_snapshot_source *sources, struct bh_pager **ret_pager, struct bh_error *err);
/* Nobody waits for memory any more. NULL is nothing. */
void bh_pager_free(struct bh_pager *pager);
