/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (RFC 3720, B.4), by the processor's own instruction where it has one. */
#include "vmm/snapshot.h"

#include <nmmintrin.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t length)
{
	uint64_t wide = crc;

	for (; length >= 8; at += 8, length -= 8) {
		uint64_t word;

		memcpy(&word, at, sizeof word);
		wide = _mm_crc32_u64(wide, word);
	}
	crc = (uint32_t)wide;
	while (length--)
		crc = _mm_crc32_u8(crc, *at++);
	return crc;
}

static uint32_t by_bits(uint32_t crc, const uint8_t *at, size_t length)
{
	while (length--) {
		crc ^= *at++;
		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
	}
	return crc;
}

uint32_t bh_crc32c(uint32_t crc, const void *bytes, size_t length)
{
	return ~(__builtin_cpu_supports("sse4.2") ? by_instruction(~crc, bytes, length) : by_bits(~crc, bytes, length));
}
