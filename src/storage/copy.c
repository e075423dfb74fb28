/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer is walked top down, so that each folder of a target path has been seen, and made a real folder, before
 * anything is created in it: no target path ever goes through a link that a lower layer left.
 */
#include "storage/copy.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/fs.h>
#include <search.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define XATTR_LIST_MAX_BYTES (64u << 10) /* the kernel's XATTR_LIST_MAX */
#define XATTR_VALUE_MAX (64u << 10)      /* the kernel's XATTR_SIZE_MAX */
#define OVERLAY_XATTRS "trusted.overlay."

/* Where a file with several names was copied first. */
struct link {
	ino_t inode;
	char *path;
};

struct copy {
	int root_fd;
	void *links;
	struct bh_error *err;
};

static int compare_links(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

static void free_link(void *pointer)
{
	struct link *link = pointer;

	free(link->path);
	free(link);
}

static int copy_xattrs(struct copy *copy, const char *from, const char *to)
{
	bh_auto_free char *names = bh_malloc(XATTR_LIST_MAX_BYTES), *value = bh_malloc(XATTR_VALUE_MAX);
	bh_auto_free char *target = bh_printf("/proc/self/fd/%d/%s", copy->root_fd, to);
	ssize_t length = llistxattr(from, names, XATTR_LIST_MAX_BYTES);

	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : bh_error_set(copy->err, errno, "list attributes of %s", from);
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size;

		if (bh_has_prefix(name, OVERLAY_XATTRS))
			continue;
		size = lgetxattr(from, name, value, XATTR_VALUE_MAX);
		if (size < 0 || lsetxattr(target, name, value, (size_t)size, 0) < 0)
			return bh_error_set(copy->err, errno, "copy attribute %s of %s", name, from);
	}
	return 0;
}

static int copy_data(struct copy *copy, int from, int to, off_t size, const char *path)
{
	off_t data = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return bh_error_set(copy->err, errno, "copy %s", path);
	/* Hole by hole, so that a sparse file stays one. */
	while ((data = lseek(from, data, SEEK_DATA)) >= 0 && data < size) {
		off_t end = lseek(from, data, SEEK_HOLE), out = data;

		if (end < 0)
			break;
		while (data < end) {
			ssize_t n = copy_file_range(from, &data, to, &out, (size_t)(end - data), 0);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return bh_error_set(copy->err, n < 0 ? errno : EIO, "copy %s", path);
		}
	}
	return data < 0 && errno != ENXIO ? bh_error_set(copy->err, errno, "copy %s", path) : 0;
}

static int copy_file(struct copy *copy, const FTSENT *entry, const char *to)
{
	bh_auto_close int in = open(entry->fts_accpath, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bh_auto_close int out = in < 0 ? -1 : openat(copy->root_fd, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (out < 0)
		return bh_error_set(copy->err, errno, "copy %s", entry->fts_path);
	return copy_data(copy, in, out, entry->fts_statp->st_size, entry->fts_path);
}

static int copy_symlink(struct copy *copy, const FTSENT *entry, const char *to)
{
	char target[PATH_MAX];
	ssize_t n = readlink(entry->fts_accpath, target, sizeof target - 1);

	if (n < 0)
		return bh_error_set(copy->err, errno, "read the link %s", entry->fts_path);
	target[n] = '\0';
	return symlinkat(target, copy->root_fd, to) < 0 ? bh_error_set(copy->err, errno, "copy %s", entry->fts_path) : 0;
}

/* A further name of a file that is there already: 1 if it was linked, 0 if this is the first. */
static int copy_link(struct copy *copy, const FTSENT *entry, const char *to)
{
	struct link wanted = { .inode = entry->fts_statp->st_ino }, *link, **found;

	if (entry->fts_statp->st_nlink < 2)
		return 0;
	found = tfind(&wanted, &copy->links, compare_links);
	if (found)
		return linkat(copy->root_fd, (*found)->path, copy->root_fd, to, 0) < 0 ? bh_error_set(copy->err, errno, "link %s", to) : 1;
	link = bh_malloc(sizeof *link);
	*link = (struct link){ entry->fts_statp->st_ino, bh_strdup(to) };
	tsearch(link, &copy->links, compare_links);
	return 0;
}

static int set_attributes(struct copy *copy, const FTSENT *entry, const char *to)
{
	const struct stat *st = entry->fts_statp;
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (fchownat(copy->root_fd, to, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISLNK(st->st_mode) && fchmodat(copy->root_fd, to, st->st_mode & 07777, 0) < 0))
		return bh_error_set(copy->err, errno, "set owner and mode of %s", to);
	r = copy_xattrs(copy, entry->fts_accpath, to);
	if (r == 0 && utimensat(copy->root_fd, to, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = bh_error_set(copy->err, errno, "set times of %s", to);
	return r;
}

static int enter_folder(struct copy *copy, const FTSENT *entry, const char *to)
{
	bool opaque = lgetxattr(entry->fts_accpath, OVERLAY_XATTRS "opaque", NULL, 0) > 0;
	struct stat st;
	int r = 0;

	if (fstatat(copy->root_fd, to, &st, AT_SYMLINK_NOFOLLOW) == 0 && (opaque || !S_ISDIR(st.st_mode)))
		r = bh_remove_tree_at(copy->root_fd, to, copy->err);
	if (r == 0 && mkdirat(copy->root_fd, to, 0700) < 0 && errno != EEXIST)
		r = bh_error_set(copy->err, errno, "make %s", to);
	return r;
}

static int copy_other(struct copy *copy, const FTSENT *entry, const char *to)
{
	const struct stat *st = entry->fts_statp;
	int r = bh_remove_tree_at(copy->root_fd, to, copy->err);

	if (r < 0 || (S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0))) /* a whiteout */
		return r;
	r = copy_link(copy, entry, to);
	if (r != 0)
		return r < 0 ? r : 0;
	if (S_ISREG(st->st_mode))
		r = copy_file(copy, entry, to);
	else if (S_ISLNK(st->st_mode))
		r = copy_symlink(copy, entry, to);
	else if (mknodat(copy->root_fd, to, st->st_mode, st->st_rdev) < 0)
		r = bh_error_set(copy->err, errno, "make %s", to);
	return r < 0 ? r : set_attributes(copy, entry, to);
}

static int copy_entry(struct copy *copy, const FTSENT *entry, const char *to)
{
	switch (entry->fts_info) {
	case FTS_D:
		return *to ? enter_folder(copy, entry, to) : 0;
	case FTS_DP: /* its times last: filling it changed them */
		return set_attributes(copy, entry, *to ? to : ".");
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		return bh_error_set(copy->err, entry->fts_errno, "copy %s", entry->fts_path);
	default:
		return copy_other(copy, entry, to);
	}
}

int bh_copy_layer(const char *layer, int root_fd, struct bh_error *err)
{
	char *const roots[] = { (char *)layer, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	struct copy copy = { .root_fd = root_fd, .err = err };
	size_t prefix = strlen(layer);
	FTSENT *entry;
	int r = 0;

	if (!walk)
		return bh_error_set(err, errno, "walk %s", layer);
	while (r == 0 && (errno = 0, entry = fts_read(walk))) {
		const char *to = entry->fts_path + BH_MIN(prefix, entry->fts_pathlen);

		r = copy_entry(&copy, entry, *to == '/' ? to + 1 : to);
	}
	if (r == 0 && errno)
		r = bh_error_set(err, errno, "walk %s", layer);
	fts_close(walk);
	tdestroy(copy.links, free_link);
	return r;
}
