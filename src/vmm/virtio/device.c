/* SPDX-License-Identifier: Apache-2.0 */
/* What all virtio devices share: status, configuration, notifications, state. */
#include "vmm/virtio/virtio.h"

#include "base/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_notify(void *context, uint32_t events)
{
	struct bh_virtqueue *queue = context;
	uint64_t count;

	(void)events;
	(void)!read(queue->event_fd, &count, sizeof count);
	atomic_fetch_add_explicit(&queue->device->notifications, 1, memory_order_relaxed);
	bh_virtqueue_serve(queue);
}

static int serve_from(struct bh_virtqueue *queue, struct bh_loop *loop, struct bh_error *err)
{
	queue->loop = loop;
	return bh_loop_add(loop, queue->event_fd, EPOLLIN, on_notify, queue, err);
}

int bh_virtio_init(struct bh_virtio_device *device, const struct bh_virtio_driver *driver, struct bh_vm *vm, struct bh_loop *loop,
		   unsigned queue_count, uint64_t offered, struct bh_error *err)
{
	int r = 0;

	device->driver = driver;
	device->vm = vm;
	device->loop = loop;
	device->queue_count = queue_count;
	device->offered = offered | BH_VIRTIO_F_VERSION_1 | BH_VIRTIO_F_INDIRECT_DESC | BH_VIRTIO_F_EVENT_IDX;
	pthread_mutex_init(&device->lock, NULL);
	for (unsigned i = 0; i < queue_count; i++) {
		device->queues[i] = (struct bh_virtqueue){ .device = device, .index = i, .event_fd = -1, .loop = loop };
		pthread_mutex_init(&device->queues[i].lock, NULL);
		bh_virtqueue_clear(&device->queues[i]);
	}
	for (unsigned i = 0; r == 0 && i < queue_count; i++) {
		struct bh_virtqueue *queue = &device->queues[i];

		queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = queue->event_fd < 0 ? bh_error_set(err, errno, "make an eventfd") : serve_from(queue, loop, err);
	}
	if (r < 0)
		bh_virtio_clear(device);
	return r;
}

int bh_virtio_move_queue(struct bh_virtio_device *device, unsigned queue, struct bh_loop *loop, struct bh_error *err)
{
	bh_loop_remove(device->queues[queue].loop, device->queues[queue].event_fd);
	return serve_from(&device->queues[queue], loop, err);
}

void bh_virtio_clear(struct bh_virtio_device *device)
{
	for (unsigned i = 0; i < device->queue_count; i++) {
		bh_loop_remove(device->queues[i].loop, device->queues[i].event_fd);
		bh_close_fd(&device->queues[i].event_fd);
	}
	device->queue_count = 0;
}

void bh_virtio_free(struct bh_virtio_device *device)
{
	if (device)
		device->driver->free(device);
}

void bh_virtio_config_changed(struct bh_virtio_device *device)
{
	device->generation++;
	if (device->active)
		bh_virtio_interrupt(device, BH_VIRTIO_QUEUES_MAX);
}

void bh_virtio_fail(struct bh_virtio_device *device)
{
	bool told = atomic_fetch_or(&device->status, BH_VIRTIO_NEEDS_RESET) & BH_VIRTIO_NEEDS_RESET;

	if (device->active && !told)
		bh_virtio_interrupt(device, BH_VIRTIO_QUEUES_MAX);
	device->active = false;
}

static void reset(struct bh_virtio_device *device)
{
	/* One that is served now ends first. */
	for (unsigned i = 0; i < device->queue_count; i++)
		pthread_mutex_lock(&device->queues[i].lock);
	if (device->driver->reset)
		device->driver->reset(device);
	device->active = false;
	device->status = 0;
	device->features = 0;
	for (unsigned i = 0; i < device->queue_count; i++) {
		bh_virtqueue_clear(&device->queues[i]);
		pthread_mutex_unlock(&device->queues[i].lock);
	}
}

static void activate(struct bh_virtio_device *device)
{
	uint64_t one = 1;

	device->active = true;
	if (device->driver->activate)
		device->driver->activate(device);
	/* What the guest put in before now is looked at too. */
	for (unsigned i = 0; i < device->queue_count; i++)
		(void)!write(device->queues[i].event_fd, &one, sizeof one);
}

void bh_virtio_set_status(struct bh_virtio_device *device, uint8_t status)
{
	uint8_t new = status &(uint8_t)~device->status;

	if (status == 0) {
		reset(device);
		return;
	}
	/* 2.2.2: features that weren't offered, or no version 1: FEATURES_OK stays off, and the driver sees it. */
	if (new &BH_VIRTIO_FEATURES_OK && (device->features & ~device->offered || !bh_virtio_has(device, BH_VIRTIO_F_VERSION_1)))
		status &= (uint8_t)~BH_VIRTIO_FEATURES_OK;
	device->status |= status & (uint8_t)~BH_VIRTIO_NEEDS_RESET;
	if (new &BH_VIRTIO_DRIVER_OK && device->status &BH_VIRTIO_FEATURES_OK && !(device->status & BH_VIRTIO_NEEDS_RESET))
		activate(device);
}

void bh_virtio_detach(struct bh_virtio_device *device)
{
	if (device->transport && device->transport->detach)
		device->transport->detach(device);
}

uint32_t bh_virtio_offered_half(const struct bh_virtio_device *device, uint32_t half)
{
	return half < 2 ? (uint32_t)(device->offered >> (32 * half)) : 0;
}

void bh_virtio_accept_half(struct bh_virtio_device *device, uint32_t half, uint32_t features)
{
	/* 3.1.1: what was negotiated stays. */
	if (half < 2 && !(device->status & BH_VIRTIO_FEATURES_OK))
		bh_virtio_set_half(&device->features, half == 1, features);
}

uint64_t bh_virtio_read_config(struct bh_virtio_device *device, uint64_t offset, unsigned size)
{
	uint64_t value = 0;

	if (offset < device->config_size)
		memcpy(&value, device->config + offset, BH_MIN((uint64_t)size, device->config_size - offset));
	return value;
}

void bh_virtio_write_config(struct bh_virtio_device *device, uint64_t offset, unsigned size, uint64_t value)
{
	if (offset >= device->config_writable || size > device->config_writable - offset)
		return;
	memcpy(device->config + offset, &value, size);
	if (device->driver->config_written)
		device->driver->config_written(device, (unsigned)offset, size);
}

/* --- state ---------------------------------------------------------------------------------------------------------- */

void bh_virtio_save(struct bh_virtio_device *device, struct bh_buf *out)
{
	bh_state_put(out, device->driver->id, 2);
	bh_state_put(out, device->offered, 8);
	bh_state_put(out, device->features, 8);
	bh_state_put(out, device->status, 1);
	bh_state_put(out, device->generation, 1);
	bh_state_put(out, device->active, 1);
	bh_state_put(out, device->queue_count, 2);
	for (unsigned i = 0; i < device->queue_count; i++) {
		const struct bh_virtqueue *queue = &device->queues[i];

		bh_state_put(out, queue->size, 2);
		bh_state_put(out, queue->enabled, 1);
		bh_state_put(out, queue->descriptors, 8);
		bh_state_put(out, queue->available, 8);
		bh_state_put(out, queue->used, 8);
		bh_state_put(out, queue->vector, 2);
		bh_state_put(out, queue->next_available, 2);
		bh_state_put(out, queue->next_used, 2);
		bh_state_put(out, queue->signalled, 2);
	}
	bh_state_put_bytes(out, device->config, device->config_size);
	if (device->driver->save)
		device->driver->save(device, out);
}

static int load_queue(struct bh_virtqueue *queue, struct bh_state_reader *in)
{
	queue->size = (uint16_t)bh_state_get(in, 2);
	queue->enabled = bh_state_get(in, 1) != 0;
	queue->descriptors = bh_state_get(in, 8);
	queue->available = bh_state_get(in, 8);
	queue->used = bh_state_get(in, 8);
	queue->vector = (uint16_t)bh_state_get(in, 2);
	queue->next_available = (uint16_t)bh_state_get(in, 2);
	queue->next_used = (uint16_t)bh_state_get(in, 2);
	queue->signalled = (uint16_t)bh_state_get(in, 2);
	return in->failed || (queue->enabled && !bh_virtqueue_is_valid(queue)) ? -EINVAL : 0;
}

int bh_virtio_load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	uint8_t config[BH_VIRTIO_CONFIG_MAX];
	uint64_t id = bh_state_get(in, 2), offered = bh_state_get(in, 8);
	bool active;
	int r = 0;

	device->features = bh_state_get(in, 8);
	device->status = (uint8_t)bh_state_get(in, 1);
	device->generation = (uint8_t)bh_state_get(in, 1);
	active = bh_state_get(in, 1) != 0;
	if (id != device->driver->id || bh_state_get(in, 2) != device->queue_count)
		return bh_error_text(err, EINVAL, "the saved machine has another device where this one has a %s", device->driver->name);
	/* What a guest writes before FEATURES_OK is a wish, and checked then. */
	if (device->features & ~device->offered && (active || device->status & BH_VIRTIO_FEATURES_OK))
		return bh_error_text(err, EINVAL, "%s: the guest uses features 0x%llx that this device doesn't have (saved where 0x%llx were offered)",
				     device->driver->name, (unsigned long long)(device->features & ~device->offered), (unsigned long long)offered);
	for (unsigned i = 0; r == 0 && i < device->queue_count; i++)
		r = load_queue(&device->queues[i], in);
	bh_state_get_exactly(in, config, device->config_size);
	if (r < 0 || in->failed)
		return bh_error_text(err, EINVAL, "%s: its saved state is damaged", device->driver->name);
	/* What the guest may write is the guest's; the rest is what this device has. */
	memcpy(device->config, config, device->config_writable);
	if (device->driver->load) {
		r = device->driver->load(device, in, err);
		if (r < 0)
			return r;
	}
	if (active)
		activate(device);
	return 0;
}
