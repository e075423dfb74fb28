/* SPDX-License-Identifier: Apache-2.0 */
/* A folder as an EROFS image: what a virtual machine mounts as the root of its container. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define BH_EROFS_BLOCK_SIZE 4096u
#define BH_EROFS_BLOCK_BITS 12

struct bh_erofs_stats {
	uint64_t inodes; /* files of every kind, each counted once however many names it has */
	uint64_t bytes;  /* size of the image */
};

/*
 * Writes what is below tree_fd (its own file system only) to out_fd, an empty file that can be written at any offset, as an
 * uncompressed EROFS image that Linux 5.4 and later mounts: every name, type, mode, owner, modification time, extended
 * attribute, hard link, hole. Left out are attributes that belong to an overlay mount and not to its files
 * (trusted.overlay.*), and those that the format can't name (system.* other than ACLs). The same tree gives the same bytes.
 * Needs /proc. After a failure the file holds nothing of use. `ret_stats` may be NULL.
 */
int bh_erofs_write(int tree_fd, int out_fd, struct bh_erofs_stats *ret_stats, struct bh_error *err);
