/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking and decompressing with every implementation: openat2 and its fallback, ISA-L and zlib and zstd. Needs root. */
#include "base/file.h"
#include "storage/layer.h"
#include "storage/pack.h"
#include "storage/stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <zlib.h>
#include <zstd.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#ifdef __SANITIZE_ADDRESS__
/* libarchive forgets its writer's buffer when a write has failed. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libarchive";
}
#endif

static char *root;

struct bytes {
	const char *data;
	size_t size, at, step;
};

static ssize_t next_chunk(void *context, const void **ret_bytes, struct bh_error *err)
{
	struct bytes *b = context;
	size_t n = BH_MIN(b->size - b->at, b->step);

	(void)err;
	*ret_bytes = b->data + b->at;
	b->at += n;
	return (ssize_t)n;
}

static ssize_t read_bytes(void *context, void *buffer, size_t size, struct bh_error *err)
{
	struct bytes *b = context;
	size_t n = BH_MIN(BH_MIN(b->size - b->at, b->step), size);

	(void)err;
	memcpy(buffer, b->data + b->at, n);
	b->at += n;
	return (ssize_t)n;
}

struct file {
	const char *path;
	mode_t type;
	const char *content; /* or the target of a link */
};

static la_ssize_t append(struct archive *archive, void *context, const void *bytes, size_t size)
{
	(void)archive;
	bh_buf_add(context, bytes, size);
	return (la_ssize_t)size;
}

static void make_tar(const struct file *files, size_t count, struct bh_buf *out)
{
	struct archive *archive = archive_write_new();

	archive_write_set_format_pax_restricted(archive);
	archive_write_open(archive, out, NULL, append, NULL);
	for (size_t i = 0; i < count; i++) {
		struct archive_entry *entry = archive_entry_new();
		size_t size = files[i].type == S_IFREG && files[i].content ? strlen(files[i].content) : 0;

		archive_entry_set_pathname(entry, files[i].path);
		archive_entry_set_mode(entry, files[i].type | 0755);
		archive_entry_set_mtime(entry, 1000000000, 0);
		archive_entry_set_size(entry, (la_int64_t)size);
		if (files[i].type == S_IFLNK)
			archive_entry_set_symlink(entry, files[i].content);
		assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
		if (size)
			archive_write_data(archive, files[i].content, size);
		archive_entry_free(entry);
	}
	archive_write_close(archive);
	archive_write_free(archive);
}

/* Unpacks into a fresh folder and returns its fd. */
static int unpack(const struct file *files, size_t count, int expected, struct bh_error *err)
{
	bh_auto_buf struct bh_buf tar = { 0 };
	struct bytes bytes = { .step = 700 };
	const struct bh_chunks chunks = { next_chunk, &bytes };
	bh_auto_free char *path = bh_printf("%s/layer", root);
	struct bh_layer_stats stats;
	int fd;

	make_tar(files, count, &tar);
	bytes.data = tar.data;
	bytes.size = tar.length;
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, path, NULL), 0);
	fd = bh_make_dir(AT_FDCWD, path, 0755, NULL);
	assert_int_equal(bh_layer_apply(&chunks, fd, &stats, err), expected);
	return fd;
}

static int setup(void **state)
{
	char template[] = "/tmp/bh-layer-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	free(root);
	return 0;
}

static void check_parents(void)
{
	bh_auto_free char *outside = bh_printf("%s/outside", root);
	const struct file escape[] = { { "d", S_IFDIR, NULL }, { "d/exit", S_IFLNK, outside }, { "d/exit/pwned", S_IFREG, "x" } };
	static const struct file deep[] = { { "a/b/c/file", S_IFREG, "deep" }, { "a/b/other", S_IFREG, "x" }, { "a", S_IFDIR, NULL } };
	static const struct file whiteouts[] = {
		{ "d/.wh.x", S_IFREG, NULL },        { "d/x/y", S_IFREG, "in a folder that was whited out" },
		{ "d/.wh.gone", S_IFREG, NULL },     { "e/.wh..wh..opq", S_IFREG, NULL },
		{ "d/.wh..wh.plnk", S_IFREG, NULL },
	};
	struct bh_error err = BH_ERROR_INIT;
	struct stat st;
	char value[4];
	int fd;

	mkdir(outside, 0755);
	fd = unpack(escape, BH_ARRAY_SIZE(escape), -EPERM, &err);
	assert_non_null(strstr(err.message, "d/exit/pwned"));
	assert_int_equal(rmdir(outside), 0); /* still empty */
	close(fd);
	fd = unpack(deep, BH_ARRAY_SIZE(deep), 0, &err);
	assert_int_equal(fstatat(fd, "a/b/c/file", &st, 0), 0);
	assert_int_equal(st.st_mtime, 1000000000);
	assert_int_equal(fstatat(fd, "a", &st, 0), 0);
	assert_int_equal(st.st_mtime, 1000000000);
	close(fd);
	fd = unpack(whiteouts, BH_ARRAY_SIZE(whiteouts), 0, &err);
	assert_int_equal(fstatat(fd, "d/gone", &st, 0), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
	assert_int_equal(faccessat(fd, "d/x/y", F_OK, 0), 0);
	assert_int_equal(faccessat(fd, "d/.wh..wh.plnk", F_OK, 0), -1);
	assert_int_equal(fchdir(fd), 0);
	assert_int_equal(getxattr("d/x", "trusted.overlay.opaque", value, sizeof value), 1);
	assert_int_equal(getxattr("e", "trusted.overlay.opaque", value, sizeof value), 1);
	assert_int_equal(getxattr("d", "trusted.overlay.opaque", value, sizeof value), -1);
	close(fd);
}

static void test_parents(void **state)
{
	(void)state;
	check_parents();
	bh_layer_without_openat2 = true;
	check_parents();
	bh_layer_without_openat2 = false;
}

static void test_read_error(void **state)
{
	struct bytes nothing = { .data = "", .step = 1 };
	const struct bh_chunks chunks = { next_chunk, &nothing };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_layer_stats stats = { .bytes = 77 };
	bh_auto_close int fd = bh_open_dir(AT_FDCWD, root, 0, NULL);

	(void)state;
	assert_true(bh_layer_apply(&chunks, fd, &stats, &err) < 0);
	assert_int_equal(stats.bytes, 77); /* untouched on failure */
	assert_true(err.message[0]);
}

#define PLAIN_SIZE 300000

static size_t compress_as(enum bh_compression kind, const char *plain, char *packed, size_t room)
{
	z_stream z = { 0 };
	size_t size;

	if (kind == BH_COMPRESSION_ZSTD)
		return ZSTD_compress(packed, room, plain, PLAIN_SIZE, 3);
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (unsigned char *)plain;
	z.avail_in = PLAIN_SIZE;
	z.next_out = (unsigned char *)packed;
	z.avail_out = (unsigned)room;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	size = z.total_out;
	deflateEnd(&z);
	return size;
}

/* Reads all of it in odd steps; returns the size or the error. */
static ssize_t read_all(const char *packed, size_t size, size_t step, char *out, size_t room)
{
	struct bytes bytes = { packed, size, 0, step };
	const struct bh_source source = { read_bytes, &bytes };
	bh_auto_stream struct bh_stream *stream = NULL;
	struct bh_error err = BH_ERROR_INIT;
	size_t total = 0;

	assert_int_equal(bh_stream_open(&source, &stream, &err), 0);
	for (;;) {
		ssize_t n = bh_stream_read(stream, out + total, BH_MIN((size_t)777, room - total), &err);

		if (n < 0) {
			assert_true(err.message[0]);
			assert_int_equal(bh_stream_read(stream, out, 1, &err), n); /* the error stays */
			return n;
		}
		if (n == 0)
			return (ssize_t)total;
		total += (size_t)n;
	}
}

static void check_compression(enum bh_compression kind)
{
	static char plain[PLAIN_SIZE], packed[2 * PLAIN_SIZE], out[3 * PLAIN_SIZE];
	static const size_t steps[] = { 1, 13, 4096, 1 << 20 };
	unsigned random = 1;
	size_t size;

	for (size_t i = 0; i < sizeof plain; i++) {
		random = random * 1103515245 + 12345;
		plain[i] = (char)(random >> 24 & (i & 4096 ? 0xff : 3));
	}
	size = compress_as(kind, plain, packed, sizeof packed);
	for (size_t i = 0; i < BH_ARRAY_SIZE(steps); i++) {
		assert_int_equal(read_all(packed, size, steps[i], out, sizeof out), sizeof plain);
		assert_memory_equal(out, plain, sizeof plain);
	}
	assert_true(read_all(packed, size - 1, 4096, out, sizeof out) < 0);
	assert_true(read_all(packed, size / 2, 4096, out, sizeof out) < 0);
	memcpy(packed + size, packed, size); /* two members */
	assert_int_equal(read_all(packed, 2 * size, 999, out, sizeof out), 2 * sizeof plain);
	memset(packed + size, 0, 1000); /* zeros behind the end */
	assert_int_equal(read_all(packed, size + 1000, 4096, out, sizeof out), sizeof plain);
	packed[size + 500] = 'x'; /* and something else */
	assert_true(read_all(packed, size + 1000, 4096, out, sizeof out) < 0);
	packed[size - 6] ^= 0x55; /* gzip: the checksum; zstd: the data */
	if (kind == BH_COMPRESSION_GZIP)
		assert_true(read_all(packed, size, 4096, out, sizeof out) < 0);
}

static void test_compression(void **state)
{
	(void)state;
	check_compression(BH_COMPRESSION_GZIP);
	bh_stream_use_zlib = true;
	check_compression(BH_COMPRESSION_GZIP);
	bh_stream_use_zlib = false;
	check_compression(BH_COMPRESSION_ZSTD);
}

static void test_detect(void **state)
{
	char zeros[BH_MAGIC_SIZE] = { 0 };

	(void)state;
	assert_int_equal(bh_compression_detect("\x1f\x8b\x08", 3), BH_COMPRESSION_GZIP);
	assert_int_equal(bh_compression_detect("\x28\xb5\x2f\xfd", 4), BH_COMPRESSION_ZSTD);
	assert_int_equal(bh_compression_detect("\x50\x2a\x4d\x18", 4), BH_COMPRESSION_ZSTD);
	assert_int_equal(bh_compression_detect("\x1f", 1), BH_COMPRESSION_NONE);
	assert_true(bh_tar_detect(zeros, sizeof zeros));
	assert_false(bh_tar_detect(zeros, 10));
	zeros[0] = 'x';
	assert_false(bh_tar_detect(zeros, sizeof zeros));
}

static int refuse_bytes(void *context, const void *bytes, size_t size)
{
	(void)context, (void)bytes, (void)size;
	return -ENOSPC;
}

static void test_pack_failure(void **state)
{
	bh_auto_close int fd = bh_open_dir(AT_FDCWD, "/etc", 0, NULL);
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_true(bh_pack_folder(fd, refuse_bytes, NULL, &err) < 0);
	assert_non_null(strstr(err.message, "No space left"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parents), cmocka_unit_test(test_read_error),   cmocka_unit_test(test_compression),
		cmocka_unit_test(test_detect),  cmocka_unit_test(test_pack_failure),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
