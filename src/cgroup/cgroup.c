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
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

const char *const bh_cgroup_v1_names[FOLDER_COUNT] = {
	[FOLDER_UNIFIED] = "unified", [FOLDER_MEMORY] = "memory",   [FOLDER_CPU] = "cpu",     [FOLDER_CPUACCT] = "cpuacct",
	[FOLDER_PIDS] = "pids",       [FOLDER_CPUSET] = "cpuset",   [FOLDER_BLKIO] = "blkio", [FOLDER_HUGETLB] = "hugetlb",
	[FOLDER_DEVICES] = "devices", [FOLDER_FREEZER] = "freezer",
};
const char *const bh_cgroup_v2_names[FOLDER_COUNT] = {
	[FOLDER_MEMORY] = "memory", [FOLDER_CPU] = "cpu",  [FOLDER_PIDS] = "pids",
	[FOLDER_CPUSET] = "cpuset", [FOLDER_BLKIO] = "io", [FOLDER_HUGETLB] = "hugetlb",
};

static void free_ptr(struct bh_cgroup **cgroup)
{
	bh_cgroup_free(*cgroup);
	*cgroup = NULL;
}
#define auto_cgroup __attribute__((cleanup(free_ptr)))

/* --- words and small files ------------------------------------------------------------------------------------------- */

char *bh_cgroup_words(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file)
{
	bool v2 = cgroup->driver->version == 2;

	return bh_printf(CGROUP_ROOT "%s%s/%s%s%s", v2 ? "" : "/", v2 ? "" : bh_cgroup_v1_names[folder], cgroup->path, file ? "/" : "",
			 file ? file : "");
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

/* Returns -errno without words: the caller decides whether it matters. */
static int write_value(int folder_fd, const char *file, const char *value)
{
	bh_auto_close int fd = openat(folder_fd, file, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

static void explain_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value)
{
	bh_auto_free char *words = NULL;

	if (bh_explain_mode == BH_EXPLAIN_OFF)
		return;
	words = bh_cgroup_words(cgroup, folder, file);
	bh_explain("cgroup", "file", words, "value", value);
}

int bh_cgroup_write(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, const char *value, struct bh_error *err)
{
	int r = write_value(cgroup->folders[folder].fd, file, value);

	if (r < 0) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, file);

		return bh_error_set(err, -r, "write '%s' to %s", value, words);
	}
	explain_write(cgroup, folder, file, value);
	return 0;
}

/* --- folders --------------------------------------------------------------------------------------------------------- */

static int path_copy(const char *path, char **ret_path, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(path, '/');
	bh_auto_buf struct bh_buf clean = { 0 };

	for (size_t i = 0; i < parts.count; i++) {
		const char *part = parts.items[i];

		if (!*part)
			continue;
		if (bh_streq(part, ".") || bh_streq(part, "..") || strlen(part) > NAME_MAX || strchr(part, '\n'))
			return bh_error_text(err, EINVAL, "cgroup path '%s': bad component '%s'", path, part);
		bh_buf_addf(&clean, "%s%s", clean.length ? "/" : "", part);
	}
	if (clean.length == 0 || clean.length > CGROUP_PATH_MAX)
		return bh_error_text(err, EINVAL, "cgroup path '%s': empty or too long", path);
	*ret_path = bh_buf_take(&clean);
	return 0;
}

static int find_driver(int root_fd, const struct bh_cgroup_driver **ret_driver, struct bh_error *err)
{
	struct statfs fs;

	if (fstatfs(root_fd, &fs) < 0)
		return bh_error_set(err, errno, "statfs " CGROUP_ROOT);
	if (fs.f_type == CGROUP2_SUPER_MAGIC)
		*ret_driver = &bh_cgroup_v2;
	else if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC)
		*ret_driver = &bh_cgroup_v1;
	else
		return bh_error_text(err, ENOTSUP, "no cgroup file system is mounted at " CGROUP_ROOT);
	return 0;
}

static int new_cgroup(const char *path, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	auto_cgroup struct bh_cgroup *cgroup = bh_calloc(1, sizeof *cgroup);
	int r;

	for (size_t i = 0; i < FOLDER_COUNT; i++)
		cgroup->folders[i].fd = -1;
	cgroup->root_fd = openat(AT_FDCWD, CGROUP_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cgroup->root_fd < 0)
		return bh_error_set(err, errno, "open " CGROUP_ROOT);
	r = find_driver(cgroup->root_fd, &cgroup->driver, err);
	if (r == 0)
		r = path_copy(path, &cgroup->path, err);
	if (r < 0)
		return r;
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

void bh_cgroup_free(struct bh_cgroup *cgroup)
{
	if (!cgroup)
		return;
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		bh_close_fd(&cgroup->folders[i].fd);
	bh_close_fd(&cgroup->root_fd);
	free(cgroup->path);
	free(cgroup);
}

/* The folder exists: it is ours by another name (co-mounted controllers), or empty and so free to take, or in use. */
static int take_existing(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int fd, struct bh_error *err)
{
	struct stat st, other;
	char pids[64];

	if (fstat(fd, &st) < 0)
		return bh_error_set(err, errno, "stat cgroup %s", cgroup->path);
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		if (i != folder && cgroup->folders[i].fd >= 0 && fstat(cgroup->folders[i].fd, &other) == 0 && st.st_dev == other.st_dev &&
		    st.st_ino == other.st_ino)
			return 0;
	if (bh_cgroup_read(fd, "cgroup.procs", pids, sizeof pids) && *pids) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);

		return bh_error_text(err, EBUSY, "cgroup %s exists and has processes (pid %.*s)", words, (int)strcspn(pids, "\n"), pids);
	}
	return 0;
}

static int mkdir_below(const struct bh_cgroup *cgroup, const char *hierarchy, int version, const char *path, struct bh_error *err)
{
	bh_auto_close int top = -1;

	if (mkdirat(cgroup->root_fd, path, 0755) == 0)
		return 1;
	if (errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return bh_error_set(err, errno, "mkdir " CGROUP_ROOT "/%s", path);
	/* A folder above is missing, or the hierarchy itself; the latter must not be made as a plain folder. */
	top = openat(cgroup->root_fd, *hierarchy ? hierarchy : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 || !bh_cgroup_is_cgroupfs(top, version))
		return -ENOENT;
	for (int tries = 0; tries < 3; tries++) {
		/* Another process may remove the empty folder above at any moment: then once more. */
		int r = bh_mkdir_all(top, cgroup->path, 0755, err);

		if (r == 0)
			return 1;
		if (r != -ENOENT)
			return r;
	}
	return bh_error_set(err, ENOENT, "mkdir " CGROUP_ROOT "/%s", path);
}

int bh_cgroup_make_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *hierarchy, struct bh_error *err)
{
	bh_auto_free char *path = *hierarchy ? bh_printf("%s/%s", hierarchy, cgroup->path) : bh_strdup(cgroup->path);
	int version = folder == FOLDER_UNIFIED ? 2 : 1;
	int made = mkdir_below(cgroup, hierarchy, version, path, err);
	bh_auto_close int fd = -1;
	int r;

	if (made < 0)
		return made;
	fd = openat(cgroup->root_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : 0;
	if (r == 0 && !bh_cgroup_is_cgroupfs(fd, version))
		r = -ENOENT;
	if (r < 0) {
		if (made)
			unlinkat(cgroup->root_fd, path, AT_REMOVEDIR);
		return r == -ENOENT ? r : bh_error_set(err, -r, "open " CGROUP_ROOT "/%s", path);
	}
	r = made ? 0 : take_existing(cgroup, folder, fd, err);
	if (r < 0)
		return r;
	cgroup->folders[folder].fd = BH_TAKE_FD(fd);
	cgroup->folders[folder].made = made;
	if (bh_explain_mode != BH_EXPLAIN_OFF) {
		bh_auto_free char *words = bh_cgroup_words(cgroup, folder, NULL);

		bh_explain("cgroup", made ? "mkdir" : "use", words);
	}
	return 0;
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

/* 1: try again later; 0: done or left out; negative: failed. */
static int apply_one(struct bh_cgroup *cgroup, struct bh_cgroup_write *write, bool last_try, struct bh_error *err)
{
	int fd = cgroup->folders[write->folder].fd;
	int r = fd < 0 ? -ENOENT : write_value(fd, write->file, write->value);

	if (r == 0) {
		write->done = true;
		explain_write(cgroup, write->folder, write->file, write->value);
		return 0;
	}
	if (r == -ENOENT) {
		bool has_alternative = !last_try && write[1].alternative;

		write->done = !has_alternative;
		if (!write->optional && !has_alternative)
			warn_missing(write, fd < 0 ? "its cgroup controller is not available" : "the kernel has no such file");
		return 0;
	}
	if (r == -EINVAL && !last_try)
		return 1;
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
		bh_auto_free char *words = NULL;

		if (!cgroup->folders[i].made)
			continue;
		words = bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, NULL);
		unlinkat(cgroup->root_fd, words + sizeof CGROUP_ROOT, AT_REMOVEDIR);
	}
}

int bh_cgroup_create(const char *path, const struct bh_spec_resources *resources, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = new_cgroup(path, &cgroup, err);

	if (r < 0)
		return r;
	r = cgroup->driver->create(cgroup, resources, err);
	if (r < 0) {
		undo_create(cgroup);
		return r;
	}
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

int bh_cgroup_open(const char *path, struct bh_cgroup **ret_cgroup, struct bh_error *err)
{
	auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = new_cgroup(path, &cgroup, err);

	if (r < 0)
		return r;
	r = cgroup->driver->open(cgroup, err);
	if (r < 0)
		return r;
	if (bh_cgroup_any_fd(cgroup) < 0)
		return bh_error_text(err, ENOENT, "no cgroup %s", path);
	*ret_cgroup = BH_TAKE_PTR(cgroup);
	return 0;
}

/* CLONE_INTO_CGROUP came with 5.7. v2 without it isn't supported; on the hybrid layout the write has to do. */
static bool can_clone_into(void)
{
	static int known = -1;
	struct utsname uts;
	unsigned version = 0, patch_level = 0;

	if (known >= 0)
		return known;
	if (uname(&uts) == 0 && sscanf(uts.release, "%u.%u", &version, &patch_level) != 2)
		version = 0;
	known = version > 5 || (version == 5 && patch_level >= 7);
	return known;
}

int bh_cgroup_clone_fd(const struct bh_cgroup *cgroup)
{
	return cgroup->driver->version == 2 || can_clone_into() ? cgroup->folders[FOLDER_UNIFIED].fd : -1;
}

bool bh_cgroup_is_entered_by_clone(const struct bh_cgroup *cgroup)
{
	return cgroup->driver->version == 2;
}

int bh_cgroup_enter_self(const struct bh_cgroup *cgroup, struct bh_error *err)
{
	return cgroup->driver->enter_self(cgroup, err);
}

int bh_cgroup_update(struct bh_cgroup *cgroup, const struct bh_spec_resources *resources, struct bh_error *err)
{
	return cgroup->driver->update(cgroup, resources, err);
}

int bh_cgroup_mount_source(const struct bh_cgroup *cgroup, size_t index, const char **ret_name, int *ret_fd)
{
	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		if (cgroup->folders[i].fd < 0 || index-- > 0)
			continue;
		*ret_name = cgroup->driver->version == 2 ? "" : bh_cgroup_v1_names[i];
		*ret_fd = cgroup->folders[i].fd;
		return 0;
	}
	return -ENOENT;
}

/* --- processes ------------------------------------------------------------------------------------------------------- */

static int walk_pids(int folder_fd, int depth, struct bh_buf *text)
{
	bh_auto_close int fd = openat(folder_fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	bh_auto_closedir DIR *dir = NULL;
	bh_auto_buf struct bh_buf own = { 0 };
	struct dirent *entry;
	int r, dir_fd;

	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -errno;
	r = bh_read_fd(fd, CGROUP_FILE_MAX, &own);
	/* A threaded cgroup (v2) lists its processes in the folder above; a removed one has none. */
	if (r < 0 && r != -EOPNOTSUPP && r != -ENODEV)
		return r;
	bh_buf_add(text, own.data, own.length);
	dir_fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = dir_fd < 0 ? NULL : fdopendir(dir_fd);
	while (dir && depth > 0 && (entry = readdir(dir))) {
		bh_auto_close int child = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		child = openat(folder_fd, entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (child >= 0)
			r = walk_pids(child, depth - 1, text);
	}
	return r < 0 && r != -EOPNOTSUPP && r != -ENODEV ? r : 0;
}

/* The container may nest cgroups as deep as it likes: what lies deeper than this is not followed, which bounds our stack
 * and fds. */
#define NESTING_MAX 64

int bh_cgroup_read_pids(int folder_fd, struct bh_buf *ret_text, struct bh_error *err)
{
	int r = folder_fd < 0 ? 0 : walk_pids(folder_fd, NESTING_MAX, ret_text);

	return r < 0 ? bh_error_set(err, -r, "read cgroup.procs") : 0;
}

int bh_cgroup_pids(struct bh_cgroup *cgroup, pid_t **ret_pids, size_t *ret_count, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0, capacity = 0;
	int r = bh_cgroup_read_pids(bh_cgroup_any_fd(cgroup), &text, err);

	if (r < 0)
		return r;
	for (char *line = text.data, *end; line && *line; line = end + (*end == '\n')) {
		long pid = strtol(line, &end, 10);

		if (end == line)
			break;
		/* 0: a process of another pid namespace, which we can't name. */
		if (pid <= 0)
			continue;
		pids = bh_grow(pids, &capacity, count + 1, sizeof *pids);
		pids[count++] = (pid_t)pid;
	}
	*ret_pids = BH_TAKE_PTR(pids);
	*ret_count = count;
	return 0;
}

struct pidfds {
	struct pollfd *items;
	size_t count, capacity;
};

static void pidfds_clear(struct pidfds *p)
{
	for (size_t i = 0; i < p->count; i++)
		close(p->items[i].fd);
	free(p->items);
	*p = (struct pidfds){ 0 };
}
#define auto_pidfds __attribute__((cleanup(pidfds_clear)))

/* More fds than this are not held at a time; callers that want all processes gone loop. */
#define PIDFDS_MAX 512

static bool contains_pid(const pid_t *pids, size_t count, pid_t pid)
{
	for (size_t i = 0; i < count; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* Opens pidfds of the processes inside. A pid could be given to a stranger between reading and opening: only those that
 * the cgroup still lists afterwards are kept. Never the caller itself. */
static int open_pidfds(struct bh_cgroup *cgroup, struct pidfds *ret, struct bh_error *err)
{
	bh_auto_free pid_t *before = NULL, *after = NULL;
	auto_pidfds struct pidfds opened = { 0 };
	size_t before_count = 0, after_count = 0, kept = 0;
	bh_auto_free pid_t *owner = NULL;
	int r = bh_cgroup_pids(cgroup, &before, &before_count, err);

	owner = bh_calloc(before_count, sizeof *owner);
	for (size_t i = 0; r == 0 && i < before_count && opened.count < PIDFDS_MAX; i++) {
		int fd = before[i] == getpid() ? -1 : (int)syscall(SYS_pidfd_open, before[i], 0);

		if (fd < 0)
			continue;
		opened.items = bh_grow(opened.items, &opened.capacity, opened.count + 1, sizeof *opened.items);
		owner[opened.count] = before[i];
		opened.items[opened.count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	if (r == 0)
		r = bh_cgroup_pids(cgroup, &after, &after_count, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < opened.count; i++) {
		if (contains_pid(after, after_count, owner[i]))
			opened.items[kept++] = opened.items[i];
		else
			close(opened.items[i].fd);
	}
	opened.count = kept;
	*ret = opened;
	opened = (struct pidfds){ 0 };
	return 0;
}

static void signal_pidfds(const struct pidfds *p, int signal)
{
	for (size_t i = 0; i < p->count; i++)
		syscall(SYS_pidfd_send_signal, p->items[i].fd, signal, NULL, 0);
}

/* Waits until all of them have ended or the time is over. */
static int wait_pidfds(struct pidfds *p, int64_t deadline_ns)
{
	for (size_t i = 0; i < p->count; i++) {
		int64_t left_ns = deadline_ns - bh_monotonic_ns();
		int r = left_ns <= 0 ? 0 : poll(&p->items[i], 1, (int)(left_ns / 1000000) + 1);

		if (r == 0)
			return -ETIMEDOUT;
		if (r < 0 && errno == EINTR)
			i--;
	}
	return 0;
}

int bh_cgroup_signal(struct bh_cgroup *cgroup, int signal, struct bh_error *err)
{
	auto_pidfds struct pidfds pidfds = { 0 };
	int r = open_pidfds(cgroup, &pidfds, err);

	if (r < 0)
		return r;
	signal_pidfds(&pidfds, signal);
	return 0;
}

static int kill_by_pidfds(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int64_t deadline_ns = bh_monotonic_ns() + CGROUP_WAIT_NS;

	/* A process that forks while the list is read leaves a child behind; each round kills its parent too, so the rounds
	 * come to an end unless something forks faster than it's killed. Then the deadline says so. */
	for (;;) {
		auto_pidfds struct pidfds pidfds = { 0 };
		int r = open_pidfds(cgroup, &pidfds, err);

		if (r < 0)
			return r;
		if (pidfds.count == 0)
			return 0;
		signal_pidfds(&pidfds, SIGKILL);
		r = wait_pidfds(&pidfds, deadline_ns);
		if (r < 0)
			return bh_error_set(err, -r, "kill the processes of cgroup %s", cgroup->path);
	}
}

int bh_cgroup_kill(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	bool frozen = false;

	/* cgroup.kill (5.14) reaches frozen processes and leaves no gap for a fork. */
	if (fd >= 0 && write_value(fd, "cgroup.kill", "1") == 0) {
		explain_write(cgroup, FOLDER_UNIFIED, "cgroup.kill", "1");
		return 0;
	}
	if (cgroup->driver->is_frozen(cgroup, &frozen, NULL) == 0 && frozen) {
		/* A process frozen by v1 doesn't die of SIGKILL before it's thawed. */
		bh_cgroup_signal(cgroup, SIGKILL, NULL);
		cgroup->driver->freeze(cgroup, false, NULL);
	}
	return kill_by_pidfds(cgroup, err);
}

/* --- v2's core: freeze, and waiting on cgroup.events ----------------------------------------------------------------- */

/* Waits until cgroup.events says "KEY VALUE". */
static int wait_for_event(int folder_fd, const char *key, uint64_t value, int64_t deadline_ns)
{
	bh_auto_close int fd = openat(folder_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		char text[256];
		ssize_t n = pread(fd, text, sizeof text - 1, 0);
		int64_t left_ns = deadline_ns - bh_monotonic_ns();

		if (n < 0)
			return -errno;
		text[n] = '\0';
		if (bh_cgroup_find_number(text, key, !value) == value)
			return 0;
		if (left_ns <= 0 || (poll(&p, 1, (int)(left_ns / 1000000) + 1) < 0 && errno != EINTR))
			return left_ns <= 0 ? -ETIMEDOUT : -errno;
	}
}

int bh_cgroup_core_freeze(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err)
{
	int fd = cgroup->folders[FOLDER_UNIFIED].fd;
	int r = bh_cgroup_write(cgroup, FOLDER_UNIFIED, "cgroup.freeze", frozen ? "1" : "0", err);

	if (r < 0)
		return r;
	r = wait_for_event(fd, "frozen", frozen, bh_monotonic_ns() + CGROUP_WAIT_NS);
	if (r == -ETIMEDOUT && frozen)
		write_value(fd, "cgroup.freeze", "0");
	return r < 0 ? bh_error_set(err, -r, "%s cgroup %s", frozen ? "freeze" : "thaw", cgroup->path) : 0;
}

int bh_cgroup_core_is_frozen(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err)
{
	char text[256];

	if (!bh_cgroup_read(cgroup->folders[FOLDER_UNIFIED].fd, "cgroup.events", text, sizeof text))
		return bh_error_set(err, errno, "read cgroup.events of %s", cgroup->path);
	*ret_frozen = bh_cgroup_find_number(text, "frozen", 0) == 1;
	return 0;
}

int bh_cgroup_freeze(struct bh_cgroup *cgroup, bool frozen, struct bh_error *err)
{
	return cgroup->driver->freeze(cgroup, frozen, err);
}

int bh_cgroup_is_frozen(struct bh_cgroup *cgroup, bool *ret_frozen, struct bh_error *err)
{
	return cgroup->driver->is_frozen(cgroup, ret_frozen, err);
}

/* --- destroy --------------------------------------------------------------------------------------------------------- */

/* Folders that the container made below its own (a nested engine, systemd): deepest first. */
static void remove_children(int folder_fd, int depth)
{
	bh_auto_closedir DIR *dir = NULL;
	int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	dir = fd < 0 ? NULL : fdopendir(fd);
	while (dir && depth > 0 && (entry = readdir(dir))) {
		bh_auto_close int child = -1;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		child = openat(folder_fd, entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (child >= 0)
			remove_children(child, depth - 1);
		unlinkat(folder_fd, entry->d_name, AT_REMOVEDIR);
	}
}

/* The last processes are dying: waits for them. */
static int wait_until_empty(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, int64_t deadline_ns)
{
	auto_pidfds struct pidfds pidfds = { 0 };
	int r;

	if (folder == FOLDER_UNIFIED)
		return wait_for_event(cgroup->folders[folder].fd, "populated", 0, deadline_ns);
	r = open_pidfds(cgroup, &pidfds, NULL);
	if (r == 0)
		r = wait_pidfds(&pidfds, deadline_ns);
	/* Ended but not yet taken out of the cgroup by the kernel: a matter of the other core's next instructions. */
	if (r == 0 && pidfds.count == 0)
		sched_yield();
	return r == 0 && bh_monotonic_ns() > deadline_ns ? -ETIMEDOUT : r;
}

static int remove_folder(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *path, int64_t deadline_ns, struct bh_error *err)
{
	bool children_tried = false;
	int r = 0;

	while (unlinkat(cgroup->root_fd, path, AT_REMOVEDIR) < 0) {
		if (errno == ENOENT)
			return 0;
		if (errno != EBUSY && errno != ENOTEMPTY)
			return bh_error_set(err, errno, "remove cgroup " CGROUP_ROOT "/%s", path);
		if (children_tried)
			r = wait_until_empty(cgroup, folder, deadline_ns);
		if (r < 0)
			return bh_error_set(err, EBUSY, "remove cgroup " CGROUP_ROOT "/%s: processes are still inside", path);
		remove_children(cgroup->folders[folder].fd, NESTING_MAX);
		children_tried = true;
	}
	return 0;
}

/* "/bulkhead" above "/bulkhead/<id>" is ours: the last one out removes it. Nothing else above is. */
static void remove_parent(struct bh_cgroup *cgroup, char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || !bh_has_prefix(cgroup->path, "bulkhead/") || strchr(cgroup->path, '/') != strrchr(cgroup->path, '/'))
		return;
	*slash = '\0';
	unlinkat(cgroup->root_fd, path, AT_REMOVEDIR);
}

int bh_cgroup_destroy(struct bh_cgroup *cgroup, struct bh_error *err)
{
	int64_t deadline_ns = bh_monotonic_ns() + CGROUP_WAIT_NS;
	int result = 0;

	for (size_t i = 0; i < FOLDER_COUNT; i++) {
		bh_auto_free char *words = NULL;
		char *path;
		int r;

		if (cgroup->folders[i].fd < 0)
			continue;
		words = bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, NULL);
		path = words + sizeof CGROUP_ROOT;
		r = remove_folder(cgroup, (enum bh_cgroup_folder)i, path, deadline_ns, result < 0 ? NULL : err);
		if (r < 0 && result == 0)
			result = r;
		if (r == 0) {
			bh_explain("cgroup", "rmdir", words);
			remove_parent(cgroup, path);
		}
	}
	return result;
}

/* Tries to remove the folders without looking at them first. Returns whether one of them is busy, or -errno. */
static int remove_unseen(struct bh_cgroup *cgroup, struct bh_error *err)
{
	size_t last = cgroup->driver->version == 2 ? FOLDER_UNIFIED : FOLDER_COUNT - 1;
	bool hybrid = false;
	int busy = 0;

	for (size_t i = 0; i <= last; i++) {
		bh_auto_free char *words = NULL;
		char *path;

		/* Only made where there is no v2 tree. */
		if (hybrid && (i == FOLDER_CPUACCT || i == FOLDER_FREEZER))
			continue;
		words = bh_cgroup_words(cgroup, (enum bh_cgroup_folder)i, NULL);
		path = words + sizeof CGROUP_ROOT;
		if (unlinkat(cgroup->root_fd, path, AT_REMOVEDIR) == 0) {
			hybrid |= i == FOLDER_UNIFIED;
			bh_explain("cgroup", "rmdir", words);
			remove_parent(cgroup, path);
		} else if (errno == EBUSY || errno == ENOTEMPTY) {
			busy = 1;
		} else if (errno != ENOENT) {
			return bh_error_set(err, errno, "remove cgroup %s", words);
		}
	}
	return busy;
}

int bh_cgroup_remove(const char *path, struct bh_error *err)
{
	auto_cgroup struct bh_cgroup *cgroup = NULL;
	int r = new_cgroup(path, &cgroup, err);

	if (r == 0)
		r = remove_unseen(cgroup, err);
	if (r <= 0)
		return r;
	r = cgroup->driver->open(cgroup, err);
	if (r == 0)
		r = bh_cgroup_kill(cgroup, err);
	return r < 0 ? r : bh_cgroup_destroy(cgroup, err);
}

/* --- out of memory, statistics, host --------------------------------------------------------------------------------- */

int bh_cgroup_oom_fd(const struct bh_cgroup *cgroup)
{
	int fd = cgroup->folders[cgroup->driver->oom_folder].fd;

	if (fd < 0)
		return -ENOENT;
	fd = openat(fd, cgroup->driver->oom_file, O_RDONLY | O_CLOEXEC);
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
	bh_auto_close int root = openat(AT_FDCWD, CGROUP_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct bh_cgroup_host host = { 0 };
	const struct bh_cgroup_driver *driver = NULL;
	char controllers[512] = "";
	int r = root < 0 ? bh_error_set(err, errno, "open " CGROUP_ROOT) : find_driver(root, &driver, err);

	if (r < 0)
		return r;
	host.version = driver->version;
	snprintf(host.driver, sizeof host.driver, "%s", driver->name);
	host.hybrid = bh_cgroup_read(root, driver->version == 2 ? "cgroup.controllers" : "unified/cgroup.controllers", controllers, sizeof controllers) &&
		      driver->version == 1;
	for (size_t i = FOLDER_UNIFIED + 1; i < FOLDER_COUNT; i++) {
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
