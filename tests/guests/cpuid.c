/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the registers that say which features the processor has. */
#include "guest.h"

static void show(uint32_t leaf, uint32_t subleaf)
{
	uint32_t a = leaf, b, c = subleaf, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	print_hex(leaf);
	put('.');
	print_hex(subleaf);
	print(": ");
	print_hex(a);
	put(' ');
	print_hex(b);
	put(' ');
	print_hex(c);
	put(' ');
	print_hex(d);
	put('\n');
}

int main(uint32_t magic, const struct information *information)
{
	(void)magic, (void)information;
	show(1, 0);
	show(7, 0);
	show(0xd, 0);
	show(0x80000001, 0);
	show(0x40000000, 0);
	return 0;
}
