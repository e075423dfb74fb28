/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: both drivers, every way of mounting, user namespaces, usage, reset. Needs root. */
#include "base/file.h"
#include "storage/copy.h"
#include "storage/overlay.h"
#include "storage/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
/* cmocka comes after the headers it needs */
#include <cmocka.h>

#define LAYERS 20
static char *root;

static void write_file(const char *path, const char *text)
{
	bh_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(bh_write_all(fd, text, strlen(text)), 0);
}

static char *below(const char *format, ...)
{
	va_list args;
	bh_auto_free char *rest = NULL;

	va_start(args, format);
	rest = bh_vprintf(format, args);
	va_end(args);
	return bh_printf("%s/%s", root, rest);
}

/* Layer i holds file-i; all hold "common" with their number; layer 1 whites out file-0 and makes d opaque. */
static int setup(void **state)
{
	char template[] = "/tmp/bh-snapshot-XXXXXX";

	(void)state;
	root = bh_strdup(mkdtemp(template));
	for (int i = 0; i < LAYERS; i++) {
		bh_auto_free char *layer = below("layers/%d", i), *own = bh_printf("%s/file-%d", layer, i), *common = bh_printf("%s/common", layer);
		char text[16];

		snprintf(text, sizeof text, "%d", i);
		assert_int_equal(bh_mkdir_all(AT_FDCWD, layer, 0755, NULL), 0);
		write_file(own, text);
		write_file(common, text);
	}
	bh_auto_free char *lower_folder = below("layers/0/d"), *lower_file = below("layers/0/d/old"), *upper_folder = below("layers/1/d"),
			  *whiteout = below("layers/1/file-0"), *link = below("layers/0/link");

	mkdir(lower_folder, 0755);
	write_file(lower_file, "old");
	mkdir(upper_folder, 0755);
	assert_int_equal(setxattr(upper_folder, "trusted.overlay.opaque", "y", 1, 0), 0);
	assert_int_equal(mknod(whiteout, S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(symlink("/etc", link), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(bh_remove_tree_at(AT_FDCWD, root, NULL), 0);
	free(root);
	return 0;
}

static struct bh_snapshot make(const struct bh_snapshot_driver *driver, const char *name, int layers)
{
	struct bh_snapshot s = { .driver = driver, .path = below("%s", name) };

	for (int i = 0; i < layers; i++)
		bh_strv_take(&s.layers, below("layers/%d", i));
	return s;
}

static void expect_text(int fd, const char *path, const char *text)
{
	bh_auto_buf struct bh_buf content = { 0 };

	assert_int_equal(bh_read_file_at(fd, path, 64, &content, NULL), 0);
	assert_string_equal(content.data, text);
}

static void check_view(struct bh_snapshot *s, int layers)
{
	struct bh_error err = BH_ERROR_INIT;
	bh_auto_close int fd = s->driver->mount(s, -1, &err);
	char top[16];

	if (fd < 0)
		print_error("%s\n", err.message);
	assert_true(fd >= 0);
	snprintf(top, sizeof top, "%d", layers - 1);
	expect_text(fd, "common", top);
	if (layers > 1) {
		assert_int_equal(faccessat(fd, "file-0", F_OK, AT_SYMLINK_NOFOLLOW), -1);
		assert_int_equal(faccessat(fd, "d", F_OK, 0), 0);
		assert_int_equal(faccessat(fd, "d/old", F_OK, 0), -1);
	}
	assert_int_equal(faccessat(fd, "link", F_OK, AT_SYMLINK_NOFOLLOW), 0);
}

static void exercise(const struct bh_snapshot_driver *driver, int layers)
{
	struct bh_snapshot s = make(driver, "box", layers);
	struct bh_snapshot_usage usage = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	int fd;

	assert_int_equal(driver->prepare(&s, &err), 0);
	check_view(&s, layers);
	fd = s.driver->mount(&s, -1, NULL);
	assert_int_equal(bh_write_file_at(fd, "new", "12345", 5, 0644, 0, NULL), 0);
	close(fd);
	assert_int_equal(driver->usage(&s, &usage, NULL), 0);
	if (driver == &bh_snapshot_overlay) {
		assert_int_equal(usage.bytes, 5);
		assert_int_equal(usage.inodes, 1);
	}
	assert_int_equal(driver->reset(&s, NULL), 0);
	fd = s.driver->mount(&s, -1, NULL);
	assert_int_equal(faccessat(fd, "new", F_OK, 0), -1);
	close(fd);
	assert_int_equal(driver->remove(&s, NULL), 0);
	assert_int_equal(rmdir(s.path), 0);
	assert_int_equal(driver->remove(&s, NULL), 0);
	bh_snapshot_clear(&s);
}

static void test_ways(void **state)
{
	(void)state;
	for (int way = BH_OVERLAY_LOWERDIR_PLUS; way <= BH_OVERLAY_MOUNT; way++) {
		bh_overlay_first_way = (enum bh_overlay_way)way;
		exercise(&bh_snapshot_overlay, 1);
		exercise(&bh_snapshot_overlay, 3);
		exercise(&bh_snapshot_overlay, LAYERS); /* more than one fsconfig string holds */
	}
	bh_overlay_first_way = BH_OVERLAY_LOWERDIR_PLUS;
}

static void test_vfs(void **state)
{
	(void)state;
	exercise(&bh_snapshot_vfs, 1);
	exercise(&bh_snapshot_vfs, 3);
}

static void test_no_layers(void **state)
{
	struct bh_snapshot s = make(&bh_snapshot_overlay, "bare", 0);
	bh_auto_close int fd = -1;

	(void)state;
	assert_int_equal(s.driver->prepare(&s, NULL), 0);
	fd = s.driver->mount(&s, -1, NULL);
	assert_true(fd >= 0);
	assert_int_equal(bh_write_file_at(fd, "new", "1", 1, 0644, 0, NULL), 0);
	assert_int_equal(s.driver->remove(&s, NULL), 0);
	assert_int_equal(rmdir(s.path), 0);
	bh_snapshot_clear(&s);
}

static void test_readonly(void **state)
{
	(void)state;
	for (int layers = 1; layers <= 2; layers++) {
		struct bh_snapshot s = make(&bh_snapshot_overlay, "ro", layers);
		bh_auto_close int fd = -1;

		s.readonly = true;
		assert_int_equal(mkdir(s.path, 0700), 0);
		assert_int_equal(s.driver->prepare(&s, NULL), 0);
		fd = s.driver->mount(&s, -1, NULL);
		assert_true(fd >= 0);
		assert_int_equal(bh_write_file_at(fd, "new", "1", 1, 0644, 0, NULL), -EROFS);
		assert_int_equal(rmdir(s.path), 0);
		bh_snapshot_clear(&s);
	}
}

static int pause_child(void *argument)
{
	(void)argument;
	pause();
	return 0;
}

/* A user namespace whose id 0 is 100000 outside. */
static int make_userns(void)
{
	static char stack[16384];
	pid_t pid = clone(pause_child, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, NULL);
	char path[64];
	int fd;

	assert_true(pid > 0);
	snprintf(path, sizeof path, "/proc/%d/uid_map", (int)pid);
	assert_int_equal(bh_write_value_at(AT_FDCWD, path, "0 100000 65536", NULL), 0);
	snprintf(path, sizeof path, "/proc/%d/gid_map", (int)pid);
	assert_int_equal(bh_write_value_at(AT_FDCWD, path, "0 100000 65536", NULL), 0);
	snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

static void test_userns(void **state)
{
	bh_auto_close int userns = make_userns();

	(void)state;
	for (int way = BH_OVERLAY_LOWERDIR_PLUS; way <= BH_OVERLAY_MOUNT; way++) {
		struct bh_snapshot s = make(&bh_snapshot_overlay, "mapped", 3);
		struct bh_error err = BH_ERROR_INIT;
		struct stat st;
		int fd;

		bh_overlay_first_way = (enum bh_overlay_way)way;
		assert_int_equal(s.driver->prepare(&s, NULL), 0);
		fd = s.driver->mount(&s, userns, &err);
		if (fd < 0)
			print_error("%s\n", err.message);
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_uid, 100000);
		assert_int_equal(fstatat(fd, "common", &st, 0), 0);
		assert_int_equal(st.st_uid, 100000);
		assert_int_equal(st.st_gid, 100000);
		close(fd);
		assert_int_equal(s.driver->remove(&s, NULL), 0);
		assert_int_equal(rmdir(s.path), 0);
		bh_snapshot_clear(&s);
	}
	bh_overlay_first_way = BH_OVERLAY_LOWERDIR_PLUS;
}

static void test_failures(void **state)
{
	struct bh_snapshot s = make(&bh_snapshot_overlay, "fail", 1);
	struct bh_error err = BH_ERROR_INIT;

	(void)state;
	bh_strv_take(&s.layers, below("layers/missing"));
	assert_int_equal(s.driver->prepare(&s, &err), -ENOENT);
	assert_int_equal(rmdir(s.path), 0); /* nothing is left in it */
	assert_non_null(strstr(err.message, "layers/missing"));
	bh_strv_clear(&s.layers);
	s.readonly = true;
	assert_int_equal(s.driver->mount(&s, -1, &err), -EINVAL);
	bh_snapshot_clear(&s);
	assert_null(bh_snapshot_driver_by_name("none"));
	assert_ptr_equal(bh_snapshot_driver_by_name("vfs"), &bh_snapshot_vfs);
	assert_int_equal(bh_snapshot_overlay.check(root, &err), 0);
}

/* A layer's link must not lead the copy out of the root. */
static void test_copy_link_escape(void **state)
{
	bh_auto_free char *lower = below("escape/lower"), *upper = below("escape/upper/link"), *target = below("escape/target"),
			  *link = below("escape/lower/link"), *file = below("escape/upper/link/file"), *to = below("escape/root");
	bh_auto_free char *upper_root = below("escape/upper"), *escaped = below("escape/target/file");
	bh_auto_close int fd = -1;

	(void)state;
	assert_int_equal(bh_mkdir_all(AT_FDCWD, lower, 0755, NULL), 0);
	assert_int_equal(bh_mkdir_all(AT_FDCWD, upper, 0755, NULL), 0);
	assert_int_equal(bh_mkdir_all(AT_FDCWD, target, 0755, NULL), 0);
	assert_int_equal(symlink(target, link), 0);
	write_file(file, "x");
	fd = bh_make_dir(AT_FDCWD, to, 0755, NULL);
	assert_int_equal(bh_copy_layer(lower, fd, NULL), 0);
	assert_int_equal(bh_copy_layer(upper_root, fd, NULL), 0);
	expect_text(fd, "link/file", "x");
	assert_int_equal(access(escaped, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_vfs),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_userns),
		cmocka_unit_test(test_no_layers),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_copy_link_escape),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
