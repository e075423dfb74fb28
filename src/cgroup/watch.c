/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for a cgroup to run out of memory, and for its end.
 *
 * v1 (kernel: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"): an eventfd, registered by "EVENTFD FILE" in
 * cgroup.event_control, counts each time the cgroup runs out of memory, and once more when the folder is removed. v2: inotify
 * tells that memory.events or cgroup.events has changed; what changed is read from them.
 *
 * Either way there is one fd to poll for POLLIN, among others of the caller's, and one function that says what it meant.
 */
#include "cgroup/cgroup-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

static int watch_v1(const struct bh_cgroup *cgroup, struct bh_cgroup_watch *watch, struct bh_error *err)
{
	bh_auto_close int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bh_auto_close int control = openat(watch->folder_fd, "memory.oom_control", O_RDONLY | O_CLOEXEC);
	bh_auto_free char *words = bh_cgroup_words(cgroup, FOLDER_MEMORY, "memory.oom_control"), *line = NULL;
	int r;

	if (event < 0 || control < 0)
		return bh_error_set(err, errno, "watch %s", words);
	line = bh_printf("%d %d", event, control);
	r = bh_cgroup_put(watch->folder_fd, "cgroup.event_control", line);
	if (r < 0)
		return bh_error_set(err, -r, "watch %s", words);
	watch->fd = BH_TAKE_FD(event);
	watch->control_fd = BH_TAKE_FD(control);
	return 0;
}

/* inotify takes no directory fd: the way to the file leads over /proc. */
static int add_watch(int fd, int folder_fd, const char *file)
{
	bh_auto_free char *path = bh_printf("/proc/self/fd/%d/%s", folder_fd, file);

	return inotify_add_watch(fd, path, IN_MODIFY) < 0 ? -errno : 0;
}

static int watch_v2(const struct bh_cgroup *cgroup, struct bh_cgroup_watch *watch, struct bh_error *err)
{
	bh_auto_close int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	bh_auto_free char *words = bh_cgroup_words(cgroup, FOLDER_UNIFIED, "memory.events");
	char text[512];
	int r = fd < 0 ? -errno : add_watch(fd, watch->folder_fd, "memory.events");

	if (r == 0)
		r = add_watch(fd, watch->folder_fd, "cgroup.events");
	if (r < 0)
		return bh_error_set(err, -r, "watch %s", words);
	if (bh_cgroup_read(watch->folder_fd, "memory.events", text, sizeof text))
		watch->oom_kills = bh_cgroup_parse_oom_kills(text);
	watch->fd = BH_TAKE_FD(fd);
	return 0;
}

int bh_cgroup_watch_open(struct bh_cgroup *cgroup, struct bh_cgroup_watch *ret_watch, struct bh_error *err)
{
	struct bh_cgroup_watch watch = { .fd = -1, .control_fd = -1, .version = cgroup->driver->version };
	int folder, r;

	bh_cgroup_open_all_made(cgroup);
	folder = cgroup->folders[watch.version == 2 ? FOLDER_UNIFIED : FOLDER_MEMORY].fd;
	if (folder < 0)
		return bh_error_text(err, ENOENT, "cgroup %s: no memory controller to watch", cgroup->path);
	watch.folder_fd = fcntl(folder, F_DUPFD_CLOEXEC, 3);
	if (watch.folder_fd < 0)
		return bh_error_set(err, errno, "watch cgroup %s", cgroup->path);
	r = watch.version == 2 ? watch_v2(cgroup, &watch, err) : watch_v1(cgroup, &watch, err);
	if (r < 0) {
		bh_cgroup_watch_close(&watch);
		return r;
	}
	*ret_watch = watch;
	return 0;
}

static void read_v1(struct bh_cgroup_watch *watch, bool *ret_oom, bool *ret_ended)
{
	uint64_t count;
	char text[8];

	if (read(watch->fd, &count, sizeof count) != (ssize_t)sizeof count)
		return;
	/* A removed folder answers ENODEV. */
	*ret_ended = !bh_cgroup_read(watch->folder_fd, "cgroup.procs", text, sizeof text);
	*ret_oom = !*ret_ended;
}

static void read_v2(struct bh_cgroup_watch *watch, bool *ret_oom, bool *ret_ended)
{
	char events[4096], text[512];
	uint64_t oom_kills = watch->oom_kills;

	while (read(watch->fd, events, sizeof events) > 0)
		;
	if (bh_cgroup_read(watch->folder_fd, "memory.events", text, sizeof text))
		oom_kills = bh_cgroup_parse_oom_kills(text);
	*ret_oom = oom_kills > watch->oom_kills;
	watch->oom_kills = oom_kills;
	*ret_ended = !bh_cgroup_read(watch->folder_fd, "cgroup.events", text, sizeof text) || bh_cgroup_find_number(text, "populated", 1) == 0;
}

void bh_cgroup_watch_read(struct bh_cgroup_watch *watch, bool *ret_oom, bool *ret_ended)
{
	*ret_oom = *ret_ended = false;
	if (watch->version == 2)
		read_v2(watch, ret_oom, ret_ended);
	else
		read_v1(watch, ret_oom, ret_ended);
}

void bh_cgroup_watch_close(struct bh_cgroup_watch *watch)
{
	bh_close_fd(&watch->fd);
	bh_close_fd(&watch->control_fd);
	bh_close_fd(&watch->folder_fd);
}
