/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk opens every file below its folder's fd without following links, so a folder that changes meanwhile can't lead
 * it elsewhere. Names are sorted: the same tree gives the same archive.
 */
#include "storage/pack.h"

#include "base/file.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <sys/xattr.h>

#define XATTR_LIST_MAX_BYTES (64u << 10)
#define XATTR_VALUE_MAX (64u << 10)
#define DEPTH_MAX 512
#define BLOCK_SIZE (256u << 10)

struct link {
	ino_t inode;
	char *path;
};

struct pack {
	struct archive *archive;
	bh_pack_write *write;
	void *context;
	void *links;
	dev_t device;
	char *block, *names, *value; /* buffers for data and attributes */
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

static la_ssize_t write_bytes(struct archive *archive, void *context, const void *bytes, size_t size)
{
	struct pack *p = context;
	int r = p->write(p->context, bytes, size);

	if (r < 0) {
		archive_set_error(archive, -r, "%s", strerror(-r));
		return -1;
	}
	return (la_ssize_t)size;
}

static int archive_failure(struct pack *p, const char *path)
{
	const char *words = archive_error_string(p->archive);

	return bh_error_text(p->err, archive_errno(p->archive) > 0 ? archive_errno(p->archive) : EIO, "pack '%s': %s", path,
			     words ? words : "libarchive failed");
}

/* The writer warns of names that aren't UTF-8 and writes them as bytes (hdrcharset=BINARY): not a failure. */
static int write_header(struct pack *p, struct archive_entry *entry, const char *path)
{
	int r = archive_write_header(p->archive, entry);

	return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 0 : archive_failure(p, path);
}

static int add_xattrs(struct pack *p, struct archive_entry *entry, int dir_fd, const char *name, const char *path)
{
	ssize_t length;

	if (fchdir(dir_fd) < 0)
		return bh_error_set(p->err, errno, "pack '%s': enter its folder", path);
	length = llistxattr(name, p->names, XATTR_LIST_MAX_BYTES);
	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : bh_error_set(p->err, errno, "pack '%s': list its attributes", path);
	for (const char *x = p->names; x < p->names + length; x += strlen(x) + 1) {
		ssize_t size = lgetxattr(name, x, p->value, XATTR_VALUE_MAX);

		if (size < 0)
			return bh_error_set(p->err, errno, "pack '%s': read attribute %s", path, x);
		archive_entry_xattr_add_entry(entry, x, p->value, (size_t)size);
	}
	return 0;
}

/* Tells the writer where the data is, so that holes stay holes. */
static int add_holes(struct pack *p, struct archive_entry *entry, int fd, const struct stat *st, const char *path)
{
	off_t data = 0;

	if (st->st_size == 0 || (uint64_t)st->st_blocks * 512 >= (uint64_t)st->st_size)
		return 0;
	while (data < st->st_size && (data = lseek(fd, data, SEEK_DATA)) >= 0) {
		off_t hole = lseek(fd, data, SEEK_HOLE);

		if (hole < 0)
			return bh_error_set(p->err, errno, "pack '%s': find its holes", path);
		archive_entry_sparse_add_entry(entry, data, hole - data);
		data = hole;
	}
	if (data < 0 && errno != ENXIO && errno != EINVAL)
		return bh_error_set(p->err, errno, "pack '%s': find its data", path);
	if (archive_entry_sparse_count(entry) == 0) /* nothing but a hole */
		archive_entry_sparse_add_entry(entry, st->st_size, 0);
	return 0;
}

/* libarchive takes a sparse file's content with the holes as zeros and leaves them out itself. */
static int write_content(struct pack *p, int fd, const struct stat *st, const char *path)
{
	for (off_t at = 0; at < st->st_size;) {
		ssize_t n = pread(fd, p->block, (size_t)BH_MIN((off_t)BLOCK_SIZE, st->st_size - at), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return bh_error_set(p->err, n < 0 ? errno : ESTALE, "pack '%s': it changed while it was read", path);
		if (archive_write_data(p->archive, p->block, (size_t)n) < 0)
			return archive_failure(p, path);
		at += n;
	}
	return 0;
}

/* The first path of a file with several names, or NULL if this is it. */
static const char *first_name(struct pack *p, const struct stat *st, const char *path)
{
	struct link wanted = { .inode = st->st_ino }, *link, **found;

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return NULL;
	found = tfind(&wanted, &p->links, compare_links);
	if (found)
		return (*found)->path;
	link = bh_malloc(sizeof *link);
	*link = (struct link){ st->st_ino, bh_strdup(path) };
	tsearch(link, &p->links, compare_links);
	return NULL;
}

static int add_target(struct pack *p, struct archive_entry *entry, int dir_fd, const char *name, const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, name, target, sizeof target - 1);

	if (n < 0)
		return bh_error_set(p->err, errno, "pack '%s': read the link", path);
	target[n] = '\0';
	archive_entry_copy_symlink(entry, target);
	return 0;
}

static int pack_entry(struct pack *p, int dir_fd, const char *name, const char *path, const struct stat *st)
{
	struct archive_entry *entry = archive_entry_new();
	const char *first = first_name(p, st, path);
	bh_auto_close int fd = -1;
	int r = 0;

	archive_entry_copy_pathname(entry, path);
	archive_entry_copy_stat(entry, st);
	archive_entry_unset_ctime(entry);
	archive_entry_unset_atime(entry);
	archive_entry_unset_birthtime(entry);
	if (first) {
		archive_entry_copy_hardlink(entry, first);
		archive_entry_set_size(entry, 0);
	} else {
		r = add_xattrs(p, entry, dir_fd, name, path);
	}
	if (r == 0 && S_ISLNK(st->st_mode) && !first)
		r = add_target(p, entry, dir_fd, name, path);
	if (!S_ISREG(st->st_mode))
		archive_entry_set_size(entry, 0);
	if (r == 0 && S_ISREG(st->st_mode) && !first) {
		fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
		r = fd < 0 ? bh_error_set(p->err, errno, "pack '%s': open", path) : add_holes(p, entry, fd, st, path);
	}
	if (r == 0)
		r = write_header(p, entry, path);
	archive_entry_free(entry);
	return r == 0 && fd >= 0 ? write_content(p, fd, st, path) : r;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_names(struct pack *p, int dir_fd, const char *path, struct bh_strv *names)
{
	bh_auto_close int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		return bh_error_set(p->err, errno, "pack '%s': list", path);
	fd = -1;
	while ((entry = readdir(dir)))
		if (!bh_streq(entry->d_name, ".") && !bh_streq(entry->d_name, ".."))
			bh_strv_add(names, entry->d_name);
	if (names->count)
		qsort(names->items, names->count, sizeof *names->items, compare_names);
	return 0;
}

static int pack_tree(struct pack *p, int dir_fd, const char *prefix, unsigned depth);

static int pack_name(struct pack *p, int dir_fd, const char *prefix, const char *name, unsigned depth)
{
	bh_auto_free char *path = bh_printf("%s%s", prefix, name);
	bh_auto_free char *folder = NULL;
	bh_auto_close int fd = -1;
	struct stat st;
	int r;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return bh_error_set(p->err, errno, "pack '%s'", path);
	if (S_ISSOCK(st.st_mode))
		return 0;
	if (!S_ISDIR(st.st_mode))
		return pack_entry(p, dir_fd, name, path, &st);
	folder = bh_printf("%s/", path);
	r = pack_entry(p, dir_fd, name, folder, &st);
	if (r < 0 || st.st_dev != p->device) /* what is mounted there is not part of the tree */
		return r;
	fd = bh_open_dir(dir_fd, name, O_NOFOLLOW, p->err);
	return fd < 0 ? fd : pack_tree(p, fd, folder, depth + 1);
}

static int pack_tree(struct pack *p, int dir_fd, const char *prefix, unsigned depth)
{
	bh_auto_strv struct bh_strv names = { 0 };
	int r;

	if (depth > DEPTH_MAX)
		return bh_error_text(p->err, ELOOP, "pack '%.200s': more than %d folders in each other", prefix, DEPTH_MAX);
	r = list_names(p, dir_fd, prefix, &names);
	for (size_t i = 0; r == 0 && i < names.count; i++)
		r = pack_name(p, dir_fd, prefix, names.items[i], depth);
	return r;
}

static int open_archive(struct pack *p)
{
	p->archive = archive_write_new();
	if (!p->archive)
		return bh_error_set(p->err, ENOMEM, "tar writer");
	archive_write_set_format_pax(p->archive);
	archive_write_set_options(p->archive, "hdrcharset=BINARY,xattrheader=SCHILY");
	archive_write_set_bytes_per_block(p->archive, (int)BLOCK_SIZE);
	archive_write_set_bytes_in_last_block(p->archive, 1);
	return archive_write_open(p->archive, p, NULL, write_bytes, NULL) == ARCHIVE_OK ? 0 : archive_failure(p, ".");
}

int bh_pack_folder(int folder_fd, bh_pack_write *write, void *context, struct bh_error *err)
{
	struct pack p = { .write = write, .context = context, .err = err };
	struct stat st;
	int r;

	if (fstat(folder_fd, &st) < 0)
		return bh_error_set(err, errno, "look at the folder");
	p.device = st.st_dev;
	p.block = bh_malloc(BLOCK_SIZE);
	p.names = bh_malloc(XATTR_LIST_MAX_BYTES);
	p.value = bh_malloc(XATTR_VALUE_MAX);
	r = open_archive(&p);
	if (r == 0)
		r = pack_entry(&p, folder_fd, ".", "./", &st);
	if (r == 0)
		r = pack_tree(&p, folder_fd, "", 0);
	if (r == 0 && archive_write_close(p.archive) != ARCHIVE_OK)
		r = archive_failure(&p, ".");
	archive_write_free(p.archive);
	tdestroy(p.links, free_link);
	free(p.block);
	free(p.names);
	free(p.value);
	return r;
}
