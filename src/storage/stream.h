/* SPDX-License-Identifier: Apache-2.0 */
/* Reading bytes that may be compressed. Only the helper program links this. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Where bytes come from. Fills a part of `buffer`; returns the count, 0 at the end, or -errno with words in `err`. */
struct bh_source {
	ssize_t (*read)(void *context, void *buffer, size_t size, struct bh_error *err);
	void *context;
};

enum bh_compression { BH_COMPRESSION_NONE, BH_COMPRESSION_GZIP, BH_COMPRESSION_ZSTD };
#define BH_MAGIC_SIZE 512 /* bytes that tell: a compression's magic, or a tar header */
enum bh_compression bh_compression_detect(const void *bytes, size_t length);
/* Does it begin like a tar archive (a header with a right checksum, or two blocks' worth of zeros)? */
bool bh_tar_detect(const void *bytes, size_t length);

struct bh_stream;
/* Looks at the first bytes and picks the decompressor. */
int bh_stream_open(const struct bh_source *source, struct bh_stream **ret_stream, struct bh_error *err);
/* Fills `buffer` as far as there are bytes. Returns the count, 0 at the end, -errno. After an error: the same error.
 * Bytes behind the end of the compressed data that are not zero are an error. */
ssize_t bh_stream_read(struct bh_stream *stream, void *buffer, size_t size, struct bh_error *err);
enum bh_compression bh_stream_compression(const struct bh_stream *stream);
/* Compressed bytes consumed and bytes given out until now (to see a bomb). */
uint64_t bh_stream_bytes_in(const struct bh_stream *stream);
uint64_t bh_stream_bytes_out(const struct bh_stream *stream);
void bh_stream_close(struct bh_stream **stream);
#define bh_auto_stream __attribute__((cleanup(bh_stream_close)))

/* Decompress gzip with zlib although the faster library is there (tests). */
extern bool bh_stream_use_zlib;
