/* SPDX-License-Identifier: Apache-2.0 */
/* exec: a further process in a running container, described by --process or by the container's own and the flags. */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

struct exec_options {
	const char *process, *user, *cwd, *console_socket, *pid_file;
	struct bh_strv env, cap;
	int64_t preserve_fds;
	bool detach, tty, ignore_paused;
};

static const struct bh_option options[] = {
	{ 'p', "process", BH_OPTION_STRING, offsetof(struct exec_options, process), "FILE", "JSON file of the process object", NULL, false },
	{ 't', "tty", BH_OPTION_BOOL, offsetof(struct exec_options, tty), NULL, "Give it a terminal", NULL, false },
	{ 'u', "user", BH_OPTION_STRING, offsetof(struct exec_options, user), "UID[:GID]", "Run it as this user", NULL, false },
	{ 0, "cwd", BH_OPTION_STRING, offsetof(struct exec_options, cwd), "DIR", "Its working directory", NULL, false },
	{ 'e', "env", BH_OPTION_LIST, offsetof(struct exec_options, env), "KEY=VALUE", "Add to its environment", NULL, false },
	{ 'c', "cap", BH_OPTION_LIST, offsetof(struct exec_options, cap), "CAPABILITY", "Add a capability", NULL, false },
	{ 0, "console-socket", BH_OPTION_STRING, offsetof(struct exec_options, console_socket), "PATH", "Unix socket that gets the terminal's master",
	  NULL, false },
	{ 0, "pid-file", BH_OPTION_STRING, offsetof(struct exec_options, pid_file), "FILE", "Write its pid to this file", NULL, false },
	{ 0, "preserve-fds", BH_OPTION_INT, offsetof(struct exec_options, preserve_fds), "N", "Give fds 3 to 2+N to the process", NULL, false },
	{ 'd', "detach", BH_OPTION_BOOL, offsetof(struct exec_options, detach), NULL, "End when the process runs", NULL, false },
	{ 0, "ignore-paused", BH_OPTION_BOOL, offsetof(struct exec_options, ignore_paused), NULL, "Also in a paused container", NULL, false },
	{ 0 },
};

static int set_user(struct bh_spec_process *p, const char *user, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(user, ':');
	uint64_t id;

	if (parts.count > 2)
		return bh_error_text(err, EINVAL, "--user %s: expected UID[:GID]", user);
	for (size_t i = 0; i < parts.count; i++) {
		if (bh_parse_uint(parts.items[i], UINT32_MAX - 1, &id) < 0)
			return bh_error_text(err, EINVAL, "--user %s: expected UID[:GID]", user);
		*(i == 0 ? &p->user.uid : &p->user.gid) = (uint32_t)id;
	}
	return 0;
}

static int add_capabilities(struct bh_spec_process *p, const struct bh_strv *names, struct bh_error *err)
{
	for (size_t i = 0; i < names->count; i++) {
		int number = bh_capability_number(names->items[i]);

		if (number < 0)
			return bh_error_text(err, EINVAL, "unknown capability %s", names->items[i]);
		p->capabilities.set = true;
		p->capabilities.bounding |= 1ULL << number;
		p->capabilities.effective |= 1ULL << number;
		p->capabilities.permitted |= 1ULL << number;
	}
	return 0;
}

/* The container's own process with the flags applied; `process` is a part of bundle->spec. */
static int from_flags(const struct exec_options *o, struct bh_spec_process *p, int argc, char **argv, struct bh_error *err)
{
	int r = 0;

	bh_strv_clear(&p->args);
	for (int i = 0; i < argc; i++)
		bh_strv_add(&p->args, argv[i]);
	for (size_t i = 0; i < o->env.count; i++)
		bh_env_set(&p->env, o->env.items[i]);
	p->terminal = o->tty;
	if (o->cwd) {
		bh_free_ptr(&p->cwd);
		p->cwd = bh_strdup(o->cwd);
	}
	if (o->user)
		r = set_user(p, o->user, err);
	return r < 0 ? r : add_capabilities(p, &o->cap, err);
}

static int from_file(const char *path, struct bh_spec_process *ret_process, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r = bh_read_file_at(AT_FDCWD, path, BH_SPEC_JSON_MAX, &text, err);

	return r < 0 ? r : bh_spec_parse_process(text.data, text.length, ret_process, err);
}

static int execute(const struct exec_options *o, struct bh_bundle *bundle, int argc, char **argv, int *ret_status, struct bh_error *err)
{
	struct bh_oci_console console = { .socket = o->console_socket, .detach = o->detach };
	struct bh_spec_process *process = &bundle->spec.process, own = { 0 };
	struct bh_container_process running = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	struct bh_bundle_exec request = {
		.stdio = &console.stdio,
		.pid_file = o->pid_file,
		.preserve_fds = (int)o->preserve_fds,
		.ignore_paused = o->ignore_paused,
	};
	int r = o->process ? from_file(o->process, &own, err) : from_flags(o, process, argc, argv, err);

	request.process = o->process ? &own : process;
	console.terminal = request.process->terminal;
	if (r == 0)
		r = bh_oci_console_check(&console, err);
	if (r == 0 && !o->detach)
		r = bh_oci_foreground_begin(false, err);
	if (r == 0)
		r = bh_bundle_exec(bundle, &request, &running, err);
	if (r == 0 && console.stdio.ret_terminal_fd >= 0)
		r = bh_oci_console_send(&console, console.stdio.ret_terminal_fd, err);
	if (r == 0 && !o->detach)
		*ret_status = bh_oci_foreground(running.pid, running.pidfd, console.stdio.ret_terminal_fd);
	bh_spec_process_clear(&own);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	const struct exec_options *o = arg;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int status = 0, r = bh_oci_open(argv, &bundle, &err);

	if (r == 0 && argc < 2 && !o->process)
		r = bh_error_text(&err, EINVAL, "process args cannot be empty");
	if (r == 0 && (o->preserve_fds < 0 || o->preserve_fds > INT_MAX / 2))
		r = bh_error_text(&err, EINVAL, "--preserve-fds %lld is out of range", (long long)o->preserve_fds);
	if (r == 0)
		r = bh_bundle_spec(&bundle, &err);
	if (r == 0)
		r = execute(o, &bundle, argc - 1, argv + 1, &status, &err);
	bh_bundle_close(&bundle);
	if (r == 0)
		return status;
	bh_error_prefix(&err, "exec failed: unable to start container process");
	return bh_oci_fail(&err, 255);
}

const struct bh_command bh_oci_command_exec = {
	.name = "exec",
	.synopsis = "[OPTIONS] CONTAINER [COMMAND [ARG...]]",
	.summary = "Run a further process in a running container",
	.sets = { options },
	.options_size = sizeof(struct exec_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
