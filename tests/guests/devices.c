/* SPDX-License-Identifier: Apache-2.0 */
/* Drives the virtio device that its command line names: "block" (a disk of 64 KiB at least), "queues" (such a disk with three queues) or "vsock"
 * (the host's port 1234 answers); "configuration": looks at a disk's configuration space by memory; "line": takes the interrupts of a disk on the
 * MMIO bus; "saved": reads a disk for each byte of input, until a full stop. */
#include "virtio.h"

static struct virtio device;

static void tell(const char *what, uint64_t number)
{
	print(what);
	print(" ");
	print_hex(number);
	print("\n");
}

/* --- block ---------------------------------------------------------------------------------------------------------------- */

enum { IN = 0, OUT = 1, FLUSH = 4, ID = 8 };

static struct {
	uint32_t type, reserved;
	uint64_t sector;
} request;
static uint8_t sector[512];
static volatile uint8_t answer;

static uint8_t disk_by(unsigned queue, uint32_t type, uint64_t at, uint32_t length)
{
	uint32_t written;

	request.type = type;
	request.sector = at;
	answer = 0xee;
	describe(&device, queue, 0, &request, sizeof request, NEXT);
	describe(&device, queue, 1, length ? (volatile void *)sector : &answer, length ? length : 1, (type != OUT ? WRITE : 0) | (length ? NEXT : 0));
	describe(&device, queue, 2, &answer, 1, WRITE);
	offer(&device, queue, 0);
	take(&device, queue, &written);
	return answer;
}

static uint8_t disk(uint32_t type, uint64_t at, uint32_t length)
{
	return disk_by(0, type, at, length);
}

static int block(void)
{
	uint32_t length;

	if (!virtio_find(&device, 2) || !virtio_start(&device, 0, 1))
		return 1;
	tell("sectors", *AT(uint32_t, device.config));
	if (disk(ID, 0, 20) != 0)
		return 2;
	sector[20] = 0;
	print("serial ");
	print((char *)sector);
	if (disk(IN, 0, sizeof sector) != 0)
		return 3;
	sector[5] = 0;
	print("\nreads ");
	print((char *)sector);
	print("\n");
	for (unsigned i = 0; i < sizeof sector; i++)
		sector[i] = 'w';
	if (disk(OUT, 127, sizeof sector) != 0 || disk(FLUSH, 0, 0) != 0)
		return 4;
	/* Vectors are masked: the interrupt that was sent waits. */
	tell("pending", virtio_pending(&device));
	tell("beyond its end", disk(OUT, 128, sizeof sector));
	tell("half a sector", disk(IN, 0, 100));
	tell("no request", disk(77, 0, sizeof sector));
	/* A buffer where no memory is: the device wants a reset, and works after one. */
	describe(&device, 0, 0, (void *)0xd0000000, sizeof request, NEXT);
	describe(&device, 0, 1, &answer, 1, WRITE);
	offer(&device, 0, 0);
	if (take(&device, 0, &length) != -1)
		return 5;
	tell("status", virtio_status(&device));
	if (!virtio_start(&device, 0, 1) || disk(IN, 127, sizeof sector) != 0 || sector[511] != 'w')
		return 6;
	print("works again\n");
	return 0;
}

#define MULTIPLE_QUEUES (1u << 12)

/* What one queue writes the next one reads; all of them break together. */
static int queues(void)
{
	uint32_t length;

	if (!virtio_find(&device, 2) || !virtio_start(&device, MULTIPLE_QUEUES, QUEUES))
		return 1;
	tell("queues", *AT(uint16_t, device.config + 34));
	for (unsigned i = 0; i < QUEUES; i++) {
		sector[0] = (uint8_t)('a' + i);
		if (disk_by(i, OUT, i, sizeof sector) != 0)
			return 2;
		sector[0] = 0;
		if (disk_by((i + 1) % QUEUES, IN, i, sizeof sector) != 0 || sector[0] != 'a' + i)
			return 3;
	}
	tell("pending", virtio_pending(&device));
	describe(&device, 1, 0, (void *)0xd0000000, sizeof request, NEXT);
	offer(&device, 1, 0);
	if (take(&device, 1, &length) != -1)
		return 4;
	offer(&device, 2, 0);
	if (take(&device, 2, &length) != -1)
		return 5;
	return virtio_start(&device, MULTIPLE_QUEUES, QUEUES) && disk_by(2, IN, 0, sizeof sector) == 0 && sector[0] == 'a' ? 0 : 6;
}

/* --- vsock ---------------------------------------------------------------------------------------------------------------- */

enum { REQUEST = 1, RESPONSE, RESET, SHUTDOWN, DATA };
enum { RX, TX };
#define BUFFERS 4
#define TEXT_MAX 256u

struct packet {
	uint64_t source, destination;
	uint32_t source_port, destination_port, length;
	uint16_t type, operation;
	uint32_t flags, window, forwarded;
	char text[TEXT_MAX];
} __attribute__((packed));
#define HEADER (sizeof(struct packet) - TEXT_MAX)

static struct packet out;
static struct packet in[BUFFERS];

static void send(uint16_t operation, uint32_t flags, const char *text)
{
	uint32_t unused;

	out.source = *AT(uint32_t, device.config);
	out.destination = 2;
	out.source_port = 1000;
	out.destination_port = 1234;
	out.type = 1;
	out.operation = operation;
	out.flags = flags;
	out.window = 65536;
	for (out.length = 0; text[out.length]; out.length++)
		out.text[out.length] = text[out.length];
	describe(&device, TX, 0, &out, HEADER + out.length, 0);
	offer(&device, TX, 0);
	take(&device, TX, &unused);
}

static void give_buffer(uint16_t index)
{
	describe(&device, RX, index, &in[index], sizeof in[index], WRITE);
	offer(&device, RX, index);
}

/* The next packet's operation; data is printed. */
static uint16_t receive(void)
{
	uint32_t length;
	int index = take(&device, RX, &length);
	uint16_t operation = index < 0 ? 0 : in[index].operation;

	for (uint32_t i = 0; operation == DATA && i < in[index].length && i < TEXT_MAX; i++)
		put(in[index].text[i]);
	if (index >= 0)
		give_buffer((uint16_t)index);
	out.forwarded += operation == DATA ? in[index].length : 0;
	return operation;
}

static int vsock(void)
{
	if (!virtio_find(&device, 19) || !virtio_start(&device, 0, 3))
		return 1;
	tell("address", *AT(uint32_t, device.config));
	for (uint16_t i = 0; i < BUFFERS; i++)
		give_buffer(i);
	send(REQUEST, 0, "");
	if (receive() != RESPONSE)
		return 2;
	send(DATA, 0, "from ring 0\n");
	while (receive() == DATA)
		continue;
	/* The host has said all. */
	send(SHUTDOWN, 3, "");
	tell("last", receive());
	send(DATA, 0, "nobody is there");
	tell("then", receive());
	return 0;
}

/* --- configuration space ----------------------------------------------------------------------------------------------------- */

#define ECAM 0xe0000000u

static int configuration(void)
{
	uint32_t space, window, sum = 0;
	volatile uint8_t *status;

	if (!virtio_find(&device, 2))
		return 1;
	space = ECAM + (device.slot << 15);
	for (window = *AT(uint8_t, space + 0x34); window; window = *AT(uint8_t, space + window + 1))
		if (*AT(uint8_t, space + window) == 9 && *AT(uint8_t, space + window + 3) == 5)
			break;
	if (!window)
		return 2;
	tell("by ports", pci_read(device.slot, 0));
	*AT(uint32_t, space) = 0;
	tell("by memory", *AT(uint32_t, space));
	tell("behind", *AT(uint32_t, space + 0x100));
	for (unsigned i = 0; i < 1000; i++)
		sum += *AT(uint32_t, space + i % 16 * 4);
	tell("sum", sum != 0);
	*AT(uint32_t, space + 0x10) = 0xffffffff;
	tell("size", *AT(uint32_t, space + 0x10));
	*AT(uint32_t, space + 0x10) = device.common & 0xffff8000;
	/* A register of the device through configuration space, which changes with no write to that. */
	status = AT(uint8_t, device.common + STATUS);
	*AT(uint8_t, space + window + 4) = 0;
	*AT(uint32_t, space + window + 8) = STATUS;
	*AT(uint32_t, space + window + 12) = 1;
	*status = 1;
	tell("window", *AT(uint8_t, space + window + 16));
	*status = 3;
	tell("again", *AT(uint8_t, space + window + 16));
	return 0;
}

/* --- an interrupt line ----------------------------------------------------------------------------------------------------------- */

#define IO_APIC 0xfec00000u
#define LAPIC 0xfee00000u
#define VECTOR_LINE 0x24
#define LEVEL_TRIGGERED (1u << 15)

static struct gate {
	uint16_t low, selector, type, high;
} idt[0x30];
static volatile uint32_t interrupts;
void on_serial(void);
extern const char interrupt_4[];

/* interrupt_4 (start.S) calls it. Only every second time the device is told that it was heard: else the line stays high. */
void on_serial(void)
{
	uint32_t status = virtio_pending(&device);

	if (++interrupts % 2 == 0)
		*AT(uint32_t, device.mmio + MMIO_ACKNOWLEDGE) = status;
	*AT(uint32_t, LAPIC + 0xb0) = 0;
}

static void io_apic_write(uint32_t index, uint32_t value)
{
	*AT(uint32_t, IO_APIC) = index;
	*AT(uint32_t, IO_APIC + 0x10) = value;
}

static void enable_interrupts(void)
{
	struct {
		uint16_t size;
		uint32_t address;
	} __attribute__((packed)) pointer = { sizeof idt - 1, (uint32_t)(uintptr_t)idt };
	uint32_t handler = (uint32_t)(uintptr_t)interrupt_4;

	idt[VECTOR_LINE] = (struct gate){ (uint16_t)handler, 8, 0x8e00, (uint16_t)(handler >> 16) };
	__asm__ volatile("lidt %0" : : "m"(pointer));
	outb(0x21, 0xff), outb(0xa1, 0xff);
	*AT(uint32_t, LAPIC + 0xf0) = 0x1ff;
	io_apic_write(0x11 + 2 * (MMIO_LINE + device.slot), 0);
	io_apic_write(0x10 + 2 * (MMIO_LINE + device.slot), VECTOR_LINE | LEVEL_TRIGGERED);
}

static int line(void)
{
	uint32_t before;

	if (!virtio_find(&device, 2) || !device.mmio || !virtio_start(&device, 0, 1))
		return 1;
	enable_interrupts();
	for (unsigned i = 0; i < 3; i++) {
		before = interrupts;
		if (disk(IN, 0, sizeof sector) != 0)
			return 2;
		while (interrupts < before + 2)
			__asm__ volatile("sti; hlt; cli");
		if (virtio_pending(&device))
			return 3;
	}
	for (unsigned i = 0; i < 1000; i++)
		__asm__ volatile("sti; nop; cli");
	tell("interrupts", interrupts);
	/* What isn't 32 bits wide, or isn't there. */
	tell("a byte", *AT(uint8_t, device.mmio));
	tell("beyond", *AT(uint32_t, device.mmio + 0xffc));
	*AT(uint32_t, device.mmio + MMIO_NOTIFY) = 7;
	tell("status", virtio_status(&device));
	return 0;
}

/* --- a machine that is saved -------------------------------------------------------------------------------------------------- */

/* An interrupt waits and the queue has gone around when it is; both are so afterwards. Each byte of input is another look. */
static int saved(void)
{
	if (!virtio_find(&device, 2) || !virtio_start(&device, 0, 1))
		return 1;
	for (unsigned i = 0; i < QUEUE_SIZE + 3; i++)
		if (disk(IN, 0, sizeof sector) != 0)
			return 2;
	print("ready\n");
	for (;;) {
		while (!(inb(0x3fd) & 1))
			__asm__ volatile("pause");
		if (inb(0x3f8) == '.')
			return 3;
		tell("pending", virtio_pending(&device));
		tell("status", virtio_status(&device));
		if (disk(IN, 0, sizeof sector) != 0)
			return 4;
		sector[5] = 0;
		print("reads ");
		print((char *)sector);
		print("\n");
	}
}

int main(uint32_t magic, const struct information *information)
{
	const char *name = arguments(information);

	(void)magic;
	if (same(name, "queues"))
		return queues();
	if (same(name, "line"))
		return line();
	if (same(name, "saved"))
		return saved();
	return same(name, "block") ? block() : same(name, "vsock") ? vsock() : same(name, "configuration") ? configuration() : 99;
}
