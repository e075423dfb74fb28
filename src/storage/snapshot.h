/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: the file system of a container made of image layers and one writable layer on top.
 *
 * A driver is a const table. `overlay` mounts the layers without copying; `vfs` copies (for hosts where overlay can't
 * be mounted). The mounted root file system is a *detached* mount: it exists only as an fd until the container's first
 * process attaches it inside its own mount namespace. So no mount of a container is ever visible on the host and
 * nothing has to be unmounted after a crash.
 */
#pragma once


#include "base/error.h"
#include "base/string.h"

#include <sys/types.h>

#define BH_SNAPSHOT_LAYERS_MAX 128

struct bh_snapshot {
	const struct bh_snapshot_driver *driver;
	struct bh_strv layers;  /* absolute paths of the layers' diff folders, lowest first */
	char *path;             /* the container's own folder: upper/ and work/ (overlay), or root/ (vfs), live below */
	bool readonly;          /* no writable layer at all (--read-only needs none of it: that is a mount attribute) */
	bool is_volatile;       /* the writable layer need not survive a crash of the machine (--rm): syncs cost nothing */
};

struct bh_snapshot_usage {
	uint64_t bytes, inodes;
};

struct bh_snapshot_driver {
	const char *name;
	/* Can it work here, for layers below `path`? 0, or -errno with the reason in words. */
	int (*check)(const char *path, struct bh_error *err);
	/* Makes the writable layer's folders. On failure nothing is left. */
	int (*prepare)(struct bh_snapshot *snapshot, struct bh_error *err);
	/* Returns a detached mount fd. `userns_fd` >= 0: file owners appear mapped by that user namespace (id-mapped layers). */
	int (*mount)(struct bh_snapshot *snapshot, int userns_fd, struct bh_error *err);
	/* Size of the writable layer. */
	int (*usage)(struct bh_snapshot *snapshot, struct bh_snapshot_usage *ret_usage, struct bh_error *err);
	/* Empties the writable layer (restart as a fresh clone). */
	int (*reset)(struct bh_snapshot *snapshot, struct bh_error *err);
	int (*remove)(struct bh_snapshot *snapshot, struct bh_error *err);
};

extern const struct bh_snapshot_driver bh_snapshot_overlay;
extern const struct bh_snapshot_driver bh_snapshot_vfs;
/* "overlay", "vfs"; NULL if unknown. */
const struct bh_snapshot_driver *bh_snapshot_driver_by_name(const char *name);
void bh_snapshot_clear(struct bh_snapshot *snapshot);
