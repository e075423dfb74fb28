/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spec: a config.json to begin with.
 *
 * It has runc's values and layout (a tab per level, one member per line), since people edit it with sed. With --rootless
 * it is for an ordinary user: a user namespace with that one id instead of a network namespace, /sys bound from the host,
 * and nothing that needs more ids or a cgroup.
 */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

struct spec_options {
	const char *bundle;
	bool rootless;
};

static const struct bh_option options[] = {
	{ 'b', "bundle", BH_OPTION_STRING, offsetof(struct spec_options, bundle), "DIR", "Write it into this folder (default: the current one)", NULL,
	  false },
	{ 0, "rootless", BH_OPTION_BOOL, offsetof(struct spec_options, rootless), NULL, "For an ordinary user", NULL, false },
	{ 0 },
};

struct mount {
	const char *destination, *type, *source, *options;
};

static const struct mount mounts[] = {
	{ "/proc", "proc", "proc", NULL },
	{ "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
	{ "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5" },
	{ "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k" },
	{ "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
	{ "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro" },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro" },
};
static const struct mount mounts_rootless[] = {
	{ "/proc", "proc", "proc", NULL },
	{ "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k" },
	{ "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620" },
	{ "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k" },
	{ "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev" },
	{ "/sys", "none", "/sys", "rbind,nosuid,noexec,nodev,ro" },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro" },
};

static const char head[] = "{\n"
			   "\t\"ociVersion\": \"" BH_SPEC_VERSION "\",\n"
			   "\t\"process\": {\n"
			   "\t\t\"terminal\": true,\n"
			   "\t\t\"user\": {\n"
			   "\t\t\t\"uid\": 0,\n"
			   "\t\t\t\"gid\": 0\n"
			   "\t\t},\n"
			   "\t\t\"args\": [\n"
			   "\t\t\t\"sh\"\n"
			   "\t\t],\n"
			   "\t\t\"env\": [\n"
			   "\t\t\t\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\n"
			   "\t\t\t\"TERM=xterm\"\n"
			   "\t\t],\n"
			   "\t\t\"cwd\": \"/\",\n"
			   "\t\t\"capabilities\": {\n";

static const char middle[] = "\t\t},\n"
			     "\t\t\"rlimits\": [\n"
			     "\t\t\t{\n"
			     "\t\t\t\t\"type\": \"RLIMIT_NOFILE\",\n"
			     "\t\t\t\t\"hard\": 1024,\n"
			     "\t\t\t\t\"soft\": 1024\n"
			     "\t\t\t}\n"
			     "\t\t],\n"
			     "\t\t\"noNewPrivileges\": true\n"
			     "\t},\n"
			     "\t\"root\": {\n"
			     "\t\t\"path\": \"rootfs\",\n"
			     "\t\t\"readonly\": true\n"
			     "\t},\n"
			     "\t\"hostname\": \"bulkhead\",\n";

static const char resources[] = "\t\t\"resources\": {\n"
				"\t\t\t\"devices\": [\n"
				"\t\t\t\t{\n"
				"\t\t\t\t\t\"allow\": false,\n"
				"\t\t\t\t\t\"access\": \"rwm\"\n"
				"\t\t\t\t}\n"
				"\t\t\t]\n"
				"\t\t},\n";

/* A member with an array of strings, one per line; with a comma behind it unless it is the last. */
static void add_list(struct bh_buf *out, const char *indent, const char *name, const char *words, bool last)
{
	bh_auto_strv struct bh_strv items = bh_strv_split(words, ',');

	bh_buf_addf(out, "%s\"%s\": [\n", indent, name);
	for (size_t i = 0; i < items.count; i++)
		bh_buf_addf(out, "%s\t\"%s\"%s\n", indent, items.items[i], i + 1 < items.count ? "," : "");
	bh_buf_addf(out, "%s]%s\n", indent, last ? "" : ",");
}

static void add_mounts(struct bh_buf *out, const struct mount *list, size_t count)
{
	bh_buf_adds(out, "\t\"mounts\": [\n");
	for (size_t i = 0; i < count; i++) {
		const struct mount *m = &list[i];

		bh_buf_addf(out, "\t\t{\n\t\t\t\"destination\": \"%s\",\n\t\t\t\"type\": \"%s\",\n\t\t\t\"source\": \"%s\"%s\n", m->destination,
			    m->type, m->source, m->options ? "," : "");
		if (m->options)
			add_list(out, "\t\t\t", "options", m->options, true);
		bh_buf_addf(out, "\t\t}%s\n", i + 1 < count ? "," : "");
	}
	bh_buf_adds(out, "\t],\n");
}

static void add_namespaces(struct bh_buf *out, bool rootless)
{
	struct bh_cgroup_host host = { 0 };
	bool v2 = bh_cgroup_host(&host, NULL) == 0 && host.version == 2;
	const char *const types[] = {
		"pid", rootless ? NULL : "network", "ipc", "uts", "mount", v2 ? "cgroup" : NULL, rootless ? "user" : NULL,
	};
	const char *comma = "";

	bh_cgroup_host_clear(&host);
	bh_buf_adds(out, "\t\t\"namespaces\": [\n");
	for (size_t i = 0; i < BH_ARRAY_SIZE(types); i++) {
		if (!types[i])
			continue;
		bh_buf_addf(out, "%s\t\t\t{\n\t\t\t\t\"type\": \"%s\"\n\t\t\t}", comma, types[i]);
		comma = ",\n";
	}
	bh_buf_adds(out, "\n\t\t],\n");
}

static void add_map(struct bh_buf *out, const char *name, unsigned id)
{
	bh_buf_addf(out, "\t\t\"%s\": [\n\t\t\t{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": %u,\n\t\t\t\t\"size\": 1\n\t\t\t}\n\t\t],\n", name,
		    id);
}

static void write_spec(struct bh_buf *out, bool rootless)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };

	bh_buf_adds(out, head);
	for (size_t i = 0; i < BH_ARRAY_SIZE(sets); i++)
		add_list(out, "\t\t\t", sets[i], "CAP_AUDIT_WRITE,CAP_KILL,CAP_NET_BIND_SERVICE", i + 1 == BH_ARRAY_SIZE(sets));
	bh_buf_adds(out, middle);
	if (rootless)
		add_mounts(out, mounts_rootless, BH_ARRAY_SIZE(mounts_rootless));
	else
		add_mounts(out, mounts, BH_ARRAY_SIZE(mounts));
	bh_buf_adds(out, "\t\"linux\": {\n");
	if (rootless) {
		add_map(out, "uidMappings", geteuid());
		add_map(out, "gidMappings", getegid());
	} else {
		bh_buf_adds(out, resources);
	}
	add_namespaces(out, rootless);
	add_list(out, "\t\t", "maskedPaths",
		 "/proc/acpi,/proc/asound,/proc/kcore,/proc/keys,/proc/latency_stats,/proc/timer_list,/proc/timer_stats,/proc/sched_debug,"
		 "/sys/firmware,/proc/scsi",
		 false);
	add_list(out, "\t\t", "readonlyPaths", "/proc/bus,/proc/fs,/proc/irq,/proc/sys,/proc/sysrq-trigger", true);
	bh_buf_adds(out, "\t}\n}\n");
}

static int run(void *arg, int argc, char **argv)
{
	const struct spec_options *o = arg;
	bh_auto_buf struct bh_buf text = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_close int dir = bh_open_dir(AT_FDCWD, o->bundle && *o->bundle ? o->bundle : ".", O_PATH, &err);
	int r;

	(void)argc, (void)argv;
	if (dir < 0)
		return bh_oci_fail(&err, 1);
	write_spec(&text, o->rootless);
	r = bh_write_file_at(dir, "config.json", text.data, text.length, 0666, BH_WRITE_EXCL, &err);
	if (r == -EEXIST)
		bh_error_text(&err, EEXIST, "File config.json exists. Remove it first");
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_spec = {
	.name = "spec",
	.synopsis = "[OPTIONS]",
	.summary = "Write a config.json to begin with",
	.description = "The file must not exist. It asks for a shell on a terminal in the folder rootfs beside it.",
	.sets = { options },
	.options_size = sizeof(struct spec_options),
	.run = run,
};
