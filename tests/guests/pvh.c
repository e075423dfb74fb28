/* SPDX-License-Identifier: Apache-2.0 */
/* Entered by PVH: prints what the loader told it and how the processor stands, and powers the machine off. */
#include "guest.h"

#define POWER_OFF 0x34 /* ACPI's sleep control: enable, type 5 */

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, acpi_root, map;
	uint32_t map_count, reserved;
};

struct pvh_module {
	uint64_t start, size, command_line, reserved;
};

struct pvh_map_entry {
	uint64_t start, size;
	uint32_t type, reserved;
};

/* The note, and an entry beside the multiboot one of start.S. */
__asm__(".section .note.pvh, \"a\", @note\n"
	".align 4\n"
	".long 4, 4, 18\n"
	".asciz \"Xen\"\n"
	".long pvh_start\n"
	".text\n"
	".globl pvh_start\n"
	"pvh_start:\n"
	"	movl $stack_end, %esp\n"
	"	pushl %ebx\n"
	"	pushfl\n"
	"	movl %cr4, %eax\n"
	"	pushl %eax\n"
	"	movl %cr0, %eax\n"
	"	pushl %eax\n"
	"	call pvh_main\n"
	"1:	hlt\n"
	"	jmp 1b\n");
void pvh_main(uint32_t cr0, uint32_t cr4, uint32_t flags, const struct start_info *info);

static const char *text_at(uint64_t address)
{
	return (const char *)(uintptr_t)address;
}

void pvh_main(uint32_t cr0, uint32_t cr4, uint32_t flags, const struct start_info *info)
{
	const struct pvh_map_entry *map = (const void *)(uintptr_t)info->map;
	const struct pvh_module *module = (const void *)(uintptr_t)info->modules;

	print("magic ");
	print_hex(info->magic);
	print(" version ");
	print_hex(info->version);
	print("\ncr0 ");
	print_hex(cr0 & ~0x10u); /* ET can't be cleared */
	print(" cr4 ");
	print_hex(cr4);
	print(" flags ");
	print_hex(flags & 0x20300); /* VM, IF, TF */
	print("\ncommand line: ");
	print(text_at(info->command_line));
	for (uint32_t i = 0; i < info->map_count; i++) {
		print("\nmap ");
		print_hex(map[i].start);
		print("+");
		print_hex(map[i].size);
		print(map[i].type == 1 ? " memory" : " reserved");
	}
	print("\nroot ");
	for (int i = 0; i < 8; i++)
		put(text_at(info->acpi_root)[i]);
	if (info->module_count == 1) {
		print("\nmodule ");
		print(text_at(module->command_line));
		print(": ");
		for (uint64_t i = 0; i < module->size; i++)
			put(text_at(module->start)[i]);
	}
	print("\n");
	outb(0x600, POWER_OFF);
}

int main(uint32_t magic, const struct information *information)
{
	(void)magic, (void)information;
	print("entered by multiboot\n");
	return 1;
}
