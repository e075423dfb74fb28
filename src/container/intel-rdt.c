/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.intelRdt (runtime-spec config-linux.md): a class of service of the resctrl file system, which divides caches and
 * memory bandwidth.
 *
 * Without a closID the container has a group of its own with its id as name, which goes when the container is deleted. A
 * named one may be shared and is never removed: if schemata are given it is made where it is missing, and has to have them
 * already where it is not; without schemata it has to be there. The group for monitoring lies inside and is the container's
 * own. The caller makes all of it before the clone; the process enters by writing to the `tasks` files it inherits, since
 * a write of a process about itself needs no right but the fd.
 */
#include "container/container-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define RESCTRL "/sys/fs/resctrl"
#define RESCTRL_MAGIC 0x7655821 /* RDTGROUP_SUPER_MAGIC */
#define SCHEMATA_MAX 65536

static bool given(const char *text)
{
	return text && *text;
}

static bool monitors(const struct bh_spec *spec)
{
	return spec->intel_rdt.enable_monitoring || spec->intel_rdt.enable_cmt || spec->intel_rdt.enable_mbm;
}

static bool has_schemata(const struct bh_spec *spec)
{
	return given(spec->intel_rdt.l3_cache_schema) || given(spec->intel_rdt.mem_bw_schema) || spec->intel_rdt.schemata.count;
}

static bool is_wanted(const struct bh_spec *spec)
{
	return spec->intel_rdt.set && (given(spec->intel_rdt.clos_id) || has_schemata(spec) || monitors(spec));
}

/* The group's name below the file system; "." is the default group. */
static const char *group_name(const struct bh_spec *spec, const char *id)
{
	if (!given(spec->intel_rdt.clos_id))
		return has_schemata(spec) ? id : ".";
	return bh_streq(spec->intel_rdt.clos_id, "/") ? "." : spec->intel_rdt.clos_id;
}

static bool is_own_group(const struct bh_spec *spec)
{
	return !given(spec->intel_rdt.clos_id) && has_schemata(spec);
}

/* One line for each resource, as the file takes them. */
static void all_schemata(const struct bh_spec *spec, struct bh_strv *ret)
{
	const char *const first[] = { spec->intel_rdt.l3_cache_schema, spec->intel_rdt.mem_bw_schema };

	for (size_t i = 0; i < BH_ARRAY_SIZE(first); i++) {
		bh_auto_strv struct bh_strv lines = { 0 };

		if (!given(first[i]))
			continue;
		lines = bh_strv_split(first[i], '\n');
		bh_strv_extend(ret, lines.items);
	}
	bh_strv_extend(ret, spec->intel_rdt.schemata.items);
}

/* "L3:0=f;1=f" is what the file says as "    L3:0=00f;1=00f": leading zeros don't count. */
static bool same_schema(const char *a, const char *b)
{
	while (*a && *b) {
		bool value = *a == '=' && *b == '=';

		if (*a++ != *b++)
			return false;
		for (; value && *a == '0' && a[1] && !strchr(";\n", a[1]);)
			a++;
		for (; value && *b == '0' && b[1] && !strchr(";\n", b[1]);)
			b++;
	}
	return (!*a || *a == '\n') && (!*b || *b == '\n');
}

static bool file_has(const char *content, const char *schema)
{
	for (const char *line = content; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (same_schema(line + strspn(line, " \t"), schema))
			return true;
	return false;
}

static int compare_schemata(int group_fd, const struct bh_strv *lines, struct bh_error *err)
{
	bh_auto_buf struct bh_buf now = { 0 };
	int r = bh_read_file_at(group_fd, "schemata", SCHEMATA_MAX, &now, err);

	for (size_t i = 0; r == 0 && i < lines->count; i++)
		if (*lines->items[i] && !file_has(now.data ? now.data : "", lines->items[i]))
			return bh_error_text(err, EINVAL, "the group exists and its schemata are not \"%.100s\"", lines->items[i]);
	return r;
}

static int write_schemata(int group_fd, const struct bh_strv *lines, struct bh_error *err)
{
	for (size_t i = 0; i < lines->count; i++) {
		bh_auto_free char *line = bh_printf("%s\n", lines->items[i]);
		int r = *lines->items[i] ? bh_write_value_at(group_fd, "schemata", line, err) : 0;

		if (r < 0)
			return r;
		bh_explain("intel-rdt", "schema", lines->items[i]);
	}
	return 0;
}

static int open_tasks(int group_fd, const char *path, int *ret_fd, struct bh_error *err)
{
	*ret_fd = openat(group_fd, path, O_WRONLY | O_CLOEXEC);
	return *ret_fd < 0 ? bh_error_set(err, errno, "open %s", path) : 0;
}

int bh_rdt_prepare(int resctrl_fd, const struct bh_spec *spec, const char *id, int ret_fds[2], struct bh_error *err)
{
	const char *name = group_name(spec, id);
	bh_auto_strv struct bh_strv lines = { 0 };
	bh_auto_close int group_fd = -1;
	bool made = false;
	int r = 0;

	all_schemata(spec, &lines);
	if (lines.count && !bh_streq(name, ".")) {
		made = mkdirat(resctrl_fd, name, 0755) == 0;
		if (!made && (errno != EEXIST || is_own_group(spec)))
			return bh_error_set(err, errno, "make the group %s", name);
	}
	group_fd = bh_open_dir(resctrl_fd, name, O_NOFOLLOW, err);
	if (group_fd >= 0)
		r = made ? write_schemata(group_fd, &lines, err) : compare_schemata(group_fd, &lines, err);
	if (group_fd >= 0 && r == 0)
		r = open_tasks(group_fd, "tasks", &ret_fds[0], err);
	if (group_fd >= 0 && r == 0 && monitors(spec)) {
		bh_auto_free char *folder = bh_printf("mon_groups/%s", id), *tasks = bh_printf("mon_groups/%s/tasks", id);

		if (mkdirat(group_fd, folder, 0755) < 0 && errno != EEXIST)
			r = bh_error_set(err, errno, "make %s/%s", name, folder);
		if (r == 0)
			r = open_tasks(group_fd, tasks, &ret_fds[1], err);
	}
	if (made && (r < 0 || group_fd < 0))
		unlinkat(resctrl_fd, name, AT_REMOVEDIR);
	return group_fd < 0 ? group_fd : r;
}

int bh_rdt_remove(int resctrl_fd, const struct bh_spec *spec, const char *id, struct bh_error *err)
{
	const char *name = group_name(spec, id);
	bh_auto_free char *monitoring = bh_printf("%s/mon_groups/%s", name, id);

	if (monitors(spec) && unlinkat(resctrl_fd, monitoring, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return bh_error_set(err, errno, "linux.intelRdt: remove %s", monitoring);
	if (is_own_group(spec) && unlinkat(resctrl_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return bh_error_set(err, errno, "linux.intelRdt: remove %s", name);
	return 0;
}

static int open_resctrl(const struct bh_spec *spec, struct bh_error *err)
{
	bh_auto_close int fd = open(RESCTRL, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == RESCTRL_MAGIC)
		return BH_TAKE_FD(fd);
	/* The first two in runc's words. */
	if (given(spec->intel_rdt.l3_cache_schema))
		return bh_error_text(err, ENOTSUP, "linux.intelRdt: intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled");
	if (given(spec->intel_rdt.mem_bw_schema))
		return bh_error_text(err, ENOTSUP, "linux.intelRdt: intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
	return bh_error_text(err, ENOTSUP, "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled");
}

int bh_job_prepare_rdt(struct bh_job *job, const char *id, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	int r;

	if (!is_wanted(job->spec))
		return 0;
	if (!id || !*id)
		return bh_error_text(err, EINVAL, "linux.intelRdt: the container has no id");
	fd = open_resctrl(job->spec, err);
	r = fd < 0 ? fd : bh_rdt_prepare(fd, job->spec, id, job->rdt_fds, err);
	return r < 0 && fd >= 0 ? bh_error_prefix(err, "linux.intelRdt") : r;
}

static int join_groups(struct bh_job *job, int resctrl_fd, const char *id, struct bh_error *err)
{
	const char *name = group_name(job->spec, id);
	bh_auto_free char *tasks = bh_printf("%s/tasks", name), *monitoring = bh_printf("%s/mon_groups/%s/tasks", name, id);
	int r = open_tasks(resctrl_fd, tasks, &job->rdt_fds[0], err);

	return r == 0 && monitors(job->spec) ? open_tasks(resctrl_fd, monitoring, &job->rdt_fds[1], err) : r;
}

/* A further process goes where the first one is: the groups are there. */
int bh_job_join_rdt(struct bh_job *job, const char *id, struct bh_error *err)
{
	bh_auto_close int fd = -1;

	if (!is_wanted(job->spec) || !id)
		return 0;
	fd = open_resctrl(job->spec, err);
	return fd < 0 ? fd : join_groups(job, fd, id, err);
}

int bh_child_rdt(struct bh_job *job, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(job->rdt_fds); i++)
		if (job->rdt_fds[i] >= 0 && write(job->rdt_fds[i], "0", 1) != 1)
			return bh_error_set(err, errno, "linux.intelRdt: enter the group");
	return 0;
}

int bh_container_remove_rdt(const struct bh_spec *spec, const char *id, struct bh_error *err)
{
	bh_auto_close int fd = is_wanted(spec) ? open_resctrl(spec, NULL) : -1;

	return fd < 0 ? 0 : bh_rdt_remove(fd, spec, id, err);
}
