/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking a layer.
 *
 * The archive is hostile. libarchive takes the tar format apart (in the C locale, where it keeps names as the bytes they
 * are; a UTF-8 locale would make it compose characters). Everything that touches the file system is done here:
 *
 *  1. A path is cut into components; "..", and names the kernel couldn't hold, are refused; a leading slash is dropped.
 *  2. Parents are opened below the layer's folder with openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS): a link that the
 *     archive brought can't be a parent, wherever it points. Without openat2 (Linux < 5.6) each component is opened with
 *     O_NOFOLLOW. Missing parents are made.
 *  3. The last component is created exclusively; what was there is removed first, so a later entry replaces an earlier
 *     one and nothing is ever written through a link.
 *  4. Hard links are resolved like paths; the target must be in the layer.
 *  5. Owner, attributes, mode, times are set in this order, through the file's own fd, since chown clears capabilities
 *     and setuid bits. Times of folders, and their default ACLs, are set at the end: filling a folder changes the
 *     first, and the second would be inherited.
 *
 * Whiteouts (layer.md): `.wh.NAME` becomes a character device 0:0, unless this layer brings NAME itself: then the file
 * simply hides the lower one, and a folder becomes opaque, which means the same. `.wh..wh..opq` makes its folder opaque.
 * Other names that begin with `.wh..wh.` are aufs's private files and are skipped. A device 0:0 or an attribute
 * trusted.overlay.* in the archive itself would speak to overlayfs directly, and is refused.
 */
#include "storage/layer.h"

#include "base/file.h"
#include "storage/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <linux/openat2.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define WHITEOUT ".wh."
#define WHITEOUT_META ".wh..wh."
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define XATTR_OPAQUE "trusted.overlay.opaque"
#define XATTR_OVERLAY "trusted.overlay."
#define XATTR_DEFAULT_ACL "system.posix_acl_default"
#define SPACE_KEPT_MAX ((uint64_t)256 << 20) /* free space that unpacking leaves */

bool bh_layer_without_openat2;

/* What is set on a folder when everything is in it. */
struct pending {
	char *path; /* "" = the root */
	struct timespec times[2];
	void *default_acl;
	size_t default_acl_size;
};

struct apply {
	struct archive *archive;
	struct bh_chunks chunks;
	struct bh_error *err;
	struct bh_error chunk_error;
	const void *chunk;
	size_t chunk_size;
	uint64_t chunk_end; /* position of the chunk's end in the archive */
	int root_fd;
	char *parent_path; /* of parent_fd; the last folder used, since entries come folder by folder */
	int parent_fd;
	bool forget_parent; /* something was removed: parent_fd may be a folder that is no longer there */
	struct pending *pending;
	size_t pending_count, pending_capacity;
	uint64_t bytes_max, entries;
	bool no_openat2;
	struct bh_layer_stats stats;
};

/* One entry, taken apart. */
struct entry {
	struct archive_entry *raw;
	char *path;       /* relative, clean; "" = the root */
	const char *name; /* last component, in `path` */
	int parent_fd;    /* borrowed */
};

static la_ssize_t read_chunk(struct archive *archive, void *context, const void **ret_bytes)
{
	struct apply *a = context;
	ssize_t n = a->chunks.next(a->chunks.context, ret_bytes, &a->chunk_error);

	if (n < 0) {
		archive_set_error(archive, (int)-n, "%s", a->chunk_error.message);
		return ARCHIVE_FATAL;
	}
	a->chunk = *ret_bytes;
	a->chunk_size = (size_t)n;
	a->chunk_end += (uint64_t)n;
	return n;
}

/* The error of a libarchive call: ours if reading failed, else its own words. */
static int archive_failure(struct apply *a, const char *what)
{
	const char *words = archive_error_string(a->archive);

	if (a->chunk_error.message[0]) {
		if (a->err)
			*a->err = a->chunk_error;
		return -a->chunk_error.errnum;
	}
	return bh_error_text(a->err, EBADMSG, "%s: %s", what, words ? words : "damaged tar archive");
}

static int fail(struct apply *a, const struct entry *e, int errnum, const char *what)
{
	return bh_error_set(a->err, errnum, "layer entry '%.200s': %s", e->path, what);
}

static int refuse(struct apply *a, const char *path, const char *why)
{
	return bh_error_text(a->err, EPERM, "layer entry '%.200s': %s", path, why);
}

static int clean_path(struct apply *a, const char *raw, char **ret_path)
{
	const char *why = !raw                            ? "no path" :
			  strlen(raw) > BH_LAYER_PATH_MAX ? "the path is too long" :
							    bh_tar_clean_path(raw, BH_LAYER_DEPTH_MAX, ret_path);

	return why ? refuse(a, raw ? raw : "", why) : 0;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int set_opaque(int parent_fd, const char *name)
{
	bh_auto_close int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || fsetxattr(fd, XATTR_OPAQUE, "y", 1, 0) < 0 ? -errno : 0;
}

/* One component of a parent path: opens it, making it if it is missing (or was only whited out). */
static int open_component(int at, const char *name)
{
	struct stat st;
	int fd;

	for (int attempt = 0; attempt < 2; attempt++) {
		fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno == ENOENT) {
			if (mkdirat(at, name, 0755) < 0)
				return -errno;
		} else if (errno == ENOTDIR && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_whiteout(&st)) {
			if (unlinkat(at, name, 0) < 0 || mkdirat(at, name, 0755) < 0)
				return -errno;
			fd = set_opaque(at, name);
			if (fd < 0)
				return fd;
		} else {
			return -errno;
		}
	}
	return -ENOENT;
}

static int open_by_components(struct apply *a, const char *path)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(path, '/');
	bh_auto_close int fd = -1;

	for (size_t i = 0; i < parts.count; i++) {
		int next = open_component(fd < 0 ? a->root_fd : fd, parts.items[i]);

		if (next < 0)
			return next;
		bh_close_fd(&fd);
		fd = next;
	}
	return BH_TAKE_FD(fd);
}

static int open_beneath(struct apply *a, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_DIRECTORY | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};
	int fd = a->no_openat2 ? -1 : (int)syscall(SYS_openat2, a->root_fd, path, &how, sizeof how);

	if (fd >= 0)
		return fd;
	if (!a->no_openat2 && errno != ENOSYS)
		return -errno;
	a->no_openat2 = true;
	return -ENOSYS;
}

/* Opens (and makes) the folder that holds `path`. *ret_name is the last component. The fd stays ours. */
static int open_parent(struct apply *a, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	bh_auto_free char *parent = bh_strndup(path, slash ? (size_t)(slash - path) : 0);
	int fd;

	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return a->root_fd;
	if (a->parent_fd >= 0 && !a->forget_parent && bh_streq(a->parent_path, parent))
		return a->parent_fd;
	fd = open_beneath(a, parent, O_PATH);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ENOSYS)
		fd = open_by_components(a, parent);
	if (fd == -ELOOP || fd == -ENOTDIR)
		return bh_error_text(a->err, EPERM, "layer entry '%.200s': its folder is a link or not a folder in this layer", path);
	if (fd < 0)
		return bh_error_set(a->err, -fd, "layer entry '%.200s': open its folder", path);
	bh_close_fd(&a->parent_fd);
	free(a->parent_path);
	a->parent_fd = fd;
	a->forget_parent = false;
	a->parent_path = BH_TAKE_PTR(parent);
	return fd;
}

/* Removes what an earlier entry made under this name. */
static int clear_name(struct apply *a, const struct entry *e)
{
	struct bh_error why = BH_ERROR_INIT;

	a->forget_parent = true;
	if (bh_remove_tree_at(e->parent_fd, e->name, &why) < 0)
		return bh_error_text(a->err, why.errnum, "layer entry '%.200s': replace: %s", e->path, why.message);
	return 0;
}

/* Sizes and magic numbers of struct vfs_cap_data, versions 2 and 3. */
static bool is_capability(const void *value, size_t size)
{
	uint32_t magic;

	if (size != XATTR_CAPS_SZ_2 && size != XATTR_CAPS_SZ_3)
		return false;
	memcpy(&magic, value, sizeof magic);
	magic = le32toh(magic) & VFS_CAP_REVISION_MASK;
	return magic == (size == XATTR_CAPS_SZ_2 ? VFS_CAP_REVISION_2 : VFS_CAP_REVISION_3);
}

static int check_xattr(struct apply *a, const struct entry *e, const char *name, const void *value, size_t size)
{
	if (bh_has_prefix(name, XATTR_OVERLAY))
		return bh_error_text(a->err, EPERM, "layer entry '%.200s': attribute %.80s would speak to overlayfs", e->path, name);
	if (size > BH_LAYER_XATTR_SIZE_MAX)
		return bh_error_text(a->err, E2BIG, "layer entry '%.200s': attribute %.80s has %zu bytes", e->path, name, size);
	if (bh_streq(name, XATTR_NAME_CAPS) && !is_capability(value, size))
		return bh_error_text(a->err, EINVAL, "layer entry '%.200s': malformed file capabilities", e->path);
	return 0;
}

/* Labels of security modules that don't run here, and attributes that this kind of file can't have, are left out. */
static bool may_skip_xattr(const char *name, int errnum)
{
	if (bh_streq(name, XATTR_NAME_CAPS))
		return false;
	return errnum == EOPNOTSUPP || (errnum == EPERM && (bh_has_prefix(name, "user.") || bh_has_prefix(name, "security."))) ||
	       (errnum == EINVAL && bh_has_prefix(name, "security."));
}

/* fd >= 0: through the fd. Else by name: the folder is entered first, since links have no fd that takes attributes. */
static int set_xattrs(struct apply *a, const struct entry *e, int fd, struct pending *pending)
{
	int count = archive_entry_xattr_reset(e->raw);
	const char *name;
	const void *value;
	size_t size;

	if (count > BH_LAYER_XATTRS_MAX)
		return fail(a, e, E2BIG, "extended attributes");
	if (count > 0 && fd < 0 && fchdir(e->parent_fd) < 0)
		return fail(a, e, errno, "enter its folder");
	while (archive_entry_xattr_next(e->raw, &name, &value, &size) == ARCHIVE_OK) {
		int r = check_xattr(a, e, name, value, size);

		if (r < 0)
			return r;
		if (pending && bh_streq(name, XATTR_DEFAULT_ACL)) {
			free(pending->default_acl);
			pending->default_acl = bh_memdup(value, size);
			pending->default_acl_size = size;
			continue;
		}
		r = fd >= 0 ? fsetxattr(fd, name, value, size, 0) : lsetxattr(e->name, name, value, size, 0);
		if (r < 0 && !may_skip_xattr(name, errno))
			return bh_error_set(a->err, errno, "layer entry '%.200s': set attribute %.80s", e->path, name);
	}
	return 0;
}

static int check_owner(struct apply *a, const struct entry *e, uid_t *ret_uid, gid_t *ret_gid)
{
	int64_t uid = archive_entry_uid(e->raw), gid = archive_entry_gid(e->raw);

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return bh_error_text(a->err, ERANGE, "layer entry '%.200s': owner %lld:%lld", e->path, (long long)uid, (long long)gid);
	*ret_uid = (uid_t)uid;
	*ret_gid = (gid_t)gid;
	return 0;
}

static struct timespec time_of(time_t seconds, long nanoseconds)
{
	return (struct timespec){ seconds, nanoseconds < 0 || nanoseconds > 999999999 ? 0 : nanoseconds };
}

static void entry_times(const struct entry *e, struct timespec ret_times[2])
{
	ret_times[1] = time_of(archive_entry_mtime(e->raw), archive_entry_mtime_nsec(e->raw));
	ret_times[0] = ret_times[1];
	if (archive_entry_atime_is_set(e->raw))
		ret_times[0] = time_of(archive_entry_atime(e->raw), archive_entry_atime_nsec(e->raw));
}

static mode_t entry_mode(const struct entry *e)
{
	return archive_entry_perm(e->raw) & 07777;
}

/* Owner, attributes, mode of an open file or folder. */
static int set_by_fd(struct apply *a, const struct entry *e, int fd, struct pending *pending)
{
	uid_t uid = 0;
	gid_t gid = 0;
	int r = check_owner(a, e, &uid, &gid);

	if (r == 0 && fchown(fd, uid, gid) < 0)
		r = fail(a, e, errno, "set its owner");
	if (r == 0)
		r = set_xattrs(a, e, fd, pending);
	if (r == 0 && fchmod(fd, entry_mode(e)) < 0)
		r = fail(a, e, errno, "set its mode");
	return r;
}

/* The same for links, devices and pipes, which must not be opened. */
static int set_by_name(struct apply *a, const struct entry *e, bool has_mode)
{
	struct timespec times[2];
	uid_t uid = 0;
	gid_t gid = 0;
	int r = check_owner(a, e, &uid, &gid);

	entry_times(e, times);
	if (r == 0 && fchownat(e->parent_fd, e->name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		r = fail(a, e, errno, "set its owner");
	if (r == 0)
		r = set_xattrs(a, e, -1, NULL);
	if (r == 0 && has_mode && fchmodat(e->parent_fd, e->name, entry_mode(e), 0) < 0)
		r = fail(a, e, errno, "set its mode");
	if (r == 0 && utimensat(e->parent_fd, e->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = fail(a, e, errno, "set its times");
	return r;
}

static int check_size(struct apply *a, const struct entry *e, int64_t size)
{
	if (size < 0 || (uint64_t)size > BH_LAYER_BYTES_MAX)
		return bh_error_text(a->err, EFBIG, "layer entry '%.200s': a file of %lld bytes", e->path, (long long)size);
	return 0;
}

/* Writes the blocks where they belong, so that holes stay holes. */
static int write_blocks(struct apply *a, const struct entry *e, int fd)
{
	int64_t end = 0;

	for (;;) {
		const void *block;
		size_t size;
		la_int64_t offset;
		int r = archive_read_data_block(a->archive, &block, &size, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return archive_failure(a, e->path);
		a->stats.bytes += size;
		if (a->stats.bytes > a->bytes_max)
			return bh_error_text(a->err, ENOSPC, "layer entry '%.200s': the layer is larger than %llu bytes, the limit or the free space",
					     e->path, (unsigned long long)a->bytes_max);
		r = check_size(a, e, offset + (int64_t)size);
		if (r < 0)
			return r;
		end = offset + (int64_t)size;
		while (size) {
			ssize_t n = pwrite(fd, block, size, offset);

			if (n < 0 && errno != EINTR)
				return fail(a, e, errno, "write");
			n = BH_MAX(n, 0);
			block = (const char *)block + n;
			size -= (size_t)n;
			offset += n;
		}
	}
	if (archive_entry_size(e->raw) > end && ftruncate(fd, archive_entry_size(e->raw)) < 0)
		return fail(a, e, errno, "set its size");
	return 0;
}

static int apply_file(struct apply *a, const struct entry *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	bh_auto_close int fd = -1;
	struct timespec times[2];
	int r = check_size(a, e, archive_entry_size(e->raw));

	if (r < 0)
		return r;
	fd = openat(e->parent_fd, e->name, flags, 0600);
	if (fd < 0 && errno == EEXIST) {
		r = clear_name(a, e);
		if (r < 0)
			return r;
		fd = openat(e->parent_fd, e->name, flags, 0600);
	}
	if (fd < 0)
		return fail(a, e, errno, "create");
	r = write_blocks(a, e, fd);
	if (r == 0)
		r = set_by_fd(a, e, fd, NULL);
	entry_times(e, times);
	if (r == 0 && futimens(fd, times) < 0)
		r = fail(a, e, errno, "set its times");
	return r;
}

static struct pending *add_pending(struct apply *a, const struct entry *e)
{
	struct pending *p;

	a->pending = bh_grow(a->pending, &a->pending_capacity, a->pending_count + 1, sizeof *a->pending);
	p = &a->pending[a->pending_count++];
	*p = (struct pending){ .path = bh_strdup(e->path) };
	entry_times(e, p->times);
	return p;
}

/* An earlier entry's attributes don't belong to the one that replaces it. */
static void clear_xattrs(int fd)
{
	char names[4096];
	ssize_t length = flistxattr(fd, names, sizeof names);

	for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1)
		if (!bh_has_prefix(name, XATTR_OVERLAY))
			fremovexattr(fd, name);
}

/* A folder that is there keeps its content; a whiteout in its place means that the folder is opaque. */
static int enter_existing(struct apply *a, const struct entry *e)
{
	struct stat st;
	bool whiteout;
	int r;

	if (fstatat(e->parent_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(a, e, errno, "look at it");
	if (S_ISDIR(st.st_mode))
		return 0;
	whiteout = is_whiteout(&st);
	r = clear_name(a, e);
	if (r == 0 && mkdirat(e->parent_fd, e->name, 0700) < 0)
		r = fail(a, e, errno, "create");
	if (r == 0 && whiteout && set_opaque(e->parent_fd, e->name) < 0)
		r = fail(a, e, errno, "make it opaque");
	return r;
}

static int apply_folder(struct apply *a, const struct entry *e)
{
	bh_auto_close int fd = -1;
	int r = 0;

	if (*e->path && mkdirat(e->parent_fd, e->name, 0700) < 0)
		r = errno == EEXIST ? enter_existing(a, e) : fail(a, e, errno, "create");
	if (r < 0)
		return r;
	fd = openat(e->parent_fd, *e->path ? e->name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail(a, e, errno, "open");
	clear_xattrs(fd);
	return set_by_fd(a, e, fd, add_pending(a, e));
}

static int apply_symlink(struct apply *a, const struct entry *e)
{
	const char *target = archive_entry_symlink(e->raw);
	int r;

	if (!target || !*target || strlen(target) > BH_LAYER_PATH_MAX)
		return refuse(a, e->path, "a symbolic link without target, or with one that is too long");
	if (symlinkat(target, e->parent_fd, e->name) < 0) {
		r = errno == EEXIST ? clear_name(a, e) : fail(a, e, errno, "create");
		if (r == 0 && symlinkat(target, e->parent_fd, e->name) < 0)
			r = fail(a, e, errno, "create");
		if (r < 0)
			return r;
	}
	return set_by_name(a, e, false);
}

static int apply_node(struct apply *a, const struct entry *e)
{
	mode_t mode = (mode_t)archive_entry_filetype(e->raw) | 0600;
	dev_t device = S_ISCHR(mode) || S_ISBLK(mode) ? makedev(archive_entry_rdevmajor(e->raw), archive_entry_rdevminor(e->raw)) : 0;
	int r;

	if (S_ISCHR(mode) && device == makedev(0, 0))
		return refuse(a, e->path, "a character device 0:0 would be taken for a whiteout");
	if (mknodat(e->parent_fd, e->name, mode, device) < 0) {
		r = errno == EEXIST ? clear_name(a, e) : fail(a, e, errno, "create");
		if (r == 0 && mknodat(e->parent_fd, e->name, mode, device) < 0)
			r = fail(a, e, errno, "create");
		if (r < 0)
			return r;
	}
	return set_by_name(a, e, true);
}

static int link_to(struct apply *a, const struct entry *e, const char *target)
{
	bh_auto_free char *clean = NULL;
	bh_auto_close int parent = -1;
	const char *name = NULL;
	struct stat st;
	int r = clean_path(a, target, &clean), at;

	if (r < 0 || !clean)
		return r;
	if (!*clean || bh_streq(clean, e->path))
		return refuse(a, e->path, "a hard link to itself or to the root");
	/* The folder of the link itself must stay open while the one of its target is looked up. */
	parent = fcntl(e->parent_fd, F_DUPFD_CLOEXEC, 0);
	at = open_parent(a, clean, &name);
	if (parent < 0 || at < 0)
		return at < 0 ? at : fail(a, e, errno, "open its folder");
	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return bh_error_set(a->err, errno, "layer entry '%.200s': hard link to '%.200s', which is not in the layer", e->path, clean);
	if (S_ISDIR(st.st_mode) || is_whiteout(&st))
		return refuse(a, e->path, "a hard link to a folder or a whiteout");
	if (linkat(at, name, parent, e->name, 0) < 0) {
		struct entry self = { e->raw, e->path, e->name, parent };

		r = errno == EEXIST ? clear_name(a, &self) : fail(a, e, errno, "link");
		if (r == 0 && linkat(at, name, parent, e->name, 0) < 0)
			r = fail(a, e, errno, "link");
	}
	return r;
}

static int apply_whiteout(struct apply *a, const struct entry *e)
{
	const char *name = e->name + strlen(WHITEOUT);
	struct stat st;

	if (bh_streq(e->name, WHITEOUT_OPAQUE)) {
		if (set_opaque(e->parent_fd, ".") < 0)
			return fail(a, e, errno, "make its folder opaque");
		return 0;
	}
	if (bh_has_prefix(e->name, WHITEOUT_META))
		return 0;
	if (!*name || bh_streq(name, ".") || bh_streq(name, ".."))
		return refuse(a, e->path, "a whiteout of nothing");
	if (mknodat(e->parent_fd, name, S_IFCHR, makedev(0, 0)) == 0) {
		a->stats.inodes++;
		return 0;
	}
	if (errno != EEXIST)
		return fail(a, e, errno, "create the whiteout");
	if (fstatat(e->parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && set_opaque(e->parent_fd, name) < 0)
		return fail(a, e, errno, "make the folder opaque");
	return 0;
}

static const struct {
	mode_t type;
	int (*apply)(struct apply *a, const struct entry *e);
} entry_types[] = {
	{ S_IFREG, apply_file }, { S_IFDIR, apply_folder }, { S_IFLNK, apply_symlink }, { S_IFCHR, apply_node },
	{ S_IFBLK, apply_node }, { S_IFIFO, apply_node },   { S_IFSOCK, apply_node },
};

static int dispatch(struct apply *a, struct entry *e)
{
	const char *target = archive_entry_hardlink(e->raw);
	mode_t type = archive_entry_filetype(e->raw);

	if (!e->path || !e->name)
		return refuse(a, "?", "an entry without a name");
	if (!*e->path && type != S_IFDIR)
		return refuse(a, "/", "the root must be a folder");
	if (bh_has_prefix(e->name, WHITEOUT))
		return apply_whiteout(a, e);
	a->stats.inodes++;
	if (target) {
		a->stats.inodes--;
		return link_to(a, e, target);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(entry_types); i++)
		if (entry_types[i].type == type)
			return entry_types[i].apply(a, e);
	return refuse(a, e->path, "an unknown type of file");
}

static int apply_entry(struct apply *a, struct archive_entry *raw)
{
	struct entry e = { .raw = raw };
	int r;

	if (++a->entries > BH_LAYER_ENTRIES_MAX)
		return bh_error_text(a->err, E2BIG, "the layer has more than %u entries", BH_LAYER_ENTRIES_MAX);
	r = clean_path(a, archive_entry_pathname(raw), &e.path);
	if (r == 0)
		r = e.parent_fd = open_parent(a, e.path, &e.name);
	if (r >= 0)
		r = dispatch(a, &e);
	free(e.path);
	return r;
}

static int finish_folders(struct apply *a)
{
	for (size_t i = 0; i < a->pending_count; i++) {
		const struct pending *p = &a->pending[i];
		bh_auto_close int fd = open_beneath(a, *p->path ? p->path : ".", O_RDONLY);

		if (fd == -ENOSYS) {
			bh_auto_close int found = *p->path ? open_by_components(a, p->path) : dup(a->root_fd);

			fd = found < 0 ? -ENOENT : openat(found, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		}
		if (fd < 0) /* a later entry replaced it by something else */
			continue;
		if (p->default_acl && fsetxattr(fd, XATTR_DEFAULT_ACL, p->default_acl, p->default_acl_size, 0) < 0 && errno != EOPNOTSUPP)
			return bh_error_set(a->err, errno, "layer entry '%.200s': set its default ACL", p->path);
		if (futimens(fd, p->times) < 0)
			return bh_error_set(a->err, errno, "layer entry '%.200s': set its times", p->path);
	}
	return 0;
}

static bool all_zero(const unsigned char *bytes, size_t size)
{
	return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Behind the archive's end only zeros may come: programs differ in whether they would read on. */
static int check_tail(struct apply *a)
{
	uint64_t position = (uint64_t)archive_filter_bytes(a->archive, 0);
	size_t left = position < a->chunk_end ? (size_t)BH_MIN(a->chunk_end - position, a->chunk_size) : 0;
	const unsigned char *bytes = (const unsigned char *)a->chunk + (a->chunk_size - left);
	ssize_t n = (ssize_t)left;

	while (n > 0) {
		const void *next;

		if (!all_zero(bytes, (size_t)n))
			return bh_error_text(a->err, EBADMSG, "there is data behind the end of the tar archive");
		n = a->chunks.next(a->chunks.context, &next, a->err);
		bytes = next;
	}
	return (int)n;
}

/* Names that the C locale can't convert are kept as bytes; libarchive warns of it, and of nothing else that matters. */
static bool is_harmless(struct archive *archive)
{
	const char *words = archive_error_string(archive);

	return words && strstr(words, "can't be converted");
}

static int apply_all(struct apply *a)
{
	for (;;) {
		struct archive_entry *raw;
		int r = archive_read_next_header(a->archive, &raw);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_harmless(a->archive)))
			return archive_failure(a, "tar archive");
		r = apply_entry(a, raw);
		if (r < 0)
			return r;
	}
	return finish_folders(a);
}

static uint64_t space_limit(int fd)
{
	struct statvfs fs;
	uint64_t free_bytes;

	if (fstatvfs(fd, &fs) < 0)
		return BH_LAYER_BYTES_MAX;
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	free_bytes -= BH_MIN(free_bytes / 20, SPACE_KEPT_MAX);
	return BH_MIN(free_bytes, BH_LAYER_BYTES_MAX);
}

int bh_layer_apply(const struct bh_chunks *tar, int folder_fd, struct bh_layer_stats *ret_stats, struct bh_error *err)
{
	struct apply a = { .chunks = *tar, .root_fd = folder_fd, .parent_fd = -1, .err = err, .bytes_max = space_limit(folder_fd) };
	mode_t mask = umask(0);
	int r;

	a.no_openat2 = bh_layer_without_openat2;
	a.archive = archive_read_new();
	if (!a.archive)
		return bh_error_set(err, ENOMEM, "tar reader");
	archive_read_support_format_tar(a.archive);
	if (archive_read_open(a.archive, &a, NULL, read_chunk, NULL) != ARCHIVE_OK)
		r = archive_failure(&a, "tar archive");
	else
		r = apply_all(&a);
	if (r == 0)
		r = check_tail(&a);
	archive_read_free(a.archive);
	umask(mask);
	bh_close_fd(&a.parent_fd);
	free(a.parent_path);
	for (size_t i = 0; i < a.pending_count; i++) {
		free(a.pending[i].path);
		free(a.pending[i].default_acl);
	}
	free(a.pending);
	if (r == 0)
		*ret_stats = a.stats;
	return r;
}
