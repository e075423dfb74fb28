/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side is the enemy: a guest's kernel, or whoever writes as if he were one.
 *
 * It names files by the numbers that it was given (inodes.c), and by single names in folders that it has such numbers of. Nothing
 * is ever opened by a path, "..", or a link: each inode is a descriptor opened with O_PATH and O_NOFOLLOW relative to its folder's
 * descriptor, so there is no way out of the shared folder whatever is renamed meanwhile. What needs more than O_PATH goes through
 * /proc/self/fd, by a descriptor of that folder: there the process may be in a root without any file. Only regular files and
 * folders are opened so; links, pipes, sockets and devices are things of the other side's kernel, here they are only made and named.
 *
 * Who may do what is decided by the other side's kernel (it has all attributes, FUSE calls it default_permissions). We have the
 * rights of the process that shares. What is made gets the user and group who ask: by setfsuid(2) and setfsgid(2), with the
 * capabilities kept, and so that set-group-id folders hand down their group. CAP_FSETID is out of the effective set but while a mode
 * is changed: so the kernel takes the set-user-id bit and the capabilities off a file that is written or cut (what the protocol calls
 * FUSE_HANDLE_KILLPRIV_V2).
 *
 * A request's header and arguments are copied before they are looked at. Data is read and written in place, by the kernel.
 */
#include "base/iov.h"
#include "base/memory.h"
#include "linux/credentials.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/sysmacros.h>

#define MINOR_MIN 31              /* Linux 5.4, the first with virtio-fs */
#define ARGUMENTS_MAX (68u << 10) /* a set extended attribute: name and value */
#define INODES_MAX (1u << 20)
#define BACKGROUND_MAX 64
#define PAGE_BYTES 4096
#define FORGET_BATCH 64

#define WANTED                                                                                                                          \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | \
	 FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES | FUSE_SETXATTR_EXT | FUSE_INIT_EXT)

#define BIT(capability) (1ull << (capability))
#define NEEDED                                                                                                                                      \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD) | BIT(CAP_SETUID) | BIT(CAP_SETGID) | \
	 BIT(CAP_SETFCAP))

/* --- messages ------------------------------------------------------------------------------------------------------- */

static size_t pieces_size(const struct iovec *pieces, size_t count)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++)
		if (__builtin_add_overflow(size, pieces[i].iov_len, &size))
			return SIZE_MAX;
	return size;
}

int bh_fuse_reply(struct bh_fuse_request *request, const void *bytes, size_t size)
{
	if (size > request->room - request->replied)
		return -ERANGE;
	bh_iov_copy_to(request->out, (unsigned)request->out_count, sizeof(struct fuse_out_header) + request->replied, bytes, size);
	request->replied += size;
	return 0;
}

const char *bh_fuse_name(const struct bh_fuse_request *request, size_t offset, size_t *ret_end)
{
	const char *name = request->arguments + offset;
	size_t length = offset < request->size ? strnlen(name, request->size - offset) : 0;

	if (length == 0 || length > NAME_MAX || offset + length == request->size || memchr(name, '/', length))
		return NULL;
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	*ret_end = offset + length + 1;
	return name;
}

/* --- rights --------------------------------------------------------------------------------------------------------- */

int bh_fuse_set_capabilities(const struct bh_fuse *fuse, bool with_group_bit)
{
	struct bh_capability_sets sets = { fuse->capabilities, fuse->capabilities, 0 };

	if (!fuse->capabilities)
		return 0;
	if (fuse->can_set_group_bit)
		sets.permitted |= BIT(CAP_FSETID);
	if (fuse->can_set_group_bit && with_group_bit)
		sets.effective |= BIT(CAP_FSETID);
	return bh_capabilities_set(&sets, NULL);
}

int bh_fuse_become_user(const struct bh_fuse_request *request)
{
	const struct fuse_in_header *header = &request->header;

	if (!request->fuse->switches_users || (header->uid == 0 && header->gid == 0))
		return 0;
	setfsgid(header->gid);
	setfsuid(header->uid);
	/* The only way to know whether it has worked. An id that isn't mapped here can't own a file. */
	if ((uid_t)setfsuid((uid_t)-1) != header->uid || (gid_t)setfsgid((gid_t)-1) != header->gid) {
		bh_fuse_become_self(request);
		return -EOVERFLOW;
	}
	return bh_fuse_set_capabilities(request->fuse, false);
}

void bh_fuse_become_self(const struct bh_fuse_request *request)
{
	const struct fuse_in_header *header = &request->header;

	if (!request->fuse->switches_users || (header->uid == 0 && header->gid == 0))
		return;
	setfsuid(geteuid());
	setfsgid(getegid());
	(void)bh_fuse_set_capabilities(request->fuse, false);
}

int bh_fuse_enter_thread(struct bh_fuse *fuse, struct bh_error *err)
{
	int r = bh_fuse_set_capabilities(fuse, false);

	if (r < 0)
		return bh_error_set(err, -r, "give up the rights that sharing a folder doesn't need");
	umask(0);
	return 0;
}

/* --- what several operations need ----------------------------------------------------------------------------------- */

int bh_fuse_reopen(const struct bh_fuse *fuse, const struct bh_fuse_inode *inode, int flags)
{
	char name[16];
	int fd;

	if (inode->type != S_IFREG && inode->type != S_IFDIR)
		return inode->type == S_IFLNK ? -ELOOP : -ENXIO;
	snprintf(name, sizeof name, "%d", inode->fd);
	fd = openat(fuse->options.proc_fds_fd, name, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

void bh_fuse_fill_attributes(const struct statx *stx, struct fuse_attr *ret_attributes)
{
	unsigned major_number = stx->stx_rdev_major, minor_number = stx->stx_rdev_minor;

	*ret_attributes = (struct fuse_attr){
		.ino = stx->stx_ino,
		.size = stx->stx_size,
		.blocks = stx->stx_blocks,
		.atime = (uint64_t)stx->stx_atime.tv_sec,
		.mtime = (uint64_t)stx->stx_mtime.tv_sec,
		.ctime = (uint64_t)stx->stx_ctime.tv_sec,
		.atimensec = stx->stx_atime.tv_nsec,
		.mtimensec = stx->stx_mtime.tv_nsec,
		.ctimensec = stx->stx_ctime.tv_nsec,
		.mode = stx->stx_mode,
		.nlink = stx->stx_nlink,
		.uid = stx->stx_uid,
		.gid = stx->stx_gid,
		.rdev = (minor_number & 0xff) | major_number << 8 | (minor_number & ~0xffu) << 12,
		.blksize = stx->stx_blksize,
	};
}

void bh_fuse_fill_valid(const struct bh_fuse *fuse, struct fuse_entry_out *entry)
{
	entry->entry_valid = entry->attr_valid = fuse->options.cache_seconds;
	entry->entry_valid_nsec = entry->attr_valid_nsec = 0;
}

/* --- operations of the connection itself ---------------------------------------------------------------------------- */

static int initialize(struct bh_fuse_request *request)
{
	struct bh_fuse *fuse = request->fuse;
	struct fuse_init_in in = { 0 };
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_background = BACKGROUND_MAX,
		.congestion_threshold = BACKGROUND_MAX * 3 / 4,
		.max_write = BH_FUSE_WRITE_MAX,
		.time_gran = 1,
		.max_pages = BH_FUSE_WRITE_MAX / PAGE_BYTES,
	};

	memcpy(&in, request->arguments, BH_MIN(request->size, sizeof in));
	if (in.major > FUSE_KERNEL_VERSION) /* then it asks again, in our words */
		return bh_fuse_reply(request, &out, sizeof out);
	if (in.major < FUSE_KERNEL_VERSION || in.minor < MINOR_MIN)
		return -EPROTO;
	out.max_readahead = in.max_readahead;
	out.flags = in.flags & WANTED;
	/* A connection begins: nothing is known of what another one was told. */
	bh_fuse_tables_reset(fuse);
	pthread_mutex_lock(&fuse->lock);
	fuse->has_long_setxattr = out.flags & FUSE_SETXATTR_EXT;
	fuse->is_initialized = true;
	pthread_mutex_unlock(&fuse->lock);
	return bh_fuse_reply(request, &out, sizeof out);
}

static int end_connection(struct bh_fuse_request *request)
{
	struct bh_fuse *fuse = request->fuse;

	bh_fuse_tables_reset(fuse);
	pthread_mutex_lock(&fuse->lock);
	fuse->is_initialized = false;
	pthread_mutex_unlock(&fuse->lock);
	return 0;
}

static int forget(struct bh_fuse_request *request)
{
	struct fuse_forget_in in;

	memcpy(&in, request->arguments, sizeof in);
	bh_fuse_inode_forget(request->fuse, request->header.nodeid, in.nlookup);
	return 0;
}

static int forget_batch(struct bh_fuse_request *request)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one some[FORGET_BATCH];
	size_t offset = sizeof(struct fuse_in_header) + sizeof in, left;

	memcpy(&in, request->arguments, sizeof in);
	left = BH_MIN(in.count, (request->header.len - offset) / sizeof *some);
	while (left) {
		size_t n = BH_MIN(left, FORGET_BATCH);

		bh_iov_copy_from(request->in, (unsigned)request->in_count, offset, some, n * sizeof *some);
		for (size_t i = 0; i < n; i++)
			bh_fuse_inode_forget(request->fuse, some[i].nodeid, some[i].nlookup);
		offset += n * sizeof *some;
		left -= n;
	}
	return 0;
}

static int interrupt(struct bh_fuse_request *request)
{
	(void)request; /* what is under way ends soon anyway */
	return 0;
}

/* --- dispatch ------------------------------------------------------------------------------------------------------- */

enum {
	CHANGES = 1, /* refused where the share is read-only */
	NO_REPLY = 2,
	WITHOUT = 4,  /* a connection, or an inode, is not needed */
	HAS_DATA = 8, /* only the first `arguments` bytes are copied: the rest is data */
};

static const struct operation {
	int (*run)(struct bh_fuse_request *request);
	uint16_t arguments; /* bytes at least */
	uint16_t reply;     /* room at least, behind the header */
	uint16_t flags;
} operations[] = {
	[FUSE_LOOKUP] = { bh_fuse_lookup, 2, sizeof(struct fuse_entry_out), 0 },
	[FUSE_FORGET] = { forget, sizeof(struct fuse_forget_in), 0, NO_REPLY | WITHOUT },
	[FUSE_GETATTR] = { bh_fuse_getattr, sizeof(struct fuse_getattr_in), sizeof(struct fuse_attr_out), 0 },
	[FUSE_SETATTR] = { bh_fuse_setattr, sizeof(struct fuse_setattr_in), sizeof(struct fuse_attr_out), CHANGES },
	[FUSE_READLINK] = { bh_fuse_readlink, 0, 1, 0 },
	[FUSE_SYMLINK] = { bh_fuse_symlink, 4, sizeof(struct fuse_entry_out), CHANGES },
	[FUSE_MKNOD] = { bh_fuse_mknod, sizeof(struct fuse_mknod_in) + 2, sizeof(struct fuse_entry_out), CHANGES },
	[FUSE_MKDIR] = { bh_fuse_mkdir, sizeof(struct fuse_mkdir_in) + 2, sizeof(struct fuse_entry_out), CHANGES },
	[FUSE_UNLINK] = { bh_fuse_unlink, 2, 0, CHANGES },
	[FUSE_RMDIR] = { bh_fuse_rmdir, 2, 0, CHANGES },
	[FUSE_RENAME] = { bh_fuse_rename, sizeof(struct fuse_rename_in) + 4, 0, CHANGES },
	[FUSE_LINK] = { bh_fuse_link, sizeof(struct fuse_link_in) + 2, sizeof(struct fuse_entry_out), CHANGES },
	[FUSE_OPEN] = { bh_fuse_open, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out), 0 },
	[FUSE_READ] = { bh_fuse_read, sizeof(struct fuse_read_in), 0, 0 },
	[FUSE_WRITE] = { bh_fuse_write, sizeof(struct fuse_write_in), sizeof(struct fuse_write_out), CHANGES | HAS_DATA },
	[FUSE_STATFS] = { bh_fuse_statfs, 0, sizeof(struct fuse_statfs_out), 0 },
	[FUSE_RELEASE] = { bh_fuse_release, sizeof(struct fuse_release_in), 0, WITHOUT },
	[FUSE_FSYNC] = { bh_fuse_fsync, sizeof(struct fuse_fsync_in), 0, 0 },
	[FUSE_SETXATTR] = { bh_fuse_setxattr, FUSE_COMPAT_SETXATTR_IN_SIZE + 2, 0, CHANGES },
	[FUSE_GETXATTR] = { bh_fuse_getxattr, sizeof(struct fuse_getxattr_in) + 2, 0, 0 },
	[FUSE_LISTXATTR] = { bh_fuse_listxattr, sizeof(struct fuse_getxattr_in), 0, 0 },
	[FUSE_REMOVEXATTR] = { bh_fuse_removexattr, 2, 0, CHANGES },
	[FUSE_FLUSH] = { bh_fuse_flush, sizeof(struct fuse_flush_in), 0, 0 },
	[FUSE_INIT] = { initialize, 16, sizeof(struct fuse_init_out), WITHOUT },
	[FUSE_OPENDIR] = { bh_fuse_opendir, sizeof(struct fuse_open_in), sizeof(struct fuse_open_out), 0 },
	[FUSE_READDIR] = { bh_fuse_readdir, sizeof(struct fuse_read_in), 0, 0 },
	[FUSE_RELEASEDIR] = { bh_fuse_releasedir, sizeof(struct fuse_release_in), 0, WITHOUT },
	[FUSE_FSYNCDIR] = { bh_fuse_fsyncdir, sizeof(struct fuse_fsync_in), 0, 0 },
	[FUSE_CREATE] = { bh_fuse_create, sizeof(struct fuse_create_in) + 2, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out), CHANGES },
	[FUSE_INTERRUPT] = { interrupt, sizeof(struct fuse_interrupt_in), 0, NO_REPLY | WITHOUT },
	[FUSE_DESTROY] = { end_connection, 0, 0, WITHOUT },
	[FUSE_BATCH_FORGET] = { forget_batch, sizeof(struct fuse_batch_forget_in), 0, NO_REPLY | WITHOUT | HAS_DATA },
	[FUSE_FALLOCATE] = { bh_fuse_fallocate, sizeof(struct fuse_fallocate_in), 0, CHANGES },
	[FUSE_READDIRPLUS] = { bh_fuse_readdirplus, sizeof(struct fuse_read_in), 0, 0 },
	[FUSE_RENAME2] = { bh_fuse_rename2, sizeof(struct fuse_rename2_in) + 4, 0, CHANGES },
	[FUSE_LSEEK] = { bh_fuse_lseek, sizeof(struct fuse_lseek_in), sizeof(struct fuse_lseek_out), 0 },
	[FUSE_COPY_FILE_RANGE] = { bh_fuse_copy_file_range, sizeof(struct fuse_copy_file_range_in), sizeof(struct fuse_write_out), CHANGES },
	[FUSE_SYNCFS] = { bh_fuse_syncfs, sizeof(struct fuse_syncfs_in), 0, CHANGES },
};

static bool is_initialized(struct bh_fuse *fuse)
{
	bool is;

	pthread_mutex_lock(&fuse->lock);
	is = fuse->is_initialized;
	pthread_mutex_unlock(&fuse->lock);
	return is;
}

static int run_operation(struct bh_fuse_request *request, const struct operation *operation)
{
	struct bh_fuse *fuse = request->fuse;
	size_t size = request->header.len - sizeof request->header;
	int r;

	if (size < operation->arguments || request->room < operation->reply)
		return -EINVAL;
	if (operation->flags & CHANGES && fuse->options.readonly)
		return -EROFS;
	if (operation->run != initialize && !is_initialized(fuse))
		return -EIO;
	request->size = operation->flags & HAS_DATA ? operation->arguments : size;
	if (request->size > ARGUMENTS_MAX)
		return -E2BIG;
	if (!(operation->flags & WITHOUT)) {
		request->inode = bh_fuse_inode_get(fuse, request->header.nodeid);
		if (!request->inode)
			return -ESTALE;
	}
	request->arguments = bh_malloc(request->size + 1);
	bh_iov_copy_from(request->in, (unsigned)request->in_count, sizeof request->header, request->arguments, request->size);
	request->arguments[request->size] = '\0';
	r = operation->run(request);
	free(request->arguments);
	bh_fuse_inode_release(fuse, request->inode);
	return r;
}

int bh_fuse_handle(struct bh_fuse *fuse, const struct iovec *in, size_t in_count, const struct iovec *out, size_t out_count, size_t *ret_length)
{
	struct bh_fuse_request request = { .fuse = fuse, .in = in, .in_count = in_count, .out = out, .out_count = out_count };
	struct fuse_out_header header = { .len = sizeof header };
	const struct operation *operation = NULL;
	size_t room = pieces_size(out, out_count), size = pieces_size(in, in_count);
	int r = -ENOSYS;

	if (in_count > BH_FUSE_PIECES_MAX || out_count > BH_FUSE_PIECES_MAX || size < sizeof request.header)
		return -EBADMSG;
	bh_iov_copy_from(in, (unsigned)in_count, 0, &request.header, sizeof request.header);
	if (request.header.len < sizeof request.header || request.header.len > size || request.header.len > BH_FUSE_MESSAGE_MAX)
		return -EBADMSG;
	if (request.header.opcode < BH_ARRAY_SIZE(operations) && operations[request.header.opcode].run)
		operation = &operations[request.header.opcode];
	if (operation && operation->flags & NO_REPLY) {
		(void)run_operation(&request, operation);
		*ret_length = 0;
		return 0;
	}
	if (room < sizeof header)
		return -ENOSPC;
	request.room = BH_MIN(room - sizeof header, BH_FUSE_MESSAGE_MAX);
	if (operation)
		r = run_operation(&request, operation);
	header.error = r;
	header.len += r < 0 ? 0 : (uint32_t)request.replied;
	header.unique = request.header.unique;
	bh_iov_copy_to(out, (unsigned)out_count, 0, &header, sizeof header);
	*ret_length = header.len;
	return 0;
}

int bh_fuse_make(const struct bh_fuse_options *options, struct bh_fuse **ret_fuse, struct bh_error *err)
{
	struct bh_fuse *fuse = bh_calloc(1, sizeof *fuse);
	uint64_t permitted = bh_capabilities_permitted();
	int r;

	fuse->options = *options;
	if (!fuse->options.inodes_max)
		fuse->options.inodes_max = INODES_MAX;
	if (!fuse->options.cache_seconds)
		fuse->options.cache_seconds = 1;
	fuse->capabilities = permitted & NEEDED;
	fuse->can_set_group_bit = permitted & BIT(CAP_FSETID);
	fuse->switches_users = permitted & BIT(CAP_SETUID) && permitted & BIT(CAP_SETGID);
	pthread_mutex_init(&fuse->lock, NULL);
	r = bh_fuse_tables_init(fuse, err);
	if (r < 0) {
		bh_fuse_free(fuse);
		return r;
	}
	*ret_fuse = fuse;
	return 0;
}

void bh_fuse_free(struct bh_fuse *fuse)
{
	if (!fuse)
		return;
	bh_fuse_tables_clear(fuse);
	pthread_mutex_destroy(&fuse->lock);
	free(fuse);
}

void bh_fuse_free_ptr(struct bh_fuse **fuse)
{
	bh_fuse_free(*fuse);
	*fuse = NULL;
}
