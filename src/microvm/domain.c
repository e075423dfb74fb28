/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains with an image: what of a microVM they have, and how they differ.
 *
 *	initramfs      the microVM's, and behind it a second archive with /request: the JSON of the first process
 *	image disk     a hard link in the domain's folder to the one that all machines of the image share: so it stays for as long as the domain
 *	               does, whatever becomes of the image
 *	an exec        a session (session.c) whose stream is a connection to the agent, and which ends with its process
 *
 * A guest's bytes are read by that session only, which has given up its rights.
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "base/time.h"
#include "linux/socket.h"
#include "linux/syscall.h"
#include "vmm/inflate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ANSWER_MAX 32 /* bytes of "OK <port>\n" */
#define HELLO_TIMEOUT_MS 30000
#define POWER_TIMEOUT_MS 5000

/* --- disks ---------------------------------------------------------------------------------------------------------------- */

static int copy_all(int from, int to)
{
	ssize_t n;

	while ((n = sendfile(to, from, NULL, 1u << 30)) > 0)
		continue;
	return n < 0 ? -errno : 0;
}

static int link_image(const struct bh_microvm *vm, int folder_fd, struct bh_error *err)
{
	bh_auto_close int fd = bh_microvm_image_disk(vm, err), copy = -1;
	bh_auto_free char *path = fd < 0 ? NULL : bh_printf("/proc/self/fd/%d", fd);
	int r;

	if (fd < 0)
		return fd;
	unlinkat(folder_fd, "image.erofs", 0);
	if (linkat(AT_FDCWD, path, folder_fd, "image.erofs", AT_SYMLINK_FOLLOW) == 0)
		return 0;
	copy = openat(folder_fd, "image.erofs", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	r = copy < 0 ? -errno : copy_all(fd, copy);
	return r < 0 ? bh_error_set(err, -r, "copy the image's disk") : 0;
}

int bh_microvm_domain_disks(const struct bh_microvm *vm, int folder_fd, int64_t size, struct bh_error *err)
{
	bh_auto_close int fd = -1;
	int r;

	if (size < BH_MICROVM_DISK_SIZE_MIN)
		return bh_error_text(err, EINVAL, "a disk of %lld bytes is too small for a file system: at least %lldm", (long long)size,
				     (long long)(BH_MICROVM_DISK_SIZE_MIN >> 20));
	r = link_image(vm, folder_fd, err);
	if (r < 0)
		return r;
	fd = openat(folder_fd, "writable.img", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return bh_error_set(err, errno, "make the writable disk");
	return bh_microvm_make_ext4(fd, size / 4096 * 4096, err);
}

/* --- what boots ------------------------------------------------------------------------------------------------------------- */

static int make_initrd(const struct bh_microvm_domain *d, const struct bh_guest_kernel *kernel, struct bh_error *err)
{
	const struct bh_microvm_request q = {
		.spec = d->spec, .id = d->id, .user = d->vm->user, .groups = d->vm->groups, .vm = d->vm, .network = d->network
	};
	bh_auto_close int archive = bh_initramfs_open(d->vm->root, kernel, err), fd = -1;
	bh_auto_buf struct bh_buf request = { 0 };
	struct bh_cpio cpio = { .next_inode = 1 };
	int r = archive < 0 ? archive : bh_microvm_request_write(&q, &request, err);

	if (r < 0)
		return r;
	fd = cpio.fd = memfd_create("initramfs", MFD_CLOEXEC);
	r = fd < 0 ? -errno : copy_all(archive, fd);
	if (r == 0)
		r = bh_cpio_add(&cpio, "request", S_IFREG | 0400, 0, request.data, request.length);
	if (r == 0)
		r = bh_cpio_end(&cpio);
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? bh_error_set(err, -r, "make the initramfs") : BH_TAKE_FD(fd);
}

int bh_microvm_domain_boot(const struct bh_microvm_domain *d, int *ret_kernel_fd, int *ret_initrd_fd, char **ret_command_line, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/kernels/inflated", d->vm->root), *mode = bh_printf("domain:%d", d->stop_signal);
	bh_auto_free char *append = d->append && *d->append ? bh_printf("%s ", d->append) : bh_strdup("");
	bh_auto_close int image_fd = -1, kernel_fd = -1, initrd_fd = -1;
	bh_auto(bh_guest_kernel_clear) struct bh_guest_kernel kernel = { 0 };
	int r = bh_guest_kernel_find(d->vm->root, d->vm->kernel, &kernel, err);

	if (r < 0)
		return r;
	image_fd = open(kernel.image, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (image_fd < 0)
		return bh_error_set(err, errno, "open the kernel %s", kernel.image);
	kernel_fd = bh_vmm_inflate(image_fd, folder, err);
	if (kernel_fd < 0)
		return kernel_fd;
	initrd_fd = make_initrd(d, &kernel, err);
	if (initrd_fd < 0)
		return initrd_fd;
	*ret_kernel_fd = BH_TAKE_FD(kernel_fd);
	*ret_initrd_fd = BH_TAKE_FD(initrd_fd);
	*ret_command_line = bh_printf(BH_MICROVM_COMMAND_LINE, append, mode);
	return 0;
}

/* --- a connection ----------------------------------------------------------------------------------------------------------- */

/* One byte at a time: what follows the line belongs to the stream. */
static int read_answer(int fd, int timeout_ms)
{
	int64_t until = bh_monotonic_ns() / 1000000 + timeout_ms;
	char line[ANSWER_MAX];
	size_t length = 0;

	while (length < sizeof line) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int64_t left = until - bh_monotonic_ns() / 1000000;
		int r = poll(&p, 1, (int)BH_MAX(left, (int64_t)0));
		ssize_t n;

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -ETIMEDOUT;
		n = recv(fd, line + length, 1, 0);
		if (n <= 0) /* the monitor has nobody to ask, or the guest has refused */
			return -EAGAIN;
		if (line[length++] == '\n')
			return length > 3 && memcmp(line, "OK ", 3) == 0 ? 0 : -EPROTO;
	}
	return -EPROTO;
}

int bh_microvm_domain_connect(const char *socket, int timeout_ms, struct bh_error *err)
{
	static const char question[] = "CONNECT " BH_STRINGIFY(BH_AGENT_VSOCK_PORT) "\n";
	bh_auto_close int fd = bh_unix_connect(socket, err);
	int r;

	/* Between two monitors of a machine that starts again nobody listens. */
	if (fd < 0)
		return fd == -ECONNREFUSED || fd == -ENOENT ? -EAGAIN : fd;
	if (send(fd, question, strlen(question), MSG_NOSIGNAL) != (ssize_t)strlen(question))
		return -EAGAIN;
	r = read_answer(fd, timeout_ms);
	if (r == -EAGAIN)
		return r;
	return r < 0 ? bh_error_set(err, -r, "connect to the agent in the machine") : BH_TAKE_FD(fd);
}

/* --- exec --------------------------------------------------------------------------------------------------------------------- */

/* Of a monitor it has only its words. */
static const struct bh_monitor domain_monitor = { .name = "kvm", .transport = "vsock", .boot_timeout_ms = HELLO_TIMEOUT_MS };

static int start_session(struct bh_session_setup *setup, int stream_fd, int master_fd, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	int report[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		return bh_error_set(err, errno, "make a socket");
	setup->report_fd = report[1];
	pid = fork();
	if (pid == 0) {
		close(report[0]);
		bh_close_fd(&master_fd); /* else the terminal would never hang up */
		bh_session_exec(setup, stream_fd);
	}
	close(report[1]);
	r = pid < 0 ? bh_error_set(err, errno, "fork") : bh_session_hear(report[0], err);
	close(report[0]);
	if (r == 0) {
		*ret_pidfd = r = bh_pidfd_open(pid);
		*ret_pid = pid;
		if (r < 0)
			bh_error_set(err, -r, "open a pidfd");
	}
	if (r < 0 && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return BH_MIN(r, 0);
}

int bh_microvm_domain_exec(int stream_fd, const struct bh_microvm_exec *x, bool dies_with_caller, pid_t *ret_pid, int *ret_pidfd,
			   int *ret_terminal_fd, struct bh_error *err)
{
	const struct bh_microvm_request q = {
		.spec = x->spec, .process = x->process, .id = x->id, .user = x->user, .groups = x->groups, .privileged = x->privileged
	};
	const struct bh_microvm_start start = {
		.stdin_fd = x->stdin_fd, .stdout_fd = x->stdout_fd, .stderr_fd = x->stderr_fd, .dies_with_caller = dies_with_caller
	};
	bh_auto_buf struct bh_buf request = { 0 };
	struct bh_session_setup setup = {
		.start = &start, .monitor = &domain_monitor, .kind = BH_AGENT_EXEC, .request = &request, .listen_fd = -1, .terminal_fd = -1, .loss_fd = -1
	};
	bh_auto_close int master = -1, slave = -1;
	int r = bh_microvm_request_write(&q, &request, err);

	if (r == 0 && x->process->terminal)
		r = bh_microvm_terminal(x->process->console_size.height, x->process->console_size.width, &master, &slave, err);
	setup.terminal_fd = slave;
	if (r == 0)
		r = start_session(&setup, stream_fd, master, ret_pid, ret_pidfd, err);
	if (r == 0)
		*ret_terminal_fd = BH_TAKE_FD(master);
	return r;
}

/* --- the end ---------------------------------------------------------------------------------------------------------------- */

int bh_microvm_domain_power(int stream_fd, bool reboot, struct bh_error *err)
{
	const uint32_t power = reboot ? BH_AGENT_REBOOT : BH_AGENT_POWER_OFF;
	int64_t until = bh_monotonic_ns() / 1000000 + POWER_TIMEOUT_MS;
	bh_auto_buf struct bh_buf out = { 0 };
	struct pollfd p = { .fd = stream_fd, .events = POLLIN };
	char greeting[256];
	ssize_t n = 1;

	bh_agent_put(&out, BH_AGENT_POWER, 0, 0, &power, sizeof power);
	if (send(stream_fd, out.data, out.length, MSG_NOSIGNAL) != (ssize_t)out.length)
		return bh_error_set(err, errno, "tell the agent in the machine");
	/* It closes the stream when it has understood; its greeting is of no interest. */
	while (n > 0 && poll(&p, 1, (int)BH_MAX(until - bh_monotonic_ns() / 1000000, (int64_t)0)) == 1)
		n = recv(stream_fd, greeting, sizeof greeting, MSG_DONTWAIT);
	return n > 0 ? bh_error_text(err, ETIMEDOUT, "the agent in the machine doesn't answer") : 0;
}
