/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/snapshot.h"

#include "base/file.h"
#include "storage/storage-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <search.h>

static const struct bh_snapshot_driver *const drivers[] = { &bh_snapshot_overlay, &bh_snapshot_vfs };

const struct bh_snapshot_driver *bh_snapshot_driver_by_name(const char *name)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(drivers); i++)
		if (bh_streq(drivers[i]->name, name))
			return drivers[i];
	return NULL;
}

void bh_snapshot_clear(struct bh_snapshot *snapshot)
{
	bh_strv_clear(&snapshot->layers);
	free(snapshot->path);
	*snapshot = (struct bh_snapshot){ 0 };
}

static int compare_inodes(const void *a, const void *b)
{
	const ino_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Remembers the inode of a file with several names. Returns whether it was new. */
static bool remember(void **seen, ino_t inode)
{
	ino_t *key = bh_memdup(&inode, sizeof inode);
	ino_t **found = tsearch(key, seen, compare_inodes);

	if (found && *found == key)
		return true;
	free(key);
	return false;
}

int bh_storage_usage(const char *path, struct bh_snapshot_usage *ret_usage, struct bh_error *err)
{
	char *const roots[] = { (char *)path, NULL };
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	struct bh_snapshot_usage usage = { 0 };
	void *seen = NULL;
	FTSENT *entry;
	int r = 0;

	if (!walk)
		return bh_error_set(err, errno, "walk %s", path);
	while (r == 0 && (errno = 0, entry = fts_read(walk))) {
		switch (entry->fts_info) {
		case FTS_DP:
			continue;
		case FTS_DNR:
		case FTS_ERR:
		case FTS_NS:
			if (entry->fts_errno != ENOENT) /* a running container may remove files while we walk */
				r = bh_error_set(err, entry->fts_errno, "walk %s", entry->fts_path);
			continue;
		default:
			if (entry->fts_level == 0 ||
			    (entry->fts_info != FTS_D && entry->fts_statp->st_nlink > 1 && !remember(&seen, entry->fts_statp->st_ino)))
				continue;
			usage.inodes++;
			usage.bytes += entry->fts_info == FTS_F ? (uint64_t)entry->fts_statp->st_size : 0;
		}
	}
	if (r == 0 && errno)
		r = bh_error_set(err, errno, "walk %s", path);
	fts_close(walk);
	tdestroy(seen, free);
	if (r == 0)
		*ret_usage = usage;
	return r;
}

int bh_storage_copy_root_attributes(const struct bh_snapshot *snapshot, const char *folder, struct bh_error *err)
{
	const char *top = snapshot->layers.count ? snapshot->layers.items[snapshot->layers.count - 1] : NULL;
	struct stat st;

	if (!top)
		return 0;
	if (stat(top, &st) < 0)
		return bh_error_set(err, errno, "layer %s", top);
	if (chown(folder, st.st_uid, st.st_gid) < 0 || chmod(folder, st.st_mode & 07777) < 0)
		return bh_error_set(err, errno, "set owner and mode of %s", folder);
	return 0;
}
