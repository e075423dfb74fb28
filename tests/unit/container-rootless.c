/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver for an ordinary user, and for a root that is one only in a user namespace (as under rootless
 * podman). Each test runs in a process of its own that gives up being root first.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>

/* The first process may not have come to its program yet; the time limit ends one that never does. */
#define AWAIT_SLEEP "while ! grep -qx sleep /proc/1/comm; do :; done; cat /proc/1/comm"

#define USER 12345
#define FIRST_ID 300000

static int own(const char *name)
{
	return lchown(in_test(name), USER, USER);
}

static int setup_user(void **state)
{
	static const char *const folders[] = { "", "root", "root/bin", "root/etc", "root/dev", "root/proc", "root/sys", "root/tmp" };

	if (setup(state) < 0)
		return -1;
	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++)
		if (own(folders[i]) < 0)
			return -1;
	return 0;
}

/* The test's body says what is wrong on stderr and ends the process. */
#define CHECK(condition)                                                                                                        \
	do {                                                                                                                    \
		if (!(condition)) {                                                                                             \
			fprintf(stderr, "line %d: %s; error '%s', output:\n%s\n", __LINE__, #condition, error.message, output); \
			_exit(1);                                                                                               \
		}                                                                                                               \
	} while (0)

static int run_user(struct bh_spec *s, const char *script)
{
	struct bh_container_process p;
	int r;

	set_command(s, script);
	start_output();
	request.spec = s;
	request.rootless = true;
	r = bh_container_run(&request, &p, &error);
	return r < 0 ? error.exit_code : finish(&p);
}

static void become_user(void)
{
	if (setgroups(0, NULL) < 0 || setresgid(USER, USER, USER) < 0 || setresuid(USER, USER, USER) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		_exit(2);
}

static void in_process(void (*body)(struct bh_spec *s), struct bh_spec *s, bool user)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (user)
			become_user();
		body(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- an ordinary user ------------------------------------------------------------------------------------------------- */

static void single_id(struct bh_spec *s)
{
	CHECK(run_user(s, "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; echo pid $$; hostname;"
			  "stat -c '%n %t:%T' /dev/null /dev/full /dev/tty; echo x >/dev/null && touch /tmp/made /dev/shm/x;"
			  "ls /proc | grep -c '^[0-9]'; test -d /sys/class/net/lo && echo sysfs; grep -c ' - proc ' /proc/self/mountinfo") == 0);
	CHECK(strstr(output, "0\n0\n         0      12345          1\n         0      12345          1\ndeny\npid 1\nbox\n"));
	CHECK(strstr(output, "/dev/null 1:3\n/dev/full 1:7\n/dev/tty 5:0\n"));
	CHECK(strstr(output, "sysfs\n"));
}

static void test_single_id(void **state)
{
	struct bh_spec *s = fixture(state);
	struct stat st;

	s->hostname = bh_strdup("box");
	s->process.oom_score_adj = (struct bh_opt_i64)BH_SOME(-5);
	in_process(single_id, s, true);
	assert_int_equal(stat(in_test("root/tmp/made"), &st), 0);
	assert_int_equal(st.st_uid, USER);
}

static void as_configured(struct bh_spec *s)
{
	CHECK(run_user(s, "id -u; cat /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x") == 0);
	CHECK(strstr(output, "1000\n      1000      12345          1\n1000\n"));
}

/* Who keeps the own number has no id 0 inside. */
static void test_kept_id(void **state)
{
	struct bh_spec *s = fixture(state);
	const struct bh_id_map map = { 1000, USER, 1 };

	map_users(s, 0);
	s->uid_mappings[0] = s->gid_mappings[0] = map;
	s->process.user.uid = s->process.user.gid = 1000;
	in_process(as_configured, s, true);
}

static void with_everything(struct bh_spec *s)
{
	CHECK(run_user(s, "cat /etc/file; echo y >/etc/file || echo ro; touch /x || echo root-ro; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
			  "ls -A /proc/acpi /sys/firmware; echo >/proc/sys/kernel/msgmax || echo sys-ro; grep Seccomp: /proc/self/status; true") == 0);
	CHECK(strstr(output, "bound\n") && strstr(output, "\nro\n") && strstr(output, "root-ro\n") && strstr(output, "77\n"));
	CHECK(strstr(output, "sys-ro\n") && strstr(output, "Seccomp:\t2"));
}

static void test_mounts_masks_and_filter(void **state)
{
	for (int classic = 0; classic < 2; classic++) {
		struct bh_spec *s = fixture(state);

		make_file("file", "bound\n");
		bh_spec_add_mount(s, "/etc/file", "bind", in_test("file"), "bind,ro,nosuid,nodev");
		s->root.readonly = true;
		bh_strv_add(&s->sysctl, "net.ipv4.ip_unprivileged_port_start=77");
		bh_linux_force_enosys(classic ? BH_CALL_MOUNT_API : 0);
		in_process(with_everything, s, true);
		bh_linux_force_enosys(0);
	}
}

static void with_terminal(struct bh_spec *s)
{
	CHECK(run_user(s, "tty; stat -c %u /dev/console") == 0);
	CHECK(strstr(output, "/dev/pts/0\r\n0\r\n"));
}

static void test_user_terminal(void **state)
{
	struct bh_spec *s = fixture(state);

	s->process.terminal = true;
	in_process(with_terminal, s, true);
}

static void with_host_network(struct bh_spec *s)
{
	CHECK(run_user(s, "test -d /sys/class/net && grep ' /sys ' /proc/self/mountinfo") == 0);
	CHECK(strstr(output, " /sys ro,nosuid,nodev,noexec"));
}

static void test_user_with_host_network(void **state)
{
	struct bh_spec *s = fixture(state);

	s->namespaces[BH_NS_NETWORK].present = false;
	in_process(with_host_network, s, true);
}

static int exec_user(struct bh_spec *s, pid_t pid, const char *script)
{
	const char *const args[] = { "sh", "-c", script };
	struct bh_spec_process process = { .cwd = (char *)"/", .capabilities = s->process.capabilities };
	struct bh_container_exec exec = {
		.init_pid = pid, .init_pidfd = bh_pidfd_open(pid), .spec = s, .process = &process, .stdio = &stdio, .rootless = true
	};
	struct bh_container_process p;

	start_output();
	bh_strv_add(&process.env, "PATH=/bin");
	for (size_t i = 0; i < BH_ARRAY_SIZE(args); i++)
		bh_strv_add(&process.args, args[i]);
	return bh_container_exec(&exec, &p, &error) < 0 ? error.exit_code : finish(&p);
}

/* The exec comes from another process of the user, one that never was in the container's user namespace. */
static void with_exec(struct bh_spec *s)
{
	int pipe_fds[2], status;
	pid_t pid = 0, starter;

	CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
	starter = fork();
	if (starter == 0) {
		struct bh_container_process p;

		set_command(s, "sleep 69");
		request.spec = s;
		request.rootless = true;
		CHECK(bh_container_run(&request, &p, &error) == 0);
		CHECK(write(pipe_fds[1], &p.pid, sizeof p.pid) == sizeof p.pid);
		_exit(finish(&p));
	}
	CHECK(read(pipe_fds[0], &pid, sizeof pid) == sizeof pid);
	CHECK(exec_user(s, pid, "echo in $$; id -u; " AWAIT_SLEEP "; exit 4") == 4);
	CHECK(strstr(output, "0\nsleep\n"));
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(starter, &status, 0) == starter);
}

static void test_user_exec(void **state)
{
	in_process(with_exec, fixture(state), true);
}

static void with_many_ids(struct bh_spec *s)
{
	CHECK(run_user(s, "id -u; id -g; id -G; cat /proc/self/uid_map; stat -c %u:%g /tmp/x") == 0);
	CHECK(strstr(output, "1000\n1000\n1000 2000\n"));
	CHECK(strstr(output, "300000      65536\n"));
}

/* newuidmap(1) looks into these files, which the test gives it in a mount namespace of its own. */
static int with_sub_ids(void)
{
	static const struct {
		const char *file, *text;
	} files[] = { { "/etc/subuid", "12345:300000:65536\n" },
		      { "/etc/subgid", "12345:300000:65536\n" },
		      { "/etc/passwd", "root:x:0:0::/root:/bin/sh\ntester:x:12345:12345::/:/bin/sh\n" } };

	if (access("/usr/bin/newuidmap", X_OK) < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	for (size_t i = 0; i < BH_ARRAY_SIZE(files); i++) {
		make_file("subid", files[i].text);
		if (access(files[i].file, F_OK) < 0 || mount(in_test("subid"), files[i].file, NULL, MS_BIND, NULL) < 0)
			return -1;
		unlink(in_test("subid"));
	}
	return 0;
}

static void many_ids(struct bh_spec *s)
{
	if (with_sub_ids() < 0)
		_exit(77);
	become_user();
	with_many_ids(s);
}

static void test_sub_ids(void **state)
{
	static const struct bh_id_map maps[] = { { 0, USER, 1 }, { 1, FIRST_ID, 65536 } };
	static const uint32_t groups[] = { 2000 };
	struct bh_spec *s = fixture(state);
	int status;
	pid_t pid;

	map_users(s, 0);
	free(s->uid_mappings);
	free(s->gid_mappings);
	s->uid_mappings = bh_memdup(maps, sizeof maps);
	s->gid_mappings = bh_memdup(maps, sizeof maps);
	s->uid_mapping_count = s->gid_mapping_count = 2;
	s->process.user.uid = s->process.user.gid = 1000;
	s->process.user.additional_gids = bh_memdup(groups, sizeof groups);
	s->process.user.additional_gid_count = 1;
	make_file("root/tmp/x", "");
	pid = fork();
	if (pid == 0) {
		many_ids(s);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

static void not_allowed(struct bh_spec *s)
{
	CHECK(run_user(s, "true") == 125);
	CHECK(strstr(error.message, "newuidmap"));
}

/* Ids that nobody has given to this user: in the words of the program that knows. */
static void test_foreign_ids(void **state)
{
	struct bh_spec *s = fixture(state);

	map_users(s, 500000);
	in_process(not_allowed, s, true);
}

/* --- root in a user namespace ------------------------------------------------------------------------------------------ */

/* These two run in a second execution of this program, inside: as under rootless podman. */
static void inside_without_user_namespace(void **state)
{
	struct bh_spec *s = fixture(state);

	s->process.user.uid = 7;
	s->process.user.gid = 8;
	s->process.oom_score_adj = (struct bh_opt_i64)BH_SOME(-5);
	assert_int_equal(
		run(s, "id -u; cat /proc/self/uid_map; stat -c '%n %t:%T' /dev/null /dev/tty; touch /tmp/made; grep ' /dev/pts ' /proc/self/mountinfo;"
		       "test -d /sys/class/net/lo && echo sysfs"),
		0);
	expect("7\n         0     300000      65536\n");
	expect("/dev/null 1:3\n/dev/tty 5:0\n");
	expect("gid=300005");
	expect("sysfs\n");
	s = fixture(state);
	s->namespaces[BH_NS_NETWORK].present = false;
	assert_int_equal(run(s, "test -d /sys/class/net && grep ' /sys ' /proc/self/mountinfo"), 0);
	expect(" /sys ro,nosuid,nodev,noexec");
}

static void inside_with_exec(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	set_command(s, "sleep 71");
	start(s, &p);
	assert_int_equal(exec_in(s, &p, AWAIT_SLEEP "; exit 5"), 5);
	expect("sleep\n");
	kill(p.pid, SIGKILL);
	finish(&p);
}

static void inside_nested(void **state)
{
	struct bh_spec *s = fixture(state);
	static const char *const folders[] = { "root", "root/tmp", "root/dev" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(folders); i++)
		assert_int_equal(chown(in_test(folders[i]), 1000, 1000), 0);
	map_users(s, 1000);
	s->uid_mappings[0].size = s->gid_mappings[0].size = 10000;
	assert_int_equal(run(s, "cat /proc/self/uid_map; stat -c '%n %t:%T' /dev/null; touch /tmp/made"), 0);
	expect("1000      10000\n");
	expect("/dev/null 1:3\n");
}

static int run_inside(void)
{
	const struct CMUnitTest tests[] = { TEST(inside_without_user_namespace), TEST(inside_with_exec), TEST(inside_nested) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

static void test_root_of_a_user_namespace(void **state)
{
	const struct bh_id_map map = { 0, FIRST_ID, 65536 };
	bh_auto_close int userns = bh_user_namespace_new(&map, 1, &map, 1, &error);
	pid_t pid;
	int status;

	(void)state;
	assert_true(userns >= 0);
	pid = fork();
	if (pid == 0) {
		if (setns(userns, CLONE_NEWUSER) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
		    unshare(CLONE_NEWNS) < 0)
			_exit(2);
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execl("/proc/self/exe", "container-rootless", "inside", (char *)NULL);
		_exit(3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define USER_TEST(function) cmocka_unit_test_setup_teardown(function, setup_user, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		USER_TEST(test_single_id),
		USER_TEST(test_kept_id),
		USER_TEST(test_mounts_masks_and_filter),
		USER_TEST(test_user_terminal),
		USER_TEST(test_user_with_host_network),
		USER_TEST(test_user_exec),
		USER_TEST(test_sub_ids),
		USER_TEST(test_foreign_ids),
		USER_TEST(test_root_of_a_user_namespace),
	};

	if (argc > 1 && bh_streq(argv[1], "inside"))
		return run_inside();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
