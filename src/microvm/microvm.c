/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a microVM: what is made before the session, and the session's birth. microvm.h has the theory. */
#include "microvm/microvm-internal.h"

#include "vmm/inflate.h"

#include "base/file.h"
#include "base/log.h"
#include "linux/syscall.h"
#include "linux/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* What a start needs until the session has it. */
struct preparation {
	const struct bh_microvm_start *start;
	const struct bh_monitor *monitor;
	struct bh_guest_kernel kernel;
	char *command_line;
	struct bh_buf request;
	struct bh_microvm_shares shares;
	struct bh_microvm_network network;
	char *mac;
	int tap_fd;
	int kernel_fd, initrd_fd, image_fd, writable_fd, listen_fd, terminal_fd, slave_fd, loss_fd, report[2];
};

static void preparation_clear(struct preparation *p)
{
	bh_guest_kernel_clear(&p->kernel);
	bh_free_ptr(&p->command_line);
	bh_buf_clear(&p->request);
	bh_microvm_shares_clear(&p->shares);
	bh_microvm_network_clear(&p->network);
	bh_free_ptr(&p->mac);
	bh_close_fd(&p->tap_fd);
	bh_close_fd(&p->kernel_fd);
	bh_close_fd(&p->initrd_fd);
	bh_close_fd(&p->image_fd);
	bh_close_fd(&p->writable_fd);
	bh_close_fd(&p->listen_fd);
	bh_close_fd(&p->terminal_fd);
	bh_close_fd(&p->slave_fd);
	bh_close_fd(&p->loss_fd);
	bh_close_fd(&p->report[0]);
	bh_close_fd(&p->report[1]);
}

static int find_monitor(struct preparation *p, struct bh_error *err)
{
	bh_auto_free char *why = NULL;
	int r = bh_monitor_find(p->start->vm->accelerator, &p->monitor, &why, err);

	if (r == 0 && why)
		bh_warn("the microVM runs on QEMU's software CPU (--accel tcg), which is slow: %s", why);
	return r;
}

static int open_kernel(struct preparation *p, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/kernels/inflated", p->start->vm->root);
	bh_auto_close int image_fd = -1;
	int r = bh_guest_kernel_find(p->start->vm->root, p->start->vm->kernel, &p->kernel, err);

	if (r < 0)
		return r;
	image_fd = open(p->kernel.image, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (image_fd < 0)
		return bh_error_set(err, errno, "open the kernel %s", p->kernel.image);
	p->kernel_fd = bh_vmm_inflate(image_fd, folder, err);
	if (p->kernel_fd < 0)
		return p->kernel_fd;
	bh_explain("kernel", "version", p->kernel.version, "path", p->kernel.image, "modules", p->kernel.modules);
	p->initrd_fd = bh_initramfs_open(p->start->vm->root, &p->kernel, err);
	return p->initrd_fd < 0 ? p->initrd_fd : 0;
}

static int open_disks(struct preparation *p, struct bh_error *err)
{
	if (p->start->vm->rootfs)
		return 0;
	p->image_fd = bh_microvm_image_disk(p->start->vm, err);
	if (p->image_fd < 0)
		return p->image_fd;
	p->writable_fd = bh_microvm_writable_disk(p->start->vm, err);
	return p->writable_fd < 0 ? p->writable_fd : 0;
}

static int make_request(struct preparation *p, struct bh_error *err)
{
	const struct bh_microvm *vm = p->start->vm;
	const struct bh_microvm_request request = {
		.spec = p->start->spec,
		.id = p->start->id,
		.user = vm->user,
		.groups = vm->groups,
		.vm = vm,
		.network = &p->network,
		.shares = &p->shares,
		.virtio_shares = p->monitor->has_virtio_fs,
		.transfer = vm->transfer,
	};
	bh_auto_free char *parameters = NULL;

	if (vm->kernel_parameters && vm->kernel_parameters->count) {
		bh_auto_free char *joined = bh_strv_join(vm->kernel_parameters, " ");

		parameters = bh_printf("%s ", joined);
	}
	p->command_line = bh_printf(BH_MICROVM_COMMAND_LINE, parameters ? parameters : "", p->monitor->transport);
	return bh_microvm_request_write(&request, &p->request, err);
}

static int open_shares(struct preparation *p, struct bh_error *err)
{
	return bh_microvm_shares_open(p->start->vm, p->start->spec, &p->shares, err);
}

int bh_microvm_terminal(uint16_t rows, uint16_t columns, int *ret_master, int *ret_slave, struct bh_error *err)
{
	bh_auto_close int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	const struct winsize size = { .ws_row = rows, .ws_col = columns };
	int slave;

	if (master < 0 || unlockpt(master) < 0)
		return bh_error_set(err, errno, "make a terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (slave < 0)
		return bh_error_set(err, errno, "open the terminal");
	if (rows && columns)
		ioctl(master, TIOCSWINSZ, &size);
	*ret_master = BH_TAKE_FD(master);
	*ret_slave = slave;
	return 0;
}

static int open_network(struct preparation *p, struct bh_error *err)
{
	char name[BH_TAP_NAME_SIZE];
	int r;

	if (!bh_microvm_network_is_tap(p->start->vm->network) || p->start->vm->transfer)
		return 0;
	r = bh_microvm_network_parse(p->start->vm->network, &p->network, err);
	if (r < 0)
		return r;
	p->tap_fd = bh_tap_open(p->network.tap, p->network.bridge, name, err);
	if (p->tap_fd < 0)
		return p->tap_fd;
	p->mac = bh_microvm_network_mac(&p->network, p->start->id);
	bh_explain("network", "tap", name, "bridge", p->network.bridge, "mac", p->mac, "ip", p->network.address, "gateway", p->network.gateway);
	return 0;
}

static int make_terminal(struct preparation *p, struct bh_error *err)
{
	const struct bh_spec_process *process = &p->start->spec->process;

	if (!process->terminal)
		return 0;
	return bh_microvm_terminal(process->console_size.height, process->console_size.width, &p->terminal_fd, &p->slave_fd, err);
}

/* For who asks when the workload's own streams are closed. */
static int open_loss(struct preparation *p, struct bh_error *err)
{
	const struct bh_microvm *vm = p->start->vm;
	bh_auto_free char *path = vm->folder && !vm->transfer ? bh_path_join(vm->folder, BH_MICROVM_LOSS) : NULL;

	if (!path)
		return 0;
	p->loss_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	return p->loss_fd < 0 ? bh_error_set(err, errno, "create %s", path) : 0;
}

/* Through the folder's fd: its path may be longer than a socket's address. */
static int socket_address(const char *state, struct sockaddr_un *ret_address, int *ret_folder, struct bh_error *err)
{
	int folder = bh_open_dir(AT_FDCWD, state, O_PATH, err);

	if (folder < 0)
		return folder;
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "/proc/self/fd/%d/" BH_MICROVM_SOCKET, folder);
	*ret_folder = folder;
	return 0;
}

static int listen_for_clients(struct preparation *p, struct bh_error *err)
{
	bh_auto_close int folder = -1;
	struct sockaddr_un address;
	int r = socket_address(p->start->state, &address, &folder, err);

	if (r < 0)
		return r;
	unlink(address.sun_path); /* of the last run, on a restart */
	bh_microvm_forget_pause(folder);
	p->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Its name gets these rights: the folder of an OCI runtime may be one that others can enter. */
	if (p->listen_fd < 0 || fchmod(p->listen_fd, 0600) < 0 || bind(p->listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(p->listen_fd, 16) < 0)
		return bh_error_set(err, errno, "listen on " BH_MICROVM_SOCKET);
	return 0;
}

int bh_microvm_connect(const char *state, struct bh_error *err)
{
	bh_auto_close int folder = -1, fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int r = fd < 0 ? bh_error_set(err, errno, "make a socket") : socket_address(state, &address, &folder, err);

	if (r < 0)
		return r;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return bh_error_set(err, errno, "connect to the microVM");
	return BH_TAKE_FD(fd);
}

/* --- the session's birth -------------------------------------------------------------------------------------------------- */

static int64_t cpus_of(const struct bh_microvm *vm)
{
	int64_t cpus = (vm->cpus_nano + 999999999) / 1000000000;

	return BH_MIN(BH_MAX(cpus, (int64_t)1), (int64_t)BH_MICROVM_CPUS_MAX);
}

/* The session has streams of its own. */
static void move_streams(struct bh_microvm_start *start)
{
	int *const streams[] = { &start->stdin_fd, &start->stdout_fd, &start->stderr_fd };

	for (size_t i = 0; i < BH_ARRAY_SIZE(streams); i++)
		if (start->spec->process.terminal)
			*streams[i] = -1;
		else if (*streams[i] >= 0 && *streams[i] <= STDERR_FILENO)
			*streams[i] = fcntl(*streams[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static _Noreturn void session(struct preparation *p)
{
	struct bh_microvm_start own = *p->start, *start = &own;
	const struct bh_session_setup setup = {
		.start = start,
		.monitor = p->monitor,
		.machine = { .memory = bh_microvm_size(start->vm),
			     .cpus = cpus_of(start->vm),
			     .kernel_fd = p->kernel_fd,
			     .initrd_fd = p->initrd_fd,
			     .image_fd = p->image_fd,
			     .writable_fd = p->writable_fd,
			     .tap_fd = p->tap_fd,
			     .mac = p->mac,
			     .command_line = p->command_line },
		.request = &p->request,
		.shares = &p->shares,
		.listen_fd = p->listen_fd,
		.terminal_fd = p->slave_fd,
		.loss_fd = p->loss_fd,
		.report_fd = p->report[1],
	};
	struct bh_session_report report = { .started = false };

	bh_close_fd(&p->terminal_fd); /* else the terminal would never hang up */
	bh_close_fd(&p->report[0]);   /* else the starter's end would never show */
	move_streams(start);
	if (start->cgroup && bh_cgroup_enter_self(start->cgroup, &report.error) < 0) {
		(void)!send(p->report[1], &report, sizeof report, MSG_NOSIGNAL);
		_exit(125);
	}
	bh_session_main(&setup);
}

static void explain_machine(const struct preparation *p)
{
	const struct bh_microvm *vm = p->start->vm;
	char memory[32], cpus[16];

	snprintf(cpus, sizeof cpus, "%lld", (long long)cpus_of(vm));
	bh_explain("machine", "accelerator", p->monitor->name, "memory", bh_format_bytes_binary((uint64_t)bh_microvm_size(vm), memory), "cpus", cpus,
		   "disks", p->image_fd < 0 ? "none" : "image,writable", "network", p->tap_fd < 0 ? "none" : "tap", "command-line", p->command_line);
}

static int clone_session(struct preparation *p, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	int into = p->start->cgroup ? bh_cgroup_clone_fd(p->start->cgroup) : -1, pidfd = -1;
	struct clone_args clone = {
		/* Its network is its own before anybody (a hook) can look for the container's by its pid. */
		.flags = CLONE_PIDFD | CLONE_NEWNET | (into >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = into >= 0 ? (uint64_t)into : 0,
	};
	pid_t pid;

	explain_machine(p);
	pid = bh_clone3(&clone);
	if (pid == 0)
		session(p);
	if (pid < 0)
		return bh_error_set(err, (int)-pid, "clone the microVM's session");
	bh_close_fd(&p->report[1]);
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

/* What it runs on is on record before it runs. */
static int write_record(const struct preparation *p, struct bh_error *err)
{
	const struct bh_microvm *vm = p->start->vm;
	bh_auto_close int folder = bh_open_dir(AT_FDCWD, p->start->state, 0, err);
	bh_auto_buf struct bh_buf text = { 0 };

	if (folder < 0)
		return folder;
	bh_buf_addf(&text, "{\"Accelerator\":\"%s\",\"Kernel\":", p->monitor->name);
	bh_buf_add_json(&text, p->kernel.version);
	bh_buf_addf(&text, ",\"Memory\":%lld,\"MemoryLimit\":%lld,\"Cpus\":%lld}\n", (long long)bh_microvm_size(vm), (long long)bh_microvm_limit(vm),
		    (long long)cpus_of(vm));
	return bh_write_file_at(folder, BH_MICROVM_RECORD, text.data, text.length, 0600, 0, err);
}

int bh_session_hear(int fd, struct bh_error *err)
{
	struct bh_session_report report;
	ssize_t n;

	do
		n = recv(fd, &report, sizeof report, 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof report)
		return bh_error_text(err, ECHILD, "the microVM's session ended without a word (killed?)");
	if (report.started)
		return 0;
	report.error.message[sizeof report.error.message - 1] = '\0';
	if (err)
		*err = report.error;
	return report.error.errnum > 0 ? -report.error.errnum : -EINVAL;
}

static int start_session(struct preparation *p, struct bh_microvm_process *ret_process, struct bh_error *err)
{
	bh_auto_close int pidfd = -1;
	pid_t pid = -1;
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->report) < 0)
		return bh_error_set(err, errno, "make a socket");
	r = write_record(p, err);
	if (r == 0)
		r = clone_session(p, &pid, &pidfd, err);
	if (r < 0)
		return r;
	if (p->start->cloned)
		r = p->start->cloned(p->start->cloned_context, pid, err);
	if (r == 0)
		r = bh_session_hear(p->report[0], err);
	if (r < 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			continue;
		return r;
	}
	*ret_process = (struct bh_microvm_process){
		.pid = pid,
		.pidfd = BH_TAKE_FD(pidfd),
		.terminal_fd = BH_TAKE_FD(p->terminal_fd),
		.sync_fd = p->start->waits ? BH_TAKE_FD(p->report[0]) : -1,
	};
	return 0;
}

int bh_microvm_release(int *sync_fd, struct bh_error *err)
{
	ssize_t n = send(*sync_fd, "r", 1, MSG_NOSIGNAL);
	int r = n < 0 ? bh_error_set(err, errno, "leave the microVM waiting") : 0;

	bh_close_fd(sync_fd);
	return r;
}

int bh_microvm_start(const struct bh_microvm_start *start, struct bh_microvm_process *ret_process, struct bh_error *err)
{
	static int (*const steps[])(struct preparation *, struct bh_error *) = {
		find_monitor, open_kernel, open_disks, open_network, open_shares, make_request, make_terminal, open_loss, listen_for_clients,
	};
	bh_auto(preparation_clear) struct preparation p = {
		.start = start,
		.tap_fd = -1,
		.kernel_fd = -1,
		.initrd_fd = -1,
		.image_fd = -1,
		.writable_fd = -1,
		.listen_fd = -1,
		.terminal_fd = -1,
		.slave_fd = -1,
		.loss_fd = -1,
		.report = { -1, -1 },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(steps); i++)
		r = steps[i](&p, err);
	if (r == 0)
		r = start_session(&p, ret_process, err);
	if (r < 0 && err && !err->exit_code)
		err->exit_code = 125;
	return r;
}
