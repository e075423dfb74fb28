/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels by Linux's protocol (bzImage, vmlinux) and by PVH. */
#include "vmm/boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bh_guest_memory memory = BH_GUEST_MEMORY_INIT;
	const struct bh_boot_request request = {
		.kernel = { data, size, "kernel" },
		.initrd = { data, size, "initrd" },
		.command_line = "words",
	};
	struct bh_error err = BH_ERROR_INIT;
	struct bh_entry entry;

	if (!memory.count && bh_guest_memory_make(4 << 20, BH_MEMORY_ANONYMOUS, &memory, NULL) < 0)
		return 0;
	bh_boot_linux(&request, &memory, &entry, &err);
	bh_boot_choose(&request.kernel);
	bh_boot_pvh(&request, &memory, &entry, &err);
	return 0;
}
