/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maskedPaths and readonlyPaths.
 *
 * Each path is resolved below the root to an fd, and the cover is attached onto that fd. A masked file is covered with
 * the container's own null device, which is checked to be one each time it is copied (CVE-2025-31133); a masked folder
 * with an empty read-only tmpfs, which all of them share. What does not exist needs no cover.
 */
#include "container/container-internal.h"

#include "base/log.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int copy_null(struct bh_job *job, struct bh_error *err)
{
	/* Without a /dev of our own making the host's node is used, read-only so that its mode can't be changed. */
	bool own = job->dev_fd >= 0;
	const char *path = own ? "null" : "/dev/null";
	bh_auto_close int fd = -1;
	struct stat st;
	int r;

	if (bh_linux_has(BH_CALL_MOUNT_API)) {
		fd = bh_mount_copy(own ? job->dev_fd : AT_FDCWD, path, false, err);
		if (fd < 0)
			return fd;
	} else {
		fd = openat(own ? job->dev_fd : AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return bh_error_set(err, errno, "open the null device");
	}
	if (fstat(fd, &st) < 0 || !is_null_device(&st))
		return bh_error_text(err, ENODEV, "/dev/null is not the null device");
	r = own || !bh_linux_has(BH_CALL_MOUNT_API) ? 0 : bh_mount_set_readonly(fd, false, err);
	return r < 0 ? r : BH_TAKE_FD(fd);
}

static int cover_classic(int target, bool directory, struct bh_job *job, struct bh_error *err)
{
	static const struct bh_mount_options empty = { .set = MOUNT_ATTR_RDONLY }, bind = { .bind = true };
	int null_fd;

	if (directory)
		return bh_mount_classic("tmpfs", "tmpfs", -1, &empty, target, err);
	null_fd = copy_null(job, err);
	return null_fd < 0 ? null_fd : bh_mount_classic(NULL, "/dev/null", null_fd, &bind, target, err);
}

static int cover(struct bh_job *job, int target, bool directory, int *tmpfs_fd, struct bh_error *err)
{
	static const struct bh_mount_options empty = { .set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	int fd, r;

	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return cover_classic(target, directory, job, err);
	if (!directory)
		fd = copy_null(job, err);
	else if (*tmpfs_fd < 0)
		fd = *tmpfs_fd = bh_mount_new("tmpfs", "tmpfs", &empty, err);
	else
		fd = bh_mount_copy(*tmpfs_fd, "", false, err);
	if (fd < 0)
		return fd;
	r = bh_mount_attach(fd, target, "");
	return r < 0 ? bh_error_set(err, -r, "attach") : 0;
}

static int mask_path(struct bh_job *job, const char *path, int *tmpfs_fd, struct bh_error *err)
{
	int target = bh_open_in_root(job->root_fd, path, O_PATH);
	struct stat st;
	int r;

	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0 || fstat(target, &st) < 0)
		return bh_error_set(err, target < 0 ? -target : errno, "mask %s", path);
	r = cover(job, target, S_ISDIR(st.st_mode), tmpfs_fd, err);
	if (r < 0) {
		bh_error_prefix(err, "mask %s", path);
		return r;
	}
	bh_explain("mask", "path", path, "with", S_ISDIR(st.st_mode) ? "empty tmpfs" : "/dev/null");
	return 0;
}

static int make_readonly(struct bh_job *job, const char *path, struct bh_error *err)
{
	static const struct bh_mount_options bind = { .bind = true, .recursive_bind = true }, readonly = { .set = MOUNT_ATTR_RDONLY };
	int r, copy, target = bh_open_in_root(job->root_fd, path, O_PATH);

	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return bh_error_set(err, -target, "open %s", path);
	if (bh_linux_has(BH_CALL_MOUNT_API)) {
		copy = bh_mount_copy(target, "", true, err);
		r = copy < 0 ? copy : bh_mount_set_readonly(copy, true, err);
		if (r == 0)
			r = bh_mount_attach(copy, target, "");
		if (r < 0 && r != copy)
			bh_error_set(err, -r, "attach");
	} else {
		r = bh_mount_classic(NULL, path, target, &bind, target, err);
		copy = r < 0 ? r : bh_open_in_root(job->root_fd, path, O_PATH);
		r = copy < 0 ? copy : bh_mount_classic_set(copy, &readonly, err);
	}
	if (r < 0) {
		bh_error_prefix(err, "make %s read-only", path);
		return r;
	}
	bh_explain("readonly", "path", path);
	return 0;
}

int bh_child_protect_paths(struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec *spec = job->spec;
	int tmpfs_fd = -1, r = 0;

	for (size_t i = 0; r == 0 && i < spec->readonly_paths.count; i++)
		r = make_readonly(job, spec->readonly_paths.items[i], err);
	for (size_t i = 0; r == 0 && i < spec->masked_paths.count; i++)
		r = mask_path(job, spec->masked_paths.items[i], &tmpfs_fd, err);
	if (r == 0 && job->dev_readonly)
		r = bh_mount_set_readonly(job->dev_fd, false, err);
	return r;
}
