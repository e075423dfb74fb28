/* SPDX-License-Identifier: Apache-2.0 */
/* The life of virtual machines with a name: start, shutdown, destroy, suspend, resume, reboot, console, snapshot, restore, migrate. */
#include "cli/stream.h"
#include "cli/vm-domain.h"
#include "linux/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONSOLE_ESCAPE "ctrl-]"

/* --- console ----------------------------------------------------------------------------------------------------------- */

static int watch_console(struct bh_domain *domain)
{
	const struct bh_stream stream = { .input = true, .tty = isatty(STDIN_FILENO), .detach_keys = CONSOLE_ESCAPE, .pidfd = -1 };
	struct bh_frame_exit result = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	enum bh_stream_end end;
	bh_auto_close int fd = bh_domain_attach(domain, &err);

	if (fd < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	if (stream.tty)
		fprintf(stderr, "Connected to %s. The escape is ^].\n", domain->name);
	if (bh_stream_attach(&stream, fd, &end, &result, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	if (end == BH_STREAM_EXITED)
		return result.exit_code;
	if (end == BH_STREAM_LOST) {
		bh_error_text(&err, EIO, "lost the connection to the console of %s", domain->name);
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	}
	return 0;
}

static int console_main(void *arg, int argc, char **argv)
{
	struct bh_domain domain;
	int status;

	(void)arg, (void)argc;
	if (!bh_cli_open_domain(argv[0], false, &domain))
		return BH_EXIT_FAILURE;
	status = watch_console(&domain);
	bh_domain_clear(&domain);
	return status;
}

const struct bh_command bh_command_vm_console = {
	.name = "vm console",
	.group = "Machines",
	.synopsis = "NAME",
	.summary = "Connect to a virtual machine's serial console; ^] leaves it",
	.description = "Ends with the machine: then the exit status is the monitor's.",
	.min_arguments = 1,
	.max_arguments = 1,
	.run = console_main,
};

/* --- start ------------------------------------------------------------------------------------------------------------- */

struct start_options {
	bool console, paused, autostart;
	const char *incoming, *explain;
};

static int start_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct start_options *o = context;
	struct bh_domain_start start = { .paused = o->paused, .incoming_fd = -1, .explain = o->explain };
	int r;

	if (o->incoming) {
		start.incoming_fd = bh_socket_accept_one(o->incoming, err);
		if (start.incoming_fd < 0)
			return start.incoming_fd;
	}
	r = bh_domain_start(domain, &start, err);
	bh_close_fd(&start.incoming_fd);
	if (r == 0 && o->console)
		return watch_console(domain);
	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int start_all(struct start_options *o)
{
	bh_auto_strv struct bh_strv names = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	int status = 0;

	if (bh_domain_list(bh_cli.root, &names, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_FAILURE);
	for (size_t i = 0; i < names.count; i++) {
		struct bh_domain domain;
		bool wanted;

		if (bh_domain_open(bh_cli.root, bh_cli.state, names.items[i], false, &domain, NULL) < 0)
			continue;
		wanted = domain.definition.autostart && domain.status == BH_DOMAIN_SHUT_OFF;
		bh_domain_clear(&domain);
		if (wanted && bh_cli_for_each_domain(1, &names.items[i], true, start_action, o))
			status = BH_EXIT_FAILURE;
	}
	return status;
}

static int start_main(void *arg, int argc, char **argv)
{
	struct start_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;

	if (o->autostart)
		return start_all(o);
	if (argc == 0 || (argc > 1 && (o->console || o->incoming))) {
		bh_error_text(&err, EINVAL, argc ? "vm start: --console and --incoming take one machine" : "vm start: which virtual machine?");
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	}
	return bh_cli_for_each_domain(argc, argv, true, start_action, o);
}

static const struct bh_option start_table[] = {
	{ 0, "console", BH_OPTION_BOOL, offsetof(struct start_options, console), NULL, "Connect to its console", NULL, false },
	{ 0, "paused", BH_OPTION_BOOL, offsetof(struct start_options, paused), NULL, "It stands until vm resume", NULL, false },
	{ 0, "incoming", BH_OPTION_STRING, offsetof(struct start_options, incoming), "SOCKET|tcp://ADDRESS:PORT",
	  "Wait here for the machine that vm migrate sends", NULL, false },
	{ 0, "autostart", BH_OPTION_BOOL, offsetof(struct start_options, autostart), NULL, "All that vm autostart has marked", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct start_options, explain), "json", "Tell each step", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_start = {
	.name = "vm start",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [NAME...]",
	.summary = "Start virtual machines",
	.sets = { start_table },
	.options_size = sizeof(struct start_options),
	.max_arguments = -1,
	.run = start_main,
};

/* --- the end ------------------------------------------------------------------------------------------------------------ */

struct end_options {
	int64_t wait_ns;
	bool force;
};

static int shutdown_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct end_options *o = context;
	int r = bh_domain_power_button(domain, false, err);

	if (r == 0 && o->wait_ns && !bh_domain_wait(domain, o->wait_ns / 1000000))
		r = bh_error_text(err, ETIMEDOUT, "the virtual machine %s hasn't shut itself down; vm destroy pulls its plug", domain->name);
	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int shutdown_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, false, shutdown_action, arg);
}

static const struct bh_option shutdown_table[] = {
	{ 0, "wait", BH_OPTION_DURATION, offsetof(struct end_options, wait_ns), "TIME", "Wait until it is off, as 30s", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_shutdown = {
	.name = "vm shutdown",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [NAME...]",
	.summary = "Press the power button of virtual machines: they shut themselves down",
	.sets = { shutdown_table },
	.options_size = sizeof(struct end_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = shutdown_main,
};

static int destroy_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	int r;

	(void)context;
	if (domain->status == BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, ESRCH, "the virtual machine %s doesn't run", domain->name);
	r = bh_domain_destroy(domain, err);
	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int destroy_main(void *arg, int argc, char **argv)
{
	(void)arg;
	return bh_cli_for_each_domain(argc, argv, true, destroy_action, NULL);
}

const struct bh_command bh_command_vm_destroy = {
	.name = "vm destroy",
	.alias = "vm.stop",
	.group = "Machines",
	.synopsis = "NAME [NAME...]",
	.summary = "Pull the plug of virtual machines",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = destroy_main,
};

static int reboot_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	const struct end_options *o = context;
	int r = o->force ? bh_domain_request(domain, "reset", NULL, NULL, 0, NULL, err) : bh_domain_power_button(domain, true, err);

	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int reboot_main(void *arg, int argc, char **argv)
{
	return bh_cli_for_each_domain(argc, argv, false, reboot_action, arg);
}

static const struct bh_option reboot_table[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct end_options, force), NULL, "Reset it, without asking its system", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_reboot = {
	.name = "vm reboot",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [NAME...]",
	.summary = "Have virtual machines shut themselves down and start them again",
	.sets = { reboot_table },
	.options_size = sizeof(struct end_options),
	.min_arguments = 1,
	.max_arguments = -1,
	.run = reboot_main,
};

/* --- suspend and resume --------------------------------------------------------------------------------------------------- */

static int suspend_action(struct bh_domain *domain, void *context, struct bh_error *err)
{
	bool suspend = *(bool *)context;
	int r = bh_domain_request(domain, suspend ? "pause" : "resume", NULL, NULL, 0, NULL, err);

	if (r == 0 && suspend)
		r = bh_write_file_at(domain->state_fd, "paused", "", 0, 0600, 0, err);
	else if (r == 0)
		unlinkat(domain->state_fd, "paused", 0);
	if (r == 0)
		printf("%s\n", domain->name);
	return r;
}

static int suspend_main(void *arg, int argc, char **argv)
{
	bool suspend = true;

	(void)arg;
	return bh_cli_for_each_domain(argc, argv, true, suspend_action, &suspend);
}

static int resume_main(void *arg, int argc, char **argv)
{
	bool suspend = false;

	(void)arg;
	return bh_cli_for_each_domain(argc, argv, true, suspend_action, &suspend);
}

const struct bh_command bh_command_vm_suspend = {
	.name = "vm suspend",
	.alias = "vm.pause",
	.group = "Machines",
	.synopsis = "NAME [NAME...]",
	.summary = "Let virtual machines stand still",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = suspend_main,
};

const struct bh_command bh_command_vm_resume = {
	.name = "vm resume",
	.alias = "vm.unpause",
	.group = "Machines",
	.synopsis = "NAME [NAME...]",
	.summary = "Let virtual machines that stand go on",
	.min_arguments = 1,
	.max_arguments = -1,
	.run = resume_main,
};

/* --- snapshots ------------------------------------------------------------------------------------------------------------ */

struct snapshot_options {
	bool list, remove;
};

static int list_snapshots(struct bh_domain *domain, struct bh_error *err)
{
	bh_auto_strv struct bh_strv names = { 0 };
	int r = bh_domain_snapshots(domain, &names, err);

	for (size_t i = 0; r == 0 && i < names.count; i++)
		printf("%s\n", names.items[i]);
	return r;
}

static int snapshot_main(void *arg, int argc, char **argv)
{
	const struct snapshot_options *o = arg;
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	int r;

	if (!o->list && argc < 2) {
		bh_error_text(&err, EINVAL, "vm snapshot: which name shall it have?");
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	}
	if (!bh_cli_open_domain(argv[0], !o->list, &domain))
		return BH_EXIT_FAILURE;
	if (o->list)
		r = list_snapshots(&domain, &err);
	else if (o->remove)
		r = bh_domain_snapshot_remove(&domain, argv[1], &err);
	else
		r = bh_domain_snapshot(&domain, argv[1], &err);
	bh_domain_clear(&domain);
	if (r == 0 && !o->list)
		printf("%s\n", argv[1]);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static const struct bh_option snapshot_table[] = {
	{ 0, "list", BH_OPTION_BOOL, offsetof(struct snapshot_options, list), NULL, "The names of its snapshots", NULL, false },
	{ 0, "rm", BH_OPTION_BOOL, offsetof(struct snapshot_options, remove), NULL, "Remove the snapshot", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_snapshot = {
	.name = "vm snapshot",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [SNAPSHOT]",
	.summary = "Keep a running machine's state, memory and own disks as they are now",
	.sets = { snapshot_table },
	.options_size = sizeof(struct snapshot_options),
	.min_arguments = 1,
	.max_arguments = 2,
	.run = snapshot_main,
};

struct restore_options {
	bool force, paused;
};

static int restore(struct bh_domain *domain, const struct restore_options *o, const char *snapshot, struct bh_error *err)
{
	const struct bh_domain_start start = { .paused = o->paused, .snapshot = snapshot, .incoming_fd = -1 };
	int r;

	/* One that isn't there must not cost a running machine. */
	r = bh_domain_snapshot_check(domain, snapshot, err);
	if (r == 0 && domain->status != BH_DOMAIN_SHUT_OFF && !o->force)
		return bh_error_text(err, EBUSY, "the virtual machine %s runs: with --force it is ended and goes back", domain->name);
	if (r == 0 && domain->status != BH_DOMAIN_SHUT_OFF) {
		r = bh_domain_destroy(domain, err);
		if (r == 0 && bh_lock_fd(domain->dir_fd, true, false) == 0)
			domain->locked = true;
	}
	if (r == 0)
		r = bh_domain_snapshot_put_back(domain, snapshot, err);
	return r < 0 ? r : bh_domain_start(domain, &start, err);
}

static int restore_main(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	int r;

	(void)argc;
	if (!bh_cli_open_domain(argv[0], true, &domain))
		return BH_EXIT_FAILURE;
	r = restore(&domain, arg, argv[1], &err);
	bh_domain_clear(&domain);
	if (r == 0)
		printf("%s\n", argv[0]);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static const struct bh_option restore_table[] = {
	{ 'f', "force", BH_OPTION_BOOL, offsetof(struct restore_options, force), NULL, "Also if it runs: what it is now is lost", NULL, false },
	{ 0, "paused", BH_OPTION_BOOL, offsetof(struct restore_options, paused), NULL, "It stands until vm resume", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_restore = {
	.name = "vm restore",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME SNAPSHOT",
	.summary = "Go back to a snapshot, and on from there",
	.sets = { restore_table },
	.options_size = sizeof(struct restore_options),
	.min_arguments = 2,
	.max_arguments = 2,
	.run = restore_main,
};

/* --- migration ------------------------------------------------------------------------------------------------------------ */

#define MOVED_MS 10000

struct migrate_options {
	int64_t downtime_ns, timeout_ns, bandwidth;
	bool cancel, status;
};

static json_object *migrate_members(const struct migrate_options *o)
{
	json_object *members = json_object_new_object();

	if (o->downtime_ns)
		json_object_object_add(members, "downtime_ms", json_object_new_int64(BH_MAX(o->downtime_ns / 1000000, (int64_t)1)));
	if (o->timeout_ns)
		json_object_object_add(members, "timeout_ms", json_object_new_int64(BH_MAX(o->timeout_ns / 1000000, (int64_t)1)));
	if (o->bandwidth)
		json_object_object_add(members, "bandwidth", json_object_new_int64(o->bandwidth));
	return members;
}

static int migrate(struct bh_domain *domain, const struct migrate_options *o, const char *to, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	json_object *members, *answer = NULL;
	int r;

	if (o->cancel || o->status) {
		r = bh_domain_request(domain, o->cancel ? "migrate-cancel" : "migrate-status", NULL, NULL, 0, &answer, err);
	} else if (!to) {
		return bh_error_text(err, EINVAL, "vm migrate: where to?");
	} else {
		fd = bh_socket_connect(to, err);
		if (fd < 0)
			return fd;
		members = migrate_members(o);
		r = bh_domain_request(domain, "migrate", members, &fd, 1, &answer, err);
		json_object_put(members);
		/* Its monitor has only to end: afterwards nothing of it is here. */
		if (r == 0)
			bh_domain_wait(domain, MOVED_MS);
	}
	if (r == 0)
		printf("%s\n", json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
	json_object_put(answer);
	return r;
}

static int migrate_main(void *arg, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain domain;
	int r;

	if (!bh_cli_open_domain(argv[0], false, &domain))
		return BH_EXIT_FAILURE;
	r = migrate(&domain, arg, argc > 1 ? argv[1] : NULL, &err);
	bh_domain_clear(&domain);
	return r < 0 ? bh_cli_fail(&err, BH_EXIT_FAILURE) : 0;
}

static const struct bh_option migrate_table[] = {
	{ 0, "downtime", BH_OPTION_DURATION, offsetof(struct migrate_options, downtime_ns), "TIME", "How long the machine may stand (default 300ms)",
	  NULL, false },
	{ 0, "timeout", BH_OPTION_DURATION, offsetof(struct migrate_options, timeout_ns), "TIME", "Give up after this time", NULL, false },
	{ 0, "bandwidth", BH_OPTION_BYTES, offsetof(struct migrate_options, bandwidth), "BYTES", "Bytes a second at most", NULL, false },
	{ 0, "cancel", BH_OPTION_BOOL, offsetof(struct migrate_options, cancel), NULL, "Cancel the migration that is under way", NULL, false },
	{ 0, "status", BH_OPTION_BOOL, offsetof(struct migrate_options, status), NULL, "How far it is", NULL, false },
	{ 0 },
};

const struct bh_command bh_command_vm_migrate = {
	.name = "vm migrate",
	.group = "Machines",
	.synopsis = "[OPTIONS] NAME [SOCKET|tcp://ADDRESS:PORT]",
	.summary = "Move a running machine to where vm start --incoming waits for it",
	.description = "The machine goes on while its memory is sent, and stands only for the last part. If that can't be kept within the downtime, or "
		       "anything fails, it stays here as if nothing had been. By TCP nothing is encrypted, and whoever connects first to where --incoming waits is "
		       "taken for the machine: a trusted network or a tunnel.",
	.sets = { migrate_table },
	.options_size = sizeof(struct migrate_options),
	.min_arguments = 1,
	.max_arguments = 2,
	.run = migrate_main,
};
