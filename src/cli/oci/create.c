/* SPDX-License-Identifier: Apache-2.0 */
/* create and run: both make a container of a bundle; run also starts it, and stays with it unless it's told to detach. */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "linux/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>

struct create_options {
	const char *bundle, *config, *console_socket, *pid_file, *pidfd_socket;
	int64_t preserve_fds;
	bool no_pivot, no_new_keyring, detach, keep, no_subreaper;
};

static const struct bh_option common[] = {
	{ 'b', "bundle", BH_OPTION_STRING, offsetof(struct create_options, bundle), "DIR", "The bundle's folder (default: the current one)", NULL,
	  false },
	{ 0, "console-socket", BH_OPTION_STRING, offsetof(struct create_options, console_socket), "PATH",
	  "Unix socket that gets the terminal's master", NULL, false },
	{ 'f', "config", BH_OPTION_STRING, offsetof(struct create_options, config), "FILE", "The configuration (default: the bundle's config.json)",
	  NULL, false },
	{ 0, "pidfd-socket", BH_OPTION_STRING, offsetof(struct create_options, pidfd_socket), "PATH", "Unix socket that gets a pidfd of the process",
	  NULL, false },
	{ 0, "pid-file", BH_OPTION_STRING, offsetof(struct create_options, pid_file), "FILE", "Write the first process's pid to this file", NULL,
	  false },
	{ 0, "no-pivot", BH_OPTION_BOOL, offsetof(struct create_options, no_pivot), NULL, "Don't use pivot_root (for roots on a ramdisk)", NULL, false },
	{ 0, "no-new-keyring", BH_OPTION_BOOL, offsetof(struct create_options, no_new_keyring), NULL, "Keep the caller's session keyring", NULL, false },
	{ 0, "preserve-fds", BH_OPTION_INT, offsetof(struct create_options, preserve_fds), "N", "Give fds 3 to 2+N to the process", NULL, false },
	{ 0 },
};
static const struct bh_option run_only[] = {
	{ 'd', "detach", BH_OPTION_BOOL, offsetof(struct create_options, detach), NULL, "End when the process runs", NULL, false },
	{ 0, "keep", BH_OPTION_BOOL, offsetof(struct create_options, keep), NULL, "Don't delete the container when it has ended", NULL, false },
	{ 0, "no-subreaper", BH_OPTION_BOOL, offsetof(struct create_options, no_subreaper), NULL, "Don't take over orphaned processes", NULL, false },
	{ 0 },
};

static int configured(void *context, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_oci_console *console = context;

	int listen_fds = bh_oci_listen_fds();

	if (listen_fds > 0) {
		bh_strv_addf(&spec->process.env, "LISTEN_FDS=%d", listen_fds);
		bh_strv_add(&spec->process.env, "LISTEN_PID=1");
	}
	console->terminal = spec->process.terminal;
	return bh_oci_console_check(console, err);
}

int bh_oci_listen_fds(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int64_t number = 0;

	/* Some callers hand them on without saying to whom. */
	if (!fds || (pid && (bh_parse_int(pid, 1, INT_MAX, &number) < 0 || number != getpid())))
		return 0;
	return bh_parse_int(fds, 0, BH_OCI_PRESERVE_MAX, &number) < 0 ? 0 : (int)number;
}

/* Nothing of ours may come to lie on a number that the process gets, and the process gets only what the caller has opened:
 * that is all that isn't close-on-exec here. */
static int occupy(int fd, struct bh_error *err)
{
	bh_auto_close int null = open("/dev/null", O_PATH | O_CLOEXEC);
	int placeholder = null == fd ? BH_TAKE_FD(null) : null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, fd);

	return placeholder == fd ? 0 : bh_error_set(err, placeholder < 0 ? errno : EBUSY, "keep fd %d free", fd);
}

int bh_oci_check_fds(int64_t preserve, struct bh_error *err)
{
	int listen_fds = bh_oci_listen_fds(), missing = -1, r = 0;

	if (preserve < 0 || preserve > BH_OCI_PRESERVE_MAX)
		return bh_error_text(err, EINVAL, "--preserve-fds %lld is out of range", (long long)preserve);
	for (int i = 0; r == 0 && i < (int)preserve; i++) {
		int flags = fcntl(3 + listen_fds + i, F_GETFD);

		if (missing < 0 && (flags < 0 || flags & FD_CLOEXEC))
			missing = i;
		if (flags < 0)
			r = occupy(3 + listen_fds + i, err);
	}
	if (missing >= 0)
		bh_warn("unable to stat preserved-fd %d (of %lld): the process gets only those that are open", missing, (long long)preserve);
	return r < 0 ? r : listen_fds + (int)preserve;
}

static const char *notify_socket(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && *path ? path : NULL;
}

/* Its real path, absolute and without links, told by the kernel; *ret_fd is the folder. */
static char *find_bundle(const char *path, int *ret_fd)
{
	char link[32], text[PATH_MAX];
	ssize_t length;

	*ret_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_fd < 0)
		return NULL;
	snprintf(link, sizeof link, "/proc/self/fd/%d", *ret_fd);
	length = readlink(link, text, sizeof text);
	return length > 0 && length < (ssize_t)sizeof text && *text == '/' ? bh_strndup(text, (size_t)length) : realpath(path, NULL);
}

static int make(const struct create_options *o, const char *id, bool run, struct bh_oci_console *console, struct bh_bundle *ret_bundle,
		struct bh_error *err)
{
	int bundle_fd = -1;
	bh_auto_free char *bundle = find_bundle(o->bundle ? o->bundle : ".", &bundle_fd);
	struct bh_bundle_create request = {
		.root = bh_oci.root,
		.id = id,
		.bundle = bundle,
		.bundle_fd = bundle_fd,
		.pid_file = o->pid_file,
		.systemd_cgroup = bh_oci.systemd_cgroup,
		.no_cgroup = bh_oci.no_cgroup,
		.rootless = bh_oci_is_rootless(),
		.isolation = bh_oci.isolation,
		.notify = notify_socket(),
		.run = run,
		.no_pivot = o->no_pivot,
		.no_new_keyring = o->no_new_keyring,
		.config = o->config,
		.stdio = &console->stdio,
		.configured = configured,
		.terminal = bh_oci_console_send,
		.context = console,
	};
	int r;

	if (!bundle)
		return bh_error_set(err, errno, "bundle %s", o->bundle ? o->bundle : ".");
	r = request.preserve_fds = bh_oci_check_fds(o->preserve_fds, err);
	if (r >= 0)
		r = bh_bundle_create(&request, ret_bundle, err);
	else
		bh_close_fd(&bundle_fd);
	if (r < 0 || !o->pidfd_socket || !*o->pidfd_socket)
		return r;
	r = bh_oci_send_fd("pidfd", o->pidfd_socket, "pidfd", ret_bundle->pidfd, err);
	if (r < 0) {
		bh_bundle_delete(ret_bundle, true, NULL);
		bh_bundle_close(ret_bundle);
	}
	return r;
}

static int create(void *arg, int argc, char **argv)
{
	const struct create_options *o = arg;
	struct bh_oci_console console = { .socket = o->console_socket, .detach = true };
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;

	(void)argc;
	if (make(o, argv[0], false, &console, &bundle, &err) < 0) {
		bh_error_prefix(&err, "%s create failed: unable to start container process", bh_oci.program);
		return bh_oci_fail(&err, 1);
	}
	bh_bundle_close(&bundle);
	return 0;
}

static int run(void *arg, int argc, char **argv)
{
	const struct create_options *o = arg;
	struct bh_oci_console console = { .socket = o->console_socket, .detach = o->detach };
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int status = 0, r = o->detach ? 0 : bh_oci_foreground_begin(!o->no_subreaper, &err);

	(void)argc;
	if (r == 0)
		r = make(o, argv[0], true, &console, &bundle, &err);
	/* As a shell would say it. It isn't a failure of the runtime, so the log has nothing of it. */
	if (r < 0 && err.of_workload) {
		fprintf(stderr, "%s\n", err.message);
		return 255;
	}
	if (r < 0) {
		bh_error_prefix(&err, "%s run failed: unable to start container process", bh_oci.program);
		return bh_oci_fail(&err, 1);
	}
	if (o->detach && bundle.notify_fd >= 0)
		bh_bundle_wait_notify(&bundle, notify_socket());
	if (!o->detach) {
		status = bh_oci_foreground(&bundle, bundle.pid, bundle.pidfd, console.stdio.ret_terminal_fd);
		/* We have waited for its end: nothing is to be killed any more. */
		bundle.status = BH_BUNDLE_STOPPED;
		if (!o->keep)
			r = bh_bundle_delete(&bundle, true, &err);
	}
	/* The end of this process closes them. */
	bundle.pidfd = bundle.root_fd = bundle.dir_fd = -1;
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : status;
}

const struct bh_command bh_oci_command_create = {
	.name = "create",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Make a container of a bundle; its process waits for start",
	.description = "Makes the namespaces, the cgroup and the root file system that the bundle's config.json asks for, with a first "
		       "process that waits. start lets it run. The id may hold letters, digits and the characters _ + - . and must be "
		       "unique below --root.",
	.sets = { common },
	.options_size = sizeof(struct create_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = create,
};

const struct bh_command bh_oci_command_run = {
	.name = "run",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Make a container of a bundle and run it",
	.description = "create and start in one. Unless it is told to detach, the command stays as the parent of the first process: it "
		       "passes signals and, if the process has a terminal, input, output and window sizes on, and deletes the container "
		       "when that process has ended.",
	.sets = { common, run_only },
	.options_size = sizeof(struct create_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run,
};
