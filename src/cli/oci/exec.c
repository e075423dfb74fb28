/* SPDX-License-Identifier: Apache-2.0 */
/* exec: a further process in a running container, described by --process or by the container's own and the flags. */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>

struct exec_options {
	const char *process, *user, *cwd, *console_socket, *pid_file, *pidfd_socket, *process_label, *apparmor;
	struct bh_strv env, cap, additional_gids, cgroup;
	int64_t preserve_fds;
	int no_new_privs; /* -1: as the container */
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
	{ 'g', "additional-gids", BH_OPTION_LIST, offsetof(struct exec_options, additional_gids), "GID", "Add a supplementary group", NULL, false },
	{ 0, "process-label", BH_OPTION_STRING, offsetof(struct exec_options, process_label), "LABEL", "Its SELinux label", NULL, false },
	{ 0, "apparmor", BH_OPTION_STRING, offsetof(struct exec_options, apparmor), "PROFILE", "Its AppArmor profile", NULL, false },
	{ 0, "no-new-privs", BH_OPTION_TRISTATE, offsetof(struct exec_options, no_new_privs), NULL, "It can gain no privileges by execve", NULL, false },
	{ 0, "cgroup", BH_OPTION_LIST, offsetof(struct exec_options, cgroup), "[CONTROLLER,...:]PATH", "Run it in a cgroup below the container's",
	  NULL, false },
	{ 0, "pidfd-socket", BH_OPTION_STRING, offsetof(struct exec_options, pidfd_socket), "PATH", "Unix socket that gets a pidfd of it", NULL, false },
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

static void add_capabilities(struct bh_spec_process *p, const struct bh_strv *names)
{
	for (size_t i = 0; i < names->count; i++) {
		int number = bh_capability_number(names->items[i]);

		if (number < 0) {
			bh_warn("ignoring unknown capability %s", names->items[i]);
			continue;
		}
		p->capabilities.set = true;
		p->capabilities.bounding |= 1ULL << number;
		p->capabilities.effective |= 1ULL << number;
		p->capabilities.permitted |= 1ULL << number;
		/* Ambient ones have to be inheritable, and a configuration without inheritable ones wants none. */
		if (p->capabilities.inheritable)
			p->capabilities.ambient |= 1ULL << number;
	}
}

static int add_groups(struct bh_spec_process *p, const struct bh_strv *gids, struct bh_error *err)
{
	for (size_t i = 0; i < gids->count; i++) {
		size_t count = p->user.additional_gid_count;
		uint64_t gid;

		if (bh_parse_uint(gids->items[i], UINT32_MAX - 1, &gid) < 0)
			return bh_error_text(err, EINVAL, "invalid additional-gids: %s", gids->items[i]);
		p->user.additional_gids = bh_realloc(p->user.additional_gids, (count + 1) * sizeof *p->user.additional_gids);
		p->user.additional_gids[count] = (uint32_t)gid;
		p->user.additional_gid_count++;
	}
	return 0;
}

static void replace(char **text, const char *value)
{
	if (!value || !*value)
		return;
	bh_free_ptr(text);
	*text = bh_strdup(value);
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
	replace(&p->cwd, o->cwd);
	replace(&p->selinux_label, o->process_label);
	replace(&p->apparmor_profile, o->apparmor);
	if (o->no_new_privs >= 0)
		p->no_new_privileges = o->no_new_privs;
	if (o->user && *o->user)
		r = set_user(p, o->user, err);
	if (r == 0)
		r = add_groups(p, &o->additional_gids, err);
	add_capabilities(p, &o->cap);
	return r;
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
		.ignore_paused = o->ignore_paused,
		.cgroups = &o->cgroup,
	};
	int r = o->process ? from_file(o->process, &own, err) : from_flags(o, process, argc, argv, err);

	request.process = o->process ? &own : process;
	console.terminal = request.process->terminal;
	if (r == 0)
		r = bh_oci_console_check(&console, err);
	if (r == 0 && !o->detach)
		r = bh_oci_foreground_begin(false, err);
	if (r == 0)
		r = request.preserve_fds = bh_oci_check_fds(o->preserve_fds, err);
	if (r >= 0)
		r = bh_bundle_exec(bundle, &request, &running, err);
	if (r == 0 && o->pidfd_socket && *o->pidfd_socket)
		r = bh_oci_send_fd("pidfd", o->pidfd_socket, "pidfd", running.pidfd, err);
	if (r == 0 && console.stdio.ret_terminal_fd >= 0)
		r = bh_oci_console_send(&console, console.stdio.ret_terminal_fd, err);
	if (r < 0 && running.pidfd >= 0)
		bh_pidfd_send_signal(running.pidfd, SIGKILL);
	if (r == 0 && !o->detach)
		*ret_status = bh_oci_foreground(NULL, running.pid, running.pidfd, console.stdio.ret_terminal_fd);
	bh_spec_process_clear(&own);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	const struct exec_options *o = arg;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int status = 0, r = bh_oci_open(argv, false, &bundle, &err);

	if (r == 0 && argc < 2 && !o->process)
		r = bh_error_text(&err, EINVAL, "process args cannot be empty");
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

static void preset(void *arg)
{
	struct exec_options *o = arg;

	o->no_new_privs = -1;
}

const struct bh_command bh_oci_command_exec = {
	.name = "exec",
	.synopsis = "[OPTIONS] CONTAINER [COMMAND [ARG...]]",
	.summary = "Run a further process in a running container",
	.description = "The process is that of the container's configuration with another command and what the options change, or it is "
		       "described in full by the JSON file of --process. It is a child of this command, not of the container's first "
		       "process.",
	.sets = { options },
	.options_size = sizeof(struct exec_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.preset = preset,
	.run = run,
};
