/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/plug.h"

#include "base/time.h"
#include "vmm/machine-internal.h"
#include "vmm/virtio/pci.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* `type`: as virtio/table.h has it, up to a comma. */
static int check(const struct bh_machine *m, const char *type, struct bh_error *err)
{
	size_t length = strcspn(type, ",");
	bool is_block = length == strlen("block") && strncmp(type, "block", length) == 0;
	bool is_net = length == strlen("net") && strncmp(type, "net", length) == 0;

	if (!m->pluggable)
		return bh_error_text(err, ENOTSUP, "this machine's devices stay as they are while it runs");
	if (!is_block && !is_net)
		return bh_error_text(err, ENOTSUP, "%.*s: only disks and network cards come and go", (int)length, type);
	return 0;
}

static int make(struct bh_machine *m, const char *words, struct bh_virtio_device **ret_device, struct bh_error *err)
{
	int r = bh_virtio_make(&m->vm, m->loops[0], words, ret_device, NULL, err);

	if (r < 0)
		return r;
	r = bh_virtio_pci_add(m->pci, *ret_device, err);
	if (r < 0)
		bh_virtio_free(*ret_device);
	return r;
}

int bh_machine_may_plug(const struct bh_machine *m, const char *words, size_t at, struct bh_error *err)
{
	int r = check(m, words, err);

	if (r == 0 && at > m->device_count)
		r = bh_error_text(err, EINVAL, "the machine has %zu devices", m->device_count);
	if (r == 0 && m->device_count == BH_PCI_SLOTS - 1)
		r = bh_error_text(err, ENOSPC, "the machine has no slot left: at most %d devices", BH_PCI_SLOTS - 1);
	return r;
}

int bh_machine_plug(struct bh_machine *m, const char *words, size_t at, struct bh_error *err)
{
	bool stood = atomic_load(&m->stands);
	struct bh_virtio_device *device;
	int r;

	if (!stood)
		bh_machine_pause(m);
	r = make(m, words, &device, err);
	if (r == 0) {
		pthread_mutex_lock(&m->list_lock);
		memmove(&m->devices[at + 1], &m->devices[at], (m->device_count - at) * sizeof m->devices[0]);
		m->devices[at] = device;
		m->device_count++;
		pthread_mutex_unlock(&m->list_lock);
	}
	if (!stood)
		bh_machine_resume(m);
	if (r == 0)
		bh_plug_tell(&m->vm, device->place, true);
	return r;
}

/* 0: the guest has let go of the slot. */
static int await_guest(struct bh_machine *m, unsigned slot, int timeout_ms)
{
	int64_t until = bh_monotonic_ns() / 1000000 + timeout_ms;

	while (!bh_plug_take_gone(slot)) {
		struct pollfd fds[] = { { bh_plug_gone_fd(), POLLIN, 0 }, { m->vm.end_fd, POLLIN, 0 } };
		int64_t left = until - bh_monotonic_ns() / 1000000;

		if (atomic_load(&m->vm.end) != BH_VM_RUNNING)
			return -ESHUTDOWN;
		if (left <= 0)
			return -ETIMEDOUT;
		poll(fds, BH_ARRAY_SIZE(fds), (int)left);
	}
	return 0;
}

/* Those of the device alone end with it. */
static size_t own_loops(const struct bh_machine *m, const struct bh_virtio_device *device, struct bh_loop *loops[BH_VIRTIO_QUEUES_MAX])
{
	size_t count = 0;

	for (unsigned i = 0; i < device->queue_count; i++) {
		struct bh_loop *loop = device->queues[i].loop;

		if (loop != m->loops[0] && (count == 0 || loops[count - 1] != loop))
			loops[count++] = loop;
	}
	return count;
}

static void drop_loop(struct bh_machine *m, struct bh_loop *loop)
{
	size_t i = 0;

	while (m->loops[i] != loop)
		i++;
	m->loops[i] = m->loops[--m->loop_count];
	bh_loop_free(loop);
}

static void take_out(struct bh_machine *m, size_t at)
{
	struct bh_virtio_device *device = m->devices[at];
	struct bh_loop *loops[BH_VIRTIO_QUEUES_MAX];
	size_t count = own_loops(m, device, loops);

	pthread_mutex_lock(&m->list_lock);
	m->device_count--;
	memmove(&m->devices[at], &m->devices[at + 1], (m->device_count - at) * sizeof m->devices[0]);
	pthread_mutex_unlock(&m->list_lock);
	bh_virtio_pci_remove(device);
	bh_virtio_detach(device);
	bh_virtio_free(device);
	for (size_t i = 0; i < count; i++)
		drop_loop(m, loops[i]);
}

int bh_machine_unplug(struct bh_machine *m, size_t at, int timeout_ms, struct bh_error *err)
{
	unsigned slot;
	int r;

	if (at >= m->device_count)
		return bh_error_text(err, ENOENT, "the machine has %zu devices", m->device_count);
	r = check(m, m->devices[at]->driver->name, err);
	if (r < 0)
		return r;
	if (atomic_load(&m->stands))
		return bh_error_text(err, EBUSY, "the machine is paused, and its guest can't let go of a device");
	slot = m->devices[at]->place;
	/* It may have since it was last asked. */
	if (!bh_plug_take_gone(slot)) {
		bh_plug_tell(&m->vm, slot, false);
		r = await_guest(m, slot, timeout_ms);
	}
	if (r == -ETIMEDOUT)
		return bh_error_text(err, ETIMEDOUT, "the guest hasn't let go of the device within %d ms", timeout_ms);
	if (r < 0)
		return bh_error_text(err, -r, "the machine is ending");
	bh_machine_pause(m);
	take_out(m, at);
	bh_machine_resume(m);
	return 0;
}
