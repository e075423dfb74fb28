/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an exit costs: loops over each kind, timed by KVM's clock; a line "NAME NANOSECONDS" each, of one round. Needs a disk (which is asked for its serial number only).
 *	pio       a port that the monitor answers        mmio      a register that the monitor answers
 *	doorbell  a queue's register (ioeventfd)         poll      a request to the device and back, looking at the ring
 *	interrupt the same, waiting for the interrupt (irqfd, MSI-X)
 */
#include "virtio.h"

enum { ROUNDS = 2000, CLOCK_MSR = 0x4b564d01, INTERRUPT = 0x24, LAPIC = 0xfee00000u };

void on_serial(void);
extern const char interrupt_4[];

static struct virtio device;
static struct {
	uint32_t type, reserved;
	uint64_t sector;
} request = { .type = 8 }; /* its serial number */
static uint8_t serial[20], answer;
static volatile uint32_t interrupts;
/* Kernel: arch/x86/include/asm/pvclock-abi.h. */
static volatile struct {
	uint32_t version, pad;
	uint64_t tsc, nanoseconds;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags, pad2[2];
} clock __attribute__((aligned(64)));
static struct gate {
	uint16_t low, selector, type, high;
} idt[0x30];

/* interrupt_4 (start.S) calls it, whatever the vector. */
void on_serial(void)
{
	interrupts++;
	*AT(uint32_t, LAPIC + 0xb0) = 0;
}

static uint64_t now(void)
{
	uint32_t low, high, multiplier = clock.multiplier;
	uint64_t ticks;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	ticks = ((uint64_t)high << 32 | low) - clock.tsc;
	ticks = clock.shift >= 0 ? ticks << clock.shift : ticks >> -clock.shift;
	return (ticks >> 32) * multiplier + ((ticks & 0xffffffff) * multiplier >> 32) + clock.nanoseconds;
}

static void tell(const char *name, uint64_t begin)
{
	uint32_t each = (uint32_t)(now() - begin) / ROUNDS; /* less than four seconds */
	char digits[12];
	int n = 0;

	print(name);
	print(" ");
	do
		digits[n++] = (char)('0' + each % 10);
	while (each /= 10);
	while (n)
		put(digits[--n]);
	print("\n");
}

static void enable_interrupts(void)
{
	struct {
		uint16_t size;
		uint32_t address;
	} __attribute__((packed)) pointer = { sizeof idt - 1, (uint32_t)(uintptr_t)idt };
	uint32_t handler = (uint32_t)(uintptr_t)interrupt_4;
	volatile uint32_t *entry = AT(uint32_t, device.table + 16); /* of vector 1: queue 0 */

	idt[INTERRUPT] = (struct gate){ (uint16_t)handler, 8, 0x8e00, (uint16_t)(handler >> 16) };
	__asm__ volatile("lidt %0" : : "m"(pointer));
	outb(0x21, 0xff), outb(0xa1, 0xff);
	*AT(uint32_t, LAPIC + 0xf0) = 0x1ff;
	entry[0] = LAPIC;
	entry[1] = 0;
	entry[2] = INTERRUPT;
	entry[3] = 0;
}

static int round_trip(int by_interrupt)
{
	uint32_t length, before = interrupts;

	describe(&device, 0, 0, &request, sizeof request, NEXT);
	describe(&device, 0, 1, serial, sizeof serial, WRITE | NEXT);
	describe(&device, 0, 2, &answer, 1, WRITE);
	offer(&device, 0, 0);
	while (by_interrupt && interrupts == before) {
		__asm__ volatile("cli");
		if (interrupts == before)
			__asm__ volatile("sti; hlt");
	}
	__asm__ volatile("cli");
	return take(&device, 0, &length);
}

int main(uint32_t magic, const struct information *information)
{
	uint64_t begin;

	(void)magic, (void)information;
	if (!virtio_find(&device, 2) || !virtio_start(&device, 0, 1))
		return 1;
	__asm__ volatile("wrmsr" : : "c"(CLOCK_MSR), "a"((uint32_t)(uintptr_t)&clock | 1), "d"(0));
	begin = now();
	for (unsigned i = 0; i < ROUNDS; i++)
		inb(0x3fd);
	tell("pio", begin);
	begin = now();
	for (unsigned i = 0; i < ROUNDS; i++)
		(void)*AT(uint8_t, device.common + STATUS);
	tell("mmio", begin);
	begin = now();
	for (unsigned i = 0; i < ROUNDS; i++)
		*AT(uint16_t, device.queues[0].notify) = 0;
	tell("doorbell", begin);
	begin = now();
	for (unsigned i = 0; i < ROUNDS; i++)
		if (round_trip(0) < 0)
			return 2;
	tell("poll", begin);
	enable_interrupts();
	begin = now();
	for (unsigned i = 0; i < ROUNDS; i++)
		if (round_trip(1) < 0)
			return 3;
	tell("interrupt", begin);
	return 0;
}
