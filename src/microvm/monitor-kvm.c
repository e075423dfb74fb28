/* SPDX-License-Identifier: Apache-2.0 */
/* Microvms on KVM: bulkhead-vmm, with the image and the container's disk as virtio disks and the agent's stream on a vsock. */
#include "microvm/microvm-internal.h"

#include "vmm/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BOOT_TIMEOUT_MS 120000
#define CID "3" /* each machine has a host of its own: addresses needn't differ */
#define CPUID_ENTRIES_MAX 256
#define LEAF1_ECX_SSE3 1u
#define DEVICES_MAX (5 + BH_AGENT_SHARES_MAX)

/* A KVM without a processor that has virtualization (PVM) emulates the guest's kernel, and not all of what one executes. Its sign is that it doesn't even
 * give SSE3, which every such processor has. */
static int check_processor(int fd, struct bh_error *err)
{
	bh_auto_free struct kvm_cpuid2 *table = bh_calloc(1, sizeof *table + CPUID_ENTRIES_MAX * sizeof table->entries[0]);

	table->nent = CPUID_ENTRIES_MAX;
	if (ioctl(fd, KVM_GET_SUPPORTED_CPUID, table) < 0)
		return bh_error_set(err, errno, "ask KVM what processors it can give");
	for (uint32_t i = 0; i < table->nent; i++)
		if (table->entries[i].function == 1 && table->entries[i].ecx & LEAF1_ECX_SSE3)
			return 0;
	return bh_error_text(err, ENOTSUP, "this machine's KVM gives no SSE3, so it emulates a guest's kernel, which does for small ones only");
}

static int check(struct bh_error *err)
{
	bh_auto_close int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return bh_error_text(
			err, ENODEV,
			"this machine has no /dev/kvm: is virtualization on in the firmware, and the kernel's kvm module loaded? (lsmod | grep kvm)");
	if (fd < 0)
		return bh_error_set(err, errno, "open /dev/kvm");
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	return version == KVM_API_VERSION ?
		       check_processor(fd, err) :
		       bh_error_text(err, ENOTSUP, "/dev/kvm speaks version %d of its interface, not %d", version, KVM_API_VERSION);
}

/* Its words are the caller's to free. */
static void add(struct bh_vmm_request *request, struct bh_vmm_device *devices, char *words, const char *key, int fd)
{
	devices[request->device_count++] = (struct bh_vmm_device){ .words = words, .files = { { key, fd } } };
}

static int spawn(const struct bh_monitor_request *q, pid_t *ret_pid, int *ret_pidfd, struct bh_error *err)
{
	struct bh_vmm_device devices[DEVICES_MAX];
	struct bh_vmm_request request = {
		.memory = q->memory,
		.cpus = q->cpus,
		.kernel_fd = q->kernel_fd,
		.initrd_fd = q->initrd_fd,
		.incoming_fd = -1,
		.control_fd = q->control_fd,
		.command_line = q->command_line,
		.devices = devices,
		.streams = (const int[]){ q->console_fd, q->console_fd, q->console_fd },
	};
	int r;

	add(&request, devices, bh_strdup("vsock,cid=" CID ",port=" BH_STRINGIFY(BH_AGENT_VSOCK_PORT)), "stream", q->agent_fd);
	if (q->image_fd >= 0)
		add(&request, devices, bh_strdup("block,readonly,serial=image"), "fd", q->image_fd);
	if (q->writable_fd >= 0)
		add(&request, devices, bh_strdup("block,serial=writable"), "fd", q->writable_fd);
	if (q->tap_fd >= 0)
		add(&request, devices, bh_printf("net,mac=%s", q->mac), "fd", q->tap_fd);
	for (size_t i = 0; i < q->share_count; i++)
		add(&request, devices, bh_printf("fs,tag=share%zu", i), "server", q->share_fds[i]);
	r = bh_vmm_spawn(&request, ret_pid, ret_pidfd, err);
	for (size_t i = 0; i < request.device_count; i++)
		free((char *)devices[i].words);
	return r;
}

const struct bh_monitor bh_monitor_kvm = {
	.name = "kvm",
	.transport = "vsock",
	.has_virtio_fs = true,
	.boot_timeout_ms = BOOT_TIMEOUT_MS,
	.greeting = "",
	.pause = "{\"command\":\"pause\"}\n",
	.resume = "{\"command\":\"resume\"}\n",
	.check = check,
	.spawn = spawn,
};
