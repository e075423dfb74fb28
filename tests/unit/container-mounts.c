/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver: mounts, propagation and namespaces of the specification beyond what container.c tests. Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <signal.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

/* --- /proc ------------------------------------------------------------------------------------------------------------ */

static void test_proc_is_protected(void **state)
{
	static const struct {
		const char *destination, *type, *options, *words;
	} refused[] = {
		{ "/proc", "tmpfs", "", "\"/proc\" cannot be mounted because it is not of type proc" },
		{ "/proc", "bind", "bind", "\"/proc\" cannot be mounted because it is not of type proc" },
		{ "/proc/self/attr", "tmpfs", "", "\"/proc/self/attr\" cannot be mounted because it is inside /proc" },
		{ "//proc/./sys/", "tmpfs", "", "\"/proc/sys\" cannot be mounted because it is inside /proc" },
		{ "/tmp/../proc/sys", "tmpfs", "", "\"/proc/sys\" cannot be mounted because it is inside /proc" },
		{ "/alias/sys", "tmpfs", "", "\"/alias/sys\" cannot be mounted because it is inside /proc" },
		{ "/alias/sys/kernel/hostname", "bind", "bind,ro", "cannot be mounted because it is inside /proc" },
		{ "/alias", "bind", "bind,ro", "cannot be mounted because it is inside /proc" },
	};
	static const char *const allowed[] = { "/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/proc/stat" };

	for (int classic = 0; classic < 2; classic++) {
		for (size_t i = 0; i < BH_ARRAY_SIZE(refused); i++) {
			struct bh_spec *s = fixture(state);

			make_directory("folder");
			assert_int_equal(symlink("proc", in_test("root/alias")), 0);
			bh_linux_force_enosys(classic ? BH_CALL_OPENAT2 : 0);
			bh_spec_add_mount(s, refused[i].destination, refused[i].type, bh_streq(refused[i].type, "bind") ? in_test("folder") : "x",
					  refused[i].options);
			assert_int_equal(run(s, "true"), 125);
			expect_error(refused[i].words);
			bh_linux_force_enosys(0);
			unlink(in_test("root/alias"));
			rmdir(in_test("folder"));
		}
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(allowed); i++) {
		struct bh_spec *s = fixture(state);
		bh_auto_free char *script = bh_printf("cat %s", allowed[i]);

		make_file("emulated", "emulated\n");
		bh_spec_add_mount(s, allowed[i], "bind", in_test("emulated"), "bind,ro");
		assert_int_equal(run(s, script), 0);
		assert_string_equal(output, "emulated\n");
	}
}

static void test_proc_of_the_host(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_spec_remove_mount(s, "/proc");
	s->namespaces[BH_NS_PID].present = false;
	bh_spec_add_mount(s, "/proc", "bind", "/proc", "rbind,nosuid");
	assert_int_equal(run(s, "cat /proc/$$/comm; true"), 0);
	assert_string_equal(output, "sh\n");
}

/* --- options ---------------------------------------------------------------------------------------------------------- */

static void test_attributes(void **state)
{
	static const struct {
		const char *options, *top, *below;
	} cases[] = {
		{ "rbind,ro", "ro,relatime", "rw,relatime" },
		{ "rbind,rro", "ro,relatime", "ro,relatime" },
		{ "rbind,rro,rw", "rw,relatime", "ro,relatime" },
		{ "rbind,rnosuid,rnodev,rnoexec", "rw,nosuid,nodev,noexec,relatime", "rw,nosuid,nodev,noexec,relatime" },
		{ "rbind,rnosuid,rsuid", "rw,relatime", "rw,relatime" },
		{ "rbind,rnoatime", "rw,noatime", "rw,noatime" },
		{ "rbind,rnoatime,ratime", "rw,relatime", "rw,relatime" },
		{ "rbind,rstrictatime", "rw", "rw" },
		{ "rbind,rnodiratime", "rw,nodiratime,relatime", "rw,nodiratime,relatime" },
		{ "rbind,rnosymfollow", "rw,relatime,nosymfollow", "rw,relatime,nosymfollow" },
		{ "rbind,nosymfollow,noatime", "rw,noatime,nosymfollow", "rw,relatime" },
		{ "bind,strictatime", "rw", NULL },
		{ "bind,nosuid,nodev,noexec,nosuid,suid", "rw,nodev,noexec,relatime", NULL },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = fixture(state);
		bh_auto_free char *top = bh_printf("/t %s -", cases[i].top), *below = bh_printf("/t/below %s -", cases[i].below);

		make_directory("tree");
		assert_int_equal(mount("tmpfs", in_test("tree"), "tmpfs", 0, NULL), 0);
		make_directory("tree/below");
		assert_int_equal(mount("tmpfs", in_test("tree/below"), "tmpfs", 0, NULL), 0);
		bh_spec_add_mount(s, "/t", "bind", in_test("tree"), cases[i].options);
		assert_int_equal(run(s, "cut -d' ' -f5- /proc/self/mountinfo"), 0);
		umount2(in_test("tree"), MNT_DETACH);
		rmdir(in_test("tree"));
		expect(top);
		if (cases[i].below)
			expect(below);
	}
}

static void test_sources_of_the_bundle(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("data");
	make_file("data/file", "of the bundle\n");
	request.bundle = folder;
	bh_spec_add_mount(s, "/file", "bind", "data/file", "bind");
	bh_spec_add_mount(s, "/folder", "none", "data", "rbind,ro");
	assert_int_equal(run(s, "cat /file /folder/file"), 0);
	assert_string_equal(output, "of the bundle\nof the bundle\n");
}

static void test_bound_device(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_spec_add_mount(s, "/dev/own-zero", "bind", "/dev/zero", "bind,ro");
	bh_spec_add_mount(s, "/zero", "bind", "/dev/zero", "bind");
	assert_int_equal(run(s, "stat -c %t:%T /dev/own-zero /zero; head -c 4 /dev/own-zero | wc -c"), 0);
	assert_string_equal(output, "1:5\n1:5\n4\n");
}

static void test_tmpfs_mode(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("root/secret");
	make_directory("root/sticky");
	assert_int_equal(chmod(in_test("root/secret"), 0710), 0);
	assert_int_equal(chmod(in_test("root/sticky"), 01777), 0);
	bh_spec_add_mount(s, "/secret", "tmpfs", "tmpfs", "");
	bh_spec_add_mount(s, "/sticky", "tmpfs", "tmpfs", "size=1m");
	bh_spec_add_mount(s, "/etc", "tmpfs", "tmpfs", "mode=0700");
	bh_spec_add_mount(s, "/new", "tmpfs", "tmpfs", "");
	assert_int_equal(run(s, "stat -c '%n %a' /secret /sticky /etc /new"), 0);
	assert_string_equal(output, "/secret 710\n/sticky 1777\n/etc 700\n/new 1777\n");
}

static void test_refused_options(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_spec_add_mount(s, "/x", "tmpfs", "tmpfs", "idmap");
	assert_int_equal(run(s, "true"), 125);
	expect_error("mount /x: only a bind mount can be id-mapped");
	s = fixture(state);
	bh_spec_add_mount(s, "/x", "bind", "/etc", "bind,idmap");
	assert_int_equal(run(s, "true"), 125);
	expect_error("mount /x: idmap without mappings needs a user namespace");
	s = fixture(state);
	bh_spec_add_mount(s, "/x", "", "", "");
	assert_int_equal(run(s, "true"), 125);
	expect_error("error during container init: error mounting \"\" to rootfs at \"/x\": the mount has no type");
	s = fixture(state);
	bh_spec_add_mount(s, "/x", "bind", "", "bind");
	assert_int_equal(run(s, "true"), 125);
	expect_error("mount /x: a bind mount needs a source");
}

/* --- propagation -------------------------------------------------------------------------------------------------------- */

static void test_root_propagation(void **state)
{
	static const struct {
		const char *word, *expected;
	} cases[] = {
		{ "private", " - " },
		{ "rprivate", " - " },
		{ "slave", " - " },
		{ "rslave", " - " },
		{ "shared", " shared:" },
		{ "rshared", " shared:" },
		{ "unbindable", " unbindable " },
		{ "runbindable", " unbindable " },
		{ "", " - " },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = fixture(state);
		bh_auto_free char *before = host_mounts(), *after = NULL;
		const char *root, *type;

		s->rootfs_propagation = bh_strdup(cases[i].word);
		assert_int_equal(run(s, "mount -t tmpfs x /tmp; grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo | head -n 1"), 0);
		root = strstr(output, " / ");
		type = root ? strstr(root, " - ") : NULL;
		assert_non_null(type);
		if (!strstr(cases[i].expected, "-"))
			expect(cases[i].expected);
		else
			assert_true(!strstr(output, "shared:") && !strstr(output, "unbindable"));
		after = host_mounts();
		assert_string_equal(before, after);
	}
}

static void test_bind_propagation(void **state)
{
	static const struct {
		const char *options, *root;
		bool seen_inside, seen_outside;
	} cases[] = {
		{ "rbind,rprivate", NULL, false, false },
		{ "rbind,rslave", NULL, true, false },
		{ "rbind", NULL, false, false },
		{ "rbind,rshared", "rshared", true, true },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = fixture(state);
		struct bh_container_process p;

		make_directory("vol");
		assert_int_equal(mount("tmpfs", in_test("vol"), "tmpfs", 0, NULL), 0);
		assert_int_equal(mount(NULL, in_test("vol"), NULL, MS_SHARED, NULL), 0);
		make_directory("vol/a");
		make_directory("vol/b");
		bh_spec_add_mount(s, "/vol", "bind", in_test("vol"), cases[i].options);
		s->rootfs_propagation = bh_strdup(cases[i].root);
		bh_spec_privileged(s);
		set_command(s, "sleep 68");
		start(s, &p);
		assert_int_equal(mount("tmpfs", in_test("vol/a"), "tmpfs", 0, NULL), 0);
		make_file("vol/a/file", "");
		assert_int_equal(exec_in(s, &p, "mount -t tmpfs x /vol/b && touch /vol/b/file && test -e /vol/a/file"), cases[i].seen_inside ? 0 : 1);
		assert_int_equal(access(in_test("vol/b/file"), F_OK) == 0, cases[i].seen_outside);
		kill(p.pid, SIGKILL);
		finish(&p);
		umount2(in_test("vol/b"), MNT_DETACH);
		umount2(in_test("vol/a"), MNT_DETACH);
		umount2(in_test("vol"), MNT_DETACH);
		rmdir(in_test("vol"));
	}
}

/* --- namespaces --------------------------------------------------------------------------------------------------------- */

static void test_mount_namespace_by_path(void **state)
{
	struct bh_spec *s = fixture(state);
	bh_auto_free char *before = host_mounts(), *after = NULL, *path = NULL;
	int pipe_fds[2];
	pid_t holder;
	char byte, id[64] = "";

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	holder = fork();
	if (holder == 0) {
		if (unshare(CLONE_NEWNS) < 0 || write(pipe_fds[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	path = bh_printf("/proc/%d/ns/mnt", (int)holder);
	assert_true(readlink(path, id, sizeof id - 1) > 0);
	join(s, BH_NS_MOUNT, holder);
	free(s->namespaces[BH_NS_MOUNT].path);
	s->namespaces[BH_NS_MOUNT].path = bh_strdup(path);
	assert_int_equal(run(s, "readlink /proc/self/ns/mnt; ls /"), 0);
	expect(id);
	expect("bin\n");
	expect_not("boot\n");
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	after = host_mounts();
	assert_string_equal(before, after);
	s = fixture(state);
	s->namespaces[BH_NS_MOUNT].path = bh_strdup("/proc/self/ns/mnt");
	assert_int_equal(run(s, "true"), 125);
	expect_error("a container needs a mount namespace of its own");
	s->namespaces[BH_NS_MOUNT].present = false;
	assert_int_equal(run(s, "true"), 125);
	expect_error("a container needs a mount namespace of its own");
}

static void test_without_mount_namespace(void **state)
{
	struct bh_spec *s = fixture(state);
	bh_auto_free char *before = host_mounts(), *during = NULL, *after = NULL;
	char own[64] = "", id[BH_MOUNT_ID_MAX];
	bh_auto_close int fd = bh_mount_copy(AT_FDCWD, in_test("root"), true, &error);

	assert_true(readlink("/proc/self/ns/mnt", own, sizeof own - 1) > 0);
	assert_int_equal(bh_mount_id(fd, id, &error), 0);
	s->namespaces[BH_NS_MOUNT].present = false;
	request.rootfs.mount_fd = fd;
	bh_spec_add_mount(s, "/tmp", "tmpfs", "tmpfs", NULL);
	assert_int_equal(run(s, "readlink /proc/self/ns/mnt; ls /; touch /tmp/x; cd /; pwd; test -z \"$(cat /proc/keys)\" && echo masked"), 0);
	expect(own);
	expect("bin\n");
	expect("masked\n");
	expect_not("boot\n");
	during = host_mounts();
	assert_non_null(strstr(during, "/root/proc "));
	/* That of another id stays. */
	assert_int_equal(bh_mount_detach(in_test("root"), "unique:1", &error), -ENOENT);
	assert_int_equal(bh_mount_detach(in_test("root"), id, &error), 0);
	after = host_mounts();
	assert_string_equal(before, after);
	assert_int_equal(bh_mount_detach(in_test("root"), id, &error), -ENOENT);
	map_users(s, 100000);
	assert_int_equal(run(s, "true"), 125);
	expect_error("beside a user namespace a container needs a mount namespace of its own");
	request.rootfs.mount_fd = -1;
}

static void test_names(void **state)
{
	struct bh_spec *s = fixture(state);

	s->hostname = bh_strdup("box");
	s->domainname = bh_strdup("example.org");
	assert_int_equal(run(s, "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname"), 0);
	assert_string_equal(output, "box\nexample.org\n");
	s->namespaces[BH_NS_UTS].present = false;
	assert_int_equal(run(s, "true"), 125);
	expect_error("unable to set hostname without a private UTS namespace");
	s->hostname[0] = '\0';
	assert_int_equal(run(s, "true"), 125);
	expect_error("unable to set domainname without a private UTS namespace");
}

/* The configuration of a user namespace that is joined has no maps; what they are is only in the namespace. */
static void test_user_namespace_without_maps(void **state)
{
	struct bh_spec *s = fixture(state);
	const struct bh_id_map map = { 0, 200000, 5 };
	bh_auto_close int userns = bh_user_namespace_new(&map, 1, &map, 1, &error);

	assert_true(userns >= 0);
	assert_int_equal(chown(in_test("root/tmp"), 200000, 200000), 0);
	s->namespaces[BH_NS_USER].present = true;
	s->namespaces[BH_NS_USER].path = bh_printf("/proc/self/fd/%d", userns);
	/* gid=5 of devpts is not mapped there. */
	assert_int_equal(run(s, "cat /proc/self/uid_map; grep ' /dev/pts ' /proc/self/mountinfo; stat -c %t:%T /dev/null; touch /tmp/x"), 0);
	expect("200000          5");
	expect_not("gid=5");
	expect("1:3\n");
}

/* The folder's owner is not mapped, so the namespace's root has no rights there, but its group does. */
static void test_late_working_directory(void **state)
{
	struct bh_spec *s = fixture(state);

	map_users(s, 100000);
	make_directory("root/team");
	assert_int_equal(chown(in_test("root/team"), 0, 100050), 0);
	assert_int_equal(chmod(in_test("root/team"), 0710), 0);
	free(s->process.cwd);
	s->process.cwd = bh_strdup("/team");
	s->process.user.uid = 7;
	s->process.user.gid = 50;
	assert_int_equal(run(s, "pwd"), 0);
	assert_string_equal(output, "/team\n");
	s->process.user.gid = 51;
	assert_int_equal(run(s, "pwd"), 125);
	expect_error("enter the working directory /team: Permission denied");
}

/* A user namespace that does not own the network namespace may not mount sysfs. */
static void test_user_namespace_with_host_network(void **state)
{
	struct bh_spec *s = fixture(state);

	map_users(s, 100000);
	s->namespaces[BH_NS_NETWORK].present = false;
	assert_int_equal(run(s, "ls -d /sys/class/net/lo; grep ' /sys ' /proc/self/mountinfo"), 0);
	expect("/sys/class/net/lo\n");
	expect(" /sys ro,nosuid,nodev,noexec");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_proc_is_protected),
		TEST(test_proc_of_the_host),
		TEST(test_late_working_directory),
		TEST(test_attributes),
		TEST(test_sources_of_the_bundle),
		TEST(test_bound_device),
		TEST(test_tmpfs_mode),
		TEST(test_refused_options),
		TEST(test_root_propagation),
		TEST(test_bind_propagation),
		TEST(test_mount_namespace_by_path),
		TEST(test_without_mount_namespace),
		TEST(test_names),
		TEST(test_user_namespace_without_maps),
		TEST(test_user_namespace_with_host_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
