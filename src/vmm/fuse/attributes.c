/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attributes. Of the extended ones the other side sees and sets those that belong to a file wherever it is: user.*, capabilities and
 * ACLs. Labels of the host's security modules and what its file systems keep for themselves (trusted.*) are the host's.
 */
#include "base/memory.h"
#include "base/string.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MODE_BITS 07777

/* --- plain attributes ----------------------------------------------------------------------------------------------- */

static int reply_attributes(struct bh_fuse_request *request)
{
	struct fuse_attr_out out = { .attr_valid = request->fuse->options.cache_seconds };
	struct statx stx;

	if (bh_statx(request->inode->fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx) < 0)
		return -errno;
	bh_fuse_fill_attributes(&stx, &out.attr);
	return bh_fuse_reply(request, &out, sizeof out);
}

int bh_fuse_getattr(struct bh_fuse_request *request)
{
	return reply_attributes(request);
}

/* Without CAP_FSETID the kernel takes the set-group-id bit off for groups that aren't ours; the other side has decided already. */
static int set_mode(const struct bh_fuse_request *request, const char *number, uint32_t mode)
{
	bool group_bit = mode & S_ISGID;
	int r = group_bit ? bh_fuse_set_capabilities(request->fuse, true) : 0;

	if (r == 0 && fchmodat(request->fuse->options.proc_fds_fd, number, mode & MODE_BITS, 0) < 0)
		r = -errno;
	if (group_bit)
		(void)bh_fuse_set_capabilities(request->fuse, false);
	return r;
}

static int set_owner(const struct bh_fuse_request *request, const struct fuse_setattr_in *in)
{
	uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

	return fchownat(request->inode->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int set_size(const struct bh_fuse_request *request, const struct fuse_setattr_in *in)
{
	struct bh_fuse_handle *handle = NULL;
	bh_auto_close int fd = -1;
	int r;

	if (request->inode->type != S_IFREG)
		return -EINVAL;
	if (in->valid & FATTR_FH) {
		handle = bh_fuse_handle_get(request->fuse, in->fh, request->header.nodeid, false);
		if (!handle)
			return -EBADF;
		r = ftruncate(handle->fd, (off_t)in->size) < 0 ? -errno : 0;
		bh_fuse_handle_release(request->fuse, handle);
		return r;
	}
	fd = bh_fuse_reopen(request->fuse, request->inode, O_WRONLY);
	if (fd < 0)
		return fd;
	return ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
}

static struct timespec time_to_set(const struct fuse_setattr_in *in, unsigned set, unsigned now, uint64_t seconds, uint32_t nanoseconds)
{
	if (!(in->valid & set))
		return (struct timespec){ 0, UTIME_OMIT };
	if (in->valid & now)
		return (struct timespec){ 0, UTIME_NOW };
	/* The same field has words of its own in utimensat(2). */
	return (struct timespec){ (time_t)seconds, (long)BH_MIN(nanoseconds, 999999999u) };
}

int bh_fuse_setattr(struct bh_fuse_request *request)
{
	struct fuse_setattr_in in;
	struct timespec times[2];
	char number[16];
	int r = 0;

	memcpy(&in, request->arguments, sizeof in);
	snprintf(number, sizeof number, "%d", request->inode->fd);
	if (in.valid & (FATTR_UID | FATTR_GID))
		r = set_owner(request, &in);
	if (r == 0 && in.valid & FATTR_SIZE)
		r = set_size(request, &in);
	/* After those, which take bits away. */
	if (r == 0 && in.valid & FATTR_MODE)
		r = set_mode(request, number, in.mode);
	times[0] = time_to_set(&in, FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec);
	times[1] = time_to_set(&in, FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec);
	if (r == 0 && in.valid & (FATTR_ATIME | FATTR_MTIME) && utimensat(request->fuse->options.proc_fds_fd, number, times, 0) < 0)
		r = -errno;
	return r < 0 ? r : reply_attributes(request);
}

int bh_fuse_statfs(struct bh_fuse_request *request)
{
	struct fuse_statfs_out out = { 0 };
	struct statfs fs;

	if (fstatfs(request->inode->fd, &fs) < 0)
		return -errno;
	out.st.blocks = fs.f_blocks;
	out.st.bfree = fs.f_bfree;
	out.st.bavail = fs.f_bavail;
	out.st.files = fs.f_files;
	out.st.ffree = fs.f_ffree;
	out.st.bsize = (uint32_t)fs.f_bsize;
	out.st.frsize = (uint32_t)fs.f_frsize;
	out.st.namelen = (uint32_t)fs.f_namelen;
	return bh_fuse_reply(request, &out, sizeof out);
}

/* --- extended attributes -------------------------------------------------------------------------------------------- */

static bool is_shared(const char *name)
{
	return bh_has_prefix(name, "user.") || strcmp(name, "security.capability") == 0 || strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

/* The name at `offset` of the arguments, and what is behind it. NULL: not a name. */
static const char *attribute_name(const struct bh_fuse_request *request, size_t offset, size_t *ret_end)
{
	const char *name = request->arguments + offset;
	size_t length = offset < request->size ? strnlen(name, request->size - offset) : 0;

	if (length == 0 || length > XATTR_NAME_MAX || offset + length == request->size)
		return NULL;
	*ret_end = offset + length + 1;
	return name;
}

/* Attributes are reached by a real descriptor, so those of files that can't be opened can't be had: they have none of the shared kinds
 * that Linux would act on. */
static int open_for_attributes(const struct bh_fuse_request *request)
{
	if (request->inode->type != S_IFREG && request->inode->type != S_IFDIR)
		return -EOPNOTSUPP;
	return bh_fuse_reopen(request->fuse, request->inode, O_RDONLY);
}

int bh_fuse_setxattr(struct bh_fuse_request *request)
{
	struct fuse_setxattr_in in = { 0 };
	bh_auto_close int fd = -1;
	size_t fixed, end = 0;
	const char *name;

	pthread_mutex_lock(&request->fuse->lock);
	fixed = request->fuse->has_long_setxattr ? sizeof in : FUSE_COMPAT_SETXATTR_IN_SIZE;
	pthread_mutex_unlock(&request->fuse->lock);
	if (request->size < fixed)
		return -EINVAL;
	memcpy(&in, request->arguments, fixed);
	name = attribute_name(request, fixed, &end);
	if (!name || in.size > XATTR_SIZE_MAX || in.size > request->size - end || in.flags & ~(unsigned)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (!is_shared(name))
		return -EOPNOTSUPP;
	fd = open_for_attributes(request);
	if (fd < 0)
		return fd;
	return fsetxattr(fd, name, request->arguments + end, in.size, (int)in.flags) < 0 ? -errno : 0;
}

/* The reply of both that read: the size if that was asked for, or the bytes. */
static int reply_value(struct bh_fuse_request *request, uint32_t asked, const char *bytes, size_t size)
{
	struct fuse_getxattr_out out = { .size = (uint32_t)size };

	if (asked == 0)
		return bh_fuse_reply(request, &out, sizeof out);
	return size > asked ? -ERANGE : bh_fuse_reply(request, bytes, size);
}

int bh_fuse_getxattr(struct bh_fuse_request *request)
{
	struct fuse_getxattr_in in;
	size_t end;
	const char *name = attribute_name(request, sizeof in, &end);
	bh_auto_free char *value = NULL;
	bh_auto_close int fd = -1;
	ssize_t n;

	if (!name)
		return -EINVAL;
	if (!is_shared(name))
		return -EOPNOTSUPP;
	memcpy(&in, request->arguments, sizeof in);
	fd = open_for_attributes(request);
	if (fd < 0)
		return fd;
	value = bh_malloc(XATTR_SIZE_MAX);
	n = fgetxattr(fd, name, value, XATTR_SIZE_MAX);
	return n < 0 ? -errno : reply_value(request, in.size, value, (size_t)n);
}

int bh_fuse_listxattr(struct bh_fuse_request *request)
{
	struct fuse_getxattr_in in;
	bh_auto_buf struct bh_buf shared = { 0 };
	bh_auto_free char *names = NULL;
	bh_auto_close int fd = -1;
	ssize_t n;

	memcpy(&in, request->arguments, sizeof in);
	fd = open_for_attributes(request);
	if (fd == -EOPNOTSUPP)
		return reply_value(request, in.size, NULL, 0);
	if (fd < 0)
		return fd;
	names = bh_malloc(XATTR_LIST_MAX);
	n = flistxattr(fd, names, XATTR_LIST_MAX);
	if (n < 0)
		return -errno;
	for (const char *name = names; name < names + n; name += strlen(name) + 1)
		if (is_shared(name))
			bh_buf_add(&shared, name, strlen(name) + 1);
	return reply_value(request, in.size, shared.data, shared.length);
}

int bh_fuse_removexattr(struct bh_fuse_request *request)
{
	size_t end;
	const char *name = attribute_name(request, 0, &end);
	bh_auto_close int fd = -1;

	if (!name)
		return -EINVAL;
	if (!is_shared(name))
		return -EOPNOTSUPP;
	fd = open_for_attributes(request);
	if (fd < 0)
		return fd;
	return fremovexattr(fd, name) < 0 ? -errno : 0;
}
