/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a container that doesn't run, as its processes would see them: its root file system and on it its volumes. */
#include "container/container.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/mount.h"
#include "linux/path.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* One volume or folder of the host, where a start would mount it. */
static int attach_bind(int root_fd, const struct bh_spec_mount *m, int userns_fd, struct bh_error *err)
{
	bh_auto(bh_mount_options_clear) struct bh_mount_options options = { 0 };
	bh_auto_close int source = -1, target = -1;
	struct stat st;
	int r;

	bh_mount_options_parse(&m->options, &options);
	if (!m->source || !(options.bind || bh_streq(m->type, "bind")))
		return 0;
	source = r = bh_mount_copy(AT_FDCWD, m->source, true, err);
	if (r < 0)
		return bh_error_prefix(err, "mount on %s", m->destination);
	bh_mount_options_exact(&options);
	r = bh_mount_set_propagation(source, MS_PRIVATE, true, err);
	if (r == 0 && (options.idmap || options.recursive_idmap) && userns_fd >= 0)
		r = bh_mount_set_idmap(source, userns_fd, options.recursive_idmap, err);
	if (r == 0)
		r = bh_mount_set(source, &options, err);
	if (r == 0 && fstat(source, &st) < 0)
		r = bh_error_set(err, errno, "look at %s", m->source);
	if (r == 0)
		target = r = bh_make_in_root(root_fd, m->destination, S_ISDIR(st.st_mode) ? BH_NODE_DIRECTORY : BH_NODE_FILE, err);
	if (r < 0)
		return r;
	r = bh_mount_attach(source, target, "");
	if (r < 0)
		return bh_error_set(err, -r, "mount on %s", m->destination);
	bh_explain("mount", "type", "bind", "source", m->source, "target", m->destination);
	return 0;
}

int bh_container_mount_files(const struct bh_spec *spec, int root_fd, int userns_fd, bool readonly, struct bh_error *err)
{
	bh_auto_close int root = -1;
	int r;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return bh_error_set(err, errno, "make a mount namespace");
	bh_explain("namespace", "type", "mount", "action", "create");
	root = r = bh_open_dir(AT_FDCWD, "/", O_PATH, err);
	if (r < 0)
		return r;
	/* On our own root, which only we see. */
	r = bh_mount_attach(root_fd, root, "");
	if (r < 0)
		return bh_error_set(err, -r, "attach the root file system");
	r = 0;
	for (size_t i = 0; r == 0 && i < spec->mount_count; i++)
		r = attach_bind(root_fd, &spec->mounts[i], userns_fd, err);
	if (r == 0 && (spec->root.readonly || readonly))
		r = bh_mount_set_readonly(root_fd, false, err);
	return r;
}
