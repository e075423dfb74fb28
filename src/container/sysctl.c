/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.sysctl: only settings that belong to a namespace, and only if the container has that namespace for itself;
 * anything else would change the host. They are written through the private procfs.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static const struct {
	const char *prefix;
	bool exact;
	enum bh_namespace_type owner;
} namespaced[] = {
	{ "kernel/msgmax", true, BH_NS_IPC }, { "kernel/msgmnb", true, BH_NS_IPC },          { "kernel/msgmni", true, BH_NS_IPC },
	{ "kernel/sem", true, BH_NS_IPC },    { "kernel/shmall", true, BH_NS_IPC },          { "kernel/shmmax", true, BH_NS_IPC },
	{ "kernel/shmmni", true, BH_NS_IPC }, { "kernel/shm_rmid_forced", true, BH_NS_IPC }, { "fs/mqueue/", false, BH_NS_IPC },
	{ "net/", false, BH_NS_NETWORK },     { "kernel/domainname", true, BH_NS_UTS },
};

/* "net.ipv4.conf.eth0/1.forwarding" -> "net/ipv4/conf/eth0.1/forwarding": as sysctl(8), dots separate and a slash stands
 * for a dot, unless the first separator is a slash. */
static char *to_path(const char *key)
{
	bool slashes = key[strcspn(key, "./")] == '/';
	char *path = bh_strdup(key);

	for (char *p = path; !slashes && *p; p++)
		*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	return path;
}

static bool has_bad_part(const char *path)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(path, '/');

	for (size_t i = 0; i < parts.count; i++)
		if (!*parts.items[i] || bh_streq(parts.items[i], ".") || bh_streq(parts.items[i], ".."))
			return true;
	return false;
}

/* Is the namespace the container's and not the one this program runs in? */
static bool is_own(const struct bh_job *job, enum bh_namespace_type type)
{
	bh_auto_free char *path = bh_printf("/proc/self/ns/%s", bh_namespaces[type].file);
	struct stat joined, host;

	if (job->new_flags & (uint64_t)bh_namespaces[type].flag)
		return true;
	if (job->join_fds[type] < 0 || fstat(job->join_fds[type], &joined) < 0 || stat(path, &host) < 0)
		return false;
	return joined.st_ino != host.st_ino || joined.st_dev != host.st_dev;
}

/* In runc's words. */
static int refuse(const char *key, const char *path, bool known, enum bh_namespace_type owner, struct bh_error *err)
{
	if (bh_streq(path, "kernel/hostname"))
		return bh_error_text(err, EINVAL, "linux.sysctl: sysctl \"%s\" is not allowed as it conflicts with the OCI \"hostname\" field", key);
	if (known && owner == BH_NS_NETWORK)
		return bh_error_text(err, EINVAL, "linux.sysctl: sysctl \"%s\" not allowed in host network namespace", key);
	if (known && owner == BH_NS_IPC)
		return bh_error_text(err, EINVAL, "linux.sysctl: sysctl \"%s\" is not allowed in the hosts ipc namespace", key);
	return bh_error_text(err, EINVAL, "linux.sysctl: sysctl \"%s\" is not in a separate kernel namespace", key);
}

static int check_key(const struct bh_job *job, const char *key, struct bh_error *err)
{
	bh_auto_free char *path = to_path(key);

	for (size_t i = 0; !has_bad_part(path) && i < BH_ARRAY_SIZE(namespaced); i++) {
		if (namespaced[i].exact ? !bh_streq(path, namespaced[i].prefix) : !bh_has_prefix(path, namespaced[i].prefix))
			continue;
		return is_own(job, namespaced[i].owner) ? 0 : refuse(key, path, true, namespaced[i].owner, err);
	}
	return refuse(key, path, false, BH_NS_COUNT, err);
}

int bh_check_sysctls(const struct bh_job *job, struct bh_error *err)
{
	for (size_t i = 0; i < job->spec->sysctl.count; i++) {
		const char *item = job->spec->sysctl.items[i];
		bh_auto_free char *key = bh_strndup(item, strcspn(item, "="));
		int r = check_key(job, key, err);

		if (r < 0)
			return r;
	}
	return 0;
}

int bh_child_sysctls(struct bh_job *job, struct bh_error *err)
{
	for (size_t i = 0; i < job->spec->sysctl.count; i++) {
		const char *item = job->spec->sysctl.items[i], *value = strchrnul(item, '=');
		bh_auto_free char *key = bh_strndup(item, (size_t)(value - item));
		bh_auto_free char *path = to_path(key), *file = bh_printf("sys/%s", path);
		int r = bh_write_value_at(job->proc_fd, file, *value ? value + 1 : "", err);

		if (r < 0) {
			bh_error_prefix(err, "sysctl %s", key);
			return r;
		}
		bh_explain("sysctl", "name", key, "value", *value ? value + 1 : "");
	}
	return 0;
}
