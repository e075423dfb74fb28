/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For a debugger: prints where its functions and its variable are, and waits for a word at 0x200000 that only a debugger can write. Then it calls one, writes the
 * variable, calls the other, and ends with the byte at 0x200004.
 */
#include "guest.h"

static volatile uint32_t variable;

static __attribute__((noinline)) void first(void)
{
	__asm__ volatile("nop; nop; nop" ::: "memory");
}

static __attribute__((noinline)) void second(void)
{
	__asm__ volatile("nop; nop; nop; nop" ::: "memory");
}

int main(uint32_t magic, const struct information *information)
{
	(void)magic, (void)information;
	print("first ");
	print_hex((uintptr_t)first);
	print(" second ");
	print_hex((uintptr_t)second);
	print(" variable ");
	print_hex((uintptr_t)&variable);
	print("\n");
	while (!*AT(uint32_t, 0x200000))
		continue;
	first();
	variable = 0x1234;
	second();
	return *AT(uint8_t, 0x200004);
}
