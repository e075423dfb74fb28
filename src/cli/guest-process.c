/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-process: what this program does inside a microVM, for the agent (src/guest/agent.c): makes one process by the container
 * driver, as on a host, tells the agent its pid or why there is none, and ends.
 *
 * `start` first puts the root file system together: the image's disk, read-only, and over it the writable disk, or a tmpfs
 * where there is none. Or it is a folder of the host: the first one that is shared. The request is the JSON that src/microvm/request.c has written on the host.
 */
#include "agent/message.h"
#include "base/file.h"
#include "cli/cli.h"
#include "cli/containers.h"
#include "container/container.h"
#include "linux/credentials.h"
#include "linux/inet.h"
#include "linux/mount.h"
#include "linux/path.h"
#include "linux/syscall.h"
#include "oci/json.h"
#include "runtime/runtime.h"
#include "storage/transfer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define CGROUP "/workload"
#define INIT "/bulkhead-guest"
#define FILES_MAX 8
#define MEMINFO_MAX 16384
#define MEMORY_RESERVE (12 << 20) /* bytes, at least, for the kernel and the agent */

struct job {
	json_object *request;
	struct bh_spec spec;
	struct bh_container_stdio stdio;
	int root_fd;
};

static int read_request(struct job *job, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	const char *config;
	int r = bh_read_fd(BH_AGENT_REQUEST_FD, BH_AGENT_REQUEST_MAX, &text);

	close(BH_AGENT_REQUEST_FD);
	if (r < 0)
		return bh_error_set(err, -r, "read the request");
	job->request = json_tokener_parse(text.data);
	if (!json_object_is_type(bh_json_at(job->request, "config"), json_type_object))
		return bh_error_text(err, EINVAL, "the request has no configuration");
	config = json_object_to_json_string_ext(bh_json_at(job->request, "config"), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	return bh_spec_parse(config, strlen(config), &job->spec, err);
}

static int take_stream(int number)
{
	int fd = fcntl(BH_AGENT_STDIN_FD + number, F_DUPFD_CLOEXEC, 10);

	close(BH_AGENT_STDIN_FD + number);
	return fd;
}

/* --- the root file system ------------------------------------------------------------------------------------------- */

/* The disk with this serial, as the host has named it. */
static int find_disk(const char *serial, char **ret_device)
{
	bh_auto_closedir DIR *dir = opendir("/sys/block");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		bh_auto_free char *path = bh_printf("/sys/block/%s/serial", entry->d_name);
		bh_auto_buf struct bh_buf text = { 0 };

		if (!bh_has_prefix(entry->d_name, "vd") || bh_read_file_at(AT_FDCWD, path, 64, &text, NULL) < 0 || !text.length)
			continue;
		text.data[strcspn(text.data, "\n")] = '\0';
		if (!bh_streq(text.data, serial))
			continue;
		*ret_device = bh_printf("/dev/%s", entry->d_name);
		return 0;
	}
	return -ENOENT;
}

static int mount_image(const struct job *job, struct bh_error *err)
{
	const char *type = bh_json_text(job->request, "image", "erofs");
	bh_auto_free char *device = NULL;

	if (find_disk("image", &device) < 0)
		return bh_error_text(err, ENODEV, "the image's disk is missing");
	mkdir(BH_AGENT_IMAGE, 0700);
	if (mount(device, BH_AGENT_IMAGE, type, MS_RDONLY | MS_NODEV, NULL) < 0)
		return bh_error_set(err, errno, "mount the image's disk (%s)", type);
	return 0;
}

static int mount_writable(struct bh_error *err)
{
	bh_auto_free char *device = NULL;
	int r;

	mkdir(BH_AGENT_WRITABLE, 0700);
	if (find_disk("writable", &device) == 0)
		r = mount(device, BH_AGENT_WRITABLE, "ext4", MS_NODEV, "noinit_itable");
	else
		r = mount("tmpfs", BH_AGENT_WRITABLE, "tmpfs", MS_NODEV, "mode=755");
	if (r < 0)
		return bh_error_set(err, errno, "mount the writable disk");
	mkdir(BH_AGENT_WRITABLE "/upper", 0755);
	mkdir(BH_AGENT_WRITABLE "/work", 0755);
	return 0;
}

static int mount_root(struct job *job, struct bh_error *err)
{
	struct bh_mount_options options = { 0 };
	int r;

	if (bh_streq(bh_json_text(job->request, "image", ""), "shared")) {
		job->root_fd = r = bh_mount_copy(AT_FDCWD, BH_AGENT_SHARES "/0", false, err);
		return r < 0 ? bh_error_prefix(err, "root file system") : 0;
	}
	r = mount_image(job, err);
	if (r == 0)
		r = mount_writable(err);
	if (r < 0)
		return r;
	bh_strv_add(&options.data, "lowerdir=" BH_AGENT_IMAGE);
	bh_strv_add(&options.data, "upperdir=" BH_AGENT_WRITABLE "/upper");
	bh_strv_add(&options.data, "workdir=" BH_AGENT_WRITABLE "/work");
	job->root_fd = r = bh_mount_new("overlay", "overlay", &options, err);
	bh_mount_options_clear(&options);
	return r < 0 ? bh_error_prefix(err, "root file system") : 0;
}

/* Docker makes a missing one. */
static int make_working_dir(const struct job *job, struct bh_error *err)
{
	const char *cwd = job->spec.process.cwd;
	int fd = bh_streq(cwd, "/") ? -1 : bh_make_in_root(job->root_fd, cwd, BH_NODE_DIRECTORY, err);

	if (fd < 0)
		return bh_streq(cwd, "/") ? 0 : bh_error_prefix(err, "working directory %s", cwd);
	close(fd);
	return 0;
}

static int resolve_user(struct job *job, struct bh_error *err)
{
	bh_auto_strv struct bh_strv groups = { 0 };
	bh_auto_free char *home = NULL;
	const char *user = bh_json_text(job->request, "user", NULL);
	int r;

	if (!user) /* the configuration has it in numbers */
		return 0;
	bh_json_strv(job->request, "groups", &groups);
	r = bh_container_resolve_user(job->root_fd, user, &groups, &job->spec.process, &home, err);
	if (r == 0 && home && !bh_env_get(&job->spec.process.env, "HOME")) {
		bh_auto_free char *pair = bh_printf("HOME=%s", home);

		bh_env_set(&job->spec.process.env, pair);
	}
	return r;
}

/* --- the process ---------------------------------------------------------------------------------------------------- */

static size_t collect_files(const struct job *job, struct bh_container_file files[FILES_MAX])
{
	json_object *list = bh_json_at(job->request, "files");
	size_t count = json_object_is_type(list, json_type_array) ? BH_MIN(json_object_array_length(list), (size_t)FILES_MAX) : 0;

	for (size_t i = 0; i < count; i++) {
		json_object *file = json_object_array_get_idx(list, i);
		const char *content = bh_json_text(file, "content", "");

		files[i] = (struct bh_container_file){ bh_json_text(file, "target", ""), content, strlen(content) };
	}
	return count;
}

static int record_pid(pid_t pid, struct bh_error *err)
{
	char text[16];
	int length = snprintf(text, sizeof text, "%d", (int)pid);

	return bh_write_file_at(AT_FDCWD, BH_AGENT_PID_FILE, text, (size_t)length, 0600, 0, err);
}

/* Where the machine has virtio-fs; else the agent has mounted them. */
static int mount_shares(const struct job *job, struct bh_error *err)
{
	int64_t count = bh_json_int(job->request, "virtio_shares", 0);

	if (count > BH_AGENT_SHARES_MAX)
		return bh_error_text(err, E2BIG, "more than %u shared folders", BH_AGENT_SHARES_MAX);
	mkdir(BH_AGENT_SHARES, 0700);
	for (int64_t i = 0; i < count; i++) {
		bh_auto_free char *tag = bh_printf("share%lld", (long long)i), *path = bh_printf(BH_AGENT_SHARES "/%lld", (long long)i);

		mkdir(path, 0700);
		if (mount(tag, path, "virtiofs", MS_NODEV, NULL) < 0)
			return bh_error_set(err, errno, "mount the shared folder %lld", (long long)i);
	}
	return 0;
}

/* A hog shall meet a limit of its own and be killed there: where the whole machine runs out of memory its kernel can be busy for minutes with what is
 * left. So the workload has no more than what is free now, less a sixteenth. */
static int leave_memory(struct job *job, struct bh_error *err)
{
	struct bh_opt_i64 *limit = &job->spec.resources.memory.limit;
	bh_auto_buf struct bh_buf text = { 0 };
	const char *line;
	int64_t free_kib, most;
	int r = bh_read_file_at(AT_FDCWD, "/proc/meminfo", MEMINFO_MAX, &text, err);

	if (r < 0)
		return r;
	line = strstr(text.data, "MemAvailable:");
	free_kib = line ? strtoll(line + strlen("MemAvailable:"), NULL, 10) : 0;
	if (free_kib <= 0)
		return bh_error_text(err, EINVAL, "/proc/meminfo doesn't tell how much memory is free");
	most = (free_kib << 10) - BH_MAX(free_kib << 6, (int64_t)MEMORY_RESERVE);
	if (most > 0 && (!limit->set || limit->value < 0 || limit->value > most))
		*limit = (struct bh_opt_i64)BH_SOME(most);
	return 0;
}

static int start(struct job *job, struct bh_container_process *ret_process, struct bh_error *err)
{
	struct bh_compartment compartment = BH_COMPARTMENT_INIT;
	struct bh_container_file files[FILES_MAX];
	struct bh_container_create request = {
		.spec = &job->spec,
		.files = files,
		.file_count = collect_files(job, files),
		.stdio = &job->stdio,
		.id = bh_json_text(job->request, "id", ""),
		.init_path = bh_json_bool(job->request, "init", false) ? INIT : NULL,
	};
	int r = mount_shares(job, err);

	if (r == 0)
		r = mount_root(job, err);
	if (r == 0 && bh_json_at(job->request, "network"))
		r = bh_inet_configure("eth0", bh_json_text(job->request, "network.address", NULL),
				      bh_json_text(job->request, "network.gateway", NULL), err);
	if (r == 0)
		r = resolve_user(job, err);
	if (r == 0)
		r = make_working_dir(job, err);
	if (r == 0)
		r = leave_memory(job, err);
	request.rootfs.mount_fd = job->root_fd;
	if (r == 0)
		r = bh_isolation_container.run(BH_PLACE(CGROUP), &request, &compartment, err);
	if (r == 0)
		r = record_pid(compartment.process.pid, err);
	*ret_process = compartment.process;
	return r;
}

static int read_pid(pid_t *ret_pid, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int64_t pid = 0;
	int r = bh_read_file_at(AT_FDCWD, BH_AGENT_PID_FILE, 16, &text, err);

	if (r == 0 && bh_parse_int(text.data, 1, INT32_MAX, &pid) < 0)
		r = bh_error_text(err, EINVAL, "no pid is on record");
	if (r == 0)
		*ret_pid = (pid_t)pid;
	return r;
}

static int open_root(struct job *job, pid_t pid, struct bh_error *err)
{
	bh_auto_free char *root = bh_printf("/proc/%d/root", (int)pid);

	job->root_fd = bh_open_dir(AT_FDCWD, root, O_PATH, err);
	return BH_MIN(job->root_fd, 0);
}

static int further(struct job *job, struct bh_container_process *ret_process, struct bh_error *err)
{
	struct bh_container_exec request = {
		.spec = &job->spec,
		.process = &job->spec.process,
		.stdio = &job->stdio,
		.id = bh_json_text(job->request, "id", ""),
		.privileged = bh_json_bool(job->request, "privileged", false),
	};
	int r = read_pid(&request.init_pid, err);

	if (r < 0)
		return r;
	request.init_pidfd = bh_pidfd_open(request.init_pid);
	if (request.init_pidfd < 0)
		return bh_error_text(err, ESRCH, "the container is not running");
	r = open_root(job, request.init_pid, err);
	if (r == 0)
		r = resolve_user(job, err);
	return r < 0 ? r : bh_isolation_container.exec(BH_PLACE(CGROUP), &request, ret_process, err);
}

/* `top`: this process itself is the one that the agent waits for. */
static int list(struct job *job, struct bh_container_process *ret_process, struct bh_error *err)
{
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	int r = bh_isolation_container.pids(BH_PLACE(CGROUP), &pids, &count, err);

	if (r < 0)
		return r;
	ret_process->pid = getpid();
	if (job->stdio.stdout_fd >= 0 && dup2(job->stdio.stdout_fd, STDOUT_FILENO) < 0)
		return bh_error_set(err, errno, "write the list");
	bh_cli_print_processes(pids, count);
	return 0;
}

/* Those of the container as its first process sees them. */
static int open_running_files(struct job *job, struct bh_error *err)
{
	pid_t pid = 0;
	int r = read_pid(&pid, err);

	return r < 0 ? r : open_root(job, pid, err);
}

/* Those of a container that nobody has started in this machine. */
static int mount_files(struct job *job, bool readonly, struct bh_error *err)
{
	int r = mount_shares(job, err);

	if (r == 0)
		r = mount_root(job, err);
	return r < 0 ? r : bh_container_mount_files(&job->spec, job->root_fd, -1, readonly, err);
}

/* `cp` */
static int transfer(struct job *job, bool is_workload, struct bh_error *err)
{
	const struct bh_transfer_request request = {
		.path = bh_json_text(job->request, "transfer.path", "/"),
		.is_unpack = bh_json_bool(job->request, "transfer.unpack", false),
		.follow_link = bh_json_bool(job->request, "transfer.follow_link", false),
		.is_foreign = bh_json_bool(job->request, "transfer.foreign", false),
		.keep_owners = bh_json_bool(job->request, "transfer.keep_owners", false),
	};
	int r = is_workload ? mount_files(job, !request.is_unpack, err) : open_running_files(job, err);

	if (r == 0)
		r = bh_capabilities_keep_for_files(err);
	signal(SIGPIPE, SIG_IGN);
	return r < 0 ? r : bh_transfer_serve(&request, job->root_fd, false, job->stdio.stdin_fd, job->stdio.stdout_fd, err);
}

static int tell(const struct bh_agent_result *result, int terminal_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec part = { (void *)result, sizeof *result };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (terminal_fd >= 0) {
		struct cmsghdr *c = &control.align;

		message.msg_control = control.bytes;
		message.msg_controllen = sizeof control.bytes;
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof terminal_fd) };
		memcpy(CMSG_DATA(c), &terminal_fd, sizeof terminal_fd);
	}
	return sendmsg(BH_AGENT_RESULT_FD, &message, MSG_NOSIGNAL) < 0;
}

/* The host waits for this process's beginning before it sends anything, so that is told first. */
static int serve_transfer(struct job *job, bool is_workload)
{
	const struct bh_agent_result result = { .pid = getpid() };
	struct bh_error err = BH_ERROR_INIT;

	if (tell(&result, -1))
		return BH_EXIT_ENGINE;
	if (transfer(job, is_workload, &err) == 0)
		return 0;
	bh_write_all(job->stdio.stderr_fd, err.message, strlen(err.message));
	return BH_EXIT_FAILURE;
}

static int guest_process_main(void *options, int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*make)(struct job *job, struct bh_container_process *ret_process, struct bh_error *err);
	} kinds[] = { { "start", start }, { "exec", further }, { "list", list } };
	struct job job = { .root_fd = -1 };
	struct bh_container_process process = { .pid = -1, .pidfd = -1, .sync_fd = -1 };
	struct bh_agent_result result = { .pid = 0 };
	struct bh_error err = BH_ERROR_INIT;
	int r;

	(void)options, (void)argc;
	if (fcntl(BH_AGENT_RESULT_FD, F_SETFD, FD_CLOEXEC) < 0) {
		bh_error_text(&err, EINVAL, "guest-process: a part of bulkhead, not to be started by hand");
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	}
	job.stdio = (struct bh_container_stdio){ take_stream(0), take_stream(1), take_stream(2), -1, false };
	r = read_request(&job, &err);
	if (r == 0 && bh_json_at(job.request, "transfer"))
		return serve_transfer(&job, bh_streq(argv[0], "start"));
	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(kinds); i++)
		if (bh_streq(argv[0], kinds[i].name))
			r = kinds[i].make(&job, &process, &err);
	if (r == 0) {
		result.pid = process.pid;
		return tell(&result, job.spec.process.terminal ? job.stdio.ret_terminal_fd : -1);
	}
	result.failure = (struct bh_agent_failure){ .errnum = err.errnum, .exit_code = err.exit_code, .of_workload = err.of_workload };
	snprintf(result.failure.text, sizeof result.failure.text, "%s", err.message);
	tell(&result, -1);
	return BH_EXIT_ENGINE;
}

const struct bh_command bh_command_guest_process = {
	.name = "guest-process",
	.group = "Internal",
	.synopsis = "start|exec|list|transfer",
	.summary = "Make a process inside a microVM",
	.hidden = true,
	.min_arguments = 1,
	.max_arguments = 1,
	.run = guest_process_main,
};
