/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine around the agent: what an init does before and after everything else.
 *
 * The root is the initramfs. It can't be left by pivot_root(2), which containers do, unless it is a mount on another one; so a
 * bind of it is moved over it first.
 */
#include "guest/guest-internal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef MODULE_INIT_COMPRESSED_FILE
#define MODULE_INIT_COMPRESSED_FILE 4
#endif
#define PORT "vport0p1" /* the only port of the only virtio-serial device */
#define ORDER_MAX (1u << 16)
#define DEVICE_TIMEOUT_MS 30000

void guest_say(const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	dprintf(STDERR_FILENO, "bulkhead-guest: %s\n", line);
}

static const struct {
	const char *source, *target, *type, *options;
	unsigned long flags;
} mounts[] = {
	{ "proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devtmpfs", "/dev", "devtmpfs", "mode=755", MS_NOSUID },
	{ "devpts", "/dev/pts", "devpts", "mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/run", "tmpfs", "mode=700", MS_NOSUID | MS_NODEV },
	{ "tmpfs", "/tmp", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV },
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
};

static void mount_file_systems(void)
{
	if (mount("/", "/mnt", NULL, MS_BIND, NULL) < 0 || chdir("/mnt") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		guest_say("put a mount over the initramfs: %s", strerror(errno));
	for (size_t i = 0; i < BH_ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].target, 0755);
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].options) < 0)
			guest_say("mount %s: %s", mounts[i].target, strerror(errno));
	}
}

static void load_module(const char *name)
{
	bh_auto_free char *path = bh_printf(GUEST_MODULES "/%s", name);
	bh_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	int flags = bh_has_suffix(name, ".ko") ? 0 : MODULE_INIT_COMPRESSED_FILE;

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) < 0 && errno != EEXIST))
		guest_say("load the module %s: %s", name, strerror(errno));
	unlink(path); /* its memory is the machine's */
}

static void load_modules(void)
{
	bh_auto_buf struct bh_buf order = { 0 };
	bh_auto_strv struct bh_strv names = { 0 };

	if (bh_read_file_at(AT_FDCWD, GUEST_MODULE_ORDER, ORDER_MAX, &order, NULL) < 0)
		return;
	names = bh_strv_split(order.data, '\n');
	for (size_t i = 0; i < names.count; i++)
		if (*names.items[i])
			load_module(names.items[i]);
}

static void loopback_up(void)
{
	bh_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		guest_say("bring lo up: %s", strerror(errno));
}

void guest_machine_prepare(void)
{
	umask(022);
	mount_file_systems();
	load_modules();
	loopback_up();
}

/* Drivers make their devices when they are ready, not when they are loaded. */
static int open_port(void)
{
	bh_auto_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct pollfd p = { .fd = watch, .events = POLLIN };

	inotify_add_watch(watch, "/dev", IN_CREATE | IN_ATTRIB);
	for (;;) {
		char events[4096];
		int fd = open("/dev/" PORT, O_RDWR | O_CLOEXEC);

		if (fd >= 0)
			return fd;
		if (poll(&p, 1, DEVICE_TIMEOUT_MS) <= 0) {
			guest_say("no /dev/" PORT);
			return -1;
		}
		while (read(watch, events, sizeof events) > 0)
			continue;
	}
}

static int connect_vsock(void)
{
	const struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = BH_AGENT_VSOCK_PORT };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&host, sizeof host) < 0) {
		guest_say("connect to the host: %s", strerror(errno));
		bh_close_fd(&fd);
		return -1;
	}
	return fd;
}

int guest_machine_connect(const char *transport)
{
	return bh_streq(transport, "vsock") ? connect_vsock() : open_port();
}

int guest_machine_listen(void)
{
	const struct sockaddr_vm any = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = BH_AGENT_VSOCK_PORT };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 16) < 0) {
		guest_say("listen for the host: %s", strerror(errno));
		bh_close_fd(&fd);
		return -1;
	}
	return fd;
}

int guest_machine_accept(int listen_fd)
{
	struct sockaddr_vm peer = { 0 };
	socklen_t length = sizeof peer;
	int fd = accept4(listen_fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);

	/* Where there is a vsock loopback, the machine's own processes could connect; they have no say here. */
	if (fd >= 0 && peer.svm_cid != VMADDR_CID_HOST)
		bh_close_fd(&fd);
	return fd;
}

void guest_machine_set_clock(int64_t now_ns)
{
	const struct timespec now = { .tv_sec = now_ns / 1000000000, .tv_nsec = now_ns % 1000000000 };

	if (now_ns > 0 && clock_settime(CLOCK_REALTIME, &now) < 0)
		guest_say("set the clock: %s", strerror(errno));
}

void guest_machine_greet(const struct bh_agent_hello *hello)
{
	struct {
		struct rand_pool_info info;
		unsigned char bytes[sizeof hello->entropy];
	} pool = { .info = { .entropy_count = 8 * sizeof hello->entropy, .buf_size = sizeof hello->entropy } };
	bh_auto_close int random = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	memcpy(pool.bytes, hello->entropy, sizeof pool.bytes);
	if (random < 0 || ioctl(random, RNDADDENTROPY, &pool) < 0)
		guest_say("take entropy: %s", strerror(errno));
	guest_machine_set_clock(hello->now_ns);
}

void guest_machine_sync(void)
{
	umount2(BH_AGENT_WRITABLE, 0);
	sync();
}

void guest_machine_reboot(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1);
}

void guest_machine_power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	/* Without ACPI: a reboot ends the machine as well. */
	reboot(RB_AUTOBOOT);
	_exit(1);
}
