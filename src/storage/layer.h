/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking a layer (image-spec layer.md) into a folder. Only the helper program links this. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Limits of one layer. Generous for real images, finite for hostile ones; the free disk space is a further one. */
#define BH_LAYER_ENTRIES_MAX 4000000u
#define BH_LAYER_BYTES_MAX ((uint64_t)256 << 30)
#define BH_LAYER_PATH_MAX 4095          /* bytes of a path */
#define BH_LAYER_DEPTH_MAX 512          /* folders in each other */
#define BH_LAYER_XATTRS_MAX 256         /* extended attributes of an entry */
#define BH_LAYER_XATTR_SIZE_MAX 65536u  /* bytes of a value (the kernel's limit) */
/* A compressed layer that grows more than this, beyond the first gigabyte, is a bomb (real ones stay below 20;
 * deflate reaches 1,000). */
#define BH_LAYER_RATIO_MAX 100u
#define BH_LAYER_RATIO_FREE_BYTES ((uint64_t)1 << 30)

/* Gives the next bytes of a tar archive without copying them: valid until the next call. 0 = end, -errno with words. */
struct bh_chunks {
	ssize_t (*next)(void *context, const void **ret_bytes, struct bh_error *err);
	void *context;
};

struct bh_layer_stats {
	uint64_t bytes;  /* content of regular files */
	uint64_t inodes;
};

/*
 * Unpacks the tar archive below folder_fd (an empty folder, not O_PATH) as overlayfs wants a layer: whiteouts become
 * character devices 0:0, opaque folders get trusted.overlay.opaque. Nothing outside folder_fd is touched, whatever the
 * archive says. Changes the working directory of the calling thread's file system context.
 */
int bh_layer_apply(const struct bh_chunks *tar, int folder_fd, struct bh_layer_stats *ret_stats, struct bh_error *err);

/* Open folders as on a kernel without openat2 (tests). */
extern bool bh_layer_without_openat2;
