/* SPDX-License-Identifier: Apache-2.0 */
/* Machines with a kernel of their own, without an image. */
#include "cli/cli.h"
#include "linux/socket.h"
#include "linux/syscall.h"
#include "linux/tap.h"
#include "vmm/broker.h"
#include "vmm/cpu-model.h"
#include "vmm/files.h"
#include "vmm/inflate.h"
#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_MEMORY (128 << 20)

struct vm_run_options {
	int64_t memory, cpus, balloon; /* balloon -1: none */
	const char *kernel, *initrd, *append, *explain;
	const char *control, *incoming, *vsock, *console, *boot, *cpu, *gdb, *transport, *dirty;
	bool multiboot, hugepages, lazy, paused, no_inflate;
	struct bh_strv disk, net, share, restore;
};

static const struct bh_option run_options[] = {
	{ 'm', "memory", BH_OPTION_BYTES, offsetof(struct vm_run_options, memory), "BYTES", "The guest's memory (default 128m)", NULL, false },
	{ 0, "hugepages", BH_OPTION_BOOL, offsetof(struct vm_run_options, hugepages), NULL, "Take it from the host's reserved huge pages", NULL, false },
	{ 'c', "cpus", BH_OPTION_INT, offsetof(struct vm_run_options, cpus), "N", "Processors, 1 to 64 (default 1)", NULL, false },
	{ 0, "cpu", BH_OPTION_STRING, offsetof(struct vm_run_options, cpu), "host|LEVEL[,+FEATURE][,-FEATURE]",
	  "Which of the host's processor features the guest sees: all (host), or those of a level that many machines have (x86-64-v1 or baseline, "
	  "x86-64-v2, -v3, -v4), so that it can move between them",
	  NULL, false },
	{ 'k', "kernel", BH_OPTION_STRING, offsetof(struct vm_run_options, kernel), "FILE", "The kernel to start", NULL, false },
	{ 0, "multiboot", BH_OPTION_BOOL, offsetof(struct vm_run_options, multiboot), NULL,
	  "It is a multiboot kernel; what it writes to port 0xf4 is the exit code", NULL, false },
	{ 0, "boot", BH_OPTION_STRING, offsetof(struct vm_run_options, boot), "auto|linux|pvh",
	  "How the kernel is entered: by Linux's 64-bit protocol, or by PVH; auto: by PVH if it can't be otherwise (default auto)", "auto|linux|pvh",
	  false },
	{ 0, "no-inflate", BH_OPTION_BOOL, offsetof(struct vm_run_options, no_inflate), NULL,
	  "Let a bzImage inflate itself in the guest, which gives it a random address", NULL, false },
	{ 0, "initrd", BH_OPTION_STRING, offsetof(struct vm_run_options, initrd), "FILE", "A file beside it: initial RAM disk, or multiboot module",
	  NULL, false },
	{ 0, "disk", BH_OPTION_LIST, offsetof(struct vm_run_options, disk),
	  "FILE[,readonly][,format=qcow2][,backing=FILE][,queues=N][,serial=TEXT][,LIMIT=N]",
	  "A disk: a block device or an image file, raw unless its format is given; backing: the image behind a qcow2 image. "
	  "queues: of a raw one, each with a thread (1 to 8, default 1). "
	  "Limits: bytes-per-second, bytes-burst, operations-per-second, operations-burst",
	  NULL, false },
	{ 0, "net", BH_OPTION_LIST, offsetof(struct vm_run_options, net), "tap[=NAME][,bridge=NAME][,mac=ADDRESS][,mtu=N][,vhost][,LIMIT=N]",
	  "A network card on a tap device: the one of this name, or a new one that goes with the machine; on this bridge; vhost: the kernel moves "
	  "the packets, if it can",
	  NULL, false },
	{ 0, "share", BH_OPTION_LIST, offsetof(struct vm_run_options, share), "TAG=FOLDER[,readonly]",
	  "Share a folder: the guest mounts it by its tag (mount -t virtiofs TAG /mnt)", NULL, false },
	{ 0, "vsock", BH_OPTION_STRING, offsetof(struct vm_run_options, vsock), "CID[,listen=SOCKET][,connect=PREFIX]",
	  "A vsock device: at SOCKET say \"CONNECT PORT\" to reach the guest; the host's port N is the socket PREFIX_N", NULL, false },
	{ 0, "balloon", BH_OPTION_BYTES, offsetof(struct vm_run_options, balloon), "BYTES",
	  "A device through which the guest gives this much memory back, and what it doesn't use; 0: only that", NULL, false },
	{ 0, "console", BH_OPTION_STRING, offsetof(struct vm_run_options, console), "serial|virtio",
	  "What standard input and output are in the guest (default serial). With virtio (hvc0) the serial port goes to standard error",
	  "serial|virtio", false },
	{ 0, "transport", BH_OPTION_STRING, offsetof(struct vm_run_options, transport), "pci|mmio",
	  "How the guest reaches its virtio devices (default pci). mmio: for kernels without PCI; Linux finds them by ACPI", "pci|mmio", false },
	{ 0, "dirty", BH_OPTION_STRING, offsetof(struct vm_run_options, dirty), "bitmap|ring",
	  "How KVM tells which memory was written, for migrations and incremental snapshots (default bitmap)", "bitmap|ring", false },
	{ 0, "append", BH_OPTION_STRING, offsetof(struct vm_run_options, append), "TEXT", "The kernel's command line", NULL, false },
	{ 0, "restore", BH_OPTION_LIST, offsetof(struct vm_run_options, restore), "STATE,MEMORY",
	  "Instead of a kernel: a snapshot's two files; incremental ones follow the full one", NULL, false },
	{ 0, "lazy", BH_OPTION_BOOL, offsetof(struct vm_run_options, lazy), NULL, "Load a snapshot's memory when the guest needs it", NULL, false },
	{ 0, "incoming", BH_OPTION_STRING, offsetof(struct vm_run_options, incoming), "SOCKET|tcp://ADDRESS:PORT",
	  "Instead of a kernel: wait here for a machine that moves here", NULL, false },
	{ 0, "paused", BH_OPTION_BOOL, offsetof(struct vm_run_options, paused), NULL, "Stand until the control socket says resume", NULL, false },
	{ 0, "control", BH_OPTION_STRING, offsetof(struct vm_run_options, control), "SOCKET", "Take requests at this socket", NULL, false },
	{ 0, "gdb", BH_OPTION_STRING, offsetof(struct vm_run_options, gdb), "SOCKET|127.0.0.1:PORT",
	  "Stand at the first instruction and wait for a debugger here (gdb: target remote)", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct vm_run_options, explain), "json", "Tell each step and, at the end, the VM exits", NULL,
	  false },
	{ 0 },
};

static void preset(void *arg)
{
	struct vm_run_options *o = arg;

	o->memory = DEFAULT_MEMORY;
	o->cpus = 1;
	o->balloon = -1;
}

/* Else a file of ours would be the guest's console. */
static int fill_standard_streams(struct bh_error *err)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return bh_error_set(err, errno, "open /dev/null");
	return 0;
}

static int open_file(const char *path, struct bh_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? bh_error_set(err, errno, "open %s", path) : fd;
}

#define BACKING "backing="
#define LOOPBACK "127.0.0.1:"

/* The devices of a machine, as the options name them, and their open files. */
struct devices {
	struct bh_vmm_device items[BH_VMM_DEVICES_MAX];
	size_t count;
	struct bh_strv words;
};

static void devices_clear(struct devices *d)
{
	for (size_t i = 0; i < d->count; i++)
		for (size_t j = 0; j < BH_VMM_DEVICE_FILES_MAX && d->items[i].files[j].key; j++)
			bh_close_fd(&d->items[i].files[j].fd);
	bh_strv_clear(&d->words);
}

/* FILE and words for the device; "backing=FILE" is another file. */
static int add_disk(const char *option, struct devices *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	bh_auto_buf struct bh_buf device = { 0 };
	bh_auto_close int fd = -1, backing = -1;
	bool readonly = bh_strv_contains(&words, "readonly");

	if (d->count == BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
	fd = open(words.items[0], (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return bh_error_set(err, errno, "open the disk %s", words.items[0]);
	bh_buf_adds(&device, "block");
	for (size_t i = 1; i < words.count; i++) {
		if (!bh_has_prefix(words.items[i], BACKING)) {
			bh_buf_addf(&device, ",%s", words.items[i]);
			continue;
		}
		bh_close_fd(&backing);
		backing = open(words.items[i] + strlen(BACKING), O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (backing < 0)
			return bh_error_set(err, errno, "open the image behind the disk, %s", words.items[i] + strlen(BACKING));
	}
	bh_strv_add(&d->words, device.data);
	d->items[d->count] = (struct bh_vmm_device){ .words = d->words.items[d->words.count - 1], .files = { { "fd", BH_TAKE_FD(fd) } } };
	if (backing >= 0) {
		d->items[d->count].files[1].key = "backing";
		d->items[d->count].files[1].fd = BH_TAKE_FD(backing);
	}
	d->count++;
	return 0;
}

static struct bh_vmm_device *new_device(struct devices *d, struct bh_error *err)
{
	if (d->count == BH_VMM_DEVICES_MAX) {
		bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
		return NULL;
	}
	return &d->items[d->count++];
}

static int add_share(const char *option, struct devices *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	char *equals = strchr(words.items[0], '=');
	bool readonly = words.count == 2 && (bh_streq(words.items[1], "readonly") || bh_streq(words.items[1], "ro"));
	struct bh_vmm_device *device;
	bh_auto_close int folder = -1;
	pid_t pid;
	int fd, r;

	if (!equals || (words.count > 1 && !readonly))
		return bh_error_text(err, EINVAL, "--share %s: TAG=FOLDER[,readonly] is expected", option);
	*equals = '\0';
	folder = bh_open_dir(AT_FDCWD, equals + 1, O_PATH, err);
	if (folder < 0)
		return folder;
	r = bh_files_spawn(folder, readonly, &fd, &pid, err);
	if (r < 0)
		return r;
	device = new_device(d, err);
	if (!device) {
		close(fd);
		return -ENOSPC;
	}
	bh_strv_addf(&d->words, "fs,tag=%s", words.items[0]);
	*device = (struct bh_vmm_device){ .words = d->words.items[d->words.count - 1], .files = { { "server", fd } } };
	return 0;
}

/* The guest's connections to ports of the host, until the monitor has ended. */
static void serve_broker(int fd, const char *prefix, int pidfd)
{
	for (;;) {
		struct pollfd set[] = { { .fd = fd, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
		uint32_t port, id;
		int r;

		if (poll(set, 2, -1) < 0)
			continue;
		r = set[0].revents ? bh_broker_read(fd, &port, &id) : set[1].revents ? -EPIPE : -EAGAIN;
		if (r == 0) {
			bh_auto_free char *path = bh_printf("%s_%u", prefix, port);
			struct bh_error err = BH_ERROR_INIT;
			bh_auto_close int socket = bh_unix_connect(path, &err);

			bh_broker_answer(fd, id, socket < 0 ? err.errnum : 0, socket);
		} else if (r != -EAGAIN) {
			return;
		}
	}
}

static int add_net(const char *option, struct devices *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	bh_auto_buf struct bh_buf device = { 0 };
	const char *name = bh_has_prefix(words.items[0], "tap=") ? words.items[0] + strlen("tap=") : NULL, *bridge = NULL;
	char made[BH_TAP_NAME_SIZE];
	bool wants_vhost = false;
	int fd, vhost_fd = -1;

	if (!name && !bh_streq(words.items[0], "tap"))
		return bh_error_text(err, EINVAL, "--net %s: tap[=NAME][,bridge=NAME][,mac=ADDRESS] is expected", option);
	if (d->count == BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
	bh_buf_adds(&device, "net");
	for (size_t i = 1; i < words.count; i++) {
		if (bh_has_prefix(words.items[i], "bridge="))
			bridge = words.items[i] + strlen("bridge=");
		else if (bh_streq(words.items[i], "vhost"))
			wants_vhost = true;
		else
			bh_buf_addf(&device, ",%s", words.items[i]);
	}
	if (wants_vhost) {
		vhost_fd = bh_vhost_net_open(err);
		if (vhost_fd < 0 && vhost_fd != -ENOENT)
			return vhost_fd;
		if (vhost_fd < 0)
			bh_warn("%s; the monitor moves the packets", err->message);
	}
	fd = bh_tap_open(name, bridge, made, err);
	if (fd < 0) {
		bh_close_fd(&vhost_fd);
		return fd;
	}
	bh_strv_add(&d->words, device.data);
	d->items[d->count] = (struct bh_vmm_device){ .words = d->words.items[d->words.count - 1], .files = { { "fd", fd } } };
	if (vhost_fd >= 0) {
		d->items[d->count].files[1].key = "vhost";
		d->items[d->count].files[1].fd = vhost_fd;
	}
	d->count++;
	return 0;
}

/* With an open file of its own, where there can be one: who shares ours isn't to find it non-blocking. */
static int open_again(int fd, int flags)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
		bh_auto_free char *path = bh_printf("/proc/self/fd/%d", fd);
		int again = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

		if (again >= 0)
			return again;
	}
	return fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static int add_console(struct devices *d, struct bh_error *err)
{
	int in = open_again(STDIN_FILENO, O_RDONLY), out = open_again(STDOUT_FILENO, O_WRONLY);

	if (in < 0 || out < 0 || d->count == BH_VMM_DEVICES_MAX) {
		bh_close_fd(&in);
		bh_close_fd(&out);
		return bh_error_text(err, ENOSPC, "no room for the console");
	}
	d->items[d->count++] = (struct bh_vmm_device){ .words = "console", .files = { { "in", in }, { "out", out } } };
	return 0;
}

/* One without files. */
static int add_plain(const char *words, struct devices *d, struct bh_error *err)
{
	if (d->count == BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
	d->items[d->count++] = (struct bh_vmm_device){ .words = words };
	return 0;
}

/* Stays as the parent, so that signals and the terminal are whose they were. */
static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return BH_EXIT_ENGINE;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int forward_pidfd = -1;

static void forward(int number)
{
	bh_pidfd_send_signal(forward_pidfd, number);
}

/* Everything a request borrows. */
struct opened {
	int kernel_fd, initrd_fd, incoming_fd, control_fd, gdb_fd, null_fd;
	struct bh_vmm_snapshot snapshots[BH_VMM_SNAPSHOTS_MAX];
	size_t snapshot_count;
	struct devices devices;
	int broker_fd;
	char *vsock_prefix, *vsock_socket;
};
#define OPENED_INIT                                                                                                                 \
	{                                                                                                                           \
		.kernel_fd = -1, .initrd_fd = -1, .incoming_fd = -1, .control_fd = -1, .gdb_fd = -1, .null_fd = -1, .broker_fd = -1 \
	}

static void opened_clear(struct opened *f)
{
	bh_close_fd(&f->kernel_fd);
	bh_close_fd(&f->null_fd);
	bh_close_fd(&f->initrd_fd);
	bh_close_fd(&f->incoming_fd);
	bh_close_fd(&f->control_fd);
	bh_close_fd(&f->gdb_fd);
	for (size_t i = 0; i < f->snapshot_count; i++) {
		bh_close_fd(&f->snapshots[i].state_fd);
		bh_close_fd(&f->snapshots[i].memory_fd);
	}
	devices_clear(&f->devices);
	bh_close_fd(&f->broker_fd);
	if (f->vsock_socket)
		unlink(f->vsock_socket);
	bh_free_ptr(&f->vsock_socket);
	bh_free_ptr(&f->vsock_prefix);
}

static int add_vsock(const char *option, struct opened *f, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	struct bh_vmm_device *device = &f->devices.items[f->devices.count];
	size_t files = 0;
	int fd;

	if (f->devices.count == BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
	bh_strv_addf(&f->devices.words, "vsock,cid=%s", words.items[0]);
	*device = (struct bh_vmm_device){ .words = f->devices.words.items[f->devices.words.count - 1] };
	f->devices.count++;
	for (size_t i = 1; i < words.count; i++) {
		if (bh_has_prefix(words.items[i], "listen=") && !f->vsock_socket) {
			fd = bh_unix_listen(words.items[i] + strlen("listen="), err);
			if (fd < 0)
				return fd;
			device->files[files].key = "listen";
			device->files[files++].fd = fd;
			f->vsock_socket = bh_strdup(words.items[i] + strlen("listen="));
		} else if (bh_has_prefix(words.items[i], "connect=") && !f->vsock_prefix) {
			if (bh_broker_pair(&f->broker_fd, &fd, err) < 0)
				return -err->errnum;
			device->files[files].key = "broker";
			device->files[files++].fd = fd;
			f->vsock_prefix = bh_strdup(words.items[i] + strlen("connect="));
		} else {
			return bh_error_text(err, EINVAL, "--vsock: %s is not known", words.items[i]);
		}
	}
	return 0;
}

static int add_snapshot(const char *option, struct opened *f, struct bh_error *err)
{
	bh_auto_strv struct bh_strv paths = bh_strv_split(option, ',');
	struct bh_vmm_snapshot *snapshot = &f->snapshots[f->snapshot_count];

	if (f->snapshot_count == BH_VMM_SNAPSHOTS_MAX || paths.count != 2)
		return bh_error_text(err, EINVAL, "--restore %s: a state file and a memory file are expected, at most %d times", option,
				     BH_VMM_SNAPSHOTS_MAX);
	*snapshot = (struct bh_vmm_snapshot){ -1, -1 };
	f->snapshot_count++;
	snapshot->state_fd = open_file(paths.items[0], err);
	if (snapshot->state_fd >= 0)
		snapshot->memory_fd = open_file(paths.items[1], err);
	return snapshot->memory_fd < 0 ? -err->errnum : 0;
}

/* A bzImage without its wrapping; a multiboot kernel as it is. */
static int open_kernel(const struct vm_run_options *o, struct bh_error *err)
{
	bh_auto_free char *folder = bh_printf("%s/kernels/inflated", bh_cli.root);
	bh_auto_close int fd = open_file(o->kernel, err);

	if (fd < 0 || o->multiboot || o->no_inflate)
		return BH_TAKE_FD(fd);
	return bh_vmm_inflate(fd, folder, err);
}

/* HOST:PORT, which no path with a folder is. */
static bool is_tcp(const char *place)
{
	return !strchr(place, '/') && strchr(place, ':');
}

/* Whoever reaches a debugger's socket owns the machine: by TCP this machine's users, by a path root. */
static int listen_for_debugger(const char *place, struct bh_error *err)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bh_auto_close int fd = -1;
	const int on = 1;
	int64_t port;

	if (!is_tcp(place))
		return bh_unix_listen(place, err);
	if (!bh_has_prefix(place, LOOPBACK) || bh_parse_int(place + strlen(LOOPBACK), 1, UINT16_MAX, &port) < 0)
		return bh_error_text(err, EINVAL, "--gdb %s: the path of a socket, or " LOOPBACK "PORT, is expected", place);
	address.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(fd, 1) < 0)
		return bh_error_set(err, errno, "listen for a debugger at %s", place);
	return BH_TAKE_FD(fd);
}

static int open_all(const struct vm_run_options *o, struct opened *f, struct bh_error *err)
{
	int r = fill_standard_streams(err);

	if (r == 0 && o->boot && o->multiboot)
		return bh_error_text(err, EINVAL, "vm run: --boot %s and --multiboot exclude each other", o->boot);
	if (r == 0 && o->cpu)
		r = bh_cpu_model_parse(o->cpu, err);
	if (r == 0 && !o->kernel && !o->restore.count && !o->incoming)
		return bh_error_text(err, EINVAL, "vm run: which kernel? (--kernel FILE)");
	if (r == 0 && o->kernel)
		r = f->kernel_fd = open_kernel(o, err);
	if (r >= 0 && o->initrd)
		r = f->initrd_fd = open_file(o->initrd, err);
	for (size_t i = 0; r >= 0 && i < o->restore.count; i++)
		r = add_snapshot(o->restore.items[i], f, err);
	for (size_t i = 0; r >= 0 && i < o->disk.count; i++)
		r = add_disk(o->disk.items[i], &f->devices, err);
	for (size_t i = 0; r >= 0 && i < o->net.count; i++)
		r = add_net(o->net.items[i], &f->devices, err);
	for (size_t i = 0; r >= 0 && i < o->share.count; i++)
		r = add_share(o->share.items[i], &f->devices, err);
	/* Linux asks for it at boot. */
	if (r >= 0 && !o->multiboot)
		r = add_plain("rng", &f->devices, err);
	if (r >= 0 && o->balloon >= 0) {
		bh_strv_addf(&f->devices.words, "balloon,pages=%lld", (long long)o->balloon / 4096);
		r = add_plain(f->devices.words.items[f->devices.words.count - 1], &f->devices, err);
	}
	if (r >= 0 && bh_streq(o->console, "virtio"))
		r = add_console(&f->devices, err);
	if (r >= 0 && bh_streq(o->console, "virtio"))
		r = f->null_fd = open_file("/dev/null", err);
	if (r >= 0 && o->vsock)
		r = add_vsock(o->vsock, f, err);
	if (r >= 0 && o->control)
		r = f->control_fd = bh_unix_listen(o->control, err);
	if (r >= 0 && o->gdb)
		r = f->gdb_fd = listen_for_debugger(o->gdb, err);
	if (r >= 0 && o->incoming)
		r = f->incoming_fd = bh_socket_accept_one(o->incoming, err);
	return r < 0 ? r : 0;
}

static int spawn(const struct vm_run_options *o, const struct opened *f, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	const struct bh_vmm_request request = {
		.memory = o->memory,
		.cpus = o->cpus,
		.cpu = o->cpu,
		.kernel_fd = f->kernel_fd,
		.initrd_fd = f->initrd_fd,
		.initrd_name = o->initrd,
		.command_line = o->append,
		.kernel_name = o->kernel,
		.boot = o->multiboot ? "multiboot" : o->boot,
		.hugetlb = o->hugepages,
		.pit = o->multiboot,
		.test_devices = o->multiboot,
		.snapshots = f->snapshots,
		.snapshot_count = f->snapshot_count,
		.incoming_fd = f->incoming_fd,
		.lazy = o->lazy,
		.paused = o->paused,
		.control_fd = f->control_fd,
		.gdb_fd = f->gdb_fd,
		.pluggable = o->control && !o->multiboot && !bh_streq(o->transport, "mmio"),
		.transport = o->transport,
		.dirty = o->dirty,
		.devices = f->devices.items,
		.device_count = f->devices.count,
		.streams = f->null_fd >= 0 ? (const int[]){ f->null_fd, STDERR_FILENO, STDERR_FILENO } : NULL,
		.explain = o->explain,
	};

	return bh_vmm_spawn(&request, ret_pid, ret_pidfd, err);
}

static int run(void *arg, int argc, char **argv)
{
	const struct vm_run_options *o = arg;
	__attribute__((cleanup(opened_clear))) struct opened files = OPENED_INIT;
	bh_auto_close int pidfd = -1;
	struct sigaction action = { .sa_handler = forward };
	struct bh_error err = BH_ERROR_INIT;
	pid_t pid = -1;
	int r = open_all(o, &files, &err), status;

	(void)argc, (void)argv;
	if (r == 0)
		r = spawn(o, &files, &pid, &pidfd, &err);
	if (r == 0) {
		forward_pidfd = pidfd;
		sigaction(SIGTERM, &action, NULL);
		sigaction(SIGHUP, &action, NULL);
		/* From the terminal it goes to both. */
		signal(SIGINT, SIG_IGN);
	}
	/* Only the monitor's ends of sockets keep them open: file servers end with it. */
	if (r == 0) {
		devices_clear(&files.devices);
		files.devices = (struct devices){ 0 };
	}
	if (r == 0 && files.broker_fd >= 0) {
		serve_broker(files.broker_fd, files.vsock_prefix, pidfd);
	}
	status = r < 0 ? bh_cli_fail(&err, BH_EXIT_ENGINE) : wait_for(pid);
	if (files.control_fd >= 0)
		unlink(o->control);
	if (files.gdb_fd >= 0 && !is_tcp(o->gdb))
		unlink(o->gdb);
	return status;
}

const struct bh_command bh_command_vm_run = {
	.name = "vm run",
	.group = "Machines",
	.synopsis = "[OPTIONS]",
	.summary = "Start a kernel in a virtual machine of its own",
	.description = "Starts the kernel in a new virtual machine, whose serial port is standard input and output, and stays until it ends. "
		       "The exit status is the exit code that a multiboot guest wrote to port 0xf4, 0 after a power-off or a reset, 128 plus the "
		       "number of the signal that ended it, and 125 if the machine could not be made or could not go on.",
	.sets = { run_options },
	.options_size = sizeof(struct vm_run_options),
	.preset = preset,
	.min_arguments = 0,
	.max_arguments = 0,
	.run = run,
};
