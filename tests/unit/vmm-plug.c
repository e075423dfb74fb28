/* SPDX-License-Identifier: Apache-2.0 */
/* Slots of PCI that get and lose devices, the ports and the tables by which a guest hears of it; without KVM. */
#include "virtio-test.h"

#include "vmm/boot/boot.h"
#include "vmm/devices/devices.h"
#include "vmm/virtio/pci.h"

#include <linux/pci_regs.h>

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct driver d;
static struct bh_pci *pci;

static int begin(void **state)
{
	(void)state;
	if (driver_make(&d) < 0 || bh_rng_make(&d.vm, d.loop, &d.device, NULL) < 0 || bh_pci_make(&d.vm, true, &pci, NULL) < 0 ||
	    bh_events_make(&d.vm, NULL) < 0 || bh_plug_make(&d.vm, NULL) < 0)
		return -1;
	return bh_virtio_pci_add(pci, d.device, NULL);
}

static int end(void **state)
{
	(void)state;
	bh_virtio_detach(d.device);
	driver_clear(&d);
	bh_pci_free(pci);
	bh_plug_clear();
	bh_bus_clear(&d.vm.ports);
	bh_bus_clear(&d.vm.mmio);
	return 0;
}

static uint32_t in(uint64_t port)
{
	uint64_t value = 0;

	assert_true(bh_bus_read(&d.vm.ports, port, 4, &value));
	return (uint32_t)value;
}

static uint32_t config(unsigned slot, unsigned at)
{
	uint64_t value = 0;

	assert_true(bh_bus_read(&d.vm.mmio, BH_PCI_ECAM_START + slot * BH_PCI_ECAM_STRIDE + at, 4, &value));
	return (uint32_t)value;
}

static void test_slots(void **state)
{
	struct bh_virtio_device *second;
	uint32_t id = config(1, PCI_VENDOR_ID), bar = config(1, PCI_BASE_ADDRESS_0);
	uint64_t value = 0;

	(void)state;
	assert_int_equal(d.device->place, 1);
	assert_int_equal(id & 0xffff, 0x1af4);
	assert_int_equal(bh_rng_make(&d.vm, d.loop, &second, NULL), 0);
	assert_int_equal(bh_virtio_pci_add(pci, second, NULL), 0);
	assert_int_equal(second->place, 2);
	assert_int_not_equal(config(2, PCI_BASE_ADDRESS_0), bar);
	assert_true(bh_bus_write(&d.vm.mmio, BH_PCI_ECAM_START + BH_PCI_ECAM_STRIDE + PCI_COMMAND, 2, PCI_COMMAND_MEMORY));
	assert_true(bh_bus_read(&d.vm.mmio, bar, 4, &value));
	assert_int_not_equal((uint32_t)value, UINT32_MAX);
	/* Gone: nothing answers, and the one behind it does as before. */
	bh_virtio_pci_remove(d.device);
	assert_int_equal(config(1, PCI_VENDOR_ID), UINT32_MAX);
	assert_true(bh_bus_read(&d.vm.mmio, bar, 4, &value));
	assert_int_equal((uint32_t)value, UINT32_MAX);
	assert_int_equal(config(2, PCI_VENDOR_ID), id);
	/* In another slot; the free one is the next one's. */
	bh_virtio_pci_place(pci, d.device, 31);
	assert_int_equal(d.device->place, 31);
	assert_int_equal(config(31, PCI_VENDOR_ID), id);
	assert_int_not_equal(config(31, PCI_BASE_ADDRESS_0), bar);
	bh_virtio_pci_remove(second);
	assert_int_equal(config(2, PCI_VENDOR_ID), UINT32_MAX);
	bh_virtio_detach(second);
	bh_virtio_free(second);
	assert_int_equal(bh_rng_make(&d.vm, d.loop, &second, NULL), 0);
	assert_int_equal(bh_virtio_pci_add(pci, second, NULL), 0);
	assert_int_equal(second->place, 1);
	bh_virtio_pci_remove(second);
	bh_virtio_detach(second);
	bh_virtio_free(second);
}

static void test_ports(void **state)
{
	bh_auto_buf struct bh_buf saved = { 0 };
	struct bh_state_reader reader;
	uint64_t value = 0;

	(void)state;
	bh_plug_tell(&d.vm, 4, true);
	bh_plug_tell(&d.vm, 31, true);
	bh_plug_tell(&d.vm, 7, false);
	assert_true(bh_bus_read(&d.vm.ports, BH_BOOT_EVENTS, 1, &value));
	assert_int_equal(value & 0xff, BH_EVENT_PLUG);
	assert_int_equal(in(BH_BOOT_PLUG), 1u << 4 | 1u << 31);
	assert_int_equal(in(BH_BOOT_PLUG), 0);
	/* What the guest hasn't heard, or said, is part of the state. */
	assert_true(bh_bus_write(&d.vm.ports, BH_BOOT_PLUG + 8, 4, 1u << 9));
	bh_plug_save(&saved);
	assert_int_equal(in(BH_BOOT_PLUG + 4), 1u << 7);
	assert_true(bh_plug_take_gone(9));
	reader = bh_state_reader(saved.data, saved.length);
	bh_plug_load(&reader);
	assert_int_equal(in(BH_BOOT_PLUG + 4), 1u << 7);
	assert_true(bh_plug_take_gone(9));
	assert_false(bh_plug_take_gone(9));
	assert_false(bh_plug_take_gone(7));
	/* A slot that gets a new device hasn't lost it. */
	assert_true(bh_bus_write(&d.vm.ports, BH_BOOT_PLUG + 8, 4, 1u << 7));
	bh_plug_tell(&d.vm, 7, true);
	assert_false(bh_plug_take_gone(7));
	/* One that is to go again, before the guest knows of it. */
	bh_plug_tell(&d.vm, 7, false);
	assert_int_equal(in(BH_BOOT_PLUG), 0);
	assert_int_equal(in(BH_BOOT_PLUG + 4), 1u << 7);
	/* Other widths are nothing. */
	bh_plug_tell(&d.vm, 3, true);
	assert_true(bh_bus_read(&d.vm.ports, BH_BOOT_PLUG, 1, &value));
	assert_int_equal(value & 0xff, 0);
	assert_true(bh_bus_write(&d.vm.ports, BH_BOOT_PLUG + 8, 1, 8));
	assert_false(bh_plug_take_gone(3));
	assert_int_equal(in(BH_BOOT_PLUG), 1u << 3);
}

static const uint8_t *table(uint64_t at, uint32_t *ret_length)
{
	memcpy(ret_length, guest(&d, at + 4, 4), 4);
	return guest(&d, at, *ret_length);
}

static unsigned count(const uint8_t *bytes, uint32_t length, const char *what)
{
	unsigned found = 0;

	for (uint32_t i = 36; i + strlen(what) <= length; i++)
		found += memcmp(bytes + i, what, strlen(what)) == 0;
	return found;
}

static void test_tables(void **state)
{
	const struct bh_boot_acpi machine = { .vcpus = 1, .pluggable = true };
	uint64_t root = bh_boot_acpi(&machine, &d.vm.memory), xsdt, fadt, dsdt;
	const uint8_t *bytes;
	uint32_t length;

	(void)state;
	memcpy(&xsdt, guest(&d, root + 24, 8), 8);
	memcpy(&fadt, guest(&d, xsdt + 36, 8), 8);
	memcpy(&dsdt, guest(&d, fadt + 140, 8), 8);
	bytes = table(dsdt, &length);
	assert_true(root < dsdt && dsdt + length < BH_BOOT_GENERATION);
	for (unsigned slot = 1; slot < BH_PCI_SLOTS; slot++) {
		char name[8];

		snprintf(name, sizeof name, "S%02u_", slot);
		/* Itself, and told of what comes and what goes. */
		assert_int_equal(count(bytes, length, name), 3);
	}
	assert_int_equal(count(bytes, length, "_EJ0"), BH_PCI_SLOTS - 1);
	assert_int_equal(count(bytes, length, "PLUG"), 2);
	/* _SB_ is the last thing in the table: its two-byte length ends where the table does. */
	for (uint32_t i = 36; i + 8 < length; i++)
		if (bytes[i] == 0x10 && memcmp(bytes + i + 3, "\\_SB_", 5) == 0) {
			assert_int_equal(i + 1 + (bytes[i + 1] & 15) + bytes[i + 2] * 16u, length);
			return;
		}
	fail_msg("no scope in the table");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_slots), TEST(test_ports), TEST(test_tables) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
