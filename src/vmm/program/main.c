/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulkhead-vmm: one process per virtual machine.
 *
 * It is given open files and numbers, never paths: what it can reach is what its starter put into its hands. Its exit status is
 * the guest's exit code, 0 after a power-off, 128 + N after signal N, and 125 with one line on stderr when the machine can't be
 * made or can't go on.
 */
#include "vmm/files.h"
#include "vmm/jail.h"
#include "vmm/machine.h"

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/option.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILED 125
#define FILES_FOLDER_FD 3
#define FILES_SOCKET_FD 4
#define KERNEL_MAX (256u << 20)
#define INITRD_MAX (1u << 30)

struct options {
	int64_t memory, cpus, kernel_fd, initrd_fd, kvm_fd;
	const char *boot, *cpu, *transport, *dirty, *command_line, *initrd_name, *explain;
	bool test_devices, hugetlb, pit, jail;
	struct bh_strv devices, restore;
	int64_t incoming_fd, userfault_fd, control_fd, gdb_fd, reset_status;
	bool paused, files, readonly, pluggable;
};

static const struct bh_option table[] = {
	{ 0, "memory", BH_OPTION_BYTES, offsetof(struct options, memory), "BYTES", "Guest memory", NULL, false },
	{ 0, "hugetlb", BH_OPTION_BOOL, offsetof(struct options, hugetlb), NULL, "Take it from the reserved huge pages", NULL, false },
	{ 0, "cpus", BH_OPTION_INT, offsetof(struct options, cpus), "N", "Processors", NULL, false },
	{ 0, "cpu", BH_OPTION_STRING, offsetof(struct options, cpu), "MODEL", "Which features they have (cpu-model.h)", NULL, false },
	{ 0, "kernel-fd", BH_OPTION_INT, offsetof(struct options, kernel_fd), "FD", "The kernel", NULL, false },
	{ 0, "initrd-fd", BH_OPTION_INT, offsetof(struct options, initrd_fd), "FD", "The initial RAM disk", NULL, false },
	{ 0, "initrd-name", BH_OPTION_STRING, offsetof(struct options, initrd_name), "TEXT", "What the kernel is told it is", NULL, false },
	{ 0, "kvm-fd", BH_OPTION_INT, offsetof(struct options, kvm_fd), "FD", "/dev/kvm", NULL, false },
	{ 0, "boot", BH_OPTION_STRING, offsetof(struct options, boot), "PROTOCOL", "How the kernel is started (default auto)",
	  "auto|linux|pvh|multiboot", false },
	{ 0, "command-line", BH_OPTION_STRING, offsetof(struct options, command_line), "TEXT", "The kernel's", NULL, false },
	{ 0, "device", BH_OPTION_LIST, offsetof(struct options, devices), "TYPE,...", "A virtio device", NULL, false },
	{ 0, "pluggable", BH_OPTION_BOOL, offsetof(struct options, pluggable), NULL, "Disks and network cards may come and go while the guest runs",
	  NULL, false },
	{ 0, "transport", BH_OPTION_STRING, offsetof(struct options, transport), "BUS", "Where the devices are (default pci)", "pci|mmio", false },
	{ 0, "dirty", BH_OPTION_STRING, offsetof(struct options, dirty), "FORM", "How KVM logs written pages (default bitmap)", "bitmap|ring", false },
	{ 0, "test-devices", BH_OPTION_BOOL, offsetof(struct options, test_devices), NULL, "The devices of test guests; port 0xf4 ends the machine",
	  NULL, false },
	{ 0, "pit", BH_OPTION_BOOL, offsetof(struct options, pit), NULL, "An 8254 timer", NULL, false },
	{ 0, "restore", BH_OPTION_LIST, offsetof(struct options, restore), "FD:FD", "State and memory of a snapshot to start from", NULL, false },
	{ 0, "userfault-fd", BH_OPTION_INT, offsetof(struct options, userfault_fd), "FD", "/dev/userfaultfd: load its memory when it is needed", NULL,
	  false },
	{ 0, "incoming-fd", BH_OPTION_INT, offsetof(struct options, incoming_fd), "FD", "Receive the machine from here", NULL, false },
	{ 0, "control-fd", BH_OPTION_INT, offsetof(struct options, control_fd), "FD", "A listening socket for requests", NULL, false },
	{ 0, "gdb-fd", BH_OPTION_INT, offsetof(struct options, gdb_fd), "FD", "A listening socket for a debugger", NULL, false },
	{ 0, "reset-status", BH_OPTION_INT, offsetof(struct options, reset_status), "N", "The exit status after a reset by the guest", NULL, false },
	{ 0, "paused", BH_OPTION_BOOL, offsetof(struct options, paused), NULL, "Wait until a request lets the machine run", NULL, false },
	{ 0, "files", BH_OPTION_BOOL, offsetof(struct options, files), NULL, "Share the folder at descriptor 3 over the socket at 4 (files.h)", NULL,
	  false },
	{ 0, "readonly", BH_OPTION_BOOL, offsetof(struct options, readonly), NULL, "With --files: nothing in it can be changed", NULL, false },
	{ 0, "jail", BH_OPTION_BOOL, offsetof(struct options, jail), NULL, "Enter the jail: the starter has made the namespaces", NULL, false },
	{ 0, "explain", BH_OPTION_OPTIONAL, offsetof(struct options, explain), "json", "Tell each step on stderr", NULL, false },
	{ 0 },
};

static void say(const char *words)
{
	bh_auto_free char *line = bh_printf("bulkhead-vmm: %s\n", words);

	/* stdio would ask for more system calls than the jail has. */
	bh_write_all(STDERR_FILENO, line, strlen(line));
}

static int fail(const struct bh_error *err)
{
	say(err->message);
	return FAILED;
}

/* The machine's end as an exit status, and in words where the guest didn't choose it or a reset hides why. */
static int conclude(const struct bh_machine_end *end, int reset_status)
{
	bool reset = end->kind == BH_VM_RESET || end->kind == BH_VM_FAULTED;
	struct bh_error err = BH_ERROR_INIT;

	if (end->output_errno) {
		bh_error_set(&err, end->output_errno, "write what the guest's console said");
		fail(&err);
	}
	if (reset || end->kind == BH_VM_FAILED) {
		bh_error_text(&err, EIO, reset ? "the guest was reset (%s)" : "%s", end->words);
		fail(&err);
	}
	/* Where a machine begins again, so does one that has faulted. Where it ends, that was no reset that somebody wanted. */
	if (end->kind == BH_VM_FAILED || (end->kind == BH_VM_FAULTED && !reset_status))
		return FAILED;
	return reset ? reset_status : end->exit_code;
}

static int parse_snapshots(const struct bh_strv *words, struct bh_machine_config *config, struct bh_error *err)
{
	for (size_t i = 0; i < words->count; i++) {
		bh_auto_strv struct bh_strv fds = bh_strv_split(words->items[i], ':');
		int64_t state, memory;

		if (i == BH_SNAPSHOTS_MAX)
			return bh_error_text(err, E2BIG, "more than %d snapshots", BH_SNAPSHOTS_MAX);
		if (fds.count != 2 || bh_parse_int(fds.items[0], 0, INT32_MAX, &state) < 0 || bh_parse_int(fds.items[1], 0, INT32_MAX, &memory) < 0)
			return bh_error_text(err, EINVAL, "--restore %s: two descriptors are expected", words->items[i]);
		config->restore[config->restore_count++] = (struct bh_snapshot_files){ (int)state, (int)memory };
	}
	return 0;
}

static enum bh_boot_protocol find_protocol(const char *name, const struct bh_boot_file *kernel)
{
	static const struct {
		const char *name;
		enum bh_boot_protocol protocol;
	} protocols[] = { { "linux", BH_BOOT_LINUX }, { "pvh", BH_BOOT_PVH }, { "multiboot", BH_BOOT_MULTIBOOT } };

	for (size_t i = 0; name && i < BH_ARRAY_SIZE(protocols); i++)
		if (bh_streq(name, protocols[i].name))
			return protocols[i].protocol;
	return bh_boot_choose(kernel);
}

/* What is needed only until it lies in the guest's memory: mapped where that can be, so that it is never copied twice. */
struct boot_files {
	struct boot_bytes {
		char *bytes;
		size_t length;
		bool mapped;
	} kernel, initrd;
};

static int take_file(int64_t fd, size_t max, const char *name, struct boot_bytes *ret_file, struct bh_error *err)
{
	struct bh_buf copy = { 0 };
	struct stat st;
	int r = 0;

	if (fd < 0)
		return 0;
	if (fstat((int)fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && (uint64_t)st.st_size <= max) {
		ret_file->bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, (int)fd, 0);
		ret_file->mapped = ret_file->bytes != MAP_FAILED;
		ret_file->length = (size_t)st.st_size;
	}
	if (!ret_file->mapped) {
		r = bh_read_fd((int)fd, max, &copy);
		ret_file->length = copy.length;
		ret_file->bytes = copy.data;
	}
	close((int)fd);
	return r < 0 ? bh_error_set(err, -r, "read the %s", name) : 0;
}

static void drop_file(struct boot_bytes *file)
{
	if (file->mapped)
		munmap(file->bytes, file->length);
	else
		free(file->bytes);
	*file = (struct boot_bytes){ 0 };
}

static void drop_files(void *context)
{
	struct boot_files *files = context;

	drop_file(&files->kernel);
	drop_file(&files->initrd);
}

int main(int argc, char **argv)
{
	const struct bh_option *const sets[] = { table, NULL };
	struct options o = { .memory = 128 << 20,
			     .cpus = 1,
			     .kernel_fd = -1,
			     .initrd_fd = -1,
			     .kvm_fd = -1,
			     .incoming_fd = -1,
			     .userfault_fd = -1,
			     .control_fd = -1,
			     .gdb_fd = -1,
			     .command_line = "",
			     .initrd_name = "" };
	struct boot_files files = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_machine_config config;
	struct bh_machine_end end;
	int rest = 0, r;

	r = bh_options_parse(sets, &o, false, argc - 1, argv + 1, &rest, &err);
	if (r == 0 && rest != 0)
		r = bh_error_text(&err, EINVAL, "no arguments are taken");
	if (r == 0 && o.files)
		return bh_files_serve(FILES_FOLDER_FD, FILES_SOCKET_FD, o.readonly);
	if (r == 0 && o.kernel_fd < 0 && o.restore.count == 0 && o.incoming_fd < 0)
		r = bh_error_text(&err, EINVAL, "--kernel-fd is missing");
	if (r == 0 && o.explain)
		bh_explain_enable(*o.explain ? BH_EXPLAIN_JSON : BH_EXPLAIN_TEXT, STDERR_FILENO);
	if (r == 0 && o.jail)
		r = bh_jail_enter(&err);
	if (r == 0)
		r = take_file(o.kernel_fd, KERNEL_MAX, "kernel", &files.kernel, &err);
	if (r == 0)
		r = take_file(o.initrd_fd, INITRD_MAX, "initial RAM disk", &files.initrd, &err);
	if (r < 0)
		return fail(&err);
	config = (struct bh_machine_config){
		.vm = { .memory = (uint64_t)o.memory,
			.vcpus = (unsigned)BH_MIN(BH_MAX(o.cpus, 0), BH_VCPUS_MAX + 1),
			.cpu = o.cpu,
			.pit = o.pit,
			.dirty_ring = bh_streq(o.dirty, "ring"),
			.timed = o.explain != NULL,
			.locked = o.jail,
			.backing = o.hugetlb ? BH_MEMORY_HUGETLB : BH_MEMORY_ANONYMOUS },
		.boot = { .kernel = { (const uint8_t *)files.kernel.bytes, files.kernel.length, "kernel" }, .command_line = o.command_line },
		.loaded = drop_files,
		.loaded_context = &files,
		.kvm_fd = (int)o.kvm_fd,
		.input_fd = STDIN_FILENO,
		.output_fd = STDOUT_FILENO,
		.test_devices = o.test_devices,
		.transport = bh_streq(o.transport, "mmio") ? BH_TRANSPORT_MMIO : BH_TRANSPORT_PCI,
		.pluggable = o.pluggable && !bh_streq(o.transport, "mmio"),
		.devices = o.devices.items,
		.incoming_fd = (int)o.incoming_fd,
		.userfault_fd = (int)o.userfault_fd,
		.control_fd = (int)o.control_fd,
		.gdb_fd = (int)o.gdb_fd,
		.paused = o.paused,
	};
	config.protocol = find_protocol(o.boot, &config.boot.kernel);
	if (parse_snapshots(&o.restore, &config, &err) < 0)
		return fail(&err);
	if (o.initrd_fd >= 0)
		config.boot.initrd = (struct bh_boot_file){ (const uint8_t *)files.initrd.bytes, files.initrd.length, o.initrd_name };
	if (bh_machine_run(&config, &end, &err) < 0)
		return fail(&err);
	return conclude(&end, (int)o.reset_status);
}
