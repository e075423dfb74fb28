/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `exec`, and the health probe, which is an exec with a time limit and a record.
 *
 * An exec'd process is a child of the command that asked for it: that command carries its streams, so the shim needs to
 * know nothing of it. It enters the container's cgroup, so every limit holds for it and a kill of the container ends it.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "base/time.h"
#include "linux/syscall.h"
#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

static int load_container_spec(struct bh_container *c, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(c->dir_fd, "config.json", BH_SPEC_JSON_MAX, &text, err);

	if (r < 0)
		return r;
	c->spec = bh_calloc(1, sizeof *c->spec);
	return bh_spec_parse(text.data, text.length, c->spec, err);
}

/* Looks the user up in the container's root. */
static int resolve_user(struct bh_container *c, const char *user, struct bh_spec_process *process, struct bh_error *err)
{
	bh_auto_free char *root_path = bh_printf("/proc/%d/root", (int)c->pid);
	bh_auto_close int root_fd = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bh_auto_strv struct bh_strv groups = { 0 };
	bh_auto_free char *home = NULL;
	int r;

	if (root_fd < 0)
		return bh_error_set(err, errno, "open %s", root_path);
	bh_json_strv(c->record, "host_config.GroupAdd", &groups);
	r = bh_container_resolve_user(root_fd, user, &groups, process, &home, err);
	if (r == 0 && home && !bh_env_get(&process->env, "HOME")) {
		bh_auto_free char *pair = bh_printf("HOME=%s", home);

		bh_env_set(&process->env, pair);
	}
	return r;
}

static const char *user_of(struct bh_container *c, const struct bh_exec_options *o)
{
	return o->user ? o->user : bh_json_text(c->record, "config.User", "");
}

int bh_engine_exec_process(const struct bh_exec_options *o, char *const *command, struct bh_spec_process *process, struct bh_error *err)
{
	int r;

	bh_strv_clear(&process->args);
	bh_strv_extend(&process->args, command);
	process->terminal = o->tty;
	process->console_size.set = o->tty && o->rows;
	process->console_size.height = o->rows;
	process->console_size.width = o->columns;
	if (o->tty && !bh_env_get(&process->env, "TERM"))
		bh_strv_add(&process->env, "TERM=xterm");
	r = bh_engine_add_env(&process->env, &o->env_file, &o->env, err);
	if (r < 0)
		return r;
	if (o->workdir) {
		if (*o->workdir != '/')
			return bh_error_text(err, EINVAL, "Cwd must be an absolute path");
		free(process->cwd);
		process->cwd = bh_strdup(o->workdir);
	}
	return 0;
}

static int exec_pipe(bool wanted, int *ret_read, int *ret_write, struct bh_error *err)
{
	int fds[2];

	if (!wanted)
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

int bh_engine_exec_pipes(const struct bh_exec_options *o, struct bh_exec *exec, struct bh_container_stdio *stdio, struct bh_error *err)
{
	bool pipes = !o->tty && !o->detach;
	int r = exec_pipe(pipes && o->interactive, &stdio->stdin_fd, &exec->stdin_fd, err);

	if (r == 0)
		r = exec_pipe(pipes, &exec->stdout_fd, &stdio->stdout_fd, err);
	if (r == 0)
		r = exec_pipe(pipes, &exec->stderr_fd, &stdio->stderr_fd, err);
	return r;
}

void bh_exec_close(struct bh_exec *exec)
{
	bh_close_fd(&exec->pidfd);
	bh_close_fd(&exec->stdin_fd);
	bh_close_fd(&exec->stdout_fd);
	bh_close_fd(&exec->stderr_fd);
	bh_close_fd(&exec->tty_fd);
}

/* By the driver: with a kernel of its own the user is looked up inside. */
static int run_by_driver(struct bh_engine *engine, struct bh_container *c, const struct bh_exec_options *o, struct bh_container_exec *request,
			 struct bh_container_process *ret_process, struct bh_error *err)
{
	bh_auto_place struct bh_engine_place place;
	const struct bh_isolation_driver *driver;
	struct bh_engine_microvm microvm;
	int r = bh_container_isolation(c, &driver, err);

	bh_engine_place(c, &place);
	if (r < 0)
		return r;
	if (!driver->has_own_kernel) {
		r = resolve_user(c, user_of(c, o), &c->spec->process, err);
		return r < 0 ? r : driver->exec(&place.place, request, ret_process, err);
	}
	bh_engine_microvm_init(engine, c, &microvm);
	microvm.vm.user = user_of(c, o);
	microvm.vm.list = o->list;
	place.place.microvm = &microvm.vm;
	r = driver->exec(&place.place, request, ret_process, err);
	bh_engine_microvm_clear(&microvm);
	return r;
}

static int run_exec(struct bh_engine *engine, struct bh_container *c, const struct bh_exec_options *o, struct bh_exec *exec, struct bh_error *err)
{
	struct bh_container_stdio stdio = { .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .ret_terminal_fd = -1 };
	struct bh_container_exec request = {
		.init_pid = c->pid,
		.spec = c->spec,
		.process = &c->spec->process,
		.stdio = &stdio,
		.privileged = o->privileged,
	};
	struct bh_container_process process = { .pidfd = -1, .sync_fd = -1 };
	int r = bh_engine_exec_pipes(o, exec, &stdio, err);

	if (r == 0) {
		request.init_pidfd = bh_pidfd_open(c->pid);
		r = request.init_pidfd < 0 ? bh_error_set(err, -request.init_pidfd, "container %s: its first process", c->name) : 0;
	}
	if (r == 0)
		r = run_by_driver(engine, c, o, &request, &process, err);
	bh_close_fd(&request.init_pidfd);
	bh_close_fd(&stdio.stdin_fd);
	bh_close_fd(&stdio.stdout_fd);
	bh_close_fd(&stdio.stderr_fd);
	bh_close_fd(&process.sync_fd);
	exec->pid = process.pid;
	exec->pidfd = process.pidfd;
	exec->tty_fd = o->tty ? stdio.ret_terminal_fd : -1;
	return r;
}

int bh_engine_exec(struct bh_engine *engine, struct bh_container *c, const struct bh_exec_options *o, char *const *command, struct bh_exec *ret_exec,
		   struct bh_error *err)
{
	struct bh_exec exec = BH_EXEC_INIT;
	int r;

	if (c->status == BH_STATUS_PAUSED)
		return bh_error_text(err, EBUSY, "container %s is paused, unpause the container before exec", c->name);
	if (c->status != BH_STATUS_RUNNING)
		return bh_error_text(err, ESRCH, "container %s is not running", c->id);
	r = c->spec ? 0 : load_container_spec(c, err);
	if (r == 0)
		r = bh_engine_exec_process(o, command, &c->spec->process, err);
	if (r == 0)
		r = run_exec(engine, c, o, &exec, err);
	if (r < 0) {
		bh_exec_close(&exec);
		return r;
	}
	*ret_exec = exec;
	return 0;
}

#define PROBE_OUTPUT_MAX 4096 /* what Docker keeps of a probe's output */
#define PROBE_LOG_MAX 5       /* results kept */

/* Reads the probe's output until it ends or the time is up. Returns its exit code, or -1 after the timeout. */
static int watch_probe(struct bh_exec *exec, int64_t timeout_ms, struct bh_buf *output)
{
	int64_t deadline = bh_monotonic_ns() / 1000000 + timeout_ms;
	struct pollfd set[3] = { { exec->stdout_fd, POLLIN, 0 }, { exec->stderr_fd, POLLIN, 0 }, { exec->pidfd, POLLIN, 0 } };
	int status;

	while (!set[2].revents) {
		int64_t left = deadline - bh_monotonic_ns() / 1000000;

		if (left <= 0 || poll(set, 3, (int)left) == 0) {
			kill(exec->pid, SIGKILL);
			waitpid(exec->pid, NULL, 0);
			return -1;
		}
		for (int i = 0; i < 2; i++) {
			char bytes[1024];
			ssize_t n = set[i].revents ? read(set[i].fd, bytes, sizeof bytes) : 0;

			if (n > 0 && output->length < PROBE_OUTPUT_MAX)
				bh_buf_add(output, bytes, (size_t)n);
			else if (set[i].revents && n <= 0)
				set[i].fd = -1;
		}
	}
	if (waitpid(exec->pid, &status, 0) < 0)
		return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Adds one result and draws Docker's conclusion: healthy on success, unhealthy after `retries` failures in a row. */
static void record_probe(struct bh_container *c, json_object *health, int exit_code, const char *output, int64_t start_ns)
{
	json_object *check = bh_json_at(c->record, "config.Healthcheck"), *log = bh_json_at(health, "Log"), *entry = json_object_new_object();
	int64_t retries = bh_json_int(check, "Retries", 0), streak = bh_json_int(health, "FailingStreak", 0);
	bool in_start_period = bh_now_ns() - c->started_ns < bh_json_int(check, "StartPeriod", 0);
	const char *status = bh_json_text(health, "Status", "starting");
	char text[BH_TIME_TEXT_MAX];

	json_object_object_add(entry, "Start", json_object_new_string(bh_format_time(start_ns, text)));
	json_object_object_add(entry, "End", json_object_new_string(bh_format_time(bh_now_ns(), text)));
	json_object_object_add(entry, "ExitCode", json_object_new_int(exit_code));
	json_object_object_add(entry, "Output", json_object_new_string(output));
	if (exit_code == 0) {
		status = "healthy";
		streak = 0;
	} else if (!(in_start_period && bh_streq(status, "starting"))) {
		streak++;
		if (streak >= (retries ? retries : 3))
			status = "unhealthy";
	}
	json_object_object_add(health, "Status",
			       json_object_new_string(bh_streq(status, "healthy")   ? "healthy" :
						      bh_streq(status, "unhealthy") ? "unhealthy" :
										      "starting"));
	json_object_object_add(health, "FailingStreak", json_object_new_int64(streak));
	if (json_object_is_type(log, json_type_array)) {
		while (json_object_array_length(log) >= PROBE_LOG_MAX)
			json_object_array_del_idx(log, 0, 1);
		json_object_array_add(log, entry);
	} else {
		json_object_put(entry);
	}
}

static int probe_command(struct bh_container *c, struct bh_strv *ret_command, struct bh_error *err)
{
	bh_auto_strv struct bh_strv test = { 0 };

	bh_json_strv(c->record, "config.Healthcheck.Test", &test);
	if (test.count >= 2 && bh_streq(test.items[0], "CMD-SHELL")) {
		bh_strv_add(ret_command, "/bin/sh");
		bh_strv_add(ret_command, "-c");
		bh_strv_add(ret_command, test.items[1]);
		return 0;
	}
	if (test.count >= 2 && bh_streq(test.items[0], "CMD")) {
		bh_strv_extend(ret_command, test.items + 1);
		return 0;
	}
	return bh_error_text(err, EINVAL, "container %s has no health check", c->name);
}

int bh_engine_health_probe(struct bh_engine *engine, struct bh_container *c, struct bh_error *err)
{
	struct bh_exec_options options = { 0 };
	struct bh_exec exec;
	bh_auto_strv struct bh_strv command = { 0 };
	bh_auto_buf struct bh_buf output = { 0 };
	int64_t start_ns = bh_now_ns(), timeout_ns = bh_json_int(c->record, "config.Healthcheck.Timeout", 0);
	int64_t timeout_ms = timeout_ns ? timeout_ns / 1000000 : 30000;
	json_object *health;
	const char *text;
	int exit_code, r = probe_command(c, &command, err);

	if (r < 0)
		return r;
	if (bh_engine_exec(engine, c, &options, command.items, &exec, err) < 0) {
		exit_code = err->exit_code ? err->exit_code : 125;
		bh_buf_adds(&output, err->message);
	} else {
		exit_code = watch_probe(&exec, timeout_ms, &output);
		bh_exec_close(&exec);
		if (exit_code < 0) {
			bh_buf_reset(&output);
			bh_buf_addf(&output, "Health check exceeded timeout (%" PRId64 "ms)", timeout_ms);
		}
	}
	health = bh_engine_read_json(c->state_fd, "health.json");
	if (!health)
		return bh_error_text(err, ENOENT, "container %s: health.json is missing", c->name);
	record_probe(c, health, exit_code, output.data ? output.data : "", start_ns);
	text = json_object_to_json_string_ext(health, JSON_C_TO_STRING_PLAIN);
	r = bh_write_file_at(c->state_fd, "health.json", text, strlen(text), 0600, 0, err);
	json_object_put(health);
	return r;
}
