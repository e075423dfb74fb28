/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes, finds and removes names. A name is one entry of one folder; it is checked by bh_fuse_name and never followed.
 *
 * Between making a file and looking it up another process may put something else there. Then the other side gets what is there
 * now, as if it had looked a moment later.
 */
#include "base/memory.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MODE_BITS 07777

int bh_fuse_enter_name(struct bh_fuse *fuse, const struct bh_fuse_inode *parent, const char *name, struct fuse_entry_out *ret_entry)
{
	int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : bh_fuse_inode_enter(fuse, fd, ret_entry);
}

/* The reply of whatever has made a name. */
static int reply_entry(struct bh_fuse_request *request, const char *name)
{
	struct fuse_entry_out entry = { 0 };
	int r = bh_fuse_enter_name(request->fuse, request->inode, name, &entry);

	return r < 0 ? r : bh_fuse_reply(request, &entry, sizeof entry);
}

int bh_fuse_lookup(struct bh_fuse_request *request)
{
	size_t end;
	const char *name = bh_fuse_name(request, 0, &end);

	return name ? reply_entry(request, name) : -EINVAL;
}

int bh_fuse_symlink(struct bh_fuse_request *request)
{
	size_t end = 0, length;
	const char *name = bh_fuse_name(request, 0, &end), *target;
	int r;

	if (!name)
		return -EINVAL;
	target = request->arguments + end;
	length = strnlen(target, request->size - end);
	if (length == 0 || length >= PATH_MAX || end + length == request->size)
		return length >= PATH_MAX ? -ENAMETOOLONG : -EINVAL;
	r = bh_fuse_become_user(request);
	if (r < 0)
		return r;
	r = symlinkat(target, request->inode->fd, name) < 0 ? -errno : 0;
	bh_fuse_become_self(request);
	return r < 0 ? r : reply_entry(request, name);
}

int bh_fuse_mknod(struct bh_fuse_request *request)
{
	struct fuse_mknod_in in;
	size_t end;
	const char *name = bh_fuse_name(request, sizeof in, &end);
	dev_t device;
	int r;

	if (!name)
		return -EINVAL;
	memcpy(&in, request->arguments, sizeof in);
	device = makedev((in.rdev & 0xfff00) >> 8, (in.rdev & 0xff) | (in.rdev >> 12 & 0xfff00));
	/* 0/0 is no device: overlay file systems mark with it what is gone. */
	if ((S_ISBLK(in.mode) || (S_ISCHR(in.mode) && in.rdev)) && !request->fuse->options.devices)
		return -EPERM;
	r = bh_fuse_become_user(request);
	if (r < 0)
		return r;
	r = mknodat(request->inode->fd, name, in.mode & (S_IFMT | MODE_BITS), S_ISBLK(in.mode) || S_ISCHR(in.mode) ? device : 0) < 0 ? -errno : 0;
	bh_fuse_become_self(request);
	return r < 0 ? r : reply_entry(request, name);
}

int bh_fuse_mkdir(struct bh_fuse_request *request)
{
	struct fuse_mkdir_in in;
	size_t end;
	const char *name = bh_fuse_name(request, sizeof in, &end);
	int r;

	if (!name)
		return -EINVAL;
	memcpy(&in, request->arguments, sizeof in);
	r = bh_fuse_become_user(request);
	if (r < 0)
		return r;
	r = mkdirat(request->inode->fd, name, in.mode & MODE_BITS) < 0 ? -errno : 0;
	bh_fuse_become_self(request);
	return r < 0 ? r : reply_entry(request, name);
}

static int remove_name(struct bh_fuse_request *request, int flags)
{
	size_t end;
	const char *name = bh_fuse_name(request, 0, &end);

	if (!name)
		return -EINVAL;
	return unlinkat(request->inode->fd, name, flags) < 0 ? -errno : 0;
}

int bh_fuse_unlink(struct bh_fuse_request *request)
{
	return remove_name(request, 0);
}

int bh_fuse_rmdir(struct bh_fuse_request *request)
{
	return remove_name(request, AT_REMOVEDIR);
}

static int rename_from(struct bh_fuse_request *request, size_t names_at, uint64_t folder_id, unsigned flags)
{
	size_t end = 0;
	const char *from = bh_fuse_name(request, names_at, &end);
	const char *to = from ? bh_fuse_name(request, end, &end) : NULL;
	struct bh_fuse_inode *folder;
	int r;

	if (!to || flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	folder = bh_fuse_inode_get(request->fuse, folder_id);
	if (!folder)
		return -ESTALE;
	/* Not every C library has renameat2(2). */
	r = syscall(SYS_renameat2, request->inode->fd, from, folder->fd, to, flags) < 0 ? -errno : 0;
	bh_fuse_inode_release(request->fuse, folder);
	return r;
}

int bh_fuse_rename(struct bh_fuse_request *request)
{
	struct fuse_rename_in in;

	memcpy(&in, request->arguments, sizeof in);
	return rename_from(request, sizeof in, in.newdir, 0);
}

int bh_fuse_rename2(struct bh_fuse_request *request)
{
	struct fuse_rename2_in in;

	memcpy(&in, request->arguments, sizeof in);
	return rename_from(request, sizeof in, in.newdir, in.flags);
}

int bh_fuse_link(struct bh_fuse_request *request)
{
	struct fuse_link_in in;
	size_t end;
	const char *name = bh_fuse_name(request, sizeof in, &end);
	struct bh_fuse_inode *file;
	char number[16];
	int r;

	if (!name)
		return -EINVAL;
	memcpy(&in, request->arguments, sizeof in);
	file = bh_fuse_inode_get(request->fuse, in.oldnodeid);
	if (!file)
		return -ESTALE;
	/* What is followed is the link in /proc/self/fd; it leads to the file itself, also if that is a link. */
	snprintf(number, sizeof number, "%d", file->fd);
	r = linkat(request->fuse->options.proc_fds_fd, number, request->inode->fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	bh_fuse_inode_release(request->fuse, file);
	return r < 0 ? r : reply_entry(request, name);
}

int bh_fuse_readlink(struct bh_fuse_request *request)
{
	char target[PATH_MAX];
	ssize_t n;

	if (request->inode->type != S_IFLNK)
		return -EINVAL;
	n = readlinkat(request->inode->fd, "", target, sizeof target);
	return n < 0 ? -errno : bh_fuse_reply(request, target, BH_MIN((size_t)n, request->room));
}

#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC)

/* Makes the file and opens it; 1 if there is one already. */
static int create_file(const struct bh_fuse_request *request, const struct fuse_create_in *in, const char *name)
{
	int r = bh_fuse_become_user(request), fd;

	if (r < 0)
		return r;
	fd = openat(request->inode->fd, name, (int)(in->flags & OPEN_FLAGS) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, in->mode & MODE_BITS);
	r = fd < 0 ? -errno : fd;
	bh_fuse_become_self(request);
	return r;
}

/* Something else than a regular file is never opened, whoever put it there: so the name is looked up first, then opened. */
static int open_existing(const struct bh_fuse_request *request, const struct fuse_create_in *in, const char *name, int *ret_fd)
{
	bh_auto_close int path_fd = openat(request->inode->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct bh_fuse_inode file = { .fd = path_fd };
	struct stat st;
	int fd;

	if (path_fd < 0 || fstat(path_fd, &st) < 0)
		return -errno;
	file.type = st.st_mode & S_IFMT;
	if (file.type == S_IFDIR)
		return -EISDIR;
	fd = bh_fuse_reopen(request->fuse, &file, (int)(in->flags & OPEN_FLAGS));
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return BH_TAKE_FD(path_fd);
}

int bh_fuse_create(struct bh_fuse_request *request)
{
	struct bh_fuse *fuse = request->fuse;
	struct fuse_create_in in;
	struct fuse_entry_out entry = { 0 };
	struct fuse_open_out out = { 0 };
	size_t end;
	const char *name = bh_fuse_name(request, sizeof in, &end);
	bh_auto_close int fd = -1;
	struct bh_fuse_inode *inode;
	char number[16];
	int path_fd, r;

	if (!name)
		return -EINVAL;
	memcpy(&in, request->arguments, sizeof in);
	fd = create_file(request, &in, name);
	if (fd >= 0) {
		snprintf(number, sizeof number, "%d", fd);
		path_fd = openat(fuse->options.proc_fds_fd, number, O_PATH | O_CLOEXEC);
		path_fd = path_fd < 0 ? -errno : path_fd;
	} else if (fd == -EEXIST && !(in.flags & O_EXCL)) {
		path_fd = open_existing(request, &in, name, &fd);
	} else {
		return fd;
	}
	r = path_fd < 0 ? path_fd : bh_fuse_inode_enter(fuse, path_fd, &entry);
	if (r < 0)
		return r;
	inode = bh_fuse_inode_get(fuse, entry.nodeid);
	if (!inode) /* forgotten by another request in between */
		return -ESTALE;
	r = bh_fuse_handle_add(fuse, inode, BH_TAKE_FD(fd), false, &out.fh);
	bh_fuse_inode_release(fuse, inode);
	if (r == 0)
		r = bh_fuse_reply(request, &entry, sizeof entry);
	return r < 0 ? r : bh_fuse_reply(request, &out, sizeof out);
}
