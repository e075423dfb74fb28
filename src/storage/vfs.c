/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots by copying, for hosts where overlayfs can't be mounted.
 *
 * The layers are copied one over the other into root/, lowest first, as overlayfs would show them: a whiteout removes,
 * an opaque folder first empties, everything else replaces. Data goes by FICLONE where the file system shares extents,
 * else by copy_file_range. The copy is staged in root.new/ and renamed, so a half-made one is never mounted.
 */
#include "base/file.h"
#include "base/log.h"
#include "storage/copy.h"
#include "storage/storage-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>

static int vfs_check(const char *path, struct bh_error *err)
{
	return access(path, W_OK) < 0 ? bh_error_set(err, errno, "%s", path) : 0;
}

static int vfs_remove(struct bh_snapshot *snapshot, struct bh_error *err)
{
	static const char *const folders[] = { "root.new", "root" };
	bh_auto_close int fd = open(snapshot->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : bh_error_set(err, errno, "open %s", snapshot->path);
	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++) {
		int r = bh_remove_tree_at(fd, folders[i], err);

		if (r < 0)
			return bh_error_prefix(err, "snapshot %s", snapshot->path);
	}
	return 0;
}

static int copy_layers(struct bh_snapshot *snapshot, struct bh_error *err)
{
	bh_auto_close int fd = bh_make_dir(AT_FDCWD, snapshot->path, 0700, err);
	bh_auto_free char *root = bh_path_join(snapshot->path, "root.new");
	bh_auto_close int root_fd = -1;
	int r = fd < 0 ? fd : bh_remove_tree_at(fd, "root.new", err);

	if (r < 0)
		return r;
	if (mkdirat(fd, "root.new", 0755) < 0)
		return bh_error_set(err, errno, "make %s", root);
	root_fd = bh_open_dir(fd, "root.new", O_NOFOLLOW, err);
	if (root_fd < 0)
		return root_fd;
	for (size_t i = 0; i < snapshot->layers.count; i++) {
		r = bh_copy_layer(snapshot->layers.items[i], root_fd, err);
		if (r < 0)
			return r;
		bh_explain("snapshot", "driver", "vfs", "copied", snapshot->layers.items[i]);
	}
	r = bh_storage_copy_root_attributes(snapshot, root, err);
	if (r == 0 && renameat2(fd, "root.new", fd, "root", RENAME_NOREPLACE) < 0)
		r = bh_error_set(err, errno, "rename %s", root);
	return r;
}

static int vfs_prepare(struct bh_snapshot *snapshot, struct bh_error *err)
{
	int r = copy_layers(snapshot, err);

	if (r < 0)
		vfs_remove(snapshot, NULL);
	return r;
}

static int vfs_mount(struct bh_snapshot *snapshot, int userns_fd, struct bh_error *err)
{
	struct mount_attr readonly = { .attr_set = MOUNT_ATTR_RDONLY };
	bh_auto_free char *root = bh_path_join(snapshot->path, "root");
	bh_auto_close int fd = bh_storage_clone(root, userns_fd, err);

	if (fd < 0)
		return fd;
	if (snapshot->readonly && mount_setattr(fd, "", AT_EMPTY_PATH, &readonly, sizeof readonly) < 0)
		return bh_error_set(err, errno, "make the clone of %s read-only", root);
	bh_explain("mount", "type", "bind", "source", root, "options", snapshot->readonly ? "ro" : "rw", "id-mapped", userns_fd >= 0 ? "yes" : NULL);
	return BH_TAKE_FD(fd);
}

static int vfs_usage(struct bh_snapshot *snapshot, struct bh_snapshot_usage *ret_usage, struct bh_error *err)
{
	bh_auto_free char *root = bh_path_join(snapshot->path, "root");

	return bh_storage_usage(root, ret_usage, err);
}

static int vfs_reset(struct bh_snapshot *snapshot, struct bh_error *err)
{
	int r = vfs_remove(snapshot, err);

	return r < 0 ? r : vfs_prepare(snapshot, err);
}

const struct bh_snapshot_driver bh_snapshot_vfs = {
	.name = "vfs",
	.check = vfs_check,
	.prepare = vfs_prepare,
	.mount = vfs_mount,
	.usage = vfs_usage,
	.reset = vfs_reset,
	.remove = vfs_remove,
};
