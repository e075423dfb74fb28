/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.intelRdt on a folder that looks like the resctrl file system, since few machines have one: which groups are made,
 * joined, compared and removed; and that a container is refused where there is none.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include "container/container-internal.h"

static int resctrl = -1, fds[2];

/* The kernel makes these files with the folder; here they have to be there before. */
static void make_group(const char *name, const char *schemata)
{
	static const char *const files[] = { "schemata", "tasks", "mon_groups/boxid/tasks" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(files); i++) {
		bh_auto_free char *path = bh_printf("rdt/%s/%s", name, files[i]), *parent = bh_strdup(path);

		*strrchr(parent, '/') = '\0';
		assert_int_equal(bh_mkdir_all(AT_FDCWD, in_test(parent), 0755, NULL), 0);
		make_file(path, i ? "" : schemata);
	}
}

static struct bh_spec *with_rdt(void **state, const char *clos_id)
{
	struct bh_spec *s = fixture(state);

	if (resctrl < 0) {
		make_group(".", "    L3:0=fff;1=fff\n    MB:0=100;1=100\n");
		make_group("shared", "    L3:0=00f;1=00f\n    MB:0= 50;1= 50\n");
		resctrl = open(in_test("rdt"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	s->intel_rdt.set = true;
	s->intel_rdt.clos_id = bh_strdup(clos_id);
	fds[0] = fds[1] = -1;
	bh_error_clear(&error);
	return s;
}

static int prepare(struct bh_spec *s)
{
	int r = bh_rdt_prepare(resctrl, s, "boxid", fds, &error);

	bh_close_fd(&fds[0]);
	bh_close_fd(&fds[1]);
	return r;
}

static int end(void **state)
{
	bh_close_fd(&resctrl);
	return teardown(state);
}

static void test_join(void **state)
{
	struct bh_spec *s = with_rdt(state, "shared");

	assert_int_equal(prepare(s), 0);
	bh_spec_clear(s);
	s = with_rdt(state, "missing");
	assert_int_equal(prepare(s), -ENOENT);
	s = with_rdt(state, "/");
	assert_int_equal(prepare(s), 0);
	s = with_rdt(state, "shared");
	s->intel_rdt.l3_cache_schema = bh_strdup("L3:0=f;1=f");
	assert_int_equal(prepare(s), 0);
	bh_strv_add(&s->intel_rdt.schemata, "L3:0=1;1=f");
	assert_int_equal(prepare(s), -EINVAL);
	expect_error("the group exists and its schemata are not \"L3:0=1;1=f\"");
	/* Somebody else's group stays. */
	assert_int_equal(bh_rdt_remove(resctrl, s, "boxid", &error), 0);
	assert_int_equal(access(in_test("rdt/shared/tasks"), F_OK), 0);
}

static void test_own_group(void **state)
{
	struct bh_spec *s = with_rdt(state, NULL);

	s->intel_rdt.l3_cache_schema = bh_strdup("L3:0=f");
	/* Nobody makes its files here, which is the failure that must take it away again. */
	assert_true(prepare(s) < 0);
	assert_int_equal(access(in_test("rdt/boxid"), F_OK), -1);
	make_directory("rdt/boxid");
	assert_int_equal(prepare(s), -EEXIST);
	expect_error("make the group boxid");
	assert_int_equal(bh_rdt_remove(resctrl, s, "boxid", &error), 0);
	assert_int_equal(access(in_test("rdt/boxid"), F_OK), -1);
	assert_int_equal(bh_rdt_remove(resctrl, s, "boxid", &error), 0);
}

static void test_monitoring(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct bh_spec *s = with_rdt(state, i ? "shared" : NULL);

		s->intel_rdt.enable_monitoring = i == 0;
		s->intel_rdt.enable_cmt = i == 1;
		s->intel_rdt.enable_mbm = i == 2;
		assert_int_equal(bh_rdt_prepare(resctrl, s, "boxid", fds, &error), 0);
		assert_true(fds[0] >= 0 && fds[1] >= 0);
		bh_close_fd(&fds[0]);
		bh_close_fd(&fds[1]);
		unlink(in_test(i ? "rdt/shared/mon_groups/boxid/tasks" : "rdt/mon_groups/boxid/tasks"));
		assert_int_equal(bh_rdt_remove(resctrl, s, "boxid", &error), 0);
		assert_int_equal(access(in_test(i ? "rdt/shared/mon_groups/boxid" : "rdt/mon_groups/boxid"), F_OK), -1);
		make_group(i ? "shared" : ".", i ? "    L3:0=00f;1=00f\n" : "");
	}
}

static void test_container(void **state)
{
	struct bh_spec *s = with_rdt(state, NULL);

	request.id = "boxid";
	/* An empty object asks for nothing. */
	assert_int_equal(run(s, "true"), 0);
	s->intel_rdt.clos_id = bh_strdup("no-such-group-of-ours");
	if (access("/sys/fs/resctrl/tasks", F_OK) == 0) {
		assert_int_equal(run(s, "true"), 125);
		expect_error("linux.intelRdt: ");
		return;
	}
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled");
	s->intel_rdt.mem_bw_schema = bh_strdup("MB:0=50");
	assert_int_equal(run(s, "true"), 125);
	expect_error("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
	s->intel_rdt.l3_cache_schema = bh_strdup("L3:0=f");
	assert_int_equal(run(s, "true"), 125);
	expect_error("intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled");
	assert_int_equal(bh_container_remove_rdt(s, "boxid", &error), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_join, setup, end),
		cmocka_unit_test_setup_teardown(test_own_group, setup, end),
		cmocka_unit_test_setup_teardown(test_monitoring, setup, end),
		cmocka_unit_test_setup_teardown(test_container, setup, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
