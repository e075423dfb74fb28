/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts on /proc and inside it.
 *
 * A container whose /proc is something else, or has something else in it, could deceive everything that trusts it: its own
 * protected paths, labels, limits. So /proc is procfs, and only files that are known to be only read are covered by others
 * (lxcfs does that). The rule and its words are runc's. A destination can also get there through a link of the image:
 * that is seen at its target, which then is on procfs.
 */
#include "container/container-internal.h"

#include "base/file.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/vfs.h>

static const char *const coverable[] = {
	"/proc/cpuinfo",
	"/proc/diskstats",
	"/proc/meminfo",
	"/proc/stat",
	"/proc/swaps",
	"/proc/uptime",
	"/proc/loadavg",
	"/proc/slabinfo",
	"/proc/net/dev",
	"/proc/sys/kernel/ns_last_pid",
	"/proc/sys/crypto/fips_enabled",
};

static bool is_on_procfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

static bool is_coverable(const char *path)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(coverable); i++)
		if (bh_streq(path, coverable[i]))
			return true;
	return false;
}

int bh_check_proc_mount(const struct bh_spec_mount *mount, const struct bh_job_mount *prepared, struct bh_error *err)
{
	bh_auto_free char *path = NULL;

	if (!strstr(mount->destination, "proc") || prepared->options.remount)
		return 0;
	path = bh_path_clean(mount->destination);
	if (bh_streq(path, "/proc")) {
		if (prepared->options.bind ? is_on_procfs(prepared->source_fd) : bh_streq(mount->type, "proc"))
			return 0;
		return bh_error_text(err, EINVAL, "\"%s\" cannot be mounted because it is not of type proc", path);
	}
	if (!bh_has_prefix(path, "/proc/") || is_coverable(path))
		return 0;
	return bh_error_text(err, EINVAL, "\"%s\" cannot be mounted because it is inside /proc", path);
}

int bh_check_proc_target(int target_fd, const char *destination, struct bh_error *err)
{
	bh_auto_free char *path = NULL;

	if (!is_on_procfs(target_fd))
		return 0;
	path = bh_path_clean(destination);
	/* What the words allowed: /proc again, on top of the first, and the known files. */
	if (bh_streq(path, "/proc") || is_coverable(path))
		return 0;
	return bh_error_text(err, EINVAL, "\"%s\" cannot be mounted because it is inside /proc", path);
}
