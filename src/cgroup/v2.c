/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v2: one hierarchy (kernel: Documentation/admin-guide/cgroup-v2.rst).
 *
 * A cgroup only has the files of the controllers that each folder above it hands down (cgroup.subtree_control). They are
 * handed down when a file turns out to be missing, so that the usual case costs one look. The kernel refuses to hand
 * controllers down from a folder that has processes of its own ("no internal processes"); those belong to somebody else
 * and aren't moved: the limits are left out, with the folder's name.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>

static const enum bh_cgroup_folder limited[] = { FOLDER_MEMORY, FOLDER_CPU,     FOLDER_CPUSET, FOLDER_PIDS,
						 FOLDER_BLKIO,  FOLDER_HUGETLB, FOLDER_RDMA,   FOLDER_NET_CLS };

/* "+cpu +memory ...": all that the root has and this project uses, or all. */
static char *wanted_controllers(const struct bh_cgroup *cgroup)
{
	bh_auto_strv struct bh_strv words = { 0 };
	struct bh_buf wanted = { 0 };
	char text[512];

	if (bh_cgroup_read(cgroup->root_fd, "cgroup.controllers", text, sizeof text)) {
		text[strcspn(text, "\n")] = '\0';
		words = bh_strv_split(text, ' ');
	}
	for (size_t i = 0; cgroup->every && i < words.count; i++)
		if (*words.items[i])
			bh_buf_addf(&wanted, "%s+%s", wanted.length ? " " : "", words.items[i]);
	for (size_t i = 0; !cgroup->every && i < BH_ARRAY_SIZE(limited); i++)
		if (bh_cgroup_v2_names[limited[i]] && bh_strv_contains(&words, bh_cgroup_v2_names[limited[i]]))
			bh_buf_addf(&wanted, "%s+%s", wanted.length ? " " : "", bh_cgroup_v2_names[limited[i]]);
	return bh_buf_take(&wanted);
}

/* Hands the controllers down in one folder: all at once, or one by one if one of them is refused. */
static void hand_down_in(const struct bh_cgroup *cgroup, const char *folder, const char *wanted)
{
	bh_auto_free char *file = bh_printf("%s%scgroup.subtree_control", folder, *folder ? "/" : "");
	bh_auto_strv struct bh_strv words = { 0 };
	int r = bh_write_value_at(cgroup->root_fd, file, wanted, NULL);

	if (r == 0) {
		bh_explain("cgroup", "file", file, "value", wanted);
		return;
	}
	if (r == -EBUSY && !cgroup->strict) {
		bh_warn_once("cgroup /%s has processes of its own, so the kernel hands no controllers down from it; limits that need them "
			     "are not applied (move the processes to a folder below it)",
			     folder);
		return;
	}
	words = bh_strv_split(wanted, ' ');
	for (size_t i = 0; i < words.count; i++)
		if (bh_write_value_at(cgroup->root_fd, file, words.items[i], NULL) == 0)
			bh_explain("cgroup", "file", file, "value", words.items[i]);
}

static void hand_down(const struct bh_cgroup *cgroup)
{
	const char *inner = bh_cgroup_inner(cgroup, FOLDER_UNIFIED);
	bh_auto_free char *wanted = wanted_controllers(cgroup);

	/* What lies above a unit is systemd's; it hands down what it was told to. */
	if (!*wanted || cgroup->unit)
		return;
	hand_down_in(cgroup, "", wanted);
	for (const char *slash = strchr(inner, '/'); slash; slash = strchr(slash + 1, '/')) {
		bh_auto_free char *folder = bh_strndup(inner, (size_t)(slash - inner));

		hand_down_in(cgroup, folder, wanted);
	}
}

static int fd_of(const struct bh_cgroup *cgroup)
{
	return cgroup->folders[FOLDER_UNIFIED].fd;
}

static bool has_file(const struct bh_cgroup *cgroup, const char *file)
{
	return faccessat(fd_of(cgroup), file, F_OK, 0) == 0;
}

static int plan_limits(const struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(limited); i++) {
		int r = bh_cgroup_plan(limited[i], cgroup, 2, resources, writes, err);

		if (r < 0)
			return r;
	}
	return bh_cgroup_plan_unified(resources, writes, err);
}

static int apply_limits(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_cgroup_writes writes = { 0 };
	bool handed_down = false;
	int r = plan_limits(cgroup, resources, &writes, err);

	for (size_t i = 0; i < writes.count; i++) {
		writes.items[i].folder = FOLDER_UNIFIED;
		if (handed_down || writes.items[i].alternative || has_file(cgroup, writes.items[i].file))
			continue;
		hand_down(cgroup);
		handed_down = true;
	}
	if (r == 0)
		r = bh_cgroup_apply(cgroup, &writes, err);
	bh_cgroup_writes_clear(&writes);
	return r;
}

static int apply_devices(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, bool replace, struct bh_error *err)
{
	struct bh_device_set set;
	int r;

	if (resources->device_count == 0)
		return 0;
	r = bh_device_set_from_rules(resources->devices, resources->device_count, &set, err);
	if (r < 0)
		return r;
	r = bh_cgroup_attach_device_program(fd_of(cgroup), &set, replace, err);
	bh_device_set_clear(&set);
	if ((r == -EPERM || r == -EACCES) && cgroup->rootless) {
		/* Without privilege on the host there is nothing to protect: the kernel asks for the file's permissions anyway. */
		bh_error_clear(err);
		return 0;
	}
	return r;
}

static bool needs_a_controller(const struct bh_cgroup *cgroup, const struct bh_spec_resources *resources)
{
	struct bh_cgroup_writes writes = { 0 };
	bool needs = plan_limits(cgroup, resources, &writes, NULL) < 0 || writes.count > 0;

	bh_cgroup_writes_clear(&writes);
	return needs;
}

/* Does the folder lack controllers that the root has? */
static bool lacks_controllers(const struct bh_cgroup *cgroup)
{
	char own[512], all[512];

	if (!cgroup->every)
		/* Usage is always counted: a probe for the two controllers that `stats` and the OOM record read. */
		return !has_file(cgroup, "memory.events") || !has_file(cgroup, "pids.current");
	return bh_cgroup_read(fd_of(cgroup), "cgroup.controllers", own, sizeof own) &&
	       bh_cgroup_read(cgroup->root_fd, "cgroup.controllers", all, sizeof all) && strcmp(own, all) != 0;
}

static int create(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	int r = bh_cgroup_make_folder(cgroup, FOLDER_UNIFIED, err);

	if (r == -ENOENT)
		return bh_error_set(err, -r, "make cgroup " CGROUP_ROOT "/%s", bh_cgroup_inner(cgroup, FOLDER_UNIFIED));
	if ((r == -EACCES || r == -EPERM || r == -EROFS) && cgroup->rootless && !cgroup->path_given) {
		if (needs_a_controller(cgroup, resources))
			return bh_error_prefix(err, "rootless needs no limits + no cgrouppath when no permission is granted for cgroups");
		bh_error_clear(err);
		return 0;
	}
	if (r < 0)
		return r;
	if (lacks_controllers(cgroup))
		hand_down(cgroup);
	r = apply_limits(cgroup, resources, err);
	return r < 0 ? r : apply_devices(cgroup, resources, false, err);
}

/* cpu.max is one value of two numbers: a new period alone must not lift the quota. */
static void keep_quota(const struct bh_cgroup *cgroup, struct bh_spec_resources *resources)
{
	char text[64];
	int64_t quota;

	if (!resources->cpu.period.set || !resources->cpu.period.value || (resources->cpu.quota.set && resources->cpu.quota.value) ||
	    !bh_cgroup_read(fd_of(cgroup), "cpu.max", text, sizeof text))
		return;
	text[strcspn(text, " \n")] = '\0';
	if (bh_parse_int(text, 1, INT64_MAX, &quota) == 0)
		resources->cpu.quota = (struct bh_opt_i64)BH_SOME(quota);
}

static int update(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	struct bh_spec_resources copy = *resources; /* borrows all pointers */

	int r;

	keep_quota(cgroup, &copy);
	r = apply_limits(cgroup, &copy, err);
	return r < 0 ? r : apply_devices(cgroup, resources, true, err);
}

static int open_folder(struct bh_cgroup *cgroup, struct bh_error *err)
{
	const char *inner = bh_cgroup_inner(cgroup, FOLDER_UNIFIED);
	int fd = openat(cgroup->root_fd, inner, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? bh_error_text(err, ENOENT, "no cgroup /%s", inner) :
					 bh_error_set(err, errno, "open " CGROUP_ROOT "/%s", inner);
	cgroup->folders[FOLDER_UNIFIED].fd = fd;
	return 0;
}

static int enter_self(const struct bh_cgroup *cgroup, struct bh_error *err)
{
	/* Born in it, wherever the kernel can do that. */
	return bh_cgroup_is_entered_by_clone(cgroup) ? 0 : bh_cgroup_write(cgroup, FOLDER_UNIFIED, "cgroup.procs", "0", err);
}

const struct bh_cgroup_driver bh_cgroup_v2 = {
	.name = "v2",
	.version = 2,
	.create = create,
	.open = open_folder,
	.enter_self = enter_self,
	.update = update,
	.freeze = bh_cgroup_core_freeze,
	.is_frozen = bh_cgroup_core_is_frozen,
	.stats = bh_cgroup_stats_v2,
	.oom_file = "memory.events",
	.oom_folder = FOLDER_UNIFIED,
};
