/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packing side. A file is first held by an O_PATH descriptor, which opens nothing: its kind is known before anything is done
 * with it, and what is read afterwards is read through that descriptor. So whoever exchanges files meanwhile can neither have
 * a link followed nor a device or FIFO opened.
 */
#include "storage/storage-internal.h"
#include "storage/tar.h"
#include "storage/transfer.h"

#include "base/file.h"
#include "linux/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <search.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#define LIST_SIZE 65536u
#define VALUE_SIZE 65536u

struct first_name {
	dev_t device;
	ino_t inode;
	char *path;
};

struct pack {
	struct bh_tar_writer writer;
	void *names; /* tree of struct first_name: files with several */
	char *list, *value;
	struct bh_error *err;
};

static int compare_names(const void *a, const void *b)
{
	const struct first_name *x = a, *y = b;

	if (x->device != y->device)
		return x->device > y->device ? 1 : -1;
	return (x->inode > y->inode) - (x->inode < y->inode);
}

static void free_name(void *pointer)
{
	struct first_name *name = pointer;

	free(name->path);
	free(name);
}

/* The path under which this file was packed already, or NULL. */
static const char *packed_before(struct pack *p, const struct stat *st, const char *path)
{
	struct first_name wanted = { .device = st->st_dev, .inode = st->st_ino }, *name, **found;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return NULL;
	found = tfind(&wanted, &p->names, compare_names);
	if (found)
		return (*found)->path;
	name = bh_malloc(sizeof *name);
	*name = (struct first_name){ st->st_dev, st->st_ino, bh_strdup(path) };
	tsearch(name, &p->names, compare_names);
	return NULL;
}

static bool is_wanted_xattr(const char *name)
{
	return bh_has_prefix(name, "user.") || bh_streq(name, "security.capability");
}

static int add_xattrs(struct pack *p, int fd, struct bh_tar_entry *e)
{
	char own[BH_OWN_FD_PATH_MAX];
	ssize_t length = listxattr(bh_own_fd_path(fd, own), p->list, LIST_SIZE);

	if (length < 0)
		return errno == EOPNOTSUPP || errno == ENODATA ? 0 : bh_error_set(p->err, errno, "copy '%s': list its attributes", e->path);
	for (const char *name = p->list; name < p->list + length; name += strlen(name) + 1) {
		ssize_t size;

		if (!is_wanted_xattr(name) || e->xattr_count == BH_TAR_XATTRS_MAX)
			continue;
		size = getxattr(own, name, p->value, VALUE_SIZE);
		if (size < 0 && errno != ENODATA)
			return bh_error_set(p->err, errno, "copy '%s': read attribute %s", e->path, name);
		if (size >= 0)
			bh_tar_entry_add_xattr(e, name, p->value, (size_t)size);
	}
	return 0;
}

static int add_target(struct pack *p, int fd, struct bh_tar_entry *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof target - 1);

	if (n < 0)
		return bh_error_set(p->err, errno, "copy '%s': read the link", e->path);
	e->target = bh_strndup(target, (size_t)n);
	return 0;
}

static int pack_content(struct pack *p, int fd, const char *path)
{
	while (p->writer.left) {
		void *bytes;
		size_t size;
		int r = bh_tar_room(&p->writer, &bytes, &size, p->err);
		ssize_t n = r < 0 ? 0 : read(fd, bytes, size);

		if (r < 0)
			return r;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? bh_error_set(p->err, errno, "copy '%s': read", path) :
				       bh_error_text(p->err, ESTALE, "copy '%s': it became shorter while it was read", path);
		r = bh_tar_filled(&p->writer, (size_t)n, p->err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int pack_file(struct pack *p, int fd, struct bh_tar_entry *e)
{
	char own[BH_OWN_FD_PATH_MAX];
	bh_auto_close int content = open(bh_own_fd_path(fd, own), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (content < 0)
		return bh_error_set(p->err, errno, "copy '%s': open", e->path);
	r = bh_tar_put(&p->writer, e, p->err);
	return r < 0 ? r : pack_content(p, content, e->path);
}

static enum bh_tar_type type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return BH_TAR_DIRECTORY;
	case S_IFLNK:
		return BH_TAR_SYMLINK;
	case S_IFCHR:
		return BH_TAR_CHARACTER_DEVICE;
	case S_IFBLK:
		return BH_TAR_BLOCK_DEVICE;
	case S_IFIFO:
		return BH_TAR_FIFO;
	default:
		return BH_TAR_FILE;
	}
}

static int pack_entry(struct pack *p, int fd, const char *path, const struct stat *st)
{
	const char *before = packed_before(p, st, path);
	bool is_device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	struct bh_tar_entry e = {
		.type = before ? BH_TAR_HARD_LINK : type_of(st->st_mode),
		.path = bh_strdup(path),
		.target = bh_strdup(before),
		.size = S_ISREG(st->st_mode) && !before ? (uint64_t)st->st_size : 0,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.major = is_device ? major(st->st_rdev) : 0,
		.minor = is_device ? minor(st->st_rdev) : 0,
		.mtime = st->st_mtim,
	};
	int r = 0;

	if (e.type == BH_TAR_SYMLINK)
		r = add_target(p, fd, &e);
	else if (e.type == BH_TAR_FILE || e.type == BH_TAR_DIRECTORY)
		r = add_xattrs(p, fd, &e);
	if (r == 0)
		r = e.type == BH_TAR_FILE ? pack_file(p, fd, &e) : bh_tar_put(&p->writer, &e, p->err);
	bh_tar_entry_clear(&e);
	return r;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_folder(struct pack *p, int folder, const char *path, struct bh_strv *names)
{
	bh_auto_close int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		return bh_error_set(p->err, errno, "copy '%s': list", path);
	fd = -1;
	for (errno = 0; (entry = readdir(dir)); errno = 0)
		if (!bh_streq(entry->d_name, ".") && !bh_streq(entry->d_name, ".."))
			bh_strv_add(names, entry->d_name);
	if (errno)
		return bh_error_set(p->err, errno, "copy '%s': list", path);
	if (names->count)
		qsort(names->items, names->count, sizeof *names->items, compare_text);
	return 0;
}

/* What the kernel makes up: without an end, or with files that block. */
static bool is_of_kernel(int fd)
{
	static const long types[] = { PROC_SUPER_MAGIC, SYSFS_MAGIC,    CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEVPTS_SUPER_MAGIC,
				      DEBUGFS_MAGIC,    TRACEFS_MAGIC,  SECURITYFS_MAGIC,   BPF_FS_MAGIC,        BINFMTFS_MAGIC,
				      EFIVARFS_MAGIC,   PSTOREFS_MAGIC, 0x19800202 /* mqueue */ };
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++)
		if ((long)fs.f_type == types[i])
			return true;
	return false;
}

static int pack_folder(struct pack *p, int fd, const char *path, dev_t device, unsigned depth);

static int pack_child(struct pack *p, int folder, const char *name, const char *prefix, dev_t device, unsigned depth)
{
	bh_auto_close int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	bh_auto_free char *path = bh_printf("%s%s", prefix, name);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		if (errno == ENOENT) /* gone meanwhile */
			return 0;
		return bh_error_set(p->err, errno, "copy '%s'", path);
	}
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (!S_ISDIR(st.st_mode))
		return pack_entry(p, fd, path, &st);
	return pack_folder(p, fd, path, device, depth);
}

static int pack_folder(struct pack *p, int fd, const char *path, dev_t device, unsigned depth)
{
	bh_auto_free char *prefix = bh_printf("%s/", path);
	bh_auto_strv struct bh_strv names = { 0 };
	struct stat st;
	int r;

	if (depth > BH_TRANSFER_DEPTH_MAX)
		return bh_error_text(p->err, ELOOP, "copy '%.200s': more than %d folders in each other", path, BH_TRANSFER_DEPTH_MAX);
	if (fstat(fd, &st) < 0)
		return bh_error_set(p->err, errno, "copy '%s'", path);
	r = pack_entry(p, fd, prefix, &st);
	if (r < 0 || (depth && st.st_dev != device && is_of_kernel(fd)))
		return r;
	r = list_folder(p, fd, path, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = pack_child(p, fd, names.items[i], prefix, st.st_dev, depth + 1);
	return r;
}

/* The source itself; *ret_name: what it is called in the archive, "." if its content alone is meant. */
static int open_source(const struct bh_transfer_place *source, bool follow_link, char **ret_name, struct stat *ret_st, struct bh_error *err)
{
	struct bh_transfer_name name;
	bh_auto_close int fd = -1;

	bh_transfer_name_split(source->path, &name);
	fd = bh_transfer_open(source, name.text, O_PATH | (follow_link || name.is_folder ? 0 : O_NOFOLLOW));
	if (fd >= 0 && fstat(fd, ret_st) < 0)
		fd = -errno;
	if (fd >= 0 && name.is_folder && !S_ISDIR(ret_st->st_mode)) {
		close(fd);
		fd = -ENOTDIR;
	}
	*ret_name = bh_strdup(name.base ? name.base : ".");
	bh_transfer_name_clear(&name);
	return fd < 0 ? bh_error_set(err, -fd, "copy from '%s'", source->path) : BH_TAKE_FD(fd);
}

int bh_transfer_pack(const struct bh_transfer_place *source, bool follow_link, int fd, uint64_t *ret_bytes, struct bh_error *err)
{
	struct pack p = { .err = err };
	bh_auto_free char *name = NULL;
	bh_auto_close int node = -1;
	struct stat st;
	int r = node = open_source(source, follow_link, &name, &st, err);

	if (r < 0)
		return r;
	if (S_ISSOCK(st.st_mode))
		return bh_error_text(err, ENOTSUP, "copy from '%s': it is a socket, which can't be copied", source->path);
	bh_tar_writer_init(&p.writer, fd);
	p.list = bh_malloc(LIST_SIZE);
	p.value = bh_malloc(VALUE_SIZE);
	r = S_ISDIR(st.st_mode) ? pack_folder(&p, node, name, st.st_dev, 0) : pack_entry(&p, node, name, &st);
	if (r == 0)
		r = bh_tar_finish(&p.writer, err);
	if (r == 0 && ret_bytes)
		*ret_bytes = p.writer.bytes;
	tdestroy(p.names, free_name);
	free(p.list);
	free(p.value);
	bh_tar_writer_clear(&p.writer);
	return r;
}
