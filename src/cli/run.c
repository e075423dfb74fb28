/* SPDX-License-Identifier: Apache-2.0 */
/* run, create: the option table of a new container, and the foreground life of one. */
#include "cli/cli.h"
#include "cli/containers.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#define FIELD(name) offsetof(struct bh_create_options, name)
#define ON(short_name, name, field, help)                                               \
	{                                                                               \
		short_name, name, BH_OPTION_BOOL, FIELD(field), NULL, help, NULL, false \
	}
#define TEXT(short_name, name, field, argument, help)                                         \
	{                                                                                     \
		short_name, name, BH_OPTION_STRING, FIELD(field), argument, help, NULL, false \
	}
#define LIST(short_name, name, field, argument, help)                                       \
	{                                                                                   \
		short_name, name, BH_OPTION_LIST, FIELD(field), argument, help, NULL, false \
	}
#define OTHER(short_name, name, type, field, argument, help)                                  \
	{                                                                                     \
		short_name, name, BH_OPTION_##type, FIELD(field), argument, help, NULL, false \
	}

static const struct bh_option container_options[] = {
	LIST('a', "attach", attach, "STREAM", "Attach to STDIN, STDOUT or STDERR"),
	LIST(0, "add-host", add_host, "HOST:IP", "Add a line to /etc/hosts"),
	LIST(0, "annotation", annotation, "KEY=VALUE", "Add an annotation to the OCI configuration"),
	OTHER(0, "blkio-weight", INT, blkio_weight, "WEIGHT", "Block I/O weight, 10 to 1000 (0 = unset)"),
	LIST(0, "blkio-weight-device", blkio_weight_device, "PATH:WEIGHT", "Block I/O weight for one device"),
	LIST(0, "cap-add", cap_add, "CAP", "Add a Linux capability (ALL for all)"),
	LIST(0, "cap-drop", cap_drop, "CAP", "Drop a Linux capability (ALL for all)"),
	{ 0, "cgroupns", BH_OPTION_STRING, FIELD(cgroupns), "MODE", "Cgroup namespace: private or host", "private|host", false },
	TEXT(0, "cidfile", cidfile, "FILE", "Write the container ID to the file"),
	OTHER(0, "cpu-period", INT, cpu_period, "MICROSECONDS", "CFS period"),
	OTHER(0, "cpu-quota", INT, cpu_quota, "MICROSECONDS", "CFS quota"),
	OTHER('c', "cpu-shares", INT, cpu_shares, "SHARES", "CPU shares (relative weight)"),
	OTHER(0, "cpus", NANO, cpus_nano, "CPUS", "Number of CPUs, with decimals"),
	TEXT(0, "cpuset-cpus", cpuset_cpus, "LIST", "CPUs to run on (0-3, 0,1)"),
	TEXT(0, "cpuset-mems", cpuset_mems, "LIST", "Memory nodes to use (0-3, 0,1)"),
	LIST(0, "device", device, "HOST[:PATH[:rwm]]", "Add a host device"),
	LIST(0, "device-cgroup-rule", device_cgroup_rule, "RULE", "Add a rule to the list of allowed devices ('c 1:3 rwm')"),
	LIST(0, "device-read-bps", device_read_bps, "PATH:RATE", "Limit bytes read per second from a device"),
	LIST(0, "device-read-iops", device_read_iops, "PATH:RATE", "Limit reads per second from a device"),
	LIST(0, "device-write-bps", device_write_bps, "PATH:RATE", "Limit bytes written per second to a device"),
	LIST(0, "device-write-iops", device_write_iops, "PATH:RATE", "Limit writes per second to a device"),
	LIST(0, "dns", dns, "ADDRESS", "Name servers"),
	LIST(0, "dns-option", dns_option, "OPTION", "Resolver options"),
	LIST(0, "dns-search", dns_search, "DOMAIN", "Search domains"),
	TEXT(0, "domainname", domainname, "NAME", "NIS domain name"),
	TEXT(0, "entrypoint", entrypoint, "COMMAND", "Replace the image's entry point"),
	LIST('e', "env", env, "KEY[=VALUE]", "Set an environment variable"),
	LIST(0, "env-file", env_file, "FILE", "Read environment variables from a file"),
	LIST(0, "gidmap", gidmap, "INSIDE:HOST:SIZE", "Group id map of a user namespace"),
	LIST(0, "group-add", group_add, "GROUP", "Additional groups"),
	TEXT(0, "health-cmd", health_cmd, "COMMAND", "Command that checks health"),
	OTHER(0, "health-interval", DURATION, health_interval_ns, "DURATION", "Time between two checks (default 30s)"),
	OTHER(0, "health-retries", INT, health_retries, "N", "Failures in a row that mean unhealthy (default 3)"),
	OTHER(0, "health-start-period", DURATION, health_start_period_ns, "DURATION", "Time in which failures don't count"),
	OTHER(0, "health-timeout", DURATION, health_timeout_ns, "DURATION", "Time limit of one check (default 30s)"),
	TEXT('h', "hostname", hostname, "NAME", "Host name inside"),
	LIST(0, "hugetlb-limit", hugetlb_limit, "PAGESIZE:BYTES", "Limit huge pages (2MB:64m)"),
	ON(0, "init", init, "Run an init as pid 1 that forwards signals and reaps processes"),
	ON('i', "interactive", interactive, "Keep STDIN open"),
	TEXT(0, "ipc", ipc, "MODE", "IPC namespace: private, host or container:NAME"),
	{ 0, "isolation", BH_OPTION_STRING, FIELD(isolation), "TECHNOLOGY", "container, or vm: a microVM with a kernel of its own", "container|vm",
	  false },
	{ 0, "accel", BH_OPTION_STRING, FIELD(accelerator), "NAME", "What runs a microVM: kvm, tcg (QEMU's software CPU) or auto", "auto|kvm|tcg",
	  false },
	TEXT(0, "kernel", kernel, "FILE", "A microVM's kernel (default: see 'vm kernel')"),
	LIST('l', "label", label, "KEY=VALUE", "Set a label"),
	LIST(0, "label-file", label_file, "FILE", "Read labels from a file"),
	{ 0, "log-driver", BH_OPTION_STRING, FIELD(log_driver), "DRIVER", "Log driver: json-file or none", NULL, false },
	LIST(0, "log-opt", log_opt, "KEY=VALUE", "Log option: max-size, max-file"),
	OTHER('m', "memory", BYTES, memory, "BYTES", "Memory limit"),
	OTHER(0, "memory-reservation", BYTES, memory_reservation, "BYTES", "Soft memory limit"),
	OTHER(0, "memory-swap", BYTES, memory_swap, "BYTES", "Memory plus swap; -1 for unlimited swap"),
	OTHER(0, "memory-swappiness", INT, memory_swappiness, "N", "Swappiness, 0 to 100"),
	LIST(0, "mount", mount, "MOUNT", "Attach a mount: type=bind|volume|tmpfs,src=...,dst=...,readonly"),
	TEXT(0, "name", name, "NAME", "Name of the container"),
	TEXT(0, "network", network, "MODE",
	     "Network: none, host or container:NAME; of a microVM none or tap[:NAME][,bridge=NAME][,ip=ADDRESS/BITS][,gateway=ADDRESS]"),
	{ 0, "net", BH_OPTION_STRING, FIELD(network), "MODE", "Same as --network", NULL, true },
	ON(0, "no-healthcheck", no_healthcheck, "Ignore the image's health check"),
	ON(0, "oom-kill-disable", oom_kill_disable, "Disable the OOM killer for it"),
	OTHER(0, "oom-score-adj", INT, oom_score_adj, "N", "The host's OOM preference, -1000 to 1000"),
	TEXT(0, "pid", pid, "MODE", "PID namespace: host or container:NAME"),
	OTHER(0, "pids-limit", INT, pids_limit, "N", "Limit of processes; -1 for unlimited"),
	TEXT(0, "platform", platform, "PLATFORM", "Platform, as os/arch"),
	ON(0, "privileged", privileged, "Give all capabilities and all devices"),
	{ 0, "pull", BH_OPTION_STRING, FIELD(pull), "WHEN", "Pull the image before: missing or never", "missing|never|always", false },
	ON(0, "read-only", read_only, "Mount the root file system read-only"),
	TEXT(0, "restart", restart, "POLICY", "no, on-failure[:N], always, unless-stopped"),
	ON(0, "restart-fresh", restart_fresh, "Every restart begins with the image's file system again"),
	ON(0, "rm", remove, "Remove the container when it exits"),
	LIST(0, "security-opt", security_opt, "OPTION", "no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined, mask=, unmask="),
	OTHER(0, "shm-size", BYTES, shm_size, "BYTES", "Size of /dev/shm (default 64m)"),
	TEXT(0, "stop-signal", stop_signal, "SIGNAL", "Signal that stops it (default SIGTERM)"),
	OTHER(0, "stop-timeout", INT, stop_timeout, "SECONDS", "Time to stop before it is killed (default 10)"),
	LIST(0, "sysctl", sysctl, "NAME=VALUE", "Set a namespaced kernel parameter"),
	TEXT(0, "time-offset", time_offset, "OFFSETS", "Own time namespace: monotonic=SECONDS,boottime=SECONDS"),
	LIST(0, "tmpfs", tmpfs, "PATH[:OPTIONS]", "Mount a tmpfs"),
	ON('t', "tty", tty, "Allocate a terminal"),
	LIST(0, "uidmap", uidmap, "INSIDE:HOST:SIZE", "User id map of a user namespace"),
	LIST(0, "ulimit", ulimit, "TYPE=SOFT[:HARD]", "Resource limit (nofile=1024:2048)"),
	TEXT('u', "user", user, "USER[:GROUP]", "User name or id"),
	TEXT(0, "userns", userns, "MODE", "User namespace: host, auto[:size=N], private"),
	TEXT(0, "uts", uts, "MODE", "UTS namespace: host"),
	LIST('v', "volume", volume, "[SOURCE:]PATH[:MODES]", "Bind a folder or a named volume"),
	TEXT('w', "workdir", workdir, "FOLDER", "Working directory inside"),
	{ 0, "explain", BH_OPTION_OPTIONAL, FIELD(explain), "[=json]", "Tell each real step of the isolation on stderr", NULL, false },
	{ 0 },
};

static const struct bh_option run_options[] = {
	ON('d', "detach", detach, "Run in the background and print the container ID"),
	TEXT(0, "detach-keys", detach_keys, "KEYS", "Keys that detach (default ctrl-p,ctrl-q)"),
	ON(0, "sig-proxy", sig_proxy, "Pass received signals to the process (default true)"),
	{ 0 },
};

static void preset(void *options)
{
	bh_create_options_preset(options);
}

int bh_cli_enable_explain(const char *mode, struct bh_error *err)
{
	if (!mode)
		return 0;
	if (*mode && !bh_streq(mode, "text") && !bh_streq(mode, "json"))
		return bh_error_text(err, EINVAL, "invalid argument \"%s\" for \"--explain\" flag: must be text or json", mode);
	bh_explain_enable(bh_streq(mode, "json") ? BH_EXPLAIN_JSON : BH_EXPLAIN_TEXT, STDERR_FILENO);
	return 0;
}

static int check_attach(const struct bh_create_options *o, struct bh_error *err)
{
	for (size_t i = 0; i < o->attach.count; i++) {
		const char *name = o->attach.items[i];

		if (strcasecmp(name, "stdin") && strcasecmp(name, "stdout") && strcasecmp(name, "stderr"))
			return bh_error_text(err, EINVAL,
					     "invalid argument \"%s\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR", name);
	}
	if (o->attach.count && o->detach)
		return bh_error_text(err, EINVAL, "Conflicting options: -a and -d");
	return 0;
}

static bool attaches(const struct bh_create_options *o, const char *stream)
{
	for (size_t i = 0; i < o->attach.count; i++)
		if (strcasecmp(o->attach.items[i], stream) == 0)
			return true;
	return o->attach.count == 0;
}

static int create(struct bh_engine *engine, struct bh_create_options *o, char **argv, struct bh_container *ret_container, struct bh_error *err)
{
	int r = bh_cli_enable_explain(o->explain, err);

	o->image = argv[0];
	o->command = argv + 1;
	if (r == 0)
		r = check_attach(o, err);
	if (r == 0)
		r = bh_engine_open(bh_cli.root, bh_cli.state, engine, err);
	if (r < 0)
		return r;
	r = bh_engine_create(engine, o, ret_container, err);
	if (r < 0)
		bh_engine_close(engine);
	return r;
}

static int create_main(void *options, int argc, char **argv)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_container container;
	struct bh_engine engine;

	(void)argc;
	if (create(&engine, options, argv, &container, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	printf("%s\n", container.id);
	bh_container_clear(&container);
	bh_engine_close(&engine);
	return 0;
}

/* The container has ended and we own its clean-up. */
static int finish(struct bh_engine *engine, struct bh_container *container, pid_t shim, struct bh_error *err)
{
	int r;

	waitpid(shim, NULL, 0); /* it has said its last word; nothing of it stays behind us */
	r = bh_lock_fd(container->dir_fd, true, false);
	if (r < 0)
		return bh_error_set(err, -r, "lock container %s", container->name);
	container->locked = true;
	if (faccessat(container->dir_fd, "container.json", F_OK, 0) < 0)
		return 0; /* somebody removed it meanwhile */
	return bh_engine_finish(engine, container, err);
}

int bh_cli_watch(struct bh_engine *engine, struct bh_container *container, const struct bh_stream *stream, int fd, pid_t shim)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_frame_exit result = { 0 };
	enum bh_stream_end end;

	if (bh_stream_attach(stream, fd, &end, &result, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	if (end == BH_STREAM_DETACHED) {
		dprintf(STDERR_FILENO, "read escape sequence\n");
		return 0;
	}
	if (end == BH_STREAM_LOST) {
		int exit_code = 137;

		if (shim > 0)
			waitpid(shim, NULL, 0);
		bh_container_refresh(engine, container);
		if (container->status == BH_STATUS_EXITED)
			exit_code = container->exit_code;
		if (shim > 0)
			finish(engine, container, shim, &err);
		bh_error_text(&err, EIO, "lost the connection to the shim of container %s (was it killed?)", container->name);
		return bh_cli_fail(&err, exit_code);
	}
	if (shim > 0 && finish(engine, container, shim, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	return result.exit_code == 0 && bh_stream_lost_output() ? BH_EXIT_ENGINE : result.exit_code;
}

static void preset_console_size(struct bh_container *container)
{
	struct bh_spec_process *process = &container->spec->process;

	process->console_size.set = bh_terminal_size(&process->console_size.height, &process->console_size.width);
}

static int start_and_watch(struct bh_engine *engine, struct bh_container *container, const struct bh_create_options *o)
{
	struct bh_stream stream = {
		.input = o->interactive && attaches(o, "stdin"),
		.tty = o->tty,
		.signals = o->sig_proxy,
		.detach_keys = o->detach_keys,
		.pidfd = -1,
		.no_stdout = !attaches(o, "stdout"),
		.no_stderr = !attaches(o, "stderr"),
	};
	struct bh_start start = { .attach = !o->detach, .ret_client_fd = -1 };
	struct bh_error err = BH_ERROR_INIT;
	int status;

	if (o->tty && !o->detach)
		preset_console_size(container);
	if (bh_engine_start(engine, container, &start, &err) < 0) {
		if (o->remove && bh_engine_remove(engine, container, true, true, NULL) < 0)
			bh_warn("the container could not be removed");
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	}
	if (o->detach) {
		printf("%s\n", container->id);
		return 0;
	}
	stream.pid = container->pid;
	stream.pidfd = container->pid ? bh_pidfd_open(container->pid) : -1;
	status = bh_cli_watch(engine, container, &stream, start.ret_client_fd, start.ret_shim_pid);
	bh_close_fd(&stream.pidfd);
	bh_close_fd(&start.ret_client_fd);
	return status;
}

static int run_main(void *options, int argc, char **argv)
{
	struct bh_create_options *o = options;
	struct bh_stream stream = { .input = o->interactive, .tty = o->tty, .detach_keys = o->detach_keys };
	/* Not closed at the end, which is the end of the process: the kernel does it in one go. */
	static struct bh_container container;
	static struct bh_engine engine;
	struct bh_error err = BH_ERROR_INIT;

	(void)argc;
	o->one_shot = true;
	if ((!o->detach && bh_stream_check(&stream, &err) < 0) || create(&engine, o, argv, &container, &err) < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	return start_and_watch(&engine, &container, o);
}

const struct bh_command bh_command_run = {
	.name = "run",
	.group = "Containers",
	.synopsis = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
	.summary = "Create and run a new container from an image",
	.description = "Exit status: that of the command; 125 if Bulkhead itself failed, 126 if the command can't be executed, 127 if it was not "
		       "found, 128+n if it was killed by signal n.",
	.sets = { container_options, run_options },
	.options_size = sizeof(struct bh_create_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.preset = preset,
	.run = run_main,
};

const struct bh_command bh_command_create = {
	.name = "create",
	.group = "Containers",
	.synopsis = "[OPTIONS] IMAGE [COMMAND] [ARG...]",
	.summary = "Create a new container without starting it",
	.sets = { container_options },
	.options_size = sizeof(struct bh_create_options),
	.stop_at_argument = true,
	.min_arguments = 1,
	.max_arguments = -1,
	.preset = preset,
	.run = create_main,
};
