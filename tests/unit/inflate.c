/* SPDX-License-Identifier: Apache-2.0 */
/* What a bzImage carries, in each of the four compressions: whole, damaged at any byte, cut at any length. */
#include "vmm/boot/boot.h"

#include "base/string.h"

#include <elf.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <zlib.h>
#include <zstd.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define SIZE 30000

static uint8_t plain[SIZE], packed[SIZE * 2];

static size_t pack_gzip(void)
{
	z_stream z = { .next_in = plain, .avail_in = SIZE, .next_out = packed, .avail_out = sizeof packed };

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out - 4; /* its own end is the size */
}

static size_t pack_xz(void)
{
	size_t size = 0;

	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, plain, SIZE, packed, &size, sizeof packed), LZMA_OK);
	return size;
}

static size_t pack_zstd(void)
{
	return ZSTD_compress(packed, sizeof packed, plain, SIZE, 3);
}

/* One block: the first 20 bytes as they are, then the same again and again, the last 5 as they are. */
static size_t pack_lz4(void)
{
	static const uint8_t begin[] = { 0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0, 0xff, 5 };
	size_t size = sizeof begin, left = SIZE - 20 - 5 - 4 - 15;

	for (size_t i = 20; i < SIZE; i++)
		plain[i] = plain[i - 20];
	memcpy(packed, begin, sizeof begin);
	memcpy(packed + size, plain, 20);
	size += 20;
	packed[size++] = 20; /* the distance */
	packed[size++] = 0;
	for (; left >= 255; left -= 255)
		packed[size++] = 255;
	packed[size++] = (uint8_t)left;
	packed[size++] = 5 << 4;
	memcpy(packed + size, plain + SIZE - 5, 5);
	size += 5;
	packed[4] = (uint8_t)(size - 8);
	return size;
}

static void check(const char *name, size_t (*pack)(void))
{
	uint32_t room = SIZE;
	uint8_t *unpacked = NULL;
	size_t size, length = 0;

	for (size_t i = 0; i < SIZE; i++)
		plain[i] = (uint8_t)(i * i >> 7 ^ i);
	memcpy(plain, ELFMAG, SELFMAG);
	size = pack();
	memcpy(packed + size, &room, sizeof room);
	size += sizeof room;
	assert_string_equal(bh_boot_inflate(packed, size, &unpacked, &length), name);
	assert_int_equal(length, SIZE);
	assert_memory_equal(unpacked, plain, SIZE);
	free(unpacked);
	for (size_t i = 0; i < size; i++) {
		bh_auto_free uint8_t *cut = bh_memdup(packed, size);

		unpacked = NULL;
		cut[i] ^= 0x41;
		(void)bh_boot_inflate(cut, size, &unpacked, &length);
		free(unpacked);
		unpacked = NULL;
		memcpy(cut + i, &room, BH_MIN(sizeof room, size - i));
		(void)bh_boot_inflate(cut, i, &unpacked, &length);
		free(unpacked);
	}
}

static void test_compressions(void **state)
{
	(void)state;
	check("gzip", pack_gzip);
	check("xz", pack_xz);
	check("zstd", pack_zstd);
	check("lz4", pack_lz4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_compressions) };

	return cmocka_run_group_tests_name("inflate", tests, NULL, NULL);
}
