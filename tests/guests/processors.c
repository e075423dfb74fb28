/* SPDX-License-Identifier: Apache-2.0 */
/* Starts all other processors (INIT and SIPI to all but self, Intel SDM volume 3, 8.4) and counts those that come. */
#include "guest.h"

#define COUNT 0x7ff0
#define START 0x8000
#define APIC 0xfee00000

extern const char processor_start[], processor_end[];

static uint32_t cpuid_count(void)
{
	uint32_t a = 1, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b >> 16 & 0xff;
}

int main(uint32_t magic, const struct information *information)
{
	uint32_t wanted = cpuid_count();

	(void)magic, (void)information;
	for (const char *p = processor_start; p < processor_end; p++)
		*AT(char, START + (p - processor_start)) = *p;
	*AT(uint32_t, COUNT) = 1;
	*AT(uint32_t, APIC + 0xf0) = 0x1ff; /* enabled */
	*AT(uint32_t, APIC + 0x300) = 0xc4500;
	*AT(uint32_t, APIC + 0x300) = 0xc4600 | START >> 12;
	while (*AT(uint32_t, COUNT) < wanted)
		__asm__ volatile("pause");
	print_hex(*AT(uint32_t, COUNT));
	print(" processors\n");
	return 0;
}
