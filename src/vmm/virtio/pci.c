/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio over PCI (specification 4.1), without the legacy interface. One base address holds everything:
 *
 *	0x0000 common configuration   0x1000 interrupt status   0x2000 the device's configuration
 *	0x3000 notifications, four bytes a queue                0x4000 MSI-X table   0x5000 MSI-X pending bits
 *
 * A notification doesn't leave the kernel: KVM signals the queue's eventfd. Vectors: one a queue, and one for the configuration.
 */
#include "vmm/virtio/pci.h"

#include "base/memory.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
#define REVISION 1
#define BAR_SIZE 0x8000u
#define COMMON 0x0000u
#define STATUS 0x1000u
#define CONFIG 0x2000u
#define NOTIFY 0x3000u
#define NOTIFY_EACH 4u
#define TABLE 0x4000u
#define PENDING 0x5000u
#define REGION 0x1000u

struct virtio_pci {
	struct bh_pci_function function;
	struct bh_virtio_device *device;
	uint32_t watched; /* the base address at which notifications are watched, 0: none */
	uint8_t window;   /* the capability that reads and writes through configuration space */
	/* common configuration; under the device's lock */
	uint32_t feature_select, driver_feature_select;
	uint16_t queue_select;
	/* also without it: interrupts come from any queue's thread */
	_Atomic uint16_t config_vector;
	_Atomic uint8_t interrupt_status;
};

/* --- common configuration (4.1.4.3); called with the device's lock held --------------------------------------------- */

static struct bh_virtqueue *selected(const struct virtio_pci *v)
{
	return v->queue_select < v->device->queue_count ? &v->device->queues[v->queue_select] : NULL;
}

static uint64_t read_queue(const struct virtio_pci *v, unsigned offset)
{
	const struct bh_virtqueue *q = selected(v);

	if (!q)
		return offset == VIRTIO_PCI_COMMON_Q_MSIX ? BH_VIRTIO_NO_VECTOR : 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return q->size ? q->size : BH_VIRTIO_QUEUE_SIZE;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return q->vector;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return q->enabled;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return q->index;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return (uint32_t)q->descriptors;
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return q->descriptors >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return (uint32_t)q->available;
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return q->available >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return (uint32_t)q->used;
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return q->used >> 32;
	default:
		return 0;
	}
}

static uint64_t read_common(const struct virtio_pci *v, unsigned offset)
{
	const struct bh_virtio_device *d = v->device;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return v->feature_select;
	case VIRTIO_PCI_COMMON_DF:
		return bh_virtio_offered_half(d, v->feature_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return v->driver_feature_select;
	case VIRTIO_PCI_COMMON_GF:
		return v->driver_feature_select < 2 ? (uint32_t)(d->features >> (32 * v->driver_feature_select)) : 0;
	case VIRTIO_PCI_COMMON_MSIX:
		return v->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return d->queue_count;
	case VIRTIO_PCI_COMMON_STATUS:
		return d->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return d->generation;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return v->queue_select;
	default:
		return read_queue(v, offset);
	}
}

static uint16_t vector_of(const struct virtio_pci *v, uint64_t value)
{
	return value < v->function.vectors ? (uint16_t)value : BH_VIRTIO_NO_VECTOR;
}

static void write_queue(struct virtio_pci *v, unsigned offset, uint64_t value)
{
	struct bh_virtqueue *q = selected(v);

	if (q && offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		q->vector = vector_of(v, value);
		return;
	}
	/* 4.1.4.3.2: once it is enabled only a reset changes it. */
	if (!q || q->enabled)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		q->size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (value == 1)
			bh_virtqueue_enable(q);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		bh_virtio_set_half(&q->descriptors, offset == VIRTIO_PCI_COMMON_Q_DESCHI, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		bh_virtio_set_half(&q->available, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		bh_virtio_set_half(&q->used, offset == VIRTIO_PCI_COMMON_Q_USEDHI, (uint32_t)value);
		break;
	default:
		break;
	}
}

static void set_status(struct virtio_pci *v, uint8_t status)
{
	if (status == 0) {
		v->feature_select = v->driver_feature_select = 0;
		v->queue_select = 0;
		v->config_vector = BH_VIRTIO_NO_VECTOR;
		v->interrupt_status = 0;
	}
	bh_virtio_set_status(v->device, status);
}

static void write_common(struct virtio_pci *v, unsigned offset, uint64_t value)
{
	struct bh_virtio_device *d = v->device;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		v->feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		v->driver_feature_select = (uint32_t)value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		bh_virtio_accept_half(d, v->driver_feature_select, (uint32_t)value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		v->config_vector = vector_of(v, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		set_status(v, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	default:
		write_queue(v, offset, value);
		break;
	}
}

/* --- the base address's registers ----------------------------------------------------------------------------------- */

static uint64_t read_register(void *arg, uint64_t offset, unsigned size)
{
	struct virtio_pci *v = arg;
	uint64_t value = 0;

	pthread_mutex_lock(&v->device->lock);
	switch (offset / REGION * REGION) {
	case COMMON:
		value = read_common(v, (unsigned)offset);
		break;
	case STATUS:
		value = atomic_exchange(&v->interrupt_status, 0);
		break;
	case CONFIG:
		value = bh_virtio_read_config(v->device, offset - CONFIG, size);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&v->device->lock);
	return value;
}

static void write_register(void *arg, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio_pci *v = arg;
	uint64_t queue = (offset - NOTIFY) / NOTIFY_EACH, one = 1;

	/* Those that KVM doesn't catch: through configuration space. */
	if (offset / REGION * REGION == NOTIFY) {
		if (queue < v->device->queue_count)
			(void)!write(v->device->queues[queue].event_fd, &one, sizeof one);
		return;
	}
	pthread_mutex_lock(&v->device->lock);
	if (offset / REGION * REGION == COMMON)
		write_common(v, (unsigned)offset, value);
	else if (offset / REGION * REGION == CONFIG)
		bh_virtio_write_config(v->device, offset - CONFIG, size, value);
	pthread_mutex_unlock(&v->device->lock);
}

static void watch(struct virtio_pci *v, bool on)
{
	for (unsigned i = 0; i < v->device->queue_count; i++)
		bh_vm_watch_register(v->device->vm, v->watched + NOTIFY + (uint64_t)i * NOTIFY_EACH, v->device->queues[i].event_fd, on);
}

static void moved(void *arg)
{
	struct virtio_pci *v = arg;

	if (v->watched)
		watch(v, false);
	v->watched = v->function.bar;
	if (v->watched)
		watch(v, true);
}

/* --- registers through configuration space (4.1.4.9) ---------------------------------------------------------------- */

static bool through_window(const struct virtio_pci *v, unsigned offset, unsigned size, uint64_t *ret_at, unsigned *ret_size)
{
	unsigned data = v->window + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data);
	uint32_t length = bh_pci_get(&v->function, v->window + offsetof(struct virtio_pci_cap, length), 4);
	uint32_t at = bh_pci_get(&v->function, v->window + offsetof(struct virtio_pci_cap, offset), 4);

	if (offset != data || (length != 1 && length != 2 && length != 4) || size < length || at > BAR_SIZE - length || at % length)
		return false;
	if (v->function.config[v->window + offsetof(struct virtio_pci_cap, bar)] != 0)
		return false;
	*ret_at = at;
	*ret_size = length;
	return true;
}

static void before_config_read(void *arg, unsigned offset, unsigned size)
{
	struct virtio_pci *v = arg;
	unsigned length;
	uint64_t at;

	if (through_window(v, offset, size, &at, &length))
		bh_pci_put(&v->function, offset, length, (uint32_t)read_register(v, at, length));
}

static void after_config_write(void *arg, unsigned offset, unsigned size)
{
	struct virtio_pci *v = arg;
	unsigned length;
	uint64_t at;

	/* Whoever writes to the window's place will read through it. */
	if (offset >= v->window && offset < v->window + sizeof(struct virtio_pci_cfg_cap))
		bh_pci_trap_reads(&v->function);
	if (through_window(v, offset, size, &at, &length))
		write_register(v, at, length, bh_pci_get(&v->function, offset, length));
}

/* --- the function --------------------------------------------------------------------------------------------------- */

static void interrupt(struct bh_virtio_device *device, unsigned queue)
{
	struct virtio_pci *v = device->transport_data;
	bool config = queue == BH_VIRTIO_QUEUES_MAX;
	uint16_t vector = config ? v->config_vector : device->queues[queue].vector;

	v->interrupt_status |= config ? 2 : 1;
	if (vector != BH_VIRTIO_NO_VECTOR)
		bh_pci_signal(&v->function, vector);
}

static uint8_t add_capability(struct bh_pci_function *f, uint8_t type, uint8_t length, uint32_t offset, uint32_t size)
{
	uint8_t at = bh_pci_add_capability(f, PCI_CAP_ID_VNDR, length);

	f->config[at + offsetof(struct virtio_pci_cap, cap_len)] = length;
	f->config[at + offsetof(struct virtio_pci_cap, cfg_type)] = type;
	bh_pci_put(f, at + offsetof(struct virtio_pci_cap, offset), 4, offset);
	bh_pci_put(f, at + offsetof(struct virtio_pci_cap, length), 4, size);
	return at;
}

static void add_capabilities(struct virtio_pci *v)
{
	struct bh_pci_function *f = &v->function;
	uint8_t at;

	/* First what a kernel looks for most often: each step along the list is an exit. */
	bh_pci_add_msix(f, v->device->queue_count + 1, TABLE, PENDING);
	add_capability(f, VIRTIO_PCI_CAP_COMMON_CFG, sizeof(struct virtio_pci_cap), COMMON, sizeof(struct virtio_pci_common_cfg));
	at = add_capability(f, VIRTIO_PCI_CAP_NOTIFY_CFG, sizeof(struct virtio_pci_notify_cap), NOTIFY, NOTIFY_EACH * v->device->queue_count);
	bh_pci_put(f, at + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier), 4, NOTIFY_EACH);
	add_capability(f, VIRTIO_PCI_CAP_ISR_CFG, sizeof(struct virtio_pci_cap), STATUS, 1);
	if (v->device->config_size)
		add_capability(f, VIRTIO_PCI_CAP_DEVICE_CFG, sizeof(struct virtio_pci_cap), CONFIG, v->device->config_size);
	v->window = add_capability(f, VIRTIO_PCI_CAP_PCI_CFG, sizeof(struct virtio_pci_cfg_cap), 0, 0);
	f->writable[v->window + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(f->writable + v->window + offsetof(struct virtio_pci_cap, offset), 0xff, 12); /* offset, length, data */
}

/* --- state ---------------------------------------------------------------------------------------------------------- */

static void save(struct bh_virtio_device *device, struct bh_buf *out)
{
	struct virtio_pci *v = device->transport_data;

	bh_pci_save(&v->function, out);
	bh_state_put(out, v->feature_select, 4);
	bh_state_put(out, v->driver_feature_select, 4);
	bh_state_put(out, v->queue_select, 2);
	bh_state_put(out, v->config_vector, 2);
	bh_state_put(out, v->interrupt_status, 1);
	bh_virtio_save(device, out);
}

static int load(struct bh_virtio_device *device, struct bh_state_reader *in, struct bh_error *err)
{
	struct virtio_pci *v = device->transport_data;
	int r = bh_pci_load(&v->function, in, err);

	if (r < 0)
		return r;
	v->feature_select = (uint32_t)bh_state_get(in, 4);
	v->driver_feature_select = (uint32_t)bh_state_get(in, 4);
	v->queue_select = (uint16_t)bh_state_get(in, 2);
	v->config_vector = vector_of(v, bh_state_get(in, 2));
	v->interrupt_status = (uint8_t)bh_state_get(in, 1);
	return bh_virtio_load(device, in, err);
}

/* --- a device becomes one of the bus ----------------------------------------------------------------------------------- */

static void detach(struct bh_virtio_device *device)
{
	struct virtio_pci *v = device->transport_data;

	bh_pci_function_clear(&v->function);
	free(v);
	device->transport_data = NULL;
	device->transport = NULL;
}

static const struct bh_virtio_transport transport = { "pci", interrupt, save, load, detach };

int bh_virtio_pci_add(struct bh_pci *pci, struct bh_virtio_device *device, struct bh_error *err)
{
	struct virtio_pci *v = bh_calloc(1, sizeof *v);
	uint16_t id = (uint16_t)(DEVICE_BASE + device->driver->id);
	int r;

	v->device = device;
	v->config_vector = BH_VIRTIO_NO_VECTOR;
	device->transport = &transport;
	device->transport_data = v;
	bh_pci_function_init(&v->function, device->driver->name, VENDOR, id, id, device->driver->pci_class, REVISION);
	v->function.bar_size = BAR_SIZE;
	v->function.device = v;
	v->function.read = read_register;
	v->function.write = write_register;
	v->function.moved = moved;
	v->function.before_config_read = before_config_read;
	v->function.after_config_write = after_config_write;
	add_capabilities(v);
	r = bh_pci_add(pci, &v->function, err);
	if (r < 0)
		detach(device);
	else
		device->place = v->function.slot;
	return r;
}

void bh_virtio_pci_remove(struct bh_virtio_device *device)
{
	struct virtio_pci *v = device->transport_data;

	bh_pci_remove(&v->function);
}

void bh_virtio_pci_place(struct bh_pci *pci, struct bh_virtio_device *device, unsigned slot)
{
	struct virtio_pci *v = device->transport_data;

	bh_pci_place(pci, &v->function, slot);
	device->place = slot;
}
