/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a domain: like a container's start (start.c), with the monitor in the place of the first process.
 *
 *	command ── fork ── start stage: state folder, sockets, disks, monitor, run link ── execve ── shim
 *
 * What a stage that is killed leaves is its state folder; the monitor dies with it. The next start, destroy or rm takes that away.
 */
#include "engine/domain-internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/time.h"
#include "linux/process.h"
#include "linux/socket.h"
#include "shim/shim.h"
#include "vmm/inflate.h"
#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_WORDS_MS 5000
#define VSOCK_CID 3 /* each machine has a host of its own: addresses needn't differ */

struct stage {
	struct bh_domain *d;
	const struct bh_domain_start *start;
	int control_fd, listen_fd, kernel_fd, initrd_fd, vsock_fd;
	char *command_line; /* with an image; else the definition has it */
	struct bh_vmm_snapshot snapshot;
	struct bh_vmm_device devices[BH_VMM_DEVICES_MAX];
	size_t device_count;
	struct bh_strv words;
	int stdin_fd, stdout_fd; /* the shim's ends */
	int monitor_stdin, monitor_stdout;
	pid_t pid;
	int pidfd;
	const char *clients;
	int64_t restart_count, backoff_ms;
};

static int make_state_folder(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *path = bh_printf("%s/vms/%s", s->d->state, s->d->name);
	int r = bh_mkdir_all(AT_FDCWD, path, 0700, err);

	if (r < 0)
		return r;
	bh_close_fd(&s->d->state_fd);
	s->d->state_fd = bh_open_dir(AT_FDCWD, path, O_NOFOLLOW, err);
	return s->d->state_fd < 0 ? s->d->state_fd : 0;
}

static int make_sockets(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *control = bh_printf("%s/vms/%s/control.sock", s->d->state, s->d->name);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	unlinkat(s->d->state_fd, "control.sock", 0); /* of the run before a reset */
	s->control_fd = bh_unix_listen(control, err);
	if (s->control_fd < 0)
		return s->control_fd;
	if (s->listen_fd >= 0)
		return 0;
	s->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/attach.sock", s->d->state_fd);
	if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(s->listen_fd, 16) < 0)
		return bh_error_set(err, errno, "listen for the console of %s", s->d->name);
	return 0;
}

static int make_vsock(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *path = bh_domain_vsock_path(s->d);

	unlinkat(s->d->state_fd, "vsock.sock", 0); /* of the run before a reset */
	if (!s->d->definition.cid && !s->d->definition.image.reference)
		return 0;
	s->vsock_fd = bh_unix_listen(path, err);
	return s->vsock_fd < 0 ? s->vsock_fd : 0;
}

static int open_kernel(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/kernels/inflated", s->d->root);
	bh_auto_close int fd = open(s->d->definition.kernel, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return bh_error_set(err, errno, "open the kernel %s", s->d->definition.kernel);
	return s->d->definition.multiboot ? BH_TAKE_FD(fd) : bh_vmm_inflate(fd, folder, err);
}

static int open_what_boots(struct stage *s, struct bh_error *err)
{
	const struct bh_domain_definition *definition = &s->d->definition;

	if (s->start->incoming_fd >= 0)
		return 0;
	if (s->start->snapshot)
		return bh_domain_snapshot_open(s->d, s->start->snapshot, &s->snapshot.state_fd, &s->snapshot.memory_fd, err);
	if (definition->image.reference)
		return bh_domain_image_boot(s->d, &s->kernel_fd, &s->initrd_fd, &s->command_line, err);
	if (!definition->kernel)
		return bh_error_text(err, EINVAL, "the virtual machine %s has no kernel: vm set %s --kernel FILE", s->d->name, s->d->name);
	s->kernel_fd = open_kernel(s, err);
	if (s->kernel_fd < 0)
		return s->kernel_fd;
	s->initrd_fd = definition->initrd ? open(definition->initrd, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
	if (definition->initrd && s->initrd_fd < 0)
		return bh_error_set(err, errno, "open the initial RAM disk %s", definition->initrd);
	return 0;
}

static void add_device(struct stage *s, char *words, const char *key, int fd)
{
	bh_strv_take(&s->words, words);
	s->devices[s->device_count] = (struct bh_vmm_device){ .words = words };
	if (key) {
		s->devices[s->device_count].files[0].key = key;
		s->devices[s->device_count].files[0].fd = fd;
	}
	s->device_count++;
}

static void keep_device(struct stage *s, int result)
{
	if (result == 0)
		bh_strv_take(&s->words, (char *)s->devices[s->device_count++].words);
}

static int add_devices(struct stage *s, struct bh_error *err)
{
	const struct bh_domain_definition *definition = &s->d->definition;
	int r = 0;

	/* Disks, then cards: the order in which domain-devices.c counts them. */
	for (size_t i = 0; r == 0 && i < definition->disk_count; i++) {
		r = bh_domain_disk_device(&definition->disks[i], &s->devices[s->device_count], err);
		keep_device(s, r);
	}
	for (size_t i = 0; r == 0 && i < definition->net_count; i++) {
		r = bh_domain_net_device(&definition->nets[i], &s->devices[s->device_count], err);
		keep_device(s, r);
	}
	if (r == 0)
		add_device(s, bh_strdup("rng"), NULL, -1);
	/* Idle until somebody wants memory back; and what the guest doesn't use is the host's again. */
	if (r == 0 && !definition->multiboot)
		add_device(s, bh_strdup("balloon,pages=0"), NULL, -1);
	if (r == 0 && s->vsock_fd >= 0)
		add_device(s, bh_printf("vsock,cid=%lld", (long long)(definition->cid ? definition->cid : VSOCK_CID)), "listen", s->vsock_fd);
	return r;
}

static int make_streams(struct stage *s, struct bh_error *err)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	s->monitor_stdin = in[0];
	s->stdin_fd = in[1];
	s->stdout_fd = out[0];
	s->monitor_stdout = out[1];
	return 0;
}

/* The monitor takes our standard streams: its messages go to the log of the console. */
static int spawn(struct stage *s, struct bh_error *err)
{
	const struct bh_domain_definition *definition = &s->d->definition;
	const struct bh_vmm_request request = {
		.memory = definition->memory_bytes,
		.cpus = definition->cpus,
		.cpu = definition->cpu,
		.kernel_fd = s->kernel_fd,
		.initrd_fd = s->initrd_fd,
		.initrd_name = definition->initrd,
		.command_line = s->command_line ? s->command_line : definition->append,
		.kernel_name = definition->kernel,
		.boot = definition->multiboot ? "multiboot" : definition->boot,
		.hugetlb = definition->hugepages,
		.pit = definition->multiboot,
		.test_devices = definition->multiboot,
		.reset_status = BH_VMM_RESET_STATUS,
		.snapshots = &s->snapshot,
		.snapshot_count = s->start->snapshot ? 1 : 0,
		.lazy = true,
		.incoming_fd = s->start->incoming_fd,
		.paused = s->start->paused,
		.control_fd = s->control_fd,
		.pluggable = bh_domain_is_pluggable(definition),
		.transport = definition->transport,
		.devices = s->devices,
		.device_count = s->device_count,
		.explain = s->start->explain,
		.streams = (const int[]){ s->monitor_stdin, s->monitor_stdout, s->start->explain ? STDERR_FILENO : s->monitor_stdout },
	};

	return bh_vmm_spawn(&request, &s->pid, &s->pidfd, err);
}

static int write_run(struct stage *s, struct bh_error *err)
{
	uint64_t pid_start = 0, shim_start = 0;
	char text[128];

	bh_process_start_time(s->pid, &pid_start);
	if (bh_process_start_time(getpid(), &shim_start) < 0)
		return bh_error_text(err, ESRCH, "read our own start time");
	snprintf(text, sizeof text, BH_RUN_FORMAT, s->pid, pid_start, getpid(), shim_start, (uint64_t)bh_now_ns(), (uint64_t)s->restart_count);
	unlinkat(s->d->state_fd, "run.new", 0);
	if (symlinkat(text, s->d->state_fd, "run.new") < 0 || renameat(s->d->state_fd, "run.new", s->d->state_fd, "run") < 0)
		return bh_error_set(err, errno, "record the machine's process");
	unlinkat(s->d->dir_fd, "exit.json", 0);
	unlinkat(s->d->state_fd, "restarting", 0);
	if (bh_domain_save_running(s->d, &s->d->definition, err) < 0)
		return -err->errnum;
	if (s->start->paused)
		bh_write_file_at(s->d->state_fd, "paused", "", 0, 0600, 0, NULL);
	else
		unlinkat(s->d->state_fd, "paused", 0);
	return 0;
}

/* The monitor answers at its socket once the machine is made; one that ends before says why on its output. */
static int wait_until_made(struct stage *s, struct bh_error *err)
{
	bh_auto_free char *control = bh_printf("%s/vms/%s/control.sock", s->d->state, s->d->name);
	struct pollfd monitor = { .fd = s->pidfd, .events = POLLIN };
	char words[512];
	ssize_t n;

	if (bh_vm_request(control, "status", NULL, NULL, 0, NULL, err) == 0)
		return 0;
	/* It closes its socket before it has said why. */
	poll(&monitor, 1, LAST_WORDS_MS);
	bh_set_nonblock(s->stdout_fd, true);
	n = read(s->stdout_fd, words, sizeof words - 1);
	if (n > 0) {
		words[n] = '\0';
		words[strcspn(words, "\n")] = '\0';
		return bh_error_text(err, EIO, "%s", bh_has_prefix(words, "bulkhead-vmm: ") ? words + strlen("bulkhead-vmm: ") : words);
	}
	return bh_error_text(err, EIO, "the monitor ended before the machine was made");
}

static int run_stage(struct stage *s, struct bh_error *err)
{
	static int (*const steps[])(struct stage *, struct bh_error *) = {
		make_state_folder, make_sockets, make_vsock, open_what_boots, add_devices, make_streams, spawn,
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(steps); i++)
		r = steps[i](s, err);
	if (r < 0)
		return r;
	/* Only the monitor holds its ends. */
	bh_close_fd(&s->monitor_stdin);
	bh_close_fd(&s->monitor_stdout);
	bh_close_fd(&s->control_fd);
	bh_close_fd(&s->vsock_fd);
	r = wait_until_made(s, err);
	if (r == 0)
		r = write_run(s, err);
	return r;
}

static void add_fd(struct bh_strv *args, const char *key, int fd)
{
	bh_set_cloexec(fd, false);
	bh_strv_addf(args, "%s=%d", key, fd);
}

static void become_shim(struct stage *s)
{
	bh_auto_free char *shim = bh_find_program("bulkhead-shim");
	bh_auto_strv struct bh_strv args = { 0 };
	char *const environment[] = { NULL };
	char engine[PATH_MAX] = { 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (readlink("/proc/self/exe", engine, sizeof engine - 1) < 0)
		_exit(125);
	bh_strv_add(&args, "bulkhead-shim");
	bh_strv_addf(&args, BH_DOMAIN_SHIM_PREFIX "%s", s->d->name);
	bh_strv_addf(&args, "pid=%d", (int)s->pid);
	add_fd(&args, "pidfd", s->pidfd);
	add_fd(&args, "dir", s->d->dir_fd);
	add_fd(&args, "state", s->d->state_fd);
	add_fd(&args, "stdin", s->stdin_fd);
	add_fd(&args, "stdout", s->stdout_fd);
	add_fd(&args, "listen", s->listen_fd);
	if (s->clients)
		bh_strv_addf(&args, "clients=%s", s->clients);
	bh_strv_add(&args, "log=1");
	bh_strv_add(&args, "log-max-size=10485760");
	bh_strv_addf(&args, "started-ns=%lld", (long long)bh_now_ns());
	bh_strv_addf(&args, "started-ms=%lld", (long long)(bh_monotonic_ns() / 1000000));
	bh_strv_addf(&args, "restart=on-code");
	bh_strv_addf(&args, "restart-code=%d", BH_VMM_RESET_STATUS);
	bh_strv_addf(&args, "restart-count=%lld", (long long)s->restart_count);
	bh_strv_addf(&args, "backoff-ms=%lld", (long long)s->backoff_ms);
	bh_strv_addf(&args, "engine=%s", engine);
	bh_strv_addf(&args, "root=%s", s->d->root);
	bh_strv_addf(&args, "state-dir=%s", s->d->state);
	execve(shim, args.items, environment);
	_exit(125);
}

static _Noreturn void stage_main(struct stage *s, int report_fd)
{
	struct bh_error err = BH_ERROR_INIT;

	if (run_stage(s, &err) == 0) {
		if (report_fd >= 0)
			close(report_fd);
		bh_domain_unlock(s->d);
		become_shim(s);
	}
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	bh_domain_finish(s->d, NULL);
	if (report_fd >= 0)
		(void)!write(report_fd, &err, sizeof err);
	_exit(125);
}

static struct stage new_stage(struct bh_domain *d, const struct bh_domain_start *start)
{
	return (struct stage){
		.d = d,
		.start = start,
		.control_fd = -1,
		.listen_fd = -1,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.vsock_fd = -1,
		.stdin_fd = -1,
		.stdout_fd = -1,
		.monitor_stdin = -1,
		.monitor_stdout = -1,
		.pidfd = -1,
	};
}

int bh_domain_start(struct bh_domain *d, const struct bh_domain_start *start, struct bh_error *err)
{
	struct bh_error failure;
	int report[2];
	ssize_t n;
	pid_t pid;

	if (d->status != BH_DOMAIN_SHUT_OFF)
		return bh_error_text(err, EBUSY, "the virtual machine %s runs already", d->name);
	bh_domain_finish(d, NULL);
	if (pipe2(report, O_CLOEXEC) < 0)
		return bh_error_set(err, errno, "pipe");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return bh_error_set(err, errno, "fork");
	if (pid == 0) {
		struct stage stage = new_stage(d, start);

		setsid(); /* a Ctrl-C at our terminal is not for the machine */
		prctl(PR_SET_DUMPABLE, 0);
		close(report[0]);
		stage_main(&stage, report[1]);
	}
	close(report[1]);
	do
		n = read(report[0], &failure, sizeof failure);
	while (n < 0 && errno == EINTR);
	close(report[0]);
	/* The lock is one with the stage's, which has ended it before it became the shim. */
	d->locked = false;
	if (n == (ssize_t)sizeof failure) {
		waitpid(pid, NULL, 0);
		failure.message[sizeof failure.message - 1] = '\0';
		*err = failure;
		return failure.errnum ? -failure.errnum : -EIO;
	}
	bh_domain_refresh(d);
	return d->status == BH_DOMAIN_SHUT_OFF ? bh_error_text(err, EIO, "the start of %s ended without a word (killed?)", d->name) : 0;
}

_Noreturn void bh_domain_restart(const char *root, const char *state, const char *name, const struct bh_restart_handover *handover)
{
	static const struct bh_domain_start start = { .incoming_fd = -1 };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_domain d;
	struct stage stage;

	if (bh_domain_open(root, state, name, true, &d, &err) < 0 || d.state_fd < 0 || faccessat(d.state_fd, "stopping", F_OK, 0) == 0)
		_exit(0);
	stage = new_stage(&d, &start);
	stage.listen_fd = handover->listen_fd;
	if (stage.listen_fd >= 0)
		bh_set_cloexec(stage.listen_fd, true);
	stage.clients = handover->clients;
	stage.restart_count = handover->restart_count;
	stage.backoff_ms = handover->backoff_ms;
	stage_main(&stage, -1);
}
