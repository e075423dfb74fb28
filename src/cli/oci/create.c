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
	const char *bundle, *console_socket, *pid_file;
	int64_t preserve_fds;
	bool no_pivot, no_new_keyring, detach, keep, no_subreaper;
};

static const struct bh_option common[] = {
	{ 'b', "bundle", BH_OPTION_STRING, offsetof(struct create_options, bundle), "DIR", "The bundle's folder (default: the current one)", NULL,
	  false },
	{ 0, "console-socket", BH_OPTION_STRING, offsetof(struct create_options, console_socket), "PATH",
	  "Unix socket that gets the terminal's master", NULL, false },
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

	console->terminal = spec->process.terminal;
	return bh_oci_console_check(console, err);
}

static bool is_rootless(void)
{
	if (bh_oci.rootless && !bh_streq(bh_oci.rootless, "auto"))
		return bh_streq(bh_oci.rootless, "true");
	return geteuid() != 0 || bh_in_user_namespace();
}

static int make(const struct create_options *o, const char *id, bool run, struct bh_oci_console *console, struct bh_bundle *ret_bundle,
		struct bh_error *err)
{
	bh_auto_free char *bundle = realpath(o->bundle ? o->bundle : ".", NULL);
	struct bh_bundle_create request = {
		.root = bh_oci.root,
		.id = id,
		.bundle = bundle,
		.pid_file = o->pid_file,
		.systemd_cgroup = bh_oci.systemd_cgroup,
		.rootless = is_rootless(),
		.run = run,
		.preserve_fds = (int)o->preserve_fds,
		.no_pivot = o->no_pivot,
		.no_new_keyring = o->no_new_keyring,
		.stdio = &console->stdio,
		.configured = configured,
		.terminal = bh_oci_console_send,
		.context = console,
	};

	if (!bundle)
		return bh_error_set(err, errno, "bundle %s", o->bundle ? o->bundle : ".");
	if (o->preserve_fds < 0 || o->preserve_fds > INT_MAX / 2)
		return bh_error_text(err, EINVAL, "--preserve-fds %lld is out of range", (long long)o->preserve_fds);
	return bh_bundle_create(&request, ret_bundle, err);
}

static int create(void *arg, int argc, char **argv)
{
	const struct create_options *o = arg;
	struct bh_oci_console console = { .socket = o->console_socket, .detach = true };
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;

	(void)argc;
	if (make(o, argv[0], false, &console, &bundle, &err) < 0) {
		bh_error_prefix(&err, "bulkhead-oci create failed: unable to start container process");
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
	if (r < 0) {
		bh_error_prefix(&err, "bulkhead-oci run failed: unable to start container process");
		return bh_oci_fail(&err, 1);
	}
	if (!o->detach) {
		status = bh_oci_foreground(bundle.pid, bundle.pidfd, console.stdio.ret_terminal_fd);
		if (!o->keep)
			r = bh_bundle_delete(&bundle, true, &err);
	}
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : status;
}

const struct bh_command bh_oci_command_create = {
	.name = "create",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Make a container of a bundle; its process waits for start",
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
	.sets = { common, run_only },
	.options_size = sizeof(struct create_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run,
};
