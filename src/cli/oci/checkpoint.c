/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint and restore, by CRIU. */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>

#define DEFAULT_IMAGE_PATH "checkpoint"

struct criu_options {
	const char *image_path, *work_path, *parent_path, *page_server, *manage_cgroups_mode;
	const char *bundle, *console_socket, *pid_file, *lsm_profile, *lsm_mount_context;
	struct bh_strv empty_ns;
	int64_t status_fd;
	bool leave_running, tcp_established, tcp_skip_in_flight, link_remap, ext_unix_sk, shell_job, lazy_pages, file_locks, pre_dump, auto_dedup;
	bool detach, no_pivot, no_subreaper;
};

static const struct bh_option common[] = {
	{ 0, "image-path", BH_OPTION_STRING, offsetof(struct criu_options, image_path), "DIR", "Folder of the images (default: ./checkpoint)", NULL,
	  false },
	{ 0, "work-path", BH_OPTION_STRING, offsetof(struct criu_options, work_path), "DIR", "Folder for logs (default: that of the images)", NULL,
	  false },
	{ 0, "tcp-established", BH_OPTION_BOOL, offsetof(struct criu_options, tcp_established), NULL, "Allow open TCP connections", NULL, false },
	{ 0, "ext-unix-sk", BH_OPTION_BOOL, offsetof(struct criu_options, ext_unix_sk), NULL, "Allow unix sockets that lead out", NULL, false },
	{ 0, "shell-job", BH_OPTION_BOOL, offsetof(struct criu_options, shell_job), NULL, "Allow a session and terminal from outside", NULL, false },
	{ 0, "file-locks", BH_OPTION_BOOL, offsetof(struct criu_options, file_locks), NULL, "Keep file locks", NULL, false },
	{ 0, "manage-cgroups-mode", BH_OPTION_STRING, offsetof(struct criu_options, manage_cgroups_mode), "MODE",
	  "soft, full, strict or ignore (default soft)", NULL, false },
	{ 0, "empty-ns", BH_OPTION_LIST, offsetof(struct criu_options, empty_ns), "NAMESPACE", "Make this namespace without what was in it (network)",
	  NULL, false },
	{ 0, "auto-dedup", BH_OPTION_BOOL, offsetof(struct criu_options, auto_dedup), NULL, "Keep each page of memory only once", NULL, false },
	{ 0, "lazy-pages", BH_OPTION_BOOL, offsetof(struct criu_options, lazy_pages), NULL, "Fetch pages of memory when they are needed", NULL, false },
	{ 0 },
};
static const struct bh_option checkpoint_only[] = {
	{ 0, "parent-path", BH_OPTION_STRING, offsetof(struct criu_options, parent_path), "DIR",
	  "An earlier pre-dump, relative to --image-path: only what has changed since is written", NULL, false },
	{ 0, "leave-running", BH_OPTION_BOOL, offsetof(struct criu_options, leave_running), NULL, "Let the container go on", NULL, false },
	{ 0, "tcp-skip-in-flight", BH_OPTION_BOOL, offsetof(struct criu_options, tcp_skip_in_flight), NULL,
	  "Leave out connections that are being made", NULL, false },
	{ 0, "link-remap", BH_OPTION_BOOL, offsetof(struct criu_options, link_remap), NULL, "Give deleted files that are open a name again", NULL,
	  false },
	{ 0, "status-fd", BH_OPTION_INT, offsetof(struct criu_options, status_fd), "FD", "Write a zero byte there when the lazy pages can be fetched",
	  NULL, false },
	{ 0, "page-server", BH_OPTION_STRING, offsetof(struct criu_options, page_server), "ADDRESS:PORT", "Send the pages of memory there", NULL,
	  false },
	{ 0, "pre-dump", BH_OPTION_BOOL, offsetof(struct criu_options, pre_dump), NULL, "Write the memory alone and let the container go on", NULL,
	  false },
	{ 0 },
};
static const struct bh_option restore_only[] = {
	{ 'b', "bundle", BH_OPTION_STRING, offsetof(struct criu_options, bundle), "DIR", "The bundle's folder (default: the current one)", NULL, false },
	{ 0, "console-socket", BH_OPTION_STRING, offsetof(struct criu_options, console_socket), "PATH", "Unix socket that gets the terminal's master",
	  NULL, false },
	{ 'd', "detach", BH_OPTION_BOOL, offsetof(struct criu_options, detach), NULL, "End when the container runs", NULL, false },
	{ 0, "pid-file", BH_OPTION_STRING, offsetof(struct criu_options, pid_file), "FILE", "Write the first process's pid to this file", NULL, false },
	{ 0, "no-subreaper", BH_OPTION_BOOL, offsetof(struct criu_options, no_subreaper), NULL, "Don't take over orphaned processes", NULL, false },
	{ 0, "no-pivot", BH_OPTION_BOOL, offsetof(struct criu_options, no_pivot), NULL, "As for create; the root is criu's business", NULL, false },
	{ 0, "lsm-profile", BH_OPTION_STRING, offsetof(struct criu_options, lsm_profile), "TYPE:NAME",
	  "Another profile, as apparmor:NAME or selinux:LABEL", NULL, false },
	{ 0, "lsm-mount-context", BH_OPTION_STRING, offsetof(struct criu_options, lsm_mount_context), "CONTEXT", "Another SELinux context of mounts",
	  NULL, false },
	{ 0 },
};

static void preset(void *arg)
{
	((struct criu_options *)arg)->status_fd = -1;
}

static const char *text_or_null(const char *text)
{
	return text && *text ? text : NULL;
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT". *ret_address is the caller's. */
static int parse_page_server(const char *text, char **ret_address, int *ret_port, struct bh_error *err)
{
	const char *colon = strrchr(text, ':');
	bool brackets = *text == '[' && colon && colon > text + 1 && colon[-1] == ']';
	const char *begin = text + brackets, *end = colon - brackets;
	int64_t port;

	if (!colon || begin >= end || !colon[1] || (!brackets && memchr(begin, ':', (size_t)(end - begin))))
		return bh_error_text(err, EINVAL, "Use --page-server ADDRESS:PORT to specify page server");
	if (bh_parse_int(colon + 1, 1, 65535, &port) < 0)
		return bh_error_text(err, EINVAL, "Invalid port number");
	*ret_address = bh_strndup(begin, (size_t)(end - begin));
	*ret_port = (int)port;
	return 0;
}

static int take_options(const struct criu_options *o, struct bh_bundle_criu *ret, char **ret_address, struct bh_error *err)
{
	struct bh_bundle_criu c = {
		.program = bh_oci.criu,
		.image_path = text_or_null(o->image_path) ? o->image_path : DEFAULT_IMAGE_PATH,
		.work_path = text_or_null(o->work_path),
		.manage_cgroups_mode = text_or_null(o->manage_cgroups_mode),
		.tcp_established = o->tcp_established,
		.ext_unix_sk = o->ext_unix_sk,
		.shell_job = o->shell_job,
		.file_locks = o->file_locks,
		.auto_dedup = o->auto_dedup,
		.lazy_pages = o->lazy_pages,
		.parent_path = text_or_null(o->parent_path),
		.status_fd = o->lazy_pages ? (int)BH_MAX(BH_MIN(o->status_fd, INT32_MAX), -1) : -1,
		.leave_running = o->leave_running,
		.pre_dump = o->pre_dump,
		.tcp_skip_in_flight = o->tcp_skip_in_flight,
		.link_remap = o->link_remap,
		.lsm_profile = text_or_null(o->lsm_profile),
		.lsm_mount_context = text_or_null(o->lsm_mount_context),
	};
	int r = 0;

	for (size_t i = 0; i < o->empty_ns.count; i++)
		if (!bh_streq(o->empty_ns.items[i], "network"))
			return bh_error_text(err, EINVAL, "namespace \"%.100s\" is not supported", o->empty_ns.items[i]);
	if (text_or_null(o->page_server))
		r = parse_page_server(o->page_server, ret_address, &c.page_server_port, err);
	c.page_server = *ret_address;
	if (r == 0)
		*ret = c;
	return r;
}

static int checkpoint(void *arg, int argc, char **argv)
{
	const struct criu_options *o = arg;
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_free char *address = NULL;
	struct bh_bundle_criu criu;
	int r = bh_oci_open(argv, false, &bundle, &err);

	(void)argc;
	if (r == 0)
		r = take_options(o, &criu, &address, &err);
	if (r == 0)
		r = bh_bundle_checkpoint(&bundle, &criu, &err);
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

static int configured(void *context, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_oci_console *console = context;

	console->terminal = spec->process.terminal;
	return bh_oci_console_check(console, err);
}

static int make(const struct criu_options *o, const char *id, struct bh_oci_console *console, struct bh_bundle *ret_bundle, struct bh_error *err)
{
	bh_auto_free char *bundle = realpath(o->bundle ? o->bundle : ".", NULL), *address = NULL;
	struct bh_bundle_criu criu;
	struct bh_bundle_create request = {
		.root = bh_oci.root,
		.id = id,
		.bundle = bundle,
		.pid_file = o->pid_file,
		.systemd_cgroup = bh_oci.systemd_cgroup,
		.rootless = bh_oci_is_rootless(),
		.run = true,
		.restore = &criu,
		.no_pivot = o->no_pivot,
		.stdio = &console->stdio,
		.configured = configured,
		.terminal = bh_oci_console_send,
		.context = console,
	};
	int r = take_options(o, &criu, &address, err);

	if (r == 0 && !bundle)
		r = bh_error_set(err, errno, "bundle %s", o->bundle ? o->bundle : ".");
	return r < 0 ? r : bh_bundle_create(&request, ret_bundle, err);
}

static int restore(void *arg, int argc, char **argv)
{
	const struct criu_options *o = arg;
	struct bh_oci_console console = { .socket = o->console_socket, .detach = o->detach };
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int status = 0, r = o->detach ? 0 : bh_oci_foreground_begin(!o->no_subreaper, &err);

	(void)argc;
	if (r == 0)
		r = make(o, argv[0], &console, &bundle, &err);
	if (r == 0 && !o->detach) {
		status = bh_oci_foreground(NULL, bundle.pid, bundle.pidfd, console.stdio.ret_terminal_fd);
		r = bh_bundle_delete(&bundle, true, &err);
	}
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : status;
}

const struct bh_command bh_oci_command_checkpoint = {
	.name = "checkpoint",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Write a running container into a folder, for restore",
	.description = "CRIU (criu(8), found by --criu or in PATH) writes what the container's processes are and have in memory into the folder "
		       "--image-path. Then the container is deleted, unless it is to go on (--leave-running, --pre-dump). The root file "
		       "system isn't written. What criu did and what it could not do is in dump.log in --work-path.",
	.sets = { common, checkpoint_only },
	.options_size = sizeof(struct criu_options),
	.preset = preset,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = checkpoint,
};

const struct bh_command bh_oci_command_restore = {
	.name = "restore",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Make a container of a checkpoint",
	.description = "Makes a container of the bundle with the processes that checkpoint wrote, which go on where they were. The bundle must be "
		       "as it was then. Standard streams that were pipes are those of this command now. As run does, the command stays "
		       "with the first process unless it is told to detach. What criu did is in restore.log in --work-path.",
	.sets = { common, restore_only },
	.options_size = sizeof(struct criu_options),
	.preset = preset,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = restore,
};
