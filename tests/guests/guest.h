/* SPDX-License-Identifier: Apache-2.0 */
/* What the test guests share: small kernels of one file each, 32 bits, without a library. What main returns is the exit code. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct information {
	uint32_t flags, memory_lower, memory_upper, boot_device, command_line, module_count, modules;
	uint32_t symbols[4], map_length, map, drives_length, drives, config_table, loader_name;
};

struct module {
	uint32_t start, end, string, reserved;
};

struct map_entry {
	uint32_t size;
	uint64_t address, length;
	uint32_t type;
} __attribute__((packed));

int main(uint32_t magic, const struct information *information);

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void put(char c)
{
	while (!(inb(0x3fd) & 0x20))
		continue;
	outb(0x3f8, (uint8_t)c);
}

static inline void print(const char *text)
{
	while (*text)
		put(*text++);
}

static inline void print_hex(uint64_t number)
{
	int shift = 60;

	while (shift && !(number >> shift))
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put("0123456789abcdef"[number >> shift & 15]);
}

static inline int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* The command line behind its first word, which is the kernel's name. */
static inline const char *arguments(const struct information *information)
{
	const char *line = (const char *)(uintptr_t)information->command_line;

	while (*line && *line != ' ')
		line++;
	return *line ? line + 1 : line;
}

#define AT(type, address) ((volatile type *)(uintptr_t)(address))
