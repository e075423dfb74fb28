/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removing a cgroup: its folders, and what the container made below them, deepest first.
 *
 * The usual case is an empty folder, and one rmdir(2) per folder is all. One that is busy has processes that are ending
 * (waited for by cgroup.events or pidfds, bounded) or folders below. Folders above belong to others and stay, but for this
 * project's own "bulkhead", which the last one out removes.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>

/* Folders that the container made below its own (a nested engine, systemd): deepest first. */
static void remove_children(int folder_fd, int depth)
{
	bh_auto_closedir DIR *dir = NULL;
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && depth > 0 && (entry = readdir(dir))) {
		bh_auto_close int child = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		child = openat(folder_fd, entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (child >= 0)
			remove_children(child, depth - 1);
		unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR);
	}
}

/* The last processes are dying: waits for them. */
static int wait_until_empty(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int64_t deadline_ns)
{
	bool any = false;
	int r;

	if (folder == FOLDER_UNIFIED)
		r = bh_cgroup_wait_for_event(cgroup->folders[folder].fd, "populated", 0, deadline_ns);
	if (folder == FOLDER_UNIFIED)
		/* Somebody else (systemd) may remove it meanwhile. */
		return r == -ENODEV || r == -ENOENT ? 0 : r;
	r = bh_cgroup_wait_for_pids(cgroup, deadline_ns, &any);
	/* Ended but not yet taken out of the cgroup by the kernel: a matter of the other core's next instructions. */
	if (r == 0 && !any)
		sched_yield();
	return r == 0 && bh_monotonic_ns() > deadline_ns ? -ETIMEDOUT : r;
}

static int remove_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *path, int64_t deadline_ns, struct bh_error *err)
{
	bool children_tried = false;
	int r = 0;

	while (unlinkat(cgroup->root_fd, path, AT_REMOVEDIR) < 0) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY && errno != ENOTEMPTY)
			return bh_error_set(err, errno, "remove cgroup " CGROUP_ROOT "/%s", path);
		if (children_tried)
			r = wait_until_empty(cgroup, folder, deadline_ns);
		if (r < 0)
			return bh_error_set(err, EBUSY, "remove cgroup " CGROUP_ROOT "/%s: processes are still inside", path);
		remove_children(cgroup->folders[folder].fd, NESTING_MAX);
		children_tried = true;
	}
	return 0;
}

/* "/bulkhead" above "/bulkhead/<id>" is ours: the last one out removes it. Nothing else above is. */
static void remove_parent(struct bh_cgroup *cgroup, char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || !bh_has_prefix(cgroup->path, "bulkhead/") || strchr(cgroup->path, '/') != strrchr(cgroup->path, '/'))
		return;
	*slash = '\0';
	unlinkat(cgroup->root_fd, path, AT_REMOVEDIR);
}

/* Tries to remove one folder without looking at it first. 1: it is gone now; 0: it wasn't there; -EBUSY (no words). */
static int remove_unseen(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, struct bh_error *err)
{
	bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);
	char *path = words + sizeof CGROUP_ROOT;

	if (unlinkat(cgroup->root_fd, path, AT_REMOVEDIR) == 0) {
		bh_explain("cgroup", "rmdir", words);
		remove_parent(cgroup, path);
		return 1;
	}
	if (errno == EBUSY || errno == ENOTEMPTY)
		return -EBUSY;
	return errno == ENOENT ? 0 : bh_error_set(err, errno, "remove cgroup %s", words);
}

int bh_cgroup_destroy(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int64_t deadline_ns = bh_monotonic_ns() + CGROUP_WAIT_NS;
	int result = 0;

	bh_cgroup_end_placeholder(cgroup);
	bh_cgroup_open_all_made(cgroup);
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *words = NULL;
		char *path;
		int r;

		if ((cgroup->folders[i].fd < 0 && !cgroup->folders[i].unopened) || cgroup->folders[i].alias)
			continue;
		words = bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, NULL);
		path = words + sizeof CGROUP_ROOT;
		if (cgroup->folders[i].unopened) {
			r = remove_unseen(cgroup, (enum bh_cgroup_folder)i, result < 0 ? NULL : err);
			result = r < 0 && result == 0 ? r : result;
			continue;
		}
		r = remove_folder(cgroup, (enum bh_cgroup_folder)i, path, deadline_ns, result < 0 ? NULL : err);
		if (r < 0 && result == 0)
			result = r;
		if (r == 0) {
			bh_explain("cgroup", "rmdir", words);
			remove_parent(cgroup, path);
		}
	}
	if (cgroup->unit && result == 0)
		result = bh_cgroup_stop_unit(cgroup, err);
	return result;
}

/* Something is left inside: once more, with eyes open. */
static int remove_seen(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int r = bh_cgroup_kill(cgroup, err);

	return r < 0 ? r : bh_cgroup_destroy(cgroup, err);
}

int bh_cgroup_remove_located(struct bh_cgroup *cgroup, struct bh_error *err)
{
	bool busy = false;
	int r = 0;

	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		r = cgroup->folders[i].path ? remove_unseen(cgroup, (enum bh_cgroup_folder)i, err) : 0;
		if (r < 0 && r != -EBUSY)
			return r;
		busy |= r == -EBUSY;
	}
	if (!busy)
		return cgroup->unit ? bh_cgroup_stop_unit(cgroup, err) : 0;
	bh_cgroup_open_places(cgroup);
	return remove_seen(cgroup, err);
}

int bh_cgroup_remove(const char *path, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	bool hybrid = false, busy = false;
	size_t count;
	int r = bh_cgroup_new(&cgroup, err);

	if (r == 0)
		r = bh_cgroup_locate(cgroup, path, "", err);
	if (r < 0)
		return r;
	count = cgroup->driver->version == 2 ? 1 : FOLDER_LAZY_COUNT;
	for (size_t i = 0; i < count; i++) {
		/* Only made where there is no v2 tree. */
		if (hybrid && (i == FOLDER_CPUACCT || i == FOLDER_FREEZER))
			continue;
		r = remove_unseen(cgroup, (enum bh_cgroup_folder)i, err);
		if (r < 0 && r != -EBUSY)
			return r;
		hybrid |= r == 1 && i == FOLDER_UNIFIED;
		busy |= r == -EBUSY;
	}
	if (!busy)
		return 0;
	r = cgroup->driver->open(cgroup, err);
	return r < 0 ? r : remove_seen(cgroup, err);
}
