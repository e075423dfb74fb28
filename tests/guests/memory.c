/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills its memory from 16 MiB on with numbers, and does what it is told by single letters:
 *	c  prints the checksum of all of it      w  writes to one page in 64           s  writes without an end, and beats a drum (a dot each time around)
 *	+  adds one to a counter and prints it   .  ends with the counter
 */
#include "guest.h"

#define START (16u << 20)
#define PAGE 4096u

static uint32_t end;

static uint32_t next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void fill(uint32_t step, uint32_t seed)
{
	for (uint32_t page = START; page < end; page += step * PAGE)
		for (uint32_t at = page; at < page + PAGE; at += 64)
			*AT(uint32_t, at) = next(&seed);
}

static uint64_t checksum(void)
{
	uint64_t sum = 0;

	for (uint32_t at = START; at < end; at += 64)
		sum = (sum << 1 | sum >> 63) ^ *AT(uint32_t, at);
	return sum;
}

static int get(void)
{
	while (!(inb(0x3fd) & 1))
		__asm__ volatile("pause");
	return inb(0x3f8);
}

static void spin(void)
{
	for (uint32_t seed = 7;; seed++) {
		fill(1, seed);
		put('.');
		if (inb(0x3fd) & 1)
			return;
	}
}

int main(uint32_t magic, const struct information *information)
{
	int counter = 0;
	uint64_t sum;

	(void)magic;
	end = (information->memory_upper + 1024) * 1024;
	fill(1, 1);
	print("ready\n");
	for (;;) {
		switch (get()) {
		case 'c':
			sum = checksum();
			print("sum ");
			print_hex(sum);
			print("\n");
			break;
		case 'w':
			fill(64, 99);
			print("written\n");
			break;
		case 's':
			spin();
			break;
		case '+':
			print("counter ");
			print_hex((uint64_t)++counter);
			print("\n");
			break;
		case '.':
			return counter;
		default:
			break;
		}
	}
}
