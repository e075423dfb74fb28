/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing an EROFS image (the format: fs/erofs/erofs_fs.h of the kernel, Documentation/filesystems/erofs.rst) in one walk.
 *
 * An inode is named by its place, `nid`: its offset in the image divided by 32. So a folder's entries can only be written when
 * all below it have their place, and those need the folder's own place for "..". But how long the entries are is known as
 * soon as the names are. Hence, for each folder: list and sort its names, give it a place, walk what is below, write it.
 * What is kept in memory are the names from the root down to the current folder, and the files that have several names.
 *
 * The image grows at its end only, by whole blocks: either the blocks of one file's data, or an extent in which inodes find
 * their places (an eighth of the image so far). So inodes are close to each other, and near the data they belong to.
 *
 *	| super block, inodes ... | data | data | inodes ... | data ...
 *
 * What follows an inode: its extended attributes, then, if its layout is "flat inline", the tail of its data that doesn't
 * fill a block. Linux wants that neither the inode nor the tail crosses a block's end (for a link: both in one block); where
 * no place fulfils that the tail gets a block of its own ("flat plain").
 *
 * The walk opens every file below its folder's fd without following links and looks at what it has opened: a tree that
 * changes meanwhile can't lead it elsewhere; a file that changes its size is a failure.
 */
#include "storage/erofs.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structures are written as they are in memory");

#define BLOCK BH_EROFS_BLOCK_SIZE
#define META_EXTENT_MIN (4 * BLOCK)
#define META_EXTENT_MAX (64 * BLOCK)
#define SLOT 32 /* an inode's place is a multiple of this */
#define XATTR_LIST_MAX_BYTES (64u << 10)
#define XATTR_VALUE_MAX (64u << 10)
#define XATTR_VALUE_FORMAT_MAX UINT16_MAX
#define DEPTH_MAX 512
#define CONTENT_SIZE (1u << 20) /* data of files up to this size is read at once */
#define OVERLAY_XATTRS "trusted.overlay."

#define SUPER_OFFSET 1024
#define SUPER_MAGIC 0xe0f5e1e2u
#define FEATURE_COMPAT_MTIME 2 /* the time of an inode is that of its last modification */

struct super_block {
	uint32_t magic, checksum, feature_compat;
	uint8_t block_bits, extension_slots;
	uint16_t root_nid;
	uint64_t inodes;
	uint64_t build_time; /* the modification time of compact inodes */
	uint32_t build_time_nsec, blocks, meta_block, xattr_block;
	uint8_t uuid[16], volume_name[16];
	uint32_t feature_incompat;
	uint8_t reserved[44];
};
_Static_assert(sizeof(struct super_block) == 128, "super block");

enum layout { LAYOUT_PLAIN = 0, LAYOUT_INLINE = 2 };
#define FORMAT_EXTENDED 1
#define FORMAT_LAYOUT_SHIFT 1

struct compact_inode {
	uint16_t format, xattr_count, mode, links;
	uint32_t size, reserved;
	uint32_t block_or_device, number;
	uint16_t uid, gid;
	uint32_t reserved2;
};
_Static_assert(sizeof(struct compact_inode) == 32, "compact inode");

struct extended_inode {
	uint16_t format, xattr_count, mode, reserved;
	uint64_t size;
	uint32_t block_or_device, number, uid, gid;
	uint64_t mtime;
	uint32_t mtime_nsec, links;
	uint8_t reserved2[16];
};
_Static_assert(sizeof(struct extended_inode) == 64, "extended inode");

struct xattr_header {
	uint32_t name_filter;
	uint8_t shared_count, reserved[7];
};

struct xattr_entry {
	uint8_t name_length, name_index;
	uint16_t value_size;
};

/* The beginning of a name is a number; the names of ACLs are nothing but their beginning. */
static const struct {
	const char *prefix;
	uint8_t index;
	bool whole;
} xattr_prefixes[] = {
	{ "user.", 1, false },     { "system.posix_acl_access", 2, true }, { "system.posix_acl_default", 3, true }, { "trusted.", 4, false },
	{ "security.", 6, false },
};

struct directory_entry {
	uint64_t nid;
	uint16_t name_offset;
	uint8_t type, reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct directory_entry) == 12, "directory entry");

struct writer {
	int out;
	dev_t device;
	struct timespec build_time;
	uint64_t end;               /* of the image so far, at the end of a block */
	uint64_t meta_at, meta_end; /* what is free of the current extent for inodes */
	uint64_t inodes;
	void *links; /* files with several names: struct link */
	char *content, *names, *value;
	struct bh_buf record; /* an inode under way, with its attributes and tail */
	struct bh_error *err;
};

/* An inode: what is known of it, where it goes. */
struct node {
	struct stat st;
	uint64_t size;
	uint32_t links;
	struct bh_buf xattrs; /* as they are written */
	bool compact;
	enum layout layout;
	uint64_t place;
	uint64_t data; /* offset of its whole blocks in the image */
	size_t tail;
};

struct link {
	dev_t device;
	ino_t inode;
	uint64_t place;
	uint32_t count;
};

struct name {
	char *text;
	size_t length;
	uint64_t nid;
	uint8_t type;
};

struct names {
	struct name *items;
	size_t count, capacity;
};

struct folder {
	int fd;
	const char *path; /* "" or "a/b/": for messages */
	uint64_t nid;
	unsigned depth;
};

static void names_clear(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i].text);
	free(names->items);
	*names = (struct names){ 0 };
}

static void node_clear(struct node *node)
{
	bh_buf_clear(&node->xattrs);
}

static int compare_links(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	if (x->device != y->device)
		return x->device > y->device ? 1 : -1;
	return (x->inode > y->inode) - (x->inode < y->inode);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

static int write_at(struct writer *w, const void *bytes, size_t size, uint64_t at)
{
	const char *from = bytes;

	while (size) {
		ssize_t n = pwrite(w->out, from, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return bh_error_set(w->err, n < 0 ? errno : EIO, "write the image");
		from += n;
		at += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static size_t inode_size(const struct node *node)
{
	return node->compact ? sizeof(struct compact_inode) : sizeof(struct extended_inode);
}

/* Would Linux read an inode at this place? */
static bool is_place(const struct node *node, uint64_t at)
{
	uint64_t tail_at = at + inode_size(node) + node->xattrs.length;

	if (at % BLOCK + inode_size(node) > BLOCK)
		return false;
	if (node->layout == LAYOUT_PLAIN)
		return true;
	if (S_ISLNK(node->st.st_mode))
		return at % BLOCK + (tail_at - at) + node->tail <= BLOCK;
	return tail_at % BLOCK + node->tail <= BLOCK;
}

/* Makes sure that so many bytes, and a block's end before them, are free for inodes in one piece. */
static void make_room(struct writer *w, uint64_t size)
{
	uint64_t extent = BH_MIN(BH_MAX(w->end / 8, META_EXTENT_MIN), META_EXTENT_MAX);

	if (w->meta_at + BLOCK + size <= w->meta_end)
		return;
	if (w->meta_end != w->end)
		w->meta_at = w->end;
	w->end += round_up(BH_MAX(size + BLOCK, extent), BLOCK);
	w->meta_end = w->end;
}

/* Decides on the layout and gives the inode its place. Its size and attributes are known. */
static void place_node(struct writer *w, struct node *node)
{
	uint64_t at;

	node->compact = node->size <= UINT32_MAX && node->st.st_uid <= UINT16_MAX && node->st.st_gid <= UINT16_MAX &&
			(S_ISDIR(node->st.st_mode) ? node->links <= UINT16_MAX : node->st.st_nlink == 1) &&
			node->st.st_mtim.tv_sec == w->build_time.tv_sec && node->st.st_mtim.tv_nsec == w->build_time.tv_nsec;
	node->tail = node->size % BLOCK;
	node->layout = node->tail && !(S_ISLNK(node->st.st_mode) && node->size >= BLOCK) ? LAYOUT_INLINE : LAYOUT_PLAIN;
	make_room(w, inode_size(node) + node->xattrs.length + node->tail);
	at = round_up(w->meta_at, SLOT);
	if (!is_place(node, at))
		at = round_up(at, BLOCK);
	if (!is_place(node, at)) {
		node->layout = LAYOUT_PLAIN;
		at = round_up(w->meta_at, SLOT);
		if (!is_place(node, at))
			at = round_up(at, BLOCK);
	}
	if (node->layout == LAYOUT_PLAIN)
		node->tail = 0;
	node->place = at;
	w->meta_at = at + inode_size(node) + node->xattrs.length + node->tail;
	node->data = w->end;
	w->end += round_up(node->size - node->tail, BLOCK);
	w->inodes++;
}

/* The inode itself and its attributes, in w->record; a tail may be added before it is written. */
static void build_record(struct writer *w, const struct node *node)
{
	const struct stat *st = &node->st;
	uint16_t format = (uint16_t)(node->layout << FORMAT_LAYOUT_SHIFT);
	size_t attributes = node->xattrs.length;
	uint16_t xattr_count = (uint16_t)(attributes ? (attributes - sizeof(struct xattr_header)) / sizeof(uint32_t) + 1 : 0);
	uint32_t where = (uint32_t)(node->data / BLOCK);

	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) /* the kernel's "new" encoding */
		where = (minor(st->st_rdev) & 0xff) | major(st->st_rdev) << 8 | (minor(st->st_rdev) & ~0xffu) << 12;
	else if (node->size == node->tail)
		where = 0;
	bh_buf_reset(&w->record);
	if (node->compact) {
		struct compact_inode inode = { format, xattr_count, (uint16_t)st->st_mode, (uint16_t)node->links, (uint32_t)node->size,
					       0,      where,       (uint32_t)w->inodes,   (uint16_t)st->st_uid,  (uint16_t)st->st_gid,
					       0 };

		bh_buf_add(&w->record, &inode, sizeof inode);
	} else {
		struct extended_inode inode = { .format = format | FORMAT_EXTENDED, .xattr_count = xattr_count, .mode = (uint16_t)st->st_mode };

		inode.size = node->size;
		inode.block_or_device = where;
		inode.number = (uint32_t)w->inodes;
		inode.uid = st->st_uid;
		inode.gid = st->st_gid;
		inode.mtime = (uint64_t)st->st_mtim.tv_sec;
		inode.mtime_nsec = (uint32_t)st->st_mtim.tv_nsec;
		inode.links = node->links;
		bh_buf_add(&w->record, &inode, sizeof inode);
	}
	bh_buf_add(&w->record, node->xattrs.data, attributes);
}

static int write_record(struct writer *w, const struct node *node)
{
	return write_at(w, w->record.data, w->record.length, node->place);
}

/* Adds one attribute to the inode's, unless the format has no name for it. */
static void add_xattr(struct node *node, const char *name, const char *value, size_t size)
{
	static const char zeros[sizeof(struct xattr_header)];
	struct xattr_entry entry = { .value_size = (uint16_t)size };
	size_t start, length = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(xattr_prefixes) && !entry.name_index; i++) {
		length = strlen(xattr_prefixes[i].prefix);
		if (strncmp(name, xattr_prefixes[i].prefix, length) == 0 && (!xattr_prefixes[i].whole || !name[length]))
			entry.name_index = xattr_prefixes[i].index;
	}
	if (!entry.name_index)
		return;
	name += length;
	length = strlen(name);
	entry.name_length = (uint8_t)length;
	if (node->xattrs.length == 0)
		bh_buf_add(&node->xattrs, zeros, sizeof(struct xattr_header));
	start = node->xattrs.length;
	bh_buf_add(&node->xattrs, &entry, sizeof entry);
	bh_buf_add(&node->xattrs, name, length);
	bh_buf_add(&node->xattrs, value, size);
	bh_buf_add(&node->xattrs, zeros, round_up(node->xattrs.length - start, sizeof(uint32_t)) - (node->xattrs.length - start));
}

/* `file` is a name below the folder, or "." for itself. */
static int read_xattrs(struct writer *w, const struct folder *folder, const char *file, struct node *node)
{
	bh_auto_free const char **words = NULL;
	char path[sizeof "/proc/self/fd/" + 12 + NAME_MAX];
	size_t count = 0, capacity = 0;
	ssize_t length;

	snprintf(path, sizeof path, "/proc/self/fd/%d/%s", folder->fd, file);
	length = llistxattr(path, w->names, XATTR_LIST_MAX_BYTES);
	if (length < 0)
		return errno == EOPNOTSUPP ? 0 : bh_error_set(w->err, errno, "%s%s: list its attributes", folder->path, file);
	for (const char *x = w->names; x < w->names + length; x += strlen(x) + 1) {
		if (bh_has_prefix(x, OVERLAY_XATTRS))
			continue;
		words = bh_grow(words, &capacity, count + 1, sizeof *words);
		words[count++] = x;
	}
	if (count)
		qsort(words, count, sizeof *words, compare_words);
	for (size_t i = 0; i < count; i++) {
		ssize_t size = lgetxattr(path, words[i], w->value, XATTR_VALUE_MAX);

		if (size < 0)
			return bh_error_set(w->err, errno, "%s%s: read attribute %s", folder->path, file, words[i]);
		if (size > XATTR_VALUE_FORMAT_MAX || node->xattrs.length > (UINT16_MAX - 1) * sizeof(uint32_t) - XATTR_VALUE_MAX * 2)
			return bh_error_text(w->err, E2BIG, "%s%s: attribute %s: too large for an EROFS image", folder->path, file, words[i]);
		add_xattr(node, words[i], w->value, (size_t)size);
	}
	return 0;
}

static int read_exactly(struct writer *w, int fd, char *to, size_t size, uint64_t at)
{
	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return bh_error_set(w->err, n < 0 ? errno : ESTALE, "read its content");
		to += n;
		at += (size_t)n;
		size -= (size_t)n;
	}
	return 0;
}

/* Copies bytes of the file into the image: in the kernel if both file systems are willing, which may share the blocks. */
static int copy_range(struct writer *w, int fd, uint64_t from, uint64_t to, uint64_t size)
{
	int r = 0;

	while (r == 0 && size) {
		off64_t in = (off64_t)from, out = (off64_t)to;
		ssize_t n = size > CONTENT_SIZE ? copy_file_range(fd, &in, w->out, &out, BH_MIN(size, 1ull << 30), 0) : -1;

		if (n <= 0) {
			n = (ssize_t)BH_MIN(size, CONTENT_SIZE);
			r = read_exactly(w, fd, w->content, (size_t)n, from);
			if (r == 0)
				r = write_at(w, w->content, (size_t)n, to);
		}
		from += (size_t)n;
		to += (size_t)n;
		size -= (size_t)n;
	}
	return r;
}

/* The whole blocks of a file with holes; the image gets the holes too. */
static int copy_sparse(struct writer *w, int fd, const struct node *node, uint64_t size)
{
	off_t data = 0;
	int r = 0;

	while (r == 0 && (uint64_t)data < size && (data = lseek(fd, data, SEEK_DATA)) >= 0 && (uint64_t)data < size) {
		off_t hole = lseek(fd, data, SEEK_HOLE);

		if (hole < 0)
			return bh_error_set(w->err, errno, "find its holes");
		r = copy_range(w, fd, (uint64_t)data, node->data + (uint64_t)data, BH_MIN((uint64_t)hole, size) - (uint64_t)data);
		data = hole;
	}
	if (r == 0 && data < 0 && errno != ENXIO)
		r = bh_error_set(w->err, errno, "find its data");
	return r;
}

static int copy_content(struct writer *w, int fd, const struct node *node)
{
	uint64_t whole = node->size - node->tail;
	bool sparse = (uint64_t)node->st.st_blocks * 512 < node->size && node->size >= 2 * BLOCK;
	int r;

	if (node->size <= CONTENT_SIZE && !sparse) {
		r = read_exactly(w, fd, w->content, (size_t)node->size, 0);
		if (r == 0)
			r = write_at(w, w->content, (size_t)whole, node->data);
		if (r == 0)
			bh_buf_add(&w->record, w->content + whole, node->tail);
		return r;
	}
	r = sparse ? copy_sparse(w, fd, node, whole) : copy_range(w, fd, 0, node->data, whole);
	if (r == 0)
		r = read_exactly(w, fd, w->content, node->tail, whole);
	if (r == 0)
		bh_buf_add(&w->record, w->content, node->tail);
	return r;
}

static int write_file(struct writer *w, const struct folder *folder, const char *name, struct node *node)
{
	/* Without waiting for anything that isn't the file it was a moment ago. */
	bh_auto_close int fd = openat(folder->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return bh_error_set(w->err, errno, "%s%s: open", folder->path, name);
	if (st.st_ino != node->st.st_ino || !S_ISREG(st.st_mode) || st.st_size != node->st.st_size)
		return bh_error_text(w->err, ESTALE, "%s%s: it was changed while the image was made", folder->path, name);
	node->size = (uint64_t)st.st_size;
	place_node(w, node);
	build_record(w, node);
	r = copy_content(w, fd, node);
	return r < 0 ? bh_error_prefix(w->err, "%s%s", folder->path, name) : write_record(w, node);
}

static int write_symlink(struct writer *w, const struct folder *folder, const char *name, struct node *node)
{
	ssize_t n = readlinkat(folder->fd, name, w->content, PATH_MAX);
	int r = 0;

	if (n < 0)
		return bh_error_set(w->err, errno, "%s%s: read the link", folder->path, name);
	node->size = (uint64_t)n;
	place_node(w, node);
	build_record(w, node);
	if (node->layout == LAYOUT_PLAIN)
		r = write_at(w, w->content, (size_t)n, node->data);
	else
		bh_buf_add(&w->record, w->content, (size_t)n);
	return r < 0 ? r : write_record(w, node);
}

static uint8_t entry_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFSOCK:
		return 6;
	default:
		return 7;
	}
}

/* Everything but a folder. */
static int write_leaf(struct writer *w, const struct folder *folder, struct name *name, struct node *node)
{
	struct link wanted = { node->st.st_dev, node->st.st_ino, 0, 1 }, **found, *link;
	int r;

	found = node->st.st_nlink > 1 ? tfind(&wanted, &w->links, compare_links) : NULL;
	if (found) {
		link = *found;
		name->nid = link->place / SLOT;
		link->count++; /* such an inode is an extended one */
		return write_at(w, &link->count, sizeof link->count, link->place + offsetof(struct extended_inode, links));
	}
	node->links = 1;
	r = read_xattrs(w, folder, name->text, node);
	if (r < 0)
		return r;
	if (S_ISREG(node->st.st_mode)) {
		r = write_file(w, folder, name->text, node);
	} else if (S_ISLNK(node->st.st_mode)) {
		r = write_symlink(w, folder, name->text, node);
	} else {
		place_node(w, node);
		build_record(w, node);
		r = write_record(w, node);
	}
	name->nid = node->place / SLOT;
	if (r == 0 && node->st.st_nlink > 1) {
		wanted.place = node->place;
		tsearch(bh_memdup(&wanted, sizeof wanted), &w->links, compare_links);
	}
	return r;
}

static void add_name(struct names *names, const char *text)
{
	names->items = bh_grow(names->items, &names->capacity, names->count + 1, sizeof *names->items);
	names->items[names->count++] = (struct name){ .text = bh_strdup(text), .length = strlen(text), .type = entry_type(S_IFDIR) };
}

static int list_names(struct writer *w, const struct folder *folder, struct names *names)
{
	bh_auto_close int fd = openat(folder->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir)
		return bh_error_set(w->err, errno, "%s: open", folder->path);
	fd = -1;
	while ((errno = 0, entry = readdir(dir)))
		if (!bh_streq(entry->d_name, ".") && !bh_streq(entry->d_name, ".."))
			add_name(names, entry->d_name);
	return errno ? bh_error_set(w->err, errno, "%s: list", folder->path) : 0;
}

/* How many of the names, from `first` on, fit into one block, and how many bytes they take there. */
static size_t block_of_names(const struct names *names, size_t first, size_t *ret_bytes)
{
	size_t bytes = 0, i;

	for (i = first; i < names->count && bytes + sizeof(struct directory_entry) + names->items[i].length <= BLOCK; i++)
		bytes += sizeof(struct directory_entry) + names->items[i].length;
	*ret_bytes = bytes;
	return i - first;
}

static uint64_t directory_size(const struct names *names)
{
	uint64_t size = 0;

	for (size_t i = 0, bytes = 0; i < names->count; size += i < names->count ? BLOCK : bytes)
		i += block_of_names(names, i, &bytes);
	return size;
}

/* A block begins with its entries, the names follow. The last block is not filled up. */
static int write_directory(struct writer *w, struct node *node, const struct names *names)
{
	char block[BLOCK];
	uint64_t at = 0;
	int r = 0;

	build_record(w, node);
	for (size_t i = 0, bytes, count; r == 0 && i < names->count; i += count, at += BLOCK) {
		struct directory_entry *entries = (struct directory_entry *)block;
		size_t offset;

		count = block_of_names(names, i, &bytes);
		offset = count * sizeof *entries;
		memset(block, 0, sizeof block);
		for (size_t k = 0; k < count; k++) {
			const struct name *name = &names->items[i + k];

			entries[k] = (struct directory_entry){ name->nid, (uint16_t)offset, name->type, 0 };
			memcpy(block + offset, name->text, name->length);
			offset += name->length;
		}
		if (at + BLOCK > node->size && node->layout == LAYOUT_INLINE)
			bh_buf_add(&w->record, block, node->tail);
		else
			r = write_at(w, block, BH_MIN(BLOCK, node->size - at), node->data + at);
	}
	return r < 0 ? r : write_record(w, node);
}

static int write_folder(struct writer *w, int fd, const char *path, uint64_t parent, unsigned depth, uint64_t *ret_nid);

static int write_name(struct writer *w, const struct folder *folder, struct name *name, struct node *parent)
{
	bh_auto(node_clear) struct node node = { 0 };
	bh_auto_free char *path = NULL;
	bh_auto_close int fd = -1;

	if (fstatat(folder->fd, name->text, &node.st, AT_SYMLINK_NOFOLLOW) < 0)
		return bh_error_set(w->err, errno, "%s%s", folder->path, name->text);
	name->type = entry_type(node.st.st_mode);
	if (!S_ISDIR(node.st.st_mode))
		return write_leaf(w, folder, name, &node);
	parent->links++;
	path = bh_printf("%s%s/", folder->path, name->text);
	fd = openat(folder->fd, name->text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return bh_error_set(w->err, errno, "%s: open", path);
	return write_folder(w, fd, path, folder->nid, folder->depth + 1, &name->nid);
}

/* A folder and all below it. The root is its own parent. */
static int write_folder(struct writer *w, int fd, const char *path, uint64_t parent, unsigned depth, uint64_t *ret_nid)
{
	bh_auto(names_clear) struct names names = { 0 };
	bh_auto(node_clear) struct node node = { .links = 2 };
	struct folder folder = { .fd = fd, .path = path, .depth = depth };
	int r;

	if (depth > DEPTH_MAX)
		return bh_error_text(w->err, ELOOP, "%.200s: more than %d folders in each other", path, DEPTH_MAX);
	if (fstat(fd, &node.st) < 0)
		return bh_error_set(w->err, errno, "%s", path);
	r = read_xattrs(w, &folder, ".", &node);
	if (r == 0 && node.st.st_dev == w->device) /* what is mounted there is not part of the tree */
		r = list_names(w, &folder, &names);
	if (r < 0)
		return r;
	add_name(&names, ".");
	add_name(&names, "..");
	qsort(names.items, names.count, sizeof *names.items, compare_names);
	node.size = directory_size(&names);
	node.links = (uint32_t)BH_MIN(names.count, UINT32_MAX); /* the most it can become: the kind of inode depends on it */
	place_node(w, &node);
	node.links = 2;
	folder.nid = node.place / SLOT;
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		if (bh_streq(names.items[i].text, "."))
			names.items[i].nid = folder.nid;
		else if (bh_streq(names.items[i].text, ".."))
			names.items[i].nid = depth ? parent : folder.nid;
		else
			r = write_name(w, &folder, &names.items[i], &node);
	}
	*ret_nid = folder.nid;
	return r < 0 ? r : write_directory(w, &node, &names);
}

static int write_super_block(struct writer *w, uint64_t root_nid)
{
	struct super_block super = {
		.magic = SUPER_MAGIC,
		.feature_compat = FEATURE_COMPAT_MTIME,
		.block_bits = BH_EROFS_BLOCK_BITS,
		.root_nid = (uint16_t)root_nid,
		.inodes = w->inodes,
		.build_time = (uint64_t)w->build_time.tv_sec,
		.build_time_nsec = (uint32_t)w->build_time.tv_nsec,
	};

	if (w->meta_end == w->end)
		w->end = round_up(w->meta_at, BLOCK);
	if (w->end / BLOCK > UINT32_MAX)
		return bh_error_text(w->err, EFBIG, "more data than an EROFS image can hold (16 TiB)");
	super.blocks = (uint32_t)(w->end / BLOCK);
	if (ftruncate(w->out, (off_t)w->end) < 0)
		return bh_error_set(w->err, errno, "set the image's size");
	return write_at(w, &super, sizeof super, SUPER_OFFSET);
}

int bh_erofs_write(int tree_fd, int out_fd, struct bh_erofs_stats *ret_stats, struct bh_error *err)
{
	struct writer w = { .out = out_fd, .err = err, .meta_at = SUPER_OFFSET + sizeof(struct super_block) };
	bh_auto_close int root = openat(tree_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a mount's fd may be O_PATH */
	uint64_t root_nid = 0;
	struct stat st;
	int r;

	if (root < 0 || fstat(root, &st) < 0)
		return bh_error_set(err, errno, "open the tree");
	w.device = st.st_dev;
	w.build_time = st.st_mtim;
	w.end = w.meta_end = META_EXTENT_MIN;
	w.content = bh_malloc(CONTENT_SIZE);
	w.names = bh_malloc(XATTR_LIST_MAX_BYTES);
	w.value = bh_malloc(XATTR_VALUE_MAX);
	r = write_folder(&w, root, "", 0, 0, &root_nid);
	if (r == 0)
		r = write_super_block(&w, root_nid);
	tdestroy(w.links, free);
	bh_buf_clear(&w.record);
	free(w.content);
	free(w.names);
	free(w.value);
	if (r == 0 && ret_stats)
		*ret_stats = (struct bh_erofs_stats){ w.inodes, w.end };
	return r < 0 ? bh_error_prefix(err, "EROFS image") : 0;
}
