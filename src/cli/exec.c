/* SPDX-License-Identifier: Apache-2.0 */
/* exec, attach: further eyes and hands in a running container. */
#include "cli/cli.h"
#include "cli/containers.h"
#include "linux/syscall.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>

#define FIELD(name) offsetof(struct bh_exec_options, name)

const struct bh_option bh_cli_exec_options[] = {
	{ 'd', "detach", BH_OPTION_BOOL, FIELD(detach), NULL, "Run in the background", NULL, false },
	{ 0, "detach-keys", BH_OPTION_STRING, FIELD(detach_keys), "KEYS", "Keys that detach (default ctrl-p,ctrl-q)", NULL, false },
	{ 'e', "env", BH_OPTION_LIST, FIELD(env), "KEY[=VALUE]", "Set an environment variable", NULL, false },
	{ 0, "env-file", BH_OPTION_LIST, FIELD(env_file), "FILE", "Read environment variables from a file", NULL, false },
	{ 'i', "interactive", BH_OPTION_BOOL, FIELD(interactive), NULL, "Keep STDIN open", NULL, false },
	{ 0, "privileged", BH_OPTION_BOOL, FIELD(privileged), NULL, "Give the command all capabilities", NULL, false },
	{ 't', "tty", BH_OPTION_BOOL, FIELD(tty), NULL, "Allocate a terminal", NULL, false },
	{ 'u', "user", BH_OPTION_STRING, FIELD(user), "USER[:GROUP]", "User name or id", NULL, false },
	{ 'w', "workdir", BH_OPTION_STRING, FIELD(workdir), "FOLDER", "Working directory inside", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, FIELD(explain), "[=json]", "Tell each real step on stderr", NULL, false },
	{ 0 },
};

int bh_cli_watch_exec(const struct bh_exec_options *o, struct bh_exec *exec, struct bh_error *err)
{
	struct bh_stream stream = {
		.input = o->interactive, .tty = o->tty, .signals = true, .detach_keys = o->detach_keys, .pid = exec->pid, .pidfd = exec->pidfd
	};
	enum bh_stream_end end;
	int exit_code = 0, r;

	r = bh_stream_exec(&stream, exec, &end, &exit_code, err);
	if (r < 0)
		return bh_cli_fail(err, BH_EXIT_ENGINE);
	if (end == BH_STREAM_DETACHED)
		dprintf(STDERR_FILENO, "read escape sequence\n");
	return exit_code == 0 && bh_stream_lost_output() ? BH_EXIT_ENGINE : exit_code;
}

static int exec_main(void *options, int argc, char **argv)
{
	struct bh_exec_options *o = options;
	struct bh_stream stream = { .input = o->interactive, .tty = o->tty, .detach_keys = o->detach_keys };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct bh_engine engine;
	struct bh_exec exec;
	int status = 0, r;

	(void)argc;
	r = o->detach ? 0 : bh_stream_check(&stream, &err);
	if (o->tty)
		bh_terminal_size(&o->rows, &o->columns);
	if (r == 0)
		r = bh_cli_enable_explain(o->explain, &err);
	if (r == 0)
		r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_find(&engine, argv[0], &container, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_exec(&engine, &container, o, argv + 1, &exec, &err);
	if (r < 0)
		status = bh_cli_fail(&err, container.status == BH_STATUS_RUNNING ? BH_EXIT_NOT_EXECUTABLE : BH_EXIT_FAILURE);
	else if (!o->detach)
		status = bh_cli_watch_exec(o, &exec, &err);
	bh_container_clear(&container);
	bh_engine_close(&engine);
	return status;
}

const struct bh_command bh_command_exec = {
	.name = "exec",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER COMMAND [ARG...]",
	.summary = "Run a command in a running container",
	.description = "Exit status: that of the command; 126 if it can't be executed, 127 if it was not found, 1 if the container is not running.",
	.sets = { bh_cli_exec_options },
	.options_size = sizeof(struct bh_exec_options),
	.stop_at_argument = true,
	.min_arguments = 2,
	.max_arguments = -1,
	.run = exec_main,
};

struct attach_options {
	bool no_stdin, sig_proxy;
	const char *detach_keys;
};

static void attach_preset(void *options)
{
	struct attach_options *o = options;

	o->sig_proxy = true;
}

static const struct bh_option attach_table[] = {
	{ 0, "detach-keys", BH_OPTION_STRING, offsetof(struct attach_options, detach_keys), "KEYS", "Keys that detach (default ctrl-p,ctrl-q)", NULL,
	  false },
	{ 0, "no-stdin", BH_OPTION_BOOL, offsetof(struct attach_options, no_stdin), NULL, "Do not attach STDIN", NULL, false },
	{ 0, "sig-proxy", BH_OPTION_BOOL, offsetof(struct attach_options, sig_proxy), NULL, "Pass received signals to the process (default true)",
	  NULL, false },
	{ 0 },
};

static int attach_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct attach_options *o = context;
	struct bh_stream stream = {
		.input = c->stdin_open && !o->no_stdin, .tty = c->tty, .signals = o->sig_proxy, .detach_keys = o->detach_keys, .pidfd = -1
	};
	bh_auto_close int fd = -1;
	int r = bh_stream_check(&stream, err);

	(void)name;
	if (r < 0)
		return r;
	if (c->status == BH_STATUS_PAUSED)
		return bh_error_text(err, EBUSY, "You cannot attach to a paused container, unpause it first");
	if (c->status != BH_STATUS_RUNNING)
		return bh_error_text(err, ESRCH, "You cannot attach to a stopped container, start it first");
	fd = bh_engine_attach(c, err);
	if (fd < 0)
		return fd;
	stream.pidfd = bh_pidfd_open(c->pid);
	err->exit_code = bh_cli_watch(engine, c, &stream, fd, 0);
	bh_close_fd(&stream.pidfd);
	return 0;
}

static int attach_main(void *options, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct bh_engine engine;
	int r;

	(void)argc;
	r = bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err);
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	r = bh_engine_find(&engine, argv[0], &container, &err);
	if (r == 0) {
		r = attach_one(&engine, &container, argv[0], options, &err);
		bh_container_clear(&container);
	}
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : err.exit_code;
}

const struct bh_command bh_command_attach = {
	.name = "attach",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Attach to the streams of a running container",
	.sets = { attach_table },
	.options_size = sizeof(struct attach_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.preset = attach_preset,
	.run = attach_main,
};
