/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring: CRIU makes a container's processes again, in a cgroup that is ready for them.
 *
 * CRIU runs in that cgroup, which is how what it makes gets there, and in a mount namespace of its own, so that nothing it
 * needs is seen outside or left behind:
 *	1 a first private mount namespace, where the binds of the configuration are mounted over each other as at creation, to
 *	  make in the root file system what has to be there as a mount point
 *	2 a second one with the root file system on ROOT/<id>/criu-root: CRIU asks for a root that is a mount
 * The first process becomes our child, beside CRIU (rst_sibling). It is on record as soon as CRIU tells of it, while it is
 * still stopped. A failure before CRIU's last word ends everything that it has made.
 */
#include "bundle/criu-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/namespace.h"
#include "linux/path.h"
#include "linux/syscall.h"
#include "oci/json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define RESTORE_LOG "restore.log"
#define CRIU_ROOT "criu-root"
#define STREAMS 3
#define LSM_VERSION 31600 /* before, CRIU didn't keep what it was told */

struct restoring {
	const struct bh_bundle_restore *request;
	const struct bh_bundle *bundle;
	struct bh_criu_folders folders;
	struct bh_buf options;
	char *root;
	int namespace_fds[BH_NS_COUNT];
	size_t namespace_count;
};

/* --- in the process that becomes criu ---------------------------------------------------------------------------- */

static int private_mounts(struct bh_error *err)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return bh_error_set(err, errno, "make a mount namespace for criu");
	return 0;
}

static int bind_fd(int from_fd, int to_fd)
{
	bh_auto_free char *from = bh_printf("/proc/self/fd/%d", from_fd), *to = bh_printf("/proc/self/fd/%d", to_fd);

	return mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* A file system that comes with its content and its mount points covers this place. */
static bool is_below_other(const struct bh_spec *spec, size_t index)
{
	const char *at = spec->mounts[index].destination;

	for (size_t i = 0; i < spec->mount_count; i++) {
		const char *above = spec->mounts[i].destination;

		if (i != index && !bh_criu_is_bind(&spec->mounts[i]) && bh_has_prefix(at, above) && at[strlen(above)] == '/')
			return true;
	}
	return false;
}

static int make_mount_point(const struct bh_bundle *b, int root_fd, const struct bh_spec_mount *m, struct bh_error *err)
{
	bool bind = bh_criu_is_bind(m);
	bh_auto_free char *source = !bind ? NULL : *m->source == '/' ? bh_strdup(m->source) : bh_path_join(b->bundle, m->source);
	bh_auto_close int source_fd = bind ? open(source, O_PATH | O_CLOEXEC) : -1, fd = -1;
	struct stat st = { .st_mode = S_IFDIR };
	int r;

	if (bind && (source_fd < 0 || fstat(source_fd, &st) < 0))
		return bh_error_set(err, errno, "open %s", source);
	fd = bh_make_in_root(root_fd, m->destination, S_ISDIR(st.st_mode) ? BH_NODE_DIRECTORY : BH_NODE_FILE, err);
	if (fd < 0)
		return fd;
	r = bind ? bind_fd(source_fd, fd) : 0;
	return r < 0 ? bh_error_set(err, -r, "mount %s on %s", source, m->destination) : 0;
}

static int make_mount_points(const struct bh_bundle *b, struct bh_error *err)
{
	bh_auto_close int root_fd = bh_open_dir(AT_FDCWD, b->rootfs, O_PATH, err);
	int r = root_fd < 0 ? root_fd : 0;

	for (size_t i = 0; r == 0 && i < b->spec.mount_count; i++) {
		const struct bh_spec_mount *m = &b->spec.mounts[i];

		/* Those of cgroups come with sysfs, or with the tmpfs that holds them. */
		if (!bh_streq(m->type, "cgroup") && !bh_streq(m->type, "cgroup2") && !is_below_other(&b->spec, i))
			r = make_mount_point(b, root_fd, m, err);
	}
	return r;
}

static int prepare(void *context, struct bh_error *err)
{
	const struct restoring *s = context;
	bh_auto_close int outside = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int r = outside < 0 ? bh_error_set(err, errno, "open /proc/self/ns/mnt") : private_mounts(err);

	if (r == 0)
		r = make_mount_points(s->bundle, err);
	if (r == 0 && setns(outside, CLONE_NEWNS) < 0)
		r = bh_error_set(err, errno, "leave the mount namespace");
	if (r == 0)
		r = private_mounts(err);
	if (r == 0 && mount(s->bundle->rootfs, s->root, NULL, MS_BIND | MS_REC, NULL) < 0)
		r = bh_error_set(err, errno, "mount %s on %s", s->bundle->rootfs, s->root);
	return r;
}

/* --- the request ---------------------------------------------------------------------------------------------------- */

static void add_binds(struct restoring *s)
{
	const struct bh_bundle *b = s->bundle;
	const char *path;

	for (size_t i = 0; i < b->spec.mount_count; i++) {
		const struct bh_spec_mount *m = &b->spec.mounts[i];
		bh_auto_free char *at = NULL, *source = NULL;

		if (!bh_criu_is_bind(m))
			continue;
		at = bh_criu_destination(b->rootfs, m->destination);
		source = *m->source == '/' ? bh_strdup(m->source) : bh_path_join(b->bundle, m->source);
		bh_criu_pair(&s->options, BH_CRIU_EXT_MNT, at, source);
	}
	if (b->spec.masked_paths.count && bh_criu_masks_with_hosts_null(&b->spec))
		bh_criu_pair(&s->options, BH_CRIU_EXT_MNT, "/dev/null", "/dev/null");
	for (size_t i = 0; bh_criu_device_at(&b->spec, i, &path); i++)
		bh_criu_pair(&s->options, BH_CRIU_EXT_MNT, path, path);
}

static void add_cgroup_binds(struct restoring *s)
{
	const struct bh_spec *spec = &s->bundle->spec;
	const char *name;
	int fd;

	if (spec->namespaces[BH_NS_CGROUP].present || !s->request->cgroup)
		return;
	for (size_t i = 0; i < spec->mount_count; i++) {
		if (!bh_streq(spec->mounts[i].type, "cgroup"))
			continue;
		for (size_t k = 0; bh_cgroup_mount_source(s->request->cgroup, k, &name, &fd) == 0; k++) {
			bh_auto_free char *at = bh_path_join(spec->mounts[i].destination, name);
			bh_auto_free char *folder = *name ? bh_cgroup_mount_path(s->request->cgroup, name) : NULL;

			if (folder)
				bh_criu_pair(&s->options, BH_CRIU_EXT_MNT, at, folder);
		}
	}
}

static int add_namespaces(struct restoring *s, struct bh_error *err)
{
	for (size_t i = 0; i < BH_NS_COUNT; i++) {
		const char *path = s->bundle->spec.namespaces[i].path, *key = bh_criu_namespace_key((enum bh_namespace_type)i);
		int fd;

		if (!path)
			continue;
		if (i == BH_NS_CGROUP)
			return bh_error_text(err, EINVAL, "linux.namespaces: criu can't restore into a cgroup namespace that is there already");
		if (!key) {
			bh_criu_pair(&s->options, BH_CRIU_JOIN_NS, bh_namespaces[i].file, path);
			continue;
		}
		fd = bh_namespace_open(AT_FDCWD, path, (enum bh_namespace_type)i, err);
		if (fd < 0)
			return fd;
		bh_criu_inherit(&s->options, key, BH_CRIU_FIRST_FD + (int)s->namespace_count);
		s->namespace_fds[s->namespace_count++] = fd;
	}
	return 0;
}

/* Pipes that led out are ours now, by the same numbers. The file came with the images: it is as good as they are. */
static int add_streams(struct restoring *s, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *array = NULL;
	int r = bh_read_file_at(s->folders.images_fd, BH_CRIU_DESCRIPTORS, BH_CRIU_DESCRIPTORS_MAX, &text, err);

	if (r == -ENOENT)
		return bh_error_text(err, ENOENT, "%s holds no checkpoint: there is no " BH_CRIU_DESCRIPTORS, s->request->criu->image_path);
	if (r < 0)
		return r;
	array = json_tokener_parse(text.data);
	if (!json_object_is_type(array, json_type_array) || json_object_array_length(array) > STREAMS) {
		json_object_put(array);
		return bh_error_text(err, EINVAL, "%s holds no checkpoint: its " BH_CRIU_DESCRIPTORS " is damaged", s->request->criu->image_path);
	}
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		const char *was = json_object_get_string(json_object_array_get_idx(array, i));

		if (was && strstr(was, "pipe:"))
			bh_criu_inherit(&s->options, was, (int)i);
	}
	json_object_put(array);
	return 0;
}

static int check_lsm(const struct bh_bundle_criu *c, struct bh_error *err)
{
	const struct bh_criu_call call = { .program = c->program, .folder = "" };
	struct bh_criu_answer answer;
	int r;

	if (!c->lsm_profile && !c->lsm_mount_context)
		return 0;
	r = bh_criu_call(&call, BH_CRIU_VERSION, NULL, &answer, err);
	if (r == 0 && answer.version < LSM_VERSION)
		return bh_error_text(err, EINVAL, "--lsm-profile and --lsm-mount-context require at least CRIU 3.16");
	return r;
}

static int add_options(struct restoring *s, struct bh_error *err)
{
	const struct bh_bundle_criu *c = s->request->criu;
	int r = check_lsm(c, err);

	if (r == 0)
		r = bh_criu_common_options(s->bundle, c, &s->folders, RESTORE_LOG, &s->options, err);
	if (r == 0)
		r = add_streams(s, err);
	if (r == 0)
		r = add_namespaces(s, err);
	if (r < 0)
		return r;
	bh_criu_number(&s->options, BH_CRIU_EVASIVE_DEVICES, true);
	bh_criu_number(&s->options, BH_CRIU_RST_SIBLING, true);
	bh_criu_text(&s->options, BH_CRIU_ROOT, s->root);
	if (c->lsm_profile)
		bh_criu_text(&s->options, BH_CRIU_LSM_PROFILE, c->lsm_profile);
	if (c->lsm_mount_context)
		bh_criu_text(&s->options, BH_CRIU_LSM_MOUNT_CONTEXT, c->lsm_mount_context);
	add_binds(s);
	add_cgroup_binds(s);
	return 0;
}

/* --- criu's steps ---------------------------------------------------------------------------------------------------- */

static int notify(void *context, const char *step, pid_t pid, int fd, struct bh_error *err)
{
	struct restoring *s = context;

	bh_debug("criu: %s", step);
	if (bh_streq(step, "orphan-pts-master") && fd >= 0 && s->request->stdio->ret_terminal_fd < 0) {
		s->request->stdio->ret_terminal_fd = fd;
		return 0;
	}
	bh_close_fd(&fd);
	if (bh_streq(step, "setup-namespaces"))
		return bh_bundle_run_creation_hooks(s->bundle, pid, err);
	return bh_streq(step, "post-restore") ? s->request->restored(s->request->context, pid, err) : 0;
}

int bh_bundle_restore(const struct bh_bundle *b, const struct bh_bundle_restore *request, struct bh_error *err)
{
	struct restoring s = { .request = request, .bundle = b, .folders = BH_CRIU_FOLDERS_INIT };
	struct bh_criu_call call = {
		.program = request->criu->program,
		.log = RESTORE_LOG,
		.stdio = request->stdio,
		.fds = s.namespace_fds,
		.cgroup = request->cgroup,
		.prepare = prepare,
		.notify = notify,
		.context = &s,
	};
	bh_auto_free char *folder = bh_printf("/proc/self/fd/%d", b->dir_fd);
	struct bh_criu_answer answer;
	char path[PATH_MAX] = "";
	int r = bh_criu_open_folders(request->criu, false, &s.folders, err);

	call.folder = s.folders.log_folder;
	call.folder_fds[0] = s.folders.images_fd;
	call.folder_fds[1] = s.folders.work_fd;
	if (r == 0 && readlink(folder, path, sizeof path - 1) < 0)
		r = bh_error_set(err, errno, "find the state folder");
	s.root = bh_path_join(path, CRIU_ROOT);
	if (r == 0)
		r = add_options(&s, err);
	if (r == 0 && mkdirat(b->dir_fd, CRIU_ROOT, 0755) < 0)
		r = bh_error_set(err, errno, "make %s", s.root);
	call.fd_count = s.namespace_count;
	if (r == 0)
		r = bh_criu_call(&call, BH_CRIU_RESTORE, &s.options, &answer, err);
	unlinkat(b->dir_fd, CRIU_ROOT, AT_REMOVEDIR);
	for (size_t i = 0; i < s.namespace_count; i++)
		bh_close_fd(&s.namespace_fds[i]);
	bh_criu_close_folders(&s.folders);
	bh_buf_clear(&s.options);
	bh_free_ptr(&s.root);
	return r;
}
