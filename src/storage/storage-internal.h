/* SPDX-License-Identifier: Apache-2.0 */
/* What the snapshot drivers share. */
#pragma once

#include "storage/snapshot.h"

/* Bytes and inodes below a folder (the folder itself not counted, hard links once). */
int bh_storage_usage(const char *path, struct bh_snapshot_usage *ret_usage, struct bh_error *err);
/* Gives `folder` the owner and mode of the topmost layer's root, which it will hide. */
int bh_storage_copy_root_attributes(const struct bh_snapshot *snapshot, const char *folder, struct bh_error *err);
/* Detached clone of the mount at `path`; id-mapped by the user namespace if userns_fd >= 0. Returns the mount fd. */
int bh_storage_clone(const char *path, int userns_fd, struct bh_error *err);
