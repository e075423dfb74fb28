/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /sys/fs/cgroup inside a container.
 *
 * Version 2 is one file system. On version 1 it is a tmpfs with one folder per hierarchy, named as on the host, and
 * links for the controllers that share one ("cpu" -> "cpu,cpuacct"). With a cgroup namespace of its own the container
 * mounts each hierarchy and sees its own cgroup as the root; without one its own cgroup's folder is bound there, so
 * that it still sees nothing of its neighbours.
 *
 * The hierarchies are mounted with mount(2) relative to the tmpfs as the current folder: one call each instead of five,
 * and safe, as the tmpfs is new and nobody else can reach it. So is the tmpfs itself, or the tree of version 2, where /sys
 * is a sysfs that we have just mounted.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/path.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define CGROUP_FILE_MAX 65536
#define MS_CGROUP (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME)

struct hierarchy {
	char *controllers;  /* "cpu,cpuacct" or "name=systemd" */
	const char *folder; /* "cpu,cpuacct" or "systemd" */
	const char *path;   /* this process's cgroup in it */
};

/* Takes a line of /proc/self/cgroup ("4:memory:/a/b") apart, in place. False for the version 2 line. */
static bool parse_line(char *line, struct hierarchy *ret)
{
	char *controllers = strchr(line, ':');
	char *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path || path == controllers + 1)
		return false;
	*path = '\0';
	ret->controllers = controllers + 1;
	ret->folder = bh_has_prefix(ret->controllers, "name=") ? ret->controllers + 5 : ret->controllers;
	ret->path = path + 1;
	return *ret->folder && !strchr(ret->folder, '/');
}

static bool own_view(const struct bh_job *job)
{
	return job->spec->namespaces[BH_NS_CGROUP].present;
}

static bool is_word_of(const char *word, const char *list)
{
	size_t length = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		if (strncmp(at, word, length) == 0 && (at[length] == ',' || !at[length]))
			return true;
	return false;
}

/*
 * The container's own folder in this hierarchy, by its path on the host. NULL: it has none there, but shares the runtime's, whose
 * whole tree, with the names of all its neighbours, a mount would show.
 */
static char *own_folder(const struct bh_job *job, const struct hierarchy *h)
{
	const char *name;
	int fd;

	if (!job->request->cgroup)
		return bh_printf("/sys/fs/cgroup/%s%s", h->folder, h->path);
	/* Controllers may share a hierarchy: "cpu,cpuacct". */
	for (size_t i = 0; bh_cgroup_mount_source(job->request->cgroup, i, &name, &fd) == 0; i++)
		if (is_word_of(name, h->folder))
			return bh_cgroup_mount_path(job->request->cgroup, name);
	return NULL;
}

static int link_controllers(int tmpfs_fd, const struct hierarchy *h, struct bh_error *err)
{
	bh_auto_strv struct bh_strv names = bh_strv_split(h->folder, ',');

	for (size_t i = 0; names.count > 1 && i < names.count; i++)
		if (symlinkat(h->folder, tmpfs_fd, names.items[i]) < 0)
			return bh_error_set(err, errno, "make the link %s", names.items[i]);
	return 0;
}

static int mount_hierarchy(struct bh_job *job, const char *destination, int tmpfs_fd, const struct hierarchy *h, bool readonly, struct bh_error *err)
{
	bh_auto_free char *source = own_folder(job, h);

	if (!source)
		return 0;
	if (mkdirat(tmpfs_fd, h->folder, 0755) < 0)
		return bh_error_set(err, errno, "make the folder %s", h->folder);
	if (own_view(job)) {
		if (mount("cgroup", h->folder, "cgroup", MS_CGROUP | (readonly ? MS_RDONLY : 0), h->controllers) < 0)
			return bh_error_set(err, errno, "mount the cgroup hierarchy %s", h->controllers);
	} else {
		if (mount(source, h->folder, NULL, MS_BIND, NULL) < 0)
			return bh_error_set(err, errno, "bind %s", source);
		/* With the mount API all of them get their attributes at once, at the end. */
		if (!bh_linux_has(BH_CALL_MOUNT_API) &&
		    mount(NULL, h->folder, NULL, MS_BIND | MS_REMOUNT | MS_CGROUP | (readonly ? MS_RDONLY : 0), NULL) < 0)
			return bh_error_set(err, errno, "set the attributes of %s", source);
	}
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *target = bh_path_join(destination, h->folder);

		bh_explain("mount", "type", "cgroup", "source", own_view(job) ? "cgroup" : source, "target", target, "options", h->controllers);
	}
	return link_controllers(tmpfs_fd, h, err);
}

static int fill_v1(struct bh_job *job, const char *destination, int tmpfs_fd, char *lines, bool readonly, struct bh_error *err)
{
	char *next;
	int r = 0;

	for (char *line = lines; r == 0 && line && *line; line = next) {
		struct hierarchy h;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (parse_line(line, &h))
			r = mount_hierarchy(job, destination, tmpfs_fd, &h, readonly, err);
	}
	return r;
}

static bool has_v1(const char *lines)
{
	for (const char *line = lines; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
		const char *controllers = strchr(line, ':');

		if (controllers && controllers[1] != ':')
			return true;
	}
	return false;
}

/* A new file system of this type on `destination`, by either API. Returns an fd inside it. */
static int mount_at(struct bh_job *job, const char *type, const char *destination, const struct bh_mount_options *o, struct bh_error *err)
{
	bh_auto_close int target = -1;
	int fd = bh_mount_new(type, type, o, err), r;

	if (fd != -ENOSYS) {
		r = fd < 0 ? fd : bh_attach_inside(job, fd, destination, BH_ATTACH_DIRECTORY, err);
		return r < 0 ? r : fd;
	}
	target = bh_make_in_root(job->root_fd, destination, BH_NODE_DIRECTORY, err);
	r = target < 0 ? target : bh_mount_classic(type, type, -1, o, target, err);
	if (r < 0)
		return r;
	fd = bh_open_in_root(job->root_fd, destination, O_PATH);
	return fd < 0 ? bh_error_set(err, -fd, "open %s", destination) : fd;
}

/* The usual place, on the sysfs that we have just mounted ourselves (own-mounts.c): one call. */
static bool mount_on_own(struct bh_job *job, const char *type, const char *destination, const struct bh_mount_options *o)
{
	return bh_streq(destination, "/sys/fs/cgroup") && bh_enter_own(job, job->sys_mount_fd) == 0 &&
	       bh_mount_at_once(type, type, o, "fs/cgroup") == 0;
}

/* Its root becomes the current folder; *ret_fd is an fd of it, or AT_FDCWD. */
static int enter_tmpfs(struct bh_job *job, const char *destination, const struct bh_mount_options *o, int *ret_fd, struct bh_error *err)
{
	int fd = AT_FDCWD;
	bool own = mount_on_own(job, "tmpfs", destination, o);

	job->folder_fd = -1;
	if (!own)
		fd = mount_at(job, "tmpfs", destination, o, err);
	if (!own && fd < 0)
		return fd;
	if ((own ? chdir("fs/cgroup") : fchdir(fd)) < 0)
		return bh_error_set(err, errno, "enter the cgroup tmpfs");
	*ret_fd = fd;
	return 0;
}

/* A user namespace may mount the tree only with a cgroup namespace of its own; else its own folder is bound there. */
static int bind_v2(struct bh_job *job, const char *destination, const struct bh_mount_options *o, struct bh_error *err)
{
	bh_auto_free char *source = job->request->cgroup ? bh_cgroup_mount_path(job->request->cgroup, "") : NULL;
	bh_auto_buf struct bh_buf lines = { 0 };
	bh_auto_close int fd = -1;
	int r = source ? 0 : bh_read_file_at(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &lines, err);

	if (r < 0)
		return r;
	if (!source) {
		lines.data[strcspn(lines.data, "\n")] = '\0';
		source = bh_printf("/sys/fs/cgroup%s", bh_has_prefix(lines.data, "0::/") ? lines.data + 3 : "");
	}
	fd = bh_mount_copy(AT_FDCWD, source, false, err);
	r = fd < 0 ? fd : bh_mount_set(fd, o, err);
	if (r == 0)
		r = bh_attach_inside(job, fd, destination, BH_ATTACH_DIRECTORY, err);
	if (r == 0)
		bh_explain("mount", "type", "bind", "source", source, "target", destination, "options", o->set & MOUNT_ATTR_RDONLY ? "ro" : "rw");
	return r;
}

static int mount_v2(struct bh_job *job, const char *destination, const struct bh_mount_options *o, struct bh_error *err)
{
	int fd = mount_on_own(job, "cgroup2", destination, o) ? 0 : mount_at(job, "cgroup2", destination, o, err);

	if (fd == -EPERM && !own_view(job))
		return bind_v2(job, destination, o, err);
	if (fd >= 0)
		bh_explain("mount", "type", "cgroup2", "source", "cgroup2", "target", destination, "options", o->set & MOUNT_ATTR_RDONLY ? "ro" : "rw");
	return fd < 0 ? fd : 0;
}

static int mount_v1(struct bh_job *job, const char *destination, struct bh_mount_options *o, char *lines, struct bh_error *err)
{
	bool readonly = o->set & MOUNT_ATTR_RDONLY;
	int fd = -1, r;

	o->set &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	bh_strv_add(&o->data, "mode=755");
	r = enter_tmpfs(job, destination, o, &fd, err);
	if (r == 0)
		r = fill_v1(job, destination, fd, lines, readonly, err);
	if (r < 0)
		return r;
	if (bh_linux_has(BH_CALL_MOUNT_API)) {
		/* Binds on the host's own tree are peers of what they show. */
		const struct bh_mount_options all = { .recursive_set = o->set | (readonly ? MOUNT_ATTR_RDONLY : 0),
						      .propagation = job->host_mounts ? MS_PRIVATE : 0,
						      .propagation_recursive = true };

		r = bh_mount_set(fd, &all, err);
	} else if (readonly) {
		o->set = MOUNT_ATTR_RDONLY;
		r = bh_mount_classic_set(fd, o, err);
	}
	if (r == 0 && readonly)
		bh_explain("mount", "type", "tmpfs", "source", "cgroup", "target", destination, "options", "ro");
	return r;
}

int bh_mount_cgroups(struct bh_job *job, const struct bh_spec_mount *m, const struct bh_mount_options *options, struct bh_error *err)
{
	bh_auto(bh_mount_options_clear) struct bh_mount_options o = { .set = options->set | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC };
	const struct bh_cgroup *cgroup = job->request->cgroup;
	const char *told = cgroup ? bh_cgroup_self_text(cgroup) : NULL;
	bh_auto_buf struct bh_buf lines = { 0 };
	int r = 0;

	if (cgroup && bh_cgroup_version(cgroup) == 2)
		return mount_v2(job, m->destination, &o, err);
	if (told)
		bh_buf_adds(&lines, told);
	else
		r = bh_read_file_at(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &lines, err);
	if (r < 0)
		return r;
	return has_v1(lines.data) ? mount_v1(job, m->destination, &o, lines.data, err) : mount_v2(job, m->destination, &o, err);
}
