/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver with real containers: a root file system of one busybox, everything seen from inside or from
 * /proc, and nothing left behind. Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

/* --- what is inside ----------------------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
	struct bh_spec *s = fixture(state);

	s->hostname = bh_strdup("boxname");
	assert_int_equal(run(s, "echo pid $$; hostname; cat /proc/self/status; ls /proc | grep -c '^[0-9]'; ip link; cat /proc/self/uid_map"), 0);
	expect("pid 1\n");
	expect("boxname\n");
	expect("CapEff:\t00000000a80425fb");
	expect("CapBnd:\t00000000a80425fb");
	expect("CapInh:\t0000000000000000");
	expect("CapAmb:\t0000000000000000");
	expect("Seccomp:\t2");
	expect("NoNewPrivs:\t0");
	expect("lo: <LOOPBACK,UP");
	expect_not("eth0");
	expect("4294967295");
}

static void test_mounts_inside(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("marker");
	assert_int_equal(mount("marker", in_test("marker"), "tmpfs", 0, NULL), 0);
	assert_int_equal(
		run(s,
		    "cat /proc/self/mountinfo; test -z \"$(cat /proc/keys)\" && echo keys-masked; echo 1 >/proc/sys/kernel/msgmax || echo sys-ro;"
		    "touch /sys/x || echo sysfs-ro; echo a >/dev/null && echo null-works; test -c /proc/keys && echo null-cover; ls -A /proc/acpi /sys/firmware; true"),
		0);
	umount2(in_test("marker"), MNT_DETACH);
	expect(" /proc rw,nosuid,nodev,noexec");
	expect(" /sys ro,nosuid,nodev,noexec");
	expect(" /dev rw,nosuid - tmpfs");
	expect(" /dev/shm rw,nosuid,nodev,noexec");
	expect("keys-masked");
	expect("sys-ro");
	expect("sysfs-ro");
	expect("null-works");
	/* The host's own mounts are gone. */
	expect_not("marker");
}

static void test_cgroup_mounts(void **state)
{
	struct bh_spec *s = fixture(state);

	assert_int_equal(
		run(s, "ls /sys/fs/cgroup; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x || echo cgroup-ro; grep cgroup /proc/self/mountinfo"), 0);
	expect("cgroup-ro");
	/* A cgroup namespace of its own: every root is "/", whatever the host calls it. */
	expect_not(":/..");
	if (access("/sys/fs/cgroup/memory", F_OK) == 0)
		expect("memory\n");
	s->namespaces[BH_NS_CGROUP].present = false;
	assert_int_equal(run(s, "ls /sys/fs/cgroup >/dev/null && mkdir /sys/fs/cgroup/pids/x || echo cgroup-ro"), 0);
	expect("cgroup-ro");
}

static void test_readonly_root(void **state)
{
	struct bh_spec *s = fixture(state);

	s->root.readonly = true;
	assert_int_equal(run(s, "touch /x || echo root-ro; touch /dev/shm/x && echo shm-rw"), 0);
	expect("root-ro");
	expect("shm-rw");
}

static void test_devices(void **state)
{
	struct bh_spec *s = fixture(state);
	static const struct bh_spec_device tun = { .type = 'c', .major = 10, .minor = 200, .mode_set = true, .file_mode = 0600, .uid = 3, .gid = 4 };

	s->devices = bh_memdup(&tun, sizeof tun);
	s->devices[0].path = bh_strdup("/dev/net/tun");
	s->device_count = 1;
	assert_int_equal(run(s, "stat -c '%n %F %t:%T %a %u:%g' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/net/tun;"
				"readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx"),
			 0);
	expect("/dev/null character special file 1:3 666 0:0");
	expect("/dev/zero character special file 1:5 666 0:0");
	expect("/dev/full character special file 1:7 666 0:0");
	expect("/dev/random character special file 1:8 666 0:0");
	expect("/dev/urandom character special file 1:9 666 0:0");
	expect("/dev/tty character special file 5:0 666 0:0");
	expect("/dev/net/tun character special file a:c8 600 3:4");
	expect("/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n");
}

static void test_binds(void **state)
{
	struct bh_spec *s = fixture(state);

	make_file("host/file", "from the host");
	make_directory("host/sub");
	bh_spec_add_mount(s, "/new/deep/file", "bind", in_test("host/file"), "bind,ro");
	bh_spec_add_mount(s, "/data", "bind", in_test("host"), "rbind,rprivate,nosuid,nodev");
	bh_spec_add_mount(s, "/scratch", "tmpfs", "tmpfs", "size=1m,mode=700,noexec,nosuid");
	assert_int_equal(run(s, "cat /new/deep/file; echo x >/new/deep/file || echo file-ro; echo y >/data/sub/y && echo dir-rw; stat -c %a /scratch;"
				"grep -E ' /(data|scratch|new)' /proc/self/mountinfo"),
			 0);
	expect("from the host");
	expect("file-ro");
	expect("dir-rw");
	expect("700");
	expect(" /scratch rw,nosuid,noexec");
	expect(" /data rw,nosuid,nodev,relatime - ");
	assert_int_equal(access(in_test("host/sub/y"), F_OK), 0);
}

/* Images often come without the folders that everything is mounted on. */
static void test_bare_root(void **state)
{
	struct bh_spec *s = fixture(state);

	make_file("file", "bound");
	rmdir(in_test("root/proc"));
	rmdir(in_test("root/sys"));
	rmdir(in_test("root/dev"));
	rmdir(in_test("root/etc"));
	bh_spec_add_mount(s, "/etc/hosts", "bind", in_test("file"), "bind,ro");
	bh_spec_add_mount(s, "/etc/resolv.conf", "bind", in_test("file"), "bind,rprivate");
	assert_int_equal(run(s, "cat /etc/hosts /etc/resolv.conf; ls -d /proc/self /sys/class /dev/pts"), 0);
	expect("boundbound");
	/* What a link leads to inside the root is meant, also if it isn't there yet. */
	unlink(in_test("root/etc/hosts"));
	assert_int_equal(symlink("../tmp/elsewhere", in_test("root/etc/hosts")), 0);
	assert_int_equal(run(s, "cat /etc/hosts; ls -A /tmp; cat /tmp/elsewhere"), 0);
	assert_string_equal(output, "boundelsewhere\nbound");
}

static void test_copy_up(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("root/srv");
	make_file("root/srv/file", "content");
	assert_int_equal(chown(in_test("root/srv/file"), 7, 8), 0);
	assert_int_equal(symlink("file", in_test("root/srv/link")), 0);
	assert_int_equal(mkfifo(in_test("root/srv/pipe"), 0640), 0);
	make_directory("root/srv/sub");
	assert_int_equal(chmod(in_test("root/srv/sub"), 01777), 0);
	bh_spec_add_mount(s, "/srv", "tmpfs", "tmpfs", "tmpcopyup,nosuid");
	assert_int_equal(
		run(s,
		    "cat /srv/link; stat -c '%u:%g' /srv/file; stat -c '%F %a' /srv/pipe /srv/sub; echo changed >/srv/file; grep ' /srv ' /proc/self/mountinfo"),
		0);
	expect("content7:8");
	expect("fifo 640");
	expect("directory 1777");
	expect(" - tmpfs");
	assert_file("root/srv/file", "content");
}

static void test_rbind_options(void **state)
{
	struct bh_spec *s = fixture(state);

	make_directory("tree");
	make_directory("tree/sub");
	assert_int_equal(mount("tmpfs", in_test("tree/sub"), "tmpfs", 0, NULL), 0);
	bh_spec_add_mount(s, "/all", "bind", in_test("tree"), "rbind,rro");
	bh_spec_add_mount(s, "/top", "bind", in_test("tree"), "rbind,ro");
	bh_spec_add_mount(s, "/one", "bind", in_test("tree"), "bind");
	assert_int_equal(
		run(s,
		    "touch /all/sub/x || echo all-ro; touch /top/sub/y && echo top-sub-rw; touch /top/x || echo top-ro; test -e /one/sub/y || echo not-recursive"),
		0);
	umount2(in_test("tree/sub"), MNT_DETACH);
	expect("all-ro");
	expect("top-sub-rw");
	expect("top-ro");
	expect("not-recursive");
}

/* --- the process -------------------------------------------------------------------------------------------------- */

static void test_exit_codes(void **state)
{
	struct bh_spec *s = fixture(state);

	make_file("root/bin/garbage", "not a program");
	assert_int_equal(chmod(in_test("root/bin/garbage"), 0755), 0);
	make_file("root/bin/plain", "not executable");
	assert_int_equal(run(s, "exit 7"), 7);
	assert_int_equal(run(s, "kill -9 $$; exit 8"), 8); /* pid 1 is safe from itself */
	for (int two_steps = 0; two_steps < 2; two_steps++) {
		create_first = two_steps;
		assert_int_equal(run_args(s, "nope", NULL), 127);
		assert_string_equal(error.message, "exec: \"nope\": executable file not found in $PATH");
		assert_int_equal(run_args(s, "/nope", NULL), 127);
		assert_string_equal(error.message, "exec: \"/nope\": no such file or directory");
		assert_int_equal(run_args(s, "/bin/plain", NULL), 126);
		assert_string_equal(error.message, "exec: \"/bin/plain\": permission denied");
		assert_int_equal(run_args(s, "plain", NULL), 126);
		assert_int_equal(run_args(s, "/bin", NULL), 126);
		assert_string_equal(error.message, "exec: \"/bin\": is a directory");
		assert_int_equal(run_args(s, "/bin/garbage", NULL), 126);
		assert_non_null(strstr(error.message, "exec format error"));
		assert_int_equal(run_args(s, "", NULL), 127);
	}
}

static void test_create_waits(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;
	bh_auto_free char *path = NULL, *exe = NULL;
	char target[256] = "";

	set_command(s, "echo started");
	create(s, &p);
	path = bh_printf("/proc/%d/exe", (int)p.pid);
	/* A created container holds the stub, not a copy of this program, and has said nothing yet. */
	assert_true(readlink(path, target, sizeof target - 1) > 0);
	assert_non_null(strstr(target, "memfd:exec"));
	assert_int_equal(lseek(output_fd, 0, SEEK_END), 0);
	assert_int_equal(bh_container_start(&p, &error), 0);
	assert_int_equal(finish(&p), 0);
	expect("started");
}

static void test_delete_before_start(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	set_command(s, "echo started");
	create(s, &p);
	close(p.sync_fd);
	p.sync_fd = -1;
	assert_int_equal(finish(&p), 1);
	expect_not("started");
}

static void test_user(void **state)
{
	struct bh_spec *s = fixture(state);
	static const uint32_t groups[] = { 50, 60 };

	s->process.user.uid = 1234;
	s->process.user.gid = 77;
	s->process.user.additional_gids = bh_memdup(groups, sizeof groups);
	s->process.user.additional_gid_count = 2;
	s->process.user.umask_set = true;
	s->process.user.umask = 027;
	assert_int_equal(run(s, "grep -E 'Uid|Gid|Groups|Cap' /proc/self/status; umask; touch /etc/x || echo denied"), 0);
	expect("Uid:\t1234\t1234\t1234\t1234");
	expect("Gid:\t77\t77\t77\t77");
	expect("Groups:\t50 60 \n");
	expect("CapEff:\t0000000000000000");
	expect("CapPrm:\t0000000000000000");
	expect("CapBnd:\t00000000a80425fb");
	expect("0027");
	expect("denied");
}

static void test_capabilities(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_spec_capabilities *c = &s->process.capabilities;

	c->bounding = c->effective = c->permitted = c->inheritable = c->ambient = 1 << 10; /* CAP_NET_BIND_SERVICE */
	s->process.user.uid = 1000;
	s->process.no_new_privileges = true;
	assert_int_equal(run(s, "cat /proc/self/status"), 0);
	expect("CapInh:\t0000000000000400");
	expect("CapPrm:\t0000000000000400");
	expect("CapEff:\t0000000000000400");
	expect("CapBnd:\t0000000000000400");
	expect("CapAmb:\t0000000000000400");
	expect("NoNewPrivs:\t1");
	expect("Seccomp:\t2");
	*c = (struct bh_spec_capabilities){ 0 };
	assert_int_equal(run(s, "cat /proc/self/status"), 0);
	expect("CapBnd:\t0000000000000000");
	/* An object that is missing gives none, not all. */
	s->process.user.uid = 0;
	assert_int_equal(run(s, "cat /proc/self/status"), 0);
	expect("CapEff:\t0000000000000000");
}

static void test_privileged(void **state)
{
	struct bh_spec *s = fixture(state);

	bh_spec_privileged(s);
	assert_int_equal(
		run(s,
		    "cat /proc/self/status; mount -t tmpfs t /tmp && echo mounted; mkdir /sys/fs/cgroup/pids/bh-test-x 2>/dev/null && rmdir /sys/fs/cgroup/pids/bh-test-x; true"),
		0);
	expect("Seccomp:\t0");
	expect("mounted");
}

static void test_limits(void **state)
{
	struct bh_spec *s = fixture(state);
	static const struct bh_spec_rlimit nofile = { NULL, 100, 200 }, forbidden = { NULL, UINT64_MAX, UINT64_MAX };

	s->process.rlimits = bh_calloc(2, sizeof *s->process.rlimits);
	s->process.rlimits[0] = nofile;
	s->process.rlimits[0].type = bh_strdup("RLIMIT_NOFILE");
	s->process.rlimits[1] = forbidden;
	s->process.rlimits[1].type = bh_strdup("RLIMIT_MEMLOCK");
	s->process.rlimit_count = 2;
	s->process.oom_score_adj = (struct bh_opt_i64)BH_SOME(500);
	assert_int_equal(run(s, "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj"), 0);
	expect("100\n200\n500\n");
	/* Lower than what is allowed here: clamped, not fatal. */
	s->process.oom_score_adj.value = -900;
	assert_int_equal(run(s, "true"), 0);
	s->process.oom_score_adj.value = -2000;
	assert_int_equal(run(s, "true"), 125);
	expect_error("process.oomScoreAdj");
	s->process.oom_score_adj.set = false;
	s->process.rlimits[0].soft = 300;
	assert_int_equal(run(s, "true"), 125);
	expect_error("RLIMIT_NOFILE: the soft limit is above");
}

static void test_working_directory(void **state)
{
	struct bh_spec *s = fixture(state);

	free(s->process.cwd);
	s->process.cwd = bh_strdup("/made/on/demand");
	assert_int_equal(run(s, "pwd"), 0);
	expect("/made/on/demand\n");
}

static void test_no_fds(void **state)
{
	struct bh_spec *s = fixture(state);
	int leaked = open("/", O_RDONLY | O_DIRECTORY); /* on purpose without O_CLOEXEC */

	assert_int_equal(run(s, "ls /proc/self/fd | wc -l"), 0);
	close(leaked);
	expect("4\n"); /* 0, 1, 2 and ls's own folder */
}

static void test_preserved_fds(void **state)
{
	struct bh_spec *s = fixture(state);
	int own = open(in_test("root"), O_PATH | O_CLOEXEC);
	int at_three = own == 3 ? own : dup2(own, 3);

	assert_int_equal(at_three, 3);
	/* What is close-on-exec is the runtime's own. */
	assert_int_equal(fcntl(3, F_SETFD, 0), 0);
	request.preserve_fds = 1;
	assert_int_equal(run(s, "ls -l /proc/self/fd/3 && echo kept"), 0);
	request.preserve_fds = 0;
	close(3);
	if (own != 3)
		close(own);
	expect("kept");
}

static void test_sysctl(void **state)
{
	struct bh_spec *s = fixture(state);
	static const char *const refused[] = { "kernel.core_pattern=x", "vm.swappiness=1", "net..ipv4.x=1", "net/../kernel/core_pattern=x" };

	bh_strv_add(&s->sysctl, "net.ipv4.ip_unprivileged_port_start=77");
	bh_strv_add(&s->sysctl, "kernel.msgmax=5000");
	assert_int_equal(run(s, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax"), 0);
	expect("77\n5000\n");
	for (size_t i = 0; i < BH_ARRAY_SIZE(refused); i++) {
		bh_strv_clear(&s->sysctl);
		bh_strv_add(&s->sysctl, refused[i]);
		assert_int_equal(run(s, "true"), 125);
		expect_error("is not in a separate kernel namespace");
	}
	bh_strv_clear(&s->sysctl);
	bh_strv_add(&s->sysctl, "kernel.hostname=x");
	assert_int_equal(run(s, "true"), 125);
	expect_error("is not allowed as it conflicts with the OCI \"hostname\" field");
	bh_strv_clear(&s->sysctl);
	bh_strv_add(&s->sysctl, "net.ipv4.ip_forward=1");
	s->namespaces[BH_NS_NETWORK].present = false;
	assert_int_equal(run(s, "true"), 125);
	expect_error("not allowed in host network namespace");
}

static void test_init(void **state)
{
	struct bh_spec *s = fixture(state);
	const char *init = getenv("BH_TEST_GUEST") ? getenv("BH_TEST_GUEST") : "build/bulkhead-guest";
	bh_auto_free char *path = realpath(init, NULL);

	if (!path)
		skip();
	request.init_path = path;
	assert_int_equal(run(s, "echo pid $$; cat /proc/1/comm; (true &); exit 9"), 9);
	expect("pid 2\ninit\n");
	assert_int_equal(run(s, "kill -TERM $$"), 128 + SIGTERM);
	assert_int_equal(run(s, "trap 'exit 33' USR1; kill -USR1 1; sleep 5"), 33);
	assert_int_equal(run_args(s, "nope", NULL), 127);
}

static void test_time_namespace(void **state)
{
	struct bh_spec *s = fixture(state);

	s->namespaces[BH_NS_TIME].present = true;
	s->time_offsets.set = true;
	s->time_offsets.boottime_secs = 1000000000;
	assert_int_equal(run(s, "cut -d. -f1 /proc/uptime"), 0);
	assert_true(strtoll(output, NULL, 10) >= 1000000000);
	s->namespaces[BH_NS_TIME].present = false;
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.timeOffsets");
}

static void test_hooks(void **state)
{
	struct bh_spec *s = fixture(state);
	bh_auto_free char *script = bh_printf("(echo $0; head -c 60; echo) >>%s", in_test("hooks"));
	struct bh_hook_state hook_state = { .id = "c1", .bundle = "/b", .status = "stopped" };

	add_hook(&s->hooks.prestart, "prestart", script, 0);
	add_hook(&s->hooks.create_runtime, "createRuntime", script, 0);
	add_hook(&s->hooks.create_container, "createContainer", script, 0);
	add_hook(&s->hooks.start_container, "startContainer", "echo startContainer; hostname", 0);
	add_hook(&s->hooks.poststop, "poststop", script, 0);
	s->hostname = bh_strdup("hooked");
	request.id = "c1";
	assert_int_equal(run(s, "echo workload"), 0);
	assert_int_equal(bh_container_hooks(s, &s->hooks.poststop, "poststop", &hook_state, &error), 0);
	read_back("hooks");
	assert_true(strstr(output, "prestart") < strstr(output, "createRuntime"));
	assert_true(strstr(output, "createRuntime") < strstr(output, "createContainer"));
	assert_true(strstr(output, "createContainer") < strstr(output, "poststop"));
	expect("{\"ociVersion\":\"1.2.0\",\"id\":\"c1\",\"status\":\"creating\",\"pid\":");
	expect_not("startContainer");
	add_hook(&s->hooks.create_runtime, "failing", "exit 3", 0);
	assert_int_equal(run(s, "true"), 125);
	expect_error("error running createRuntime hook #1: exit status 3, stdout: , stderr: ");
	free_hooks(&s->hooks.create_runtime);
	add_hook(&s->hooks.create_container, "slow", "exec sleep 20", 1);
	assert_int_equal(run(s, "true"), 125);
	expect_error("error running createContainer hook #1: hook ran past specified timeout of 1.0s");
}

/* The standard streams belong to the workload's user, who may open them again. */
static void test_pipe_owner(void **state)
{
	for (int users = 0; users < 2; users++) {
		struct bh_spec *s = fixture(state);
		struct bh_container_process p;
		char text[16] = "";
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		stdio.stdout_fd = ends[1];
		s->process.user.uid = 1234;
		if (users)
			map_users(s, 100000);
		set_command(s, "echo again >/dev/stdout");
		start(s, &p);
		close(ends[1]);
		assert_int_equal(finish(&p), 0);
		assert_int_equal(read(ends[0], text, sizeof text - 1), 6);
		assert_string_equal(text, "again\n");
		close(ends[0]);
	}
}

/* --- user namespaces ---------------------------------------------------------------------------------------------- */

static void test_user_namespace(void **state)
{
	struct bh_spec *s = fixture(state);
	bh_auto_free char *line = NULL;
	struct bh_container_process p;

	map_users(s, 100000);
	s->process.oom_score_adj = (struct bh_opt_i64)BH_SOME(321);
	set_command(s, "id -u; cat /proc/self/uid_map /proc/self/oom_score_adj; echo x >/dev/null && echo null-ok; test -z \"$(cat /proc/keys)\" && echo masked;"
		       "cat /proc/self/mountinfo");
	assert_int_equal(run_set(s), 0);
	expect("0\n");
	expect("100000      65536");
	expect("321\n");
	expect("null-ok");
	expect("masked");
	set_command(s, "sleep 60");
	create(s, &p);
	line = status_line(p.pid, "Uid:");
	assert_string_equal(line, "Uid:\t100000\t100000\t100000\t100000\n");
	kill(p.pid, SIGKILL);
	assert_int_equal(finish(&p), -1);
}

static int mount_callback(void *context, int userns_fd, struct bh_error *err)
{
	int *seen = context;

	*seen = userns_fd;
	return bh_mount_copy(AT_FDCWD, in_test("root"), true, err);
}

static void test_root_callback(void **state)
{
	struct bh_spec *s = fixture(state);
	int seen = -2;

	request.rootfs = (struct bh_rootfs){ .mount_fd = -1, .mount = mount_callback, .mount_context = &seen };
	assert_int_equal(run(s, "true"), 0);
	assert_int_equal(seen, -1);
	map_users(s, 200000);
	assert_int_equal(run(s, "cat /proc/self/uid_map"), 0);
	assert_true(seen >= 0);
	expect("200000");
}

static void test_root_fd(void **state)
{
	struct bh_spec *s = fixture(state);
	int fd = bh_mount_copy(AT_FDCWD, in_test("root"), true, &error);

	request.rootfs = (struct bh_rootfs){ .mount_fd = fd };
	assert_int_equal(run(s, "true"), 0);
	close(fd);
}

static void test_idmapped_binds(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_spec_mount *m;

	make_directory("owned");
	make_file("owned/file", "x");
	make_directory("root/plain");
	make_directory("root/mapped");
	make_directory("root/chosen");
	assert_int_equal(chown(in_test("owned/file"), 0, 0), 0);
	map_users(s, 100000);
	bh_spec_add_mount(s, "/plain", "bind", in_test("owned"), "bind");
	bh_spec_add_mount(s, "/mapped", "bind", in_test("owned"), "bind,idmap");
	m = bh_spec_add_mount(s, "/chosen", "bind", in_test("owned"), "rbind,ridmap");
	m->uid_mappings = bh_calloc(1, sizeof *m->uid_mappings);
	m->uid_mappings[0] = (struct bh_id_map){ 0, 100005, 1 };
	m->gid_mappings = bh_memdup(m->uid_mappings, sizeof *m->uid_mappings);
	m->uid_mapping_count = m->gid_mapping_count = 1;
	assert_int_equal(run(s, "stat -c %n=%u /plain/file /mapped/file /chosen/file"), 0);
	expect("/plain/file=65534");
	expect("/mapped/file=0");
	expect("/chosen/file=5");
	bh_spec_find_mount(s, "/mapped")->type[0] = 't';
	bh_strv_clear(&bh_spec_find_mount(s, "/mapped")->options);
	bh_strv_add(&bh_spec_find_mount(s, "/mapped")->options, "idmap");
	assert_int_equal(run(s, "true"), 125);
}

/* --- namespaces of others ----------------------------------------------------------------------------------------- */

static void test_joins(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process first;
	struct bh_spec second = { 0 };

	s->hostname = bh_strdup("first");
	set_command(s, "sleep 61");
	start(s, &first);
	default_spec(&second);
	join(&second, BH_NS_NETWORK, first.pid);
	join(&second, BH_NS_UTS, first.pid);
	join(&second, BH_NS_IPC, first.pid);
	join(&second, BH_NS_PID, first.pid);
	join(&second, BH_NS_CGROUP, first.pid);
	assert_int_equal(run(&second, "hostname; ps; readlink /proc/self/ns/net /proc/1/ns/net; test $$ != 1 && echo not-one"), 0);
	expect("first\n");
	expect("sleep 61");
	expect("not-one");
	/* A file that is no namespace, one of the wrong type. */
	free(second.namespaces[BH_NS_UTS].path);
	second.namespaces[BH_NS_UTS].path = bh_strdup("/etc/passwd");
	assert_int_equal(run(&second, "true"), 125);
	expect_error("/etc/passwd is not a namespace");
	free(second.namespaces[BH_NS_UTS].path);
	second.namespaces[BH_NS_UTS].path = bh_strdup("/proc/self/ns/net");
	assert_int_equal(run(&second, "true"), 125);
	expect_error("is not a uts namespace");
	bh_spec_clear(&second);
	kill(first.pid, SIGKILL);
	finish(&first);
}

static void test_join_user_namespace(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process first;
	struct bh_spec second = { 0 };

	map_users(s, 100000);
	set_command(s, "sleep 61");
	start(s, &first);
	default_spec(&second);
	join(&second, BH_NS_USER, first.pid);
	assert_int_equal(run(&second, "cat /proc/self/uid_map; echo pid $$"), 0);
	expect("100000");
	expect("pid 1\n");
	join(&second, BH_NS_PID, first.pid);
	join(&second, BH_NS_NETWORK, first.pid);
	assert_int_equal(run(&second, "ps"), 0);
	expect("sleep 61");
	assert_int_equal(run_args(&second, "nope", NULL), 127);
	bh_spec_clear(&second);
	kill(first.pid, SIGKILL);
	finish(&first);
}

static void test_host_namespaces(void **state)
{
	struct bh_spec *s = fixture(state);

	s->namespaces[BH_NS_PID].present = s->namespaces[BH_NS_NETWORK].present = s->namespaces[BH_NS_IPC].present = false;
	s->namespaces[BH_NS_UTS].present = s->namespaces[BH_NS_CGROUP].present = false;
	assert_int_equal(run(s, "readlink /proc/self/ns/net"), 0);
	/* With a user namespace the host's sysfs and mqueue can't be mounted, only seen. */
	map_users(s, 100000);
	bh_spec_remove_mount(s, "/dev/mqueue");
	assert_int_equal(run(s, "ls /sys/class >/dev/null && touch /sys/x || echo sys-there; ls /proc/self/status"), 0);
	expect("sys-there");
	expect("/proc/self/status");
}

/* --- exec --------------------------------------------------------------------------------------------------------- */

static void test_exec(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	for (int users = 0; users < 2; users++) {
		if (users)
			map_users(s, 100000);
		set_command(s, "sleep 62");
		start(s, &p);
		assert_int_equal(exec_in(s, &p, "echo $$ $PWD; ps; grep -E 'Cap|Seccomp' /proc/self/status; ls /proc/self/fd | wc -l; exit 5"), 5);
		expect("2 /tmp\n");
		expect("sleep 62");
		expect("CapEff:\t00000000a80425fb");
		expect("Seccomp:\t2");
		expect("\n4\n");
		assert_int_equal(exec_in(s, &p, NULL), 127);
		assert_string_equal(error.message, "exec: \"nope\": executable file not found in $PATH");
		bh_linux_force_enosys(BH_CALL_SETNS_PIDFD);
		assert_int_equal(exec_in(s, &p, "ps; id -u"), 0);
		bh_linux_force_enosys(0);
		expect("sleep 62");
		kill(p.pid, SIGKILL);
		finish(&p);
	}
}

static void test_terminal(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	s->process.terminal = true;
	s->process.console_size.set = true;
	s->process.console_size.height = 31;
	s->process.console_size.width = 97;
	for (int users = 0; users < 2; users++) {
		if (users)
			map_users(s, 100000);
		assert_int_equal(run(s, "tty; stty size; echo hello >/dev/console; echo job >/dev/tty; ls -l /dev/console"), 0);
		expect("/dev/pts/0\r\n31 97\r\nhello\r\njob\r\n");
	}
	s->process.terminal = false;
	set_command(s, "sleep 63");
	start(s, &p);
	exec_terminal = true;
	assert_int_equal(exec_in(s, &p, "tty; test -t 0 && echo yes >/dev/tty"), 0);
	exec_terminal = false;
	expect("/dev/pts/0\r\nyes\r\n");
	kill(p.pid, SIGKILL);
	finish(&p);
}

/* --- older kernels and failures ----------------------------------------------------------------------------------- */

static void test_forced_fallbacks(void **state)
{
	static const unsigned calls[] = { BH_CALL_OPENAT2, BH_CALL_MOUNT_API, BH_CALL_CLONE3, BH_CALL_CLOSE_RANGE, ~0U };

	for (int users = 0; users < 2; users++) {
		for (size_t i = 0; i < BH_ARRAY_SIZE(calls); i++) {
			struct bh_spec *s = fixture(state);

			make_file("file", "bound");
			bh_spec_add_mount(s, "/etc/bound", "bind", in_test("file"), "bind,ro,nosuid");
			s->root.readonly = true;
			s->process.terminal = i % 2;
			if (users)
				map_users(s, 100000);
			bh_linux_force_enosys(calls[i]);
			assert_int_equal(
				run(s,
				    "cat /etc/bound; echo x >/etc/bound || echo bound-ro; touch /x || echo root-ro; test -z \"$(cat /proc/keys)\" && echo masked;"
				    "echo >/proc/sys/kernel/msgmax || echo sys-ro; ls /proc/self/fd | wc -l; stat -c %t:%T /dev/null; ls -A /proc/acpi; true; grep ' /sys ' /proc/self/mountinfo"),
				0);
			bh_linux_force_enosys(0);
			expect("bound");
			expect("bound-ro");
			expect("root-ro");
			expect("masked");
			expect("sys-ro");
			expect("4");
			expect("1:3");
			expect(" /sys ro,nosuid,nodev,noexec");
			if (i == 3) /* a user namespace of its own keeps its root */
				expect("4");
		}
	}
}

static void test_failures_leave_nothing(void **state)
{
	static const struct {
		const char *destination, *type, *source, *options, *words;
	} bad[] = {
		{ "/x", "bind", "/nonexistent/source", "bind", "/nonexistent/source" },
		{ "/x", "nosuchfs", "none", "", "nosuchfs" },
		{ "/x", "tmpfs", "tmpfs", "size=bogus", "size" },
		{ "/x", "tmpfs", "tmpfs", "nosuchoption", "nosuchoption" },
		{ "/etc/passwd/below", "tmpfs", "tmpfs", "", "/etc/passwd/below" },
		{ "/etc/passwd", "tmpfs", "tmpfs", "", "/etc/passwd" },
	};
	int fds = count_open_fds();

	for (int users = 0; users < 2; users++) {
		for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++) {
			struct bh_spec *s = fixture(state);
			bh_auto_free char *before = host_mounts();

			make_file("root/etc/passwd", "");
			if (users)
				map_users(s, 100000);
			bh_spec_add_mount(s, bad[i].destination, bad[i].type, bad[i].source, bad[i].options);
			assert_int_equal(run(s, "true"), 125);
			expect_error(bad[i].words);
			bh_auto_free char *after = host_mounts();
			assert_string_equal(before, after);
		}
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	fixture(state);
	assert_int_equal(count_open_fds(), fds);
}

static void test_parent_fate(void **state)
{
	for (uint32_t uid = 0; uid < 100; uid += 99) {
		struct bh_spec *s = fixture(state);
		struct bh_container_process p;
		bh_auto_close int pidfd = -1;
		int pipe_fds[2];
		pid_t middle, pid;

		set_command(s, "sleep 64");
		s->process.user.uid = uid;
		assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
		middle = fork();
		if (middle == 0) {
			request.keep_in_parent_fate = true;
			start(s, &p);
			(void)!write(pipe_fds[1], &p.pid, sizeof p.pid);
			pause();
		}
		close(pipe_fds[1]);
		assert_int_equal(read(pipe_fds[0], &pid, sizeof pid), sizeof pid);
		close(pipe_fds[0]);
		pidfd = bh_pidfd_open(pid);
		assert_true(pidfd >= 0);
		kill(middle, SIGKILL);
		waitpid(middle, NULL, 0);
		assert_int_equal(wait_for_fd(pidfd, 5000), 1);
	}
}

/* --- users -------------------------------------------------------------------------------------------------------- */

static void test_resolve_user(void **state)
{
	static const struct {
		const char *user;
		int result;
		uint32_t uid, gid;
		size_t groups;
		const char *home, *words;
	} cases[] = {
		{ NULL, 0, 0, 0, 2, "/root", NULL },
		{ "", 0, 0, 0, 2, "/root", NULL },
		{ "alice", 0, 1000, 100, 3, "/home/alice", NULL },
		{ "1000", 0, 1000, 100, 3, "/home/alice", NULL },
		{ "1000:7", 0, 1000, 7, 1, "/home/alice", NULL },
		{ "alice:staff", 0, 1000, 50, 1, "/home/alice", NULL },
		{ "4711", 0, 4711, 0, 1, "/", NULL },
		{ "4711:4712", 0, 4711, 4712, 1, "/", NULL },
		{ "bob", -EINVAL, 0, 0, 0, NULL, "unable to find user bob" },
		{ "alice:nogroup", -EINVAL, 0, 0, 0, NULL, "unable to find group nogroup" },
		{ "4294967296", -EINVAL, 0, 0, 0, NULL, "out of range" },
		{ "18446744073709551616", -EINVAL, 0, 0, 0, NULL, "out of range" },
		{ "0:4294967296", -EINVAL, 0, 0, 0, NULL, "out of range" },
		{ "-1", -EINVAL, 0, 0, 0, NULL, "unable to find user -1" },
		{ "+1", -EINVAL, 0, 0, 0, NULL, "unable to find user +1" },
		{ " 1", -EINVAL, 0, 0, 0, NULL, "unable to find user" },
		{ "0x0", -EINVAL, 0, 0, 0, NULL, "unable to find user 0x0" },
		{ "alice:", -EINVAL, 0, 0, 0, NULL, "expected USER or USER:GROUP" },
		{ "a:b:c", -EINVAL, 0, 0, 0, NULL, "expected USER or USER:GROUP" },
	};
	int root;

	fixture(state);
	make_file("root/etc/passwd", "garbage\nroot:x:0:0:root:/root:/bin/sh\nbad:x:99999999999:0::/:\nalice:x:1000:100::/home/alice:/bin/sh\n");
	make_file("root/etc/group", "root:x:0:\nwheel:x:10:root,alice\nstaff:x:50:bob,alice\nusers:x:100:\nalicia:x:60:alicia\n");
	root = open(in_test("root"), O_PATH | O_CLOEXEC);
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec_process p = { .user.uid = 5 };
		bh_auto_free char *home = NULL;

		bh_error_clear(&error);
		assert_int_equal(bh_container_resolve_user(root, cases[i].user, NULL, &p, &home, &error), cases[i].result);
		if (cases[i].result < 0) {
			expect_error(cases[i].words);
			assert_int_equal(p.user.uid, 5);
			continue;
		}
		assert_int_equal(p.user.uid, cases[i].uid);
		assert_int_equal(p.user.gid, cases[i].gid);
		assert_int_equal(p.user.additional_gid_count, cases[i].groups);
		assert_string_equal(home, cases[i].home);
		free(p.user.additional_gids);
	}
	bh_auto_strv struct bh_strv extra = { 0 };
	struct bh_spec_process p = { 0 };
	bh_strv_add(&extra, "staff");
	bh_strv_add(&extra, "4000");
	assert_int_equal(bh_container_resolve_user(root, "4711", &extra, &p, NULL, &error), 0);
	assert_int_equal(p.user.additional_gid_count, 3);
	assert_int_equal(p.user.additional_gids[2], 4000);
	free(p.user.additional_gids);
	/* The files are looked up inside, and are files. */
	assert_int_equal(unlink(in_test("root/etc/passwd")), 0);
	assert_int_equal(mkfifo(in_test("root/etc/passwd"), 0666), 0);
	assert_true(bh_container_resolve_user(root, "alice", NULL, &p, NULL, &error) < 0);
	assert_int_equal(unlink(in_test("root/etc/passwd")), 0);
	assert_int_equal(symlink("../../../../../../../../../../etc/passwd", in_test("root/etc/passwd")), 0);
	assert_true(bh_container_resolve_user(root, "daemon", NULL, &p, NULL, &error) < 0);
	close(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_mounts_inside),
		TEST(test_cgroup_mounts),
		TEST(test_readonly_root),
		TEST(test_devices),
		TEST(test_binds),
		TEST(test_bare_root),
		TEST(test_copy_up),
		TEST(test_rbind_options),
		TEST(test_exit_codes),
		TEST(test_create_waits),
		TEST(test_delete_before_start),
		TEST(test_user),
		TEST(test_capabilities),
		TEST(test_privileged),
		TEST(test_limits),
		TEST(test_working_directory),
		TEST(test_no_fds),
		TEST(test_preserved_fds),
		TEST(test_sysctl),
		TEST(test_init),
		TEST(test_time_namespace),
		TEST(test_hooks),
		TEST(test_pipe_owner),
		TEST(test_user_namespace),
		TEST(test_root_callback),
		TEST(test_root_fd),
		TEST(test_idmapped_binds),
		TEST(test_joins),
		TEST(test_join_user_namespace),
		TEST(test_host_namespaces),
		TEST(test_exec),
		TEST(test_terminal),
		TEST(test_forced_fallbacks),
		TEST(test_failures_leave_nothing),
		TEST(test_parent_fate),
		TEST(test_resolve_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
