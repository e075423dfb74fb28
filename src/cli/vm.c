/* SPDX-License-Identifier: Apache-2.0 */
/* Machines with a kernel of their own, without an image. */
#include "cli/cli.h"
#include "linux/syscall.h"
#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEFAULT_MEMORY (128 << 20)

struct vm_run_options {
	int64_t memory, cpus;
	const char *kernel, *initrd, *append, *explain;
	bool multiboot, hugepages;
	struct bh_strv disk;
};

static const struct bh_option run_options[] = {
	{ 'm', "memory", BH_OPTION_BYTES, offsetof(struct vm_run_options, memory), "BYTES", "The guest's memory (default 128m)", NULL, false },
	{ 0, "hugepages", BH_OPTION_BOOL, offsetof(struct vm_run_options, hugepages), NULL, "Take it from the host's reserved huge pages", NULL, false },
	{ 'c', "cpus", BH_OPTION_INT, offsetof(struct vm_run_options, cpus), "N", "Processors, 1 to 64 (default 1)", NULL, false },
	{ 'k', "kernel", BH_OPTION_STRING, offsetof(struct vm_run_options, kernel), "FILE", "The kernel to start", NULL, false },
	{ 0, "multiboot", BH_OPTION_BOOL, offsetof(struct vm_run_options, multiboot), NULL,
	  "It is a multiboot kernel; what it writes to port 0xf4 is the exit code", NULL, false },
	{ 0, "initrd", BH_OPTION_STRING, offsetof(struct vm_run_options, initrd), "FILE", "A file beside it: initial RAM disk, or multiboot module",
	  NULL, false },
	{ 0, "disk", BH_OPTION_LIST, offsetof(struct vm_run_options, disk), "FILE[,readonly][,serial=TEXT]",
	  "A disk: an image file or a block device", NULL, false },
	{ 0, "append", BH_OPTION_STRING, offsetof(struct vm_run_options, append), "TEXT", "The kernel's command line", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct vm_run_options, explain), "json", "Tell each step and, at the end, the VM exits", NULL,
	  false },
	{ 0 },
};

static void preset(void *arg)
{
	struct vm_run_options *o = arg;

	o->memory = DEFAULT_MEMORY;
	o->cpus = 1;
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

static int add_disk(const char *option, struct devices *d, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(option, ',');
	const char *rest = option + strlen(words.items[0]);
	int fd;

	if (d->count == BH_VMM_DEVICES_MAX)
		return bh_error_text(err, ENOSPC, "more than %d devices", BH_VMM_DEVICES_MAX);
	fd = open(words.items[0], (bh_strv_contains(&words, "readonly") ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return bh_error_set(err, errno, "open the disk %s", words.items[0]);
	bh_strv_addf(&d->words, "block%s", rest);
	d->items[d->count++] = (struct bh_vmm_device){ .words = d->words.items[d->words.count - 1], .files = { { "fd", fd } } };
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

static int run(void *arg, int argc, char **argv)
{
	const struct vm_run_options *o = arg;
	bh_auto_close int kernel = -1, initrd = -1, pidfd = -1;
	struct sigaction action = { .sa_handler = forward };
	__attribute__((cleanup(devices_clear))) struct devices devices = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	pid_t pid = -1;
	int r = 0;

	(void)argc, (void)argv;
	if (!o->kernel)
		r = bh_error_text(&err, EINVAL, "vm run: which kernel? (--kernel FILE)");
	if (r == 0)
		r = fill_standard_streams(&err);
	if (r == 0)
		r = kernel = open_file(o->kernel, &err);
	if (r >= 0 && o->initrd)
		r = initrd = open_file(o->initrd, &err);
	for (size_t i = 0; r >= 0 && i < o->disk.count; i++)
		r = add_disk(o->disk.items[i], &devices, &err);
	if (r >= 0) {
		const struct bh_vmm_request request = {
			.memory = o->memory,
			.cpus = o->cpus,
			.kernel_fd = kernel,
			.initrd_fd = initrd,
			.initrd_name = o->initrd,
			.command_line = o->append,
			.multiboot = o->multiboot,
			.hugetlb = o->hugepages,
			.pit = o->multiboot,
			.debug_exit = o->multiboot,
			.devices = devices.items,
			.device_count = devices.count,
			.explain = o->explain,
		};

		r = bh_vmm_spawn(&request, &pid, &pidfd, &err);
	}
	if (r < 0)
		return bh_cli_fail(&err, BH_EXIT_ENGINE);
	forward_pidfd = pidfd;
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	/* From the terminal it goes to both. */
	signal(SIGINT, SIG_IGN);
	return wait_for(pid);
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
