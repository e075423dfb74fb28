/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev: device nodes and the usual links.
 *
 * On the fresh tmpfs nodes are made by mknod. In a user namespace that is not allowed, so there a node is bound over an
 * empty file: for a device of the configuration one that the caller has made on a tmpfs of its own, with the mode and the
 * owner that were asked for; else the host's, compared with the device number that was asked for (CVE-2025-31133). A /dev
 * that is itself a bind from outside is left as it is.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* The first one is null. */
static const struct bh_spec_device default_devices[] = {
	{ .path = (char *)"/dev/null", .type = 'c', .major = 1, .minor = 3, .mode_set = true, .file_mode = 0666 },
	{ .path = (char *)"/dev/zero", .type = 'c', .major = 1, .minor = 5, .mode_set = true, .file_mode = 0666 },
	{ .path = (char *)"/dev/full", .type = 'c', .major = 1, .minor = 7, .mode_set = true, .file_mode = 0666 },
	{ .path = (char *)"/dev/random", .type = 'c', .major = 1, .minor = 8, .mode_set = true, .file_mode = 0666 },
	{ .path = (char *)"/dev/urandom", .type = 'c', .major = 1, .minor = 9, .mode_set = true, .file_mode = 0666 },
	{ .path = (char *)"/dev/tty", .type = 'c', .major = 5, .minor = 0, .mode_set = true, .file_mode = 0666 },
};

static const struct {
	const char *name, *target;
} links[] = {
	{ "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" },      { "ptmx", "pts/ptmx" },
};

static mode_t type_bits(char type)
{
	return type == 'b' ? S_IFBLK : type == 'p' ? S_IFIFO : S_IFCHR;
}

static bool matches(const struct stat *st, const struct bh_spec_device *d)
{
	if ((st->st_mode & S_IFMT) != type_bits(d->type))
		return false;
	return d->type == 'p' || st->st_rdev == makedev((unsigned)d->major, (unsigned)d->minor);
}

/* The folder of a device below the root and its last name; the folder is made if it is missing. */
static int open_parent(struct bh_job *job, const char *path, const char **ret_name, int *ret_own, struct bh_error *err)
{
	bh_auto_free char *folder = bh_strdup(path);
	char *slash = strrchr(folder, '/');
	int fd;

	*ret_name = strrchr(path, '/') + 1;
	if (!**ret_name || bh_streq(*ret_name, "..") || bh_streq(*ret_name, "."))
		return bh_error_text(err, EINVAL, "device %s: no name", path);
	*slash = '\0';
	if (bh_streq(folder, "/dev"))
		return job->dev_fd;
	fd = bh_make_in_root(job->root_fd, *folder ? folder : "/", BH_NODE_DIRECTORY, err);
	*ret_own = fd;
	return fd;
}

static int attach_node(int node_fd, int parent_fd, const char *name, struct bh_error *err)
{
	static const struct bh_mount_options bind = { .bind = true };
	bh_auto_close int target = -1;
	int r;

	if (bh_linux_has(BH_CALL_MOUNT_API)) {
		r = bh_mount_attach(node_fd, parent_fd, name);
		return r < 0 ? bh_error_set(err, -r, "attach the device %s", name) : 0;
	}
	target = openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0)
		return bh_error_set(err, errno, "open %s", name);
	return bh_mount_classic(NULL, name, node_fd, &bind, target, err);
}

static int open_host_node(const char *path, struct bh_error *err)
{
	int fd;

	if (bh_linux_has(BH_CALL_MOUNT_API))
		return bh_mount_copy(AT_FDCWD, path, false, err);
	fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? bh_error_set(err, errno, "open %s", path) : fd;
}

static int bind_device(const struct bh_spec_device *d, int parent_fd, const char *name, struct bh_error *err)
{
	bh_auto_close int file = openat(parent_fd, name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
	bh_auto_close int node = -1;
	struct stat st;

	if (file < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "make %s", d->path);
	node = open_host_node(d->path, err);
	if (node < 0)
		return node;
	if (fstat(node, &st) < 0 || !matches(&st, d))
		return bh_error_text(err, ENODEV, "the host's %s is not the device %c %lld:%lld", d->path, d->type, (long long)d->major,
				     (long long)d->minor);
	return attach_node(node, parent_fd, name, err);
}

static int check_existing(const struct bh_spec_device *d, int parent_fd, const char *name, struct bh_error *err)
{
	struct stat st;

	if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return bh_error_set(err, errno, "device %s", d->path);
	if (!matches(&st, d))
		return bh_error_text(err, EEXIST, "%s is there and is not the device %c %lld:%lld", d->path, d->type, (long long)d->major,
				     (long long)d->minor);
	return 0;
}

static mode_t node_mode(const struct bh_spec_device *d)
{
	return type_bits(d->type) | (d->mode_set ? d->file_mode & 07777 : 0666);
}

/* --- nodes for a user namespace ------------------------------------------------------------------------------------- */

/* An owner that the namespace doesn't know leaves the node to the machine's root. */
static int make_node(struct bh_job *job, int folder_fd, size_t index)
{
	const struct bh_spec *spec = job->spec;
	const struct bh_spec_device *d = &spec->devices[index];
	uint32_t uid = 0, gid = 0;
	char name[24];

	snprintf(name, sizeof name, "%zu", index);
	bh_id_to_host(spec->uid_mappings, spec->uid_mapping_count, d->uid, &uid);
	bh_id_to_host(spec->gid_mappings, spec->gid_mapping_count, d->gid, &gid);
	if (mknodat(folder_fd, name, node_mode(d), makedev((unsigned)d->major, (unsigned)d->minor)) < 0)
		return -errno;
	if (fchownat(folder_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(folder_fd, name, node_mode(d) & 07777, 0) < 0)
		return -errno;
	return 0;
}

int bh_job_make_nodes(struct bh_job *job, struct bh_error *err)
{
	static const struct bh_mount_options options = { .set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
	bh_auto_close int fd = -1;
	int r = 0;

	if (!(job->new_flags & CLONE_NEWUSER) || job->request->rootless || !job->spec->device_count || !bh_linux_has(BH_CALL_MOUNT_API))
		return 0;
	fd = bh_mount_new("tmpfs", "tmpfs", &options, err);
	if (fd < 0)
		return fd;
	for (size_t i = 0; r == 0 && i < job->spec->device_count; i++)
		r = job->spec->devices[i].type == 'p' ? 0 : make_node(job, fd, i);
	/* One who may make none binds those that are there. */
	if (r == -EPERM)
		return 0;
	if (r < 0)
		return bh_error_set(err, -r, "make the device nodes");
	job->nodes_fd = BH_TAKE_FD(fd);
	return 0;
}

/* A copy is made of what lies in the own mount namespace only: on top of the host's /dev, which goes with the old tree. */
static int show_nodes(struct bh_job *job, struct bh_error *err)
{
	int r = job->nodes_fd < 0 ? 0 : bh_mount_attach(job->nodes_fd, AT_FDCWD, "/dev");

	return r < 0 ? bh_error_set(err, -r, "attach the device nodes") : 0;
}

static int hide_nodes(struct bh_job *job, struct bh_error *err)
{
	return job->nodes_fd >= 0 && umount2("/dev", MNT_DETACH) < 0 ? bh_error_set(err, errno, "detach the device nodes") : 0;
}

static int bind_node(struct bh_job *job, const struct bh_spec_device *d, int parent_fd, const char *name, struct bh_error *err)
{
	bh_auto_close int file = openat(parent_fd, name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
	bh_auto_close int node = -1;
	char index[24];

	if (file < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "make %s", d->path);
	snprintf(index, sizeof index, "%zu", (size_t)(d - job->spec->devices));
	node = bh_mount_copy(job->nodes_fd, index, false, err);
	return node < 0 ? node : attach_node(node, parent_fd, name, err);
}

/* --- one device ------------------------------------------------------------------------------------------------------- */

static int make_device_at(struct bh_job *job, const struct bh_spec_device *d, const char *path, struct bh_error *err)
{
	bool configured = d >= job->spec->devices && d < job->spec->devices + job->spec->device_count;
	mode_t mode = node_mode(d);
	bh_auto_close int own = -1;
	const char *name;
	int r, parent = open_parent(job, path, &name, &own, err);

	if (parent < 0)
		return parent;
	if (job->user_namespace && d->type != 'p')
		return configured && job->nodes_fd >= 0 ? bind_node(job, d, parent, name, err) : bind_device(d, parent, name, err);
	r = mknodat(parent, name, mode, d->type == 'p' ? 0 : makedev((unsigned)d->major, (unsigned)d->minor));
	if (r < 0 && errno == EPERM && d->type != 'p')
		return bind_device(d, parent, name, err);
	if (r < 0 && errno != EEXIST)
		return bh_error_set(err, errno, "make the device %s", d->path);
	job->null_is_made |= r == 0 && job->dev_is_fresh && parent == job->dev_fd && d == &default_devices[0];
	/* In a tmpfs of our own a node that mknod made is what it is. Anywhere else somebody may have been there before. */
	if (r < 0 || !(job->dev_is_fresh && parent == job->dev_fd)) {
		r = check_existing(d, parent, name, err);
		if (r < 0)
			return r;
	}
	if ((d->uid || d->gid) && fchownat(parent, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return bh_error_set(err, errno, "give the device %s to %u:%u", d->path, d->uid, d->gid);
	return 0;
}

static int make_device(struct bh_job *job, const struct bh_spec_device *d, struct bh_error *err)
{
	size_t length = strlen(d->path);
	bh_auto_free char *plain = NULL;

	while (length > 1 && d->path[length - 1] == '/')
		length--;
	if (d->path[length])
		plain = bh_strndup(d->path, length);
	return make_device_at(job, d, plain ? plain : d->path, err);
}

static bool overridden(const struct bh_spec *spec, const char *path)
{
	for (size_t i = 0; i < spec->device_count; i++)
		if (bh_streq(spec->devices[i].path, path))
			return true;
	return false;
}

static int make_and_explain(struct bh_job *job, const struct bh_spec_device *d, struct bh_error *err)
{
	char number[48];
	int r = make_device(job, d, err);

	if (r < 0 || bh_explain_mode == BH_EXPLAIN_OFF)
		return r;
	snprintf(number, sizeof number, "%c %lld:%lld", d->type, (long long)d->major, (long long)d->minor);
	bh_explain("device", "path", d->path, "number", number);
	return 0;
}

static int make_links(struct bh_job *job, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(links); i++) {
		if (symlinkat(links[i].target, job->dev_fd, links[i].name) == 0)
			continue;
		if (errno != EEXIST)
			return bh_error_set(err, errno, "make the link /dev/%s", links[i].name);
		/* ptmx of an image's /dev would be the host's multiplexer; the others may stay as the image has them. */
		if (bh_streq(links[i].name, "ptmx") && (unlinkat(job->dev_fd, "ptmx", 0) < 0 || symlinkat("pts/ptmx", job->dev_fd, "ptmx") < 0))
			return bh_error_set(err, errno, "replace /dev/ptmx");
	}
	return 0;
}

static bool dev_is_bound(const struct bh_job *job)
{
	for (size_t i = 0; i < job->spec->mount_count; i++)
		if (job->mounts[i].options.bind && bh_streq(job->spec->mounts[i].destination, "/dev"))
			return true;
	return false;
}

int bh_child_devices(struct bh_job *job, struct bh_error *err)
{
	int r = 0;

	if (dev_is_bound(job))
		return 0;
	if (job->dev_fd < 0)
		job->dev_fd = bh_make_in_root(job->root_fd, "/dev", BH_NODE_DIRECTORY, err);
	if (job->dev_fd < 0)
		return job->dev_fd;
	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(default_devices); i++)
		if (!overridden(job->spec, default_devices[i].path))
			r = make_and_explain(job, &default_devices[i], err);
	if (r == 0)
		r = show_nodes(job, err);
	/* Everybody's multiplexer is that of the container's own devpts, whatever is asked for: a link. */
	for (size_t i = 0; r == 0 && i < job->spec->device_count; i++)
		r = bh_streq(job->spec->devices[i].path, "/dev/ptmx") ? 0 : make_and_explain(job, &job->spec->devices[i], err);
	if (r == 0)
		r = hide_nodes(job, err);
	return r < 0 ? r : make_links(job, err);
}
