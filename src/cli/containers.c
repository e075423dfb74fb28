/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that do one thing to each container they are given: start stop restart kill rm pause unpause wait rename. */
#include "cli/containers.h"

#include "cli/cli.h"
#include "cli/stream.h"
#include "engine/names.h"
#include "linux/syscall.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

int bh_cli_for_each(int argc, char **argv, bool locked, bh_cli_action action, void *context)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_engine engine;
	int status = 0;

	if (bh_engine_open(bh_cli.root, bh_cli.state, &engine, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	for (int i = 0; i < argc; i++) {
		struct bh_container container;
		int r;

		bh_error_clear(&err);
		r = locked ? bh_engine_find_locked(&engine, argv[i], &container, &err) : bh_engine_find(&engine, argv[i], &container, &err);
		if (r == 0) {
			r = action(&engine, &container, argv[i], context, &err);
			bh_container_clear(&container);
		}
		if (r < 0)
			status = bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	bh_engine_close(&engine);
	return status;
}

struct start_options {
	bool attach, interactive;
	const char *detach_keys, *explain;
	int *status;
};

static int start_attached(struct bh_engine *engine, struct bh_container *c, const struct start_options *o, struct bh_error *err)
{
	struct bh_stream stream = {
		.input = o->interactive && c->stdin_open, .tty = c->tty, .signals = true, .detach_keys = o->detach_keys, .pidfd = -1
	};
	struct bh_start start = { .attach = true, .ret_client_fd = -1 };
	int r = bh_stream_check(&stream, err);

	if (r == 0)
		r = bh_engine_start(engine, c, &start, err);
	if (r < 0)
		return r;
	stream.pidfd = c->pid ? bh_pidfd_open(c->pid) : -1;
	*o->status = bh_cli_watch(engine, c, &stream, start.ret_client_fd, start.ret_shim_pid);
	bh_close_fd(&stream.pidfd);
	bh_close_fd(&start.ret_client_fd);
	return 0;
}

static int start_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct start_options *o = context;
	struct bh_start start = { .attach = false };
	int r;

	if (c->status == BH_STATUS_PAUSED)
		return bh_error_text(err, EBUSY, "cannot start a paused container, try unpause instead");
	if (c->status == BH_STATUS_CREATED || c->status == BH_STATUS_EXITED) {
		if (o->attach || o->interactive)
			return start_attached(engine, c, o, err);
		r = bh_engine_start(engine, c, &start, err);
		if (r < 0)
			return r;
	}
	printf("%s\n", name);
	return 0;
}

static int start_main(void *options, int argc, char **argv)
{
	struct start_options *o = options;
	struct bh_error err = BH_ERROR_INIT;
	int child_status = 0, status;

	if ((o->attach || o->interactive) && argc > 1) {
		bh_error_text(&err, EINVAL, "you cannot start and attach multiple containers at once");
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	if (bh_cli_enable_explain(o->explain, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	o->status = &child_status;
	status = bh_cli_for_each(argc, argv, true, start_one, o);
	return status ? status : child_status;
}

static const struct bh_option start_table[] = {
	{ 'a', "attach", BH_OPTION_BOOL, offsetof(struct start_options, attach), NULL, "Attach to its output and pass signals on", NULL, false },
	{ 'i', "interactive", BH_OPTION_BOOL, offsetof(struct start_options, interactive), NULL, "Attach our STDIN", NULL, false },
	{ 0, "detach-keys", BH_OPTION_STRING, offsetof(struct start_options, detach_keys), "KEYS", "Keys that detach", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct start_options, explain), "[=json]", "Tell each real step of the isolation on stderr",
	  NULL, false },
	{ 0 },
};

const struct bh_command bh_command_start = {
	.name = "start",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Start stopped containers",
	.sets = { start_table },
	.options_size = sizeof(struct start_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = start_main,
};

struct stop_options {
	int64_t time, timeout;
	const char *signal;
};

static void stop_preset(void *options)
{
	struct stop_options *o = options;

	o->time = BH_UNSET;
}

static int stop_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct stop_options *o = context;
	int r = bh_engine_stop(engine, c, o->time, err);

	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int stop_main(void *options, int argc, char **argv)
{
	return bh_cli_for_each(argc, argv, true, stop_one, options);
}

static const struct bh_option stop_table[] = {
	{ 't', "time", BH_OPTION_INT, offsetof(struct stop_options, time), "SECONDS", "Time to end before it is killed; -1: never killed", NULL, false },
	{ 0, "timeout", BH_OPTION_INT, offsetof(struct stop_options, time), "SECONDS", "Same as --time", NULL, true },
	{ 0 },
};

const struct bh_command bh_command_stop = {
	.name = "stop",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Stop running containers",
	.sets = { stop_table },
	.options_size = sizeof(struct stop_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.preset = stop_preset,
	.run = stop_main,
};

static int restart_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct stop_options *o = context;
	struct bh_start start = { .attach = false };
	int r = bh_engine_stop(engine, c, o->time, err);

	if (r == 0 && !c->record)
		r = bh_error_text(err, ENOENT, "container %s was removed when it stopped (--rm)", name);
	if (r == 0)
		r = bh_engine_start(engine, c, &start, err);
	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int restart_main(void *options, int argc, char **argv)
{
	return bh_cli_for_each(argc, argv, true, restart_one, options);
}

const struct bh_command bh_command_restart = {
	.name = "restart",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Stop and start containers",
	.sets = { stop_table },
	.options_size = sizeof(struct stop_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.preset = stop_preset,
	.run = restart_main,
};

struct kill_options {
	const char *signal;
	int number;
};

static int kill_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct kill_options *o = context;
	int r = bh_engine_kill(engine, c, o->number, err);

	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int kill_main(void *options, int argc, char **argv)
{
	struct kill_options *o = options;
	struct bh_error err = BH_ERROR_INIT;

	if (bh_parse_signal(o->signal ? o->signal : "KILL", &o->number) < 0) {
		bh_error_text(&err, EINVAL, "Invalid signal: %s", o->signal);
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	return bh_cli_for_each(argc, argv, true, kill_one, o);
}

static const struct bh_option kill_table[] = {
	{ 's', "signal", BH_OPTION_STRING, offsetof(struct kill_options, signal), "SIGNAL", "Signal to send (default KILL)", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_kill = {
	.name = "kill",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Send a signal to running containers",
	.sets = { kill_table },
	.options_size = sizeof(struct kill_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = kill_main,
};

struct rm_options {
	bool force, volumes;
};

static int rm_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	const struct rm_options *o = context;
	int r = bh_engine_remove(engine, c, o->force, o->volumes, err);

	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int rm_main(void *options, int argc, char **argv)
{
	return bh_cli_for_each(argc, argv, true, rm_one, options);
}

static const struct bh_option rm_table[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct rm_options, force), NULL, "Kill it first if it runs", NULL, false },
	{ 'v', "volumes", BH_OPTION_BOOL, offsetof(struct rm_options, volumes), NULL, "Remove its anonymous volumes too", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_rm = {
	.name = "rm",
	.alias = "remove",
	.group = "Containers",
	.synopsis = "[OPTIONS] CONTAINER [CONTAINER...]",
	.summary = "Remove containers",
	.sets = { rm_table },
	.options_size = sizeof(struct rm_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = rm_main,
};

static int pause_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	int r = bh_engine_pause(engine, c, context != NULL, err);

	if (r == 0)
		printf("%s\n", name);
	return r;
}

static int pause_main(void *options, int argc, char **argv)
{
	bool pause = true;

	(void)options;
	return bh_cli_for_each(argc, argv, true, pause_one, &pause);
}

static int unpause_main(void *options, int argc, char **argv)
{
	(void)options;
	return bh_cli_for_each(argc, argv, true, pause_one, NULL);
}

const struct bh_command bh_command_pause = {
	.name = "pause",
	.group = "Containers",
	.synopsis = "CONTAINER [CONTAINER...]",
	.summary = "Freeze all processes of containers",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = pause_main,
};

const struct bh_command bh_command_unpause = {
	.name = "unpause",
	.group = "Containers",
	.synopsis = "CONTAINER [CONTAINER...]",
	.summary = "Thaw the processes of containers",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = unpause_main,
};

static int wait_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	int exit_code = 0, r = bh_engine_wait(engine, c, &exit_code, err);

	(void)name, (void)context;
	if (r == 0)
		printf("%d\n", exit_code);
	return r;
}

static int wait_main(void *options, int argc, char **argv)
{
	(void)options;
	return bh_cli_for_each(argc, argv, false, wait_one, NULL);
}

const struct bh_command bh_command_wait = {
	.name = "wait",
	.group = "Containers",
	.synopsis = "CONTAINER [CONTAINER...]",
	.summary = "Wait until containers stop, print their exit codes",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = wait_main,
};

static int rename_one(struct bh_engine *engine, struct bh_container *c, const char *name, void *context, struct bh_error *err)
{
	(void)name;
	return bh_engine_rename(engine, c, context, err);
}

static int rename_main(void *options, int argc, char **argv)
{
	(void)options, (void)argc;
	return bh_cli_for_each(1, argv, true, rename_one, argv[1]);
}

const struct bh_command bh_command_rename = {
	.name = "rename",
	.group = "Containers",
	.synopsis = "CONTAINER NEW_NAME",
	.summary = "Rename a container",
	.min_arguments = 2,
	.max_arguments = 2,
	.run = rename_main,
};
