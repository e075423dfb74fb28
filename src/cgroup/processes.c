/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a cgroup: listed, signalled, killed, frozen, waited for.
 *
 * A pid is only used through a pidfd, and a pidfd only if the cgroup still lists the pid after it was opened. Nested cgroups
 * count as their parent's. cgroup.kill (5.14) reaches all at once; without it all are signalled again and again until none
 * is left. Other signals are sent while the cgroup is frozen, so that no fork is missed.
 */
#include "cgroup/cgroup-internal.h"

#include "base/file.h"
#include "base/time.h"
#include "linux/syscall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

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

/* Opens pidfds of some processes that were read from the cgroup. A pid could be given to a stranger between reading and
 * opening: only those that the cgroup still lists afterwards are kept. Never the caller itself. */
static int open_some(struct bh_cgroup *cgroup, const pid_t *pids, size_t count, struct pidfds *ret, struct bh_error *err)
{
	bh_auto_free pid_t *after = NULL, *owner = bh_calloc(count, sizeof *owner);
	auto_pidfds struct pidfds opened = { 0 };
	size_t after_count = 0, kept = 0;
	int r;

	for (size_t i = 0; i < count; i++) {
		int fd = pids[i] == getpid() ? -1 : bh_pidfd_or_folder(pids[i]);

		if (fd < 0)
			continue;
		opened.items = bh_grow(opened.items, &opened.capacity, opened.count + 1, sizeof *opened.items);
		owner[opened.count] = pids[i];
		opened.items[opened.count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	r = opened.count == 0 ? 0 : bh_cgroup_pids(cgroup, &after, &after_count, err);
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

static int open_pidfds(struct bh_cgroup *cgroup, struct pidfds *ret, struct bh_error *err)
{
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	int r = bh_cgroup_pids(cgroup, &pids, &count, err);

	return r < 0 ? r : open_some(cgroup, pids, BH_MIN(count, (size_t)PIDFDS_MAX), ret, err);
}

static void signal_pidfds(const struct pidfds *p, int signal)
{
	for (size_t i = 0; i < p->count; i++)
		bh_pidfd_send_signal(p->items[i].fd, signal);
}

/* Waits until all of them have ended or the time is over. */
static int wait_pidfds(struct pidfds *p, int64_t deadline_ns)
{
	for (size_t i = 0; i < p->count; i++) {
		int64_t left_ns = deadline_ns - bh_monotonic_ns();
		int r = left_ns <= 0 ? 0 : bh_pidfd_wait(p->items[i].fd, (int)(left_ns / 1000000) + 1);

		if (r == 0)
			return -ETIMEDOUT;
		if (r == -EINTR)
			i--;
	}
	return 0;
}

int bh_cgroup_wait_for_pids(struct bh_cgroup *cgroup, int64_t deadline_ns, bool *ret_any)
{
	auto_pidfds struct pidfds pidfds = { 0 };
	int r = open_pidfds(cgroup, &pidfds, NULL);

	if (r == 0)
		r = wait_pidfds(&pidfds, deadline_ns);
	*ret_any = pidfds.count > 0;
	return r;
}

static int signal_all(struct bh_cgroup *cgroup, int signal, struct bh_error *err)
{
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	int r = bh_cgroup_pids(cgroup, &pids, &count, err);

	for (size_t i = 0; r == 0 && i < count; i += PIDFDS_MAX) {
		auto_pidfds struct pidfds pidfds = { 0 };

		r = open_some(cgroup, pids + i, BH_MIN(count - i, (size_t)PIDFDS_MAX), &pidfds, err);
		signal_pidfds(&pidfds, signal);
	}
	return r;
}

/* A process that forks while the list is read would have a child that gets no signal: so all are stopped meanwhile, where
 * that is possible. What was frozen before stays so: the signal waits. */
int bh_cgroup_signal(struct bh_cgroup *cgroup, int signal, struct bh_error *err)
{
	bool was_frozen = false, frozen = false;
	int r;

	if (signal == SIGKILL)
		return bh_cgroup_kill(cgroup, err);
	if ((cgroup->folders[FOLDER_UNIFIED].fd >= 0 || cgroup->folders[FOLDER_FREEZER].fd >= 0) &&
	    cgroup->driver->is_frozen(cgroup, &was_frozen, NULL) == 0 && !was_frozen)
		frozen = cgroup->driver->freeze(cgroup, true, NULL) == 0;
	r = signal_all(cgroup, signal, err);
	if (frozen)
		cgroup->driver->freeze(cgroup, false, NULL);
	return r;
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
	if (fd >= 0 && bh_cgroup_put(fd, "cgroup.kill", "1") == 0) {
		bh_cgroup_explain_write(cgroup, FOLDER_UNIFIED, "cgroup.kill", "1");
		return 0;
	}
	if (cgroup->driver->is_frozen(cgroup, &frozen, NULL) == 0 && frozen) {
		/* A process frozen by v1 doesn't die of SIGKILL before it's thawed. */
		signal_all(cgroup, SIGKILL, NULL);
		cgroup->driver->freeze(cgroup, false, NULL);
	}
	return kill_by_pidfds(cgroup, err);
}

int bh_cgroup_take_back(struct bh_cgroup *cgroup, pid_t pid, struct bh_error *err)
{
	char text[16];

	if (cgroup->folders[FOLDER_FREEZER].fd < 0)
		return 0;
	snprintf(text, sizeof text, "%d", (int)pid);
	return bh_cgroup_write(cgroup, FOLDER_FREEZER, "cgroup.procs", text, err);
}

/* --- v2's core: freeze, and waiting on cgroup.events ----------------------------------------------------------------- */

/* Waits until cgroup.events says "KEY VALUE". */
int bh_cgroup_wait_for_event(int folder_fd, const char *key, uint64_t value, int64_t deadline_ns)
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
	r = bh_cgroup_wait_for_event(fd, "frozen", frozen, bh_monotonic_ns() + CGROUP_WAIT_NS);
	if (r == -ETIMEDOUT && frozen)
		bh_cgroup_put(fd, "cgroup.freeze", "0");
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
