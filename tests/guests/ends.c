/* SPDX-License-Identifier: Apache-2.0 */
/* Ends in the way that its command line names. */
#include "guest.h"

int main(uint32_t magic, const struct information *information)
{
	const char *how = arguments(information);
	static const struct {
		uint16_t size;
		uint32_t address;
	} __attribute__((packed)) no_idt = { 0, 0 };

	(void)magic;
	print("here\n");
	if (same(how, "keyboard"))
		outb(0x64, 0xfe);
	if (same(how, "port 92"))
		outb(0x92, 1);
	if (same(how, "port cf9"))
		outb(0xcf9, 6);
	if (same(how, "triple"))
		__asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
	if (same(how, "spin"))
		for (;;)
			continue;
	if (same(how, "halt"))
		for (;;)
			__asm__ volatile("cli; hlt");
	if (same(how, "nobody"))
		return inl(0x1234) == 0xffffffff && *AT(uint32_t, 0xd0000000) == 0xffffffff ? 0 : 1;
	if (same(how, "clock")) {
		outb(0x70, 0x0d);
		if (!(inb(0x71) & 0x80))
			return 2;
		outb(0x70, 0x32);
		return inb(0x71); /* the century, binary-coded */
	}
	return 99;
}
