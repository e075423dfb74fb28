/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Microvms on QEMU's software CPU, for machines without KVM: ten times slower, but the same guest, agent and verbs.
 *
 * QEMU gets open files by -add-fd and sockets by number. Its jail: namespaces and a user of its own, no capability, and a file
 * system of nothing but the host's /usr (its libraries and firmware), read-only, with the kernel and the initramfs as two
 * files, since those it takes by path only. It locks itself into fewer system calls (-sandbox).
 */
#include "microvm/microvm-internal.h"

#include "base/file.h"
#include "linux/credentials.h"
#include "linux/mount.h"
#include "linux/namespace.h"
#include "linux/syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define QEMU "/usr/bin/qemu-system-x86_64"
#define BOOT_TIMEOUT_MS 180000
#define MONITOR_ID "monitor"

enum { AGENT_FD = 3, CONTROL_FD, IMAGE_FD, WRITABLE_FD, TAP_FD, FDS_END };

struct spawn {
	const struct bh_monitor_request *request;
	struct bh_strv args;
	int kernel_mount, initrd_mount; /* detached copies: in its own namespaces the child has no way to the files */
	int gate[2];                    /* the child waits at [1] for its maps */
};

static int check(struct bh_error *err)
{
	if (access(QEMU, X_OK) == 0)
		return 0;
	return bh_error_text(err, ENODEV, QEMU " is missing: install the package qemu-system-x86");
}

static void add_pair(struct bh_strv *args, const char *option, const char *value)
{
	bh_strv_add(args, option);
	bh_strv_add(args, value);
}

static void add_disk(struct bh_strv *args, const char *name, int fd, bool readonly)
{
	const char *mode = readonly ? "on" : "off";

	bh_strv_add(args, "-add-fd");
	bh_strv_addf(args, "fd=%d,set=%d", fd, fd);
	bh_strv_add(args, "-blockdev");
	bh_strv_addf(args, "driver=file,node-name=%s-file,filename=/dev/fdset/%d,locking=off,read-only=%s,discard=unmap", name, fd, mode);
	bh_strv_add(args, "-blockdev");
	bh_strv_addf(args, "driver=raw,node-name=%s,file=%s-file,read-only=%s,discard=unmap", name, name, mode);
	bh_strv_add(args, "-device");
	bh_strv_addf(args, "virtio-blk-pci,drive=%s,serial=%s", name, name);
}

static void build_arguments(const struct bh_monitor_request *q, struct bh_strv *args)
{
	bh_strv_add(args, "qemu-system-x86_64");
	add_pair(args, "-machine", "q35,usb=off,sata=off,smbus=off,vmport=off,hpet=off,i8042=on");
	add_pair(args, "-accel", "tcg,thread=multi");
	add_pair(args, "-cpu", "max");
	bh_strv_add(args, "-smp");
	bh_strv_addf(args, "%lld", (long long)q->cpus);
	bh_strv_add(args, "-m");
	bh_strv_addf(args, "%lldM", (long long)(q->memory >> 20));
	bh_strv_add(args, "-nodefaults");
	bh_strv_add(args, "-no-user-config");
	bh_strv_add(args, "-no-reboot");
	add_pair(args, "-display", "none");
	add_pair(args, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add_pair(args, "-kernel", "/kernel");
	add_pair(args, "-initrd", "/initrd");
	add_pair(args, "-append", q->command_line);
	add_pair(args, "-serial", "stdio");
	bh_strv_add(args, "-chardev");
	bh_strv_addf(args, "socket,id=agent,fd=%d", AGENT_FD);
	add_pair(args, "-device", "virtio-serial-pci,max_ports=2");
	add_pair(args, "-device", "virtserialport,nr=1,chardev=agent,name=" BH_AGENT_PORT_NAME);
	bh_strv_add(args, "-chardev");
	bh_strv_addf(args, "socket,id=" MONITOR_ID ",fd=%d", CONTROL_FD);
	add_pair(args, "-mon", "chardev=" MONITOR_ID ",mode=control");
	add_pair(args, "-device", "virtio-rng-pci");
	if (q->image_fd >= 0)
		add_disk(args, "image", IMAGE_FD, true);
	if (q->writable_fd >= 0)
		add_disk(args, "writable", WRITABLE_FD, false);
	if (q->tap_fd >= 0) {
		bh_strv_add(args, "-netdev");
		bh_strv_addf(args, "tap,id=net,fd=%d", TAP_FD);
		bh_strv_add(args, "-device");
		bh_strv_addf(args, "virtio-net-pci,netdev=net,mac=%s,romfile=", q->mac);
	}
}

/* --- the jail, in the child --------------------------------------------------------------------------------------------- */

/* A detached mount becomes `target`. */
static int attach(int mount_fd, const char *target, bool folder, struct bh_error *err)
{
	bh_auto_close int file = folder ? -1 : open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0444), at = -1;
	int r;

	if (folder)
		mkdir(target, 0755);
	at = open(target, O_PATH | O_CLOEXEC);
	r = bh_mount_attach(mount_fd, at, "");
	return r < 0 ? bh_error_set(err, -r, "mount %s", target) : 0;
}

static int copy_read_only(int folder_fd, const char *source, bool recursive, struct bh_error *err)
{
	bh_auto_close int mount_fd = bh_mount_copy(folder_fd, source, recursive, err);
	int r = mount_fd < 0 ? mount_fd : bh_mount_set_readonly(mount_fd, recursive, err);

	return r < 0 ? r : BH_TAKE_FD(mount_fd);
}

static int bind_read_only(const char *source, const char *target, bool folder, struct bh_error *err)
{
	bh_auto_close int mount_fd = copy_read_only(AT_FDCWD, source, folder, err);

	return mount_fd < 0 ? mount_fd : attach(mount_fd, target, folder, err);
}

/* Where the loader and the libraries are by name: links into /usr on a merged system, else folders. */
static int add_library_folder(const char *path, const char *target, struct bh_error *err)
{
	struct stat st;
	char link[64];
	ssize_t n;

	if (lstat(path, &st) < 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return bind_read_only(path, target, true, err);
	n = readlink(path, link, sizeof link - 1);
	if (n < 0)
		return bh_error_set(err, errno, "read the link %s", path);
	link[n] = '\0';
	return symlink(link, target) < 0 ? bh_error_set(err, errno, "link %s", target) : 0;
}

static int make_root(const struct spawn *s, struct bh_error *err)
{
	int r;

	/* On a folder that every host has; nobody else sees it. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") < 0)
		return bh_error_set(err, errno, "mount an empty root");
	r = bind_read_only("/usr", "/tmp/usr", true, err);
	if (r == 0)
		r = add_library_folder("/lib", "/tmp/lib", err);
	if (r == 0)
		r = add_library_folder("/lib64", "/tmp/lib64", err);
	if (r == 0)
		r = attach(s->kernel_mount, "/tmp/kernel", false, err);
	if (r == 0)
		r = attach(s->initrd_mount, "/tmp/initrd", false, err);
	mkdir("/tmp/etc", 0755);
	if (r == 0 && access("/etc/ld.so.cache", R_OK) == 0)
		r = bind_read_only("/etc/ld.so.cache", "/tmp/etc/ld.so.cache", false, err);
	if (r < 0)
		return r;
	if (mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
		return bh_error_set(err, errno, "make the root read-only");
	if (chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return bh_error_set(err, errno, "leave the file system");
	return 0;
}

static int give_up_rights(struct bh_error *err)
{
	static const struct bh_capability_sets none = { 0 };
	static const struct rlimit no_core = { 0 };
	int r;

	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return bh_error_set(err, errno, "forbid memory dumps");
	r = bh_capabilities_bound(0, err);
	if (r == 0)
		r = bh_capabilities_set(&none, err);
	if (r == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0))
		return bh_error_set(err, errno, "give up rights");
	return r;
}

static bool place_fds(const struct bh_monitor_request *q)
{
	const int from[] = { q->console_fd, q->console_fd, q->console_fd, q->agent_fd, q->control_fd, q->image_fd, q->writable_fd, q->tap_fd };
	int high[BH_ARRAY_SIZE(from)];

	for (size_t i = 0; i < BH_ARRAY_SIZE(from); i++) {
		high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, 64);
		if (from[i] >= 0 && high[i] < 0)
			return false;
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(from); i++)
		if (high[i] >= 0 && dup2(high[i], (int)i) < 0)
			return false;
	/* Those that it doesn't have are other files of ours. */
	for (size_t i = 0; i < BH_ARRAY_SIZE(from); i++)
		if (high[i] < 0)
			close((int)i);
	return bh_close_range(FDS_END, ~0u, 0) == 0;
}

static _Noreturn void child(const struct spawn *s)
{
	static char *const no_environment[] = { NULL };
	struct bh_error err = BH_ERROR_INIT;
	sigset_t none;
	char word;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(s->gate[0]);
	if (read(s->gate[1], &word, 1) != 1 || setresgid(0, 0, 0) < 0 || setgroups(0, NULL) < 0 || setresuid(0, 0, 0) < 0)
		_exit(125);
	r = make_root(s, &err);
	if (r == 0)
		r = give_up_rights(&err);
	if (r == 0 && !place_fds(s->request))
		r = bh_error_set(&err, errno, "place files");
	if (r == 0) {
		execve(QEMU, s->args.items, no_environment);
		bh_error_set(&err, errno, "execute " QEMU);
	}
	dprintf(s->request->console_fd, "%s\n", err.message);
	_exit(125);
}

static int write_maps(pid_t pid, struct bh_error *err)
{
	const struct bh_id_map map = { .container_id = 0, .host_id = BH_MICROVM_UID(pid), .size = 1 };
	bh_auto_free char *path = bh_printf("/proc/%d", (int)pid);
	bh_auto_close int proc = bh_open_dir(AT_FDCWD, path, 0, err);

	return proc < 0 ? proc : bh_id_maps_write(pid, proc, &map, 1, &map, 1, err);
}

static int start(struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	int pidfd = -1, r;
	struct clone_args clone = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = bh_clone3(&clone);

	if (pid == 0)
		child(s);
	if (pid < 0)
		return bh_error_set(err, (int)-pid, "clone QEMU's process");
	r = write_maps(pid, err);
	if (r == 0 && write(s->gate[0], "g", 1) != 1)
		r = bh_error_set(err, errno, "let QEMU's process go on");
	if (r < 0) {
		kill(pid, SIGKILL);
		bh_close_fd(&pidfd);
		return r;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

static int spawn(const struct bh_monitor_request *request, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	bh_auto_close int kernel = copy_read_only(request->kernel_fd, "", false, err), initrd = -1;
	struct spawn s = { .request = request, .kernel_mount = kernel };
	int r;

	if (kernel >= 0)
		s.initrd_mount = initrd = copy_read_only(request->initrd_fd, "", false, err);
	if (kernel < 0 || initrd < 0)
		return kernel < 0 ? kernel : initrd;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s.gate) < 0)
		return bh_error_set(err, errno, "make a socket");
	build_arguments(request, &s.args);
	r = start(&s, ret_pid, ret_pidfd, err);
	bh_strv_clear(&s.args);
	close(s.gate[0]);
	close(s.gate[1]);
	return r;
}

const struct bh_monitor bh_monitor_tcg = {
	.name = "tcg",
	.transport = "vport",
	.boot_timeout_ms = BOOT_TIMEOUT_MS,
	.greeting = "{\"execute\":\"qmp_capabilities\"}\n",
	.pause = "{\"execute\":\"stop\"}\n",
	.resume = "{\"execute\":\"cont\"}\n",
	.check = check,
	.spawn = spawn,
};
