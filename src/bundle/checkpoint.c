/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints: CRIU writes what a container's processes are into a folder.
 *
 * What reaches out of the container is named to CRIU, so that it is left to the one who restores: binds of the host's
 * folders, the standard streams (their pipes are written to descriptors.json, as runc does it), network and pid namespaces
 * that the configuration names by path, a terminal's master. Everything else that reaches out makes CRIU refuse.
 */
#include "bundle/criu-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/namespace.h"
#include "linux/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define DUMP_LOG "dump.log"
#define STREAMS 3

struct dumping {
	struct bh_bundle *bundle;
	const struct bh_bundle_criu *criu;
	struct bh_criu_folders folders;
	struct bh_buf options;
	bool status_told;
};

static int add_binds(struct dumping *d)
{
	const struct bh_bundle *b = d->bundle;

	for (size_t i = 0; i < b->spec.mount_count; i++) {
		bh_auto_free char *at = bh_criu_is_bind(&b->spec.mounts[i]) ? bh_criu_destination(b->rootfs, b->spec.mounts[i].destination) : NULL;

		if (at)
			bh_criu_pair(&d->options, BH_CRIU_EXT_MNT, at, at);
	}
	return 0;
}

/* Version 1 without a cgroup namespace: its folders are bound one by one. */
static int add_cgroup_binds(struct dumping *d, struct bh_error *err)
{
	const struct bh_bundle *b = d->bundle;
	struct bh_cgroup *cgroup = NULL;
	const char *name;
	int fd, r;

	if (b->spec.namespaces[BH_NS_CGROUP].present || !b->cgroups.count)
		return 0;
	r = bh_cgroup_open_paths(&b->cgroups, b->cgroup_unit, &cgroup, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < b->spec.mount_count; i++) {
		if (!bh_streq(b->spec.mounts[i].type, "cgroup"))
			continue;
		for (size_t k = 0; bh_cgroup_mount_source(cgroup, k, &name, &fd) == 0; k++) {
			bh_auto_free char *at = *name ? bh_path_join(b->spec.mounts[i].destination, name) : NULL;

			if (at)
				bh_criu_pair(&d->options, BH_CRIU_EXT_MNT, at, at);
		}
	}
	bh_cgroup_free(cgroup);
	return 0;
}

static int add_masked_files(struct dumping *d, struct bh_error *err)
{
	const struct bh_strv *paths = &d->bundle->spec.masked_paths;
	bh_auto_free char *root = bh_printf("/proc/%d/root", (int)d->bundle->pid);
	bh_auto_close int root_fd = -1;

	if (!bh_criu_masks_with_hosts_null(&d->bundle->spec))
		return 0;
	root_fd = bh_open_dir(AT_FDCWD, root, O_PATH, err);
	if (root_fd < 0)
		return root_fd;
	for (size_t i = 0; i < paths->count; i++) {
		bh_auto_close int fd = bh_open_in_root(root_fd, paths->items[i], O_PATH);
		struct stat st;

		if (fd >= 0 && fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
			bh_criu_pair(&d->options, BH_CRIU_EXT_MNT, paths->items[i], "/dev/null");
	}
	return 0;
}

static int add_mounts(struct dumping *d, struct bh_error *err)
{
	const char *path;
	int r = bh_bundle_shares_mounts(d->bundle) ?
			bh_error_text(err, EINVAL, "a container without a mount namespace of its own cannot be checkpointed") :
			add_binds(d);

	if (r == 0)
		r = add_cgroup_binds(d, err);
	if (r == 0)
		r = add_masked_files(d, err);
	for (size_t i = 0; r == 0 && bh_criu_device_at(&d->bundle->spec, i, &path); i++)
		bh_criu_pair(&d->options, BH_CRIU_EXT_MNT, path, path);
	return r;
}

static int add_namespaces(struct dumping *d, struct bh_error *err)
{
	static const enum bh_namespace_type types[] = { BH_NS_NETWORK, BH_NS_PID };

	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++) {
		const char *path = d->bundle->spec.namespaces[types[i]].path;
		bh_auto_free char *external = NULL;
		struct stat st;

		if (!path)
			continue;
		if (stat(path, &st) < 0)
			return bh_error_set(err, errno, "the namespace %s", path);
		external = bh_printf("%s[%llu]:%s", bh_namespaces[types[i]].file, (unsigned long long)st.st_ino, bh_criu_namespace_key(types[i]));
		bh_criu_text(&d->options, BH_CRIU_EXTERNAL, external);
	}
	return 0;
}

/* What fds 0-2 of the first process are, for the one who restores: an array of texts. */
static int write_descriptors(struct dumping *d, struct bh_error *err)
{
	bh_auto_buf struct bh_buf json = { 0 };

	for (int i = 0; i < STREAMS; i++) {
		bh_auto_free char *link = bh_printf("/proc/%d/fd/%d", (int)d->bundle->pid, i);
		char target[PATH_MAX];
		ssize_t length = readlink(link, target, sizeof target - 1);

		target[BH_MAX(length, 0)] = '\0';
		bh_buf_adds(&json, i ? "," : "[");
		bh_buf_add_json(&json, target);
	}
	bh_buf_addc(&json, ']');
	return bh_write_file_at(d->folders.images_fd, BH_CRIU_DESCRIPTORS, json.data, json.length, 0600, 0, err);
}

/* By the freezer the processes stop at once, by ptrace one after the other. */
static void add_freezer(struct dumping *d)
{
	static const char *const keys[] = { "freezer=", "=" };

	for (size_t k = 0; k < BH_ARRAY_SIZE(keys); k++)
		for (size_t i = 0; i < d->bundle->cgroups.count; i++)
			if (bh_has_prefix(d->bundle->cgroups.items[i], keys[k])) {
				bh_criu_text(&d->options, BH_CRIU_FREEZE_CGROUP, d->bundle->cgroups.items[i] + strlen(keys[k]));
				return;
			}
}

static int add_options(struct dumping *d, struct bh_error *err)
{
	const struct bh_bundle_criu *c = d->criu;
	int r = bh_criu_common_options(d->bundle, c, &d->folders, DUMP_LOG, &d->options, err);

	if (r < 0)
		return r;
	bh_criu_number(&d->options, BH_CRIU_PID, d->bundle->pid);
	bh_criu_number(&d->options, BH_CRIU_LEAVE_RUNNING, c->leave_running);
	bh_criu_number(&d->options, BH_CRIU_LINK_REMAP, c->link_remap);
	bh_criu_number(&d->options, BH_CRIU_TCP_SKIP_IN_FLIGHT, c->tcp_skip_in_flight);
	bh_criu_text(&d->options, BH_CRIU_ROOT, d->bundle->rootfs);
	if (c->parent_path) {
		bh_criu_text(&d->options, BH_CRIU_PARENT_IMG, c->parent_path);
		bh_criu_number(&d->options, BH_CRIU_TRACK_MEM, true);
	}
	add_freezer(d);
	r = add_namespaces(d, err);
	if (r == 0 && !c->pre_dump)
		r = add_mounts(d, err);
	if (r == 0 && !c->pre_dump)
		r = write_descriptors(d, err);
	return r;
}

/* The pages wait to be fetched: whoever gave --status-fd is told by a zero byte. */
static int notify(void *context, const char *step, pid_t pid, int fd, struct bh_error *err)
{
	struct dumping *d = context;

	(void)pid;
	bh_close_fd(&fd);
	bh_debug("criu: %s", step);
	if (!bh_streq(step, "status-ready") || d->criu->status_fd < 0 || d->status_told)
		return 0;
	d->status_told = true;
	return bh_write_all(d->criu->status_fd, "", 1) < 0 ? bh_error_set(err, errno, "write to --status-fd %d", d->criu->status_fd) : 0;
}

static int check(struct bh_bundle *b, const struct bh_bundle_criu *c, struct bh_error *err)
{
	struct stat st;
	int flags, r;

	if (b->status != BH_BUNDLE_RUNNING && b->status != BH_BUNDLE_PAUSED)
		return bh_error_text(err, EINVAL, "Container cannot be checkpointed in %s state", bh_bundle_status_name(b->status));
	if (c->parent_path) {
		bh_auto_free char *parent = bh_path_join(c->image_path, c->parent_path);

		if (*c->parent_path == '/')
			return bh_error_text(err, EINVAL, "--parent-path must be relative");
		if (stat(parent, &st) < 0)
			return bh_error_set(err, errno, "invalid --parent-path: %s", parent);
		if (!S_ISDIR(st.st_mode))
			return bh_error_set(err, ENOTDIR, "invalid --parent-path: %s", parent);
	}
	if (c->status_fd >= 0) {
		flags = fcntl(c->status_fd, F_GETFL);
		if (flags < 0)
			return bh_error_set(err, errno, "invalid --status-fd argument %d", c->status_fd);
		if ((flags & O_ACCMODE) == O_RDONLY)
			return bh_error_text(err, EINVAL, "invalid --status-fd argument %d: not writable", c->status_fd);
	}
	r = bh_bundle_spec(b, err);
	return r;
}

int bh_bundle_checkpoint(struct bh_bundle *b, const struct bh_bundle_criu *criu, struct bh_error *err)
{
	struct dumping d = { .bundle = b, .criu = criu, .folders = BH_CRIU_FOLDERS_INIT };
	struct bh_criu_call call = { .program = criu->program, .log = DUMP_LOG, .notify = notify, .context = &d };
	struct bh_criu_answer answer;
	int r = b->driver->has_own_kernel ? bh_error_text(err, ENOTSUP, "a microVM's processes can't be written by criu") :
					    bh_criu_open_folders(criu, true, &d.folders, err);

	if (r == 0)
		r = check(b, criu, err);
	if (r == 0)
		r = add_options(&d, err);
	call.folder = d.folders.log_folder;
	if (r == 0)
		r = bh_criu_call(&call, criu->pre_dump ? BH_CRIU_PRE_DUMP : BH_CRIU_DUMP, &d.options, &answer, err);
	bh_criu_close_folders(&d.folders);
	bh_buf_clear(&d.options);
	if (r < 0 || criu->leave_running || criu->pre_dump)
		return r;
	/* Its processes are gone. */
	return bh_bundle_delete(b, true, err);
}
