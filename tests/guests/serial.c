/* SPDX-License-Identifier: Apache-2.0 */
/* Gives back what it receives, in capitals, by interrupts; ends at a full stop. Before that: loopback and registers. */
#include "guest.h"

void on_serial(void);
extern const char interrupt_4[];

static volatile int ended, interrupts;

struct gate {
	uint16_t low, selector, type, high;
};
static struct gate idt[0x30];

void on_serial(void)
{
	interrupts++;
	while (inb(0x3fd) & 1) {
		char c = (char)inb(0x3f8);

		if (c == '.')
			ended = 1;
		put(c >= 'a' && c <= 'z' ? (char)(c - 32) : c);
	}
	outb(0x20, 0x20);
}

static void enable_interrupts(void)
{
	struct {
		uint16_t size;
		uint32_t address;
	} __attribute__((packed)) pointer = { sizeof idt - 1, (uint32_t)(uintptr_t)idt };
	uint32_t handler = (uint32_t)(uintptr_t)interrupt_4;

	idt[0x24] = (struct gate){ (uint16_t)handler, 8, 0x8e00, (uint16_t)(handler >> 16) };
	__asm__ volatile("lidt %0" : : "m"(pointer));
	/* Both interrupt controllers: vectors from 0x20 on, only line 4. */
	outb(0x20, 0x11), outb(0xa0, 0x11);
	outb(0x21, 0x20), outb(0xa1, 0x28);
	outb(0x21, 4), outb(0xa1, 2);
	outb(0x21, 1), outb(0xa1, 1);
	outb(0x21, 0xef), outb(0xa1, 0xff);
}

static int check_registers(void)
{
	outb(0x3ff, 0x5a);
	if (inb(0x3ff) != 0x5a)
		return 1;
	outb(0x3fb, 0x80);
	outb(0x3f8, 1), outb(0x3f9, 0);
	if (inb(0x3f8) != 1 || inb(0x3f9) != 0)
		return 2;
	outb(0x3fb, 3);
	outb(0x3fc, 0x1f); /* loopback, all outputs on */
	outb(0x3fa, 7);    /* what had come before goes */
	if ((inb(0x3fe) & 0xf0) != 0xf0)
		return 3;
	outb(0x3f8, 0x77);
	if (!(inb(0x3fd) & 1) || inb(0x3f8) != 0x77 || inb(0x3fd) & 1)
		return 4;
	return 0;
}

int main(uint32_t magic, const struct information *information)
{
	int wrong = check_registers();

	(void)magic, (void)information;
	if (wrong)
		return wrong;
	enable_interrupts();
	outb(0x3fc, 0x0b);
	outb(0x3fa, 7);
	outb(0x3f9, 1);
	print("ready\n");
	while (!ended)
		__asm__ volatile("sti; hlt; cli");
	print("\n");
	return interrupts ? 0 : 5;
}
