/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image of a tree that has everything is mounted by the kernel and compared with the tree: names, types, modes, owners,
 * times, attributes, links, contents, holes. Needs root and a kernel with EROFS. With the path of a folder as its argument the
 * program compares that one too.
 */
#include "base/file.h"
#include "storage/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

static char *root;
static const char *given;
static size_t compared;

static char *below(const char *name)
{
	return bh_printf("%s/%s", root, name);
}

static int setup(void **state)
{
	char template[] = "/var/tmp/bh-erofs-XXXXXX";
	bh_auto_free char *mounted = NULL;

	(void)state;
	root = bh_strdup(mkdtemp(template));
	mounted = below("mounted");
	return mkdir(mounted, 0755);
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	free(root);
	return 0;
}

static int make_image(const char *tree, const char *image, struct bh_erofs_stats *stats)
{
	bh_auto_close int tree_fd = open(tree, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bh_auto_close int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_erofs_write(tree_fd, fd, stats, &err);

	if (r < 0)
		print_message("%s\n", err.message);
	return r;
}

static int run(const char *const *argv)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status;
}

static void write_text(const char *path, const char *text)
{
	assert_int_equal(bh_create_file_at(AT_FDCWD, path, text, strlen(text), 0644, NULL), 0);
}

static void set_time(const char *path, time_t seconds, long nanoseconds)
{
	struct timespec times[2] = { { seconds, nanoseconds }, { seconds, nanoseconds } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

/* Files around the sizes at which something changes, with a pattern that no two blocks share. */
static void make_sizes(void)
{
	static const size_t sizes[] = { 0, 1, 31, 4000, 4032, 4064, 4095, 4096, 4097, 8191, 8192, 100000, 1u << 20, (1u << 20) + 1, 5u << 20 };
	bh_auto_free uint32_t *content = bh_malloc(5u << 20);

	for (size_t i = 0; i < (5u << 20) / 4; i++)
		content[i] = (uint32_t)(i * 2654435761u);
	for (size_t i = 0; i < BH_ARRAY_SIZE(sizes); i++) {
		bh_auto_free char *path = bh_printf("size-%zu", sizes[i]);

		assert_int_equal(bh_create_file_at(AT_FDCWD, path, content, sizes[i], 0640, NULL), 0);
		assert_int_equal(chown(path, (uid_t)i * 20000, 100000 + (gid_t)i), 0);
		set_time(path, 1500000000 + (time_t)i, (long)i * 1000 + 7);
	}
}

static void make_sparse(void)
{
	bh_auto_close int fd = open("sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, (5ll << 30) + 123), 0);
	assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
	assert_int_equal(pwrite(fd, "middle", 6, (3ll << 30) + 1000), 6);
	assert_int_equal(pwrite(fd, "end", 3, (5ll << 30) + 120), 3);
}

static void make_folders(void)
{
	mkdir("empty", 0700);
	mkdir("many", 01777);
	for (unsigned i = 0; i < 3000; i++) {
		bh_auto_free char *path = bh_printf("many/%u-%0*u", i * 7919 % 3000, (int)(1 + i % 200), i);

		write_text(path, i % 3 ? "" : path);
		if (i % 500 == 0) {
			bh_auto_free char *folder = bh_printf("many/%u", i);

			mkdir(folder, 0755);
		}
	}
	write_text("many/!before the dots", "x");
	write_text("many/-before too", "x");
	write_text("many/\xc3\xbc\xff behind", "x");
	assert_int_equal(mkdir("deep", 0755), 0);
	for (unsigned i = 0; i < 60; i++) {
		bh_auto_buf struct bh_buf path = { 0 };

		bh_buf_adds(&path, "deep");
		for (unsigned k = 0; k <= i; k++)
			bh_buf_adds(&path, "/d");
		assert_int_equal(mkdir(path.data, 0711), 0);
	}
}

static void make_links(void)
{
	char target[4096];

	write_text("first", "one file with three names");
	assert_int_equal(link("first", "second"), 0);
	assert_int_equal(link("first", "empty-not"), 0);
	assert_int_equal(mknod("null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(link("null", "null-too"), 0);
	assert_int_equal(mknod("disk", S_IFBLK | 0660, makedev(259, 300000)), 0);
	assert_int_equal(mkfifo("pipe", 0604), 0);
	assert_int_equal(mknod("socket", S_IFSOCK | 0755, 0), 0);
	assert_int_equal(symlink("/etc/passwd", "absolute"), 0);
	assert_int_equal(symlink("../..", "up"), 0);
	assert_int_equal(lchown("up", 70000, 7), 0);
	set_time("up", 7, 999999999);
	for (size_t length = 4000; length < sizeof target; length += 19) {
		bh_auto_free char *path = bh_printf("link-%zu", length);

		memset(target, 'x', length);
		target[length] = '\0';
		assert_int_equal(symlink(target, path), 0);
	}
}

static void make_xattrs(void)
{
	static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
	static const unsigned char acl[] = { 2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,   4,  0, 232, 3, 0,   0,   4,   0,
					     4, 0, 255, 255, 255, 255, 16, 0, 4,   0,   255, 255, 255, 255, 32, 0, 0,   0, 255, 255, 255, 255 };
	char value[3000];

	write_text("capable", "x");
	assert_int_equal(setxattr("capable", "security.capability", capability, sizeof capability, 0), 0);
	assert_int_equal(setxattr("capable", "trusted.mine", "abc", 3, 0), 0);
	assert_int_equal(setxattr("capable", "trusted.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(setxattr("empty", "user.empty", "", 0, 0), 0);
	(void)setxattr("empty", "system.posix_acl_default", acl, sizeof acl, 0);
	(void)setxattr("capable", "system.posix_acl_access", acl, sizeof acl, 0);
	memset(value, 'v', sizeof value);
	assert_int_equal(setxattr("size-4000", "user.long", value, sizeof value, 0), 0);
	(void)lsetxattr("absolute", "trusted.of-a-link", value, sizeof value, 0);
	(void)lsetxattr("link-4000", "trusted.of-a-link", value, 900, 0);
	set_time("capable", -5, 1);
}

static void compare_xattrs(const char *a, const char *b)
{
	static char names[65536], more[65536], x[65536], y[65536];
	ssize_t length = llistxattr(a, names, sizeof names), count = 0;

	assert_true(length >= 0);
	for (const char *name = names; name < names + length; name += strlen(name) + 1) {
		ssize_t size = lgetxattr(a, name, x, sizeof x);

		if (bh_has_prefix(name, "trusted.overlay."))
			continue;
		count += (ssize_t)strlen(name) + 1;
		assert_int_equal(lgetxattr(b, name, y, sizeof y), size);
		assert_memory_equal(x, y, (size_t)size);
	}
	assert_int_equal(llistxattr(b, more, sizeof more), count);
}

static void compare_contents(const char *a, const char *b, off_t size)
{
	static char x[1 << 20], y[1 << 20];
	bh_auto_close int one = open(a, O_RDONLY | O_CLOEXEC), two = open(b, O_RDONLY | O_CLOEXEC);
	off_t at = 0;

	while (at < size && (at = lseek(one, at, SEEK_DATA)) >= 0) {
		ssize_t n = pread(one, x, sizeof x, at);

		assert_true(n > 0);
		assert_int_equal(pread(two, y, (size_t)n, at), n);
		assert_memory_equal(x, y, (size_t)n);
		at += n;
	}
	assert_int_equal(pread(two, y, 1, size), 0);
}

static void compare_files(const char *a, const char *b, bool folders);

/* Each name of one is in the other; called both ways. */
static void compare_folders(const char *a, const char *b, bool contents)
{
	bh_auto_closedir DIR *dir = opendir(a);
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		bh_auto_free char *one = bh_path_join(a, entry->d_name), *two = bh_path_join(b, entry->d_name);
		struct stat x, y;

		if (bh_streq(entry->d_name, "..") || bh_streq(entry->d_name, "."))
			continue;
		if (contents) {
			compare_files(one, two, true);
			continue;
		}
		assert_int_equal(lstat(one, &x), 0);
		assert_int_equal(lstat(two, &y), 0);
		assert_int_equal(entry->d_ino, x.st_ino);
		assert_int_equal(DTTOIF(entry->d_type), x.st_mode & S_IFMT);
	}
}

static void compare_files(const char *a, const char *b, bool folders)
{
	char x[PATH_MAX], y[PATH_MAX];
	struct stat s, t;

	assert_int_equal(lstat(a, &s), 0);
	if (lstat(b, &t) < 0)
		fail_msg("%s: %s", b, strerror(errno));
	compared++;
	assert_int_equal(s.st_mode, t.st_mode);
	assert_int_equal(s.st_uid, t.st_uid);
	assert_int_equal(s.st_gid, t.st_gid);
	assert_int_equal(s.st_mtim.tv_sec, t.st_mtim.tv_sec);
	assert_int_equal(s.st_mtim.tv_nsec, t.st_mtim.tv_nsec);
	assert_true(S_ISDIR(s.st_mode) || s.st_nlink == t.st_nlink || given);
	compare_xattrs(a, b);
	if (S_ISDIR(s.st_mode) && folders) {
		compare_folders(a, b, true);
		compare_folders(b, a, false);
	} else if (S_ISREG(s.st_mode)) {
		assert_int_equal(s.st_size, t.st_size);
		compare_contents(a, b, s.st_size);
	} else if (S_ISLNK(s.st_mode)) {
		ssize_t n = readlink(a, x, sizeof x);

		assert_int_equal(readlink(b, y, sizeof y), n);
		assert_memory_equal(x, y, (size_t)n);
	} else if (S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode)) {
		assert_int_equal(s.st_rdev, t.st_rdev);
	}
}

/* In a mount namespace of its own: nothing stays mounted, whatever fails. */
static void compare_mounted(const char *tree, const char *image)
{
	bh_auto_free char *mounted = below("mounted");
	const char *const mount_command[] = { "mount", "-t", "erofs", "-o", "loop,ro", image, mounted, NULL };

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || run(mount_command) != 0) {
		print_message("# lab: this machine mounts no EROFS image\n");
		skip();
	}
	compared = 0;
	compare_files(tree, mounted, true);
	compare_folders(mounted, tree, false);
	assert_int_equal(umount(mounted), 0);
}

static void test_everything(void **state)
{
	bh_auto_free char *tree = below("tree"), *image = below("image"), *again = below("again");
	bh_auto_buf struct bh_buf one = { 0 }, two = { 0 };
	struct bh_erofs_stats stats;
	struct stat st;

	(void)state;
	umask(0);
	assert_int_equal(mkdir(tree, 0751), 0);
	assert_int_equal(chdir(tree), 0);
	make_sizes();
	make_folders();
	make_links();
	make_xattrs();
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(make_image(tree, image, &stats), 0);
	assert_int_equal(stat(image, &st), 0);
	assert_int_equal(st.st_size, (off_t)stats.bytes);
	assert_int_equal(make_image(tree, again, NULL), 0);
	assert_int_equal(bh_read_file_at(AT_FDCWD, image, 64u << 20, &one, NULL), 0);
	assert_int_equal(bh_read_file_at(AT_FDCWD, again, 64u << 20, &two, NULL), 0);
	assert_int_equal(one.length, two.length);
	assert_memory_equal(one.data, two.data, one.length);
	compare_mounted(tree, image);
	/* Three names of one file, two of a device. */
	assert_int_equal(stats.inodes, compared - 3);
}

static void test_sparse(void **state)
{
	bh_auto_free char *tree = below("holes"), *image = below("holes-image");
	struct bh_erofs_stats stats;
	struct stat st;

	(void)state;
	assert_int_equal(mkdir(tree, 0755), 0);
	assert_int_equal(chdir(tree), 0);
	make_sparse();
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(make_image(tree, image, &stats), 0);
	assert_true(stats.bytes > 5ull << 30);
	assert_int_equal(stat(image, &st), 0);
	assert_true(st.st_blocks * 512 < 1 << 20);
	compare_mounted(tree, image);
}

/* Most images have one time for all their files: then inodes are half as large. */
static void test_compact(void **state)
{
	bh_auto_free char *tree = below("same"), *image = below("same-image");
	struct bh_erofs_stats stats;

	(void)state;
	assert_int_equal(mkdir(tree, 0755), 0);
	assert_int_equal(chdir(tree), 0);
	for (unsigned i = 0; i < 1000; i++) {
		bh_auto_free char *path = bh_printf("file-%03u", i);

		write_text(path, "");
		set_time(path, 1600000000, 5);
	}
	set_time(".", 1600000000, 5);
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(make_image(tree, image, &stats), 0);
	assert_true(stats.bytes <= 1000 * 32 + 1000 * 20 + 5 * 4096);
	compare_mounted(tree, image);
}

static void test_failures(void **state)
{
	bh_auto_free char *tree = below("bad"), *image = below("bad-image");
	bh_auto_close int fd = -1, full = open("/dev/full", O_RDWR | O_CLOEXEC);
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	assert_int_equal(mkdir(tree, 0755), 0);
	fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(bh_erofs_write(fd, full, NULL, &err) < 0);
	assert_non_null(strstr(err.message, "EROFS image"));
	assert_int_equal(make_image("/proc/self/cmdline", image, NULL), -EBADF);
}

static void test_given(void **state)
{
	bh_auto_free char *image = below("given-image");
	struct bh_erofs_stats stats;
	struct timespec begin, end;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_int_equal(make_image(given, image, &stats), 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_message("%s: %llu inodes, %llu bytes, %ld ms\n", given, (unsigned long long)stats.inodes, (unsigned long long)stats.bytes,
		      (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000);
	compare_mounted(given, image);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_compact),
		cmocka_unit_test(test_failures),
	};
	const struct CMUnitTest more[] = { cmocka_unit_test(test_given) };

	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	given = argc > 1 ? argv[1] : NULL;
	if (given)
		return cmocka_run_group_tests_name("erofs", more, setup, teardown);
	return cmocka_run_group_tests_name("erofs", tests, setup, teardown);
}
