/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables (ACPI specification 6.5, chapters 5, 20; PCI Firmware Specification 3.3 for MCFG): RSDP -> XSDT -> FADT (-> DSDT), MADT,
 * MCFG. With the fixed registers also RSDP -> RSDT, which is what ACPI 1.0 had, and FADT -> FACS.
 *
 * For Linux hardware-reduced: the kernel looks for no timer, interrupt controller or power management of old PCs. The DSDT is written in
 * AML by hand; a package's length comes in front of it, so packages are built from the inside out.
 */
#include "vmm/boot/boot.h"

#include "base/string.h"
#include "vmm/devices/devices.h"
#include "vmm/devices/pci.h"
#include "vmm/virtio/mmio.h"

#include <string.h>

#define ALIGN 16
#define LOCAL_APIC 0xfee00000u
#define IO_APIC 0xfec00000u
#define RESET_PORT 0xcf9
#define RESET_VALUE 6

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct address {
	uint8_t space, width, offset, access;
	uint64_t address;
} __attribute__((packed));

struct fadt {
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved, profile;
	uint16_t sci_interrupt;
	uint32_t smi_command;
	uint8_t enable, disable, s4bios, pstate;
	uint32_t blocks[8];
	uint8_t block_lengths[7], cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_architecture;
	uint8_t reserved_3;
	uint32_t flags;
	struct address reset_register;
	uint8_t reset_value;
	uint16_t arm_boot;
	uint8_t minor;
	uint64_t wide_facs, wide_dsdt;
	struct address wide_blocks[8], sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));

_Static_assert(offsetof(struct fadt, flags) == 112 && offsetof(struct fadt, wide_dsdt) == 140 && sizeof(struct fadt) == 276, "table 5.9");

enum {
	FADT_WBINVD = 1 << 0,
	FADT_RESET_REGISTER = 1 << 10,
	FADT_HEADLESS = 1 << 12,
	FADT_HARDWARE_REDUCED = 1 << 20,
	BOOT_NO_VGA = 1 << 2,
	BOOT_NO_CLOCK_CHIP = 1 << 5, /* it is there, but has no interrupt: a driver for it would fail */
	SPACE_PORT = 1,
	MADT_OLD_CONTROLLERS = 1 << 0, /* there are two 8259 too */
	BLOCK_PM1A_EVENTS = 0,         /* in `blocks` */
	BLOCK_PM1A_CONTROL = 2,
	BLOCK_PM_TIMER = 5,
	LENGTH_PM1_EVENTS = 0, /* in `block_lengths` */
	LENGTH_PM1_CONTROL = 1,
	LENGTH_PM_TIMER = 3,
};

struct madt {
	struct header header;
	uint32_t local_apic, flags;
} __attribute__((packed));

struct madt_processor {
	uint8_t type, length, id, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_io_apic {
	uint8_t type, length, id, reserved;
	uint32_t address, first_interrupt;
} __attribute__((packed));

struct mcfg {
	struct header header;
	uint8_t reserved[8];
	uint64_t address;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved_4;
} __attribute__((packed));

struct root {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t wide_checksum, reserved[3];
} __attribute__((packed));

struct facs {
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, lock, flags;
	uint64_t wide_waking_vector;
	uint8_t version, reserved[31];
} __attribute__((packed));

_Static_assert(sizeof(struct facs) == 64, "table 5.15");

/* The byte that makes the sum of all zero. */
static uint8_t checksum(const void *bytes, size_t length)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
	return (uint8_t)-sum;
}

static struct header header_of(const char *signature, uint8_t revision)
{
	struct header header = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

	memcpy(header.signature, signature, sizeof header.signature);
	memcpy(header.oem, "BULKHD", sizeof header.oem);
	memcpy(header.oem_table, "BULKHEAD", sizeof header.oem_table);
	memcpy(header.creator, "BLKH", sizeof header.creator);
	return header;
}

/* --- AML ------------------------------------------------------------------------------------------------------------ */

static void add_u32(struct bh_buf *out, uint32_t value)
{
	bh_buf_add(out, &value, sizeof value);
}

/* `op` (one or two bytes), the length of what follows, what follows. */
static void add_package(struct bh_buf *out, const char *op, const struct bh_buf *content)
{
	size_t length = content->length + 1;

	bh_buf_adds(out, op);
	if (length < 0x40) {
		bh_buf_addc(out, (char)length);
	} else {
		/* Two bytes: four low bits, then eight; up to 4095. The longest, with slots that can be plugged, has 2.9 KiB. */
		length++;
		bh_buf_addc(out, (char)(0x40 | (length & 15)));
		bh_buf_addc(out, (char)(length >> 4));
	}
	bh_buf_add(out, content->data, content->length);
}

/* COM1: without it the port would have no interrupt, as nobody looks for the interrupts of old PCs. */
static void add_serial(struct bh_buf *out)
{
	static const char name[] = "COM1", hid[] = "\x08_HID\x0c\x41\xd0\x05\x01" /* PNP0501 */, uid[] = "\x08_UID\x00", crs[] = "\x08_CRS";
	static const char resources[] = { 0x0a,       19,                                        /* bytes */
					  0x47,       1,  (char)0xf8, 3, (char)0xf8, 3, 1, 8,    /* 8 ports from 0x3f8 on */
					  (char)0x89, 6,  0,          3, 1,          4, 0, 0, 0, /* interrupt 4, edge, high */
					  0x79,       0 };
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 };

	bh_buf_add(&list, resources, sizeof resources);
	bh_buf_add(&device, name, 4);
	bh_buf_add(&device, hid, sizeof hid - 1);
	bh_buf_add(&device, uid, sizeof uid - 1);
	bh_buf_add(&device, crs, sizeof crs - 1);
	add_package(&device, "\x11", &list);
	add_package(out, "\x5b\x82", &device);
}

/* What is taken: the window of PCI's configuration space, which Linux believes only if somebody else reserves it. */
static void add_board(struct bh_buf *out)
{
	static const char names[] = "MBRD\x08_HID\x0c\x41\xd0\x0c\x02\x08_CRS"; /* PNP0C02 */
	static const uint8_t fixed[] = { 0x0a, 14, 0x86, 9, 0, 1 };             /* 14 bytes: memory, writable */
	static const uint8_t end[] = { 0x79, 0 };
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 };

	bh_buf_add(&list, fixed, sizeof fixed);
	add_u32(&list, BH_PCI_ECAM_START);
	add_u32(&list, BH_PCI_ECAM_SIZE);
	bh_buf_add(&list, end, sizeof end);
	bh_buf_add(&device, names, sizeof names - 1);
	add_package(&device, "\x11", &list);
	add_package(out, "\x5b\x82", &device);
}

/* A slot of PCI, by whose name the kernel is told of it, and the method by which it lets go of its device (6.3.3). */
static void add_slot(unsigned slot, struct bh_buf *out)
{
	static const char address[] = "\x08_ADR\x0c", number[] = "\x08_SUN\x0a", eject[] = "_EJ0\x01\x70\x0c"; /* PGON = ... */
	bh_auto_buf struct bh_buf device = { 0 }, method = { 0 };

	bh_buf_addf(&device, "S%02u_", slot);
	bh_buf_add(&device, address, sizeof address - 1);
	add_u32(&device, slot << 16);
	bh_buf_add(&device, number, sizeof number - 1);
	bh_buf_addc(&device, (char)slot);
	bh_buf_add(&method, eject, sizeof eject - 1);
	add_u32(&method, 1u << slot);
	bh_buf_adds(&method, "PGON");
	add_package(&device, "\x14", &method);
	add_package(out, "\x5b\x82", &device);
}

/* Local0 = register; for each slot: If (Local0 & bit) { Notify (slot, what) } */
static void add_slot_notices(const char *name, char what, struct bh_buf *out)
{
	bh_buf_addf(out, "\x70%s\x60", name);
	for (unsigned slot = 1; slot < BH_PCI_SLOTS; slot++) {
		bh_auto_buf struct bh_buf body = { 0 };

		bh_buf_adds(&body, "\x7b\x60\x0c");
		add_u32(&body, 1u << slot);
		bh_buf_addc(&body, '\0');
		bh_buf_addf(&body, "\x86S%02u_\x0a%c", slot, what);
		add_package(out, "\xa0", &body);
	}
}

/* What the ports of devices/plug.c are for, in the scope of the bus: device check (1), eject request (3). */
static void add_slots(struct bh_buf *out)
{
	static const char region[] = "\x5b\x80"
				     "PLRG\x01\x0b\x20\x06\x0a\x0c"; /* port 0x620, 12 bytes */
	static const char registers[] = "PLRG\x03"
					"PCOM\x20"
					"PGOI\x20"
					"PGON\x20";
	bh_auto_buf struct bh_buf fields = { 0 }, method = { 0 };

	bh_buf_add(out, region, sizeof region - 1);
	bh_buf_add(&fields, registers, sizeof registers - 1);
	add_package(out, "\x5b\x81", &fields);
	for (unsigned slot = 1; slot < BH_PCI_SLOTS; slot++)
		add_slot(slot, out);
	bh_buf_add(&method, "PLUG\0", 5);
	add_slot_notices("PCOM", 1, &method);
	add_slot_notices("PGOI", 3, &method);
	add_package(out, "\x14", &method);
}

/* The PCI bus: where its devices' registers lie (ACPI 6.5, 6.4.3.5). */
static void add_pci(bool pluggable, struct bh_buf *out)
{
	static const char names[] = "PCI0"
				    "\x08_HID\x0c\x41\xd0\x0a\x08" /* PNP0A08 */
				    "\x08_CID\x0c\x41\xd0\x0a\x03" /* PNP0A03 */
				    "\x08_UID\x00\x08_BBN\x00\x08_CRS";
	static const uint8_t bus[] = { 0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0 }; /* bus 0 */
	static const uint8_t window[] = { 0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0 };                /* memory; its numbers follow */
	static const uint8_t end[] = { 0x79, 0 };
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 }, resources = { 0 };

	bh_buf_add(&resources, bus, sizeof bus);
	bh_buf_add(&resources, window, sizeof window);
	add_u32(&resources, BH_PCI_WINDOW_START);
	add_u32(&resources, BH_PCI_WINDOW_END - 1);
	add_u32(&resources, 0);
	add_u32(&resources, BH_PCI_WINDOW_END - BH_PCI_WINDOW_START);
	bh_buf_add(&resources, end, sizeof end);
	bh_buf_addc(&list, 0x0a);
	bh_buf_addc(&list, (char)resources.length);
	bh_buf_add(&list, resources.data, resources.length);
	bh_buf_add(&device, names, sizeof names - 1);
	add_package(&device, "\x11", &list);
	if (pluggable)
		add_slots(&device);
	add_package(out, "\x5b\x82", &device);
}

/* If (Local0 & event) { PCI0.PLUG () } */
static void add_plug_event(struct bh_buf *out)
{
	static const char body[] = "\x7b\x60\x0a\x04\x00\\\x2f\x03_SB_PCI0PLUG";
	bh_auto_buf struct bh_buf content = { 0 };

	_Static_assert(BH_EVENT_PLUG == 4, "as above");
	bh_buf_add(&content, body, sizeof body - 1);
	add_package(out, "\xa0", &content);
}

/* If (Local0 & event) { Notify (device, 0x80) } */
static void add_notify(struct bh_buf *out, unsigned event, const char *device)
{
	const char condition[] = { 0x7b, 0x60, 0x0a, (char)event, 0x00, (char)0x86 };
	static const char value[] = { 0x0a, (char)0x80 };
	bh_auto_buf struct bh_buf body = { 0 };

	bh_buf_add(&body, condition, sizeof condition);
	bh_buf_adds(&body, device);
	bh_buf_add(&body, value, sizeof value);
	add_package(out, "\xa0", &body);
}

/* The generic event device: its interrupt, the port behind it, and the method that tells others. */
static void add_events(bool pluggable, struct bh_buf *out)
{
	static const char head[] = "GED_\x08_HID\x0d"
				   "ACPI0013\x00\x08_UID\x00\x08_CRS";
	static const char interrupt[] = { 0x0a, 11, (char)0x89, 6, 0, 3, 1, BH_BOOT_EVENTS_LINE, 0, 0, 0, 0x79, 0 };
	static const char region[] = "\x5b\x80"
				     "EVRG\x01\x0b\x02\x06\x0a\x01"; /* port 0x602, one byte */
	static const char field[] = "EVRG\x01"
				    "EVNT\x08";
	static const char read[] = "_EVT\x09\x70"
				   "EVNT\x60"; /* one argument, serialized; Local0 = EVNT */
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 }, fields = { 0 }, method = { 0 };

	bh_buf_add(&list, interrupt, sizeof interrupt);
	bh_buf_add(&device, head, sizeof head - 1);
	add_package(&device, "\x11", &list);
	bh_buf_add(&device, region, sizeof region - 1);
	bh_buf_add(&fields, field, sizeof field - 1);
	add_package(&device, "\x5b\x81", &fields);
	bh_buf_add(&method, read, sizeof read - 1);
	add_notify(&method, BH_EVENT_POWER_BUTTON, "PWRB");
	add_notify(&method, BH_EVENT_GENERATION, "VGEN");
	if (pluggable)
		add_plug_event(&method);
	add_package(&device, "\x14", &method);
	add_package(out, "\x5b\x82", &device);
}

/* What the events are about. */
static void add_notified(struct bh_buf *out)
{
	static const char button[] = "PWRB\x08_HID\x0c\x41\xd0\x0c\x0c\x08_UID\x00"; /* PNP0C0C */
	static const char generation[] = "VGEN\x08_HID\x0d"
					 "VMGENCTR\x00\x08_CID\x0d"
					 "VM_Gen_Counter\x00\x08_DDN\x0d"
					 "VM_Gen_Counter\x00\x08"
					 "ADDR\x12\x08\x02\x0c"; /* Package { low, high } */
	bh_auto_buf struct bh_buf device = { 0 };

	bh_buf_add(&device, button, sizeof button - 1);
	add_package(out, "\x5b\x82", &device);
	bh_buf_reset(&device);
	bh_buf_add(&device, generation, sizeof generation - 1);
	add_u32(&device, BH_BOOT_GENERATION);
	bh_buf_addc(&device, '\0');
	add_package(out, "\x5b\x82", &device);
}

/* The port of a panic, by the name that drivers know. */
static void add_panic(struct bh_buf *out)
{
	static const char head[] = "PEVT\x08_HID\x0d"
				   "QEMU0001\x00\x08_CRS";
	static const char resources[] = { 0x0a, 10, 0x47, 1, BH_BOOT_PANIC & 0xff, BH_BOOT_PANIC >> 8, BH_BOOT_PANIC & 0xff, BH_BOOT_PANIC >> 8,
					  1,    1,  0x79, 0 };
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 };

	bh_buf_add(&list, resources, sizeof resources);
	bh_buf_add(&device, head, sizeof head - 1);
	add_package(&device, "\x11", &list);
	add_package(out, "\x5b\x82", &device);
}

/* A virtio device on the MMIO bus: its registers and its interrupt (ACPI 6.5, 6.4.3.4 and 6.4.3.6), by the name that Linux knows. */
static void add_virtio(unsigned index, struct bh_buf *out)
{
	static const char hid[] = "\x08_HID\x0d"
				  "LNRO0005\x00\x08_UID\x0a";
	static const uint8_t memory[] = { 0x0a, 23, 0x86, 9, 0, 1 }; /* 23 bytes: memory, writable */
	static const uint8_t interrupt[] = { 0x89, 6, 0, 0x09, 1 };  /* consumed, level, high, shared; one */
	static const uint8_t end[] = { 0x79, 0 };
	bh_auto_buf struct bh_buf device = { 0 }, list = { 0 };

	bh_buf_add(&list, memory, sizeof memory);
	add_u32(&list, (uint32_t)bh_virtio_mmio_address(index));
	add_u32(&list, BH_VIRTIO_MMIO_SIZE);
	bh_buf_add(&list, interrupt, sizeof interrupt);
	add_u32(&list, bh_virtio_mmio_line(index));
	bh_buf_add(&list, end, sizeof end);
	bh_buf_addf(&device, "VR%02u", index);
	bh_buf_add(&device, hid, sizeof hid - 1);
	bh_buf_addc(&device, (char)index);
	bh_buf_adds(&device, "\x08_CRS");
	add_package(&device, "\x11", &list);
	add_package(out, "\x5b\x82", &device);
}

static void build_dsdt(const struct bh_boot_acpi *machine, struct bh_buf *out)
{
	static const char s5[] = "\x08_S5_\x12\x07\x04\x0a\x05\x00\x00\x00"; /* Package { 5, 0, 0, 0 }: the type for power-off */
	bh_auto_buf struct bh_buf bus = { 0 };
	const struct header header = header_of("DSDT", 2);

	bh_buf_add(out, &header, sizeof header);
	bh_buf_add(out, s5, sizeof s5 - 1);
	bh_buf_add(&bus, "\\_SB_", 5);
	add_serial(&bus);
	add_board(&bus);
	add_pci(machine->pluggable, &bus);
	add_notified(&bus);
	add_panic(&bus);
	add_events(machine->pluggable, &bus);
	for (unsigned i = 0; i < machine->mmio_devices; i++)
		add_virtio(i, &bus);
	add_package(out, "\x10", &bus);
}

/* --- the others ----------------------------------------------------------------------------------------------------- */

static void build_madt(unsigned vcpus, bool fixed, struct bh_buf *out)
{
	const struct madt madt = { .header = header_of("APIC", 5), .local_apic = LOCAL_APIC, .flags = fixed ? MADT_OLD_CONTROLLERS : 0 };
	const struct madt_io_apic io_apic = { .type = 1, .length = sizeof io_apic, .address = IO_APIC };

	bh_buf_add(out, &madt, sizeof madt);
	for (unsigned i = 0; i < vcpus; i++) {
		const struct madt_processor processor = { 0, sizeof processor, (uint8_t)i, (uint8_t)i, 1 };

		bh_buf_add(out, &processor, sizeof processor);
	}
	bh_buf_add(out, &io_apic, sizeof io_apic);
}

static void add_fixed_registers(uint64_t dsdt, uint64_t facs, struct fadt *fadt)
{
	fadt->flags &= ~(uint32_t)FADT_HARDWARE_REDUCED;
	fadt->boot_architecture &= (uint16_t)~BOOT_NO_CLOCK_CHIP;
	fadt->dsdt = (uint32_t)dsdt;
	fadt->facs = (uint32_t)facs;
	fadt->sci_interrupt = BH_BOOT_PM_LINE;
	fadt->blocks[BLOCK_PM1A_EVENTS] = BH_BOOT_PM_EVENTS;
	fadt->block_lengths[LENGTH_PM1_EVENTS] = 4;
	fadt->blocks[BLOCK_PM1A_CONTROL] = BH_BOOT_PM_CONTROL;
	fadt->block_lengths[LENGTH_PM1_CONTROL] = 2;
	fadt->blocks[BLOCK_PM_TIMER] = BH_BOOT_PM_TIMER;
	fadt->block_lengths[LENGTH_PM_TIMER] = 4;
}

/* facs 0: hardware-reduced. */
static void build_fadt(uint64_t dsdt, uint64_t facs, struct bh_buf *out)
{
	struct fadt fadt = {
		.header = header_of("FACP", 6),
		.boot_architecture = BOOT_NO_VGA | BOOT_NO_CLOCK_CHIP,
		.flags = FADT_WBINVD | FADT_RESET_REGISTER | FADT_HEADLESS | FADT_HARDWARE_REDUCED,
		.reset_register = { SPACE_PORT, 8, 0, 1, RESET_PORT },
		.reset_value = RESET_VALUE,
		.minor = 5,
		.wide_dsdt = dsdt,
		.sleep_control = { SPACE_PORT, 8, 0, 1, BH_BOOT_SLEEP_CONTROL },
		.sleep_status = { SPACE_PORT, 8, 0, 1, BH_BOOT_SLEEP_STATUS },
	};

	if (facs)
		add_fixed_registers(dsdt, facs, &fadt);
	bh_buf_add(out, &fadt, sizeof fadt);
}

/* It has no checksum, as guests write to it. */
static uint64_t place_facs(struct bh_guest_memory *memory, uint64_t *at)
{
	const struct facs facs = { .signature = { 'F', 'A', 'C', 'S' }, .length = sizeof facs, .version = 2 };
	uint64_t here = (*at + sizeof facs - 1) / sizeof facs * sizeof facs;

	bh_guest_write(memory, here, &facs, sizeof facs);
	*at = here + sizeof facs;
	return here;
}

static void build_mcfg(struct bh_buf *out)
{
	const struct mcfg mcfg = { .header = header_of("MCFG", 1), .address = BH_PCI_ECAM_START };

	bh_buf_add(out, &mcfg, sizeof mcfg);
}

/* Completes a table and puts it at *at, which moves on. */
static uint64_t place(struct bh_buf *table, struct bh_guest_memory *memory, uint64_t *at)
{
	uint64_t here = *at;
	struct header header;

	memcpy(&header, table->data, sizeof header);
	header.length = (uint32_t)table->length;
	memcpy(table->data, &header, sizeof header);
	header.checksum = checksum(table->data, table->length);
	memcpy(table->data, &header, sizeof header);
	bh_guest_write(memory, here, table->data, table->length);
	*at = (here + table->length + ALIGN - 1) / ALIGN * ALIGN;
	return here;
}

#define TABLES 3

/* RSDT or XSDT: where the others are, in so many bytes each. */
static uint64_t place_list(const char *signature, const uint64_t tables[TABLES], size_t size, struct bh_guest_memory *memory, uint64_t *at)
{
	bh_auto_buf struct bh_buf list = { 0 };
	const struct header header = header_of(signature, 1);

	bh_buf_add(&list, &header, sizeof header);
	for (size_t i = 0; i < TABLES; i++)
		bh_buf_add(&list, &tables[i], size);
	return place(&list, memory, at);
}

uint64_t bh_boot_acpi(const struct bh_boot_acpi *machine, struct bh_guest_memory *memory)
{
	bh_auto_buf struct bh_buf dsdt = { 0 }, fadt = { 0 }, madt = { 0 }, mcfg = { 0 };
	struct root root = { .revision = 2, .length = sizeof root };
	uint64_t at = BH_BOOT_ACPI + 64, tables[TABLES], facs;

	facs = machine->fixed ? place_facs(memory, &at) : 0;
	build_dsdt(machine, &dsdt);
	build_fadt(place(&dsdt, memory, &at), facs, &fadt);
	build_madt(machine->vcpus, machine->fixed, &madt);
	tables[0] = place(&fadt, memory, &at);
	tables[1] = place(&madt, memory, &at);
	build_mcfg(&mcfg);
	tables[2] = place(&mcfg, memory, &at);
	memcpy(root.signature, "RSD PTR ", sizeof root.signature);
	memcpy(root.oem, "BULKHD", sizeof root.oem);
	root.xsdt = place_list("XSDT", tables, 8, memory, &at);
	root.rsdt = machine->fixed ? (uint32_t)place_list("RSDT", tables, 4, memory, &at) : 0;
	root.checksum = checksum(&root, 20); /* of the fields that ACPI 1.0 had */
	root.wide_checksum = checksum(&root, sizeof root);
	bh_guest_write(memory, BH_BOOT_ACPI, &root, sizeof root);
	return BH_BOOT_ACPI;
}
