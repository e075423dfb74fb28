/* SPDX-License-Identifier: Apache-2.0 */
/* Prints what the loader told it. */
#include "guest.h"

int main(uint32_t magic, const struct information *information)
{
	const struct module *module = (const struct module *)(uintptr_t)information->modules;

	print("magic ");
	print_hex(magic);
	print("\ncommand line: ");
	print((const char *)(uintptr_t)information->command_line);
	for (uint32_t at = 0; at < information->map_length;) {
		const struct map_entry *entry = (const struct map_entry *)(uintptr_t)(information->map + at);

		print("\nmap ");
		print_hex(entry->address);
		print("+");
		print_hex(entry->length);
		print(entry->type == 1 ? " memory" : " reserved");
		at += entry->size + 4;
	}
	if (information->flags & 8 && information->module_count == 1) {
		print("\nmodule ");
		print((const char *)(uintptr_t)module->string);
		print(": ");
		for (uint32_t at = module->start; at < module->end; at++)
			put(*AT(char, at));
	}
	print("\n");
	return 42;
}
