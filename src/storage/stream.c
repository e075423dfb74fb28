/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompression behind one read function.
 *
 * A compressed stream is a sequence of members (gzip) or frames (zstd); both kinds of file may be concatenated and be
 * followed by zeros (tapes, padded files). Anything else behind the end is an error: a digest covers it, so it is there
 * on purpose, and two programs could read it differently.
 *
 * gzip is decoded by ISA-L, three times as fast as zlib; zlib stays as the second driver for machines that ISA-L was
 * never brought to.
 */
#include "storage/stream.h"

#include "base/string.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>
#if __has_include(<isa-l/igzip_lib.h>)
#include <isa-l/igzip_lib.h>
#define HAVE_ISAL 1
#endif

#define INPUT_SIZE (256u << 10)

bool bh_stream_use_zlib;

struct decoder {
	const char *name;
	int (*init)(struct bh_stream *stream);
	void (*reset)(struct bh_stream *stream);
	/* Decodes from the input into the output. 1: a member ended; 0: goes on; -EBADMSG: *ret_why says what is wrong. */
	int (*step)(struct bh_stream *stream, const char **ret_why);
	void (*end)(struct bh_stream *stream);
};

struct bh_stream {
	struct bh_source source;
	enum bh_compression compression;
	const struct decoder *decoder; /* NULL: not compressed */
	unsigned char input[INPUT_SIZE];
	size_t position, length; /* of the input not yet used */
	unsigned char *out;      /* where the next decoded byte goes */
	size_t room;
	uint64_t bytes_in, bytes_out;
	bool source_ended, member_ended, ended;
	int failed;
	char why[160];
	union {
#ifdef HAVE_ISAL
		struct inflate_state isal;
#endif
		z_stream zlib;
		ZSTD_DCtx *zstd;
	} state;
};

#ifdef HAVE_ISAL
static void isal_reset(struct bh_stream *s)
{
	isal_inflate_reset(&s->state.isal);
	s->state.isal.crc_flag = ISAL_GZIP;
}

static int isal_start(struct bh_stream *s)
{
	isal_inflate_init(&s->state.isal);
	s->state.isal.crc_flag = ISAL_GZIP;
	return 0;
}

static int isal_step(struct bh_stream *s, const char **ret_why)
{
	struct inflate_state *i = &s->state.isal;
	int r;

	i->next_in = s->input + s->position;
	i->avail_in = (uint32_t)(s->length - s->position);
	i->next_out = s->out;
	i->avail_out = (uint32_t)BH_MIN(s->room, 1u << 30);
	r = isal_inflate(i);
	s->position = s->length - i->avail_in;
	s->room -= (size_t)(i->next_out - s->out);
	s->out = i->next_out;
	if (r < 0) {
		*ret_why = r == ISAL_INCORRECT_CHECKSUM ? "wrong checksum" : "damaged data";
		return -EBADMSG;
	}
	return i->block_state == ISAL_BLOCK_FINISH;
}

static void isal_end(struct bh_stream *s)
{
	(void)s;
}

static const struct decoder gzip_isal = { "gzip", isal_start, isal_reset, isal_step, isal_end };
#endif

static int zlib_start(struct bh_stream *s)
{
	return inflateInit2(&s->state.zlib, 15 + 16) == Z_OK ? 0 : -ENOMEM;
}

static void zlib_reset(struct bh_stream *s)
{
	inflateReset(&s->state.zlib);
}

static int zlib_step(struct bh_stream *s, const char **ret_why)
{
	z_stream *z = &s->state.zlib;
	int r;

	z->next_in = s->input + s->position;
	z->avail_in = (unsigned)(s->length - s->position);
	z->next_out = s->out;
	z->avail_out = (unsigned)BH_MIN(s->room, 1u << 30);
	r = inflate(z, Z_NO_FLUSH);
	s->position = s->length - z->avail_in;
	s->room -= (size_t)(z->next_out - s->out);
	s->out = z->next_out;
	if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR) {
		*ret_why = z->msg && strstr(z->msg, "check") ? "wrong checksum" : "damaged data";
		return -EBADMSG;
	}
	return r == Z_STREAM_END;
}

static void zlib_end(struct bh_stream *s)
{
	inflateEnd(&s->state.zlib);
}

static const struct decoder gzip_zlib = { "gzip", zlib_start, zlib_reset, zlib_step, zlib_end };

static int zstd_start(struct bh_stream *s)
{
	s->state.zstd = ZSTD_createDCtx();
	return s->state.zstd ? 0 : -ENOMEM;
}

static void zstd_reset(struct bh_stream *s)
{
	ZSTD_DCtx_reset(s->state.zstd, ZSTD_reset_session_only);
}

static int zstd_step(struct bh_stream *s, const char **ret_why)
{
	ZSTD_inBuffer in = { s->input, s->length, s->position };
	ZSTD_outBuffer out = { s->out, s->room, 0 };
	size_t r = ZSTD_decompressStream(s->state.zstd, &out, &in);

	s->position = in.pos;
	s->out += out.pos;
	s->room -= out.pos;
	if (ZSTD_isError(r)) {
		*ret_why = ZSTD_getErrorName(r);
		return -EBADMSG;
	}
	return r == 0;
}

static void zstd_end(struct bh_stream *s)
{
	ZSTD_freeDCtx(s->state.zstd);
}

static const struct decoder zstd = { "zstd", zstd_start, zstd_reset, zstd_step, zstd_end };

static const struct decoder *decoder_for(enum bh_compression compression)
{
	switch (compression) {
	case BH_COMPRESSION_GZIP:
#ifdef HAVE_ISAL
		return bh_stream_use_zlib ? &gzip_zlib : &gzip_isal;
#else
		return &gzip_zlib;
#endif
	case BH_COMPRESSION_ZSTD:
		return &zstd;
	default:
		return NULL;
	}
}

enum bh_compression bh_compression_detect(const void *bytes, size_t length)
{
	const unsigned char *b = bytes;

	if (length >= 3 && b[0] == 0x1f && b[1] == 0x8b && b[2] == 8)
		return BH_COMPRESSION_GZIP;
	/* A frame, or a skippable frame (zstd format, section 3). */
	if (length >= 4 && ((b[0] == 0x28 && b[1] == 0xb5 && b[2] == 0x2f && b[3] == 0xfd) ||
			    ((b[0] & 0xf0) == 0x50 && b[1] == 0x2a && b[2] == 0x4d && b[3] == 0x18)))
		return BH_COMPRESSION_ZSTD;
	return BH_COMPRESSION_NONE;
}

bool bh_tar_detect(const void *bytes, size_t length)
{
	const unsigned char *b = bytes;
	char field[9] = "";
	unsigned sum = 0;

	if (length < BH_MAGIC_SIZE)
		return false;
	for (size_t i = 0; i < BH_MAGIC_SIZE; i++)
		sum += i >= 148 && i < 156 ? ' ' : b[i];
	if (sum == 8 * ' ') /* all zero: an archive without entries */
		return true;
	memcpy(field, b + 148, 8);
	return strtoul(field, NULL, 8) == sum;
}

static int refill(struct bh_stream *s, struct bh_error *err)
{
	while (s->position == s->length && !s->source_ended) {
		ssize_t n = s->source.read(s->source.context, s->input, sizeof s->input, err);

		if (n < 0)
			return (int)n;
		s->position = 0;
		s->length = (size_t)n;
		s->bytes_in += (uint64_t)n;
		s->source_ended = n == 0;
	}
	return 0;
}

/* Enough of the beginning to know what it is. */
static int sniff(struct bh_stream *s, struct bh_error *err)
{
	while (s->length < BH_MAGIC_SIZE) {
		ssize_t n = s->source.read(s->source.context, s->input + s->length, sizeof s->input - s->length, err);

		if (n < 0)
			return (int)n;
		if (n == 0) {
			s->source_ended = true;
			break;
		}
		s->length += (size_t)n;
		s->bytes_in += (uint64_t)n;
	}
	return 0;
}

int bh_stream_open(const struct bh_source *source, struct bh_stream **ret_stream, struct bh_error *err)
{
	bh_auto_stream struct bh_stream *s = bh_calloc(1, sizeof *s);
	int r;

	s->source = *source;
	r = sniff(s, err);
	if (r < 0)
		return r;
	s->compression = bh_compression_detect(s->input, s->length);
	s->decoder = decoder_for(s->compression);
	if (s->decoder) {
		r = s->decoder->init(s);
		if (r < 0) {
			s->decoder = NULL;
			return bh_error_set(err, -r, "start the decompressor");
		}
	}
	*ret_stream = BH_TAKE_PTR(s);
	return 0;
}

static int fail(struct bh_stream *s, const char *why, struct bh_error *err)
{
	snprintf(s->why, sizeof s->why, "%s: %s", s->decoder->name, why);
	s->failed = EBADMSG;
	return bh_error_text(err, EBADMSG, "%s", s->why);
}

/* Between members: skips zeros and starts the next member, or sees the end. */
static void next_member(struct bh_stream *s)
{
	while (s->position < s->length && s->input[s->position] == 0)
		s->position++;
	if (s->position < s->length) {
		s->decoder->reset(s);
		s->member_ended = false;
	} else if (s->source_ended) {
		s->ended = true;
	}
}

static ssize_t decode(struct bh_stream *s, void *buffer, size_t size, struct bh_error *err)
{
	s->out = buffer;
	s->room = size;
	while (s->room && !s->ended) {
		size_t position, room = s->room;
		const char *why = NULL;
		int r = refill(s, err);

		if (r < 0)
			return r;
		if (s->member_ended) {
			next_member(s);
			continue;
		}
		position = s->position;
		r = s->decoder->step(s, &why);
		if (r < 0)
			return fail(s, why, err);
		s->member_ended = r == 1;
		if (r == 0 && s->source_ended && s->position == position && s->room == room)
			return fail(s, "it ends too early", err);
	}
	s->bytes_out += size - s->room;
	return (ssize_t)(size - s->room);
}

static ssize_t copy_plain(struct bh_stream *s, void *buffer, size_t size, struct bh_error *err)
{
	size_t left = s->length - s->position;
	ssize_t n;

	if (left) {
		n = (ssize_t)BH_MIN(left, size);
		memcpy(buffer, s->input + s->position, (size_t)n);
		s->position += (size_t)n;
	} else {
		n = s->source_ended ? 0 : s->source.read(s->source.context, buffer, size, err);
		if (n < 0)
			return n;
		s->bytes_in += (uint64_t)n;
	}
	s->source_ended = s->source_ended || n == 0;
	s->bytes_out += (uint64_t)n;
	return n;
}

ssize_t bh_stream_read(struct bh_stream *stream, void *buffer, size_t size, struct bh_error *err)
{
	if (stream->failed)
		return bh_error_text(err, stream->failed, "%s", stream->why);
	return stream->decoder ? decode(stream, buffer, size, err) : copy_plain(stream, buffer, size, err);
}

enum bh_compression bh_stream_compression(const struct bh_stream *stream)
{
	return stream->compression;
}

uint64_t bh_stream_bytes_in(const struct bh_stream *stream)
{
	return stream->bytes_in;
}

uint64_t bh_stream_bytes_out(const struct bh_stream *stream)
{
	return stream->bytes_out;
}

void bh_stream_close(struct bh_stream **stream)
{
	if (*stream && (*stream)->decoder)
		(*stream)->decoder->end(*stream);
	free(*stream);
	*stream = NULL;
}
