/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and changing a runtime configuration in memory.
 *
 * The defaults are those Docker gives a container; a user of Docker finds the same mounts, masks, devices and
 * capabilities here. They are tables, so that a reader can compare them line by line.
 */
#include "oci/spec.h"

#include "base/file.h"

struct default_mount {
	const char *destination, *type, *source, *options;
};

static const struct default_mount default_mounts[] = {
	{ "/proc", "proc", "proc", "nosuid,noexec,nodev" },
	{ "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
	{ "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
	{ "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro" },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", "ro,nosuid,noexec,nodev" },
	{ "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
	{ "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=67108864" },
};

static const char *const default_masked_paths[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
};

static const char *const default_readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

/* Everything is denied first; mknod stays possible, since making a node is not opening it. */
static const struct bh_spec_device_rule default_device_rules[] = {
	{ false, 'a', -1, -1, "rwm" }, { true, 'c', -1, -1, "m" }, { true, 'b', -1, -1, "m" }, { true, 'c', 1, 3, "rwm" }, /* null */
	{ true, 'c', 1, 5, "rwm" },                                                                                        /* zero */
	{ true, 'c', 1, 7, "rwm" },                                                                                        /* full */
	{ true, 'c', 1, 8, "rwm" },                                                                                        /* random */
	{ true, 'c', 1, 9, "rwm" },                                                                                        /* urandom */
	{ true, 'c', 5, 0, "rwm" },                                                                                        /* tty */
	{ true, 'c', 5, 1, "rwm" },                                                                                        /* console */
	{ true, 'c', 5, 2, "rwm" },                                                                                        /* ptmx */
	{ true, 'c', 136, -1, "rwm" },                                                                                     /* pts */
};

static const enum bh_namespace_type default_namespaces[] = {
	BH_NS_PID, BH_NS_NETWORK, BH_NS_MOUNT, BH_NS_IPC, BH_NS_UTS, BH_NS_CGROUP,
};

void bh_spec_default(struct bh_spec *spec)
{
	struct bh_spec_capabilities *caps = &spec->process.capabilities;

	spec->oci_version = bh_strdup(BH_SPEC_VERSION);
	spec->has_process = true;
	spec->process.cwd = bh_strdup("/");
	caps->set = true;
	caps->bounding = caps->effective = caps->permitted = bh_capability_default_set();
	for (size_t i = 0; i < BH_ARRAY_SIZE(default_mounts); i++) {
		const struct default_mount *m = &default_mounts[i];

		bh_spec_add_mount(spec, m->destination, m->type, m->source, m->options);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(default_namespaces); i++)
		spec->namespaces[default_namespaces[i]].present = true;
	for (size_t i = 0; i < BH_ARRAY_SIZE(default_masked_paths); i++)
		bh_strv_add(&spec->masked_paths, default_masked_paths[i]);
	for (size_t i = 0; i < BH_ARRAY_SIZE(default_readonly_paths); i++)
		bh_strv_add(&spec->readonly_paths, default_readonly_paths[i]);
	spec->resources.devices = bh_memdup(default_device_rules, sizeof default_device_rules);
	spec->resources.device_count = BH_ARRAY_SIZE(default_device_rules);
	spec->seccomp.source = BH_SECCOMP_DEFAULT;
}

static void drop_option(struct bh_strv *options, const char *option)
{
	for (size_t i = options->count; i-- > 0;)
		if (bh_streq(options->items[i], option))
			bh_strv_remove(options, i);
}

void bh_spec_privileged(struct bh_spec *spec)
{
	struct bh_spec_capabilities *caps = &spec->process.capabilities;
	static const struct bh_spec_device_rule everything = { true, 'a', -1, -1, "rwm" };
	static const char *const writable[] = { "/sys", "/sys/fs/cgroup" };

	caps->set = true;
	caps->bounding = caps->effective = caps->permitted = bh_capability_all_set();
	caps->inheritable = caps->ambient = 0;
	spec->seccomp.source = BH_SECCOMP_NONE;
	bh_strv_clear(&spec->masked_paths);
	bh_strv_clear(&spec->readonly_paths);
	free(spec->resources.devices);
	spec->resources.devices = bh_memdup(&everything, sizeof everything);
	spec->resources.device_count = 1;
	for (size_t i = 0; i < BH_ARRAY_SIZE(writable); i++) {
		struct bh_spec_mount *mount = bh_spec_find_mount(spec, writable[i]);

		if (mount)
			drop_option(&mount->options, "ro");
	}
}

struct bh_spec_mount *bh_spec_add_mount(struct bh_spec *spec, const char *destination, const char *type, const char *source, const char *options)
{
	struct bh_spec_mount *mount;

	spec->mounts = bh_realloc(spec->mounts, (spec->mount_count + 1) * sizeof *spec->mounts);
	mount = &spec->mounts[spec->mount_count++];
	*mount = (struct bh_spec_mount){ .destination = bh_strdup(destination), .type = bh_strdup(type), .source = bh_strdup(source) };
	if (options && *options)
		mount->options = bh_strv_split(options, ',');
	return mount;
}

/* Paths are compared by their meaning as words, so that "/dev/shm/" and "/dev//shm" are "/dev/shm". */
static bool same_path(const char *a, const char *b)
{
	bh_auto_free char *clean_a = NULL, *clean_b = NULL;

	if (bh_streq(a, b))
		return true;
	clean_a = bh_path_clean(a);
	clean_b = bh_path_clean(b);
	return bh_streq(clean_a, clean_b);
}

struct bh_spec_mount *bh_spec_find_mount(struct bh_spec *spec, const char *destination)
{
	for (size_t i = 0; i < spec->mount_count; i++)
		if (same_path(spec->mounts[i].destination, destination))
			return &spec->mounts[i];
	return NULL;
}

static void clear_mount(struct bh_spec_mount *mount)
{
	free(mount->destination);
	free(mount->source);
	free(mount->type);
	bh_strv_clear(&mount->options);
	free(mount->uid_mappings);
	free(mount->gid_mappings);
}

void bh_spec_remove_mount(struct bh_spec *spec, const char *destination)
{
	size_t kept = 0;

	for (size_t i = 0; i < spec->mount_count; i++) {
		if (same_path(spec->mounts[i].destination, destination))
			clear_mount(&spec->mounts[i]);
		else
			spec->mounts[kept++] = spec->mounts[i];
	}
	spec->mount_count = kept;
}
