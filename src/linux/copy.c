/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copying a small tree (a tmpfs that begins with what the image has there).
 *
 * The source comes from an image: its depth is limited, no link is followed, and every name is used relative to an open
 * folder.
 */
#include "linux/copy.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define DEPTH_MAX 128
#define XATTR_LIST_MAX_BYTES 65536

static int copy_xattrs(int from, int to)
{
	bh_auto_free char *names = bh_calloc(1, XATTR_LIST_MAX_BYTES), *value = bh_malloc(XATTR_LIST_MAX_BYTES);
	ssize_t length = flistxattr(from, names, XATTR_LIST_MAX_BYTES);

	if (length < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t n = fgetxattr(from, name, value, XATTR_LIST_MAX_BYTES);

		/* A tmpfs takes no user.* attributes on older kernels; what it can't hold stays behind. */
		if (n >= 0 && fsetxattr(to, name, value, (size_t)n, 0) < 0 && errno != ENOTSUP && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int copy_attributes(int from, int to, const struct stat *st)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
		return -errno;
	r = copy_xattrs(from, to);
	return r < 0 ? r : futimens(to, times) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	bh_auto_close int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	bh_auto_close int to = from < 0 ? -1 : openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t n;

	if (from < 0 || to < 0)
		return -errno;
	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		continue;
	return n < 0 ? -errno : copy_attributes(from, to, st);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(from_dir, name, text, sizeof text - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (symlinkat(text, to_dir, name) < 0 || fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static int copy_node(int to_dir, const char *name, const struct stat *st)
{
	if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0)
		return -errno;
	return fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_folder(int from, int to, dev_t device, unsigned depth);

static int copy_below(int from_dir, int to_dir, const char *name, const struct stat *st, unsigned depth)
{
	bh_auto_close int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bh_auto_close int to = -1;

	if (from < 0 || mkdirat(to_dir, name, 0700) < 0)
		return -errno;
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return to < 0 ? -errno : copy_folder(from, to, st->st_dev, depth + 1);
}

static int copy_entry(int from, int to, const char *name, dev_t device, unsigned depth)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (st.st_dev != device)
		return 0;
	if (S_ISDIR(st.st_mode))
		return copy_below(from, to, name, &st, depth);
	if (S_ISREG(st.st_mode))
		return copy_file(from, to, name, &st);
	if (S_ISLNK(st.st_mode))
		return copy_link(from, to, name, &st);
	return copy_node(to, name, &st);
}

static int copy_folder(int from, int to, dev_t device, unsigned depth)
{
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 3), r = 0;
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st = { 0 };

	if (!dir) {
		bh_close_fd(&fd);
		return -ENOMEM;
	}
	if (depth > DEPTH_MAX)
		return -ELOOP;
	while (r == 0 && (errno = 0, entry = readdir(dir)))
		if (!bh_streq(entry->d_name, ".") && !bh_streq(entry->d_name, ".."))
			r = copy_entry(from, to, entry->d_name, device, depth);
	if (r == 0 && errno)
		r = -errno;
	if (r == 0 && fstat(from, &st) < 0)
		r = -errno;
	return r < 0 ? r : copy_attributes(from, to, &st);
}

int bh_copy_tree(int from_fd, int to_fd, struct bh_error *err)
{
	/* A mount's fd is O_PATH: for reading its attributes and writing into it another one is needed. */
	bh_auto_close int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st = { 0 };
	int r = to < 0 || fstat(from_fd, &st) < 0 ? -errno : copy_folder(from_fd, to, st.st_dev, 0);

	return r < 0 ? bh_error_set(err, -r, "copy a folder of the image") : 0;
}
