/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unpacking side.
 *
 *  1. The destination is resolved once, to the descriptor of a folder, and perhaps the name that the archive's one tree gets there.
 *  2. A path in the archive is cut into components; `..` is refused. Its folder is opened below that descriptor with no link on the
 *     way; only for a foreign archive by the destination's path inside the root, where links lead no further than the root.
 *  3. The last component is looked at and made by system calls that don't follow it. What was made is opened, and recognised,
 *     before its owner, permissions and times are set through the descriptor: a name may be another file by then.
 *  4. A file is written without a name (O_TMPFILE) and linked when it is complete, so that whatever kills us leaves no half of one.
 *     Where the file system can't do that, it is removed after a failure. A file that is a mount point can't be replaced; it
 *     is written into.
 *  5. Permissions that would lock us out of a folder, and its times, which its content changes, are set at the end.
 */
#include "storage/storage-internal.h"
#include "storage/tar.h"

#include "base/file.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define LINKS_MAX 40
#define RACES_MAX 16
#define SET_ID_BITS 06000u

/* --- names ------------------------------------------------------------------------------------------------------------ */

void bh_transfer_name_split(const char *path, struct bh_transfer_name *ret_name)
{
	struct bh_transfer_name n = { 0 };
	size_t length = strlen(path);
	const char *slash;

	while (length > 1 && path[length - 1] == '/')
		length--;
	n.is_folder = path[length] == '/';
	n.text = length ? bh_strndup(path, length) : bh_strdup(".");
	slash = strrchr(n.text, '/');
	n.base = bh_strdup(slash ? slash + 1 : n.text);
	n.parent = !slash ? bh_strdup(".") : slash == n.text ? bh_strdup("/") : bh_strndup(n.text, (size_t)(slash - n.text));
	if (!*n.base || bh_streq(n.base, ".") || bh_streq(n.base, "..")) {
		bh_free_ptr(&n.base);
		n.is_folder = true;
	}
	*ret_name = n;
}

void bh_transfer_name_clear(struct bh_transfer_name *n)
{
	bh_free_ptr(&n->text);
	bh_free_ptr(&n->parent);
	bh_free_ptr(&n->base);
}

int bh_transfer_open(const struct bh_transfer_place *place, const char *path, int flags)
{
	int fd;

	if (place->root_fd >= 0)
		return bh_open_in_root(place->root_fd, path, flags);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

const char *bh_own_fd_path(int fd, char ret_path[BH_OWN_FD_PATH_MAX])
{
	snprintf(ret_path, BH_OWN_FD_PATH_MAX, "/proc/self/fd/%d", fd);
	return ret_path;
}

/* --- state ------------------------------------------------------------------------------------------------------------ */

/* What is set on a folder when everything is in it. */
struct pending {
	char *path;
	dev_t device;
	ino_t inode;
	unsigned mode;
	struct timespec mtime;
};

struct unpack {
	const struct bh_transfer_unpack *request;
	struct bh_tar_reader reader;
	struct bh_error *err;
	int base_fd;     /* the folder that everything goes below */
	char *base_path; /* of it, inside the root: for foreign archives */
	char *name;      /* the tree's new name; NULL: its own */
	bool is_file;    /* the destination is a file */
	bool must_be_folder;
	char *tree;        /* the one tree's name in the archive; NULL until its first entry, "" for content */
	char *parent_path; /* of parent_fd, the last folder used: entries come folder by folder */
	int parent_fd;
	struct pending *pending;
	size_t pending_count, pending_capacity;
};

/* An entry with its place. */
struct node {
	const struct bh_tar_entry *entry;
	char *path;       /* below base_fd, clean */
	const char *name; /* last component, in `path` */
	int parent_fd;    /* borrowed */
};

static int fail(const struct unpack *u, const struct node *n, int errnum, const char *what)
{
	return bh_error_set(u->err, errnum, "copy to '%.200s': %.400s: %s", u->request->destination.path, n->path, what);
}

static int refuse(const struct unpack *u, const char *path, const char *why)
{
	return bh_error_text(u->err, EPERM, "copy to '%.200s': tar entry '%.400s': %s", u->request->destination.path, path, why);
}

/* --- the destination -------------------------------------------------------------------------------------------------- */

/* Where a link that was found at parent_fd/name leads. */
static int follow(int parent_fd, const struct bh_transfer_name *name, char **ret_path)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(parent_fd, name->base, text, sizeof text - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	/* A slash behind the link's name stays behind its target. */
	*ret_path = bh_printf("%s%s%s%s", *text == '/' ? "" : name->parent, *text == '/' ? "" : "/", text, name->is_folder ? "/" : "");
	return 0;
}

/* One look at a path. If it was a link, *ret_next is where it leads. */
static int look(struct unpack *u, const char *path, char **ret_next)
{
	const struct bh_transfer_place *place = &u->request->destination;
	bh_auto(bh_transfer_name_clear) struct bh_transfer_name name;
	bh_auto_close int parent = -1;
	struct stat st;
	int r;

	bh_transfer_name_split(path, &name);
	if (!name.base) {
		u->base_fd = bh_transfer_open(place, name.text, O_PATH | O_DIRECTORY);
		u->base_path = bh_strdup(name.text);
		return u->base_fd < 0 ? u->base_fd : 0;
	}
	parent = r = bh_transfer_open(place, name.parent, O_PATH | O_DIRECTORY);
	if (r < 0)
		return r;
	if (fstatat(parent, name.base, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return -errno;
	} else if (S_ISLNK(st.st_mode)) {
		return follow(parent, &name, ret_next);
	} else if (S_ISDIR(st.st_mode)) {
		u->base_fd = openat(parent, name.base, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		u->base_path = bh_strdup(name.text);
		return u->base_fd < 0 ? -errno : 0;
	} else if (name.is_folder) {
		return -ENOTDIR;
	} else {
		u->is_file = true;
	}
	u->base_fd = BH_TAKE_FD(parent);
	u->base_path = bh_strdup(name.parent);
	u->name = BH_TAKE_PTR(name.base);
	u->must_be_folder = name.is_folder;
	return 0;
}

static int open_destination(struct unpack *u)
{
	const char *asked = u->request->destination.path;
	char *path = bh_strdup(asked);
	int r = 0;

	for (int i = 0; r == 0 && path && i < LINKS_MAX; i++) {
		char *next = NULL;

		r = look(u, path, &next);
		free(path);
		path = next;
	}
	if (r == 0 && path)
		r = -ELOOP;
	free(path);
	if (r == 0 && u->request->is_foreign && u->name)
		r = u->is_file ? -ENOTDIR : -ENOENT;
	return r < 0 ? bh_error_set(u->err, -r, "copy to '%s'", asked) : 0;
}

/* --- paths in the archive ----------------------------------------------------------------------------------------------- */

static int clean_path(struct unpack *u, const char *raw, char **ret_path)
{
	const char *why = bh_tar_clean_path(raw, BH_TRANSFER_DEPTH_MAX + 1, ret_path);

	return why ? refuse(u, raw, why) : 0;
}

/* The place of a path of the archive: what it is called below base_fd. */
static int place_path(struct unpack *u, const char *raw, char **ret_path)
{
	bh_auto_free char *clean = NULL;
	const char *rest;
	int r = clean_path(u, raw, &clean);

	if (r < 0)
		return r;
	if (u->request->is_foreign) {
		*ret_path = BH_TAKE_PTR(clean);
		return 0;
	}
	if (!bh_has_prefix(clean, u->tree))
		return refuse(u, raw, "it isn't part of what is copied");
	rest = clean + strlen(u->tree);
	if (*u->tree && *rest && *rest != '/')
		return refuse(u, raw, "it isn't part of what is copied");
	rest += *rest == '/';
	if (!u->name)
		*ret_path = BH_TAKE_PTR(clean);
	else
		*ret_path = *rest ? bh_printf("%s/%s", u->name, rest) : bh_strdup(u->name);
	return 0;
}

/* The first entry says what the source is: now it is known whether that can be copied here. */
static int begin_tree(struct unpack *u, const struct bh_tar_entry *e)
{
	const char *destination = u->request->destination.path;
	int r = clean_path(u, e->path, &u->tree);

	if (r < 0)
		return r;
	if (strchr(u->tree, '/') || (!*u->tree && e->type != BH_TAR_DIRECTORY))
		return refuse(u, e->path, "a copy can't begin with it");
	if (e->type == BH_TAR_DIRECTORY && u->is_file)
		return bh_error_text(u->err, ENOTDIR, "copy to '%s': cannot copy a directory onto a file", destination);
	if (e->type != BH_TAR_DIRECTORY && u->must_be_folder)
		return bh_error_text(u->err, ENOENT, "copy to '%s': no such directory", destination);
	return 0;
}

/* One component of a folder's path. */
static int open_component(int at, const char *name, bool make)
{
	int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && make && (mkdirat(at, name, 0755) == 0 || errno == EEXIST))
		fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_by_components(struct unpack *u, const char *path, bool make)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(path, '/');
	bh_auto_close int fd = -1;

	for (size_t i = 0; i < parts.count; i++) {
		int next = open_component(fd < 0 ? u->base_fd : fd, parts.items[i], make);

		if (next < 0)
			return next;
		bh_close_fd(&fd);
		fd = next;
	}
	return BH_TAKE_FD(fd);
}

static int open_inside_root(struct unpack *u, const char *path, bool make)
{
	bh_auto_free char *full = bh_printf("%s/%s", u->base_path, path);
	int fd = bh_open_in_root(u->request->destination.root_fd, full, O_PATH | O_DIRECTORY);

	if (fd != -ENOENT || !make)
		return fd;
	return bh_make_in_root(u->request->destination.root_fd, full, BH_NODE_DIRECTORY, NULL);
}

/* The folder at this path below the destination ("": that itself); made, with those above it, if it is missing. A new fd or -errno. */
static int open_folder(struct unpack *u, const char *path, bool make)
{
	int fd;

	if (!*path) {
		fd = fcntl(u->base_fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	if (u->request->is_foreign)
		return open_inside_root(u, path, make);
	fd = bh_openat2(u->base_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	return fd == -ENOENT || fd == -ENOSYS ? open_by_components(u, path, make) : fd;
}

static int open_parent(struct unpack *u, struct node *n)
{
	char *slash = strrchr(n->path, '/');
	bh_auto_free char *folder = bh_strndup(n->path, slash ? (size_t)(slash - n->path) : 0);

	n->name = slash ? slash + 1 : n->path;
	if (!u->parent_path || !bh_streq(u->parent_path, folder)) {
		int fd = open_folder(u, folder, true);

		if (fd == -ELOOP || fd == -ENOTDIR)
			return refuse(u, n->entry->path, "what should be its folder is none");
		if (fd < 0)
			return fail(u, n, -fd, "open its folder");
		bh_close_fd(&u->parent_fd);
		free(u->parent_path);
		u->parent_fd = fd;
		u->parent_path = BH_TAKE_PTR(folder);
	}
	n->parent_fd = u->parent_fd;
	return 0;
}

/* --- owner, permissions, times ---------------------------------------------------------------------------------------- */

static void owner_of(const struct unpack *u, const struct bh_tar_entry *e, uint32_t *ret_uid, uint32_t *ret_gid)
{
	*ret_uid = u->request->keep_owners ? e->uid : u->request->uid;
	*ret_gid = u->request->keep_owners ? e->gid : u->request->gid;
}

/* Bits that lend a file's owner to whoever executes it are meant for the owner that it had. */
static unsigned mode_of(const struct unpack *u, const struct bh_tar_entry *e)
{
	uint32_t uid, gid;

	owner_of(u, e, &uid, &gid);
	if (e->type == BH_TAR_DIRECTORY || u->request->keep_owners)
		return e->mode;
	return uid == e->uid && gid == e->gid && !u->request->drop_set_id ? e->mode : e->mode & ~SET_ID_BITS;
}

static int set_owner(const struct unpack *u, const struct node *n, int fd, const struct stat *st)
{
	uint32_t uid, gid;

	owner_of(u, n->entry, &uid, &gid);
	if (st->st_uid == uid && st->st_gid == gid)
		return 0;
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != EINVAL)
		return fail(u, n, errno, "set its owner");
	return bh_error_text(u->err, EINVAL, "copy to '%.200s': %.400s: its owner %u:%u isn't mapped in the container's user namespace",
			     u->request->destination.path, n->path, uid, gid);
}

static int set_xattrs(const struct unpack *u, const struct node *n, int fd)
{
	for (size_t i = 0; i < n->entry->xattr_count; i++) {
		const struct bh_tar_xattr *x = &n->entry->xattrs[i];
		bool is_capability = bh_streq(x->name, "security.capability");

		if (!bh_has_prefix(x->name, "user.") && !is_capability)
			continue; /* meant for another file system or policy than is here */
		if (is_capability && u->request->drop_set_id && !u->request->keep_owners)
			continue;
		if (fsetxattr(fd, x->name, x->value, x->size, 0) < 0 && errno != EOPNOTSUPP)
			return fail(u, n, errno, "set an attribute");
	}
	return 0;
}

static int set_times(const struct unpack *u, const struct node *n, int fd)
{
	const struct timespec times[] = { n->entry->mtime, n->entry->mtime };

	return futimens(fd, times) < 0 ? fail(u, n, errno, "set its times") : 0;
}

/* --- kinds of entries ------------------------------------------------------------------------------------------------- */

/* Makes way for an entry that is no folder. -EBUSY without words: something is mounted there. */
static int make_way(const struct unpack *u, const struct node *n)
{
	struct stat st;

	if (fstatat(n->parent_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : fail(u, n, errno, "look at what is there");
	if (S_ISDIR(st.st_mode))
		return bh_error_text(u->err, EISDIR, "copy to '%.200s': cannot overwrite directory '%.400s' with non-directory",
				     u->request->destination.path, n->path);
	if (unlinkat(n->parent_fd, n->name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EBUSY ? -EBUSY : fail(u, n, errno, "remove what is there");
}

static int busy(const struct unpack *u, const struct node *n)
{
	return fail(u, n, EBUSY, "something is mounted there");
}

/* What was made under this name, held; -ESTALE if it is something else by now. */
static int open_made(const struct node *n, mode_t type, struct stat *ret_st)
{
	int fd = openat(n->parent_fd, n->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) == 0 && (ret_st->st_mode & S_IFMT) == type && ret_st->st_nlink == 1)
		return fd;
	close(fd);
	return -ESTALE;
}

/* A link or special file: its permissions are those it was made with. */
static int finish_node(const struct unpack *u, const struct node *n, mode_t type)
{
	const struct timespec times[] = { n->entry->mtime, n->entry->mtime };
	struct stat st = { 0 };
	bh_auto_close int fd = open_made(n, type, &st);
	int r;

	if (fd < 0)
		return fail(u, n, -fd, "open what was made");
	r = set_owner(u, n, fd, &st);
	if (r == 0 && utimensat(n->parent_fd, n->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(u, n, errno, "set its times");
	return r;
}

/* Makes a node; again, if somebody else has just made something there. */
static int make_node(const struct unpack *u, const struct node *n, int (*make)(const struct node *n), const char *what)
{
	for (int i = 0; i < RACES_MAX; i++) {
		int r = make_way(u, n);

		if (r < 0)
			return r == -EBUSY ? busy(u, n) : r;
		if (make(n) == 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	return fail(u, n, errno, what);
}

static int make_symlink(const struct node *n)
{
	return symlinkat(n->entry->target, n->parent_fd, n->name);
}

static int unpack_symlink(struct unpack *u, struct node *n)
{
	int r = make_node(u, n, make_symlink, "make the link");

	return r < 0 ? r : finish_node(u, n, S_IFLNK);
}

static mode_t special_type(const struct bh_tar_entry *e)
{
	return e->type == BH_TAR_FIFO ? S_IFIFO : e->type == BH_TAR_CHARACTER_DEVICE ? S_IFCHR : S_IFBLK;
}

static int make_special(const struct node *n)
{
	return mknodat(n->parent_fd, n->name, special_type(n->entry) | (n->entry->mode & 0777), makedev(n->entry->major, n->entry->minor));
}

static int unpack_special(struct unpack *u, struct node *n)
{
	int r;

	if (n->entry->type != BH_TAR_FIFO && u->request->skip_devices)
		return 0;
	r = make_node(u, n, make_special, "make the special file");
	return r < 0 ? r : finish_node(u, n, special_type(n->entry));
}

/* Its other name was unpacked before. */
static int unpack_hard_link(struct unpack *u, struct node *n)
{
	struct node target = { .entry = n->entry };
	bh_auto_close int folder = -1;
	char *slash;
	int r = place_path(u, n->entry->target, &target.path);

	if (r < 0)
		return r;
	slash = strrchr(target.path, '/');
	if (slash)
		*slash = '\0';
	folder = open_folder(u, slash ? target.path : "", false);
	if (folder < 0)
		r = refuse(u, n->entry->path, "the file that it is a link to isn't there");
	/* The same name: nothing to do, and nothing to remove. */
	if (r == 0 && bh_streq(slash ? slash + 1 : target.path, n->name) && bh_streq(slash ? target.path : "", u->parent_path)) {
		free(target.path);
		return 0;
	}
	if (r == 0)
		r = make_way(u, n);
	if (r == -EBUSY)
		r = busy(u, n);
	else if (r == 0 && linkat(folder, slash ? slash + 1 : target.path, n->parent_fd, n->name, 0) < 0)
		r = fail(u, n, errno, "make the hard link");
	free(target.path);
	return r;
}

/* --- files ------------------------------------------------------------------------------------------------------------ */

static int write_content(struct unpack *u, const struct node *n, int fd)
{
	const void *bytes;
	ssize_t size;

	while ((size = bh_tar_content(&u->reader, &bytes, u->err)) > 0) {
		int r = bh_write_all(fd, bytes, (size_t)size);

		if (r < 0)
			return fail(u, n, -r, "write");
	}
	return (int)size;
}

/* Everything of a file but its name. */
static int fill_file(struct unpack *u, const struct node *n, int fd)
{
	struct stat st;
	int r = write_content(u, n, fd);

	if (r == 0 && fstat(fd, &st) < 0)
		r = fail(u, n, errno, "look at the new file");
	if (r == 0)
		r = set_owner(u, n, fd, &st);
	if (r == 0)
		r = set_xattrs(u, n, fd);
	if (r == 0 && fchmod(fd, mode_of(u, n->entry)) < 0)
		r = fail(u, n, errno, "set its permissions");
	return r < 0 ? r : set_times(u, n, fd);
}

/* A file that is a mount point keeps its place, owner and permissions, and gets the content. */
static int open_mounted_file(const struct unpack *u, const struct node *n)
{
	bh_auto_close int fd = openat(n->parent_fd, n->name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return fail(u, n, errno, "open the file that is mounted there");
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return busy(u, n);
	if (ftruncate(fd, 0) < 0)
		return fail(u, n, errno, "empty the file that is mounted there");
	return BH_TAKE_FD(fd);
}

static int copy_into_mounted(const struct unpack *u, const struct node *n, int from)
{
	bh_auto_close int to = open_mounted_file(u, n);
	off_t at = 0;
	ssize_t size;

	if (to < 0)
		return to;
	do
		size = sendfile(to, from, &at, 1u << 30);
	while (size > 0);
	return size < 0 ? fail(u, n, errno, "write") : set_times(u, n, to);
}

static int link_file(struct unpack *u, const struct node *n, int fd)
{
	char own[BH_OWN_FD_PATH_MAX];

	bh_own_fd_path(fd, own);
	for (int i = 0; i < RACES_MAX; i++) {
		int r = make_way(u, n);

		if (r == -EBUSY)
			return copy_into_mounted(u, n, fd);
		if (r < 0)
			return r;
		if (linkat(AT_FDCWD, own, n->parent_fd, n->name, AT_SYMLINK_FOLLOW) == 0)
			return 0;
		if (errno != EEXIST)
			return fail(u, n, errno, "give the file its name");
	}
	return fail(u, n, EEXIST, "give the file its name");
}

/* Where the file system has no files without a name. */
static int unpack_in_place(struct unpack *u, const struct node *n)
{
	bh_auto_close int fd = -1;
	int r = make_way(u, n);

	if (r == -EBUSY) {
		fd = open_mounted_file(u, n);
		r = fd < 0 ? fd : write_content(u, n, fd);
		return r < 0 ? r : set_times(u, n, fd);
	}
	if (r < 0)
		return r;
	fd = openat(n->parent_fd, n->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(u, n, errno, "create");
	r = fill_file(u, n, fd);
	if (r < 0)
		unlinkat(n->parent_fd, n->name, 0);
	return r;
}

static int unpack_file(struct unpack *u, struct node *n)
{
	bh_auto_close int fd = -1;
	struct stat st;
	int r;

	/* Before anything is read: a mistake is known at once. */
	if (fstatat(n->parent_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return make_way(u, n);
	fd = openat(n->parent_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT))
		return unpack_in_place(u, n);
	if (fd < 0)
		return fail(u, n, errno, "create");
	r = fill_file(u, n, fd);
	return r < 0 ? r : link_file(u, n, fd);
}

/* --- folders ---------------------------------------------------------------------------------------------------------- */

static void keep_pending(struct unpack *u, const struct node *n, const struct stat *st)
{
	u->pending = bh_grow(u->pending, &u->pending_capacity, u->pending_count + 1, sizeof *u->pending);
	u->pending[u->pending_count++] = (struct pending){ bh_strdup(n->path), st->st_dev, st->st_ino, mode_of(u, n->entry), n->entry->mtime };
}

static int open_new_folder(const struct unpack *u, const struct node *n)
{
	struct stat st;
	int fd;

	if (mkdirat(n->parent_fd, n->name, 0700) < 0 && errno != EEXIST)
		return fail(u, n, errno, "make the folder");
	fd = openat(n->parent_fd, n->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	if ((errno == ENOTDIR || errno == ELOOP) && fstatat(n->parent_fd, n->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return bh_error_text(u->err, ENOTDIR, "copy to '%.200s': cannot overwrite non-directory '%.400s' with directory",
				     u->request->destination.path, n->path);
	return fail(u, n, errno, "open the folder");
}

static int unpack_folder(struct unpack *u, struct node *n)
{
	bh_auto_close int fd = open_new_folder(u, n);
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return fail(u, n, errno, "look at the folder");
	r = set_owner(u, n, fd, &st);
	if (r == 0)
		r = set_xattrs(u, n, fd);
	if (r == 0 && fchmod(fd, mode_of(u, n->entry) | 0700) < 0)
		r = fail(u, n, errno, "set its permissions");
	if (r == 0)
		keep_pending(u, n, &st);
	return r;
}

/* What somebody has exchanged meanwhile is left as it is. */
static int finish_folders(struct unpack *u)
{
	for (size_t i = u->pending_count; i-- > 0;) {
		const struct pending *p = &u->pending[i];
		const struct timespec times[] = { p->mtime, p->mtime };
		struct node n = { .path = p->path };
		bh_auto_close int held = open_folder(u, p->path, false);
		bh_auto_close int fd = held < 0 ? -1 : openat(held, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != p->device || st.st_ino != p->inode)
			continue;
		if ((p->mode | 0700) != p->mode && fchmod(fd, p->mode) < 0)
			return fail(u, &n, errno, "set its permissions");
		if (futimens(fd, times) < 0)
			return fail(u, &n, errno, "set its times");
	}
	return 0;
}

/* --- all of it -------------------------------------------------------------------------------------------------------- */

static int unpack_node(struct unpack *u, struct node *n)
{
	switch (n->entry->type) {
	case BH_TAR_FILE:
		return unpack_file(u, n);
	case BH_TAR_DIRECTORY:
		return unpack_folder(u, n);
	case BH_TAR_SYMLINK:
		return unpack_symlink(u, n);
	case BH_TAR_HARD_LINK:
		return unpack_hard_link(u, n);
	default:
		return unpack_special(u, n);
	}
}

static int unpack_entry(struct unpack *u, const struct bh_tar_entry *e)
{
	struct node n = { .entry = e };
	int r = u->tree || u->request->is_foreign ? 0 : begin_tree(u, e);

	if (r < 0)
		return r;
	r = place_path(u, e->path, &n.path);
	if (r < 0 || !n.path)
		return r;
	if (!*n.path) /* the destination itself, which is there */
		r = e->type == BH_TAR_DIRECTORY ? 0 : refuse(u, e->path, "the destination is a folder");
	else
		r = open_parent(u, &n);
	if (r == 0 && *n.path)
		r = unpack_node(u, &n);
	free(n.path);
	return r;
}

static int unpack_all(struct unpack *u)
{
	int r;

	do {
		struct bh_tar_entry entry = { 0 };

		r = bh_tar_next(&u->reader, &entry, u->err);
		if (r > 0) {
			int failed = unpack_entry(u, &entry);

			r = failed < 0 ? failed : 1;
		}
		bh_tar_entry_clear(&entry);
	} while (r > 0);
	if (r == 0 && !u->tree && !u->request->is_foreign)
		r = bh_error_text(u->err, EBADMSG, "copy to '%s': the tar archive is empty", u->request->destination.path);
	return r < 0 ? r : finish_folders(u);
}

int bh_transfer_unpack(const struct bh_transfer_unpack *request, int fd, uint64_t *ret_bytes, struct bh_error *err)
{
	struct unpack u = { .request = request, .err = err, .base_fd = -1, .parent_fd = -1 };
	mode_t mask = umask(0);
	int r = open_destination(&u);

	bh_tar_reader_init(&u.reader, fd);
	if (r == 0)
		r = unpack_all(&u);
	if (r == 0)
		r = bh_tar_drain(&u.reader, u.err);
	umask(mask);
	if (r == 0 && ret_bytes)
		*ret_bytes = u.reader.bytes;
	bh_tar_reader_clear(&u.reader);
	bh_close_fd(&u.base_fd);
	bh_close_fd(&u.parent_fd);
	free(u.base_path);
	free(u.name);
	free(u.tree);
	free(u.parent_path);
	for (size_t i = 0; i < u.pending_count; i++)
		free(u.pending[i].path);
	free(u.pending);
	return r;
}

int bh_transfer_serve(const struct bh_transfer_request *request, int root_fd, bool skip_devices, int in_fd, int out_fd, struct bh_error *err)
{
	const struct bh_transfer_place place = { root_fd, request->path };
	const struct bh_transfer_unpack unpack = {
		.destination = { root_fd, request->path },
		.is_foreign = request->is_foreign,
		.keep_owners = request->keep_owners,
		.skip_devices = skip_devices,
	};

	if (request->is_unpack)
		return bh_transfer_unpack(&unpack, in_fd, NULL, err);
	return bh_transfer_pack(&place, request->follow_link, out_fd, NULL, err);
}
