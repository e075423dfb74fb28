/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of system calls: one sorted table for the three architectures, made from the kernel's headers by
 * tools/generate-syscalls. Names lie in one string and are found by offset, so the table needs no relocation at start.
 */
#include "linux/seccomp-internal.h"

struct entry {
	uint16_t name; /* offset into `names` */
	int16_t numbers[BH_ARCH_COUNT];
};

#include "seccomp-syscalls.h"

bool bh_seccomp_syscall_numbers(const char *name, size_t length, int ret_numbers[BH_ARCH_COUNT])
{
	size_t low = 0, high = BH_ARRAY_SIZE(entries);

	while (low < high) {
		size_t middle = (low + high) / 2;
		const char *candidate = names + entries[middle].name;
		int order = strncmp(name, candidate, length);

		if (order == 0 && candidate[length])
			order = -1;
		if (order == 0) {
			for (int i = 0; i < BH_ARCH_COUNT; i++)
				ret_numbers[i] = entries[middle].numbers[i];
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}
