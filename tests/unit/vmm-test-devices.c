/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of test guests, and the ACPI tables that name them; without KVM. */
#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"
#include "vmm/virtio/mmio.h"

#include <errno.h>
#include <string.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct bh_vm vm = BH_VM_INIT;
static struct bh_test_device *device;

static int make(void **state)
{
	(void)state;
	vm.vcpus_wanted = 3;
	if (bh_guest_memory_make(4 << 20, BH_MEMORY_ANONYMOUS, &vm.memory, NULL) < 0 || bh_firmware_config_make(&vm, NULL) < 0 ||
	    bh_pm_timer_make(&vm, NULL) < 0)
		return -1;
	return bh_test_device_make(&vm, &device, NULL);
}

static int clear(void **state)
{
	(void)state;
	bh_test_device_free(device);
	bh_bus_clear(&vm.ports);
	bh_bus_clear(&vm.mmio);
	bh_guest_memory_clear(&vm.memory);
	return 0;
}

static uint64_t in(uint64_t port, unsigned size)
{
	uint64_t value;

	assert_true(bh_bus_read(&vm.ports, port, size, &value));
	return size < 8 ? value & ((1ULL << size * 8) - 1) : value;
}

static void out(uint64_t port, unsigned size, uint64_t value)
{
	assert_true(bh_bus_write(&vm.ports, port, size, value));
}

static uint64_t item(unsigned number, unsigned size)
{
	uint64_t value = 0;

	out(0x510, 2, number);
	for (unsigned i = 0; i < size; i++)
		value |= in(0x511, 1) << 8 * i;
	return value;
}

static void test_firmware_config(void **state)
{
	(void)state;
	assert_int_equal(item(0, 4), 0x554d4551);
	assert_int_equal(item(1, 4), 1);
	assert_int_equal(item(3, 8), 4 << 20);
	assert_int_equal(item(5, 2), 3);
	assert_int_equal(item(15, 2), 3);
	/* Behind the end, and where nothing is. */
	assert_int_equal(item(5, 8), 3);
	assert_int_equal(item(0x4005, 8), 0);
	assert_int_equal(item(0xffff, 8), 0);
	assert_int_equal(item(25, 4), 0);
	/* Not as a byte: that selects nothing. */
	out(0x510, 2, 5);
	out(0x510, 1, 0);
	assert_int_equal(in(0x511, 1), 3);
}

static void test_latch(void **state)
{
	(void)state;
	out(0xe0, 4, 0x12345678);
	assert_int_equal(in(0xe1, 1), 0x56);
	assert_int_equal(in(0xe2, 2), 0x1234);
	out(0xeb, 1, 0xaa);
	out(0xe8, 2, 0x55cc);
	assert_int_equal(in(0xe0, 4), 0xaa3455cc);
	out(0xe4, 4, 0x1000);
	assert_int_equal(in(0xe0, 4), 0xaa3455cc);
}

static void test_memory(void **state)
{
	uint64_t value;

	(void)state;
	assert_true(bh_bus_write(&vm.mmio, 0xff00fff8, 8, 0x1122334455667788));
	assert_true(bh_bus_read(&vm.mmio, 0xff00fffc, 4, &value));
	assert_int_equal(value, 0x11223344);
	/* Over its end there is nobody. */
	assert_false(bh_bus_write(&vm.mmio, 0xff00fffc, 8, 0));
	assert_false(bh_bus_read(&vm.mmio, 0xff010000, 1, &value));
}

static void test_state(void **state)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader reader;
	uint64_t value;

	(void)state;
	out(0xe0, 4, 0xcafe);
	bh_bus_write(&vm.mmio, 0xff000010, 2, 0xbeef);
	out(0x510, 2, 3);
	in(0x511, 1), in(0x511, 1);
	bh_firmware_config_save(&saved);
	bh_test_device_save(device, &saved);
	out(0xe0, 4, 0);
	bh_bus_write(&vm.mmio, 0xff000010, 2, 0);
	out(0x510, 2, 0);
	reader = bh_state_reader(saved.data, saved.length);
	bh_firmware_config_load(&reader);
	bh_test_device_load(device, &reader);
	assert_false(reader.failed);
	assert_ptr_equal(reader.at, reader.end);
	assert_int_equal(in(0xe0, 4), 0xcafe);
	bh_bus_read(&vm.mmio, 0xff000010, 2, &value);
	assert_int_equal(value, 0xbeef);
	assert_int_equal(in(0x511, 1), 0x40); /* the third byte of 4 MiB */
	/* Torn. */
	reader = bh_state_reader(saved.data, saved.length - 1);
	bh_firmware_config_load(&reader);
	bh_test_device_load(device, &reader);
	assert_true(reader.failed);
}

static void test_pm_timer(void **state)
{
	uint64_t before = in(BH_BOOT_PM_TIMER, 4), after;
	struct timespec wait = { 0, 20000000 };

	(void)state;
	nanosleep(&wait, NULL);
	after = in(BH_BOOT_PM_TIMER, 4);
	/* 20 ms are 71591 ticks; 3 s and more would be another thing. */
	assert_in_range((after - before) & 0xffffff, 71000, 10000000);
	assert_int_equal(after >> 24, 0);
	assert_int_equal(in(BH_BOOT_PM_EVENTS, 4), 0);
	assert_int_equal(in(BH_BOOT_PM_CONTROL, 2), 1);
	out(BH_BOOT_PM_CONTROL, 2, 0x2000 | 1 << 10);
	assert_int_equal(atomic_load(&vm.end), BH_VM_RUNNING);
	out(BH_BOOT_PM_CONTROL, 2, 0x2000 | 5 << 10);
	assert_int_equal(atomic_load(&vm.end), BH_VM_POWERED_OFF);
}

static uint32_t word(uint64_t address)
{
	uint32_t value;

	memcpy(&value, bh_guest_at(&vm.memory, address, 4), 4);
	return value;
}

static uint8_t sum(uint64_t address, size_t length)
{
	const uint8_t *bytes = bh_guest_at(&vm.memory, address, length);
	uint8_t s = 0;

	assert_non_null(bytes);
	while (length--)
		s = (uint8_t)(s + *bytes++);
	return s;
}

static void test_tables(void **state)
{
	uint64_t root = bh_boot_acpi(&(struct bh_boot_acpi){ .vcpus = 3, .fixed = true }, &vm.memory);
	uint32_t rsdt = word(root + 16), fadt = word(rsdt + 36), madt = word(rsdt + 40), facs = word(fadt + 36), dsdt = word(fadt + 40);

	(void)state;
	assert_int_equal(root % 16, 0);
	assert_int_equal(sum(root, 20), 0);
	assert_int_equal(sum(root, 36), 0);
	assert_memory_equal(bh_guest_at(&vm.memory, rsdt, 4), "RSDT", 4);
	assert_int_equal(word(rsdt + 4), 36 + 3 * 4);
	assert_int_equal(sum(rsdt, word(rsdt + 4)), 0);
	assert_memory_equal(bh_guest_at(&vm.memory, fadt, 4), "FACP", 4);
	assert_int_equal(sum(fadt, word(fadt + 4)), 0);
	assert_memory_equal(bh_guest_at(&vm.memory, madt, 4), "APIC", 4);
	assert_memory_equal(bh_guest_at(&vm.memory, dsdt, 4), "DSDT", 4);
	assert_memory_equal(bh_guest_at(&vm.memory, facs, 4), "FACS", 4);
	assert_int_equal(facs % 64, 0);
	assert_int_equal(word(fadt + 56), BH_BOOT_PM_EVENTS);
	assert_int_equal(word(fadt + 64), BH_BOOT_PM_CONTROL);
	assert_int_equal(word(fadt + 76), BH_BOOT_PM_TIMER);
	assert_int_equal(word(fadt + 112) & 1 << 20, 0);
	/* The same by the wide list. */
	assert_int_equal(word(word(root + 24) + 36), fadt);
	/* A machine without them says so. */
	bh_boot_acpi(&(struct bh_boot_acpi){ .vcpus = 3 }, &vm.memory);
	assert_int_equal(word(root + 16), 0);
	fadt = word(word(root + 24) + 36);
	assert_int_equal(word(fadt + 76), 0);
	assert_int_equal(word(fadt + 112) & 1 << 20, 1 << 20);
}

/* Devices on the MMIO bus, as many as there can be, are told of in the DSDT, whose packages stay whole. */
static void test_mmio_devices(void **state)
{
	uint64_t root = bh_boot_acpi(&(struct bh_boot_acpi){ .vcpus = 1, .mmio_devices = BH_VIRTIO_MMIO_DEVICES }, &vm.memory);
	uint32_t fadt = word(word(root + 24) + 36), dsdt = word(fadt + 40 + 100), length = word(dsdt + 4), found = 0;
	const uint8_t *bytes = bh_guest_at(&vm.memory, dsdt, length);

	(void)state;
	assert_non_null(bytes);
	assert_memory_equal(bytes, "DSDT", 4);
	assert_int_equal(sum(dsdt, length), 0);
	assert_true(dsdt + length < BH_BOOT_GENERATION);
	for (uint32_t i = 0; i + 8 < length; i++)
		found += memcmp(bytes + i, "LNRO0005", 8) == 0;
	assert_int_equal(found, BH_VIRTIO_MMIO_DEVICES);
	/* _SB_ is the last thing in the table: its two-byte length ends where the table does. */
	for (uint32_t i = 36; i + 8 < length; i++)
		if (bytes[i] == 0x10 && memcmp(bytes + i + 3, "\\_SB_", 5) == 0)
			assert_int_equal(i + 1 + (bytes[i + 1] & 15) + bytes[i + 2] * 16u, length);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_firmware_config), cmocka_unit_test(test_latch),    cmocka_unit_test(test_memory),
		cmocka_unit_test(test_state),           cmocka_unit_test(test_pm_timer), cmocka_unit_test(test_tables),
		cmocka_unit_test(test_mmio_devices),
	};

	return cmocka_run_group_tests(tests, make, clear);
}
