/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup v1, pure or hybrid (kernel: Documentation/admin-guide/cgroup-v1/).
 *
 * Which folders are made, and why so few, is told in cgroup.c. A controller that has no v1 hierarchy but is on the hybrid
 * layout's v2 tree (hugetlb on some hosts) gets its values in the unified folder, in v2's words.
 *
 * A folder can be added while processes are inside (an update that sets the first limit of a controller, the first pause
 * on a host without the v2 tree): then the processes are moved into it, again and again until a whole pass finds none that
 * is elsewhere, since each pass can miss a child that was just forked.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>

/* Order in which limits are applied. */
static const enum bh_cgroup_folder limited[] = { FOLDER_MEMORY,  FOLDER_CPU,  FOLDER_CPUSET,  FOLDER_PIDS,    FOLDER_BLKIO,
						 FOLDER_HUGETLB, FOLDER_RDMA, FOLDER_NET_CLS, FOLDER_NET_PRIO };

static bool is_no_permission(int r)
{
	return r == -EACCES || r == -EPERM || r == -EROFS;
}

/* 1: there is a folder now; 0: this host has no such hierarchy. */
static int need_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, struct bh_error *err)
{
	int r;

	if (cgroup->folders[folder].unopened)
		bh_cgroup_open_made(cgroup, folder);
	if (cgroup->folders[folder].fd >= 0)
		return 1;
	r = bh_cgroup_make_folder(cgroup, folder, err);
	if (is_no_permission(r) && cgroup->rootless && !cgroup->path_given) {
		bh_error_clear(err);
		return 0;
	}
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* A file of the folder, by the folder's fd or, where nobody has needed that, by its path. A folder that nobody looked into may be no
 * cgroup: then there is no such file (-ENOENT). */
static int open_file(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file)
{
	char place[PATH_MAX + 64];
	int fd;

	if (!cgroup->folders[folder].unopened) {
		fd = openat(cgroup->folders[folder].fd, file, O_WRONLY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	if (snprintf(place, sizeof place, "%s/%s/%s", bh_cgroup_v1_names[folder], bh_cgroup_inner(cgroup, folder), file) >= (int)sizeof place)
		return -ENAMETOOLONG;
	fd = openat(cgroup->root_fd, place, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- cpuset: a new folder has no cpus and no memory nodes, and takes no task until it has ----------------------------- */

static int inherit_cpuset_file(int parent_fd, int fd, const char *file, bool is_new, struct bh_error *err)
{
	char own[1024], parents[1024];

	if (!is_new && bh_cgroup_read(fd, file, own, sizeof own) && own[0] && own[0] != '\n')
		return 0;
	if (!bh_cgroup_read(parent_fd, file, parents, sizeof parents))
		return bh_error_set(err, errno, "read %s", file);
	parents[strcspn(parents, "\n")] = '\0';
	return *parents ? bh_write_value_at(fd, file, parents, err) : 0;
}

static int open_once(struct bh_cgroup *cgroup, const char *place, int flags)
{
	int fd = openat(cgroup->root_fd, place, flags | O_CLOEXEC);

	return bh_cgroup_spend(cgroup, fd < 0 ? -errno : fd);
}

/* The folder is new, and those above are there: mostly they have something to give. 1: done, or it is no cpuset at all; 0: it has to
 * be looked for further up. */
static int inherit_from_parent(struct bh_cgroup *cgroup, const char *file, struct bh_error *err)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, FOLDER_CPUSET), *own = bh_printf("%s/%s", place, file), *above = NULL;
	char value[1024];
	ssize_t length;
	int fd;

	*strrchr(place, '/') = '\0';
	above = bh_printf("%s/%s", place, file);
	fd = open_once(cgroup, above, O_RDONLY);
	length = fd < 0 ? -1 : read(fd, value, sizeof value);
	if (length < 0)
		return fd == -ENOENT ? 1 : bh_error_set(err, fd < 0 ? -fd : errno, "read " CGROUP_ROOT "/%s", above);
	if (length <= 1)
		return 0;
	fd = open_once(cgroup, own, O_WRONLY);
	if (fd < 0 || write(fd, value, (size_t)length) != length)
		return bh_error_set(err, fd < 0 ? -fd : errno, "write '%.*s' to " CGROUP_ROOT "/%s", (int)length - 1, value, own);
	return 1;
}

/* What `creating` sets itself isn't inherited: an exclusive cpuset beside it could forbid that. */
static int inherit_by_walk(struct bh_cgroup *cgroup, const struct bh_spec_resources *creating, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(bh_cgroup_inner(cgroup, FOLDER_CPUSET), '/');
	bh_auto_close int parent = openat(cgroup->root_fd, "cpuset", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (parent < 0)
		return bh_error_set(err, errno, "open " CGROUP_ROOT "/cpuset");
	for (size_t i = 0; i < parts.count; i++) {
		bool last = i + 1 == parts.count, is_new = parts.count - i <= cgroup->folders[FOLDER_CPUSET].made;
		int fd = openat(parent, parts.items[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		int r = fd < 0 ? bh_error_set(err, errno, "open cgroup cpuset/%s", bh_cgroup_inner(cgroup, FOLDER_CPUSET)) : 0;

		if (r == 0 && !(last && creating && creating->cpu.cpus && *creating->cpu.cpus))
			r = inherit_cpuset_file(parent, fd, "cpuset.cpus", is_new, err);
		if (r == 0 && !(last && creating && creating->cpu.mems && *creating->cpu.mems))
			r = inherit_cpuset_file(parent, fd, "cpuset.mems", is_new, err);
		bh_close_fd(&parent);
		parent = fd;
		if (r < 0)
			return r;
	}
	return 0;
}

static int inherit_cpuset(struct bh_cgroup *cgroup, const struct bh_spec_resources *creating, struct bh_error *err)
{
	int r = cgroup->folders[FOLDER_CPUSET].unopened;

	if (r > 0 && !(creating->cpu.cpus && *creating->cpu.cpus))
		r = inherit_from_parent(cgroup, "cpuset.cpus", err);
	if (r > 0 && !(creating->cpu.mems && *creating->cpu.mems))
		r = inherit_from_parent(cgroup, "cpuset.mems", err);
	return r == 0 ? inherit_by_walk(cgroup, creating, err) : BH_MIN(r, 0);
}

/* --- adding a folder to a cgroup that may have processes --------------------------------------------------------------- */

static bool is_listed(const struct bh_buf *list, const char *pid, size_t length)
{
	const char *at = list->data;

	for (; at && *at; at = strchr(at, '\n'), at += at != NULL)
		if (strncmp(at, pid, length) == 0 && (at[length] == '\n' || at[length] == '\0'))
			return true;
	return false;
}

/* Returns how many were moved, or -errno. */
static int move_missing(int from_fd, int to_fd, struct bh_error *err)
{
	bh_auto_buf struct bh_buf all = { 0 }, there = { 0 };
	bh_auto_close int procs = openat(to_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	int moved = 0, r = bh_cgroup_read_pids(from_fd, &all, err);

	if (r == 0)
		r = bh_cgroup_read_pids(to_fd, &there, err);
	if (r < 0 || procs < 0)
		return r < 0 ? r : bh_error_set(err, errno, "open cgroup.procs");
	for (const char *line = all.data; line && *line; line += strcspn(line, "\n"), line += *line == '\n') {
		size_t length = strcspn(line, "\n");

		if (is_listed(&there, line, length))
			continue;
		/* ESRCH: it has ended meanwhile. */
		if (write(procs, line, length) < 0 && errno != ESRCH)
			return bh_error_set(err, errno, "move process %.*s", (int)length, line);
		moved++;
	}
	return moved;
}

/* `creating`: what is asked for when nothing can be inside yet; NULL on update. */
static int add_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const struct bh_spec_resources *creating, struct bh_error *err)
{
	int from = bh_cgroup_any_fd(cgroup), r;
	bool is_made = cgroup->folders[folder].unopened;

	if (cgroup->folders[folder].fd >= 0)
		return 1;
	r = need_folder(cgroup, folder, err);
	if (r > 0 && folder == FOLDER_CPUSET && !is_made) {
		int inherited = inherit_cpuset(cgroup, creating, err);

		r = inherited < 0 ? inherited : r;
	}
	while (r > 0 && from >= 0 && !creating) {
		int moved = move_missing(from, cgroup->folders[folder].fd, err);

		if (moved == 0)
			break;
		r = moved < 0 ? moved : r;
	}
	return r;
}

/* --- create, update, enter -------------------------------------------------------------------------------------------- */

/* Has the v2 tree this controller? Then its folder takes the values. */
static bool unified_has(const struct bh_cgroup *cgroup, enum bh_cgroup_folder controller)
{
	bh_auto_free char *enable = bh_printf("+%s", bh_cgroup_v2_names[controller] ? bh_cgroup_v2_names[controller] : "");
	char words[512], *at = words;
	const char *inner;

	if (cgroup->folders[FOLDER_UNIFIED].fd < 0 || !enable[1] || !bh_cgroup_read(cgroup->root_fd, "unified/cgroup.controllers", words, sizeof words))
		return false;
	words[strcspn(words, "\n")] = '\0';
	for (char *word; (word = strsep(&at, " "));) {
		if (!bh_streq(word, enable + 1))
			continue;
		inner = bh_cgroup_inner(cgroup, FOLDER_UNIFIED);
		for (const char *slash = inner; slash; slash = strchr(slash + 1, '/')) {
			bh_auto_free char *file = bh_printf("unified/%.*s%scgroup.subtree_control", (int)(slash - inner), inner,
							    slash > inner ? "/" : "");

			bh_write_value_at(cgroup->root_fd, file, enable, NULL);
		}
		return true;
	}
	return false;
}

/* Plans all limits, in v1's words where there is a hierarchy (adding its folder), in v2's where only the v2 tree has it. */
static int plan_limits(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, bool creating, struct bh_cgroup_writes *writes,
		       struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(limited); i++) {
		size_t before = writes->count;
		int r = bh_cgroup_plan(limited[i], cgroup, 1, resources, writes, err);

		if (r == 0 && writes->count > before)
			r = add_folder(cgroup, limited[i], creating ? resources : NULL, err);
		if (r < 0)
			return r;
		if (r > 0 || writes->count == before || !unified_has(cgroup, limited[i]))
			continue;
		while (writes->count > before)
			free(writes->items[--writes->count].value);
		r = bh_cgroup_plan(limited[i], cgroup, 2, resources, writes, err);
		if (r < 0)
			return r;
		for (size_t n = before; n < writes->count; n++)
			writes->items[n].folder = FOLDER_UNIFIED;
	}
	return cgroup->folders[FOLDER_UNIFIED].fd >= 0 ? bh_cgroup_plan_unified(resources, writes, err) : 0;
}

static int apply_limits(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, bool creating, struct bh_error *err)
{
	struct bh_cgroup_writes writes = { 0 };
	int r;

	if (resources->unified.count && cgroup->strict)
		return bh_error_text(err, EINVAL, "invalid configuration: cannot use unified on cgroup v1");
	r = plan_limits(cgroup, resources, creating, &writes, err);
	if (r == 0)
		r = bh_cgroup_apply(cgroup, &writes, err);
	bh_cgroup_writes_clear(&writes);
	return r;
}

/* The whole list takes two files, and one of them is written once per rule: the kernel reads no further. */
static int write_rule(const struct bh_cgroup *cgroup, int fd, const char *file, const char *rule, struct bh_error *err)
{
	if (fd < 0 || write(fd, rule, strlen(rule)) < 0)
		return bh_error_set(err, fd < 0 ? -fd : errno, "write '%s' to " CGROUP_ROOT "/devices/%s/%s", rule,
				    bh_cgroup_inner(cgroup, FOLDER_DEVICES), file);
	bh_cgroup_explain_write(cgroup, FOLDER_DEVICES, file, rule);
	return 0;
}

/* Writes the set's exceptions, but for the access that `but` gives to the very same devices. */
static int write_rules(struct bh_cgroup *cgroup, const char *file, const struct bh_device_set *set, const struct bh_device_set *but,
		       struct bh_error *err)
{
	int fd = bh_cgroup_spend(cgroup, open_file(cgroup, FOLDER_DEVICES, file)), r = 0;

	for (size_t i = 0; r == 0 && i < set->count; i++) {
		struct bh_spec_device_rule rule = set->exceptions[i];
		char text[64];

		if (but)
			bh_device_set_subtract(but, &rule);
		if (!*rule.access)
			continue;
		bh_device_rule_format(&rule, text);
		r = write_rule(cgroup, fd, file, text, err);
	}
	return r;
}

static int write_device_rules(struct bh_cgroup *cgroup, const struct bh_device_set *set, struct bh_error *err)
{
	const char *file = set->allow_all ? "devices.allow" : "devices.deny";
	int fd = bh_cgroup_spend(cgroup, open_file(cgroup, FOLDER_DEVICES, file)), r = write_rule(cgroup, fd, file, "a", err);

	return r < 0 ? r : write_rules(cgroup, set->allow_all ? "devices.deny" : "devices.allow", set, NULL, err);
}

/* What was made as a folder on the tmpfs, beside the hierarchies, is no cgroup. */
static void drop_plain_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);

	unlinkat(cgroup->root_fd, place, AT_REMOVEDIR);
	cgroup->folders[folder].unopened = false;
	cgroup->folders[folder].made = 0;
}

/* 1: done; 0: there is no such hierarchy. */
static int write_first_device_rules(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, const struct bh_device_set *set,
				    struct bh_error *err)
{
	bool unopened = cgroup->folders[FOLDER_DEVICES].unopened;
	int r = unopened ? 1 : add_folder(cgroup, FOLDER_DEVICES, resources, err);

	if (r > 0)
		r = write_device_rules(cgroup, set, err);
	else
		return r;
	if (r != -ENOENT || !unopened)
		return r < 0 ? r : 1;
	bh_error_clear(err);
	drop_plain_folder(cgroup, FOLDER_DEVICES);
	return 0;
}

/* From one list to the other with processes inside: first what is new is allowed, then what is gone is denied. The kernel's
 * entries are for exactly the devices they name, so neither touches another entry. When the base itself changes there is no such
 * way, and the kernel starts over. */
static int change_device_rules(struct bh_cgroup *cgroup, const struct bh_device_set *set, struct bh_error *err)
{
	bh_auto_buf struct bh_buf list = { 0 };
	struct bh_device_set now = { 0 };
	int r = bh_read_file_at(cgroup->folders[FOLDER_DEVICES].fd, "devices.list", CGROUP_FILE_MAX, &list, err);

	if (r == 0)
		r = bh_device_set_from_list(list.data ? list.data : "", &now, err);
	if (r < 0)
		return r;
	if (now.allow_all || set->allow_all) {
		r = write_device_rules(cgroup, set, err);
	} else {
		r = write_rules(cgroup, "devices.allow", set, &now, err);
		if (r == 0)
			r = write_rules(cgroup, "devices.deny", &now, set, err);
	}
	bh_device_set_clear(&now);
	return r;
}

/*
 * Two ways, and the kernel asks both: the files of the v1 hierarchy, and a program on the v2 tree's folder. A folder and a
 * dozen writes take 75 us, entering and removing included; to verify and translate a program takes 250 us. So the program
 * is for hosts whose v1 side has no devices hierarchy.
 */
static int apply_devices(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, bool creating, struct bh_error *err)
{
	struct bh_device_set set;
	int r;

	if (resources->device_count == 0)
		return 0;
	r = bh_device_set_from_rules(resources->devices, resources->device_count, &set, err);
	if (r < 0)
		return r;
	r = creating ? write_first_device_rules(cgroup, resources, &set, err) : add_folder(cgroup, FOLDER_DEVICES, NULL, err);
	if (r > 0)
		r = creating ? 0 : change_device_rules(cgroup, &set, err);
	else if (r == 0 && cgroup->folders[FOLDER_UNIFIED].fd >= 0)
		r = bh_cgroup_attach_device_program(cgroup->folders[FOLDER_UNIFIED].fd, &set, !creating, err);
	else if (r == 0 && !cgroup->rootless)
		bh_warn_once("device rules are not applied: no cgroup hierarchy " CGROUP_ROOT "/devices");
	bh_device_set_clear(&set);
	if (is_no_permission(r) && cgroup->rootless) {
		bh_error_clear(err);
		return 0;
	}
	return r;
}

/* A folder that is new is all that most hierarchies need: what is written there, and who enters it, finds it by its path. One of them has
 * to be held: by it processes are found, and the container is born in the v2 tree's. */
static bool make_unopened(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);

	if (bh_cgroup_any_fd(cgroup) < 0 || mkdirat(cgroup->root_fd, place, 0755) < 0)
		return false;
	cgroup->folders[folder].made = 1;
	cgroup->folders[folder].unopened = true;
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);

		bh_explain("cgroup", "mkdir", words);
	}
	return true;
}

/* One folder in each hierarchy that there is, in the order of enum bh_cgroup_folder. Others aren't tried: on the tmpfs there may
 * be plain folders with the names of controllers (podman makes them). */
static int make_every_folder(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	unsigned hierarchies = 0;
	int r = bh_cgroup_hierarchies(cgroup, &hierarchies, err);

	for (size_t i = 0; r >= 0 && i < FOLDER_COUNT; i++) {
		if (!(hierarchies & 1u << i))
			continue;
		if (!make_unopened(cgroup, (enum bh_cgroup_folder)i))
			r = add_folder(cgroup, (enum bh_cgroup_folder)i, resources, err);
		else if (i == FOLDER_CPUSET)
			r = inherit_cpuset(cgroup, resources, err);
	}
	return r;
}

static int make_needed_folders(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int unified = need_folder(cgroup, FOLDER_UNIFIED, err);
	int r = unified;

	if (r >= 0)
		r = need_folder(cgroup, FOLDER_MEMORY, err);
	if (r >= 0 && unified == 0)
		r = need_folder(cgroup, FOLDER_CPUACCT, err);
	return r;
}

static int create(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	int r = cgroup->every ? make_every_folder(cgroup, resources, err) : make_needed_folders(cgroup, err);

	if (r >= 0)
		r = apply_limits(cgroup, resources, true, err);
	if (r >= 0)
		r = apply_devices(cgroup, resources, true, err);
	if (r >= 0 && bh_cgroup_any_fd(cgroup) < 0 && !cgroup->rootless)
		bh_warn_once("no cgroup hierarchy is mounted below " CGROUP_ROOT ": nothing is limited or counted");
	return r < 0 ? r : 0;
}

static int update(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	int r = apply_limits(cgroup, resources, false, err);

	return r < 0 ? r : apply_devices(cgroup, resources, false, err);
}

static int open_all(struct bh_cgroup *cgroup, struct bh_error *err)
{
	(void)err;
	for (size_t i = 0; i < FOLDER_LAZY_COUNT; i++) {
		bh_auto_free char *place = bh_cgroup_place(cgroup, (enum bh_cgroup_folder)i);

		cgroup->folders[i].fd = openat(cgroup->root_fd, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return 0;
}

static int enter_self(const struct bh_cgroup *cgroup, struct bh_error *err)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		const char *file = i == FOLDER_UNIFIED ? "cgroup.procs" : "tasks";
		bool unopened = cgroup->folders[i].unopened;
		int fd;

		/* Born in the v2 tree's folder already, wherever the kernel can do that. */
		if ((cgroup->folders[i].fd < 0 && !unopened) || cgroup->folders[i].alias || (i == FOLDER_UNIFIED && bh_cgroup_clone_fd(cgroup) >= 0))
			continue;
		/* Left open: it's O_CLOEXEC, and this process is about to execve. */
		fd = open_file(cgroup, (enum bh_cgroup_folder)i, file);
		if (fd == -ENOENT && unopened)
			continue;
		if (fd < 0 || write(fd, "0", 1) != 1)
			return bh_error_set(err, fd < 0 ? -fd : errno, "enter cgroup %s/%s", bh_cgroup_v1_names[i],
					    bh_cgroup_inner(cgroup, (enum bh_cgroup_folder)i));
		if (bh_explain_mode != BH_EXPLAIN_OFF) {
			bh_auto_free char *words = bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, file);

			bh_explain("cgroup", "enter", words, "value", "0");
		}
	}
	return 0;
}

/* --- freezer ---------------------------------------------------------------------------------------------------------- */

#define THAW_AND_RETRY_NS (500ll * 1000000)

static bool state_is(const struct bh_cgroup *cgroup, const char *state)
{
	char text[32];

	return bh_cgroup_read(cgroup->folders[FOLDER_FREEZER].fd, "freezer.state", text, sizeof text) && bh_has_prefix(text, state);
}

/*
 * FREEZING becomes FROZEN when every task has stopped; reading the state makes the kernel look. A task that was forked in
 * between may stay behind until FROZEN is written again, and one that sleeps uninterruptibly until its sleep ends: the
 * short waits between two looks are for the latter. There is no event for it in v1.
 */
static int freeze_v1(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err)
{
	const char *state = frozen ? "FROZEN" : "THAWED";
	int64_t start_ns = bh_monotonic_ns(), thawed_ns = start_ns;

	for (unsigned tries = 0;; tries++) {
		int64_t now_ns = bh_monotonic_ns();
		int r;

		if (tries > 20)
			poll(NULL, 0, 1);
		if (frozen && now_ns - thawed_ns > THAW_AND_RETRY_NS) {
			bh_write_value_at(cgroup->folders[FOLDER_FREEZER].fd, "freezer.state", "THAWED", NULL);
			thawed_ns = now_ns;
		}
		if (now_ns - start_ns > CGROUP_WAIT_NS) {
			bh_write_value_at(cgroup->folders[FOLDER_FREEZER].fd, "freezer.state", "THAWED", NULL);
			return bh_error_text(err, EBUSY, "freeze cgroup %s: a process doesn't stop", cgroup->path);
		}
		r = bh_write_value_at(cgroup->folders[FOLDER_FREEZER].fd, "freezer.state", state, err);
		if (r < 0)
			return r;
		if (state_is(cgroup, state))
			break;
	}
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, FOLDER_FREEZER, "freezer.state");

		bh_explain("cgroup", "file", words, "value", state);
	}
	return 0;
}

/* Frozen by either way counts as frozen (CRIU and others use the v1 file), and thawing undoes both. */
static bool is_frozen_v1(const struct bh_cgroup *cgroup)
{
	return cgroup->folders[FOLDER_FREEZER].fd >= 0 && state_is(cgroup, "FR");
}

static int freeze(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err)
{
	int r;

	if (cgroup->folders[FOLDER_UNIFIED].fd >= 0) {
		r = bh_cgroup_core_freeze(cgroup, frozen, err);
		return r < 0 || frozen || !is_frozen_v1(cgroup) ? r : freeze_v1(cgroup, false, err);
	}
	r = add_folder(cgroup, FOLDER_FREEZER, NULL, err);
	if (r == 0)
		return bh_error_text(err, ENOTSUP, "freeze cgroup %s: no hierarchy " CGROUP_ROOT "/freezer", cgroup->path);
	return r < 0 ? r : freeze_v1(cgroup, frozen, err);
}

static int is_frozen(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err)
{
	if (is_frozen_v1(cgroup)) {
		*ret_frozen = true;
		return 0;
	}
	if (cgroup->folders[FOLDER_UNIFIED].fd >= 0)
		return bh_cgroup_core_is_frozen(cgroup, ret_frozen, err);
	*ret_frozen = false;
	return 0;
}

const struct bh_cgroup_driver bh_cgroup_v1 = {
	.name = "v1",
	.version = 1,
	.create = create,
	.open = open_all,
	.enter_self = enter_self,
	.update = update,
	.freeze = freeze,
	.is_frozen = is_frozen,
	.stats = bh_cgroup_stats_v1,
	.oom_file = "memory.oom_control",
	.oom_folder = FOLDER_MEMORY,
};
