/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading folders. The offsets that go over are the file system's own (d_off of getdents64(2)), so a folder can be read from
 * anywhere, as telldir(3) and seekdir(3) want it, and nothing has to be kept between two requests.
 */
#include "base/memory.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES_SIZE (32u << 10)
#define ENTRY_MIN 512 /* the longest name, and what belongs to it */

struct linux_entry {
	uint64_t number;
	int64_t offset; /* of the entry behind it */
	uint16_t length;
	uint8_t type;
	char name[];
};

int bh_fuse_opendir(struct bh_fuse_request *request)
{
	struct fuse_open_out out = { 0 };
	int fd, r;

	if (request->inode->type != S_IFDIR)
		return -ENOTDIR;
	fd = bh_fuse_reopen(request->fuse, request->inode, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = bh_fuse_handle_add(request->fuse, request->inode, fd, true, &out.fh);
	return r < 0 ? r : bh_fuse_reply(request, &out, sizeof out);
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Adds one entry to the reply. 1: no room. */
static int add_entry(struct bh_fuse_request *request, const struct linux_entry *entry, bool plus, size_t room)
{
	static const char zeros[sizeof(uint64_t)];
	struct fuse_entry_out found = { 0 };
	struct fuse_dirent dirent = {
		.ino = entry->number,
		.off = (uint64_t)entry->offset,
		.namelen = (uint32_t)strlen(entry->name),
		.type = entry->type,
	};
	size_t size = (plus ? sizeof found : 0) + FUSE_NAME_OFFSET + dirent.namelen, padded = FUSE_REC_ALIGN(size);

	if (padded > room - request->replied)
		return 1;
	/* What lies above the shared folder is nobody's business. */
	if (request->header.nodeid == FUSE_ROOT_ID && strcmp(entry->name, "..") == 0)
		dirent.ino = request->inode->number;
	/* What has gone meanwhile, or can't be looked up now, is only a name. */
	if (plus && (is_dots(entry->name) || bh_fuse_enter_name(request->fuse, request->inode, entry->name, &found) < 0)) {
		found = (struct fuse_entry_out){ 0 };
		found.attr.ino = dirent.ino;
		found.attr.mode = (uint32_t)entry->type << 12;
	}
	if (plus)
		(void)bh_fuse_reply(request, &found, sizeof found);
	(void)bh_fuse_reply(request, &dirent, FUSE_NAME_OFFSET);
	(void)bh_fuse_reply(request, entry->name, dirent.namelen);
	(void)bh_fuse_reply(request, zeros, padded - size);
	return 0;
}

/* An entry takes less room here than in the reply; with attributes, much less. */
static ssize_t read_entries(struct bh_fuse_handle *handle, uint64_t offset, char *entries, size_t room, bool plus)
{
	size_t size = BH_MIN(BH_MAX(plus ? room / 4 : room, ENTRY_MIN), ENTRIES_SIZE);
	ssize_t n = -1;

	pthread_mutex_lock(&handle->lock);
	if (lseek(handle->fd, (off_t)offset, SEEK_SET) >= 0)
		n = syscall(SYS_getdents64, handle->fd, entries, size);
	n = n < 0 ? -errno : n;
	pthread_mutex_unlock(&handle->lock);
	return n;
}

static int read_folder(struct bh_fuse_request *request, bool plus)
{
	char entries[ENTRIES_SIZE] __attribute__((aligned(8))) = { 0 };
	struct fuse_read_in in;
	struct bh_fuse_handle *handle;
	size_t room;
	ssize_t n;
	int r = 0;

	memcpy(&in, request->arguments, sizeof in);
	room = BH_MIN(in.size, request->room);
	handle = bh_fuse_handle_get(request->fuse, in.fh, request->header.nodeid, true);
	if (!handle)
		return -EBADF;
	n = read_entries(handle, in.offset, entries, room, plus);
	bh_fuse_handle_release(request->fuse, handle);
	for (ssize_t at = 0; at < n && r == 0;) {
		const struct linux_entry *entry = (const struct linux_entry *)(entries + at);

		r = add_entry(request, entry, plus, room);
		at += entry->length;
	}
	if (n < 0)
		return (int)n;
	return r && !request->replied ? -EINVAL : 0;
}

int bh_fuse_readdir(struct bh_fuse_request *request)
{
	return read_folder(request, false);
}

int bh_fuse_readdirplus(struct bh_fuse_request *request)
{
	return read_folder(request, true);
}

int bh_fuse_releasedir(struct bh_fuse_request *request)
{
	struct fuse_release_in in;

	memcpy(&in, request->arguments, sizeof in);
	return bh_fuse_handle_close(request->fuse, in.fh, request->header.nodeid, true);
}

int bh_fuse_fsyncdir(struct bh_fuse_request *request)
{
	struct fuse_fsync_in in;
	struct bh_fuse_handle *handle;
	int r;

	memcpy(&in, request->arguments, sizeof in);
	handle = bh_fuse_handle_get(request->fuse, in.fh, request->header.nodeid, true);
	if (!handle)
		return -EBADF;
	r = (in.fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(handle->fd) : fsync(handle->fd)) < 0 ? -errno : 0;
	bh_fuse_handle_release(request->fuse, handle);
	return r;
}
