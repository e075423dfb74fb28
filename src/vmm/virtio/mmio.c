/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio over MMIO (specification 4.2), version 2 of its registers alone:
 *
 *	0x000 what it is, features, the selected queue, notification, interrupt, status     0x100 the device's configuration
 *
 * The registers are 32 bits wide: another access reads zero and writes nothing (4.2.2.2). Only the configuration is read and written in any size.
 * A notification doesn't leave the kernel: KVM signals the eventfd of the queue whose number is written. There is one interrupt for all, by a
 * line with a level: it is high while a bit of any of its devices' InterruptStatus is set, so that a device that is served while another one
 * raises the line loses nothing. RING_RESET and shared memory aren't offered.
 *
 * Locks: registers are under the device's lock; a line and the InterruptStatus of its devices under the line's, which is taken last, since
 * interrupts come from any thread.
 */
#include "vmm/virtio/mmio.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAGIC 0x74726976u /* "virt" */
#define VERSION 2u
#define VENDOR 0x1af4u
/* Above what the kernel's header knows. */
#define QUEUE_RESET 0x0c0
#define WIDTH 4u

struct line {
	pthread_mutex_t lock;
	unsigned raised; /* devices that hold it high */
};

struct bh_virtio_mmio {
	struct bh_vm *vm;
	unsigned count;
	struct line lines[BH_VIRTIO_MMIO_LINES];
};

struct virtio_mmio {
	struct bh_virtio_mmio *bus;
	struct bh_virtio_device *device;
	unsigned index;
	/* under the device's lock */
	uint32_t feature_select, driver_feature_select, queue_select;
	/* under the line's */
	uint32_t interrupt_status;
};

/* --- the line ------------------------------------------------------------------------------------------------------- */

/* Sets and takes away bits of the interrupt's status; the line follows. Any thread. */
static void change_interrupt(struct virtio_mmio *v, uint32_t set, uint32_t clear)
{
	struct line *line = &v->bus->lines[v->index % BH_VIRTIO_MMIO_LINES];
	unsigned number = bh_virtio_mmio_line(v->index);
	uint32_t before;

	pthread_mutex_lock(&line->lock);
	before = v->interrupt_status;
	v->interrupt_status = (before & ~clear) | set;
	if (!before && v->interrupt_status && line->raised++ == 0)
		bh_vm_set_irq(v->bus->vm, number, true);
	else if (before && !v->interrupt_status && --line->raised == 0)
		bh_vm_set_irq(v->bus->vm, number, false);
	pthread_mutex_unlock(&line->lock);
}

static uint32_t interrupt_status(struct virtio_mmio *v)
{
	struct line *line = &v->bus->lines[v->index % BH_VIRTIO_MMIO_LINES];
	uint32_t status;

	pthread_mutex_lock(&line->lock);
	status = v->interrupt_status;
	pthread_mutex_unlock(&line->lock);
	return status;
}

static void interrupt(struct bh_virtio_device *device, unsigned queue)
{
	change_interrupt(device->transport_data, queue == BH_VIRTIO_QUEUES_MAX ? VIRTIO_MMIO_INT_CONFIG : VIRTIO_MMIO_INT_VRING, 0);
}

/* --- registers (4.2.2); called with the device's lock held ------------------------------------------------------------ */

static struct bh_virtqueue *selected(const struct virtio_mmio *v)
{
	return v->queue_select < v->device->queue_count ? &v->device->queues[v->queue_select] : NULL;
}

static uint32_t read_control(struct virtio_mmio *v, uint64_t offset)
{
	const struct bh_virtqueue *q = selected(v);

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return v->device->driver->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return bh_virtio_offered_half(v->device, v->feature_select);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? BH_VIRTIO_QUEUE_SIZE : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->enabled;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return interrupt_status(v);
	case VIRTIO_MMIO_STATUS:
		return v->device->status;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX; /* no region has this number */
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return v->device->generation;
	case QUEUE_RESET:
	default: /* the others are only written */
		return 0;
	}
}

/* A queue that is stopped while the device works stands until a reset: the device may still hold buffers of it, and without RING_RESET there is no
 * way to have them back. */
static void set_ready(struct bh_virtqueue *q, uint32_t value)
{
	if (value == 1 && !q->enabled && !q->device->active)
		bh_virtqueue_enable(q);
	else if (value == 0)
		bh_virtqueue_disable(q);
}

static void write_queue(struct virtio_mmio *v, uint64_t offset, uint32_t value)
{
	struct bh_virtqueue *q = selected(v);

	if (q && offset == VIRTIO_MMIO_QUEUE_READY) {
		set_ready(q, value);
		return;
	}
	/* 4.2.3.2: what it is made of is set before. */
	if (!q || q->enabled)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		/* What is too large stays so, and is no queue. */
		q->size = (uint16_t)BH_MIN(value, (uint32_t)UINT16_MAX);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		bh_virtio_set_half(&q->descriptors, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		bh_virtio_set_half(&q->available, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		bh_virtio_set_half(&q->used, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	default:
		break;
	}
}

static void set_status(struct virtio_mmio *v, uint8_t status)
{
	bh_virtio_set_status(v->device, status);
	if (status)
		return;
	v->feature_select = v->driver_feature_select = v->queue_select = 0;
	/* Nobody sends any more. */
	change_interrupt(v, 0, UINT32_MAX);
}

static void write_control(struct virtio_mmio *v, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		v->feature_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		v->driver_feature_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		bh_virtio_accept_half(v->device, v->driver_feature_select, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		v->queue_select = value;
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		change_interrupt(v, 0, value);
		break;
	case VIRTIO_MMIO_STATUS:
		set_status(v, (uint8_t)value);
		break;
	default:
		write_queue(v, offset, value);
		break;
	}
}

/* --- on the bus ------------------------------------------------------------------------------------------------------- */

static bool is_control(uint64_t offset, unsigned size)
{
	return offset < VIRTIO_MMIO_CONFIG && size == WIDTH && offset % WIDTH == 0;
}

static uint64_t read_register(void *arg, uint64_t offset, unsigned size)
{
	struct virtio_mmio *v = arg;
	uint64_t value = 0;

	pthread_mutex_lock(&v->device->lock);
	if (offset >= VIRTIO_MMIO_CONFIG)
		value = bh_virtio_read_config(v->device, offset - VIRTIO_MMIO_CONFIG, size);
	else if (is_control(offset, size))
		value = read_control(v, offset);
	pthread_mutex_unlock(&v->device->lock);
	return value;
}

static void write_register(void *arg, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_mmio *v = arg;
	uint64_t one = 1;

	/* Those that KVM doesn't catch: of queues that aren't there, or without KVM. */
	if (is_control(offset, size) && offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
		if ((uint32_t)value < v->device->queue_count)
			(void)!write(v->device->queues[(uint32_t)value].event_fd, &one, sizeof one);
		return;
	}
	pthread_mutex_lock(&v->device->lock);
	if (offset >= VIRTIO_MMIO_CONFIG)
		bh_virtio_write_config(v->device, offset - VIRTIO_MMIO_CONFIG, size, value);
	else if (is_control(offset, size))
		write_control(v, offset, (uint32_t)value);
	pthread_mutex_unlock(&v->device->lock);
}

/* A KVM that can't hands each notification to us: slower, and the same. */
static void watch(const struct virtio_mmio *v, bool on)
{
	for (unsigned i = 0; i < v->device->queue_count; i++)
		bh_vm_watch_value(v->bus->vm, bh_virtio_mmio_address(v->index) + VIRTIO_MMIO_QUEUE_NOTIFY, i, v->device->queues[i].event_fd, on);
}

void bh_virtio_mmio_make(struct bh_vm *vm, struct bh_virtio_mmio **ret_bus)
{
	struct bh_virtio_mmio *bus = bh_calloc(1, sizeof *bus);

	bus->vm = vm;
	for (size_t i = 0; i < BH_VIRTIO_MMIO_LINES; i++)
		pthread_mutex_init(&bus->lines[i].lock, NULL);
	*ret_bus = bus;
}

void bh_virtio_mmio_free(struct bh_virtio_mmio *bus)
{
	free(bus);
}

/* --- state ------------------------------------------------------------------------------------------------------------ */

static void save(struct bh_virtio_device *device, struct bh_buf *out)
{
	struct virtio_mmio *v = device->transport_data;

	bh_state_put(out, v->feature_select, 4);
	bh_state_put(out, v->driver_feature_select, 4);
	bh_state_put(out, v->queue_select, 4);
	bh_state_put(out, interrupt_status(v), 1);
	bh_virtio_save(device, out);
}

/* The interrupt controllers have been loaded: an interrupt that nobody has acknowledged raises its line again, which KVM doesn't keep. */
static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	struct virtio_mmio *v = device->transport_data;
	uint32_t status;

	v->feature_select = (uint32_t)bh_state_get(in, 4);
	v->driver_feature_select = (uint32_t)bh_state_get(in, 4);
	v->queue_select = (uint32_t)bh_state_get(in, 4);
	status = (uint32_t)bh_state_get(in, 1);
	if (in->failed || status & ~(VIRTIO_MMIO_INT_CONFIG | VIRTIO_MMIO_INT_VRING))
		return bh_error_text(err, EINVAL, "%s: its saved state is damaged", device->driver->name);
	change_interrupt(v, status, UINT32_MAX);
	return bh_virtio_load(device, in, err);
}

/* --- a device becomes one of the bus ------------------------------------------------------------------------------------ */

/* What is on vm->mmio stays there: nobody reads it any more. */
static void detach(struct bh_virtio_device *device)
{
	watch(device->transport_data, false);
	free(device->transport_data);
	device->transport_data = NULL;
	device->transport = NULL;
}

static const struct bh_virtio_transport transport = { "mmio", interrupt, save, load, detach };

int bh_virtio_mmio_add(struct bh_virtio_mmio *bus, struct bh_virtio_device *device, struct bh_error *err)
{
	struct virtio_mmio *v;
	struct bh_bus_range range = { bh_virtio_mmio_address(bus->count), BH_VIRTIO_MMIO_SIZE, "virtio", NULL, read_register, write_register };
	int r;

	if (bus->count == BH_VIRTIO_MMIO_DEVICES)
		return bh_error_text(err, ENOSPC, "%s: the machine has no room left: at most %d devices", device->driver->name, BH_VIRTIO_MMIO_DEVICES);
	v = bh_calloc(1, sizeof *v);
	*v = (struct virtio_mmio){ .bus = bus, .device = device, .index = bus->count };
	range.device = v;
	r = bh_bus_add(&bus->vm->mmio, &range, err);
	if (r < 0) {
		free(v);
		return r;
	}
	device->place = ++bus->count;
	device->transport = &transport;
	device->transport_data = v;
	watch(v, true);
	return 0;
}
