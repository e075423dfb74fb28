/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters: an entry says where the bytes begin, and how many sectors they are in; where they end only the stream knows.
 * One cluster is unpacked at a time, and kept: a guest reads it in pieces.
 */
#include "base/memory.h"
#include "vmm/disk/qcow2-internal.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS 15 /* of the raw deflate streams: writers use less */

void bh_qcow2_packed_range(const struct bh_qcow2 *q, uint64_t entry, uint64_t *ret_offset, size_t *ret_size)
{
	unsigned sectors_at = 62 - (q->cluster_bits - 8);
	uint64_t offset = entry & ((1ull << sectors_at) - 1);
	uint64_t sectors = (entry & (BH_QCOW2_COMPRESSED - 1)) >> sectors_at;

	*ret_offset = offset;
	*ret_size = (size_t)((sectors + 1) * BH_DISK_SECTOR - offset % BH_DISK_SECTOR);
}

static bool inflate_all(const uint8_t *packed, size_t size, uint8_t *unpacked, size_t room)
{
	z_stream stream = { .next_in = (Bytef *)packed, .avail_in = (uInt)size, .next_out = unpacked, .avail_out = (uInt)room };
	int r;

	if (inflateInit2(&stream, -WINDOW_BITS) != Z_OK)
		return false;
	r = inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	return stream.avail_out == 0 && (r == Z_STREAM_END || r == Z_BUF_ERROR);
}

static bool unpack_zstd(const uint8_t *packed, size_t size, uint8_t *unpacked, size_t room)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer in = { packed, size, 0 };
	ZSTD_outBuffer out = { unpacked, room, 0 };
	size_t r = 1, before;

	if (!context)
		return false;
	do {
		before = in.pos + out.pos;
		r = ZSTD_decompressStream(context, &out, &in);
	} while (!ZSTD_isError(r) && out.pos < room && in.pos + out.pos > before);
	ZSTD_freeDCtx(context);
	return !ZSTD_isError(r) && out.pos == room;
}

int bh_qcow2_unpack(struct bh_qcow2 *q, uint64_t entry)
{
	uint64_t offset;
	size_t size;
	int r;

	if (q->unpacked_entry == entry)
		return 0;
	bh_qcow2_packed_range(q, entry, &offset, &size);
	if (offset < q->cluster_size || offset >= q->end || size > 2 * (size_t)q->cluster_size)
		return -EIO;
	if (!q->packed)
		q->packed = bh_malloc(2 * (size_t)q->cluster_size);
	if (!q->unpacked)
		q->unpacked = bh_malloc(q->cluster_size);
	q->unpacked_entry = 0;
	r = bh_qcow2_read(q, q->packed, size, offset);
	if (r < 0)
		return r;
	if (!(q->zstd ? unpack_zstd : inflate_all)(q->packed, size, q->unpacked, q->cluster_size))
		return -EIO;
	q->unpacked_entry = entry;
	return 0;
}
