/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a bzImage carries: the ELF kernel, compressed. Unpacked here it costs the guest nothing: no exits for each page that is touched
 * first, no time on what may be a slow processor.
 *
 * How large it becomes is in its last four bytes; that is believed up to a limit, and must be true.
 */
#include "vmm/boot/boot.h"

#include "base/memory.h"

#include <elf.h>
#include <errno.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define UNPACKED_MAX (512u << 20)
#define LZMA_MEMORY_MAX (256ull << 20)
#define SIZE_BYTES 4 /* behind the stream */
#define GZIP_WINDOW (16 + 15)
#define LZ4_BLOCK_MAX (8u << 20)

static bool unpack_gzip(const uint8_t *packed, size_t size, uint8_t *to, size_t room)
{
	z_stream stream = { .next_in = (Bytef *)packed, .avail_in = (uInt)size, .next_out = to, .avail_out = (uInt)room };
	int r;

	if (inflateInit2(&stream, GZIP_WINDOW) != Z_OK)
		return false;
	r = inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	return r == Z_STREAM_END && stream.avail_out == 0;
}

static bool unpack_xz(const uint8_t *packed, size_t size, uint8_t *to, size_t room)
{
	uint64_t memory = LZMA_MEMORY_MAX;
	size_t in = 0, out = 0;

	return lzma_stream_buffer_decode(&memory, 0, NULL, packed, &in, size, to, &out, room) == LZMA_OK && out == room;
}

static bool unpack_zstd(const uint8_t *packed, size_t size, uint8_t *to, size_t room)
{
	return size > SIZE_BYTES && ZSTD_decompress(to, room, packed, size - SIZE_BYTES) == room;
}

/* A length that goes on in further bytes as long as they are 255. */
static bool lz4_length(const uint8_t **at, const uint8_t *end, size_t *length)
{
	uint8_t byte = 255;

	if (*length != 15)
		return true;
	while (byte == 255) {
		if (*at == end || *length > LZ4_BLOCK_MAX)
			return false;
		byte = *(*at)++;
		*length += byte;
	}
	return true;
}

/* One block (lz4_Block_format.md). Returns how many bytes it became, 0 if it is damaged. */
static size_t unpack_lz4_block(const uint8_t *at, const uint8_t *end, uint8_t *to, size_t room)
{
	size_t done = 0;

	while (at < end) {
		size_t literals = *at >> 4, match = *at & 15, distance;

		at++;
		if (!lz4_length(&at, end, &literals) || literals > (size_t)(end - at) || literals > room - done)
			return 0;
		memcpy(to + done, at, literals);
		at += literals;
		done += literals;
		if (at == end) /* the last sequence has no match */
			break;
		if (end - at < 2)
			return 0;
		distance = at[0] | (size_t)at[1] << 8;
		at += 2;
		if (!lz4_length(&at, end, &match) || distance == 0 || distance > done || match + 4 > room - done)
			return 0;
		for (size_t i = 0; i < match + 4; i++, done++) /* it may reach into what it makes */
			to[done] = to[done - distance];
	}
	return done;
}

/* The "legacy frame" that the kernel uses: a magic number, then blocks with their sizes. */
static bool unpack_lz4(const uint8_t *packed, size_t size, uint8_t *to, size_t room)
{
	size_t at = 4, done = 0;

	while (done < room && size - at >= sizeof(uint32_t)) {
		uint32_t length;
		size_t n;

		memcpy(&length, packed + at, sizeof length);
		at += sizeof length;
		if (length > size - at)
			return false;
		n = unpack_lz4_block(packed + at, packed + at + length, to + done, room - done);
		if (n == 0)
			return false;
		at += length;
		done += n;
	}
	return done == room;
}

static const struct {
	const char *name;
	uint8_t magic[6];
	size_t magic_size;
	bool (*unpack)(const uint8_t *packed, size_t size, uint8_t *to, size_t room);
} formats[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, unpack_gzip },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, unpack_xz },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, unpack_zstd },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, unpack_lz4 },
};

const char *bh_boot_inflate(const uint8_t *packed, size_t size, uint8_t **ret_unpacked, size_t *ret_size)
{
	bh_auto_free uint8_t *unpacked = NULL;
	uint32_t room;
	size_t i = 0;

	if (size < SIZE_BYTES + sizeof formats[0].magic)
		return NULL;
	while (i < BH_ARRAY_SIZE(formats) && memcmp(packed, formats[i].magic, formats[i].magic_size) != 0)
		i++;
	memcpy(&room, packed + size - SIZE_BYTES, sizeof room);
	if (i == BH_ARRAY_SIZE(formats) || room < SELFMAG || room > UNPACKED_MAX)
		return NULL;
	unpacked = bh_malloc(room);
	if (!formats[i].unpack(packed, size, unpacked, room) || memcmp(unpacked, ELFMAG, SELFMAG) != 0)
		return NULL;
	*ret_unpacked = BH_TAKE_PTR(unpacked);
	*ret_size = room;
	return formats[i].name;
}
