/* SPDX-License-Identifier: Apache-2.0 */
/* A bzImage with a compressed kernel: a whole file, or (first byte odd) a right header around the bytes as payload. */
#include "image/helper/helper-internal.h"

#include "base/memory.h"

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bh_auto_buf struct bh_buf image = { 0 }, kernel = { 0 };
	struct setup_header header = { .setup_sects = 1, .header = 0x53726448, .version = 0x020f };
	char setup[1024] = { 0 };

	if (size < 1)
		return 0;
	if (data[0] & 1) {
		header.payload_length = (uint32_t)size - 1;
		memcpy(setup + offsetof(struct boot_params, hdr), &header, sizeof header);
		bh_buf_add(&image, setup, sizeof setup);
	}
	bh_buf_add(&image, data + 1, size - 1);
	helper_inflate_kernel(&image, &kernel, NULL);
	return 0;
}
