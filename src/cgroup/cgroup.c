/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups: the seam, and the steps that both drivers share.
 *
 * What a cgroup is here: one folder per hierarchy, held as an fd. On v2 there is one hierarchy. On v1 each controller has
 * its own, and since a folder costs 25-100 us for making, entering and removing it, only those are made that do something:
 *
 *	memory    always: usage and OOM kills can't be counted after the fact
 *	devices   when there are device rules
 *	unified   always, where the hybrid layout has it (the v2 tree beside v1): it has no controllers, but the core, which
 *	          freezes and kills without races and counts cpu time. Where it's missing, cpuacct takes its place, and
 *	          freezer is added when it is needed first
 *	others    when a limit is given, or added by an update
 *
 * Invariants: (1) limits and device rules are in force before the first process is inside. (2) A process enters by itself
 * or is born inside; nobody moves it, because that costs a grace period of 8-12 ms, and so does any write to cgroup.procs, even
 * of "0", once the machine has been idle for a moment. v1's `tasks` has no such cost; a v2 folder is only entered by birth. The
 * exceptions are folders that are added to a running cgroup. (3) Whatever creation made is removed again if creation fails; nothing else is ever removed.
 * (4) No process of somebody else is moved anywhere.
 *
 * Where: PATH is below the root of each hierarchy as it's mounted, as runc and Docker do it for absolute paths. (A confined
 * caller sees its own cgroup as that root.) Only /sys/fs/cgroup is looked at: all distributions mount it there, and
 * reading the mount table costs more (84 us) than making a cgroup.
 *
 * Waiting: v2 tells by cgroup.events (POLLPRI) when a cgroup is empty or frozen; dying processes are waited for by their
 * pidfds. Only the freezer of v1 has no event: there the state is written and read again until the kernel says FROZEN.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/syscall.h"
#include "base/time.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#endif

const char *const bh_cgroup_v1_names[FOLDER_COUNT] = {
	[FOLDER_UNIFIED] = "unified", [FOLDER_MEMORY] = "memory",         [FOLDER_CPU] = "cpu",         [FOLDER_CPUACCT] = "cpuacct",
	[FOLDER_PIDS] = "pids",       [FOLDER_CPUSET] = "cpuset",         [FOLDER_BLKIO] = "blkio",     [FOLDER_HUGETLB] = "hugetlb",
	[FOLDER_DEVICES] = "devices", [FOLDER_FREEZER] = "freezer",       [FOLDER_NET_CLS] = "net_cls", [FOLDER_NET_PRIO] = "net_prio",
	[FOLDER_RDMA] = "rdma",       [FOLDER_PERF_EVENT] = "perf_event", [FOLDER_MISC] = "misc",       [FOLDER_SYSTEMD] = "systemd",
};
const char *const bh_cgroup_v2_names[FOLDER_COUNT] = {
	[FOLDER_MEMORY] = "memory", [FOLDER_CPU] = "cpu",         [FOLDER_PIDS] = "pids", [FOLDER_CPUSET] = "cpuset",
	[FOLDER_BLKIO] = "io",      [FOLDER_HUGETLB] = "hugetlb", [FOLDER_RDMA] = "rdma",
};

void bh_cgroup_free_ptr(struct bh_cgroup **cgroup)
{
	bh_cgroup_free(*cgroup);
	*cgroup = NULL;
}

/* --- words and small files ------------------------------------------------------------------------------------------- */

char *bh_cgroup_words(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);

	return bh_printf(CGROUP_ROOT "/%s%s%s", place, file ? "/" : "", file ? file : "");
}

int bh_cgroup_any_fd(const struct bh_cgroup *cgroup)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].fd >= 0)
			return cgroup->folders[i].fd;
	return -1;
}

bool bh_cgroup_is_cgroupfs(int fd, int version)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == (version == 2 ? CGROUP2_SUPER_MAGIC : CGROUP_SUPER_MAGIC);
}

bool bh_cgroup_read(int folder_fd, const char *file, char *ret_text, size_t size)
{
	bh_auto_close int fd = openat(folder_fd, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_text, size - 1);

	ret_text[n < 0 ? 0 : n] = '\0';
	return n >= 0;
}

int bh_cgroup_put(int folder_fd, const char *file, const char *value)
{
	bh_auto_close int fd = openat(folder_fd, file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

void bh_cgroup_explain_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value)
{
	bh_auto_free char *words = NULL;

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	words = bh_cgroup_words(cgroup, folder, file);
	bh_explain("cgroup", "file", words, "value", value);
}

int bh_cgroup_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value, struct bh_error *err)
{
	int r = bh_cgroup_put(cgroup->folders[folder].fd, file, value);

	if (r < 0) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, file);

		return bh_error_set(err, -r, "write '%s' to %s", value, words);
	}
	bh_cgroup_explain_write(cgroup, folder, file, value);
	return 0;
}

/* --- folders --------------------------------------------------------------------------------------------------------- */

void bh_cgroup_free(struct bh_cgroup *cgroup)
{
	int *fds[FOLDER_COUNT + 1 + CGROUP_SPENT_MAX];
	size_t count = FOLDER_COUNT;

	if (!cgroup)
		return;
	bh_cgroup_end_placeholder(cgroup);
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		fds[i] = &cgroup->folders[i].fd;
		free(cgroup->folders[i].path);
	}
	fds[count++] = &cgroup->root_fd;
	for (size_t i = 0; i < cgroup->spent_count; i++)
		fds[count++] = &cgroup->spent[i];
	bh_close_fds(fds, count);
	free(cgroup->path);
	free(cgroup->unit);
	free(cgroup->self_text);
	free(cgroup);
}

/* By another name (co-mounted controllers) it is a folder that this handle has already. */
static bool is_alias(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int fd)
{
	struct stat st, other;

	if (fstat(fd, &st) < 0)
		return false;
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (i != folder && cgroup->folders[i].fd >= 0 && fstat(cgroup->folders[i].fd, &other) == 0 && st.st_dev == other.st_dev &&
		    st.st_ino == other.st_ino)
			return true;
	return false;
}

static size_t count_lines(const char *text)
{
	size_t count = 0;

	for (; text && *text; text++)
		count += *text == '\n';
	return count;
}

/* A folder that exists may be taken if no process is in it or below it, and it isn't frozen: a process that enters would stop
 * for good. */
static int take_existing(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int fd, struct bh_error *err)
{
	bh_auto_buf struct bh_buf pids = { 0 };
	char state[256] = "";
	int r = bh_cgroup_read_pids(fd, &pids, err);

	if (r < 0)
		return r;
	if (pids.length) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);

		return bh_error_text(err, EBUSY, "container's cgroup is not empty: %zu process(es) found (pid %.*s in %s)", count_lines(pids.data),
				     (int)strcspn(pids.data, "\n"), pids.data, words);
	}
	if ((folder == FOLDER_UNIFIED && bh_cgroup_read(fd, "cgroup.freeze", state, sizeof state) && *state == '1') ||
	    (folder == FOLDER_FREEZER && bh_cgroup_read(fd, "freezer.state", state, sizeof state) && bh_has_prefix(state, "FR")))
		return bh_error_text(err, EBUSY, "container's cgroup unexpectedly frozen");
	return 0;
}

/* Callers of runc look for its words, which begin with a small letter. */
static int mkdir_failed(const char *place, int errnum, struct bh_error *err)
{
	const char *words = strerror(errnum);

	return bh_error_text(err, errnum, "unable to apply cgroup configuration: mkdir " CGROUP_ROOT "/%s: %c%s", place,
			     tolower((unsigned char)*words), words + 1);
}

/* Makes `path` and what is missing above it, below the hierarchy's root. Returns how many folders that took, or -errno. */
static int mkdir_missing(int top_fd, const char *inner, const char *place, struct bh_error *err)
{
	size_t length = strlen(inner);
	int made = 0;

	for (size_t i = 1; i <= length; i++) {
		bh_auto_free char *path = NULL;

		if (inner[i] != '/' && i < length)
			continue;
		path = bh_strndup(inner, i);
		if (mkdirat(top_fd, path, 0755) == 0)
			made++;
		else if (errno != EEXIST)
			return errno == ENOENT ? -ENOENT : mkdir_failed(place, errno, err);
		else
			made = 0;
	}
	return made;
}

/* How many folders were made (0: it was there), -ENOENT (no words): no such hierarchy. */
static int mkdir_below(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int version, const char *place, struct bh_error *err)
{
	const char *hierarchy = bh_cgroup_hierarchy(cgroup, folder);
	bh_auto_close int top = -1;

	if (mkdirat(cgroup->root_fd, place, 0755) == 0)
		return 1;
	if (errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return mkdir_failed(place, errno, err);
	/* A folder above is missing, or the hierarchy itself; the latter must not be made as a plain folder. */
	top = openat(cgroup->root_fd, *hierarchy ? hierarchy : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || !bh_cgroup_is_cgroupfs(top, version))
		return -ENOENT;
	for (int tries = 0; tries < 3; tries++) {
		/* Another process may remove the empty folder above at any moment: then once more. */
		int r = mkdir_missing(top, bh_cgroup_inner(cgroup, folder), place, err);

		if (r != -ENOENT)
			return r;
	}
	return mkdir_failed(place, ENOENT, err);
}

/* Removes the last `made` folders of the path, from the deepest up; not what others have put something into. */
static void remove_made(const struct bh_cgroup *cgroup, const char *place, unsigned made)
{
	bh_auto_free char *path = bh_strdup(place);

	for (char *slash; made > 0 && unlinkat(cgroup->root_fd, path, AT_REMOVEDIR) == 0 && (slash = strrchr(path, '/')); made--)
		*slash = '\0';
}

int bh_cgroup_make_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, struct bh_error *err)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);
	int version = folder == FOLDER_UNIFIED ? 2 : 1;
	int made = mkdir_below(cgroup, folder, version, place, err);
	bh_auto_close int fd = -1;
	int r;

	if (made < 0)
		return made;
	fd = openat(cgroup->root_fd, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : 0;
	/* What was just made below version 2's own mount needs no second look. */
	if (r == 0 && !(made && cgroup->driver->version == 2) && !bh_cgroup_is_cgroupfs(fd, version))
		r = -ENOENT;
	if (r < 0) {
		remove_made(cgroup, place, (unsigned)made);
		return r == -ENOENT ? r : bh_error_set(err, -r, "open " CGROUP_ROOT "/%s", place);
	}
	cgroup->folders[folder].alias = made == 0 && is_alias(cgroup, folder, fd);
	/* A unit's folder was made for us, and its placeholder is inside. */
	r = made || cgroup->folders[folder].alias || cgroup->unit ? 0 : take_existing(cgroup, folder, fd, err);
	if (r < 0)
		return r;
	cgroup->folders[folder].fd = BH_TAKE_FD(fd);
	cgroup->folders[folder].made = (unsigned)made;
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);

		bh_explain("cgroup", made ? "mkdir" : "use", words);
	}
	return 0;
}

void bh_cgroup_open_made(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder)
{
	bh_auto_free char *place = bh_cgroup_place(cgroup, folder);

	cgroup->folders[folder].fd = openat(cgroup->root_fd, place, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* One that is there and can't be opened is still ours to remove. */
	cgroup->folders[folder].unopened = cgroup->folders[folder].fd < 0 && errno != ENOENT;
}

int bh_cgroup_spend(struct bh_cgroup *cgroup, int fd)
{
	if (fd < 0)
		return fd;
	if (cgroup->spent_count == CGROUP_SPENT_MAX)
		close(cgroup->spent[--cgroup->spent_count]);
	cgroup->spent[cgroup->spent_count++] = fd;
	return fd;
}

void bh_cgroup_open_all_made(struct bh_cgroup *cgroup)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (cgroup->folders[i].unopened)
			bh_cgroup_open_made(cgroup, (enum bh_cgroup_folder)i);
}

/* --- writing limits -------------------------------------------------------------------------------------------------- */

/* A limit that can't be held here is told once per kind and process. */
static void warn_missing(const struct bh_cgroup_write *write, const char *why)
{
	static unsigned said;

	if (said & 1u << write->folder)
		return;
	said |= 1u << write->folder;
	bh_warn("%s=%s is not applied: %s", write->file, write->value, why);
}

static int refuse_missing(const struct bh_cgroup *cgroup, const struct bh_cgroup_write *write, struct bh_error *err)
{
	bh_auto_free char *words = NULL;

	if (cgroup->folders[write->folder].fd < 0)
		return bh_error_text(err, ENOENT, "cannot set %s limit: container could not join or create cgroup (%s=%s)",
				     bh_cgroup_v1_names[write->folder], write->file, write->value);
	if (write->unified)
		return bh_error_text(err, ENOENT, "unified resource \"%s\" can't be set: controller \"%.*s\" not available, or it has no such file",
				     write->file, (int)strcspn(write->file, "."), write->file);
	words = bh_cgroup_words(cgroup, write->folder, write->file);
	return bh_error_text(err, ENOENT, "cannot set '%s': %s: no such file or directory (its controller is not available, or the kernel has none)",
			     write->value, words);
}

/* 1: try again later; 0: done or left out; negative: failed. */
static int apply_one(struct bh_cgroup *cgroup, struct bh_cgroup_write *write, bool last_try, struct bh_error *err)
{
	int fd = cgroup->folders[write->folder].fd;
	int r = fd < 0 ? -ENOENT : bh_cgroup_put(fd, write->file, write->value);

	if (r == 0) {
		write->done = true;
		bh_cgroup_explain_write(cgroup, write->folder, write->file, write->value);
		return 0;
	}
	if (r == -ENOENT) {
		bool has_alternative = !last_try && write[1].alternative;

		write->done = !has_alternative;
		if (write->optional || has_alternative)
			return 0;
		if (cgroup->strict)
			return refuse_missing(cgroup, write, err);
		warn_missing(write, fd < 0 ? "its cgroup controller is not available" : "the kernel has no such file");
		return 0;
	}
	if (r == -EINVAL && !last_try)
		return 1;
	if (r == -EBUSY && bh_streq(write->file, "memory.limit_in_bytes"))
		return bh_error_text(err, EBUSY, "unable to set memory limit to %s (current usage: %llu, peak usage: %llu)", write->value,
				     (unsigned long long)bh_cgroup_read_number(fd, "memory.usage_in_bytes", 0),
				     (unsigned long long)bh_cgroup_read_number(fd, "memory.max_usage_in_bytes", 0));
	bh_auto_free char *words = bh_cgroup_words(cgroup, write->folder, write->file);

	return bh_error_set(err, -r, "write '%s' to %s", write->value, words);
}

int bh_cgroup_apply(struct bh_cgroup *cgroup, struct bh_cgroup_writes *writes, struct bh_error *err)
{
	/* An end mark, so that looking at the next item for its `alternative` flag is always allowed. */
	writes->items = bh_grow(writes->items, &writes->capacity, writes->count + 1, sizeof *writes->items);
	writes->items[writes->count] = (struct bh_cgroup_write){ 0 };
	/*
	 * Some values bound each other (memory <= memory+swap, burst <= quota, quota/period), and the order that raises them
	 * is the wrong one to lower them. So one that is refused with EINVAL is tried again when the others are written.
	 */
	for (int pass = 0; pass < 2; pass++) {
		bool again = false;

		for (size_t i = 0; i < writes->count; i++) {
			struct bh_cgroup_write *write = &writes->items[i];
			int r;

			if (write->done || (write->alternative && i > 0 && writes->items[i - 1].done)) {
				write->done = true;
				continue;
			}
			if (pass == 1 && write[1].alternative && write[1].done)
				continue;
			r = apply_one(cgroup, write, pass == 1, err);
			if (r < 0)
				return r;
			again |= r > 0;
		}
		if (!again)
			break;
	}
	return 0;
}

/* --- create, open, enter --------------------------------------------------------------------------------------------- */

/* Removes what creation has made, and nothing that was there before. */
static void undo_create(struct bh_cgroup *cgroup)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *place = NULL;

		if (!cgroup->folders[i].made)
			continue;
		place = bh_cgroup_place(cgroup, (enum bh_cgroup_folder)i);
		remove_made(cgroup, place, cgroup->folders[i].made);
	}
}

/*
 * v2 delegation (kernel: cgroup-v2.rst, "Delegation"): the folder and the files that manage what is below it belong to the uid. The
 * kernel lists the files in /sys/kernel/cgroup/delegate; one that isn't there is no error, nor is it without permission.
 */
static void give_to(const struct bh_cgroup *cgroup, uid_t uid)
{
	bh_auto_strv struct bh_strv names = { 0 };
	char text[1024];
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;

	if (fd < 0 || cgroup->driver->version != 2)
		return;
	if (!bh_cgroup_read(AT_FDCWD, "/sys/kernel/cgroup/delegate", text, sizeof text))
		snprintf(text, sizeof text, "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
	names = bh_strv_split(text, '\n');
	for (size_t i = 0; i < names.count; i++)
		if (*names.items[i] && !strchr(names.items[i], '/'))
			(void)!fchownat(fd, names.items[i], uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW);
	(void)!fchownat(fd, "", uid, (gid_t)-1, AT_EMPTY_PATH);
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, FOLDER_UNIFIED, NULL), *owner = bh_printf("%u", (unsigned)uid);

		bh_explain("cgroup", "chown", words, "uid", owner);
	}
}

static int make(const struct bh_cgroup_request *request, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = bh_cgroup_new(&cgroup, err);

	if (r < 0)
		return r;
	cgroup->every = request->every_hierarchy || request->systemd;
	cgroup->strict = request->strict;
	cgroup->rootless = request->rootless;
	r = request->systemd ? bh_cgroup_start_unit(cgroup, request, err) : bh_cgroup_locate(cgroup, request->path, request->name, err);
	if (r == 0)
		r = bh_cgroup_tell_plan(cgroup, request, cgroup->unit, err);
	if (r < 0 && !request->systemd)
		return r;
	if (r == 0)
		r = cgroup->driver->create(cgroup, request->resources, err);
	if (r < 0) {
		bh_cgroup_end_placeholder(cgroup);
		if (cgroup->path)
			undo_create(cgroup);
		if (cgroup->unit)
			bh_cgroup_stop_unit(cgroup, NULL);
		return r;
	}
	if (request->owner_uid.set)
		give_to(cgroup, (uid_t)request->owner_uid.value);
	*ret_cgroup = bh_cgroup_any_fd(cgroup) < 0 && request->rootless ? NULL : BH_TAKE_PTR(cgroup);
	return 0;
}

static int make_none(const struct bh_cgroup_request *request, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	const struct bh_strv nowhere = { 0 };
	struct bh_cgroup_writes writes = { 0 };
	int r = bh_cgroup_plan_unified(request->resources, &writes, err);

	for (size_t i = 0; r == 0 && i < FOLDER_COUNT; i++)
		r = bh_cgroup_plan((enum bh_cgroup_folder)i, NULL, 1, request->resources, &writes, err);
	if (r == 0 && writes.count)
		r = bh_error_text(err, EINVAL, "linux.resources: limits need a cgroup, and there shall be none");
	bh_cgroup_writes_clear(&writes);
	if (r == 0 && request->planned)
		r = request->planned(request->planned_context, &nowhere, NULL, err);
	if (r == 0)
		*ret_cgroup = NULL;
	return r;
}

int bh_cgroup_make(const struct bh_cgroup_request *request, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	if (request->none)
		return make_none(request, ret_cgroup, err);
	return make(request, ret_cgroup, err);
}

int bh_cgroup_create(const char *path, const struct bh_spec_resources *resources, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	struct bh_cgroup_request request = { .path = path, .name = "", .resources = resources };

	return make(&request, ret_cgroup, err);
}

int bh_cgroup_open(const char *path, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = bh_cgroup_new(&cgroup, err);

	if (r == 0)
		r = bh_cgroup_locate(cgroup, path, "", err);
	if (r == 0)
		r = cgroup->driver->open(cgroup, err);
	if (r < 0)
		return r;
	if (bh_cgroup_any_fd(cgroup) < 0)
		return bh_error_text(err, ENOENT, "no cgroup %s", path);
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

/* CLONE_INTO_CGROUP came with 5.7; without it, or where a filter hides clone3, a write has to do. */
static bool can_clone_into(void)
{
	static int known = -1;
	struct utsname uts;
	unsigned version = 0, patch_level = 0;

	if (!bh_linux_has(BH_CALL_CLONE3))
		return false;
	/* Kernels that tell this (6.3) need not be asked for their version. */
	if (getauxval(AT_RSEQ_FEATURE_SIZE))
		known = 1;
	if (known >= 0)
		return known;
	if (uname(&uts) == 0 && sscanf(uts.release, "%u.%u", &version, &patch_level) != 2)
		version = 0;
	known = version > 5 || (version == 5 && patch_level >= 7);
	return known;
}

int bh_cgroup_clone_fd(const struct bh_cgroup *cgroup)
{
	return can_clone_into() ? cgroup->folders[FOLDER_UNIFIED].fd : -1;
}

bool bh_cgroup_is_entered_by_clone(const struct bh_cgroup *cgroup)
{
	return cgroup->driver->version == 2 && can_clone_into();
}

int bh_cgroup_enter_self(const struct bh_cgroup *cgroup, struct bh_error *err)
{
	return cgroup->driver->enter_self(cgroup, err);
}

int bh_cgroup_update(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	int r = cgroup->unit ? bh_cgroup_update_unit(cgroup, resources, err) : 0;

	bh_cgroup_open_all_made(cgroup);
	return r < 0 ? r : cgroup->driver->update(cgroup, resources, err);
}

int bh_cgroup_version(const struct bh_cgroup *cgroup)
{
	return cgroup->driver->version;
}

char *bh_cgroup_mount_path(const struct bh_cgroup *cgroup, const char *name)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if ((cgroup->folders[i].fd >= 0 || cgroup->folders[i].unopened) && bh_streq(bh_cgroup_hierarchy(cgroup, (enum bh_cgroup_folder)i), name))
			return bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, NULL);
	return NULL;
}

int bh_cgroup_mount_source(const struct bh_cgroup *cgroup, size_t index, const char **ret_name, int *ret_fd)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		if ((cgroup->folders[i].fd < 0 && !cgroup->folders[i].unopened) || cgroup->folders[i].alias || index-- > 0)
			continue;
		*ret_name = cgroup->driver->version == 2 ? "" : bh_cgroup_v1_names[i];
		*ret_fd = cgroup->folders[i].fd;
		return 0;
	}
	return -ENOENT;
}

/* --- out of memory, statistics, host --------------------------------------------------------------------------------- */

int bh_cgroup_oom_fd(const struct bh_cgroup *cgroup)
{
	enum bh_cgroup_folder folder = cgroup->driver->oom_folder;
	bh_auto_free char *words = NULL;
	int fd;

	if (cgroup->folders[folder].fd < 0 && !cgroup->folders[folder].unopened)
		return -ENOENT;
	words = bh_cgroup_words(cgroup, folder, cgroup->driver->oom_file);
	fd = openat(cgroup->root_fd, words + sizeof CGROUP_ROOT, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

uint64_t bh_cgroup_parse_oom_kills(const char *content)
{
	return bh_cgroup_find_number(content, "oom_kill", 0);
}

int bh_cgroup_stats(struct bh_cgroup *cgroup, struct bh_cgroup_stats *ret_stats, struct bh_error *err)
{
	struct bh_cgroup_stats stats = { .memory_limit = UINT64_MAX, .pids_limit = UINT64_MAX };
	char pids[8];

	bh_cgroup_open_all_made(cgroup);
	if (!bh_cgroup_read(bh_cgroup_any_fd(cgroup), "cgroup.procs", pids, sizeof pids))
		return bh_error_set(err, errno == ENODEV ? ENOENT : errno, "read cgroup %s", cgroup->path);
	cgroup->driver->stats(cgroup, &stats);
	*ret_stats = stats;
	return 0;
}

void bh_cgroup_host_clear(struct bh_cgroup_host *host)
{
	bh_strv_clear(&host->controllers);
	bh_strv_clear(&host->missing);
}

static bool has_word(const char *list, const char *word)
{
	bh_auto_free char *copy = bh_strdup(list);
	bh_auto_strv struct bh_strv words = { 0 };

	copy[strcspn(copy, "\n")] = '\0';
	words = bh_strv_split(copy, ' ');
	return bh_strv_contains(&words, word);
}

/* Container engines leave plain folders with a controller's name beside the mounts. */
static bool is_hierarchy(int root_fd, const char *name)
{
	bh_auto_close int fd = openat(root_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && bh_cgroup_is_cgroupfs(fd, 1);
}

int bh_cgroup_host(struct bh_cgroup_host *ret_host, struct bh_error *err)
{
	bh_auto_cgroup struct bh_cgroup *none = NULL;
	struct bh_cgroup_host host = { 0 };
	const struct bh_cgroup_driver *driver;
	char controllers[512] = "";
	int root, r = bh_cgroup_new(&none, err);

	if (r < 0)
		return r;
	driver = none->driver;
	root = none->root_fd;
	host.version = driver->version;
	snprintf(host.driver, sizeof host.driver, "%s", driver->name);
	host.hybrid = bh_cgroup_read(root, driver->version == 2 ? "cgroup.controllers" : "unified/cgroup.controllers", controllers, sizeof controllers) &&
		      driver->version == 1;
	for (size_t i = FOLDER_UNIFIED + 1; i < FOLDER_NET_CLS; i++) {
		bool core_of_v2 = driver->version == 2 && !bh_cgroup_v2_names[i]; /* devices, freezer, cpuacct: part of v2's core */
		bool on_v2 = bh_cgroup_v2_names[i] && has_word(controllers, bh_cgroup_v2_names[i]);
		bool on_v1 = driver->version == 1 && is_hierarchy(root, bh_cgroup_v1_names[i]);
		const char *name = driver->version == 2 && bh_cgroup_v2_names[i] ? bh_cgroup_v2_names[i] : bh_cgroup_v1_names[i];

		if (on_v1 || on_v2 || core_of_v2)
			bh_strv_add(&host.controllers, name);
		else if (driver->version == 2)
			bh_strv_addf(&host.missing, "%s: not in " CGROUP_ROOT "/cgroup.controllers", name);
		else
			bh_strv_addf(&host.missing, "%s: no hierarchy " CGROUP_ROOT "/%s", name, name);
	}
	*ret_host = host;
	return 0;
}
