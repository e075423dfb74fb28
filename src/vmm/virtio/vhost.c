/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/vhost.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Features of the queues and of what lies in them. The rest is the backend's. */
#define WORKERS_FEATURES (BH_VIRTIO_F_INDIRECT_DESC | BH_VIRTIO_F_EVENT_IDX | BH_VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_NET_F_MRG_RXBUF)

static int tell_memory(const struct bh_vhost *v, const struct bh_guest_memory *memory)
{
	bh_auto_free struct vhost_memory *table = bh_calloc(1, sizeof *table + memory->count * sizeof table->regions[0]);

	table->nregions = (uint32_t)memory->count;
	for (size_t i = 0; i < memory->count; i++)
		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = memory->regions[i].address,
			.memory_size = memory->regions[i].size,
			.userspace_addr = (uintptr_t)memory->regions[i].host,
		};
	return ioctl(v->fd, VHOST_SET_MEM_TABLE, table) < 0 ? -errno : 0;
}

int bh_vhost_make(int fd, const struct bh_guest_memory *memory, unsigned queue_count, struct bh_vhost *ret_vhost, struct bh_error *err)
{
	struct bh_vhost v = { .fd = fd, .queue_count = queue_count };
	unsigned long long features = 0;
	int r = 0;

	for (unsigned i = 0; i < BH_VHOST_QUEUES_MAX; i++)
		v.call_fds[i] = v.error_fds[i] = -1;
	for (unsigned i = 0; r == 0 && i < queue_count; i++) {
		v.call_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		v.error_fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (v.call_fds[i] < 0 || v.error_fds[i] < 0)
			r = bh_error_set(err, errno, "make an eventfd");
	}
	if (r == 0 && (ioctl(fd, VHOST_SET_OWNER) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0))
		r = bh_error_set(err, errno, "become the owner of a vhost device");
	if (r == 0 && WORKERS_FEATURES & ~features)
		r = bh_error_text(err, ENOTSUP, "this kernel's vhost device lacks the features 0x%llx", WORKERS_FEATURES & ~features);
	if (r == 0) {
		r = tell_memory(&v, memory);
		if (r < 0)
			bh_error_set(err, -r, "tell a vhost device where guest memory is");
	}
	if (r < 0)
		bh_vhost_clear(&v);
	else
		*ret_vhost = v;
	return r;
}

void bh_vhost_clear(struct bh_vhost *v)
{
	bh_close_fd(&v->fd);
	for (unsigned i = 0; i < v->queue_count; i++) {
		bh_close_fd(&v->call_fds[i]);
		bh_close_fd(&v->error_fds[i]);
	}
	v->queue_count = 0;
	v->running = false;
}

static int set_file(const struct bh_vhost *v, unsigned long request, unsigned queue, int fd)
{
	struct vhost_vring_file file = { .index = queue, .fd = fd };

	return ioctl(v->fd, request, &file) < 0 ? -errno : 0;
}

static int set_number(const struct bh_vhost *v, unsigned long request, unsigned queue, unsigned number)
{
	struct vhost_vring_state state = { .index = queue, .num = number };

	return ioctl(v->fd, request, &state) < 0 ? -errno : 0;
}

/* Its areas lie in guest memory: bh_virtqueue_is_valid was asked when it was enabled. */
static int set_addresses(const struct bh_vhost *v, const struct bh_virtqueue *q)
{
	const struct bh_guest_memory *memory = &q->device->vm->memory;
	struct vhost_vring_addr addresses = {
		.index = q->index,
		.desc_user_addr = (uintptr_t)bh_guest_at(memory, q->descriptors, 1),
		.avail_user_addr = (uintptr_t)bh_guest_at(memory, q->available, 1),
		.used_user_addr = (uintptr_t)bh_guest_at(memory, q->used, 1),
	};

	return ioctl(v->fd, VHOST_SET_VRING_ADDR, &addresses) < 0 ? -errno : 0;
}

static int set_queue(const struct bh_vhost *v, const struct bh_virtqueue *q)
{
	int r = set_number(v, VHOST_SET_VRING_NUM, q->index, q->size);

	if (r == 0)
		r = set_number(v, VHOST_SET_VRING_BASE, q->index, q->next_available);
	if (r == 0)
		r = set_addresses(v, q);
	if (r == 0)
		r = set_file(v, VHOST_SET_VRING_CALL, q->index, v->call_fds[q->index]);
	if (r == 0)
		r = set_file(v, VHOST_SET_VRING_ERR, q->index, v->error_fds[q->index]);
	return r < 0 ? r : set_file(v, VHOST_SET_VRING_KICK, q->index, q->event_fd);
}

/* The worker has let go of the queue when this returns. */
static void stop_queue(const struct bh_vhost *v, unsigned queue)
{
	set_file(v, VHOST_NET_SET_BACKEND, queue, -1);
	set_file(v, VHOST_SET_VRING_KICK, queue, -1);
	set_file(v, VHOST_SET_VRING_CALL, queue, -1);
}

int bh_vhost_start(struct bh_vhost *v, struct bh_virtio_device *device, int backend_fd)
{
	uint64_t features = device->features & WORKERS_FEATURES;
	int r = ioctl(v->fd, VHOST_SET_FEATURES, &features) < 0 ? -errno : 0;

	for (unsigned i = 0; r == 0 && i < v->queue_count; i++)
		r = device->queues[i].enabled ? set_queue(v, &device->queues[i]) : -EINVAL;
	for (unsigned i = 0; r == 0 && i < v->queue_count; i++)
		r = set_file(v, VHOST_NET_SET_BACKEND, i, backend_fd);
	for (unsigned i = 0; r < 0 && i < v->queue_count; i++)
		stop_queue(v, i);
	v->running = r == 0;
	return r;
}

void bh_vhost_stop(struct bh_vhost *v, struct bh_virtio_device *device)
{
	uint64_t count;

	if (!v->running)
		return;
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct bh_virtqueue *q = &device->queues[i];
		struct vhost_vring_state state = { .index = i };

		stop_queue(v, i);
		/* What it took it has given back, so both numbers are the same. */
		if (ioctl(v->fd, VHOST_GET_VRING_BASE, &state) == 0)
			q->next_available = q->next_used = q->signalled = (uint16_t)state.num;
		if (read(v->call_fds[i], &count, sizeof count) == sizeof count)
			bh_virtio_interrupt(device, i);
	}
	v->running = false;
}
