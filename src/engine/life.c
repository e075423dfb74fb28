/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a container after its start: signals, stop, pause, clean-up, removal, waiting.
 *
 * Who cleans up after the last exit: the command that watches (`run` in the foreground), if it is still there; else the
 * shim, which becomes `shim-finish`; else, when somebody killed those, the next command that takes the lock (reap).
 * All three do the same, bh_engine_finish, and each part of it accepts that it is done already.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "engine/names.h"
#include "linux/syscall.h"
#include "shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#define GUEST_END_MS 5000

int bh_container_isolation(struct bh_container *c, const struct bh_isolation_driver **ret_driver, struct bh_error *err)
{
	return bh_isolation_driver_find(bh_json_text(c->record, "host_config.Isolation", NULL), ret_driver, err);
}

int bh_engine_destroy_compartment(struct bh_container *c, struct bh_error *err)
{
	bh_auto_free char *path = bh_container_compartment_path(c);
	const struct bh_isolation_driver *driver;
	int r = bh_container_isolation(c, &driver, err);

	return r < 0 ? r : driver->destroy(BH_PLACE(path), err);
}

int bh_engine_remove_files(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	char owner[BH_ID_LENGTH + 1];
	int r = bh_engine_destroy_compartment(c, err);

	if (r == 0)
		r = bh_remove_tree_at(engine->state_fd, c->id, err);
	if (r < 0)
		return r;
	if (unlinkat(c->dir_fd, "container.json", 0) < 0 && errno != ENOENT)
		return bh_error_set(err, errno, "remove container %.12s: container.json", c->id);
	/* The name goes before the folder: a name whose folder is gone would have to be searched for. */
	if (!c->name)
		bh_engine_drop_names_of(engine, c->id);
	else if (bh_engine_read_name(engine, c->name, owner) == 0 && bh_streq(owner, c->id))
		unlinkat(engine->names_fd, c->name, 0);
	return bh_remove_tree_at(engine->containers_fd, c->id, err);
}

static int remove_record(struct bh_engine *engine, struct bh_container *c, bool volumes, struct bh_error *err)
{
	int r = volumes ? bh_engine_remove_volumes(engine, c, err) : 0;

	if (r == 0)
		r = bh_engine_remove_files(engine, c, err);
	if (r == 0) {
		json_object_put(c->record);
		c->record = NULL;
	}
	return r;
}

int bh_engine_finish(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	int r;

	if (!c->record) /* somebody was faster */
		return 0;
	if (c->auto_remove)
		return remove_record(engine, c, true, err);
	r = bh_engine_destroy_compartment(c, err);
	if (r == 0)
		r = bh_remove_tree_at(engine->state_fd, c->id, err);
	bh_close_fd(&c->state_fd);
	return r;
}

int bh_engine_reap(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	char text[128];
	int length, r;

	bh_info("container %.12s: its shim is gone; cleaning up", c->id);
	if (c->shim_pid && faccessat(c->dir_fd, "exit.json", F_OK, 0) < 0) {
		length = snprintf(text, sizeof text,
				  "{\"exit_code\":137,\"oom_killed\":false,\"finished_ns\":%" PRId64 ",\"started_ns\":%" PRId64 "}\n", bh_now_ns(),
				  c->started_ns);
		r = bh_write_file_at(c->dir_fd, "exit.json", text, (size_t)length, 0600, 0, err);
		if (r < 0)
			return r;
	}
	r = bh_engine_finish(engine, c, err);
	if (r == 0 && c->record)
		bh_container_refresh(engine, c);
	return r;
}

static bool is_alive(const struct bh_container *c)
{
	return c->status == BH_STATUS_RUNNING || c->status == BH_STATUS_PAUSED || c->status == BH_STATUS_RESTARTING;
}

/* A pidfd that is sure to be of the process the state file means. */
static int open_process(pid_t pid, uint64_t start)
{
	uint64_t now = 0;
	int fd = bh_pidfd_open(pid);

	if (fd < 0)
		return fd;
	if (bh_process_start_time(pid, &now) == 0 && now == start)
		return fd;
	close(fd);
	return -ESRCH;
}

static int mark(struct bh_container *c, const char *name)
{
	return bh_write_file_at(c->state_fd, name, "", 0, 0600, 0, NULL);
}

/* Would this signal, sent by hand, mean "and don't restart it"? Docker's rule: SIGKILL, and the stop signal. */
static bool ends_policy(struct bh_container *c, int signal)
{
	int stop_signal = SIGTERM;

	bh_parse_signal(bh_json_text(c->record, "config.StopSignal", "SIGTERM"), &stop_signal);
	return signal == SIGKILL || signal == stop_signal;
}

static int set_paused(struct bh_container *c, bool pause, struct bh_error *err)
{
	bh_auto_place struct bh_engine_place place;
	const struct bh_isolation_driver *driver;
	int r = bh_container_isolation(c, &driver, err);

	bh_engine_place(c, &place);
	/* The mark first: a killed command must leave a container that can be unpaused. */
	if (r == 0 && pause)
		mark(c, "paused");
	if (r == 0)
		r = driver->pause(&place.place, pause, err);
	if ((r < 0) == pause)
		unlinkat(c->state_fd, "paused", 0);
	return r;
}

/* 1 when the process behind the pidfd has ended, 0 after the timeout. */
static int wait_pidfd(int pidfd, int64_t timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int64_t deadline = timeout_ms < 0 ? INT64_MAX : bh_monotonic_ns() / 1000000 + timeout_ms;

	for (;;) {
		int64_t left = timeout_ms < 0 ? -1 : BH_MAX(deadline - bh_monotonic_ns() / 1000000, (int64_t)0);
		int r = poll(&p, 1, (int)BH_MIN(left, (int64_t)INT32_MAX));

		if (r >= 0 || errno != EINTR)
			return r > 0;
	}
}

/* SIGKILL. A guest keeps what was written only if its kernel writes it to its disk: one that answers gets the time for that. */
static int kill_process(struct bh_container *c, int pidfd)
{
	bh_auto_place struct bh_engine_place place;
	const struct bh_isolation_driver *driver;

	bh_engine_place(c, &place);
	if (bh_container_isolation(c, &driver, NULL) == 0 && driver->end && driver->end(&place.place, NULL) == 0 && wait_pidfd(pidfd, GUEST_END_MS))
		return 0;
	return bh_pidfd_send_signal(pidfd, SIGKILL);
}

int bh_engine_kill(struct bh_engine *engine, struct bh_container *c, int signal, struct bh_error *err)
{
	bh_auto_close int pidfd = -1;
	int r;

	(void)engine;
	if (c->status != BH_STATUS_RUNNING && c->status != BH_STATUS_PAUSED)
		return bh_error_text(err, ESRCH, "cannot kill container: %s: container %s is not running", c->name, c->id);
	if (ends_policy(c, signal))
		mark(c, "stopping");
	pidfd = open_process(c->pid, c->pid_start);
	if (pidfd < 0)
		return bh_error_text(err, ESRCH, "cannot kill container: %s: its first process is gone", c->name);
	r = signal == SIGKILL ? kill_process(c, pidfd) : bh_pidfd_send_signal(pidfd, signal);
	if (r < 0)
		return bh_error_set(err, -r, "send signal %d to container %s", signal, c->name);
	if (c->status == BH_STATUS_PAUSED && signal == SIGKILL) {
		r = set_paused(c, false, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Waits for the shim, and whatever it became, to end; then reads the truth again under the lock. */
static int settle(struct bh_engine *engine, struct bh_container *c, int shim_fd, struct bh_error *err)
{
	int r;

	wait_pidfd(shim_fd, -1);
	r = bh_lock_fd(c->dir_fd, true, false);
	if (r < 0)
		return bh_error_set(err, -r, "lock container %s", c->name);
	c->locked = true;
	json_object_put(c->record);
	c->record = bh_engine_read_json(c->dir_fd, "container.json");
	if (!c->record) /* --rm */
		return 0;
	bh_container_set_record(c);
	bh_container_refresh(engine, c);
	if (c->state_fd >= 0)
		return bh_engine_reap(engine, c, err);
	return 0;
}

int bh_engine_settle(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	bh_auto_close int shim_fd = c->shim_pid ? open_process(c->shim_pid, c->shim_start) : -1;

	if (shim_fd < 0)
		return 0;
	bh_container_unlock(c);
	return settle(engine, c, shim_fd, err);
}

/* Ends a shim that waits for its next restart: nothing runs, so it has nothing to save. */
static int stop_restarting(struct bh_engine *engine, struct bh_container *c, int shim_fd, struct bh_error *err)
{
	int r = bh_pidfd_send_signal(shim_fd, SIGKILL);

	if (r < 0 && r != -ESRCH)
		return bh_error_set(err, -r, "stop container %s", c->name);
	return settle(engine, c, shim_fd, err);
}

/* `for_good`: nobody will see its files again. */
static int stop(struct bh_engine *engine, struct bh_container *c, int64_t timeout_s, bool for_good, struct bh_error *err)
{
	bh_auto_close int shim_fd = -1, pidfd = -1;
	int signal = SIGTERM;

	if (!is_alive(c))
		return 0;
	shim_fd = open_process(c->shim_pid, c->shim_start);
	mark(c, "stopping");
	bh_container_unlock(c); /* the shim needs the lock to finish */
	if (shim_fd < 0)
		return 0;
	if (c->status == BH_STATUS_RESTARTING)
		return stop_restarting(engine, c, shim_fd, err);
	if (c->status == BH_STATUS_PAUSED && set_paused(c, false, err) < 0)
		return -err->errnum;
	bh_parse_signal(bh_json_text(c->record, "config.StopSignal", "SIGTERM"), &signal);
	if (timeout_s == BH_UNSET)
		timeout_s = bh_json_int(c->record, "config.StopTimeout", BH_STOP_TIMEOUT_DEFAULT);
	pidfd = open_process(c->pid, c->pid_start);
	if (pidfd >= 0 && bh_pidfd_send_signal(pidfd, signal) == 0 && !wait_pidfd(pidfd, timeout_s < 0 ? -1 : timeout_s * 1000)) {
		if (for_good)
			bh_pidfd_send_signal(pidfd, SIGKILL);
		else
			kill_process(c, pidfd);
	}
	return settle(engine, c, shim_fd, err);
}

int bh_engine_stop(struct bh_engine *engine, struct bh_container *c, int64_t timeout_s, struct bh_error *err)
{
	return stop(engine, c, timeout_s, false, err);
}

int bh_engine_pause(struct bh_engine *engine, struct bh_container *c, bool pause, struct bh_error *err)
{
	(void)engine;
	if (pause && c->status == BH_STATUS_PAUSED)
		return bh_error_text(err, EBUSY, "Container %s is already paused", c->name);
	if (pause && c->status != BH_STATUS_RUNNING)
		return bh_error_text(err, ESRCH, "Container %s is not running", c->name);
	if (!pause && c->status != BH_STATUS_PAUSED)
		return bh_error_text(err, EINVAL, "Container %s is not paused", c->name);
	return set_paused(c, pause, err);
}

int bh_engine_remove(struct bh_engine *engine, struct bh_container *c, bool force, bool volumes, struct bh_error *err)
{
	if (is_alive(c) && !force)
		return bh_error_text(err, EBUSY, "cannot remove container \"/%s\": container is %s: stop the container before removing or force remove",
				     c->name, bh_status_name(c->status));
	if (is_alive(c)) {
		int r = stop(engine, c, 0, true, err);

		if (r < 0)
			return r;
	}
	if (!c->record) /* --rm: its own clean-up removed it */
		return 0;
	return remove_record(engine, c, volumes || c->auto_remove, err);
}

int bh_engine_rename(struct bh_engine *engine, struct bh_container *c, const char *name, struct bh_error *err)
{
	bh_auto_free char *old = bh_strdup(c->name);
	const char *text;
	int r;

	if (*name == '/')
		name++;
	if (bh_streq(old, name))
		return bh_error_text(err, EINVAL, "Renaming a container with the same name as its current name");
	r = bh_engine_claim_name(engine, name, c->id, err);
	if (r < 0)
		return r;
	json_object_object_add(c->record, "name", json_object_new_string(name));
	text = json_object_to_json_string_ext(c->record, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	r = bh_write_file_at(c->dir_fd, "container.json", text, strlen(text), 0600, 0, err);
	/* The name that lost, whichever it is, becomes free. */
	unlinkat(engine->names_fd, r < 0 ? name : old, 0);
	return r;
}

int bh_engine_attach(struct bh_container *c, struct bh_error *err)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bh_auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return bh_error_set(err, errno, "socket");
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach.sock", c->state_fd);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return bh_error_set(err, errno, "connect to the shim of container %s", c->name);
	return BH_TAKE_FD(fd);
}

/* Listens to the shim for the exit frame alone. */
static int wait_for_frame(int fd, int *ret_exit_code)
{
	char message[1 + BH_FRAME_MAX];
	char quiet = BH_FRAME_QUIET;

	if (send(fd, &quiet, 1, MSG_NOSIGNAL) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, message, sizeof message, 0);
		struct bh_frame_exit result;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPIPE;
		if (message[0] != BH_FRAME_EXIT || (size_t)n != 1 + sizeof result)
			continue;
		memcpy(&result, message + 1, sizeof result);
		*ret_exit_code = result.exit_code;
		return 0;
	}
}

int bh_engine_wait(struct bh_engine *engine, struct bh_container *c, int *ret_exit_code, struct bh_error *err)
{
	bh_auto_close int fd = -1, shim_fd = -1;

	if (!is_alive(c)) {
		*ret_exit_code = c->exit_code;
		return 0;
	}
	shim_fd = open_process(c->shim_pid, c->shim_start);
	fd = bh_engine_attach(c, NULL);
	if (fd >= 0 && wait_for_frame(fd, ret_exit_code) == 0)
		return 0;
	/* Its shim was killed, or it ended between our look and the connection. */
	if (shim_fd >= 0)
		wait_pidfd(shim_fd, -1);
	bh_container_refresh(engine, c);
	if (is_alive(c))
		return bh_error_text(err, EIO, "container %s: lost the connection to its shim", c->name);
	*ret_exit_code = c->exit_code;
	return 0;
}
