/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for what a test guest's machine has, by the part that its command line names; 0 if it is as it should be. */
#include "guest.h"

#define IO_APIC 0xfec00000
#define LOCAL_APIC 0xfee00000
#define VECTOR 0x40 /* of line 0; no bit of the others' is in one word with an exception's */

static uint64_t item(uint16_t number, int size)
{
	uint64_t value = 0;

	outw(0x510, number);
	for (int i = 0; i < size; i++)
		value |= (uint64_t)inb(0x511) << 8 * i;
	return value;
}

static int firmware(void)
{
	print_hex(item(0, 4));
	print(" memory ");
	print_hex(item(3, 8));
	print(" processors ");
	print_hex(item(5, 2));
	print("\n");
	return item(5, 2) == item(15, 2) ? 0 : 1;
}

static void write_io_apic(uint32_t number, uint32_t value)
{
	*AT(uint32_t, IO_APIC) = number;
	*AT(uint32_t, IO_APIC + 16) = value;
}

static int requested(uint32_t vector)
{
	return *AT(uint32_t, LOCAL_APIC + 0x200 + vector / 32 * 16) >> vector % 32 & 1;
}

/* Each line of the I/O APIC, edge-triggered, to a vector of its own: requested by the test device's port and by nothing else. Processor
 * interrupts stay off. */
static int lines(void)
{
	*AT(uint32_t, LOCAL_APIC + 0xf0) = 0x1ff;
	for (uint32_t line = 3; line < 24; line++) {
		write_io_apic(0x10 + 2 * line + 1, 0);
		write_io_apic(0x10 + 2 * line, VECTOR + line);
	}
	for (uint32_t line = 3; line < 24; line++) {
		if (requested(VECTOR + line))
			return (int)line;
		outb((uint16_t)(0x2000 + line), 1);
		outb((uint16_t)(0x2000 + line), 0);
		for (int i = 0; i < 100000 && !requested(VECTOR + line); i++)
			__asm__ volatile("pause");
		if (!requested(VECTOR + line))
			return 100 + (int)line;
	}
	return 0;
}

static int bytes(void)
{
	volatile uint32_t *memory = AT(uint32_t, 0xff000000);

	outb(0xe0, 0x12), outb(0xe1, 0x34), outb(0xea, 0x56), outb(0xeb, 0x78);
	if (inl(0xe0) != 0x78563412 || inl(0xe8) != 0x78563412)
		return 1;
	memory[0] = 0x11223344;
	memory[0x3fff] = 0x55667788;
	return *AT(uint8_t, 0xff000001) == 0x33 && *AT(uint16_t, 0xff00fffe) == 0x5566 && memory[0] == 0x11223344 ? 0 : 2;
}

/* As a reader of ACPI 1.0 does it. */
static uint32_t table(uint32_t signature)
{
	uint32_t rsdt = 0;

	for (uint32_t at = 0xe0000; at < 0x100000 && !rsdt; at += 16)
		if (*AT(uint32_t, at) == 0x20445352 /* "RSD " */ && *AT(uint32_t, at + 4) == 0x20525450 /* "PTR " */)
			rsdt = *AT(uint32_t, at + 16);
	for (uint32_t at = rsdt + 36; rsdt && at < rsdt + *AT(uint32_t, rsdt + 4); at += 4)
		if (*AT(uint32_t, *AT(uint32_t, at)) == signature)
			return *AT(uint32_t, at);
	return 0;
}

static int power(int off)
{
	uint32_t fadt = table(0x50434146 /* "FACP" */);
	uint16_t timer = (uint16_t)*AT(uint32_t, fadt + 76), control = (uint16_t)*AT(uint32_t, fadt + 64);
	uint32_t first;

	if (!fadt || !timer || !control)
		return 1;
	first = inl(timer);
	for (int i = 0; i < 1000000 && inl(timer) == first; i++)
		continue;
	if (inl(timer) == first)
		return 2;
	if (off)
		outw(control, 0x2000 | 5 << 10);
	return 3;
}

int main(uint32_t magic, const struct information *information)
{
	const char *what = arguments(information);

	(void)magic;
	return same(what, "firmware") ? firmware() :
	       same(what, "lines")    ? lines() :
	       same(what, "bytes")    ? bytes() :
	       same(what, "timer")    ? power(0) :
	       same(what, "off")      ? power(1) :
					99;
}
