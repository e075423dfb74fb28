/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images against qemu-img: what it makes is read, what we write it reads and finds nothing to complain about. The disks are
 * written at random, and compared with a copy in memory.
 */
// timeout: 300
#include "base/file.h"
#include "vmm/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define SIZE ((12u << 20) + 1536)
#define PART_MAX (300u << 10)

static char *root;
static uint8_t *wanted; /* what is on the disk */

static int setup(void **state)
{
	char template[] = "/var/tmp/bh-disk-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	wanted = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return chdir(root);
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	munmap(wanted, SIZE);
	free(root);
	return 0;
}

static int run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int run(const char *format, ...)
{
	bh_auto_free char *command = NULL;
	va_list args;
	int status = -1;
	pid_t pid;

	va_start(args, format);
	command = bh_vprintf(format, args);
	va_end(args);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void need_qemu_img(void)
{
	if (run("type qemu-img >/dev/null 2>&1") != 0) {
		print_message("# qemu-img is not installed\n");
		skip();
	}
}

static struct bh_disk *open_disk(const char *name, bool readonly, struct bh_disk *backing)
{
	int fd = open(name, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	struct bh_error err = BH_ERROR_INIT;
	struct bh_disk *disk = NULL;

	if (bh_disk_open_qcow2(fd, readonly, backing, &disk, &err) < 0)
		fail_msg("%s: %s", name, err.message);
	return disk;
}

static struct bh_disk *open_backing(const char *name)
{
	struct bh_disk *disk = NULL;

	if (name)
		assert_int_equal(bh_disk_open_raw(open(name, O_RDONLY | O_CLOEXEC), true, &disk, NULL), 0);
	return disk;
}

static void write_wanted(const char *name)
{
	assert_int_equal(bh_write_file_at(AT_FDCWD, name, wanted, SIZE, 0644, 0, NULL), 0);
}

/* The whole disk, in pieces of odd sizes. */
static void compare(struct bh_disk *disk)
{
	static uint8_t found[PART_MAX];

	for (size_t at = 0, part; at < SIZE; at += part) {
		struct iovec iov[3] = { { found, 100 }, { found + 100, 412 }, { found + 512, PART_MAX - 512 } };

		part = BH_MIN(SIZE - at, at % 3 ? 512u * 7 : PART_MAX);
		assert_int_equal(bh_disk_readv(disk, iov, 3, at, part), 0);
		if (memcmp(found, wanted + at, part) != 0)
			for (size_t i = 0; i < part; i++)
				if (found[i] != wanted[at + i])
					fail_msg("at %zu: %d instead of %d", at + i, found[i], wanted[at + i]);
	}
}

static int write_at_random(struct bh_disk *disk)
{
	static uint8_t bytes[PART_MAX];
	size_t at = (size_t)random() % (SIZE / 512) * 512, most = ((size_t)random() % (PART_MAX / 512) + 1) * 512;
	size_t part = BH_MIN(SIZE - at, most);
	struct iovec iov[2] = { { bytes, 512 }, { bytes + 512, PART_MAX - 512 } };

	if (random() % 3)
		part = BH_MIN(part, 4096u);
	switch (random() % 8) {
	case 0:
		memset(wanted + at, 0, part);
		return bh_disk_write_zeroes(disk, at, part, random() % 2);
	case 1:
		return random() % 4 ? 0 : bh_disk_flush(disk);
	default:
		for (size_t i = 0; i < part; i++)
			bytes[i] = (uint8_t)random();
		memcpy(wanted + at, bytes, part);
		return bh_disk_writev(disk, iov, 2, at, part);
	}
}

static void fill_wanted(void)
{
	memset(wanted, 0, SIZE);
	for (size_t i = 0; i < SIZE; i += 1 + (size_t)random() % 40000) {
		size_t length = (size_t)random() % 20000;

		memset(wanted + i, (int)random(), BH_MIN(SIZE - i, length));
	}
}

static void check_image(const char *name)
{
	write_wanted("wanted");
	if (run("qemu-img check -q %s >check.log 2>&1", name) != 0) {
		(void)run("head -n 20 check.log");
		fail_msg("qemu-img complains of %s", name);
	}
	assert_int_equal(run("qemu-img compare -q -f raw -F qcow2 wanted %s", name), 0);
}

static void test_formats(void **state)
{
	static const struct {
		const char *options;
		bool backing;
		unsigned steps;
	} kinds[] = {
		{ "cluster_size=65536", false, 400 },
		{ "cluster_size=65536,compat=0.10", false, 400 },
		{ "cluster_size=65536", true, 400 },
		{ "cluster_size=65536,compat=0.10", true, 400 },
		{ "cluster_size=512", false, 200 },
		{ "cluster_size=512,refcount_bits=1", true, 200 },
		{ "cluster_size=4096,refcount_bits=64", true, 300 },
		{ "cluster_size=4096,refcount_bits=8,lazy_refcounts=on", false, 300 },
		{ "cluster_size=2M", true, 150 },
		{ "cluster_size=65536,preallocation=metadata", false, 200 },
	};

	(void)state;
	need_qemu_img();
	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++) {
		const char *backing = kinds[i].backing ? "backing.raw" : NULL;
		struct bh_disk *disk;

		srandom((unsigned)i + 1);
		memset(wanted, 0, SIZE);
		if (backing) {
			fill_wanted();
			write_wanted(backing);
		}
		/* On some turns the image behind is shorter. */
		if (backing && i % 2) {
			memset(wanted + SIZE / 2 / 512 * 512, 0, SIZE - SIZE / 2 / 512 * 512);
			assert_int_equal(truncate(backing, SIZE / 2 / 512 * 512), 0);
		}
		assert_int_equal(run("qemu-img create -q -f qcow2 %s%s -o %s disk %u", backing ? "-F raw -b " : "", backing ? backing : "",
				     kinds[i].options, SIZE),
				 0);
		disk = open_disk("disk", false, open_backing(backing));
		for (unsigned step = 0; step < kinds[i].steps; step++) {
			assert_int_equal(write_at_random(disk), 0);
			if (step % 100 == 50) {
				bh_disk_free(disk);
				check_image("disk");
				disk = open_disk("disk", false, open_backing(backing));
			}
		}
		/* All of it: with small clusters the table of counts has to grow. */
		for (size_t at = 0; at < SIZE && strstr(kinds[i].options, "=512"); at += 512 * 512) {
			size_t part = BH_MIN(SIZE - at, 512u * 512);

			memset(wanted + at, 1 + (int)(at >> 18), part);
			assert_int_equal(bh_disk_writev(disk, &(struct iovec){ wanted + at, part }, 1, at, part), 0);
		}
		compare(disk);
		bh_disk_free(disk);
		check_image("disk");
		disk = open_disk("disk", true, open_backing(backing));
		compare(disk);
		assert_int_equal(bh_disk_writev(disk, &(struct iovec){ wanted, 512 }, 1, 0, 512), -EROFS);
		bh_disk_free(disk);
	}
}

static void test_compressed(void **state)
{
	static const char *const kinds[] = { "compression_type=zlib", "compression_type=zstd", "compression_type=zlib,cluster_size=4096",
					     "compression_type=zstd,cluster_size=2M" };

	(void)state;
	need_qemu_img();
	for (size_t i = 0; i < BH_ARRAY_SIZE(kinds); i++) {
		struct bh_disk *disk;

		srandom(77);
		fill_wanted();
		write_wanted("source");
		assert_int_equal(run("qemu-img convert -q -c -f raw -O qcow2 -o %s source disk", kinds[i]), 0);
		disk = open_disk("disk", true, NULL);
		compare(disk);
		bh_disk_free(disk);
		disk = open_disk("disk", false, NULL);
		for (unsigned step = 0; step < 200; step++)
			assert_int_equal(write_at_random(disk), 0);
		compare(disk);
		bh_disk_free(disk);
		check_image("disk");
	}
}

static void test_snapshots(void **state)
{
	struct bh_disk *disk;

	(void)state;
	need_qemu_img();
	srandom(5);
	fill_wanted();
	write_wanted("before");
	assert_int_equal(run("qemu-img convert -q -f raw -O qcow2 before disk && qemu-img snapshot -c one disk"), 0);
	disk = open_disk("disk", false, NULL);
	for (unsigned step = 0; step < 300; step++)
		assert_int_equal(write_at_random(disk), 0);
	compare(disk);
	bh_disk_free(disk);
	check_image("disk");
	assert_int_equal(run("qemu-img convert -q -l one -f qcow2 -O raw disk now && cmp now before"), 0);
	assert_int_equal(run("qemu-img snapshot -d one disk"), 0);
	check_image("disk");
}

/* A child that is killed at any moment: the image is whole (clusters may be lost), and has what was flushed. */
static void test_killed(void **state)
{
	(void)state;
	need_qemu_img();
	for (unsigned turn = 0; turn < 12; turn++) {
		const char *options = turn % 3 == 0 ? "cluster_size=4096" : turn % 3 == 1 ? "cluster_size=65536" : "cluster_size=512";
		struct timespec pause = { 0, 3000000l * (turn + 1) };
		int status;
		pid_t child;

		assert_int_equal(run("qemu-img create -q -f qcow2 -o %s disk %u", options, SIZE), 0);
		memset(wanted, 0, SIZE);
		child = fork();
		if (child == 0) {
			struct bh_disk *disk = open_disk("disk", false, NULL);

			srandom(turn);
			/* The first megabyte has what was flushed, and nothing else is written there. */
			for (size_t at = 0; at < 1 << 20; at += 4096) {
				memset(wanted + at, 1 + (int)(at >> 12) % 200, 4096);
				if (bh_disk_writev(disk, &(struct iovec){ wanted + at, 4096 }, 1, at, 4096) < 0 || bh_disk_flush(disk) < 0)
					_exit(1);
				wanted[SIZE - 1] = (uint8_t)(at >> 12);
				for (unsigned i = 0; i < 5; i++) {
					size_t away = (1 << 20) + (size_t)random() % (8 << 11) * 512;

					if (random() % 3 ? bh_disk_writev(disk, &(struct iovec){ wanted, 512 * 9 }, 1, away, 512 * 9) < 0 :
							   bh_disk_discard(disk, away, 128 << 10) < 0)
						_exit(2);
				}
			}
			_exit(0);
		}
		nanosleep(&pause, NULL);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
		status = run("qemu-img check -q disk >check.log 2>&1");
		if (status != 0 && status != 3) /* 3: leaked clusters */
			fail_msg("after a kill qemu-img complains (%d)", status);
		{
			struct bh_disk *disk = open_disk("disk", false, NULL);
			uint8_t found[4096];

			for (size_t at = 0; at < (size_t)wanted[SIZE - 1] << 12; at += 4096) {
				assert_int_equal(bh_disk_readv(disk, &(struct iovec){ found, 4096 }, 1, at, 4096), 0);
				assert_memory_equal(found, wanted + at, 4096);
			}
			bh_disk_free(disk);
		}
	}
}

/* Bytes of a good image that are changed, and what is said of them. */
static void test_refusals(void **state)
{
	static const struct {
		off_t at;
		const char *bytes;
		size_t size;
		const char *words;
		bool only_writing;
	} lies[] = {
		{ 0, "QFI\xfa", 4, "not a qcow2", false },
		{ 4, "\0\0\0\4", 4, "version 4", false },
		{ 20, "\0\0\0\x08", 4, "clusters of a size", false },
		{ 20, "\0\0\0\x16", 4, "clusters of a size", false },
		{ 32, "\0\0\0\1", 4, "encrypted", false },
		{ 24, "\x7f", 1, "larger than its tables", false },
		{ 36, "\0\0\0\0", 4, "first table", false },
		{ 36, "\xff\xff\xff\xff", 4, "first table", false },
		{ 40, "\x7f", 1, "outside of the file", false },
		{ 48, "\x7f", 1, "outside of the file", true },
		{ 56, "\0\0\0\0", 4, "reference counts", false },
		{ 56, "\xff\0\0\0", 4, "reference counts", false },
		{ 8, "\0\0\0\0\0\0\1\0", 8, "behind this qcow2 image is not given", false },
		{ 79, "\4", 1, "in another file", false },
		{ 79, "\x10", 1, "subclusters", false },
		{ 79, "\x20", 1, "not known here", false },
		{ 79, "\1", 1, "not closed", true },
		{ 79, "\2", 1, "corrupt", true },
		{ 99, "\7", 1, "not a good one", false },
		{ 40, "\0\0\0\0\0\1\0\0", 8, "overlap", true }, /* the first table is where the table of counts is */
	};

	(void)state;
	need_qemu_img();
	assert_int_equal(run("qemu-img create -q -f qcow2 good %u && qemu-io -f qcow2 -c 'write -P 1 0 64k' good >/dev/null", SIZE), 0);
	for (size_t i = 0; i < BH_ARRAY_SIZE(lies); i++) {
		for (int readonly = 0; readonly < 2; readonly++) {
			struct bh_error err = BH_ERROR_INIT;
			struct bh_disk *disk = NULL;
			int fd, r;

			assert_int_equal(run("cp good bad"), 0);
			fd = open("bad", O_RDWR | O_CLOEXEC);
			assert_int_equal(pwrite(fd, lies[i].bytes, lies[i].size, lies[i].at), (ssize_t)lies[i].size);
			r = bh_disk_open_qcow2(fd, readonly, NULL, &disk, &err);
			if (readonly && lies[i].only_writing) {
				assert_int_equal(r, 0);
				bh_disk_free(disk);
				continue;
			}
			if (r >= 0 || !strstr(err.message, lies[i].words))
				fail_msg("lie %zu: %s", i, r < 0 ? err.message : "believed");
		}
	}
}

static void test_raw(void **state)
{
	struct bh_disk *disk;
	uint8_t bytes[1024];
	struct iovec iov = { bytes, sizeof bytes };
	int fd = open("raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, 100000), 0);
	assert_int_equal(bh_disk_open(BH_DISK_RAW, fd, false, NULL, &disk, NULL), 0);
	assert_int_equal(disk->size, 99840);
	memset(bytes, 7, sizeof bytes);
	assert_int_equal(bh_disk_writev(disk, &iov, 1, 512, 1024), 0);
	assert_int_equal(bh_disk_writev(disk, &iov, 1, 99840 - 512, 1024), -EINVAL);
	assert_int_equal(bh_disk_writev(disk, &iov, 1, 100, 512), -EINVAL);
	assert_int_equal(bh_disk_write_zeroes(disk, 512, 512, true), 0);
	assert_int_equal(bh_disk_discard(disk, 4096, 4096), 0);
	assert_int_equal(bh_disk_readv(disk, &iov, 1, 512, 1024), 0);
	assert_int_equal(bytes[511], 0);
	assert_int_equal(bytes[512], 7);
	assert_int_equal(bh_disk_flush(disk), 0);
	assert_int_equal(ftruncate(fd, 512), 0);
	assert_int_equal(bh_disk_readv(disk, &iov, 1, 512, 1024), -EIO);
	bh_disk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats), cmocka_unit_test(test_compressed), cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_killed),  cmocka_unit_test(test_refusals),   cmocka_unit_test(test_raw),
	};

	return cmocka_run_group_tests_name("disk", tests, setup, teardown);
}
