/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 100
// lab: always
/* linux.devices of every type, in places of every kind; and paths to protect that are not there. Needs root. */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include "linux/credentials.h"

#include <linux/capability.h>
#include <sys/sysmacros.h>

static void may_make_nodes(bool may)
{
	struct bh_capability_sets sets = { .permitted = bh_capabilities_permitted() };

	sets.effective = may ? sets.permitted : sets.permitted & ~(UINT64_C(1) << CAP_MKNOD);
	assert_int_equal(bh_capabilities_set(&sets, &error), 0);
}

static void add_device(struct bh_spec *s, const struct bh_spec_device *device, const char *path)
{
	struct bh_spec_device *d;

	s->devices = bh_realloc(s->devices, (s->device_count + 1) * sizeof *s->devices);
	d = &s->devices[s->device_count++];
	*d = *device;
	d->path = bh_strdup(path);
}

static const struct bh_spec_device null_device = { .type = 'c', .major = 1, .minor = 3, .mode_set = true, .file_mode = 0640, .uid = 11, .gid = 12 };
static const struct bh_spec_device zero_device = { .type = 'u', .major = 1, .minor = 5 };
static const struct bh_spec_device loop_device = { .type = 'b', .major = 7, .minor = 99, .mode_set = true, .file_mode = 060600 };
static const struct bh_spec_device pipe_device = { .type = 'p', .mode_set = true, .file_mode = 0622, .uid = 1 };

static void test_types(void **state)
{
	struct bh_spec *s = fixture(state);

	add_device(s, &null_device, "/dev/own-null");
	add_device(s, &zero_device, "/dev/deep/er/zero");
	add_device(s, &loop_device, "/srv/missing/loop");
	add_device(s, &pipe_device, "/dev/pipe");
	assert_int_equal(
		run(s, "stat -c '%n %F %t:%T %a %u:%g' /dev/own-null /dev/deep/er/zero /srv/missing/loop /dev/pipe; stat -c '%n %a' /dev/deep"), 0);
	expect("/dev/own-null character special file 1:3 640 11:12\n");
	expect("/dev/deep/er/zero character special file 1:5 666 0:0\n");
	expect("/srv/missing/loop block special file 7:63 600 0:0\n");
	expect("/dev/pipe fifo 0:0 622 1:0\n");
	expect("/dev/deep 755\n");
}

static void test_ptmx(void **state)
{
	static const struct bh_spec_device ptmx = { .type = 'c', .major = 5, .minor = 2 };

	for (int users = 0; users < 2; users++) {
		struct bh_spec *s = fixture(state);

		if (users)
			map_users(s, 100000);
		add_device(s, &ptmx, "/dev/ptmx");
		assert_int_equal(run(s, "readlink /dev/ptmx; stat -L -c %t:%T /dev/ptmx"), 0);
		assert_string_equal(output, "pts/ptmx\n5:2\n");
	}
}

static void test_replaces_a_default(void **state)
{
	struct bh_spec *s = fixture(state);

	add_device(s, &null_device, "/dev/zero");
	assert_int_equal(run(s, "stat -c '%t:%T %a' /dev/zero"), 0);
	assert_string_equal(output, "1:3 640\n");
}

/* Without a /dev of its own the image's is used, and what is there must be what was asked for. */
static void test_existing(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_spec_remove_mount(s, "/dev");
	bh_spec_remove_mount(s, "/dev/pts");
	bh_spec_remove_mount(s, "/dev/shm");
	bh_spec_remove_mount(s, "/dev/mqueue");
	assert_int_equal(mknod(in_test("root/dev/own"), S_IFCHR | 0600, makedev(1, 3)), 0);
	add_device(s, &null_device, "/dev/own");
	assert_int_equal(run(s, "stat -c '%t:%T %u:%g' /dev/own"), 0);
	assert_string_equal(output, "1:3 11:12\n");
	unlink(in_test("root/dev/own"));
	make_file("root/dev/own", "plain");
	assert_int_equal(run(s, "true"), 125);
	expect_error("/dev/own is there and is not the device c 1:3");
	unlink(in_test("root/dev/own"));
	assert_int_equal(mknod(in_test("root/dev/own"), S_IFCHR | 0600, makedev(1, 5)), 0);
	assert_int_equal(run(s, "true"), 125);
	expect_error("/dev/own is there and is not the device c 1:3");
}

static void test_in_a_user_namespace(void **state)
{
	struct bh_spec *s = fixture(state);

	map_users(s, 100000);
	add_device(s, &null_device, "/dev/null");
	add_device(s, &pipe_device, "/dev/pipe");
	assert_int_equal(run(s, "stat -c '%n %t:%T' /dev/null; stat -c %F /dev/pipe; echo x >/dev/null"), 0);
	assert_string_equal(output, "/dev/null 1:3\nfifo\n");
	/* What the host doesn't have is made for it. */
	add_device(s, &null_device, "/dev/no-such-device");
	assert_int_equal(run(s, "stat -c '%t:%T %a %u:%g' /dev/no-such-device"), 0);
	assert_string_equal(output, "1:3 640 11:12\n");
	/* One who may make no nodes can only give what the host has under the same name. */
	may_make_nodes(false);
	assert_int_equal(run(s, "true"), 125);
	expect_error("/dev/no-such-device");
	s->device_count--;
	free(s->devices[s->device_count].path);
	assert_int_equal(run(s, "stat -c '%n %t:%T' /dev/null"), 0);
	add_device(s, &null_device, "/dev/zero");
	assert_int_equal(run(s, "true"), 125);
	expect_error("the host's /dev/zero is not the device c 1:3");
	may_make_nodes(true);
}

static void test_protected_paths(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("root/hidden");
	make_file("root/hidden/file", "secret");
	make_file("root/hidden-file", "secret");
	make_directory("root/kept");
	assert_int_equal(symlink("../hidden", in_test("root/tmp/link")), 0);
	bh_strv_add(&s->masked_paths, "/hidden-file");
	bh_strv_add(&s->masked_paths, "/tmp/link");
	bh_strv_add(&s->masked_paths, "/no/such/path");
	bh_strv_add(&s->masked_paths, "/hidden-file/below");
	bh_strv_add(&s->readonly_paths, "/kept");
	bh_strv_add(&s->readonly_paths, "/no/such/path");
	assert_int_equal(run(s, "ls -A /hidden; cat /hidden-file; touch /kept/x || echo read-only; touch /hidden/x || echo masked"), 0);
	expect("\nread-only\n");
	expect("\nmasked\n");
	expect_not("secret");
	expect_not("file\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_types),           TEST(test_ptmx), TEST(test_replaces_a_default), TEST(test_existing), TEST(test_in_a_user_namespace),
		TEST(test_protected_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
