/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-oci: global options, then one command; and where its words go.
 *
 * Callers (containerd, podman, CRI-O) give --log FILE and read the last error from it, as one JSON object per line with
 * --log-format json; people read stderr. So an error goes to both, as runc does it.
 */
#include "cli/oci/oci.h"

#include "base/file.h"
#include "base/time.h"
#include "linux/namespace.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What this program can do beyond the bare specification, in the words that crun's callers look for. */
#define ABILITIES "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF"

#define FIRST_USER_NAMESPACE 0xEFFFFFFDU /* PROC_USER_INIT_INO of the kernel */

struct bh_oci bh_oci;

struct global_options {
	const char *root, *log, *log_format, *rootless, *criu, *cgroup_manager, *isolation;
	bool debug, systemd_cgroup, version;
};

const struct bh_option bh_oci_global_options[] = {
	{ 0, "root", BH_OPTION_STRING, offsetof(struct global_options, root), "DIR",
	  "Folder of the containers' state, on tmpfs (default /run/bulkhead-oci, or $XDG_RUNTIME_DIR/bulkhead-oci)", NULL, false },
	{ 0, "log", BH_OPTION_STRING, offsetof(struct global_options, log), "FILE", "Write messages to this file as well", NULL, false },
	{ 0, "log-format", BH_OPTION_STRING, offsetof(struct global_options, log_format), "FORMAT", "text or json (default text)", "text|json", false },
	{ 0, "debug", BH_OPTION_BOOL, offsetof(struct global_options, debug), NULL, "Tell more", NULL, false },
	{ 0, "systemd-cgroup", BH_OPTION_BOOL, offsetof(struct global_options, systemd_cgroup), NULL,
	  "cgroupsPath is \"slice:prefix:name\", made by systemd", NULL, false },
	{ 0, "cgroup-manager", BH_OPTION_STRING, offsetof(struct global_options, cgroup_manager), "MANAGER",
	  "cgroupfs, systemd (as --systemd-cgroup) or disabled: containers are made without a cgroup, and without limits",
	  "cgroupfs|systemd|disabled", false },
	{ 0, "rootless", BH_OPTION_STRING, offsetof(struct global_options, rootless), "true|false|auto",
	  "Ignore what only root may do (default auto)", "true|false|auto", false },
	{ 0, "criu", BH_OPTION_STRING, offsetof(struct global_options, criu), "PATH", "The criu program for checkpoint and restore", NULL, false },
	{ 0, "isolation", BH_OPTION_STRING, offsetof(struct global_options, isolation), "TYPE",
	  "What a bundle becomes that doesn't say it itself: container (default) or vm, a microVM", "container|vm", false },
	{ 'v', "version", BH_OPTION_BOOL, offsetof(struct global_options, version), NULL, "Show the version and end", NULL, false },
	{ 0 },
};
static const struct bh_option *const global_sets[BH_OPTION_SETS_MAX] = { bh_oci_global_options };

#define COMMAND(name) extern const struct bh_command bh_oci_command_##name;
#include "cli/oci/commands.def"
#undef COMMAND
#define COMMAND(name) &bh_oci_command_##name,
const struct bh_command *const bh_oci_commands[] = {
#include "cli/oci/commands.def"
	NULL,
};
#undef COMMAND

static int log_fd = -1;
static bool log_json;

static void write_line(int fd, bool json, const char *level, const char *text)
{
	bh_auto_buf struct bh_buf line = { 0 };
	char now[BH_TIME_TEXT_MAX];

	bh_format_time(bh_now_ns(), now);
	if (json) {
		bh_buf_addf(&line, "{\"level\":\"%s\",\"msg\":", level);
		bh_buf_add_json(&line, text);
		bh_buf_addf(&line, ",\"time\":\"%s\"}\n", now);
	} else {
		bh_buf_addf(&line, "time=\"%s\" level=%s msg=", now, level);
		bh_buf_add_json(&line, text);
		bh_buf_addc(&line, '\n');
	}
	bh_write_all(fd, line.data, line.length);
}

/* Of the program's own messages: to the log file if there is one, else to stderr. */
static void log_line(enum bh_log_level level, const char *text)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	int fd = log_fd >= 0 ? log_fd : STDERR_FILENO;

	/* The container's first process closes all but the fd that the steps are told on, and has another stderr. */
	write_line(bh_explain_fd() >= 0 ? bh_explain_fd() : fd, log_json, names[level], text);
}

int bh_oci_fail(const struct bh_error *err, int status)
{
	fflush(stdout);
	if (log_fd >= 0) {
		write_line(log_fd, log_json, "error", err->message);
		dprintf(STDERR_FILENO, "%s\n", err->message);
	} else {
		write_line(STDERR_FILENO, log_json, "error", err->message);
	}
	return status;
}

int bh_oci_open(char **argv, bool half_made, struct bh_bundle *ret_bundle, struct bh_error *err)
{
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	int r = bh_bundle_open(bh_oci.root, argv[0], &bundle, err);

	/* As with runc it is there when it has been made. */
	if (r == 0 && bundle.status == BH_BUNDLE_CREATING && !half_made) {
		bh_bundle_close(&bundle);
		return bh_error_text(err, ENOENT, "container does not exist");
	}
	if (r == 0)
		*ret_bundle = bundle;
	return r;
}

static void print_overview(void)
{
	printf("NAME:\n   %s - Open Container Initiative runtime\n\n"
	       "Usage:  %s [OPTIONS] COMMAND [OPTIONS] [CONTAINER] [ARG...]\n\nRuns containers as the OCI runtime specification says.\n\n"
	       "Commands:\n",
	       bh_oci.program, bh_oci.program);
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++)
		if (!(*c)->hidden)
			printf("  %-12s %s\n", (*c)->name, (*c)->summary);
	printf("\nGlobal options:\n");
	for (const struct bh_option *o = bh_oci_global_options; o->name; o++)
		printf("  %s%c%s--%s%s%s\t%s\n", o->short_name ? "-" : " ", o->short_name ? o->short_name : ' ', o->short_name ? ", " : "  ", o->name,
		       o->argument ? " " : "", o->argument ? o->argument : "", o->help);
	printf("\nRun '%s COMMAND --help' for the options of a command.\n", bh_oci.program);
}

static int print_help(const struct bh_command *command)
{
	bh_auto_buf struct bh_buf help = { 0 };

	bh_buf_addf(&help, "NAME:\n   %s %s - %s\n\n", bh_oci.program, command->name, command->summary);
	bh_command_help(command, bh_oci.program, &help);
	return bh_write_all(STDOUT_FILENO, help.data, help.length) < 0 ? 1 : 0;
}

/* In runc's words. */
static int check_arguments(const struct bh_command *command, int argc, struct bh_error *err)
{
	bool exact = command->min_arguments == command->max_arguments;

	if (argc < command->min_arguments)
		return bh_error_text(err, EINVAL, "%s: \"%s\" requires %s %d argument(s)", bh_oci.program, command->name,
				     exact ? "exactly" : "a minimum of", command->min_arguments);
	if (command->max_arguments >= 0 && argc > command->max_arguments)
		return bh_error_text(err, EINVAL, "%s: \"%s\" requires %s %d argument(s)", bh_oci.program, command->name,
				     exact ? "exactly" : "a maximum of", command->max_arguments);
	return 0;
}

static int run_command(const struct bh_command *command, int argc, char **argv)
{
	bh_auto_free void *options = bh_calloc(1, command->options_size + 1);
	struct bh_error err = BH_ERROR_INIT;
	int r, status;

	if (command->preset)
		command->preset(options);
	r = bh_options_parse(command->sets, options, command->stop_at_argument, argc, argv, &argc, &err);
	if (r == -ECANCELED)
		return print_help(command);
	if (r == 0)
		r = check_arguments(command, argc, &err);
	status = r < 0 ? bh_oci_fail(&err, 1) : command->run(options, argc, argv);
	if (command->clear)
		command->clear(options);
	bh_options_clear(command->sets, options);
	return fflush(stdout) != 0 && status == 0 ? 1 : status;
}

static int open_log(const struct global_options *global, struct bh_error *err)
{
	log_json = bh_streq(global->log_format, "json");
	if (!global->log || !*global->log)
		return 0;
	log_fd = open(global->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return log_fd < 0 ? bh_error_set(err, errno, "open the log %s", global->log) : 0;
}

/* As runc: root in a user namespace (podman's) is an ordinary user, unless it says that it is root. */
static bool is_users_own(void)
{
	const char *user = getenv("USER");

	return geteuid() != 0 || (bh_in_user_namespace() && !bh_streq(user, "root"));
}

/* Lives as long as the process. */
static const char *default_root(void)
{
	const char *runtime_dir = getenv("XDG_RUNTIME_DIR");

	return runtime_dir && *runtime_dir && is_users_own() ? bh_printf("%s/bulkhead-oci", runtime_dir) : "/run/bulkhead-oci";
}

/* As runc decides about cgroups: systemd gives an ordinary user some; otherwise he and the root of a user namespace have none. */
bool bh_oci_is_rootless(void)
{
	struct stat user;

	if (bh_oci.rootless && !bh_streq(bh_oci.rootless, "auto"))
		return bh_streq(bh_oci.rootless, "true");
	if (bh_oci.systemd_cgroup)
		return false;
	return bh_started_as() != 0 || (stat("/proc/self/ns/user", &user) == 0 && user.st_ino != FIRST_USER_NAMESPACE);
}

static const struct bh_command *find_command(const char *name)
{
	for (const struct bh_command *const *c = bh_oci_commands; *c; c++)
		if (bh_streq((*c)->name, name))
			return *c;
	return NULL;
}

int bh_oci_main(int argc, char **argv)
{
	struct global_options global = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	const struct bh_command *command;
	int r;

	bh_oci.program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	r = bh_options_parse(global_sets, &global, true, argc - 1, argv + 1, &argc, &err);
	argv++;
	if (r == -ECANCELED || (r == 0 && !global.version && (argc == 0 || bh_streq(argv[0], "help")))) {
		print_overview();
		return 0;
	}
	if (r == 0)
		r = open_log(&global, &err);
	if (r < 0)
		return bh_oci_fail(&err, 1);
	if (global.version) {
		printf("%s version %s\ncommit: %s\nspec: " BH_SPEC_VERSION "\n" ABILITIES "\n", bh_oci.program, BH_VERSION, BH_VERSION);
		return 0;
	}
	bh_log_set_sink(log_line);
	if (global.debug) {
		bh_log_set_level(BH_LOG_DEBUG);
		bh_explain_enable(BH_EXPLAIN_LOG, log_fd >= 0 ? log_fd : STDERR_FILENO);
	}
	bh_oci.root = global.root && *global.root ? global.root : default_root();
	bh_oci.systemd_cgroup = global.systemd_cgroup || bh_streq(global.cgroup_manager, "systemd");
	bh_oci.isolation = global.isolation;
	bh_oci.no_cgroup = bh_streq(global.cgroup_manager, "disabled");
	bh_oci.criu = global.criu && *global.criu ? global.criu : "criu";
	bh_oci.rootless = global.rootless;
	command = find_command(argv[0]);
	if (!command) {
		bh_error_text(&err, EINVAL, "No help topic for '%.100s': it is no command; see '%s --help'", argv[0], bh_oci.program);
		return bh_oci_fail(&err, 1);
	}
	return run_command(command, argc - 1, argv + 1);
}
