/* SPDX-License-Identifier: Apache-2.0 */
/* What the snapshot drivers share. */
#pragma once

#include "storage/snapshot.h"
#include "storage/transfer.h"

/* Bytes and inodes below a folder (the folder itself not counted, hard links once). */
int bh_storage_usage(const char *path, struct bh_snapshot_usage *ret_usage, struct bh_error *err);
/* Gives `folder` the owner and mode of the topmost layer's root, which it will hide. */
int bh_storage_copy_root_attributes(const struct bh_snapshot *snapshot, const char *folder, struct bh_error *err);
/* Detached clone of the mount at `path`; id-mapped by the user namespace if userns_fd >= 0. Returns the mount fd. */
int bh_storage_clone(const char *path, int userns_fd, struct bh_error *err);

/* A path's last name, without slashes behind it. `base` NULL: it has none that a file could get ("/", "a/.", "a/.."). */
struct bh_transfer_name {
	char *text, *parent, *base; /* the path without these slashes, and its two parts */
	bool is_folder;             /* by its form it can only be a folder */
};
void bh_transfer_name_split(const char *path, struct bh_transfer_name *ret_name);
void bh_transfer_name_clear(struct bh_transfer_name *name);
/* Opens `path` where the place's own path would be looked for. Returns the fd or -errno. */
int bh_transfer_open(const struct bh_transfer_place *place, const char *path, int flags);

/* The file behind a descriptor of ours by a path (needs /proc), also where it is only O_PATH. Returns its buffer. */
#define BH_OWN_FD_PATH_MAX 32
const char *bh_own_fd_path(int fd, char ret_path[BH_OWN_FD_PATH_MAX]);
