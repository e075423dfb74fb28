/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the other side knows: inodes (by LOOKUP and its like, until FORGET) and open files (until RELEASE).
 *
 * A number that goes over is an index into an array of slots, with a sequence number above it: a number that is no longer good
 * finds nothing, rather than what took its slot. One file has one inode however often it is looked up: it is found by device,
 * number and mount (a file may be writable through one mount and not through another). While an inode is here its descriptor is
 * open, so the file system can't give its number to another file.
 *
 * Both kinds are freed by whoever is the last to let go of them: the other side (lookups, closed) or a request (users).
 */
#include "base/memory.h"
#include "vmm/fuse/fuse-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define BUCKETS_MIN 64
#define INDEX_BITS 32
#define HANDLES_MAX (64u << 10)

/* --- slots ---------------------------------------------------------------------------------------------------------- */

static uint64_t slots_add(struct bh_fuse_slots *slots, void *item)
{
	size_t index;

	if (slots->unused_count) {
		index = slots->unused[--slots->unused_count];
	} else {
		slots->items = bh_grow(slots->items, &slots->capacity, slots->count + 1, sizeof *slots->items);
		index = slots->count++;
	}
	slots->items[index] = item;
	if (++slots->sequence == 0) /* 0 would give the root's number to somebody else */
		slots->sequence = 1;
	return (uint64_t)slots->sequence << INDEX_BITS | index;
}

static void slots_remove(struct bh_fuse_slots *slots, uint64_t id)
{
	uint32_t index = (uint32_t)id;

	slots->items[index] = NULL;
	slots->unused = bh_grow(slots->unused, &slots->unused_capacity, slots->unused_count + 1, sizeof *slots->unused);
	slots->unused[slots->unused_count++] = index;
}

static void *slots_find(const struct bh_fuse_slots *slots, uint64_t id)
{
	uint32_t index = (uint32_t)id;

	return index < slots->count ? slots->items[index] : NULL;
}

static void slots_clear(struct bh_fuse_slots *slots)
{
	free(slots->items);
	free(slots->unused);
}

/* --- inodes; called with the lock held ------------------------------------------------------------------------------ */

static size_t hash(const struct bh_fuse *fuse, uint64_t device, uint64_t number, uint64_t mount)
{
	uint64_t mixed = (number ^ device << 40 ^ mount << 52) * 0x9e3779b97f4a7c15ull;

	return (size_t)(mixed >> 32) & (fuse->bucket_count - 1);
}

static void buckets_grow(struct bh_fuse *fuse)
{
	struct bh_fuse_inode **old = fuse->buckets;
	size_t old_count = fuse->bucket_count;

	fuse->bucket_count = old_count ? old_count * 2 : BUCKETS_MIN;
	fuse->buckets = bh_calloc(fuse->bucket_count, sizeof(struct bh_fuse_inode *));
	for (size_t i = 0; i < old_count; i++)
		while (old[i]) {
			struct bh_fuse_inode *inode = old[i];
			size_t bucket = hash(fuse, inode->device, inode->number, inode->mount);

			old[i] = inode->next;
			inode->next = fuse->buckets[bucket];
			fuse->buckets[bucket] = inode;
		}
	free(old);
}

static void free_if_unused(struct bh_fuse *fuse, struct bh_fuse_inode *inode)
{
	struct bh_fuse_inode **link;

	if (inode->lookups || inode->users)
		return;
	link = &fuse->buckets[hash(fuse, inode->device, inode->number, inode->mount)];
	while (*link != inode)
		link = &(*link)->next;
	*link = inode->next;
	if (inode != fuse->root)
		slots_remove(&fuse->inodes, inode->id);
	fuse->inode_count--;
	close(inode->fd);
	free(inode);
}

static struct bh_fuse_inode *find_file(struct bh_fuse *fuse, const struct bh_fuse_inode *file)
{
	struct bh_fuse_inode *inode = fuse->buckets[hash(fuse, file->device, file->number, file->mount)];

	while (inode && (inode->device != file->device || inode->number != file->number || inode->mount != file->mount))
		inode = inode->next;
	return inode;
}

static struct bh_fuse_inode *add_file(struct bh_fuse *fuse, const struct bh_fuse_inode *file, bool is_root)
{
	struct bh_fuse_inode *inode = bh_memdup(file, sizeof *file);
	size_t bucket;

	if (fuse->inode_count == fuse->bucket_count)
		buckets_grow(fuse);
	bucket = hash(fuse, file->device, file->number, file->mount);
	inode->next = fuse->buckets[bucket];
	fuse->buckets[bucket] = inode;
	fuse->inode_count++;
	inode->id = is_root ? FUSE_ROOT_ID : slots_add(&fuse->inodes, inode);
	return inode;
}

static struct bh_fuse_inode *find_id(const struct bh_fuse *fuse, uint64_t id)
{
	struct bh_fuse_inode *inode = id == FUSE_ROOT_ID ? fuse->root : slots_find(&fuse->inodes, id);

	/* Only a request holds on to what has been forgotten. */
	return inode && inode->id == id && inode->lookups ? inode : NULL;
}

/* --- inodes --------------------------------------------------------------------------------------------------------- */

static int describe(int fd, struct statx *ret_stx, struct bh_fuse_inode *ret_file)
{
	if (bh_statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_MNT_ID, ret_stx) < 0)
		return -errno;
	*ret_file = (struct bh_fuse_inode){
		.fd = fd,
		.device = (uint64_t)ret_stx->stx_dev_major << 32 | ret_stx->stx_dev_minor,
		.number = ret_stx->stx_ino,
		.mount = ret_stx->stx_mask & STATX_MNT_ID ? ret_stx->stx_mnt_id : 0,
		.type = ret_stx->stx_mode & S_IFMT,
		.lookups = 1,
	};
	return 0;
}

int bh_fuse_tables_init(struct bh_fuse *fuse, struct bh_error *err)
{
	bh_auto_close int fd = openat(fuse->options.root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct bh_fuse_inode file = { 0 };
	struct statx stx;
	int r = fd < 0 ? -errno : describe(fd, &stx, &file);

	if (r < 0)
		return bh_error_set(err, -r, "open the shared folder");
	buckets_grow(fuse);
	fuse->root = add_file(fuse, &file, true);
	fd = -1;
	return 0;
}

struct bh_fuse_inode *bh_fuse_inode_get(struct bh_fuse *fuse, uint64_t id)
{
	struct bh_fuse_inode *inode;

	pthread_mutex_lock(&fuse->lock);
	inode = find_id(fuse, id);
	if (inode)
		inode->users++;
	pthread_mutex_unlock(&fuse->lock);
	return inode;
}

void bh_fuse_inode_release(struct bh_fuse *fuse, struct bh_fuse_inode *inode)
{
	if (!inode)
		return;
	pthread_mutex_lock(&fuse->lock);
	inode->users--;
	free_if_unused(fuse, inode);
	pthread_mutex_unlock(&fuse->lock);
}

void bh_fuse_inode_forget(struct bh_fuse *fuse, uint64_t id, uint64_t lookups)
{
	struct bh_fuse_inode *inode;

	pthread_mutex_lock(&fuse->lock);
	inode = find_id(fuse, id);
	if (inode && inode != fuse->root) {
		inode->lookups -= BH_MIN(lookups, inode->lookups);
		free_if_unused(fuse, inode);
	}
	pthread_mutex_unlock(&fuse->lock);
}

int bh_fuse_inode_enter(struct bh_fuse *fuse, int fd, struct fuse_entry_out *ret_entry)
{
	bh_auto_close int owned = fd;
	struct bh_fuse_inode file = { 0 }, *inode;
	struct statx stx;
	int r = describe(fd, &stx, &file);

	if (r < 0)
		return r;
	pthread_mutex_lock(&fuse->lock);
	inode = find_file(fuse, &file);
	if (inode) {
		inode->lookups++;
	} else if (fuse->inode_count > fuse->options.inodes_max) {
		r = -ENFILE;
	} else {
		inode = add_file(fuse, &file, false);
		owned = -1;
	}
	if (inode)
		ret_entry->nodeid = inode->id;
	pthread_mutex_unlock(&fuse->lock);
	if (r < 0)
		return r;
	ret_entry->generation = 0;
	bh_fuse_fill_valid(fuse, ret_entry);
	bh_fuse_fill_attributes(&stx, &ret_entry->attr);
	return 0;
}

/* --- open files ----------------------------------------------------------------------------------------------------- */

static void free_handle(struct bh_fuse_handle *handle)
{
	close(handle->fd);
	pthread_mutex_destroy(&handle->lock);
	free(handle);
}

int bh_fuse_handle_add(struct bh_fuse *fuse, const struct bh_fuse_inode *inode, int fd, bool is_directory, uint64_t *ret_id)
{
	struct bh_fuse_handle *handle = bh_calloc(1, sizeof *handle);
	bool is_full;

	*handle = (struct bh_fuse_handle){ .inode_id = inode->id, .fd = fd, .is_directory = is_directory };
	pthread_mutex_init(&handle->lock, NULL);
	pthread_mutex_lock(&fuse->lock);
	is_full = fuse->handle_count == HANDLES_MAX;
	if (!is_full) {
		*ret_id = handle->id = slots_add(&fuse->handles, handle);
		fuse->handle_count++;
	}
	pthread_mutex_unlock(&fuse->lock);
	if (is_full)
		free_handle(handle);
	return is_full ? -ENFILE : 0;
}

static struct bh_fuse_handle *find_handle(struct bh_fuse *fuse, uint64_t id, uint64_t inode_id, bool is_directory)
{
	struct bh_fuse_handle *handle = slots_find(&fuse->handles, id);

	return handle && handle->id == id && handle->inode_id == inode_id && handle->is_directory == is_directory && !handle->closed ? handle : NULL;
}

struct bh_fuse_handle *bh_fuse_handle_get(struct bh_fuse *fuse, uint64_t id, uint64_t inode_id, bool is_directory)
{
	struct bh_fuse_handle *handle;

	pthread_mutex_lock(&fuse->lock);
	handle = find_handle(fuse, id, inode_id, is_directory);
	if (handle)
		handle->users++;
	pthread_mutex_unlock(&fuse->lock);
	return handle;
}

/* With the lock held. */
static bool remove_if_unused(struct bh_fuse *fuse, struct bh_fuse_handle *handle)
{
	if (!handle->closed || handle->users)
		return false;
	slots_remove(&fuse->handles, handle->id);
	fuse->handle_count--;
	return true;
}

void bh_fuse_handle_release(struct bh_fuse *fuse, struct bh_fuse_handle *handle)
{
	bool last;

	pthread_mutex_lock(&fuse->lock);
	handle->users--;
	last = remove_if_unused(fuse, handle);
	pthread_mutex_unlock(&fuse->lock);
	if (last)
		free_handle(handle);
}

int bh_fuse_handle_close(struct bh_fuse *fuse, uint64_t id, uint64_t inode_id, bool is_directory)
{
	struct bh_fuse_handle *handle;
	bool last = false;

	pthread_mutex_lock(&fuse->lock);
	handle = find_handle(fuse, id, inode_id, is_directory);
	if (handle) {
		handle->closed = true;
		last = remove_if_unused(fuse, handle);
	}
	pthread_mutex_unlock(&fuse->lock);
	if (last)
		free_handle(handle);
	return handle ? 0 : -EBADF;
}

/* --- all of it ------------------------------------------------------------------------------------------------------ */

void bh_fuse_tables_reset(struct bh_fuse *fuse)
{
	pthread_mutex_lock(&fuse->lock);
	for (size_t i = 0; i < fuse->handles.count; i++) {
		struct bh_fuse_handle *handle = fuse->handles.items[i];

		if (!handle)
			continue;
		handle->closed = true;
		if (remove_if_unused(fuse, handle))
			free_handle(handle);
	}
	for (size_t i = 0; i < fuse->inodes.count; i++) {
		struct bh_fuse_inode *inode = fuse->inodes.items[i];

		if (!inode)
			continue;
		inode->lookups = 0;
		free_if_unused(fuse, inode);
	}
	pthread_mutex_unlock(&fuse->lock);
}

void bh_fuse_tables_clear(struct bh_fuse *fuse)
{
	bh_fuse_tables_reset(fuse);
	if (fuse->root) {
		fuse->root->lookups = 0;
		free_if_unused(fuse, fuse->root);
	}
	slots_clear(&fuse->inodes);
	slots_clear(&fuse->handles);
	free(fuse->buckets);
}
