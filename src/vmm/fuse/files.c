/* SPDX-License-Identifier: Apache-2.0 */
/* Open files. Data goes between the pieces of the message and the file by one system call. */
#include "base/iov.h"
#include "base/memory.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <unistd.h>

#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_SYNC | O_DSYNC)
#define FALLOCATE_MODES (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)

int bh_fuse_open(struct bh_fuse_request *request)
{
	struct fuse_open_in in;
	struct fuse_open_out out = { 0 };
	int fd, r;

	memcpy(&in, request->arguments, sizeof in);
	if (request->fuse->options.readonly && ((in.flags & O_ACCMODE) != O_RDONLY || in.flags & O_TRUNC))
		return -EROFS;
	if (request->inode->type == S_IFDIR)
		return -EISDIR;
	fd = bh_fuse_reopen(request->fuse, request->inode, (int)(in.flags & OPEN_FLAGS));
	if (fd < 0)
		return fd;
	r = bh_fuse_handle_add(request->fuse, request->inode, fd, false, &out.fh);
	return r < 0 ? r : bh_fuse_reply(request, &out, sizeof out);
}

static struct bh_fuse_handle *get_file(const struct bh_fuse_request *request, uint64_t id)
{
	return bh_fuse_handle_get(request->fuse, id, request->header.nodeid, false);
}

int bh_fuse_read(struct bh_fuse_request *request)
{
	struct fuse_read_in in;
	struct bh_fuse_handle *handle;
	bh_auto_free struct iovec *pieces = NULL;
	unsigned count;
	ssize_t n;

	memcpy(&in, request->arguments, sizeof in);
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	pieces = bh_malloc((request->out_count + 1) * sizeof *pieces);
	count = bh_iov_slice(request->out, (unsigned)request->out_count, sizeof(struct fuse_out_header), BH_MIN(in.size, request->room), pieces);
	do
		n = count ? preadv(handle->fd, pieces, (int)count, (off_t)in.offset) : 0;
	while (n < 0 && errno == EINTR);
	n = n < 0 ? -errno : n;
	bh_fuse_handle_release(request->fuse, handle);
	if (n >= 0)
		request->replied = (size_t)n;
	return n < 0 ? (int)n : 0;
}

int bh_fuse_write(struct bh_fuse_request *request)
{
	struct fuse_write_in in;
	struct fuse_write_out out = { 0 };
	struct bh_fuse_handle *handle;
	bh_auto_free struct iovec *pieces = NULL;
	unsigned count;
	ssize_t n;

	memcpy(&in, request->arguments, sizeof in);
	if (in.size > request->header.len - sizeof request->header - sizeof in)
		return -EINVAL;
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	pieces = bh_malloc((request->in_count + 1) * sizeof *pieces);
	count = bh_iov_slice(request->in, (unsigned)request->in_count, sizeof request->header + sizeof in, in.size, pieces);
	do
		n = count ? pwritev(handle->fd, pieces, (int)count, (off_t)in.offset) : 0;
	while (n < 0 && errno == EINTR);
	n = n < 0 ? -errno : n;
	bh_fuse_handle_release(request->fuse, handle);
	out.size = (uint32_t)n;
	return n < 0 ? (int)n : bh_fuse_reply(request, &out, sizeof out);
}

int bh_fuse_release(struct bh_fuse_request *request)
{
	struct fuse_release_in in;

	memcpy(&in, request->arguments, sizeof in);
	return bh_fuse_handle_close(request->fuse, in.fh, request->header.nodeid, false);
}

/* A descriptor of the other side was closed: what the file system says at a close(2) (that the disk is full, over a network) is said
 * now. */
int bh_fuse_flush(struct bh_fuse_request *request)
{
	struct fuse_flush_in in;
	struct bh_fuse_handle *handle;
	int fd, r;

	memcpy(&in, request->arguments, sizeof in);
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	fd = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
	r = fd < 0 || close(fd) < 0 ? -errno : 0;
	bh_fuse_handle_release(request->fuse, handle);
	return r;
}

int bh_fuse_fsync(struct bh_fuse_request *request)
{
	struct fuse_fsync_in in;
	struct bh_fuse_handle *handle;
	int r;

	memcpy(&in, request->arguments, sizeof in);
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	r = (in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
	bh_fuse_handle_release(request->fuse, handle);
	return r;
}

int bh_fuse_fallocate(struct bh_fuse_request *request)
{
	struct fuse_fallocate_in in;
	struct bh_fuse_handle *handle;
	int r;

	memcpy(&in, request->arguments, sizeof in);
	if (in.mode & ~(unsigned)FALLOCATE_MODES)
		return -EOPNOTSUPP;
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	r = fallocate(handle->fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0 ? -errno : 0;
	bh_fuse_handle_release(request->fuse, handle);
	return r;
}

int bh_fuse_lseek(struct bh_fuse_request *request)
{
	struct fuse_lseek_in in;
	struct fuse_lseek_out out;
	struct bh_fuse_handle *handle;
	off_t at;

	memcpy(&in, request->arguments, sizeof in);
	/* The position itself is the other side's; nothing here depends on this one's. */
	if (in.whence != SEEK_DATA && in.whence != SEEK_HOLE)
		return -EINVAL;
	handle = get_file(request, in.fh);
	if (!handle)
		return -EBADF;
	at = lseek(handle->fd, (off_t)in.offset, (int)in.whence);
	at = at < 0 ? -errno : at;
	bh_fuse_handle_release(request->fuse, handle);
	out.offset = (uint64_t)at;
	return at < 0 ? (int)at : bh_fuse_reply(request, &out, sizeof out);
}

int bh_fuse_copy_file_range(struct bh_fuse_request *request)
{
	struct fuse_copy_file_range_in in;
	struct fuse_write_out out = { 0 };
	struct bh_fuse_handle *from, *to;
	off64_t from_at, to_at;
	ssize_t n = -EBADF;

	memcpy(&in, request->arguments, sizeof in);
	if (in.flags)
		return -EINVAL;
	from_at = (off64_t)in.off_in;
	to_at = (off64_t)in.off_out;
	from = get_file(request, in.fh_in);
	to = bh_fuse_handle_get(request->fuse, in.fh_out, in.nodeid_out, false);
	if (from && to) {
		/* What is written at once bounds the time that this takes. */
		n = copy_file_range(from->fd, &from_at, to->fd, &to_at, BH_MIN(in.len, BH_FUSE_WRITE_MAX * 64ull), 0);
		n = n < 0 ? -errno : n;
	}
	if (from)
		bh_fuse_handle_release(request->fuse, from);
	if (to)
		bh_fuse_handle_release(request->fuse, to);
	out.size = (uint32_t)n;
	return n < 0 ? (int)n : bh_fuse_reply(request, &out, sizeof out);
}

int bh_fuse_syncfs(struct bh_fuse_request *request)
{
	bh_auto_close int fd = bh_fuse_reopen(request->fuse, request->inode, O_RDONLY);

	if (fd < 0)
		return fd;
	return syncfs(fd) < 0 ? -errno : 0;
}
