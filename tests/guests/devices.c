/* SPDX-License-Identifier: Apache-2.0 */
/* Drives the virtio device that its command line names: "block" (a disk of 64 KiB at least) or "vsock" (the host's port 1234 answers). */
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

static uint8_t disk(uint32_t type, uint64_t at, uint32_t length)
{
	uint32_t written;

	request.type = type;
	request.sector = at;
	answer = 0xee;
	describe(&device, 0, 0, &request, sizeof request, NEXT);
	describe(&device, 0, 1, length ? (volatile void *)sector : &answer, length ? length : 1, (type != OUT ? WRITE : 0) | (length ? NEXT : 0));
	describe(&device, 0, 2, &answer, 1, WRITE);
	offer(&device, 0, 0);
	take(&device, 0, &written);
	return answer;
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
	tell("pending", *AT(uint32_t, device.pending));
	tell("beyond its end", disk(OUT, 128, sizeof sector));
	tell("half a sector", disk(IN, 0, 100));
	tell("no request", disk(77, 0, sizeof sector));
	/* A buffer where no memory is: the device wants a reset, and works after one. */
	describe(&device, 0, 0, (void *)0xd0000000, sizeof request, NEXT);
	describe(&device, 0, 1, &answer, 1, WRITE);
	offer(&device, 0, 0);
	if (take(&device, 0, &length) != -1)
		return 5;
	tell("status", *AT(uint8_t, device.common + STATUS));
	if (!virtio_start(&device, 0, 1) || disk(IN, 127, sizeof sector) != 0 || sector[511] != 'w')
		return 6;
	print("works again\n");
	return 0;
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

int main(uint32_t magic, const struct information *information)
{
	const char *name = arguments(information);

	(void)magic;
	return same(name, "block") ? block() : same(name, "vsock") ? vsock() : 99;
}
