/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a machine as two files: its state, and its memory.
 *
 *	state file   header, the machine's state (KVM's and the devices'), and a table with one entry for each chunk (64 KiB) of memory: where it is
 *	             (in the memory file; all zero; for an incremental snapshot also: unchanged) and the CRC-32C of its bytes
 *	memory file  chunk N at N * 64 KiB; what is zero or unchanged is a hole
 *
 * The header has the version, the CRC-32C of the whole state file, an id, and for an incremental snapshot the id of the one before: a
 * torn, altered or foreign file is refused before the machine is touched. Memory is checked chunk by chunk when it is loaded: at once, or
 * when the guest first needs it (userfaultfd), then the machine ends if a chunk isn't what was saved.
 */
#pragma once

#include "vmm/machine-internal.h"

#define BH_SNAPSHOT_CHUNK (64u << 10)

/* The machine stands still. `incremental`: what has changed since the last snapshot of this monitor, which must have been made with `track`.
 * `track`: the next one may be incremental. Both files are written from their beginning; nothing is synced but by the caller. */
int bh_snapshot_write(struct bh_machine *machine, int state_fd, int memory_fd, bool incremental, bool track, struct bh_error *err);
/* Loads config->restore into a machine that hasn't started. */
int bh_snapshot_restore(struct bh_machine *machine, struct bh_error *err);

/* CRC-32C (Castagnoli) of the bytes, continued from `crc` (0 at the beginning). */
uint32_t bh_crc32c(uint32_t crc, const void *bytes, size_t length);
