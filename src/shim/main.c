/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-shim: one small process per container, which stays when every command has ended.
 *
 * The engine's start stage clones the container's first process and then *becomes* this program by execve, so the pid,
 * and with it the parenthood of the container, stays the same. The shim therefore needs no driver code: it copies
 * streams, keeps the log, serves the attach socket, waits, writes the exit record, schedules health probes and
 * restarts. For a restart, and for cleaning up, it becomes the engine's program again.
 *
 * Invariants:
 *  1. The exit record is written (rename) before any client hears of the exit, unless an owner removes the container.
 *  2. Everything the process wrote before it ended is in the log before the exit record is written.
 *  3. A shim that is killed takes the container with it (the first process has PR_SET_PDEATHSIG), and the next command
 *     that looks finds a state file whose shim is gone: it knows what happened and cleans.
 */
#include "shim/shim-internal.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct shim shim = {
	.dir_fd = -1,
	.state_fd = -1,
	.pidfd = -1,
	.stdin_fd = -1,
	.out_fd = { -1, -1 },
	.tty_fd = -1,
	.listen_fd = -1,
	.owner = -1,
	.oom_fd = -1,
	.health_pidfd = -1,
	.log = { .fd = -1, .max_file = 1 },
};

static int64_t now_ms(void)
{
	return bh_monotonic_ns() / 1000000;
}

static bool parse_fd(const char *value, int *ret_fd)
{
	int64_t number;

	if (bh_parse_int(value, 0, 1 << 20, &number) < 0)
		return false;
	*ret_fd = (int)number;
	return true;
}

static bool parse_restart(const char *value)
{
	static const char *const names[] = { "no", "on-failure", "always", "unless-stopped", "on-code" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(names); i++) {
		if (!bh_streq(value, names[i]))
			continue;
		shim.restart = (enum shim_restart)i;
		return true;
	}
	return false;
}

static bool parse_clients(const char *value)
{
	bh_auto_strv struct bh_strv list = bh_strv_split(value, ',');

	for (size_t i = 0; i < list.count; i++) {
		int fd;

		if (!*list.items[i])
			continue;
		if (!parse_fd(list.items[i], &fd))
			return false;
		shim_client_add(&shim, fd);
	}
	return true;
}

static int64_t pid_number, max_size_number, log_flag, owner_flag, remove_flag, once_flag;

static bool parse_argument(const char *key, const char *value)
{
	static const struct {
		const char *key;
		int *fd;
	} fds[] = {
		{ "dir", &shim.dir_fd },     { "state", &shim.state_fd },   { "pidfd", &shim.pidfd },
		{ "stdin", &shim.stdin_fd }, { "stdout", &shim.out_fd[0] }, { "stderr", &shim.out_fd[1] },
		{ "tty", &shim.tty_fd },     { "listen", &shim.listen_fd }, { "oom", &shim.oom_fd },
	};
	static const struct {
		const char *key;
		int64_t *number;
	} numbers[] = {
		{ "pid", &pid_number },
		{ "restart-max", &shim.restart_max },
		{ "restart-code", &shim.restart_code },
		{ "restart-count", &shim.restart_count },
		{ "backoff-ms", &shim.backoff_ms },
		{ "started-ms", &shim.started_ms },
		{ "log-max-size", &max_size_number },
		{ "log-max-file", &shim.log.max_file },
		{ "health-interval-ms", &shim.health_interval_ms },
		{ "owner", &owner_flag },
		{ "started-ns", &shim.started_ns },
		{ "remove", &remove_flag },
		{ "log", &log_flag },
		{ "once", &once_flag },
	};
	static const struct {
		const char *key;
		const char **text;
	} texts[] = { { "engine", &shim.engine }, { "root", &shim.root }, { "state-dir", &shim.state_dir } };

	for (size_t i = 0; i < BH_ARRAY_SIZE(fds); i++)
		if (bh_streq(fds[i].key, key))
			return parse_fd(value, fds[i].fd);
	for (size_t i = 0; i < BH_ARRAY_SIZE(numbers); i++)
		if (bh_streq(numbers[i].key, key))
			return bh_parse_int(value, 0, INT64_MAX, numbers[i].number) == 0;
	for (size_t i = 0; i < BH_ARRAY_SIZE(texts); i++) {
		if (!bh_streq(texts[i].key, key))
			continue;
		*texts[i].text = value;
		return true;
	}
	if (bh_streq(key, "restart"))
		return parse_restart(value);
	return bh_streq(key, "clients") && parse_clients(value);
}

static bool parse_arguments(int argc, char **argv)
{
	if (argc < 2)
		return false;
	shim.id = argv[1];
	for (int i = 2; i < argc; i++) {
		char *equals = strchr(argv[i], '=');
		bool ok;

		if (!equals)
			return false;
		*equals = '\0'; /* the value may be kept: argv lives as long as the process */
		ok = parse_argument(argv[i], equals + 1);
		*equals = '=';
		if (!ok)
			return false;
	}
	syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC); /* libc may not know it */
	shim.pid = (pid_t)pid_number;
	shim.log.max_size = (uint64_t)max_size_number;
	shim.log.enabled = log_flag;
	shim.remove = remove_flag;
	shim.stdin_once = once_flag;
	if (owner_flag && shim.client_count)
		shim.owner = shim.clients[0];
	return shim.pidfd >= 0 && shim.dir_fd >= 0 && shim.state_fd >= 0 && shim.engine && shim.root && shim.state_dir;
}

static void ignore(int signal)
{
	(void)signal;
}

static void prepare_streams(void)
{
	/* A handler, not SIG_IGN: that would outlive execve and reach the container on a restart. */
	signal(SIGPIPE, ignore);

	if (shim.tty_fd >= 0) {
		shim.out_fd[0] = shim.tty_fd;
		bh_set_nonblock(shim.tty_fd, true);
	}
	if (shim.stdin_fd >= 0)
		bh_set_nonblock(shim.stdin_fd, true);
	shim.log.dir_fd = shim.dir_fd;
}

/* Becomes the engine's program with one of its internal verbs. Returns only on failure. */
static void become_engine(const char *verb, const struct bh_strv *extra)
{
	bh_auto_strv struct bh_strv args = { 0 };

	if (!shim.engine)
		return;
	bh_strv_add(&args, "bulkhead");
	bh_strv_addf(&args, "--root=%s", shim.root);
	bh_strv_addf(&args, "--state=%s", shim.state_dir);
	bh_strv_add(&args, verb);
	bh_strv_extend(&args, extra ? extra->items : NULL);
	bh_strv_add(&args, shim.id);
	if (shim.engine)
		execv(shim.engine, args.items);
}

static void start_health_probe(void)
{
	bh_auto_free char *root = bh_printf("--root=%s", shim.root), *state = bh_printf("--state=%s", shim.state_dir);
	const char *args[] = { "bulkhead", root, state, "health-probe", shim.id, NULL };
	pid_t pid = fork();

	if (pid == 0) {
		execv(shim.engine, (char *const *)args);
		_exit(127);
	}
	if (pid < 0) {
		shim.health_next_ms = now_ms() + shim.health_interval_ms;
		return;
	}
	shim.health_pid = pid;
	shim.health_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	shim.health_next_ms = INT64_MAX;
}

static void reap_health_probe(void)
{
	waitpid(shim.health_pid, NULL, 0);
	bh_close_fd(&shim.health_pidfd);
	shim.health_pid = 0;
	/* The interval counts from the end of the last probe, as Docker's does. */
	shim.health_next_ms = now_ms() + shim.health_interval_ms;
}

static void end_health_probe(void)
{
	if (!shim.health_pid)
		return;
	kill(shim.health_pid, SIGKILL);
	reap_health_probe();
}

static void accept_client(void)
{
	int fd = accept4(shim.listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0)
		shim_client_add(&shim, fd);
}

#define POLL_FIXED 6

/* Fills the poll set: fixed entries first, then one for each client. */
static void fill_poll(struct pollfd *set, bool container_runs)
{
	bool input_blocked = shim.pending_length > 0;

	set[0] = (struct pollfd){ .fd = container_runs ? shim.pidfd : -1, .events = POLLIN };
	set[1] = (struct pollfd){ .fd = shim.out_fd[0], .events = POLLIN };
	set[2] = (struct pollfd){ .fd = shim.out_fd[1], .events = POLLIN };
	set[3] = (struct pollfd){ .fd = shim.listen_fd, .events = POLLIN };
	set[4] = (struct pollfd){ .fd = shim.health_pidfd, .events = POLLIN };
	set[5] = (struct pollfd){ .fd = input_blocked ? (shim.tty_fd >= 0 ? shim.tty_fd : shim.stdin_fd) : -1, .events = POLLOUT };
	for (size_t i = 0; i < shim.client_count; i++)
		set[POLL_FIXED + i] = (struct pollfd){ .fd = shim.clients[i], .events = input_blocked ? 0 : POLLIN };
}

static int poll_timeout(int64_t deadline_ms)
{
	int64_t left = deadline_ms - now_ms();

	if (deadline_ms == INT64_MAX)
		return -1;
	return left < 0 ? 0 : (int)BH_MIN(left, (int64_t)INT32_MAX);
}

/* Reads from the clients that poll reported. Dropping one moves the last into its place, so the fd is compared. */
static void read_clients(const struct pollfd *set, size_t count)
{
	for (size_t i = count; i-- > 0;)
		if (set[i].revents && i < shim.client_count && shim.clients[i] == set[i].fd)
			shim_client_read(&shim, i);
}

/* One round of waiting and copying. Returns true when the container's first process has ended. */
static bool run_once(bool container_runs, int64_t deadline_ms)
{
	struct pollfd set[POLL_FIXED + SHIM_CLIENTS_MAX];
	size_t clients = shim.client_count;

	fill_poll(set, container_runs);
	if (poll(set, POLL_FIXED + clients, poll_timeout(deadline_ms)) < 0)
		return false;
	if (set[1].revents)
		shim_output_read(&shim, 0);
	if (set[2].revents)
		shim_output_read(&shim, 1);
	if (set[5].revents)
		shim_stdin_flush(&shim);
	if (set[4].revents)
		reap_health_probe();
	read_clients(set + POLL_FIXED, clients);
	if (set[3].revents)
		accept_client();
	return set[0].revents != 0;
}

/* The process has ended: take what is left in its pipes. Another holder of the write end can't keep us: EAGAIN ends it. */
static void drain_output(void)
{
	for (int stream = 0; stream < 2; stream++) {
		if (shim.out_fd[stream] < 0)
			continue;
		bh_set_nonblock(shim.out_fd[stream], true);
		while (shim_output_read(&shim, stream))
			;
	}
	shim_log_flush(&shim.log);
}

static bool was_oom_killed(void)
{
	char events[512];
	const char *kills;
	ssize_t n = shim.oom_fd < 0 ? -1 : pread(shim.oom_fd, events, sizeof events - 1, 0);

	if (n <= 0)
		return false;
	events[n] = '\0';
	kills = strstr(events, "oom_kill ");
	return kills && kills[strlen("oom_kill ")] != '0';
}

static struct bh_frame_exit collect_exit(void)
{
	struct bh_frame_exit result = { .exit_code = 255, .finished_ns = bh_now_ns() };
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)shim.pid, &info, WEXITED) == 0)
		result.exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	result.oom_killed = was_oom_killed();
	return result;
}

static void write_exit_record(const struct bh_frame_exit *result)
{
	char text[192];
	int length = snprintf(text, sizeof text,
			      "{\"exit_code\":%d,\"oom_killed\":%s,\"started_ns\":%lld,\"finished_ns\":%lld,\"restart_count\":%lld}\n",
			      result->exit_code, result->oom_killed ? "true" : "false", (long long)shim.started_ns, (long long)result->finished_ns,
			      (long long)shim.restart_count);

	bh_write_file_at(shim.dir_fd, "exit.json", text, (size_t)length, 0600, 0, NULL);
}

static bool is_stopping(void)
{
	return faccessat(shim.state_fd, "stopping", F_OK, 0) == 0;
}

static bool wants_restart(const struct bh_frame_exit *result)
{
	if (shim.restart == SHIM_RESTART_NO || is_stopping())
		return false;
	if (shim.restart == SHIM_RESTART_ON_CODE)
		return result->exit_code == shim.restart_code;
	if (shim.restart == SHIM_RESTART_ON_FAILURE)
		return result->exit_code != 0 && (shim.restart_max == 0 || shim.restart_count < shim.restart_max);
	return true;
}

#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 60000
#define BACKOFF_RESET_MS 10000 /* a run of this length forgets earlier failures */

/* Lets listener and clients live through the two execve's of a restart. */
static void hand_over_sockets(struct bh_strv *extra)
{
	bh_auto_buf struct bh_buf clients = { 0 };

	for (size_t i = 0; i < shim.client_count; i++) {
		bh_set_cloexec(shim.clients[i], false);
		bh_buf_addf(&clients, "%s%d", i ? "," : "", shim.clients[i]);
	}
	if (clients.length)
		bh_strv_addf(extra, "--clients=%s", clients.data);
	if (shim.owner >= 0)
		bh_strv_add(extra, "--owner");
	if (shim.listen_fd >= 0) {
		bh_set_cloexec(shim.listen_fd, false);
		bh_strv_addf(extra, "--listen=%d", shim.listen_fd);
	}
}

/* Waits the back-off and becomes the start stage. Returns when a stop came meanwhile, or when that failed. */
static void restart(void)
{
	bh_auto_strv struct bh_strv extra = { 0 };
	int64_t now = now_ms(), deadline;

	if (shim.backoff_ms == 0 || now - shim.started_ms >= BACKOFF_RESET_MS)
		shim.backoff_ms = BACKOFF_FIRST_MS;
	else
		shim.backoff_ms = BH_MIN(shim.backoff_ms * 2, (int64_t)BACKOFF_LAST_MS);
	deadline = now + shim.backoff_ms;
	while (now_ms() < deadline)
		run_once(false, deadline);
	if (is_stopping())
		return;
	hand_over_sockets(&extra);
	bh_strv_addf(&extra, "--restart-count=%lld", (long long)shim.restart_count + 1);
	bh_strv_addf(&extra, "--backoff-ms=%lld", (long long)shim.backoff_ms);
	become_engine("shim-start", &extra);
}

int main(int argc, char **argv)
{
	struct bh_frame_exit result;
	bool restarts;

	if (!parse_arguments(argc, argv))
		return 125;
	prepare_streams();
	shim.health_next_ms = shim.health_interval_ms ? now_ms() + shim.health_interval_ms : INT64_MAX;
	while (!run_once(true, shim.health_next_ms))
		if (shim.health_interval_ms && !shim.health_pid && now_ms() >= shim.health_next_ms)
			start_health_probe();
	end_health_probe();
	drain_output();
	result = collect_exit();
	restarts = wants_restart(&result);
	/* The mark before the record: a container between two runs never looks as if it had ended for good. */
	if (restarts)
		bh_write_file_at(shim.state_fd, "restarting", "", 0, 0600, 0, NULL);
	if (!shim.remove || shim.owner < 0)
		write_exit_record(&result);
	if (restarts)
		restart();
	if (restarts)
		unlinkat(shim.state_fd, "restarting", 0);
	shim_broadcast(&shim, BH_FRAME_EXIT, &result, sizeof result, 2000);
	if (shim.owner >= 0)
		return 0;
	become_engine("shim-finish", NULL);
	return 125;
}
