/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver against hostile root file systems, against whoever wants the runtime's own binary, and with filters and labels that take
 * effect before its last steps. Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

/* --- hostile root file systems ------------------------------------------------------------------------------------ */

static void test_dev_is_a_link(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("outside");
	assert_int_equal(rmdir(in_test("root/dev")), 0);
	assert_int_equal(symlink(in_test("outside"), in_test("root/dev")), 0);
	/* Absolute links are taken from the container's root: the folder is made there, and nothing outside is touched. */
	run(s, "true");
	assert_int_equal(count_entries("outside"), 0);
}

static void test_proc_is_a_link(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("root/elsewhere");
	assert_int_equal(rmdir(in_test("root/proc")), 0);
	assert_int_equal(symlink("elsewhere", in_test("root/proc")), 0);
	assert_int_equal(run(s, "true"), 125);
	expect_error("/proc must be mounted on ordinary directory");
}

static void test_links_stay_inside(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("outside");
	make_file("secret", "secret");
	assert_int_equal(symlink("../../../../../../../..", in_test("root/up")), 0);
	assert_int_equal(symlink(in_test("outside"), in_test("root/abs")), 0);
	assert_int_equal(symlink("/never/there/yet", in_test("root/dangling")), 0);
	assert_int_equal(symlink("loop", in_test("root/loop")), 0);
	bh_spec_add_mount(s, "/up/made", "tmpfs", "tmpfs", "");
	bh_spec_add_mount(s, "/abs/made", "tmpfs", "tmpfs", "");
	bh_spec_add_mount(s, "/../../../escaped", "tmpfs", "tmpfs", "");
	bh_spec_add_mount(s, "/dangling", "tmpfs", "tmpfs", "");
	for (int calls = 0; calls <= BH_CALL_OPENAT2; calls += BH_CALL_OPENAT2) {
		bh_linux_force_enosys((unsigned)calls);
		assert_int_equal(run(s, "grep tmpfs /proc/self/mountinfo; cat /up/secret /abs/../secret"), 1);
		expect(" /made ");
		expect(" /escaped ");
		expect(" /never/there/yet ");
		expect_not("secret\n");
		assert_int_equal(count_entries("outside"), 0);
	}
	bh_linux_force_enosys(0);
	bh_spec_add_mount(s, "/loop/x", "tmpfs", "tmpfs", "");
	assert_int_equal(run(s, "true"), 125);
	expect_error("loop");
}

static void test_null_replaced(void **state)
{
	struct bh_spec *s = fixture(state);

	/* Without a tmpfs on /dev the image's own files are there: what is not the null device must not become one. */
	bh_spec_remove_mount(s, "/dev");
	bh_spec_remove_mount(s, "/dev/pts");
	bh_spec_remove_mount(s, "/dev/shm");
	bh_spec_remove_mount(s, "/dev/mqueue");
	make_file("root/dev/null", "not a device");
	assert_int_equal(run(s, "true"), 125);
	expect_error("/dev/null is there and is not the device c 1:3");
	assert_int_equal(unlink(in_test("root/dev/null")), 0);
	assert_int_equal(symlink("/proc/kcore", in_test("root/dev/null")), 0);
	assert_int_equal(run(s, "true"), 125);
	expect_error("/dev/null is there and is not the device c 1:3");
	assert_int_equal(unlink(in_test("root/dev/null")), 0);
	assert_int_equal(run(s, "stat -c '%F %t:%T' /dev/null"), 0);
	expect("character special file 1:3");
}

static void test_working_directory_outside(void **state)
{
	struct bh_spec *s = fixture(state);

	for (int fd = 3; fd < 24; fd++) {
		free(s->process.cwd);
		s->process.cwd = bh_printf("/proc/self/fd/%d", fd);
		/* No fd of ours is there any more when the folder is entered. */
		assert_int_equal(run(s, "true"), 125);
	}
	assert_int_equal(run_args(s, "/proc/self/fd/5", NULL), 125);
}

static void test_racing_links(void **state)
{
	struct bh_spec *s = fixture(state);
	pid_t racer;

	make_directory("outside");
	make_directory("root/race");
	make_directory("root/race/inner");
	assert_int_equal(symlink(in_test("outside"), in_test("root/evil")), 0);
	bh_spec_add_mount(s, "/race/inner/target", "tmpfs", "tmpfs", "");
	bh_spec_add_mount(s, "/race/file", "bind", in_test("root/bin/busybox"), "bind,ro");
	racer = fork();
	if (racer == 0) {
		int root = open(in_test("root"), O_PATH);

		for (;;)
			renameat2(root, "race", root, "evil", RENAME_EXCHANGE);
	}
	for (int i = 0; i < 60; i++) {
		bh_linux_force_enosys(i % 2 ? BH_CALL_OPENAT2 : 0);
		run(s, "true");
	}
	bh_linux_force_enosys(0);
	kill(racer, SIGKILL);
	waitpid(racer, NULL, 0);
	assert_int_equal(count_entries("outside"), 0);
}

/* --- the runtime's own binary ------------------------------------------------------------------------------------- */

static void test_own_binary_as_entry(void **state)
{
	struct bh_spec *s = fixture(state);

	make_file("root/script", "#!/proc/self/exe\n");
	assert_int_equal(chmod(in_test("root/script"), 0755), 0);
	/* Both execute the stub once more, which has nothing to do and ends; this program would print its tests. */
	assert_int_equal(run_args(s, "/proc/self/exe", NULL), 126);
	assert_int_equal(run_args(s, "/script", NULL), 126);
	expect_not("ok");
}

/* A filter that allows everything but one call the driver's last steps use. */
static void forbid(struct bh_spec *s, const char *name)
{
	struct bh_spec_seccomp *f = &s->seccomp;

	*f = (struct bh_spec_seccomp){ .source = BH_SECCOMP_RULES, .default_action = bh_strdup("SCMP_ACT_ALLOW") };
	f->rules = bh_calloc(1, sizeof *f->rules);
	f->rule_count = 1;
	bh_strv_add(&f->rules[0].names, name);
	f->rules[0].action = bh_strdup("SCMP_ACT_ERRNO");
}

static void test_filters_that_forbid_our_steps(void **state)
{
	static const char *const names[] = { "execveat", "setsid", "ioctl", "getpid" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(names); i++) {
		for (int two_steps = 0; two_steps < 2; two_steps++) {
			struct bh_spec *s = fixture(state);
			struct bh_container_process p;
			char target[256] = "";

			create_first = two_steps;
			forbid(s, names[i]);
			free(s->process.cwd);
			s->process.cwd = bh_strdup("/tmp");
			assert_int_equal(run(s, "pwd; ls /proc/self/fd | wc -l; grep Seccomp: /proc/self/status"), 0);
			expect("/tmp\n4\nSeccomp:\t2");
			assert_int_equal(run_args(s, "/proc/self/exe", NULL), 126);
			set_command(s, "sleep 65");
			create(s, &p);
			bh_auto_free char *path = bh_printf("/proc/%d/exe", (int)p.pid);
			assert_true(readlink(path, target, sizeof target - 1) > 0);
			assert_non_null(strstr(target, "exec"));
			assert_int_equal(bh_container_start(&p, &error), 0);
			assert_int_equal(exec_in(s, &p, "pwd; exit 3"), 3);
			expect("/tmp\n");
			kill(p.pid, SIGKILL);
			finish(&p);
		}
	}
	/* Even reading and writing: the shell can't do much then, but it is executed. */
	for (int i = 0; i < 2; i++) {
		struct bh_spec *s = fixture(state);

		create_first = true;
		forbid(s, i ? "read" : "write");
		assert_int_equal(run_args(s, "true", NULL), 0);
		assert_int_equal(run_args(s, "nope", NULL), 127);
	}
}

static void test_labels(void **state)
{
	struct bh_spec *s = fixture(state);

	/* A kernel without the module: the container runs, and the caller is told (on stderr). */
	s->process.selinux_label = bh_strdup("system_u:system_r:container_t:s0");
	s->mount_label = bh_strdup("system_u:object_r:container_file_t:s0");
	if (access("/sys/fs/selinux/enforce", F_OK) < 0)
		assert_int_equal(run(s, "true"), 0);
	bh_free_ptr(&s->process.selinux_label);
	bh_free_ptr(&s->mount_label);
	/* With it, a profile that isn't loaded is an error. */
	s->process.apparmor_profile = bh_strdup("no-such-profile-of-bulkhead");
	assert_int_equal(run(s, "true"), access("/sys/module/apparmor", F_OK) < 0 ? 0 : 125);
}

static void test_covered_proc(void **state)
{
	struct bh_spec *s = fixture(state);

	/* A second procfs on top of the first: the masks must lie on the one that is seen. */
	bh_spec_add_mount(s, "/proc/", "proc", "proc", "nosuid,noexec,nodev");
	assert_int_equal(run(s, "test -z \"$(cat /proc/keys)\" && echo masked; echo 1 >/proc/sys/kernel/msgmax || echo sys-ro"), 0);
	expect("masked");
	expect("sys-ro");
}

static void test_own_binary_is_never_seen(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;
	struct stat st;

	/* The container may trace everything it sees, and looks at every executable all the time. */
	bh_spec_privileged(s);
	assert_int_equal(stat("/proc/self/exe", &st), 0);
	set_command(s, "while :; do stat -L -c '%d:%i' /proc/[0-9]*/exe; done >/tmp/seen 2>/dev/null");
	start(s, &p);
	for (int i = 0; i < 200; i++)
		assert_int_equal(exec_in(s, &p, "true"), 0);
	kill(p.pid, SIGKILL);
	finish(&p);
	read_back("root/tmp/seen");
	bh_auto_free char *own = bh_printf("%llu:%llu\n", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	assert_true(strlen(output) > 100);
	expect_not(own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_dev_is_a_link),
		TEST(test_proc_is_a_link),
		TEST(test_links_stay_inside),
		TEST(test_null_replaced),
		TEST(test_working_directory_outside),
		TEST(test_racing_links),
		TEST(test_own_binary_as_entry),
		TEST(test_filters_that_forbid_our_steps),
		TEST(test_labels),
		TEST(test_covered_proc),
		TEST(test_own_binary_is_never_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
