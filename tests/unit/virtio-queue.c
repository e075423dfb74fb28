/* SPDX-License-Identifier: Apache-2.0 */
/* Split queues with a guest that keeps to the rules and one that doesn't; the block device; the PCI transport. */
#include "virtio-test.h"

#include "base/memory.h"
#include "vmm/virtio/pci.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECTORS 64u
#define READABLE 0
#define WRITABLE VRING_DESC_F_WRITE
#define NEXT VRING_DESC_F_NEXT
#define INDIRECT VRING_DESC_F_INDIRECT

static struct driver d;

/* --- a device that does nothing: the test pops and pushes --------------------------------------------------------------- */

static void free_nothing(struct bh_virtio_device *device)
{
	bh_virtio_clear(device);
	free(device);
}

static const struct bh_virtio_driver nothing = { .name = "nothing", .id = 42, .free = free_nothing };

static struct bh_virtqueue *start(uint64_t features, uint16_t size)
{
	assert_int_equal(driver_make(&d), 0);
	d.device = bh_calloc(1, sizeof *d.device);
	assert_int_equal(bh_virtio_init(d.device, &nothing, &d.vm, d.loop, 1, 0, NULL), 0);
	driver_start(&d, features, size);
	return &d.device->queues[0];
}

static int end(void **state)
{
	(void)state;
	driver_clear(&d);
	return 0;
}

static void test_chain(void **state)
{
	struct bh_virtqueue *q = start(0, 8);
	struct bh_chain chain;
	char text[8] = { 0 };
	uint32_t length;

	(void)state;
	assert_int_equal(bh_virtqueue_pop(q, &chain), 0);
	memcpy(guest(&d, BUFFERS, 16), "abcdefgh", 8);
	put_descriptor(&d, 0, 3, BUFFERS, 3, READABLE | NEXT, 1);
	put_descriptor(&d, 0, 1, BUFFERS + 3, 5, READABLE | NEXT, 7);
	put_descriptor(&d, 0, 7, BUFFERS + 0x1000, 4, WRITABLE | NEXT, 0);
	put_descriptor(&d, 0, 0, BUFFERS + 0x2000, 4, WRITABLE, 0);
	offer(&d, 0, 3);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.readable, 2);
	assert_int_equal(chain.writable, 2);
	assert_int_equal(chain.readable_bytes, 8);
	assert_int_equal(chain.writable_bytes, 8);
	assert_int_equal(bh_chain_read(&chain, 1, text, 7), 7);
	assert_string_equal(text, "bcdefgh");
	assert_int_equal(bh_chain_read(&chain, 6, text, 7), 2);
	assert_int_equal(bh_chain_write(&chain, 2, "12345678", 8), 6);
	assert_memory_equal(guest(&d, BUFFERS + 0x1002, 2), "12", 2);
	assert_memory_equal(guest(&d, BUFFERS + 0x2000, 4), "3456", 4);
	bh_virtqueue_undo_pop(q);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 0);
	/* It can't claim more than there was room for. */
	bh_virtqueue_push(q, &chain, 1000);
	assert_int_equal(take_used(&d, 0, &length), 3);
	assert_int_equal(length, 8);
}

static void test_indirect(void **state)
{
	struct bh_virtqueue *q = start(BH_VIRTIO_F_INDIRECT_DESC, 8);
	struct vring_desc *table = guest(&d, BUFFERS, 4096);
	struct bh_chain chain;

	(void)state;
	for (uint16_t i = 0; i < 100; i++)
		table[i] = (struct vring_desc){ BUFFERS + 0x10000 + i, 1, i < 99 ? NEXT : 0, (uint16_t)(i + 1) };
	put_descriptor(&d, 0, 2, BUFFERS, 100 * sizeof *table, INDIRECT, 0);
	offer(&d, 0, 2);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
	assert_int_equal(chain.readable, 100);
	assert_int_equal(chain.head, 2);
}

/* Each makes one chain that no driver may make; the device needs a reset then, and says so once. */
static void refused(struct bh_virtqueue *q, uint16_t head)
{
	struct bh_chain chain;

	offer(&d, 0, head);
	assert_int_equal(bh_virtqueue_pop(q, &chain), -EINVAL);
	assert_true(is_broken(&d));
	assert_int_equal(d.interrupts[BH_VIRTIO_QUEUES_MAX], 1);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 0);
	driver_start(&d, BH_VIRTIO_F_INDIRECT_DESC, 8);
	assert_false(is_broken(&d));
}

static void test_hostile_chains(void **state)
{
	struct bh_virtqueue *q = start(BH_VIRTIO_F_INDIRECT_DESC, 8);
	struct vring_desc *table = guest(&d, BUFFERS, 8192);

	(void)state;
	refused(q, 8); /* no such descriptor */
	refused(q, 0xffff);
	put_descriptor(&d, 0, 0, BUFFERS, 4, NEXT, 0); /* a circle */
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 4, NEXT, 8); /* leads out */
	refused(q, 0);
	put_descriptor(&d, 0, 0, MEMORY - 2, 4, 0, 0); /* out of memory */
	refused(q, 0);
	put_descriptor(&d, 0, 0, UINT64_MAX - 2, 4, 0, 0);
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 4, WRITABLE | NEXT, 1); /* readable behind writable */
	put_descriptor(&d, 0, 1, BUFFERS, 4, READABLE, 0);
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 0, INDIRECT, 0); /* an empty table */
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 24, INDIRECT, 0); /* one and a half */
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 257 * 16, INDIRECT, 0); /* too large */
	refused(q, 0);
	put_descriptor(&d, 0, 0, MEMORY - 8, 16, INDIRECT, 0); /* out of memory */
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 16, INDIRECT | NEXT, 1);
	refused(q, 0);
	table[0] = (struct vring_desc){ BUFFERS, 16, INDIRECT, 0 }; /* a table in a table */
	put_descriptor(&d, 0, 0, BUFFERS, 16, INDIRECT, 0);
	refused(q, 0);
	put_descriptor(&d, 0, 0, BUFFERS, 4, NEXT, 1); /* a table behind a buffer */
	put_descriptor(&d, 0, 1, BUFFERS, 16, INDIRECT, 0);
	refused(q, 0);
	table[0] = (struct vring_desc){ BUFFERS, 1, NEXT, 1 }; /* leads out of its table */
	refused((put_descriptor(&d, 0, 0, BUFFERS, 16, INDIRECT, 0), q), 0);
	/* More than the queue holds. */
	*(uint16_t *)guest(&d, q->available + 2, 2) = 9;
	d.offered[0] = 9;
	refused(q, 0);
	/* Without the feature there are no tables. */
	driver_start(&d, 0, 8);
	put_descriptor(&d, 0, 0, BUFFERS, 16, INDIRECT, 0);
	refused(q, 0);
}

static void test_areas(void **state)
{
	struct bh_virtqueue *q = start(0, 8), bad;

	(void)state;
	assert_true(bh_virtqueue_is_valid(q));
	bad = *q, bad.size = 0;
	assert_false(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.size = 12;
	assert_false(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.size = 512;
	assert_false(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.descriptors += 8;
	assert_false(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.available = MEMORY - 21; /* and odd */
	assert_false(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.available = MEMORY - 20; /* two bytes too few */
	assert_false(bh_virtqueue_is_valid(&bad));
	bad.available = MEMORY - 22;
	assert_true(bh_virtqueue_is_valid(&bad));
	bad = *q, bad.used = UINT64_MAX - 3;
	assert_false(bh_virtqueue_is_valid(&bad));
}

/* 200,000 chains: the 16-bit indices go around three times. */
static void test_wrap_around(void **state)
{
	struct bh_virtqueue *q = start(BH_VIRTIO_F_EVENT_IDX, 8);
	struct bh_chain chain;

	(void)state;
	for (uint16_t i = 0; i < 8; i++)
		put_descriptor(&d, 0, i, BUFFERS, 4, WRITABLE, 0);
	for (unsigned i = 0; i < 200000; i++) {
		offer(&d, 0, i % 8);
		set_event(&d, 0, (uint16_t)i);
		assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
		bh_virtqueue_push(q, &chain, 4);
		bh_virtqueue_interrupt(q);
		assert_int_equal(take_used(&d, 0, NULL), i % 8);
	}
	assert_int_equal(d.interrupts[0], 200000);
}

static void test_notifications(void **state)
{
	struct bh_virtqueue *q = start(0, 8);
	struct bh_chain chain;
	uint16_t *flags;

	(void)state;
	put_descriptor(&d, 0, 0, BUFFERS, 4, WRITABLE, 0);
	offer(&d, 0, 0);
	bh_virtqueue_quiet(q);
	flags = guest(&d, q->used, 2);
	assert_int_equal(*flags, VRING_USED_F_NO_NOTIFY);
	assert_true(bh_virtqueue_listen(q)); /* there is one already */
	assert_int_equal(*flags, 0);
	assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
	assert_false(bh_virtqueue_listen(q));
	bh_virtqueue_interrupt(q); /* nothing was pushed */
	assert_int_equal(d.interrupts[0], 0);
	*(uint16_t *)guest(&d, q->available, 2) = VRING_AVAIL_F_NO_INTERRUPT;
	bh_virtqueue_push(q, &chain, 0);
	bh_virtqueue_interrupt(q);
	assert_int_equal(d.interrupts[0], 0);
	/* Event indices: every third one. */
	driver_start(&d, BH_VIRTIO_F_EVENT_IDX, 8);
	put_descriptor(&d, 0, 0, BUFFERS, 4, WRITABLE, 0);
	set_event(&d, 0, 2);
	for (int i = 0; i < 5; i++) {
		offer(&d, 0, 0);
		assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
		bh_virtqueue_push(q, &chain, 0);
		bh_virtqueue_interrupt(q);
		assert_int_equal(d.interrupts[0], i >= 2);
		assert_false(bh_virtqueue_listen(q));
		assert_int_equal(asked_event(&d, 0), i + 1);
	}
}

static bool is_dirty(uint64_t address)
{
	uint64_t page = bh_guest_page(address);

	return atomic_load(&d.vm.memory.dirty)[page / 64] & 1ULL << page % 64;
}

/* All that the device writes is in the log: what it gives back, the ring, and its flags. */
static void test_dirty_log(void **state)
{
	struct bh_virtqueue *q = start(0, 8);
	struct bh_chain chain;

	(void)state;
	put_descriptor(&d, 0, 0, BUFFERS + 0xf00, 0x200, WRITABLE | NEXT, 1);
	put_descriptor(&d, 0, 1, BUFFERS + 0x8000, 0x1000, WRITABLE, 0);
	offer(&d, 0, 0);
	bh_guest_log_dirty(&d.vm.memory, true);
	bh_virtqueue_quiet(q);
	assert_true(is_dirty(q->used));
	bh_guest_log_dirty(&d.vm.memory, false);
	bh_guest_log_dirty(&d.vm.memory, true);
	assert_false(is_dirty(q->used));
	assert_int_equal(bh_virtqueue_pop(q, &chain), 1);
	bh_virtqueue_push(q, &chain, 0x180);
	assert_true(is_dirty(BUFFERS));
	assert_true(is_dirty(BUFFERS + 0x1000));
	assert_false(is_dirty(BUFFERS + 0x8000));
	assert_true(is_dirty(q->used));
	assert_false(is_dirty(q->available));
	bh_guest_log_dirty(&d.vm.memory, false);
}

/* --- block -------------------------------------------------------------------------------------------------------------- */

static int image;

static void start_queues(bool readonly, unsigned queues)
{
	struct bh_block_config config = {
		.backing_fd = -1, .lock_fd = -1, .readonly = readonly, .queues = queues, .serial = "a serial number that is long"
	};

	image = memfd_create("image", MFD_CLOEXEC);
	assert_int_equal(ftruncate(image, SECTORS * 512), 0);
	config.fd = fcntl(image, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(driver_make(&d), 0);
	assert_int_equal(bh_block_make(&d.vm, d.loop, &config, &d.device, NULL), 0);
	driver_start(&d, 0, 8);
}

static void start_block(bool readonly)
{
	start_queues(readonly, 1);
}

static int end_block(void **state)
{
	bh_close_fd(&image);
	return end(state);
}

/* A request of three buffers; its status. */
static int request(uint32_t type, uint64_t sector, uint32_t length, bool to_device)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };
	uint8_t *status = guest(&d, BUFFERS + 0x100, 1);

	*status = 0xff;
	bh_guest_write(&d.vm.memory, BUFFERS, &header, sizeof header);
	put_descriptor(&d, 0, 0, BUFFERS, sizeof header, NEXT, length ? 1 : 2);
	put_descriptor(&d, 0, 1, BUFFERS + 0x1000, length, (to_device ? 0 : WRITABLE) | NEXT, 2);
	put_descriptor(&d, 0, 2, BUFFERS + 0x100, 1, WRITABLE, 0);
	offer(&d, 0, 0);
	notify_device(&d, 0);
	assert_int_equal(take_used(&d, 0, NULL), 0);
	return *status;
}

static void test_block(void **state)
{
	uint8_t *data;
	char bytes[1024];

	(void)state;
	start_block(false);
	data = guest(&d, BUFFERS + 0x1000, 0x10000);
	assert_int_equal(bh_virtio_read_config(d.device, 0, 8), SECTORS);
	memset(data, 'x', 1024);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 2, 1024, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(image, bytes, sizeof bytes, 1024), sizeof bytes);
	assert_memory_equal(bytes, data, sizeof bytes);
	memset(data, 0, 2048);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 1, 2048, false), VIRTIO_BLK_S_OK);
	assert_int_equal(data[511], 0);
	assert_int_equal(data[512], 'x');
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, 20, false), VIRTIO_BLK_S_OK);
	assert_memory_equal(data, "a serial number that", 20);
	assert_int_equal(request(VIRTIO_BLK_T_GET_ID, 0, 19, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(77, 0, 512, false), VIRTIO_BLK_S_UNSUPP);
	/* Beyond the end, across it, around all bits, half a sector. */
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, 1024, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, UINT64_MAX, 1024, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 100, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, SECTORS - 1, 512, false), VIRTIO_BLK_S_OK);
	/* No place for an answer. */
	put_descriptor(&d, 0, 0, BUFFERS, 16, 0, 0);
	offer(&d, 0, 0);
	notify_device(&d, 0);
	assert_true(is_broken(&d));
}

static void test_block_discard(void **state)
{
	struct virtio_blk_discard_write_zeroes range = { .sector = 8, .num_sectors = 8 };
	char bytes[512];

	(void)state;
	start_block(false);
	memset(bytes, 'x', sizeof bytes);
	for (unsigned i = 0; i < SECTORS; i++)
		assert_int_equal(pwrite(image, bytes, sizeof bytes, i * 512), sizeof bytes);
	bh_guest_write(&d.vm.memory, BUFFERS + 0x1000, &range, sizeof range);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof range, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(image, bytes, sizeof bytes, 8 * 512), sizeof bytes);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(pread(image, bytes, sizeof bytes, 16 * 512), sizeof bytes);
	assert_int_equal(bytes[0], 'x');
	range = (struct virtio_blk_discard_write_zeroes){ .sector = 20, .num_sectors = 1, .flags = VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP };
	bh_guest_write(&d.vm.memory, BUFFERS + 0x1000, &range, sizeof range);
	assert_int_equal(request(VIRTIO_BLK_T_WRITE_ZEROES, 0, sizeof range, true), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(image, bytes, sizeof bytes, 20 * 512), sizeof bytes);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof range, true), VIRTIO_BLK_S_UNSUPP); /* that flag isn't its */
	range = (struct virtio_blk_discard_write_zeroes){ .sector = SECTORS - 1, .num_sectors = 2 };
	bh_guest_write(&d.vm.memory, BUFFERS + 0x1000, &range, sizeof range);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof range, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_DISCARD, 0, sizeof range + 1, true), VIRTIO_BLK_S_IOERR);
}

static void test_block_readonly(void **state)
{
	(void)state;
	start_block(true);
	assert_true(d.device->offered & 1ULL << VIRTIO_BLK_F_RO);
	assert_int_equal(request(VIRTIO_BLK_T_OUT, 0, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 512, false), VIRTIO_BLK_S_OK);
	/* An image that has become shorter is an error, not a short answer. */
	assert_int_equal(ftruncate(image, 512), 0);
	assert_int_equal(request(VIRTIO_BLK_T_IN, 0, 1024, false), VIRTIO_BLK_S_IOERR);
}

/* --- PCI ---------------------------------------------------------------------------------------------------------------- */

static struct bh_pci *pci;

/* As much as the processor takes of it. */
static uint64_t low(uint64_t value, unsigned size)
{
	return size == 8 ? value : value & ((1ULL << 8 * size) - 1);
}

static uint64_t config_read(unsigned slot, unsigned offset, unsigned size)
{
	uint64_t value = 0;

	assert_true(bh_bus_read(&d.vm.mmio, BH_PCI_ECAM_START + (slot << 15) + offset, size, &value));
	return low(value, size);
}

static void config_write(unsigned slot, unsigned offset, unsigned size, uint64_t value)
{
	assert_true(bh_bus_write(&d.vm.mmio, BH_PCI_ECAM_START + (slot << 15) + offset, size, value));
}

static uint64_t bar_read(unsigned offset, unsigned size)
{
	uint64_t value = 0;

	bh_bus_read(&d.vm.mmio, (config_read(1, PCI_BASE_ADDRESS_0, 4) & ~15u) + offset, size, &value);
	return low(value, size);
}

static void bar_write(unsigned offset, unsigned size, uint64_t value)
{
	bh_bus_write(&d.vm.mmio, (config_read(1, PCI_BASE_ADDRESS_0, 4) & ~15u) + offset, size, value);
}

static void start_pci(void)
{
	start_block(false);
	assert_int_equal(bh_pci_make(&d.vm, true, &pci, NULL), 0);
	assert_int_equal(bh_virtio_pci_add(pci, d.device, NULL), 0);
	pthread_mutex_lock(&d.device->lock);
	bh_virtio_set_status(d.device, 0);
	pthread_mutex_unlock(&d.device->lock);
}

static int end_pci(void **state)
{
	bh_virtio_detach(d.device);
	bh_pci_free(pci);
	bh_bus_clear(&d.vm.mmio);
	bh_bus_clear(&d.vm.ports);
	return end_block(state);
}

static void test_pci_config(void **state)
{
	uint64_t value;
	unsigned at, found = 0;

	(void)state;
	start_pci();
	assert_int_equal(config_read(1, PCI_VENDOR_ID, 4), 0x10421af4);
	assert_int_equal(config_read(2, PCI_VENDOR_ID, 4), 0xffffffff);
	/* Method 1 sees the same. */
	bh_bus_write(&d.vm.ports, 0xcf8, 4, 1u << 31 | 1 << 11);
	assert_true(bh_bus_read(&d.vm.ports, 0xcfc, 4, &value));
	assert_int_equal(value, 0x10421af4);
	assert_true(bh_bus_read(&d.vm.ports, 0xcfe, 2, &value));
	assert_int_equal(value, 0x1042);
	/* The size of the base address, and nothing else, can be found by writing ones. */
	config_write(1, PCI_VENDOR_ID, 4, 0);
	assert_int_equal(config_read(1, PCI_VENDOR_ID, 4), 0x10421af4);
	config_write(1, PCI_BASE_ADDRESS_0, 4, UINT32_MAX);
	assert_int_equal(config_read(1, PCI_BASE_ADDRESS_0, 4), 0xffff8000);
	/* There it isn't reached. */
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_false(bh_bus_read(&d.vm.mmio, 0xffff8000, 4, &value));
	config_write(1, PCI_BASE_ADDRESS_0, 4, BH_PCI_WINDOW_START + 0x10000);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	config_write(1, PCI_COMMAND, 2, 0);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	for (at = (unsigned)config_read(1, PCI_CAPABILITY_LIST, 1); at; at = (unsigned)config_read(1, at + 1, 1))
		found |= 1u << (config_read(1, at, 1) == PCI_CAP_ID_MSIX ? 0 : config_read(1, at + 3, 1));
	assert_int_equal(found, 0x3f); /* MSI-X; common, notify, ISR, device, PCI */
	assert_int_equal(config_read(1, 0x100, 4), UINT32_MAX);
}

static void set_queue(void)
{
	const uint64_t areas[] = { QUEUE_BASE, QUEUE_BASE + AVAILABLE, QUEUE_BASE + USED };

	bar_write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	bar_write(VIRTIO_PCI_COMMON_Q_SIZE, 2, 8);
	bar_write(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	for (unsigned i = 0; i < 3; i++) {
		bar_write(VIRTIO_PCI_COMMON_Q_DESCLO + 8 * i, 4, (uint32_t)areas[i]);
		bar_write(VIRTIO_PCI_COMMON_Q_DESCHI + 8 * i, 4, areas[i] >> 32);
	}
	bar_write(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

static void test_pci_driver(void **state)
{
	(void)state;
	start_pci();
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 3);
	/* Features that weren't offered: FEATURES_OK stays off. */
	bar_write(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	bar_write(VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 11);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_STATUS, 1), 3);
	bar_write(VIRTIO_PCI_COMMON_GF, 4, 0);
	bar_write(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	bar_write(VIRTIO_PCI_COMMON_GF, 4, 1);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 11);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_STATUS, 1), 11);
	set_queue();
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	bar_write(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0); /* too late */
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_Q_DESCLO, 4), QUEUE_BASE);
	bar_write(VIRTIO_PCI_COMMON_MSIX, 2, 1);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_MSIX, 2), 1);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 15);
	assert_true(d.device->active);
	d.offered[0] = d.seen[0] = 0;
	assert_int_equal(request(VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	/* The interrupt's bit is read once. */
	assert_int_equal(bar_read(0x1000, 1), 1);
	assert_int_equal(bar_read(0x1000, 1), 0);
	bar_write(VIRTIO_PCI_COMMON_STATUS, 1, 0);
	assert_false(d.device->active);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_MSIX, 2), BH_VIRTIO_NO_VECTOR);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_Q_MSIX, 2), BH_VIRTIO_NO_VECTOR);
}

static void test_msix(void **state)
{
	unsigned at;

	(void)state;
	start_pci();
	config_write(1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	for (at = (unsigned)config_read(1, PCI_CAPABILITY_LIST, 1); config_read(1, at, 1) != PCI_CAP_ID_MSIX;)
		at = (unsigned)config_read(1, at + 1, 1);
	assert_int_equal(config_read(1, at + PCI_MSIX_FLAGS, 2), 1); /* two vectors */
	bar_write(VIRTIO_PCI_COMMON_MSIX, 2, 1);
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_MSIX, 2), 1);
	bar_write(VIRTIO_PCI_COMMON_MSIX, 2, 2); /* there is none */
	assert_int_equal(bar_read(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	bar_write(0x4000, 8, 0xfee00000);
	bar_write(0x4008, 4, 0x31);
	assert_int_equal(bar_read(0x4000, 8), 0xfee00000);
	assert_int_equal(bar_read(0x400c, 4), 1); /* masked from the start */
	/* Masked: it waits, and goes when it may. */
	config_write(1, at + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
	bar_write(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	bar_write(VIRTIO_PCI_COMMON_Q_MSIX, 2, 0);
	pthread_mutex_lock(&d.device->lock);
	d.device->transport->interrupt(d.device, 0);
	pthread_mutex_unlock(&d.device->lock);
	assert_int_equal(bar_read(0x5000, 8), 1);
	bar_write(0x400c, 4, 0);
	assert_int_equal(bar_read(0x5000, 8), 0);
	bar_write(0x5000, 8, UINT64_MAX); /* not the guest's to write */
	assert_int_equal(bar_read(0x5000, 8), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_chain, end),
		cmocka_unit_test_teardown(test_indirect, end),
		cmocka_unit_test_teardown(test_hostile_chains, end),
		cmocka_unit_test_teardown(test_areas, end),
		cmocka_unit_test_teardown(test_wrap_around, end),
		cmocka_unit_test_teardown(test_notifications, end),
		cmocka_unit_test_teardown(test_dirty_log, end),
		cmocka_unit_test_teardown(test_block, end_block),
		cmocka_unit_test_teardown(test_block_discard, end_block),
		cmocka_unit_test_teardown(test_block_readonly, end_block),
		cmocka_unit_test_teardown(test_pci_config, end_pci),
		cmocka_unit_test_teardown(test_pci_driver, end_pci),
		cmocka_unit_test_teardown(test_msix, end_pci),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
