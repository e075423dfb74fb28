/* SPDX-License-Identifier: Apache-2.0 */
/* Tar streams of cp: the format against libarchive, the rules for source and destination, hostile archives. Needs root. */
#include "base/file.h"
#include "linux/syscall.h"
#include "storage/tar.h"
#include "storage/transfer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

static char *root;

static int setup(void **state)
{
	char template[] = "/var/tmp/bh-transfer-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	return root && chdir(root) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	free(root);
	return 0;
}

static int new_stream(void)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void rewind_stream(int fd)
{
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
}

/* --- the format ------------------------------------------------------------------------------------------------------- */

#define LONG_NAME_LENGTH 3000

static char *long_name(char end)
{
	struct bh_buf name = { 0 };

	while (name.length < LONG_NAME_LENGTH)
		bh_buf_adds(&name, "a-folder-with-a-name/");
	bh_buf_addc(&name, end);
	return bh_buf_take(&name);
}

static void put_all(int fd, const struct bh_tar_entry *entries, size_t count, const char *content)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_tar_writer writer;

	bh_tar_writer_init(&writer, fd);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(bh_tar_put(&writer, &entries[i], &err), 0);
		for (size_t at = 0; at < entries[i].size;) {
			void *bytes;
			size_t size;

			assert_int_equal(bh_tar_room(&writer, &bytes, &size, &err), 0);
			size = BH_MIN(size, (size_t)entries[i].size - at);
			memcpy(bytes, content + at, size);
			assert_int_equal(bh_tar_filled(&writer, size, &err), 0);
			at += size;
		}
	}
	assert_int_equal(bh_tar_finish(&writer, &err), 0);
	bh_tar_writer_clear(&writer);
	rewind_stream(fd);
}

static void assert_entry(const struct bh_tar_entry *got, const struct bh_tar_entry *expected)
{
	assert_int_equal(got->type, expected->type);
	assert_string_equal(got->path, expected->path);
	assert_true(bh_streq(got->target, expected->target));
	assert_int_equal(got->size, expected->size);
	assert_int_equal(got->mode, expected->mode);
	assert_int_equal(got->uid, expected->uid);
	assert_int_equal(got->gid, expected->gid);
	assert_int_equal(got->major, expected->major);
	assert_int_equal(got->minor, expected->minor);
	assert_int_equal(got->mtime.tv_sec, expected->mtime.tv_sec);
	assert_int_equal(got->mtime.tv_nsec, expected->mtime.tv_nsec);
	assert_int_equal(got->xattr_count, expected->xattr_count);
	for (size_t i = 0; i < got->xattr_count; i++) {
		assert_string_equal(got->xattrs[i].name, expected->xattrs[i].name);
		assert_int_equal(got->xattrs[i].size, expected->xattrs[i].size);
		assert_memory_equal(got->xattrs[i].value, expected->xattrs[i].value, got->xattrs[i].size);
	}
}

#define CONTENT_SIZE 700001

static void test_format(void **state)
{
	static char value[] = "a\nvalue\0with = all";
	static char name[] = "user.x";
	bh_auto_free char *deep = long_name('f'), *target = long_name('t'), *content = bh_calloc(CONTENT_SIZE, 1);
	struct bh_tar_xattr xattr = { name, value, sizeof value };
	const struct bh_tar_entry entries[] = {
		{ .type = BH_TAR_DIRECTORY, .path = (char[]){ "d/" }, .mode = 01777, .mtime = { 1000000000, 0 } },
		{ .type = BH_TAR_FILE, .path = (char[]){ "d/f" }, .size = CONTENT_SIZE, .mode = 04751, .uid = 7, .gid = 8, .mtime = { 5, 123456789 } },
		{ .type = BH_TAR_FILE, .path = deep, .size = 512, .uid = 3000000, .gid = 4294967294u, .mtime = { -1, 250000000 } },
		{ .type = BH_TAR_SYMLINK, .path = (char[]){ "l" }, .target = target, .mode = 0777, .mtime = { -7, 0 } },
		{ .type = BH_TAR_HARD_LINK, .path = (char[]){ "h" }, .target = deep },
		{ .type = BH_TAR_CHARACTER_DEVICE, .path = (char[]){ "c" }, .major = 511, .minor = 1048575 },
		{ .type = BH_TAR_FIFO, .path = (char[]){ "p" }, .mtime = { 1ll << 40, 1 } },
		{ .type = BH_TAR_FILE, .path = (char[]){ "x" }, .xattrs = &xattr, .xattr_count = 1 },
	};
	bh_auto_close int fd = new_stream();
	struct bh_error err = BH_ERROR_INIT;
	struct bh_tar_reader reader;
	struct bh_tar_entry entry;

	(void)state;
	for (size_t i = 0; i < CONTENT_SIZE; i++)
		content[i] = (char)(i * 7 + i / 256);
	put_all(fd, entries, BH_ARRAY_SIZE(entries), content);
	bh_tar_reader_init(&reader, fd);
	for (size_t i = 0; i < BH_ARRAY_SIZE(entries); i++) {
		const void *bytes;
		ssize_t n;
		size_t at = 0;

		assert_int_equal(bh_tar_next(&reader, &entry, &err), 1);
		assert_entry(&entry, &entries[i]);
		bh_tar_entry_clear(&entry);
		while (i % 2 && (n = bh_tar_content(&reader, &bytes, &err)) > 0) { /* the others are skipped */
			assert_memory_equal(bytes, content + at, (size_t)n);
			at += (size_t)n;
		}
	}
	assert_int_equal(bh_tar_next(&reader, &entry, &err), 0);
	bh_tar_reader_clear(&reader);
}

/* libarchive reads what is written here. */
static void test_is_read_elsewhere(void **state)
{
	bh_auto_free char *deep = long_name('f');
	const struct bh_tar_entry written[] = {
		{ .type = BH_TAR_FILE, .path = deep, .size = 3, .mode = 0640, .uid = 3000000, .gid = 8, .mtime = { 2, 750000000 } },
		{ .type = BH_TAR_SYMLINK, .path = (char[]){ "l" }, .target = deep, .mode = 0777, .mtime = { 77, 5 } },
	};
	bh_auto_close int fd = new_stream();
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;

	(void)state;
	put_all(fd, written, BH_ARRAY_SIZE(written), "abc");
	archive_read_support_format_tar(archive);
	assert_int_equal(archive_read_open_fd(archive, fd, 10240), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), deep);
	assert_int_equal(archive_entry_size(entry), 3);
	assert_int_equal(archive_entry_uid(entry), 3000000);
	assert_int_equal(archive_entry_mtime(entry), 2);
	assert_int_equal(archive_entry_mtime_nsec(entry), 750000000);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_symlink(entry), deep);
	assert_int_equal(archive_entry_mtime_nsec(entry), 5);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_EOF);
	archive_read_free(archive);
}

/* --- archives by hand ---------------------------------------------------------------------------------------------------- */

/* A header with right sums; `size` as its field's text. */
static void add_header(struct bh_buf *out, const char *path, char type, const char *target, const char *size)
{
	char block[512] = { 0 }, sum_text[8];
	unsigned sum = 0;

	memcpy(block, path, BH_MIN(strlen(path), (size_t)100));
	memcpy(block + 100,
	       "0000644\0"
	       "0000000\0"
	       "0000000\0",
	       24);
	memcpy(block + 124, size, BH_MIN(strlen(size), (size_t)12));
	memcpy(block + 136, "00000000001", 12);
	memset(block + 148, ' ', 8);
	block[156] = type;
	memcpy(block + 157, target, BH_MIN(strlen(target), (size_t)100));
	memcpy(block + 257,
	       "ustar\0"
	       "00",
	       8);
	for (size_t i = 0; i < sizeof block; i++)
		sum += (unsigned char)block[i];
	snprintf(sum_text, sizeof sum_text, "%06o", sum);
	memcpy(block + 148, sum_text, 7);
	bh_buf_add(out, block, sizeof block);
}

static void add_padded(struct bh_buf *out, const char *bytes, size_t size)
{
	static const char zeros[512];

	bh_buf_add(out, bytes, size);
	bh_buf_add(out, zeros, -size % 512);
}

static void add_extension(struct bh_buf *out, char type, const char *text)
{
	char size[24];

	snprintf(size, sizeof size, "%011zo", strlen(text));
	add_header(out, "header", type, "", size);
	add_padded(out, text, strlen(text));
}

static void add_end(struct bh_buf *out)
{
	static const char zeros[1024];

	bh_buf_add(out, zeros, sizeof zeros);
}

static int stream_of(struct bh_buf *archive)
{
	int fd = new_stream();

	assert_int_equal(bh_write_all(fd, archive->data, archive->length), 0);
	rewind_stream(fd);
	bh_buf_clear(archive);
	return fd;
}

/* Reads all; the last result. */
static int read_through(struct bh_buf *archive, struct bh_tar_entry *ret_first)
{
	bh_auto_close int fd = stream_of(archive);
	struct bh_error err = BH_ERROR_INIT;
	struct bh_tar_reader reader;
	int r;

	bh_tar_reader_init(&reader, fd);
	for (;;) {
		struct bh_tar_entry entry = { 0 };

		r = bh_tar_next(&reader, &entry, &err);
		if (r > 0 && ret_first && !ret_first->path)
			*ret_first = entry;
		else
			bh_tar_entry_clear(&entry);
		if (r <= 0)
			break;
	}
	if (r < 0)
		assert_true(err.message[0]);
	bh_tar_reader_clear(&reader);
	return r;
}

static void test_damaged(void **state)
{
	static const struct {
		const char *path, *size, *pax;
		char type;
		int expected;
	} cases[] = {
		{ "f", "00000000000", NULL, '0', 0 },
		{ "f", "", NULL, '0', 0 },
		{ "f", "77777777777", NULL, '0', -EBADMSG },                                      /* 8 GiB that aren't there */
		{ "f", "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", NULL, '0', -EBADMSG }, /* more than there can be */
		{ "f", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", NULL, '0', -EBADMSG }, /* negative */
		{ "f", "9", NULL, '0', -EBADMSG },
		{ "f", "00000000000", "30 size=18446744073709551615\n", '0', -EBADMSG },
		{ "f", "00000000000", "28 size=9223372036854775807\n", '0', -EBADMSG },
		{ "f", "00000000000", "18 uid=4294967295\n", '0', -EBADMSG },
		{ "f", "00000000000", "11 mtime=x\n", '0', -EBADMSG },
		{ "f", "00000000000", "12 mtime=1.x\n", '0', -EBADMSG },
		{ "f", "00000000000", "9 path=\n", '0', -EBADMSG },
		{ "f", "00000000000", "99999999 path=x\n", '0', -EBADMSG },
		{ "f", "00000000000", "0 path=x\n", '0', -EBADMSG },
		{ "f", "00000000000", "4 a=\n", '0', -EBADMSG },
		{ "f", "00000000000", "path=x\n", '0', -EBADMSG },
		{ "f", "00000000000", "10 path=xyz", '0', -EBADMSG },
		{ "f", "00000000000", "22 GNU.sparse.major=1\n", '0', -ENOTSUP },
		{ "", "00000000000", NULL, '0', -EBADMSG },
		{ "l", "00000000000", NULL, '2', -EBADMSG },
		{ "s", "00000000000", NULL, 'S', -ENOTSUP },
		{ "?", "00000000000", NULL, 'Z', -ENOTSUP },
		{ "x", "00010000000", NULL, 'x', -E2BIG },
		{ "L", "00000000000", NULL, 'L', -EBADMSG },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_buf archive = { 0 };

		if (cases[i].pax)
			add_extension(&archive, 'x', cases[i].pax);
		add_header(&archive, cases[i].path, cases[i].type, "", cases[i].size);
		add_end(&archive);
		assert_int_equal(read_through(&archive, NULL), cases[i].expected);
	}
}

static void test_cut_anywhere(void **state)
{
	(void)state;
	for (size_t cut = 0; cut < 3072; cut += 64) {
		struct bh_buf archive = { 0 };

		add_extension(&archive, 'x', "11 path=ab\n");
		add_header(&archive, "f", '0', "", "00000000005");
		add_padded(&archive, "12345", 5);
		add_end(&archive);
		archive.length = cut;
		/* One block of zeros is an end as well. */
		assert_int_equal(read_through(&archive, NULL), cut < 2560 ? -EBADMSG : 0);
	}
}

static void test_other_forms(void **state)
{
	struct bh_tar_entry entry = { 0 };
	struct bh_buf archive = { 0 };

	(void)state;
	add_extension(&archive, 'g', "11 path=no\n"); /* of the whole archive: not of a file */
	add_extension(&archive, 'L', "a/long/name");
	add_header(&archive, "a/lo", '0', "", "00000000000");
	add_end(&archive);
	assert_int_equal(read_through(&archive, &entry), 0);
	assert_string_equal(entry.path, "a/long/name");
	bh_tar_entry_clear(&entry);
	add_header(&archive, "old/", '\0', "", "00000000000");
	add_end(&archive);
	assert_int_equal(read_through(&archive, &entry), 0);
	assert_int_equal(entry.type, BH_TAR_DIRECTORY);
	bh_tar_entry_clear(&entry);
	add_header(&archive, "base256", '0', "", "\x80");
	add_end(&archive);
	assert_int_equal(read_through(&archive, &entry), 0);
	bh_tar_entry_clear(&entry);
}

/* --- hostile archives -------------------------------------------------------------------------------------------------- */

struct item {
	const char *path;
	char type;
	const char *target; /* or a file's content */
};

static int archive_of(const struct item *items, size_t count)
{
	struct bh_buf archive = { 0 };

	for (size_t i = 0; i < count; i++) {
		bool is_file = items[i].type == '0';
		char size[24];

		snprintf(size, sizeof size, "%011zo", is_file && items[i].target ? strlen(items[i].target) : 0);
		add_header(&archive, items[i].path, items[i].type, items[i].target && !is_file ? items[i].target : "", size);
		if (is_file && items[i].target)
			add_padded(&archive, items[i].target, strlen(items[i].target));
	}
	add_end(&archive);
	return stream_of(&archive);
}

static void write_text(const char *path, const char *text)
{
	assert_int_equal(bh_write_file_at(AT_FDCWD, path, text, strlen(text), 0644, 0, NULL), 0);
}

static void assert_text(const char *path, const char *expected)
{
	bh_auto_buf struct bh_buf text = { 0 };

	assert_int_equal(bh_read_file_at(AT_FDCWD, path, 4096, &text, NULL), 0);
	assert_string_equal(text.data, expected);
}

static void assert_missing(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), -1);
	assert_int_equal(errno, ENOENT);
}

/* A fresh ground: outside/file, and box/ with box/in/, box/abs -> /in, box/up -> ../../in, box/exit -> <outside>. */
static void fresh_ground(void)
{
	bh_auto_free char *outside = bh_printf("%s/outside", root);

	assert_int_equal(bh_remove_tree_at(AT_FDCWD, "box", NULL), 0);
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, "outside", NULL), 0);
	assert_int_equal(mkdir("outside", 0755) | mkdir("box", 0755) | mkdir("box/in", 0755), 0);
	write_text("outside/file", "canary");
	assert_int_equal(symlink("/in", "box/abs") | symlink("../../in", "box/up") | symlink(outside, "box/exit"), 0);
}

static void assert_ground(void)
{
	assert_text("outside/file", "canary");
	assert_missing("outside/pwned");
	assert_missing("pwned");
}

static int unpack_in(const char *folder, const char *path, bool is_foreign, int stream, struct bh_error *err)
{
	bh_auto_close int root_fd = folder ? bh_open_dir(AT_FDCWD, folder, O_PATH, NULL) : -1;
	bh_auto_close int fd = stream;
	const struct bh_transfer_unpack request = { .destination = { root_fd, path }, .is_foreign = is_foreign };

	return bh_transfer_unpack(&request, fd, NULL, err);
}

#define HOSTILE_MAX 4
static const struct {
	struct item items[HOSTILE_MAX];
	int foreign, own; /* what comes of it, from standard input and from the other side of a cp */
} hostile[] = {
	{ { { "../pwned", '0', "x" } }, -EPERM, -EPERM },
	{ { { "t/", '5', NULL }, { "t/../../pwned", '0', "x" } }, -EPERM, -EPERM },
	{ { { "/../pwned", '0', "x" } }, -EPERM, -EPERM },
	{ { { "t/", '5', NULL }, { "/pwned", '0', "x" } }, 0, -EPERM },
	{ { { "t/", '5', NULL }, { "t/l", '2', "/" }, { "t/l/pwned", '0', "x" } }, 0, -EPERM },
	{ { { "t/", '5', NULL }, { "t/l", '2', "../../outside" }, { "t/l/pwned", '0', "x" } }, 0, -EPERM },
	{ { { "t/", '5', NULL }, { "t/l", '2', "../../outside/file" }, { "t/l", '0', "x" } }, 0, 0 },
	{ { { "t/", '5', NULL }, { "t/h", '1', "../outside/file" } }, -EPERM, -EPERM },
	{ { { "t/", '5', NULL }, { "t/h", '1', "/outside/file" } }, -EPERM, -EPERM },
	{ { { "t/", '5', NULL }, { "t/h", '1', "t/nothing" } }, -ENOENT, -ENOENT },
	{ { { "t/", '5', NULL }, { "t/l", '2', "../../outside/file" }, { "t/h", '1', "t/l" }, { "t/h", '0', "x" } }, 0, 0 },
	{ { { "t", '0', "one" }, { "other", '0', "two" } }, 0, -EPERM },
	{ { { "t/", '5', NULL }, { "tt", '0', "two" } }, 0, -EPERM },
	{ { { "t/", '5', NULL }, { "t/x", '5', NULL }, { "t/x", '0', "x" } }, -EISDIR, -EISDIR },
	{ { { "t/", '5', NULL }, { "t/x", '0', "x" }, { "t/x", '5', NULL } }, -ENOTDIR, -ENOTDIR },
	{ { { "t", '0', "x" }, { "t/y", '0', "x" } }, -EPERM, -EPERM },
	{ { { "./", '0', "x" } }, 0, 0 }, /* a slash makes it a folder */
	{ { { ".", '0', "x" } }, -EPERM, -EPERM },
	{ { { "t/", '5', NULL }, { "t/d", '3', NULL }, { "t/p", '6', NULL } }, 0, 0 },
};

static void check_hostile(void)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(hostile); i++) {
		struct bh_error err = BH_ERROR_INIT;
		size_t count = 0;

		while (count < HOSTILE_MAX && hostile[i].items[count].path)
			count++;
		fresh_ground();
		assert_int_equal(unpack_in("box", "/in", true, archive_of(hostile[i].items, count), &err), hostile[i].foreign);
		assert_ground();
		fresh_ground();
		assert_int_equal(unpack_in("box", "/in", false, archive_of(hostile[i].items, count), &err), hostile[i].own);
		assert_ground();
		fresh_ground();
		assert_int_equal(unpack_in(NULL, "box/in", false, archive_of(hostile[i].items, count), &err), hostile[i].own);
		assert_ground();
	}
}

static void test_hostile(void **state)
{
	(void)state;
	check_hostile();
}

/* Links that were there before lead inside the root, and only a foreign archive uses them. */
static void test_links_of_the_container(void **state)
{
	static const struct item through[] = { { "abs/a", '0', "A" }, { "up/b", '0', "B" }, { "new/deep/c", '0', "C" } };
	static const struct item out[] = { { "exit/pwned", '0', "x" } };
	static const struct item tree[] = { { "t/", '5', NULL }, { "t/abs/", '5', NULL }, { "t/abs/a", '0', "A" } };
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	fresh_ground();
	assert_int_equal(unpack_in("box", "/", true, archive_of(through, 3), &err), 0);
	assert_text("box/in/a", "A");
	assert_text("box/in/b", "B");
	assert_text("box/new/deep/c", "C");
	/* The link's target is looked for inside, and made there. */
	assert_int_equal(unpack_in("box", "/", true, archive_of(out, 1), &err), 0);
	assert_ground();
	assert_int_equal(rename("box/in", "box/t") | symlink("/", "box/t/abs"), 0);
	assert_int_equal(unpack_in("box", "/", false, archive_of(tree, 3), &err), -ENOTDIR);
	assert_non_null(strstr(err.message, "cannot overwrite non-directory 't/abs'"));
	assert_missing("box/a");
}

/* --- source and destination --------------------------------------------------------------------------------------------------- */

/* Packs below `folder` ("" = not below a root) and unpacks at a host path. */
static int copy(const char *source, bool follow, const char *destination, struct bh_error *err)
{
	const struct bh_transfer_place from = { -1, source };
	const struct bh_transfer_unpack request = { .destination = { -1, destination }, .keep_owners = true };
	bh_auto_close int fd = new_stream();
	int r = bh_transfer_pack(&from, follow, fd, NULL, err);

	if (r < 0)
		return r;
	rewind_stream(fd);
	return bh_transfer_unpack(&request, fd, NULL, err);
}

static void test_rules(void **state)
{
	static const struct {
		const char *source, *destination, *made; /* a file with the content "content" */
		bool follow;
		int expected;
	} cases[] = {
		{ "src/file", "dst/new", "dst/new", false, 0 },
		{ "src/file", "dst/new/", NULL, false, -ENOENT },
		{ "src/file", "dst/", "dst/file", false, 0 },
		{ "src/file", "dst/.", "dst/file", false, 0 },
		{ "src/file", "dst/..", "file", false, 0 },
		{ "src/file", "dst/old", "dst/old", false, 0 },
		{ "src/file", "dst/old/", NULL, false, -ENOTDIR },
		{ "src/file", "dst/old/x", NULL, false, -ENOTDIR },
		{ "src/file", "dst/no/x", NULL, false, -ENOENT },
		{ "src/file", "dst/link-folder", "dst/folder/file", false, 0 },
		{ "src/file", "dst/link-old", "dst/old", false, 0 },
		{ "src/file", "dst/link-gone", "dst/gone", false, 0 },
		{ "src/file", "dst/link-gone/", NULL, false, -ENOENT },
		{ "src/file", "dst/loop", NULL, false, -ELOOP },
		{ "src/file/", "dst/new", NULL, false, -ENOTDIR },
		{ "src/file/.", "dst/new", NULL, false, -ENOTDIR },
		{ "src/dir", "dst/new", "dst/new/f", false, 0 },
		{ "src/dir", "dst/new/", "dst/new/f", false, 0 },
		{ "src/dir", "dst", "dst/dir/f", false, 0 },
		{ "src/dir/", "dst", "dst/dir/f", false, 0 },
		{ "src/dir/.", "dst", "dst/f", false, 0 },
		{ "src/dir/.", "dst/new", "dst/new/f", false, 0 },
		{ "src/dir/sub/..", "dst", "dst/f", false, 0 },
		{ "src/dir", "dst/old", NULL, false, -ENOTDIR },
		{ "src/dir", "dst/link-folder", "dst/folder/dir/f", false, 0 },
		{ "src/dir", "dst/no/new", NULL, false, -ENOENT },
		{ "src/link-dir/", "dst/new", "dst/new/f", false, 0 },
		{ "src/link-dir", "dst", "dst/link-dir/f", true, 0 },
		{ "src/link", "dst", "dst/link", true, 0 },
		{ "src/bad", "dst", NULL, true, -ENOENT },
		{ "src/nothing", "dst", NULL, false, -ENOENT },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_error err = BH_ERROR_INIT;

		assert_int_equal(bh_remove_tree_at(AT_FDCWD, "src", NULL) | bh_remove_tree_at(AT_FDCWD, "dst", NULL), 0);
		assert_int_equal(mkdir("src", 0755) | mkdir("src/dir", 0755) | mkdir("src/dir/sub", 0500), 0);
		assert_int_equal(mkdir("dst", 0755) | mkdir("dst/folder", 0755), 0);
		write_text("src/file", "content");
		write_text("src/dir/f", "content");
		write_text("dst/old", "old");
		assert_int_equal(symlink("dir", "src/link-dir") | symlink("file", "src/link") | symlink("nowhere", "src/bad"), 0);
		assert_int_equal(symlink("folder", "dst/link-folder") | symlink("old", "dst/link-old") | symlink("gone", "dst/link-gone"), 0);
		assert_int_equal(symlink("loop", "dst/loop"), 0);
		assert_int_equal(copy(cases[i].source, cases[i].follow, cases[i].destination, &err), cases[i].expected);
		if (cases[i].made)
			assert_text(cases[i].made, "content");
		else
			assert_text("dst/old", "old");
		if (cases[i].expected)
			assert_non_null(strstr(err.message, "copy "));
	}
}

static void test_metadata(void **state)
{
	const struct timespec times[] = { { 1, 2 }, { 981173106, 789 } };
	struct bh_error err = BH_ERROR_INIT;
	struct stat st;
	char value[8];

	(void)state;
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, "m", NULL) | bh_remove_tree_at(AT_FDCWD, "n", NULL), 0);
	assert_int_equal(mkdir("m", 0755) | mkdir("m/closed", 0755), 0);
	write_text("m/closed/f", "content");
	assert_int_equal(lchown("m/closed/f", 12, 34) | chmod("m/closed/f", 06751) | link("m/closed/f", "m/h"), 0);
	assert_int_equal(mkfifo("m/p", 0620) | mknod("m/c", S_IFCHR | 0600, makedev(1, 3)) | symlink("/etc", "m/l"), 0);
	setxattr("m/h", "user.x", "value", 5, 0);
	assert_int_equal(utimensat(AT_FDCWD, "m/h", times, 0) | utimensat(AT_FDCWD, "m/l", times, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(chmod("m/closed", 0500) | utimensat(AT_FDCWD, "m/closed", times, 0), 0);
	assert_int_equal(copy("m", false, "n", &err), 0);
	assert_int_equal(stat("n/h", &st), 0);
	assert_int_equal(st.st_mode & 07777, 06751);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_gid, 34);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_mtim.tv_nsec, 789);
	assert_int_equal(stat("n/closed", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0500);
	assert_int_equal(st.st_mtim.tv_sec, 981173106);
	assert_int_equal(lstat("n/l", &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 981173106);
	assert_int_equal(lstat("n/c", &st), 0);
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
	if (getxattr("m/h", "user.x", value, sizeof value) == 5)
		assert_int_equal(getxattr("n/h", "user.x", value, sizeof value), 5);
}

/* Without -a: the owner's rights don't go to another one. */
static void test_owner_changes(void **state)
{
	const struct bh_transfer_place from = { -1, "m" };
	struct bh_transfer_unpack request = { .destination = { -1, "o" }, .uid = 5, .gid = 6, .skip_devices = true };
	struct bh_error err = BH_ERROR_INIT;
	struct stat st;

	(void)state;
	for (int keep = 0; keep < 2; keep++) {
		bh_auto_close int fd = new_stream();

		assert_int_equal(bh_remove_tree_at(AT_FDCWD, "o", NULL), 0);
		request.uid = keep ? 12 : 5;
		request.gid = keep ? 34 : 6;
		assert_int_equal(bh_transfer_pack(&from, false, fd, NULL, &err), 0);
		rewind_stream(fd);
		assert_int_equal(bh_transfer_unpack(&request, fd, NULL, &err), 0);
		assert_int_equal(stat("o/h", &st), 0);
		assert_int_equal(st.st_uid, request.uid);
		assert_int_equal(st.st_mode & 07777, keep ? 06751 : 0751);
		assert_missing("o/c");
	}
}

/* A failure in the middle of a file leaves the old one, and no half. */
static void test_failure_leaves_nothing(void **state)
{
	struct bh_buf archive = { 0 };
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	fresh_ground();
	write_text("box/in/f", "old");
	add_header(&archive, "f", '0', "", "00000002000");
	add_padded(&archive, "half", 4);
	assert_int_equal(unpack_in("box", "/in", false, stream_of(&archive), &err), -EBADMSG);
	assert_text("box/in/f", "old");
	add_header(&archive, "f2", '0', "", "00000002000");
	assert_int_equal(unpack_in("box", "/in", true, stream_of(&archive), &err), -EBADMSG);
	assert_missing("box/in/f2");
	assert_int_equal(unpack_in("box", "/in", false, archive_of(NULL, 0), &err), -EBADMSG);
}

/* What a kernel without openat2(2) does. It can't be taken back: the last test. */
static void test_without_openat2(void **state)
{
	bh_linux_force_enosys(BH_CALL_OPENAT2);
	check_hostile();
	test_links_of_the_container(state);
	test_rules(state);
	test_metadata(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_is_read_elsewhere),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_other_forms),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_links_of_the_container),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_owner_changes),
		cmocka_unit_test(test_failure_leaves_nothing),
		cmocka_unit_test(test_without_openat2),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
