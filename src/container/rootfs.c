/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root file system and the mounts of a configuration, made by the first process in its own mount namespace.
 *
 * The container's root is attached on top of "/", where pivot_root(2) can take it from, and from then on it is an fd:
 * every destination is resolved below that fd, so links in the image can't lead out of it. Each mount is made detached,
 * gets its attributes, and is attached onto the fd of its target. The host's tree is there until the end, since a user
 * namespace may only mount procfs and sysfs while it can see one, and is then detached as a whole.
 *
 * A container without a mount namespace (job->host_mounts) works on the host's own tree. There its root is a private mount on
 * the rootfs folder, everything else is below that, and a chroot ends it.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/copy.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define MOUNTINFO_MAX (16u << 20)

static int attach_root_classic(struct bh_job *job, struct bh_error *err)
{
	const char *path = job->request->rootfs.path;

	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
		return bh_error_set(err, errno, "bind mount the root %s", path);
	job->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return job->root_fd < 0 ? bh_error_set(err, errno, "open the root %s", path) : 0;
}

/*
 * Where the root waits for pivot_root doesn't matter to us. But hooks that run before it enter this mount namespace (GPU
 * drivers' hooks do), and look for the host's tools and for the root at the path that they know.
 */
static int attach_root_for_hooks(struct bh_job *job)
{
	const struct bh_spec *spec = job->spec;
	const char *path = job->request->rootfs.path;
	bh_auto_close int target = -1;

	if (!path || !bh_has_early_hooks(spec))
		return -ENOENT;
	target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return target < 0 ? -errno : bh_mount_attach(job->root_fd, target, "");
}

/* On the host's own tree, where nothing else may change. A shared mount around it makes ours shared too; before anything is
 * mounted below, it leaves the group again. */
static int attach_root_on_host(struct bh_job *job, struct bh_error *err)
{
	const char *path = job->request->rootfs.path;
	bh_auto_close int target = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = target < 0 ? -errno : bh_mount_attach(job->root_fd, target, "");

	if (r < 0)
		return bh_error_set(err, -r, "attach the root file system on %s", path);
	r = bh_mount_set_propagation(job->root_fd, MS_PRIVATE, true, err);
	if (r == 0)
		bh_explain("mount", "type", "root", "source", path, "target", path, "propagation", "rprivate");
	return r;
}

int bh_child_attach_root(struct bh_job *job, struct bh_error *err)
{
	int r;

	if (job->host_mounts)
		return attach_root_on_host(job, err);
	/* Before anything else: what happens here must not reach the host, nor the end of the old tree unmount there. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return bh_error_set(err, errno, "make the mount namespace private");
	bh_explain("mount", "target", "/", "propagation", "rprivate");
	if (job->root_fd < 0) {
		r = attach_root_classic(job, err);
	} else {
		r = attach_root_for_hooks(job);
		if (r < 0)
			r = bh_mount_attach(job->root_fd, AT_FDCWD, "/");
		if (r < 0)
			bh_error_set(err, -r, "attach the root file system");
	}
	if (r == 0)
		bh_explain("mount", "type", "root", "source", job->request->rootfs.path ? job->request->rootfs.path : "detached mount", "target", "/");
	return r;
}

/* --- attaching ---------------------------------------------------------------------------------------------------- */

/* The rest of the path if it is one name below `folder` ("/dev", "/dev/pts" -> "pts"). */
const char *bh_single_name_below(const char *folder, const char *path)
{
	size_t length = strlen(folder);

	if (strncmp(path, folder, length) != 0 || path[length] != '/')
		return NULL;
	path += length + 1;
	if (!*path || strchr(path, '/') || bh_streq(path, ".") || bh_streq(path, ".."))
		return NULL;
	return path;
}

static int is_directory(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -errno : S_ISDIR(st.st_mode);
}

/* The folder that a destination's last name is in, as one of the fds we hold or as one to close (*ret_own). -1 if the
 * destination ends in no plain name or the folder isn't there. */
static int open_parent(struct bh_job *job, const char *destination, const char **ret_name, int *ret_own)
{
	const char *slash = strrchr(destination, '/');
	bh_auto_free char *folder = NULL;
	int fd;

	if (!slash || !slash[1] || bh_streq(slash + 1, ".") || bh_streq(slash + 1, ".."))
		return -1;
	*ret_name = slash + 1;
	if (slash == destination)
		return job->root_fd;
	folder = bh_strndup(destination, (size_t)(slash - destination));
	if (job->dev_is_fresh && bh_streq(folder, "/dev"))
		return job->dev_fd;
	/* Where no link is on the way, the words are the place, and those have been checked. */
	fd = bh_openat2(job->root_fd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
	*ret_own = fd;
	return fd;
}

static int make_target(int parent, const char *name, int mount_fd, enum bh_attach_kind kind)
{
	int fd;

	if (kind != BH_ATTACH_ANY || is_directory(mount_fd) == 1)
		return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
	fd = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return 0;
}

/*
 * The usual way: onto a name in a folder that is held as an fd. move_mount(2) follows no link there, so it can't lead
 * out; and a missing target costs two more calls instead of another lookup.
 */
static int attach_by_name(struct bh_job *job, int mount_fd, const char *destination, enum bh_attach_kind kind)
{
	bh_auto_close int own = -1;
	const char *name = NULL;
	struct stat st;
	int r, parent = open_parent(job, destination, &name, &own);

	if (parent < 0)
		return -ENOENT;
	/* The kernel lets a file be mounted on a link itself; what the link leads to is meant. */
	if (kind == BH_ATTACH_ANY && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return -ELOOP;
	/* In our new /dev nothing is there yet, so there it is not even tried. */
	r = parent == job->dev_fd ? -ENOENT : bh_mount_attach(mount_fd, parent, name);
	if (r != -ENOENT)
		return r;
	r = make_target(parent, name, mount_fd, kind);
	return r < 0 ? r : bh_mount_attach(mount_fd, parent, name);
}

static int open_target(struct bh_job *job, int mount_fd, const char *destination, enum bh_attach_kind kind, struct bh_error *err)
{
	bool plain_directory = kind == BH_ATTACH_PLAIN_DIRECTORY;
	int flags = O_PATH | (plain_directory ? O_DIRECTORY | O_NOFOLLOW : 0);
	int fd = bh_open_in_root(job->root_fd, destination, flags);

	if (fd == -ENOENT)
		return bh_make_in_root(job->root_fd, destination, is_directory(mount_fd) ? BH_NODE_DIRECTORY : BH_NODE_FILE, err);
	if (fd == -ELOOP || (fd == -ENOTDIR && plain_directory))
		return bh_error_text(err, ELOOP, "%s must be mounted on ordinary directory", destination);
	return fd < 0 ? bh_error_set(err, -fd, "open %s in the root file system", destination) : fd;
}

int bh_attach_inside(struct bh_job *job, int mount_fd, const char *destination, enum bh_attach_kind kind, struct bh_error *err)
{
	bh_auto_close int target = -1;
	int r;

	if (attach_by_name(job, mount_fd, destination, kind) == 0) {
		bh_note_mount(job, destination, true);
		return 0;
	}
	/* Anything unusual - links, `..`, missing folders - takes the long way, which also finds the words for it. */
	target = open_target(job, mount_fd, destination, kind, err);
	if (target < 0)
		return target;
	r = bh_check_proc_target(target, destination, err);
	if (r < 0)
		return r;
	r = bh_mount_attach(mount_fd, target, "");
	bh_note_mount(job, destination, false);
	if (r == -EINVAL && is_directory(mount_fd) != is_directory(target))
		return bh_error_text(err, ENOTDIR, "mount on %s: one is a folder, the other is not", destination);
	return r < 0 ? bh_error_set(err, -r, "mount on %s", destination) : 0;
}

/* --- one mount ---------------------------------------------------------------------------------------------------- */

static void explain_mount(const struct bh_spec_mount *m, const char *type)
{
	bh_auto_free char *words = NULL;

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	words = bh_strv_join(&m->options, ",");
	bh_explain("mount", "type", type, "source", m->source, "target", m->destination, "options", m->options.count ? words : NULL);
}

/* What a bind gets when its options don't say: it takes part in the host's propagation only as far as the whole root
 * was asked to. */
static unsigned long default_propagation(const struct bh_spec *spec)
{
	const char *root = spec->rootfs_propagation;

	if (root && strstr(root, "shared"))
		return 0;
	return root && strstr(root, "slave") ? MS_SLAVE : MS_PRIVATE;
}

static int set_bind(const struct bh_job *job, int fd, const struct bh_mount_options *options, struct bh_error *err)
{
	struct bh_mount_options exact = *options;

	bh_mount_options_exact(&exact);
	if (job->user_namespace && !bh_mount_options_keep_locked(&exact, options, fd))
		return bh_error_text(err, EPERM, "operation not permitted: the source's own options are locked in a user namespace");
	return bh_mount_set(fd, &exact, err);
}

static int place_bind(struct bh_job *job, const struct bh_spec_mount *m, const struct bh_job_mount *prepared, struct bh_error *err)
{
	const struct bh_mount_options *o = &prepared->options;
	unsigned long first = default_propagation(job->spec);
	int r = 0;

	/* Attributes and propagation of the whole copy are set before it can be seen. A copy that shall be shared leaves the
	 * host's peer group first, unless the root is shared too. */
	if (first && (!o->propagation || o->propagation == MS_SHARED))
		r = bh_mount_set_propagation(prepared->source_fd, o->propagation ? MS_SLAVE : first, true, err);
	if (r == 0)
		r = set_bind(job, prepared->source_fd, o, err);
	if (r == 0)
		r = bh_attach_inside(job, prepared->source_fd, m->destination, BH_ATTACH_ANY, err);
	if (r == 0)
		explain_mount(m, "bind");
	return r;
}

/* Some file systems can only be mounted by the owner of their namespace; a container that shares that namespace with
 * the host gets the host's view of it instead. */
static int copy_of_hosts(struct bh_job *job, const char *type, const struct bh_mount_options *o, struct bh_error *err)
{
	static const struct {
		const char *type, *path;
		enum bh_namespace_type owner;
	} shared[] = { { "proc", "/proc", BH_NS_PID }, { "sysfs", "/sys", BH_NS_NETWORK }, { "mqueue", "/dev/mqueue", BH_NS_IPC } };
	bh_auto_close int fd = -1;
	int r;

	for (size_t i = 0; i < BH_ARRAY_SIZE(shared); i++) {
		if (!bh_streq(shared[i].type, type) || job->new_flags & (uint64_t)bh_namespaces[shared[i].owner].flag)
			continue;
		fd = bh_mount_copy(AT_FDCWD, shared[i].path, true, err);
		r = fd < 0 ? fd : bh_mount_set_propagation(fd, MS_PRIVATE, true, err);
		if (r == 0)
			r = bh_mount_set(fd, o, err);
		return r < 0 ? r : BH_TAKE_FD(fd);
	}
	return -EPERM;
}

static int fill_from_below(struct bh_job *job, int mount_fd, const char *destination, struct bh_error *err)
{
	bh_auto_close int from = bh_open_in_root(job->root_fd, destination, O_RDONLY | O_DIRECTORY);

	if (from < 0)
		return from == -ENOENT ? 0 : bh_error_set(err, -from, "open %s in the root file system", destination);
	return bh_copy_tree(from, mount_fd, err);
}

/* gid=5 is the tty group of the host's conventions; where the user namespace has no such group the option must go. */
static void drop_unmapped_gid(const struct bh_job *job, struct bh_mount_options *o)
{
	for (size_t i = o->data.count; i-- > 0;) {
		int64_t gid;

		if (!bh_has_prefix(o->data.items[i], "gid=") || bh_parse_int(o->data.items[i] + 4, 0, UINT32_MAX, &gid) < 0)
			continue;
		if (!bh_id_is_mapped(job->spec->gid_mappings, job->spec->gid_mapping_count, (uint32_t)gid))
			bh_strv_remove(&o->data, i);
	}
}

static bool has_option(const struct bh_mount_options *o, const char *prefix)
{
	for (size_t i = 0; i < o->data.count; i++)
		if (bh_has_prefix(o->data.items[i], prefix))
			return true;
	return false;
}

/* As runc: a tmpfs without a mode of its own has that of the folder it covers. */
static void take_mode_from_below(struct bh_job *job, const char *destination, struct bh_mount_options *o)
{
	bh_auto_close int below = -1;
	struct stat st;

	if (has_option(o, "mode="))
		return;
	below = bh_open_in_root(job->root_fd, destination, O_PATH | O_DIRECTORY);
	if (below >= 0 && fstat(below, &st) == 0)
		bh_strv_addf(&o->data, "mode=%04o", st.st_mode & 07777);
}

/* gid=5 where the user namespace we are in has no such group, and the configuration could not tell. */
static bool drop_gid(const char *type, int why, struct bh_mount_options *o)
{
	bool dropped = false;

	if (why != -EINVAL || !bh_streq(type, "devpts"))
		return false;
	for (size_t i = o->data.count; i-- > 0;) {
		if (!bh_has_prefix(o->data.items[i], "gid="))
			continue;
		bh_strv_remove(&o->data, i);
		dropped = true;
	}
	return dropped;
}

/* /proc and /sys are the kernel's own, and later steps work in them. A copy of the host's procfs may be that of another pid
 * namespace, in which we are nobody. */
static void keep_kernel_mount(struct bh_job *job, const struct bh_spec_mount *m, int fd, bool copied, bool sealed)
{
	if (bh_streq(m->type, "proc") && bh_streq(m->destination, "/proc")) {
		job->proc_mount_fd = fd;
		job->proc_is_plain = !copied;
		job->proc_is_sealed = sealed;
	} else if (bh_streq(m->type, "sysfs") && bh_streq(m->destination, "/sys")) {
		job->sys_mount_fd = fd;
	}
}

static int place_new(struct bh_job *job, const struct bh_spec_mount *m, struct bh_mount_options *o, struct bh_error *err)
{
	bool is_tmpfs = bh_streq(m->type, "tmpfs"), is_dev = is_tmpfs && bh_streq(m->destination, "/dev");
	bool plain = bh_streq(m->type, "proc") || bh_streq(m->type, "sysfs");
	bool readonly = is_tmpfs && o->set & MOUNT_ATTR_RDONLY && (is_dev || o->copy_up);
	bool copied = false, sealed = bh_streq(m->type, "proc") && !((o->set | o->recursive_set) & MOUNT_ATTR_RDONLY) && bh_proc_can_be_sealed(job);
	int fd, r;

	if (readonly)
		o->set &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	if (sealed)
		o->set |= MOUNT_ATTR_RDONLY;
	if (bh_streq(m->type, "devpts") && job->spec->gid_mapping_count)
		drop_unmapped_gid(job, o);
	bh_label_mount(job, m->type, o);
	if (is_tmpfs && !o->copy_up)
		take_mode_from_below(job, m->destination, o);
	if (bh_mount_own(job, m, o)) {
		explain_mount(m, m->type);
		return 0;
	}
	fd = bh_mount_staged(job, m, o);
	if (fd < 0)
		fd = bh_mount_new(m->type, m->source ? m->source : m->type, o, err);
	if (drop_gid(m->type, fd, o))
		fd = bh_mount_new(m->type, m->source ? m->source : m->type, o, err);
	if (fd == -EPERM || fd == -EACCES) {
		int copy = copy_of_hosts(job, m->type, o, err);

		copied = copy >= 0;
		fd = copy == -EPERM ? fd : copy;
	}
	r = fd < 0 ? fd : 0;
	if (r == 0 && o->propagation)
		r = bh_mount_set_propagation(fd, o->propagation, o->propagation_recursive, err);
	if (r == 0 && o->copy_up)
		r = fill_from_below(job, fd, m->destination, err);
	if (r == 0 && readonly && !is_dev)
		r = bh_mount_set_readonly(fd, false, err);
	if (r == 0)
		r = bh_attach_inside(job, fd, m->destination, plain ? BH_ATTACH_PLAIN_DIRECTORY : BH_ATTACH_DIRECTORY, err);
	if (r < 0)
		return r;
	keep_kernel_mount(job, m, fd, copied, sealed);
	if (is_dev) {
		job->dev_fd = fd;
		job->dev_is_fresh = !o->copy_up;
		job->dev_readonly = readonly;
	}
	explain_mount(m, m->type);
	return 0;
}

static int place_remount(struct bh_job *job, const struct bh_spec_mount *m, const struct bh_mount_options *o, struct bh_error *err)
{
	int fd, r = bh_unseal_proc(job, err);

	if (r < 0)
		return r;
	fd = bh_open_in_root(job->root_fd, m->destination, O_PATH);
	r = fd < 0 ? bh_error_set(err, -fd, "open %s in the root file system", m->destination) : bh_mount_set(fd, o, err);

	if (r == 0)
		explain_mount(m, "remount");
	return r;
}

static bool same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev && st_a.st_ino == st_b.st_ino;
}

/* Without the mount API: mount(2) onto /proc/self/fd/TARGET, then the attributes on the mount that appeared there. */
static int place_classic(struct bh_job *job, const struct bh_spec_mount *m, struct bh_job_mount *prepared, struct bh_error *err)
{
	bool file = prepared->source_fd >= 0 && is_directory(prepared->source_fd) == 0;
	bool plain = bh_streq(m->type, "proc") || bh_streq(m->type, "sysfs");
	bh_auto_close int target = -1, source = -1;
	int mounted, r;

	/* mount(2) takes sources of its own mount namespace only: not the fd of the caller, but the same file in our copy. */
	if (prepared->source_fd >= 0) {
		source = bh_job_open_source(job, m->source, err);
		if (source < 0 || !same_file(source, prepared->source_fd))
			return source < 0 ? source : bh_error_text(err, ESTALE, "the mount source %s was replaced", m->source);
	}

	if (plain) {
		target = bh_open_in_root(job->root_fd, m->destination, O_PATH | O_NOFOLLOW);
		if (target >= 0 && is_directory(target) != 1)
			return bh_error_text(err, ELOOP, "%s must be mounted on ordinary directory", m->destination);
		bh_close_fd(&target);
	}
	target = bh_make_in_root(job->root_fd, m->destination, file ? BH_NODE_FILE : BH_NODE_DIRECTORY, err);
	r = target < 0 ? target : bh_check_proc_target(target, m->destination, err);
	if (r < 0)
		return r;
	if (bh_streq(m->type, "devpts") && job->spec->gid_mapping_count)
		drop_unmapped_gid(job, &prepared->options);
	if (source < 0)
		bh_label_mount(job, m->type, &prepared->options);
	r = bh_mount_classic(m->type, m->source ? m->source : m->type, source, &prepared->options, target, err);
	if (drop_gid(m->type, r, &prepared->options))
		r = bh_mount_classic(m->type, m->source ? m->source : m->type, -1, &prepared->options, target, err);
	if (r < 0)
		return r;
	mounted = bh_open_in_root(job->root_fd, m->destination, O_PATH);
	if (mounted < 0)
		return bh_error_set(err, -mounted, "open the mount %s", m->destination);
	if (prepared->source_fd >= 0 && !prepared->options.propagation)
		prepared->options.propagation = MS_PRIVATE, prepared->options.propagation_recursive = true;
	if (prepared->source_fd < 0)
		prepared->options.set = prepared->options.clear = 0;
	r = bh_mount_classic_set(mounted, &prepared->options, err);
	if (bh_streq(m->destination, "/dev") && bh_streq(m->type, "tmpfs"))
		job->dev_fd = mounted, job->dev_is_fresh = true;
	if (r == 0)
		explain_mount(m, prepared->source_fd >= 0 ? "bind" : m->type);
	return r;
}

/* crun(1): one that is there must say the same. */
static int place_link(struct bh_job *job, const struct bh_spec_mount *m, const char *text, struct bh_error *err)
{
	bh_auto_free char *folder = bh_strdup(m->destination);
	char *slash = strrchr(folder, '/');
	char there[PATH_MAX];
	bh_auto_close int parent = -1;
	ssize_t length;

	if (!slash || !slash[1] || bh_streq(slash + 1, ".") || bh_streq(slash + 1, ".."))
		return bh_error_text(err, EINVAL, "a link needs a name");
	*slash = '\0';
	parent = bh_make_in_root(job->root_fd, *folder ? folder : "/", BH_NODE_DIRECTORY, err);
	if (parent < 0)
		return parent;
	if (symlinkat(text, parent, slash + 1) < 0) {
		if (errno != EEXIST)
			return bh_error_set(err, errno, "make the link");
		length = readlinkat(parent, slash + 1, there, sizeof there - 1);
		there[BH_MAX(length, (ssize_t)0)] = '\0';
		if (length < 0 || !bh_streq(there, text))
			return bh_error_text(err, EEXIST, "something is there that is not the link to %s", text);
	}
	explain_mount(m, "link");
	return 0;
}

static int place(struct bh_job *job, const struct bh_spec_mount *m, struct bh_job_mount *prepared, struct bh_error *err)
{
	if (prepared->options.remount)
		return place_remount(job, m, &prepared->options, err);
	if (prepared->link)
		return place_link(job, m, prepared->link, err);
	if (bh_streq(m->type, "cgroup") || bh_streq(m->type, "cgroup2"))
		return bh_mount_cgroups(job, m, &prepared->options, err);
	if (!bh_linux_has(BH_CALL_MOUNT_API))
		return place_classic(job, m, prepared, err);
	if (prepared->options.bind)
		return place_bind(job, m, prepared, err);
	if (!m->type || !*m->type)
		return bh_error_text(err, EINVAL, "the mount has no type");
	return place_new(job, m, &prepared->options, err);
}

/* A bind of a part of the container's own root, as the mounts before it have left it. */
static int copy_from_inside(struct bh_job *job, const struct bh_job_mount *prepared, struct bh_error *err)
{
	bh_auto_close int fd = bh_open_in_root(job->root_fd, prepared->inside, O_PATH);
	int r = bh_unseal_proc(job, err);

	if (r < 0)
		return r;
	if (fd < 0)
		return bh_error_set(err, -fd, "open the mount source %s", prepared->inside);
	r = bh_linux_has(BH_CALL_MOUNT_API) ? bh_mount_copy(fd, "", prepared->options.recursive_bind, err) : -ENOSYS;
	return r == -ENOSYS ? BH_TAKE_FD(fd) : r;
}

static int copy_in_turn(struct bh_job *job, size_t index, struct bh_error *err)
{
	const struct bh_spec_mount *m = &job->spec->mounts[index];
	struct bh_job_mount *prepared = &job->mounts[index];
	int r = 0;

	if (prepared->inside)
		prepared->source_fd = copy_from_inside(job, prepared, err);
	else if (prepared->in_turn)
		prepared->source_fd = bh_job_copy_source(job, m->source, prepared->options.recursive_bind, err);
	else if (prepared->from_caller)
		r = bh_child_ask_for(job, BH_MESSAGE_COPY, (int)index, &prepared->source_fd, err);
	else
		return 0;
	if (r == 0 && prepared->from_caller && prepared->source_fd < 0)
		r = bh_error_text(err, EPROTO, "the caller has sent no copy of %s", m->source);
	if (r < 0)
		return r;
	if (prepared->source_fd < 0)
		return prepared->source_fd;
	r = bh_check_proc_mount(m, prepared, err);
	if (r < 0 || !prepared->inside || !(m->uid_mapping_count || prepared->options.idmap || prepared->options.recursive_idmap))
		return r;
	return bh_child_ask_about(job, BH_MESSAGE_IDMAP, (int)index, prepared->source_fd, err);
}

int bh_child_mounts(struct bh_job *job, struct bh_error *err)
{
	for (size_t i = 0; i < job->spec->mount_count; i++) {
		const struct bh_spec_mount *m = &job->spec->mounts[i];
		int r = copy_in_turn(job, i, err);

		if (r == 0)
			r = place(job, m, &job->mounts[i], err);

		/* Docker's users know these words. */
		if (r < 0) {
			bh_error_prefix(err, "error during container init: error mounting \"%s\" to rootfs at \"%s\"",
					m->source ? m->source :
					m->type   ? m->type :
						    "",
					m->destination);
			return r;
		}
	}
	return 0;
}

/* --- files of the container's own --------------------------------------------------------------------------------- */

/* A tmpfs to make them on: /dev if it is our own new one, else one on the old tree's /dev, which goes with that tree. */
static int files_folder(struct bh_job *job, struct bh_error *err)
{
	const struct bh_mount_options o = { .set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	bh_auto_close int fd = -1;
	int r;

	if (job->dev_is_fresh)
		return fcntl(job->dev_fd, F_DUPFD_CLOEXEC, 3);
	if (bh_linux_has(BH_CALL_MOUNT_API))
		fd = bh_mount_new("tmpfs", "tmpfs", &o, err);
	if (fd >= 0) {
		r = bh_mount_attach(fd, AT_FDCWD, "/dev");
		return r < 0 ? bh_error_set(err, -r, "mount a tmpfs") : BH_TAKE_FD(fd);
	}
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return bh_error_set(err, errno, "mount a tmpfs");
	return bh_open_dir(AT_FDCWD, "/dev", 0, err);
}

static int attach_file(struct bh_job *job, int folder_fd, const char *name, const char *target, struct bh_error *err)
{
	const struct bh_mount_options o = { .bind = true };
	bh_auto_close int mount_fd = bh_linux_has(BH_CALL_MOUNT_API) ? bh_mount_copy(folder_fd, name, false, err) : -ENOSYS;
	bh_auto_close int target_fd = -1;

	if (mount_fd != -ENOSYS)
		return mount_fd < 0 ? mount_fd : bh_attach_inside(job, mount_fd, target, BH_ATTACH_ANY, err);
	mount_fd = openat(folder_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	target_fd = bh_make_in_root(job->root_fd, target, BH_NODE_FILE, err);
	return target_fd < 0 ? target_fd : bh_mount_classic("bind", target, mount_fd, &o, target_fd, err);
}

/* The name goes as soon as the file is mounted on its target: what is mounted stays. */
static int place_file(struct bh_job *job, int folder_fd, const struct bh_container_file *file, struct bh_error *err)
{
	static const char name[] = ".file";
	bh_auto_close int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r;

	if (fd < 0)
		return bh_error_set(err, errno, "make the file for %s", file->target);
	r = file->length ? bh_write_all(fd, file->content, file->length) : 0;
	r = r < 0 ? bh_error_set(err, -r, "write the file for %s", file->target) : attach_file(job, folder_fd, name, file->target, err);
	unlinkat(folder_fd, name, 0);
	if (r == 0)
		bh_explain("mount", "type", "file", "target", file->target);
	return r;
}

int bh_child_files(struct bh_job *job, struct bh_error *err)
{
	bh_auto_close int folder_fd = -1;
	int r = 0;

	if (job->request->file_count == 0)
		return 0;
	folder_fd = files_folder(job, err);
	if (folder_fd < 0)
		return folder_fd;
	for (size_t i = 0; r == 0 && i < job->request->file_count; i++)
		r = place_file(job, folder_fd, &job->request->files[i], err);
	return r;
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static int set_root_propagation(const char *word, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = { 0 };
	struct bh_mount_options o;
	int r = 0;

	bh_strv_add(&words, word);
	bh_mount_options_parse(&words, &o);
	if (!o.propagation)
		r = bh_error_text(err, EINVAL, "rootfsPropagation: unknown value '%.40s'", word);
	else if (mount(NULL, "/", NULL, o.propagation | (o.propagation_recursive ? MS_REC : 0), NULL) < 0)
		r = bh_error_set(err, errno, "make the root %s", word);
	bh_mount_options_clear(&o);
	return r;
}

static int make_root_readonly(struct bh_job *job, struct bh_error *err)
{
	static const struct bh_mount_options readonly = { .set = MOUNT_ATTR_RDONLY };
	int r = bh_linux_has(BH_CALL_MOUNT_API) ? bh_mount_set(job->root_fd, &readonly, err) : bh_mount_classic_set(job->root_fd, &readonly, err);

	if (r == 0)
		bh_explain("mount", "target", "/", "options", "ro");
	return r;
}

/* A chroot leaves the old tree in the mount namespace. Its procfs and sysfs, which hide nothing, must not be reachable by a
 * process that gets out; and with them there the container could mount new ones in its user namespace. */
static int hide_kernel_file_systems(struct bh_error *err)
{
	bh_auto_buf struct bh_buf mounts = { 0 };
	int r = bh_read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mounts, err);
	bh_auto_strv struct bh_strv lines = { 0 };

	if (r < 0)
		return r;
	lines = bh_strv_split(mounts.data, '\n');
	for (size_t i = lines.count; i-- > 0;) {
		bh_auto_strv struct bh_strv fields = bh_strv_split(lines.items[i], ' ');
		const char *type = strstr(lines.items[i], " - ");

		if (fields.count < 5 || !type || !(bh_has_prefix(type, " - proc ") || bh_has_prefix(type, " - sysfs ")))
			continue;
		/* Those of the container have paths like the host's, but from the old root only the host's are found. */
		if (umount2(fields.items[4], MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
			return bh_error_set(err, errno, "detach the host's %s", fields.items[4]);
	}
	return 0;
}

/* The root lies on top of "/" already, where whoever climbs out of a chroot arrives; not so on the host's tree, which stays as it
 * is. */
static int enter_by_chroot(struct bh_job *job, struct bh_error *err)
{
	int r = job->host_mounts ? 0 : hide_kernel_file_systems(err);

	if (r < 0)
		return r;
	if (fchdir(job->root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return bh_error_set(err, errno, "chroot");
	bh_explain("chroot", "new_root", ".");
	return 0;
}

static int enter_by_pivot(struct bh_job *job, struct bh_error *err)
{
	/* pivot_root(".", "."): the old root comes to lie on top of the new one, and is taken off as a whole. */
	if (fchdir(job->root_fd) < 0)
		return bh_error_set(err, errno, "enter the root file system");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return bh_error_set(err, errno, errno == EINVAL ? "pivot_root (is this machine's root the initial ramfs?)" : "pivot_root");
	/* The current folder stays the new root's. */
	if (umount2(".", MNT_DETACH) < 0)
		return bh_error_set(err, errno, "detach the host's file systems");
	bh_explain("pivot_root", "new_root", ".", "put_old", ".", "old", "detached");
	return 0;
}

/* As long as something can be made. Whether it can be entered is found out by the process itself. */
static void make_working_directory(struct bh_job *job)
{
	const char *path = job->process->cwd;
	int fd;

	if (!path || *path != '/' || bh_streq(path, "/"))
		return;
	fd = bh_open_in_root(job->root_fd, path, O_PATH);
	if (fd == -ENOENT)
		fd = bh_make_in_root(job->root_fd, path, BH_NODE_DIRECTORY, NULL);
	bh_close_fd(&fd);
}

int bh_child_pivot(struct bh_job *job, struct bh_error *err)
{
	const char *propagation = job->spec->rootfs_propagation;
	int r = 0;

	if (job->spec->root.readonly) {
		make_working_directory(job);
		r = make_root_readonly(job, err);
	}

	if (r == 0)
		r = job->request->no_pivot || job->host_mounts ? enter_by_chroot(job, err) : enter_by_pivot(job, err);
	return r == 0 && propagation && *propagation ? set_root_propagation(propagation, err) : r;
}
