/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nsenter: a command of ours in the namespaces of a container: for looking around. Unlike exec it keeps our
 * capabilities, user and cgroup. Without a choice all namespaces are entered, with -m and so on only those.
 */
#include "cli/cli.h"
#include "cli/containers.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>

struct nsenter_options {
	bool mount, uts, ipc, net, pid, user, cgroup, time, all;
	const char *workdir;
};

#define FLAG(letter, name, field, help)                                                                        \
	{                                                                                                      \
		letter, name, BH_OPTION_BOOL, offsetof(struct nsenter_options, field), NULL, help, NULL, false \
	}
static const struct bh_option options[] = {
	FLAG('a', "all", all, "Enter all namespaces (default)"),
	FLAG('m', "mount", mount, "Enter the mount namespace"),
	FLAG('u', "uts", uts, "Enter the UTS namespace"),
	FLAG('i', "ipc", ipc, "Enter the IPC namespace"),
	FLAG('n', "net", net, "Enter the network namespace"),
	FLAG('p', "pid", pid, "Enter the PID namespace"),
	FLAG('U', "user", user, "Enter the user namespace"),
	FLAG('C', "cgroup", cgroup, "Enter the cgroup namespace"),
	FLAG('T', "time", time, "Enter the time namespace"),
	{ 'w', "wd", BH_OPTION_STRING, offsetof(struct nsenter_options, workdir), "FOLDER", "Working directory, as the container sees it", NULL, false },
	{ 0 },
};

/* Joining the namespace one is in already is an error for some kinds: those are left out. */
static bool is_other_namespace(pid_t pid, const char *name)
{
	bh_auto_free char *theirs = bh_printf("/proc/%d/ns/%s", (int)pid, name), *ours = bh_printf("/proc/self/ns/%s", name);
	struct stat a, b;

	return stat(theirs, &a) == 0 && stat(ours, &b) == 0 && (a.st_ino != b.st_ino || a.st_dev != b.st_dev);
}

static int chosen_flags(const struct nsenter_options *o, pid_t pid)
{
	const struct {
		bool chosen;
		int flag;
		const char *name;
	} kinds[] = {
		{ o->mount, CLONE_NEWNS, "mnt" },         { o->uts, CLONE_NEWUTS, "uts" },    { o->ipc, CLONE_NEWIPC, "ipc" },
		{ o->net, CLONE_NEWNET, "net" },          { o->pid, CLONE_NEWPID, "pid" },    { o->user, CLONE_NEWUSER, "user" },
		{ o->cgroup, CLONE_NEWCGROUP, "cgroup" }, { o->time, CLONE_NEWTIME, "time" },
	};
	bool any = false;
	int flags = 0;

	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++)
		any = any || kinds[i].chosen;
	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++)
		if ((kinds[i].chosen || !any || o->all) && is_other_namespace(pid, kinds[i].name))
			flags |= kinds[i].flag;
	return flags;
}

static int enter_and_run(const struct nsenter_options *o, pid_t pid, char **command, struct bh_error *err)
{
	char *shell[] = { NULL, NULL };
	bh_auto_free char *default_shell = bh_strdup("/bin/sh");
	bh_auto_close int pidfd = bh_pidfd_open(pid);
	int flags = chosen_flags(o, pid), status;
	pid_t child;

	shell[0] = default_shell;
	if (pidfd < 0)
		return bh_error_set(err, -pidfd, "open process %d", (int)pid);
	if (flags && setns(pidfd, flags) < 0)
		return bh_error_set(err, errno, "join the namespaces of process %d", (int)pid);
	if (o->workdir && chdir(o->workdir) < 0)
		return bh_error_set(err, errno, "chdir %s", o->workdir);
	if (!*command)
		command = shell;
	child = fork(); /* a pid namespace holds for children only */
	if (child < 0)
		return bh_error_set(err, errno, "fork");
	if (child == 0) {
		execvp(command[0], command);
		dprintf(STDERR_FILENO, "bulkhead: exec %s: %s\n", command[0], strerror(errno));
		_exit(errno == ENOENT ? BH_EXIT_NOT_FOUND : BH_EXIT_NOT_EXECUTABLE);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return bh_error_set(err, errno, "wait");
	err->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return 0;
}

static int run(void *arg, int argc, char **argv)
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
		if (container.status != BH_STATUS_RUNNING && container.status != BH_STATUS_PAUSED)
			r = bh_error_text(&err, ESRCH, "container %s is not running", container.id);
		else
			r = enter_and_run(arg, container.pid, argv + 1, &err);
		bh_container_clear(&container);
	}
	bh_engine_close(&engine);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : err.exit_code;
}

const struct bh_command bh_command_nsenter = {
	.name = "nsenter",
	.group = "Looking inside",
	.synopsis = "[OPTIONS] CONTAINER [COMMAND] [ARG...]",
	.summary = "Run a command of the host's user in a container's namespaces",
	.sets = { options },
	.options_size = sizeof(struct nsenter_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.run = run,
};
