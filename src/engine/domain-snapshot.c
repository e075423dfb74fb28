/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots and clones of domains. A snapshot is the machine's state, its memory, and copies of the disks in the domain's own folder, all of
 * one moment: the machine stands while they are made. Disks elsewhere are not copied; the snapshot says so. A copy shares its blocks
 * with the original where the file system can (FICLONE), else holes stay holes.
 */
#include "engine/domain-internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

/* --- copies --------------------------------------------------------------------------------------------------------------- */

static int copy_data(int from, int to, off_t start, off_t end)
{
	off_t out = start;

	while (start < end) {
		ssize_t n = copy_file_range(from, &start, to, &out, (size_t)BH_MIN(end - start, (off_t)1 << 30), 0);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
	}
	return 0;
}

static int copy_sparse(int from, int to)
{
	off_t size = lseek(from, 0, SEEK_END), at = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (size < 0 || ftruncate(to, size) < 0)
		return -errno;
	while (at < size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_data(from, to, data, hole);
		if (r < 0)
			return r;
		at = hole;
	}
	return 0;
}

static int copy_file(const char *from_path, int to_dir, const char *to_name, struct bh_error *err)
{
	bh_auto_close int from = open(from_path, O_RDONLY | O_CLOEXEC);
	bh_auto_close int to = openat(to_dir, to_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r;

	if (from < 0)
		return bh_error_set(err, errno, "open %s", from_path);
	if (to < 0)
		return bh_error_set(err, errno, "make %s", to_name);
	r = copy_sparse(from, to);
	return r < 0 ? bh_error_set(err, -r, "copy the disk %s", from_path) : 0;
}

static int copy_own_disks(struct bh_domain *d, int to_dir, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->definition.disk_count; i++) {
		bh_auto_free char *name = bh_printf("disk-%zu", i);

		if (d->definition.disks[i].ours && !d->definition.disks[i].readonly)
			r = copy_file(d->definition.disks[i].path, to_dir, name, err);
	}
	return r;
}

/* --- snapshots -------------------------------------------------------------------------------------------------------------- */

static int open_snapshot_dir(struct bh_domain *d, const char *snapshot, bool make, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("snapshots/%s", snapshot);
	int r = bh_domain_check_name("the snapshot's name", snapshot, err);

	if (r < 0)
		return r;
	if (make)
		return bh_make_dir(d->dir_fd, path, 0700, err);
	r = bh_open_dir(d->dir_fd, path, O_NOFOLLOW, NULL);
	if (r < 0 || faccessat(r, "snapshot.json", F_OK, 0) < 0) {
		if (r >= 0)
			close(r);
		return bh_error_text(err, ENOENT, "%s has no snapshot %s", d->name, snapshot);
	}
	return r;
}

static int save_state(struct bh_domain *d, int dir, struct bh_error *err)
{
	bh_auto_close int state = openat(dir, "state", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	bh_auto_close int memory = openat(dir, "memory", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r;

	if (state < 0 || memory < 0)
		return bh_error_set(err, errno, "make the snapshot's files");
	r = bh_domain_request(d, "snapshot", NULL, (const int[]){ state, memory }, 2, NULL, err);
	if (r == 0 && (fsync(state) < 0 || fsync(memory) < 0))
		r = bh_error_set(err, errno, "write the snapshot to disk");
	return r;
}

static int write_description(struct bh_domain *d, int dir, struct bh_error *err)
{
	json_object *object = json_object_new_object(), *outside = json_object_new_array();
	const char *text;
	int r;

	for (size_t i = 0; i < d->definition.disk_count; i++)
		if (!d->definition.disks[i].ours && !d->definition.disks[i].readonly)
			json_object_array_add(outside, json_object_new_string(d->definition.disks[i].path));
	json_object_object_add(object, "created_ns", json_object_new_int64(bh_now_ns()));
	json_object_object_add(object, "memory", json_object_new_int64(d->definition.memory_bytes));
	json_object_object_add(object, "cpus", json_object_new_int64(d->definition.cpus));
	json_object_object_add(object, "disks_not_saved", outside);
	text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
	r = bh_write_file_at(dir, "snapshot.json", text, strlen(text), 0600, BH_WRITE_SYNC, err);
	json_object_put(object);
	return r;
}

int bh_domain_snapshot(struct bh_domain *d, const char *snapshot, struct bh_error *err)
{
	bool stood = d->status == BH_DOMAIN_PAUSED;
	bh_auto_close int dir = -1;
	int r;

	if (d->status == BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, ESRCH, "the virtual machine %s doesn't run", d->name);
	dir = open_snapshot_dir(d, snapshot, true, err);
	if (dir < 0)
		return dir;
	if (faccessat(dir, "snapshot.json", F_OK, 0) == 0)
		return bh_error_text(err, EEXIST, "%s has a snapshot %s already", d->name, snapshot);
	r = stood ? 0 : bh_domain_request(d, "pause", NULL, NULL, 0, NULL, err);
	if (r == 0) {
		r = save_state(d, dir, err);
		if (r == 0)
			r = copy_own_disks(d, dir, err);
		if (!stood && bh_domain_request(d, "resume", NULL, NULL, 0, NULL, r < 0 ? NULL : err) < 0 && r == 0)
			r = -EIO;
	}
	if (r == 0)
		r = write_description(d, dir, err);
	if (r < 0) {
		bh_auto_close int all = bh_open_dir(d->dir_fd, "snapshots", 0, NULL);

		bh_remove_tree_at(all, snapshot, NULL);
	}
	return r;
}

int bh_domain_snapshot_check(struct bh_domain *d, const char *snapshot, struct bh_error *err)
{
	int dir = open_snapshot_dir(d, snapshot, false, err);

	if (dir >= 0)
		close(dir);
	return dir < 0 ? dir : 0;
}

int bh_domain_snapshots(struct bh_domain *d, struct bh_strv *ret_names, struct bh_error *err)
{
	return bh_domain_list_folders(d->dir_fd, "snapshots", "snapshot.json", ret_names, err);
}

int bh_domain_snapshot_remove(struct bh_domain *d, const char *snapshot, struct bh_error *err)
{
	bh_auto_close int dir = open_snapshot_dir(d, snapshot, false, err), all = -1;

	if (dir < 0)
		return dir;
	/* Without its description it doesn't exist; a machine that still loads its memory has the file open. */
	unlinkat(dir, "snapshot.json", 0);
	all = bh_open_dir(d->dir_fd, "snapshots", 0, err);
	return all < 0 ? all : bh_remove_tree_at(all, snapshot, err);
}

int bh_domain_snapshot_open(struct bh_domain *d, const char *snapshot, int *ret_state_fd, int *ret_memory_fd, struct bh_error *err)
{
	bh_auto_close int dir = open_snapshot_dir(d, snapshot, false, err);
	int state, memory;

	if (dir < 0)
		return dir;
	state = openat(dir, "state", O_RDONLY | O_CLOEXEC);
	memory = openat(dir, "memory", O_RDONLY | O_CLOEXEC);
	if (state < 0 || memory < 0)
		return bh_error_set(err, errno, "open the snapshot %s", snapshot);
	*ret_state_fd = state;
	*ret_memory_fd = memory;
	return 0;
}

int bh_domain_snapshot_put_back(struct bh_domain *d, const char *snapshot, struct bh_error *err)
{
	bh_auto_close int disks = bh_open_dir(d->dir_fd, "disks", 0, NULL);
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->definition.disk_count; i++) {
		const struct bh_domain_disk *disk = &d->definition.disks[i];
		bh_auto_free char *from = bh_printf("%s/vms/%s/snapshots/%s/disk-%zu", d->root, d->name, snapshot, i);
		const char *name = strrchr(disk->path, '/') + 1;

		if (!disk->ours || disk->readonly)
			continue;
		r = copy_file(from, disks, ".new", err);
		if (r == 0 && renameat(disks, ".new", disks, name) < 0)
			r = bh_error_set(err, errno, "put the disk %s back", disk->path);
	}
	return r;
}

/* --- clones ----------------------------------------------------------------------------------------------------------------- */

/* The own disks of the new one, from the original or from its snapshot. */
static int copy_disks(struct bh_domain *d, const char *snapshot, const char *to_path, struct bh_domain_definition *new, struct bh_error *err)
{
	bh_auto_close int to = bh_make_dir(AT_FDCWD, to_path, 0700, err);
	int r = to < 0 ? to : 0;

	for (size_t i = 0; r == 0 && i < new->disk_count; i++) {
		const char *name = strrchr(new->disks[i].path, '/') + 1;
		bh_auto_free char *saved = bh_printf("%s/vms/%s/snapshots/%s/disk-%zu", d->root, d->name, snapshot ? snapshot : "", i);
		bool from_snapshot = snapshot && !new->disks[i].readonly;
		char *path;

		if (!new->disks[i].ours)
			continue;
		/* What nobody writes needs no copy. */
		if (!new->disks[i].readonly || linkat(AT_FDCWD, new->disks[i].path, to, name, 0) < 0)
			r = copy_file(from_snapshot ? saved : new->disks[i].path, to, name, err);
		path = bh_printf("%s/%s", to_path, name);
		free(new->disks[i].path);
		new->disks[i].path = path;
	}
	return r;
}

/* All its files; the description last, as when it was made. */
static int copy_snapshot(struct bh_domain *d, const char *snapshot, const char *to_path, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/snapshots/%s", to_path, snapshot);
	bh_auto_close int to = bh_make_dir(AT_FDCWD, folder, 0700, err);
	bh_auto_strv struct bh_strv files = { 0 };
	int r = to < 0 ? to : 0;

	bh_strv_add(&files, "state");
	bh_strv_add(&files, "memory");
	for (size_t i = 0; i < d->definition.disk_count; i++)
		if (d->definition.disks[i].ours && !d->definition.disks[i].readonly)
			bh_strv_addf(&files, "disk-%zu", i);
	bh_strv_add(&files, "snapshot.json");
	for (size_t i = 0; r == 0 && i < files.count; i++) {
		bh_auto_free char *from = bh_printf("%s/vms/%s/snapshots/%s/%s", d->root, d->name, snapshot, files.items[i]);

		r = copy_file(from, to, files.items[i], err);
	}
	return r;
}

static int copy_config(struct bh_domain *d, const char *to_path, struct bh_error *err)
{
	bh_auto_free char *from = bh_printf("%s/vms/%s/config.json", d->root, d->name);
	bh_auto_close int to = bh_open_dir(AT_FDCWD, to_path, 0, err);

	return to < 0 ? to : copy_file(from, to, "config.json", err);
}

int bh_domain_clone(struct bh_domain *d, const char *name, const char *snapshot, struct bh_error *err)
{
	bh_auto_free char *text = bh_domain_definition_text(&d->definition), *path = bh_printf("%s/vms/%s", d->root, name);
	bh_auto_free char *disks = bh_printf("%s/disks", path), *definition_file = bh_printf("%s/domain.json", path);
	struct bh_domain_definition new = { 0 };
	int r = bh_domain_check_name("the name", name, err);

	if (r == 0 && faccessat(AT_FDCWD, definition_file, F_OK, 0) == 0)
		r = bh_error_text(err, EEXIST, "the virtual machine %s exists already", name);
	if (r == 0 && !snapshot && d->status != BH_DOMAIN_SHUT_OFF)
		r = bh_error_text(err, EBUSY, "%s runs, and its disks change: shut it down, or clone one of its snapshots", d->name);
	if (r == 0 && snapshot)
		r = bh_domain_snapshot_check(d, snapshot, err);
	if (r == 0)
		r = bh_domain_definition_parse(text, strlen(text), &new, err);
	if (r < 0)
		return r;
	bh_free_ptr(&new.uuid);
	new.autostart = false; /* the vsock address may stay: each machine has a host of its own */
	for (size_t i = 0; i < new.net_count; i++) {
		free(new.nets[i].mac);
		new.nets[i].mac = bh_domain_random_mac();
		bh_free_ptr(&new.nets[i].tap);
		bh_free_ptr(&new.nets[i].address);
		bh_free_ptr(&new.nets[i].gateway);
	}
	r = copy_disks(d, snapshot, disks, &new, err);
	if (r == 0 && snapshot)
		r = copy_snapshot(d, snapshot, path, err);
	if (r == 0 && new.image.reference)
		r = copy_config(d, path, err);
	if (r == 0)
		r = bh_domain_create(d->root, d->state, name, &new, NULL, NULL, err);
	bh_domain_definition_clear(&new);
	return r;
}
