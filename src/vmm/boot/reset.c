/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All the firmware there is. Linux on a hardware-reduced machine without EFI doesn't use ACPI's reset register: it goes to real mode
 * and jumps to the reset vector.
 */
#include "vmm/boot/boot.h"

#define RESET_VECTOR 0xffff0ULL

void bh_boot_place_reset(struct bh_guest_memory *memory)
{
	static const uint8_t code[] = {
		0xb0, 0xfe, /* mov $0xfe, %al */
		0xe6, 0x64, /* out %al, $0x64 */
		0xf4,       /* hlt */
		0xeb, 0xfd, /* jmp to it */
	};

	bh_guest_write(memory, RESET_VECTOR, code, sizeof code);
}
