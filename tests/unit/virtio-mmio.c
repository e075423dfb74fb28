/* SPDX-License-Identifier: Apache-2.0 */
/* The MMIO transport: its registers as a guest's driver uses them, and as one that doesn't keep to the rules. */
#include "virtio-test.h"

#include "base/memory.h"
#include "vmm/virtio/mmio.h"

#include <linux/virtio_mmio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct driver d;
static struct bh_virtio_mmio *bus;

static uint64_t read_wide(unsigned offset, unsigned size)
{
	uint64_t value = 0;

	assert_true(bh_bus_read(&d.vm.mmio, BH_VIRTIO_MMIO_START + offset, size, &value));
	return value;
}

static uint32_t get(unsigned offset)
{
	return (uint32_t)read_wide(offset, 4);
}

static void set(unsigned offset, uint32_t value)
{
	assert_true(bh_bus_write(&d.vm.mmio, BH_VIRTIO_MMIO_START + offset, 4, value));
}

/* One device, a balloon: it has a configuration that can be written. */
static void start(void)
{
	assert_int_equal(driver_make(&d), 0);
	assert_int_equal(bh_balloon_make(&d.vm, d.loop, 5, &d.device, NULL), 0);
	bh_virtio_mmio_make(&d.vm, &bus);
	assert_int_equal(bh_virtio_mmio_add(bus, d.device, NULL), 0);
}

static int end(void **state)
{
	(void)state;
	bh_virtio_detach(d.device);
	bh_virtio_mmio_free(bus);
	bh_bus_clear(&d.vm.mmio);
	driver_clear(&d);
	return 0;
}

static void set_queue(unsigned index)
{
	const uint64_t areas[] = { QUEUE_BASE + index * QUEUE_SPACING, QUEUE_BASE + index * QUEUE_SPACING + AVAILABLE,
				   QUEUE_BASE + index * QUEUE_SPACING + USED };

	set(VIRTIO_MMIO_QUEUE_SEL, index);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	for (unsigned i = 0; i < 3; i++) {
		set(VIRTIO_MMIO_QUEUE_DESC_LOW + 0x10 * i, (uint32_t)areas[i]);
		set(VIRTIO_MMIO_QUEUE_DESC_HIGH + 0x10 * i, (uint32_t)(areas[i] >> 32));
	}
	set(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void drive(void)
{
	set(VIRTIO_MMIO_STATUS, 0);
	set(VIRTIO_MMIO_STATUS, 3);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set(VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 11);
	set_queue(0);
	set_queue(1);
	set(VIRTIO_MMIO_STATUS, 15);
	assert_true(d.device->active);
	d.offered[0] = d.seen[0] = 0;
}

/* The guest inflates the balloon by one page. */
static void give_page(void)
{
	uint32_t *page = guest(&d, BUFFERS, 4);

	*page = 0x300;
	put_descriptor(&d, 0, 0, BUFFERS, 4, 0, 0);
	offer(&d, 0, 0);
}

static void test_identity(void **state)
{
	uint64_t value;

	(void)state;
	start();
	assert_int_equal(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(get(VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_ID), 5);
	assert_int_equal(get(VIRTIO_MMIO_VENDOR_ID), 0x1af4);
	set(VIRTIO_MMIO_MAGIC_VALUE, 0);
	assert_int_equal(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	/* Narrow and wide accesses, and those between two registers, are nothing. */
	assert_int_equal(read_wide(0, 1), 0);
	assert_int_equal(read_wide(0, 2), 0);
	assert_int_equal(read_wide(0, 8), 0);
	assert_int_equal(read_wide(2, 4), 0);
	assert_true(bh_bus_write(&d.vm.mmio, BH_VIRTIO_MMIO_START + VIRTIO_MMIO_STATUS, 1, 3));
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 0);
	/* No shared memory has any number. */
	for (uint32_t i = 0; i < 3; i++) {
		set(VIRTIO_MMIO_SHM_SEL, i);
		for (unsigned offset = VIRTIO_MMIO_SHM_LEN_LOW; offset <= VIRTIO_MMIO_SHM_BASE_HIGH; offset += 4)
			assert_int_equal(get(offset), UINT32_MAX);
	}
	assert_false(bh_bus_read(&d.vm.mmio, BH_VIRTIO_MMIO_START + BH_VIRTIO_MMIO_SIZE, 4, &value));
}

static void test_features(void **state)
{
	(void)state;
	start();
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), (uint32_t)d.device->offered);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	set(VIRTIO_MMIO_STATUS, 3);
	/* Features that weren't offered: FEATURES_OK stays off. */
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX);
	set(VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 3);
	set(VIRTIO_MMIO_DRIVER_FEATURES, 0);
	set(VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 3); /* no version 1 */
	set(VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 77);
	set(VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX); /* of a half that isn't there */
	set(VIRTIO_MMIO_STATUS, 11);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 11);
	set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX); /* too late */
	assert_int_equal(d.device->features, BH_VIRTIO_F_VERSION_1);
}

static void test_driver(void **state)
{
	(void)state;
	start();
	drive();
	set(VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), BH_VIRTIO_QUEUE_SIZE);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 1);
	set(VIRTIO_MMIO_QUEUE_DESC_LOW, 0); /* too late */
	assert_int_equal(d.device->queues[0].descriptors, QUEUE_BASE);
	give_page();
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	turn(&d);
	assert_int_equal(take_used(&d, 0, NULL), 0);
	/* The interrupt stays until it is acknowledged, by its own bit. */
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	set(VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	set(VIRTIO_MMIO_STATUS, 0);
	assert_false(d.device->active);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 0);
}

static void test_config(void **state)
{
	uint32_t generation;

	(void)state;
	start();
	drive();
	assert_int_equal(get(VIRTIO_MMIO_CONFIG), 5);
	assert_int_equal(read_wide(VIRTIO_MMIO_CONFIG, 1), 5);
	assert_int_equal(get(VIRTIO_MMIO_CONFIG + BH_VIRTIO_CONFIG_MAX), 0);
	assert_int_equal(get(0xffc), 0);
	/* A change is another generation, and an interrupt of its own. */
	generation = get(VIRTIO_MMIO_CONFIG_GENERATION);
	bh_balloon_set_target(d.device, 9);
	assert_int_equal(get(VIRTIO_MMIO_CONFIG), 9);
	assert_int_not_equal(get(VIRTIO_MMIO_CONFIG_GENERATION), generation);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	/* What the guest may not write stays, wherever it writes. */
	set(VIRTIO_MMIO_CONFIG + 0x80, 1);
	set(0xffc, 1);
	assert_int_equal(get(VIRTIO_MMIO_CONFIG), 9);
}

/* A guest may stop a queue without a reset: it stands, until there is one. Before the device works it may change its mind. */
static void test_stopped_queue(void **state)
{
	(void)state;
	start();
	drive();
	set(VIRTIO_MMIO_QUEUE_SEL, 0);
	set(VIRTIO_MMIO_QUEUE_READY, 2);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 1);
	give_page();
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	turn(&d);
	assert_int_equal(((struct vring_used *)guest(&d, QUEUE_BASE + USED, 4))->idx, 0);
	set_queue(0);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	turn(&d);
	assert_int_equal(((struct vring_used *)guest(&d, QUEUE_BASE + USED, 4))->idx, 0);
	assert_false(is_broken(&d));
	set(VIRTIO_MMIO_STATUS, 0);
	set_queue(0);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 1);
	set(VIRTIO_MMIO_QUEUE_READY, 0);
	drive();
	turn(&d);
	assert_int_equal(take_used(&d, 0, NULL), 0);
}

static void test_hostile(void **state)
{
	static const uint32_t sizes[] = { 3, 512, 0x10008, UINT32_MAX };

	(void)state;
	start();
	/* Queues that aren't there. */
	set(VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);
	set(VIRTIO_MMIO_QUEUE_NOTIFY, d.device->queue_count);
	turn(&d);
	assert_false(is_broken(&d));
	/* Sizes that no queue has, and one that lies where no memory is. */
	for (size_t i = 0; i < BH_ARRAY_SIZE(sizes); i++) {
		set(VIRTIO_MMIO_STATUS, 0);
		set(VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
		set(VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
		assert_true(get(VIRTIO_MMIO_STATUS) & BH_VIRTIO_NEEDS_RESET);
	}
	set(VIRTIO_MMIO_STATUS, 0);
	set(VIRTIO_MMIO_QUEUE_NUM, 8);
	set(VIRTIO_MMIO_QUEUE_DESC_HIGH, 1);
	set(VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_true(get(VIRTIO_MMIO_STATUS) & BH_VIRTIO_NEEDS_RESET);
	/* RING_RESET isn't offered. */
	set(VIRTIO_MMIO_STATUS, 0);
	set(0x0c0, 1);
	assert_int_equal(get(0x0c0), 0);
}

static void test_state(void **state)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader in;

	(void)state;
	start();
	drive();
	give_page();
	set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
	turn(&d);
	set(VIRTIO_MMIO_QUEUE_SEL, 1);
	set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	d.device->transport->save(d.device, &saved);
	set(VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(d.device->transport->load(d.device, &in, NULL), 0);
	assert_ptr_equal(in.at, in.end);
	assert_int_equal(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(get(VIRTIO_MMIO_DEVICE_FEATURES), 1);
	assert_int_equal(get(VIRTIO_MMIO_STATUS), 15);
	assert_int_equal(get(VIRTIO_MMIO_QUEUE_READY), 1);
	/* Bits that no interrupt has; and a state that is cut. */
	saved.data[12] = 4;
	in = bh_state_reader(saved.data, saved.length);
	assert_int_equal(d.device->transport->load(d.device, &in, NULL), -EINVAL);
	saved.data[12] = 1;
	for (size_t length = 0; length < saved.length; length++) {
		in = bh_state_reader(saved.data, length);
		set(VIRTIO_MMIO_STATUS, 0);
		if (d.device->transport->load(d.device, &in, NULL) == 0)
			assert_true(in.failed);
	}
}

/* A second device has a page of its own; behind the last one there is no room. */
static void test_many(void **state)
{
	struct bh_virtio_device *others[BH_VIRTIO_MMIO_DEVICES];
	uint64_t value;

	(void)state;
	start();
	for (size_t i = 1; i < BH_VIRTIO_MMIO_DEVICES; i++) {
		assert_int_equal(bh_rng_make(&d.vm, d.loop, &others[i], NULL), 0);
		assert_int_equal(bh_virtio_mmio_add(bus, others[i], NULL), 0);
		assert_true(bh_bus_read(&d.vm.mmio, bh_virtio_mmio_address((unsigned)i) + VIRTIO_MMIO_DEVICE_ID, 4, &value));
		assert_int_equal(value, 4);
	}
	assert_int_equal(bh_rng_make(&d.vm, d.loop, &others[0], NULL), 0);
	assert_int_equal(bh_virtio_mmio_add(bus, others[0], NULL), -ENOSPC);
	for (size_t i = 0; i < BH_VIRTIO_MMIO_DEVICES; i++) {
		bh_virtio_detach(others[i]);
		bh_virtio_free(others[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_identity, end),      cmocka_unit_test_teardown(test_features, end),
		cmocka_unit_test_teardown(test_driver, end),        cmocka_unit_test_teardown(test_config, end),
		cmocka_unit_test_teardown(test_stopped_queue, end), cmocka_unit_test_teardown(test_hostile, end),
		cmocka_unit_test_teardown(test_state, end),         cmocka_unit_test_teardown(test_many, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
