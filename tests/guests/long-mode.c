/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes all processors into 64-bit mode: the first one from here, the others from INIT and SIPI. Each adds a number of 33 bits to a sum that lies
 * at an address of 512 GiB and more; the first one waits until as many have come as its environment (a module with NR_CPUS=) or else the firmware says, and
 * ends with their number.
 */
#include "guest.h"

#define START 0x8000
#define APIC 0xfee00000
#define PAGE_PRESENT 3
#define PAGE_LARGE 0x80

extern const char trampoline[], trampoline_end[];
_Noreturn void enter_long_mode(uint32_t wanted);

/* The first 4 GiB at 0, and once more at 512 GiB. */
uint64_t level_4[512] __attribute__((aligned(4096)));
static uint64_t level_3[512] __attribute__((aligned(4096))), level_2[4][512] __attribute__((aligned(4096)));
uint64_t sum;

__asm__(".data\n"
	".balign 8\n"
	"long_gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cf9b000000ffff\n"
	"long_gdt_pointer: .word . - long_gdt - 1\n"
	".long long_gdt\n"
	".text\n"
	/* At START, in real mode. */
	".code16\n"
	"trampoline: cli\n"
	"xorw %ax, %ax\n"
	"movw %ax, %ds\n"
	"lgdtl START_GDT\n"
	"movl %cr0, %eax\n"
	"orl $1, %eax\n"
	"movl %eax, %cr0\n"
	"ljmpl $0x18, $others\n"
	"trampoline_end:\n"
	".set START_GDT, 0x8100\n"
	".code32\n"
	"others: movl $0, %esi\n"
	"jmp to_long_mode\n"
	"enter_long_mode: movl 4(%esp), %esi\n"
	"lgdt long_gdt_pointer\n"
	"to_long_mode: movl %cr4, %eax\n"
	"orl $0x20, %eax\n"
	"movl %eax, %cr4\n"
	"movl $level_4, %eax\n"
	"movl %eax, %cr3\n"
	"movl $0xc0000080, %ecx\n"
	"rdmsr\n"
	"orl $0x100, %eax\n"
	"wrmsr\n"
	"movl %cr0, %eax\n"
	"orl $0x80000000, %eax\n"
	"movl %eax, %cr0\n"
	"ljmp $0x08, $in_long_mode\n"
	".code64\n"
	"in_long_mode: movw $0x10, %ax\n"
	"movw %ax, %ds\n"
	"movabsq $0x8000000000, %rbx\n"
	"movl $sum, %ecx\n"
	"addq %rcx, %rbx\n"
	"movabsq $0x100000001, %rax\n"
	"lock xaddq %rax, (%rbx)\n"
	"testl %esi, %esi\n"
	"jz 2f\n"
	"movl %esi, %edx\n"
	"shlq $32, %rdx\n"
	"orq %rsi, %rdx\n"
	"1: pause\n"
	"cmpq %rdx, (%rbx)\n"
	"jne 1b\n"
	"movl %esi, %eax\n"
	"outl %eax, $0xf4\n"
	"2: hlt\n"
	"jmp 2b\n"
	".code32\n");

static uint32_t processors(const struct information *information)
{
	const struct module *module = (const struct module *)(uintptr_t)information->modules;
	uint32_t number = 0;

	if (information->flags & 8 && information->module_count == 1) {
		for (uint32_t at = module->start; at < module->end; at++)
			if (*AT(char, at) >= '0' && *AT(char, at) <= '9')
				number = number * 10 + (uint32_t)(*AT(char, at) - '0');
		return number;
	}
	outw(0x510, 5);
	number = inb(0x511);
	return number | (uint32_t)inb(0x511) << 8;
}

int main(uint32_t magic, const struct information *information)
{
	extern const char long_gdt_pointer[6];

	(void)magic;
	level_4[0] = level_4[1] = (uintptr_t)level_3 | PAGE_PRESENT;
	for (uint32_t gib = 0; gib < 4; gib++) {
		level_3[gib] = (uintptr_t)level_2[gib] | PAGE_PRESENT;
		for (uint32_t i = 0; i < 512; i++)
			level_2[gib][i] = ((uint64_t)gib << 30) | (i << 21) | PAGE_LARGE | PAGE_PRESENT;
	}
	for (const char *p = trampoline; p < trampoline_end; p++)
		*AT(char, START + (p - trampoline)) = *p;
	for (int i = 0; i < 6; i++)
		*AT(char, START + 0x100 + i) = long_gdt_pointer[i];
	*AT(uint32_t, APIC + 0xf0) = 0x1ff;
	*AT(uint32_t, APIC + 0x300) = 0xc4500;
	*AT(uint32_t, APIC + 0x300) = 0xc4600 | START >> 12;
	print("going\n");
	enter_long_mode(processors(information));
}
