/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maskedPaths and readonlyPaths.
 *
 * Each path is resolved below the root to an fd, and the cover is attached onto that fd. A masked file is covered with
 * the container's own null device, which is checked to be one each time it is copied (CVE-2025-31133); a masked folder
 * with an empty read-only tmpfs, which all of them share. What does not exist needs no cover.
 *
 * Nearly all of these paths are names of the procfs that we have just mounted. For them there is a shorter way: own-mounts.c.
 * There procfs is mounted read-only and stays so until copies of its parts have been put over themselves, which then are
 * read-only from their first moment.
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

/*
 * Where a path leads: an open fd and the empty name, or, for a name in the procfs that we mounted, that mount and the
 * name: nobody can have put a link there, and a lookup less for each of the usual paths counts.
 */
struct place {
	int fd;
	const char *name;
	bool directory;
};

/* 1: found, 0: nothing there to protect, -errno. */
static int find_place(struct bh_job *job, const char *path, struct place *ret, struct bh_error *err)
{
	const char *name = job->proc_mount_fd >= 0 ? bh_single_name_below("/proc", path) : NULL;
	int fd = name ? job->proc_mount_fd : bh_open_in_root(job->root_fd, path, O_PATH);
	struct stat st;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0 || fstatat(fd, name ? name : "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return fd >= 0 && errno == ENOENT ? 0 : bh_error_set(err, fd < 0 ? -fd : errno, "open %s", path);
	/* A link of procfs ("self"): what it leads to is looked up like any other path. */
	if (name && S_ISLNK(st.st_mode)) {
		fd = bh_open_in_root(job->root_fd, path, O_PATH);
		if (fd < 0 || fstat(fd, &st) < 0)
			return fd == -ENOENT ? 0 : bh_error_set(err, fd < 0 ? -fd : errno, "open %s", path);
		name = NULL;
	}
	*ret = (struct place){ fd, name ? name : "", S_ISDIR(st.st_mode) };
	return 1;
}

static int cover_classic(struct bh_job *job, const struct place *place, struct bh_error *err)
{
	static const struct bh_mount_options empty = { .set = MOUNT_ATTR_RDONLY }, bind = { .bind = true };
	int null_fd;

	if (place->directory)
		return bh_mount_classic("tmpfs", "tmpfs", -1, &empty, place->fd, err);
	null_fd = copy_null(job, err);
	return null_fd < 0 ? null_fd : bh_mount_classic(NULL, "/dev/null", null_fd, &bind, place->fd, err);
}

static int cover(struct bh_job *job, const struct place *place, int *tmpfs_fd, struct bh_error *err)
{
	static const struct bh_mount_options empty = { .set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	int fd, r;

	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return cover_classic(job, place, err);
	if (!place->directory)
		fd = copy_null(job, err);
	else if (*tmpfs_fd < 0)
		fd = *tmpfs_fd = bh_mount_new("tmpfs", "tmpfs", &empty, err);
	else
		fd = bh_mount_copy(*tmpfs_fd, "", false, err);
	if (fd < 0)
		return fd;
	r = bh_mount_attach(fd, place->fd, place->name);
	return r < 0 ? bh_error_set(err, -r, "attach") : 0;
}

/* Covered is more than found. */
static int found(int r)
{
	return r < 0 ? r : 1;
}

static int mask_path(struct bh_job *job, const char *path, struct bh_own_covers *covers, int *tmpfs_fd, struct bh_error *err)
{
	struct place place = { .fd = -1 };
	int r = bh_mask_own(job, covers, path, &place.directory);

	if (r < 0) {
		r = find_place(job, path, &place, err);
		if (r == 1)
			r = found(cover(job, &place, tmpfs_fd, err));
	}
	if (r == 0)
		return 0;
	if (r < 0) {
		bh_error_prefix(err, "mask %s", path);
		return r;
	}
	bh_explain("mask", "path", path, "with", place.directory ? "empty tmpfs" : "/dev/null");
	return 0;
}

static int cover_with_itself(const struct place *place, struct bh_error *err)
{
	int copy = bh_mount_copy(place->fd, place->name, true, err);
	int r = copy < 0 ? copy : bh_mount_set_readonly(copy, true, err);

	if (r < 0)
		return r;
	r = bh_mount_attach(copy, place->fd, place->name);
	return r < 0 ? bh_error_set(err, -r, "attach") : 0;
}

static int cover_with_itself_classic(struct bh_job *job, const char *path, struct bh_error *err)
{
	static const struct bh_mount_options bind = { .bind = true, .recursive_bind = true }, readonly = { .set = MOUNT_ATTR_RDONLY };
	int fd = bh_open_in_root(job->root_fd, path, O_PATH);
	int r = fd < 0 ? bh_error_set(err, -fd, "open") : bh_mount_classic(NULL, path, fd, &bind, fd, err);

	if (r < 0)
		return r;
	fd = bh_open_in_root(job->root_fd, path, O_PATH);
	return fd < 0 ? bh_error_set(err, -fd, "open") : bh_mount_classic_set(fd, &readonly, err);
}

static int make_readonly(struct bh_job *job, const char *path, struct bh_error *err)
{
	struct place place = { .fd = -1 };
	int r = bh_seal_own(job, path);

	if (r < 0) {
		r = find_place(job, path, &place, err);
		if (r == 1)
			r = found(bh_linux_has(BH_CALL_MOUNT_API) ? cover_with_itself(&place, err) : cover_with_itself_classic(job, path, err));
	}
	if (r == 0)
		return 0;
	if (r < 0) {
		bh_error_prefix(err, "make %s read-only", path);
		return r;
	}
	bh_explain("readonly", "path", path);
	return 0;
}

/* A later mount of the configuration may lie on top of the procfs that we mounted. */
static bool own_proc_is_seen(const struct bh_job *job)
{
	bh_auto_close int fd = job->proc_mount_fd < 0 ? -1 : bh_open_in_root(job->root_fd, "/proc", O_PATH | O_NOFOLLOW);
	struct stat seen, own;

	return fd >= 0 && fstat(fd, &seen) == 0 && fstat(job->proc_mount_fd, &own) == 0 && seen.st_dev == own.st_dev && seen.st_ino == own.st_ino;
}

int bh_child_protect_paths(struct bh_job *job, struct bh_error *err)
{
	struct bh_own_covers covers = { 0 };
	const struct bh_spec *spec = job->spec;
	int tmpfs_fd = -1, r = 0;

	job->proc_is_plain &= !bh_has_early_hooks(spec);
	if (!job->proc_is_plain) {
		r = bh_unseal_proc(job, err);
		if (!own_proc_is_seen(job))
			job->proc_mount_fd = -1;
	}
	for (size_t i = 0; r == 0 && i < spec->readonly_paths.count; i++)
		r = make_readonly(job, spec->readonly_paths.items[i], err);
	if (r == 0)
		r = bh_unseal_proc(job, err);
	for (size_t i = 0; r == 0 && i < spec->masked_paths.count; i++)
		r = mask_path(job, spec->masked_paths.items[i], &covers, &tmpfs_fd, err);
	if (r == 0 && job->dev_readonly)
		r = bh_mount_set_readonly(job->dev_fd, false, err);
	return r;
}
