/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of a container without a mount namespace.
 *
 * Its mounts are the host's, and stay when its processes have gone. So all of them lie below one mount of ours on the rootfs
 * folder, and that one's id is on record (ROOT/<id>/mount) before it is attached anywhere: whoever removes the container,
 * after whatever end, finds it there and takes it off, and never another.
 */
#include "bundle/bundle-internal.h"

#include "base/file.h"
#include "linux/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

bool bh_bundle_shares_mounts(const struct bh_bundle *b)
{
	return b->has_spec && !b->spec.namespaces[BH_NS_MOUNT].present;
}

/* Nothing could be told from what is on top of the host's own root. */
static int check_rootfs(const struct bh_bundle *b, struct bh_error *err)
{
	struct stat rootfs, host;

	if (stat(b->rootfs, &rootfs) < 0 || stat("/", &host) < 0)
		return bh_error_set(err, errno, "root.path: %s", b->rootfs);
	if (rootfs.st_dev == host.st_dev && rootfs.st_ino == host.st_ino)
		return bh_error_text(err, EINVAL, "root.path: the host's own root needs a mount namespace");
	return 0;
}

int bh_bundle_make_root(struct bh_bundle *b, int *ret_mount_fd, struct bh_error *err)
{
	char id[BH_MOUNT_ID_MAX];
	bh_auto_close int fd = -1;
	int r = check_rootfs(b, err);

	if (r < 0)
		return r;
	fd = bh_mount_copy(AT_FDCWD, b->rootfs, true, err);
	r = fd < 0 ? fd : bh_mount_set_propagation(fd, MS_PRIVATE, true, err);
	if (r == 0)
		r = bh_mount_id(fd, id, err);
	if (r == 0)
		r = bh_create_file_at(b->dir_fd, BH_BUNDLE_MOUNT, id, strlen(id), 0600, err);
	if (r < 0)
		return r;
	*ret_mount_fd = BH_TAKE_FD(fd);
	return 0;
}

int bh_bundle_detach_root(struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_buf struct bh_buf id = { 0 };
	int r = bh_read_stored_file_at(b->dir_fd, BH_BUNDLE_MOUNT, BH_MOUNT_ID_MAX, &id, NULL);

	/* Its maker was killed before, or while it wrote it, and went no further. */
	if (r == -ENOENT || (r == 0 && (!id.length || !b->rootfs)))
		return 0;
	if (r < 0)
		return bh_error_set(err, -r, "read the container's " BH_BUNDLE_MOUNT);
	r = bh_mount_detach(b->rootfs, id.data, err);
	return r == -ENOENT ? 0 : r;
}
