/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/spawn.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/string.h"
#include "linux/namespace.h"
#include "linux/process.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A user of the host that no account has and no other monitor is: pids are unique while they live. */
#define UID_BASE 0x70000000u

#define FIRST_FD 3
#define FDS_MAX (7 + 2 * BH_VMM_SNAPSHOTS_MAX + BH_VMM_DEVICES_MAX * BH_VMM_DEVICE_FILES_MAX)

struct spawn {
	const struct bh_vmm_request *request;
	int program_fd, kvm_fd, userfault_fd;
	int fds[FDS_MAX]; /* ours: the first will be FIRST_FD there, and so on */
	int fd_count;
	int gate[2]; /* the child waits at [1] for its maps */
};

static void add(struct bh_strv *args, const char *name, int64_t value)
{
	bh_strv_addf(args, "--%s=%lld", name, (long long)value);
}

/* Its number there. */
static int give(struct spawn *s, int fd)
{
	s->fds[s->fd_count] = fd;
	return FIRST_FD + s->fd_count++;
}

static void add_device(struct spawn *s, const struct bh_vmm_device *device, struct bh_strv *args)
{
	bh_auto_buf struct bh_buf words = { 0 };

	bh_buf_addf(&words, "--device=%s", device->words);
	for (size_t i = 0; i < BH_VMM_DEVICE_FILES_MAX && device->files[i].key; i++)
		bh_buf_addf(&words, ",%s=%d", device->files[i].key, give(s, device->files[i].fd));
	bh_strv_add(args, words.data);
}

static bool begins_with_word(const char *line, const char *word, size_t length)
{
	return strncmp(line, word, length) == 0 && (line[length] == '\0' || line[length] == ' ');
}

/*
 * A multiboot kernel takes the first word for its own name, as loaders put it there: GRUB's first version, and QEMU for the guests that are
 * written for it. Who gives that word himself (with the name's ending, or without) gets his line as it is.
 */
static void add_multiboot_line(const char *kernel_name, const char *line, struct bh_strv *args)
{
	const char *slash = strrchr(kernel_name, '/'), *dot;
	bh_auto_free char *name = bh_strdup(slash ? slash + 1 : kernel_name);

	dot = strrchr(name, '.');
	/* One word it has to be. */
	for (char *c = name; *c; c++)
		if (*c == ' ' || *c == '\t')
			*c = '_';
	if (begins_with_word(line, name, strlen(name)) || (dot && dot > name && begins_with_word(line, name, (size_t)(dot - name))))
		bh_strv_addf(args, "--command-line=%s", line);
	else
		bh_strv_addf(args, "--command-line=%s%s%s", name, *line ? " " : "", line);
}

static void build_arguments(struct spawn *s, struct bh_strv *args)
{
	const struct bh_vmm_request *q = s->request;

	bh_strv_add(args, "bulkhead-vmm");
	bh_strv_add(args, "--jail");
	add(args, "memory", q->memory);
	add(args, "cpus", q->cpus);
	if (q->cpu)
		bh_strv_addf(args, "--cpu=%s", q->cpu);
	if (q->kernel_fd >= 0)
		add(args, "kernel-fd", give(s, q->kernel_fd));
	add(args, "kvm-fd", give(s, s->kvm_fd));
	if (q->boot)
		bh_strv_addf(args, "--boot=%s", q->boot);
	if (q->initrd_fd >= 0)
		add(args, "initrd-fd", give(s, q->initrd_fd));
	if (q->initrd_name)
		bh_strv_addf(args, "--initrd-name=%s", q->initrd_name);
	if (bh_streq(q->boot, "multiboot") && q->kernel_name)
		add_multiboot_line(q->kernel_name, q->command_line ? q->command_line : "", args);
	else if (q->command_line)
		bh_strv_addf(args, "--command-line=%s", q->command_line);
	if (q->hugetlb)
		bh_strv_add(args, "--hugetlb");
	if (q->pit)
		bh_strv_add(args, "--pit");
	if (q->test_devices)
		bh_strv_add(args, "--test-devices");
	if (q->reset_status)
		add(args, "reset-status", q->reset_status);
	for (size_t i = 0; i < q->snapshot_count; i++) {
		int state = give(s, q->snapshots[i].state_fd);

		bh_strv_addf(args, "--restore=%d:%d", state, give(s, q->snapshots[i].memory_fd));
	}
	if (s->userfault_fd >= 0)
		add(args, "userfault-fd", give(s, s->userfault_fd));
	if (q->incoming_fd >= 0)
		add(args, "incoming-fd", give(s, q->incoming_fd));
	if (q->control_fd >= 0)
		add(args, "control-fd", give(s, q->control_fd));
	if (q->gdb_fd > 0)
		add(args, "gdb-fd", give(s, q->gdb_fd));
	if (q->paused)
		bh_strv_add(args, "--paused");
	if (q->dirty)
		bh_strv_addf(args, "--dirty=%s", q->dirty);
	if (q->pluggable)
		bh_strv_add(args, "--pluggable");
	if (q->transport)
		bh_strv_addf(args, "--transport=%s", q->transport);
	for (size_t i = 0; i < q->device_count; i++)
		add_device(s, &q->devices[i], args);
	if (q->explain)
		bh_strv_addf(args, *q->explain ? "--explain=%s" : "--explain%s", q->explain);
}

/* Puts the files at their numbers, however they lie now; the execution closes all others. */
static bool place_fds(const struct spawn *s)
{
	const int end = FIRST_FD + s->fd_count;
	const int *streams = s->request->streams;
	int high[FDS_MAX];

	for (int i = 0; streams && i <= STDERR_FILENO; i++)
		if (dup2(streams[i], i) < 0)
			return false;
	for (int i = 0; i < s->fd_count; i++) {
		high[i] = fcntl(s->fds[i], F_DUPFD, end);
		if (high[i] < 0)
			return false;
	}
	for (int i = 0; i < s->fd_count; i++)
		if (dup2(high[i], FIRST_FD + i) < 0)
			return false;
	return syscall(SYS_close_range, end, ~0u, CLOSE_RANGE_CLOEXEC) == 0;
}

static _Noreturn void child(const struct spawn *s, char *const *argv)
{
	static char *const no_environment[] = { NULL };
	sigset_t none;
	int program;
	char word;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(s->gate[0]);
	if (read(s->gate[1], &word, 1) != 1 || setresgid(0, 0, 0) < 0 || setgroups(0, NULL) < 0 || setresuid(0, 0, 0) < 0)
		_exit(125);
	program = fcntl(s->program_fd, F_DUPFD, FIRST_FD + s->fd_count);
	if (program < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || !place_fds(s))
		_exit(125);
	/* By its file, since that user can't enter every folder. */
	syscall(SYS_execveat, program, "", argv, no_environment, AT_EMPTY_PATH);
	dprintf(STDERR_FILENO, "bulkhead: execute bulkhead-vmm: %m\n");
	_exit(125);
}

static int write_maps(pid_t pid, struct bh_error *err)
{
	const struct bh_id_map map = { .container_id = 0, .host_id = UID_BASE + (uint32_t)pid, .size = 1 };
	bh_auto_free char *path = bh_printf("/proc/%d", (int)pid);
	bh_auto_close int proc = bh_open_dir(AT_FDCWD, path, 0, err);

	return proc < 0 ? proc : bh_id_maps_write(pid, proc, &map, 1, &map, 1, err);
}

static int start(struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	bh_auto_strv struct bh_strv args = { 0 };
	int pidfd = -1, r;
	struct clone_args clone = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid;

	build_arguments(s, &args);
	pid = bh_clone3(&clone);
	if (pid == 0)
		child(s, args.items);
	if (pid < 0)
		return bh_error_set(err, (int)-pid, "clone the monitor's process");
	r = write_maps(pid, err);
	if (r == 0 && write(s->gate[0], "g", 1) != 1)
		r = bh_error_set(err, errno, "let the monitor's process go on");
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		bh_close_fd(&pidfd);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

int bh_vmm_spawn(const struct bh_vmm_request *request, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	bh_auto_free char *program = bh_find_program("bulkhead-vmm");
	bh_auto_close int program_fd = open(program, O_PATH | O_CLOEXEC), kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	bh_auto_close int userfault_fd = -1;
	struct spawn s = { .request = request, .program_fd = program_fd, .kvm_fd = kvm_fd, .userfault_fd = -1 };
	int r;

	if (kvm_fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return bh_error_text(err, ENODEV,
				     "this machine has no /dev/kvm: is virtualization on in the firmware, and the kernel's kvm module loaded?");
	if (kvm_fd < 0)
		return bh_error_set(err, errno, "open /dev/kvm");
	if (program_fd < 0)
		return bh_error_text(err, ENOENT, "%s is missing", program);
	/* Without it the memory is loaded first: slower, and the same. */
	if (request->lazy)
		s.userfault_fd = userfault_fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (request->snapshot_count > BH_VMM_SNAPSHOTS_MAX)
		return bh_error_text(err, E2BIG, "%zu snapshots: at most %d", request->snapshot_count, BH_VMM_SNAPSHOTS_MAX);
	if (request->device_count > BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "%zu devices: at most %d", request->device_count, BH_VMM_DEVICES_MAX);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s.gate) < 0)
		return bh_error_set(err, errno, "make a socket");
	r = start(&s, ret_pid, ret_pidfd, err);
	close(s.gate[0]);
	close(s.gate[1]);
	return r;
}
