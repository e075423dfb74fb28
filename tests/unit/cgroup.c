/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 120
// lab: always
/*
 * Control groups on the real kernel, with real processes under real limits.
 *
 * The same tests run up to three times: with the machine's own layout (in the lab: pure v2), and on a v1 machine also with
 * the v2 tree taken away (pure v1: freezer and cpuacct folders) and with a v2 tree in place of everything (v2's core: no
 * controllers). The layouts are made in a private mount namespace.
 */
#include "cgroup/cgroup-internal.h"
#include "cgroup-test.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <linux/sched.h>

#include <cmocka.h>

#define MIB (1024 * 1024)

static struct bh_cgroup_host host;
static char path[64];

static bool has(const char *controller)
{
	return bh_strv_contains(&host.controllers, controller);
}

#define NEED(controller)                                                             \
	do {                                                                         \
		if (!has(controller)) {                                              \
			print_message("# lab: no %s controller here\n", controller); \
			skip();                                                      \
		}                                                                    \
	} while (0)

/* Is there any folder of this path left, in any hierarchy? */
static bool anything_left(void)
{
	static const char *const places[] = { "", "unified", "memory", "cpu", "cpuacct", "pids", "cpuset", "blkio", "hugetlb", "devices", "freezer" };

	for (size_t i = 0; i < BH_ARRAY_SIZE(places); i++) {
		bh_auto_free char *folder = bh_printf("/sys/fs/cgroup/%s%s", places[i], path);

		if (access(folder, F_OK) == 0)
			return true;
	}
	return false;
}

static int new_path(void **state)
{
	static int number;

	(void)state;
	bh_error_clear(&err);
	snprintf(path, sizeof path, "/bulkhead-unit-%d-%d", (int)getpid(), number++);
	return 0;
}

static int check_nothing_left(void **state)
{
	struct bh_cgroup *cgroup;

	(void)state;
	if (!anything_left())
		return 0;
	print_message("# left behind: %s\n", path);
	if (bh_cgroup_open(path, &cgroup, NULL) == 0) {
		bh_cgroup_kill(cgroup, NULL);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		bh_cgroup_destroy(cgroup, NULL);
		bh_cgroup_free(cgroup);
	}
	return -1;
}

/* A child inside the cgroup that runs `work` and exits with its result. */
static pid_t spawn(const struct bh_cgroup *cgroup, int (*work)(void *), void *arg)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork_into(cgroup);
	if (pid == 0) {
		(void)!write(ready[1], "r", 1);
		_exit(work(arg));
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

__attribute__((noreturn)) static int wait_forever(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

static void read_value(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *file, char text[256])
{
	int fd = cgroup->folders[host.version == 2 ? FOLDER_UNIFIED : folder].fd;

	assert_true(fd >= 0);
	assert_true(bh_cgroup_read(fd, file, text, 256));
	text[strcspn(text, "\n")] = '\0';
}

/* --- life --------------------------------------------------------------------------------------------------------------- */

static void test_enter_list_destroy(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup, *again;
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	pid_t pid;

	(void)state;
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	assert_true(anything_left());
	pid = spawn(cgroup, wait_forever, NULL);
	OK(bh_cgroup_open(path, &again, &err));
	OK(bh_cgroup_pids(again, &pids, &count, &err));
	assert_int_equal(count, 1);
	assert_int_equal(pids[0], pid);
	/* A second one of the same name must not take over what is in use. */
	assert_int_equal(bh_cgroup_create(path, &none, &again, &err), -EBUSY);
	assert_non_null(strstr(err.message, "container's cgroup is not empty: 1 process(es) found"));
	kill(pid, SIGKILL);
	/* Not reaped and perhaps not even dead yet: destroy waits for what is dying. */
	OK(bh_cgroup_destroy(cgroup, &err));
	assert_false(anything_left());
	wait_status(pid);
	OK(bh_cgroup_destroy(again, &err));
	bh_cgroup_free(again);
	bh_cgroup_free(cgroup);
	assert_int_equal(bh_cgroup_open(path, &again, &err), -ENOENT);
}

static void test_below_a_folder_of_ours(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;
	bool had = access("/sys/fs/cgroup/bulkhead", F_OK) == 0 || access("/sys/fs/cgroup/memory/bulkhead", F_OK) == 0 ||
		   access("/sys/fs/cgroup/unified/bulkhead", F_OK) == 0;

	(void)state;
	snprintf(path, sizeof path, "/bulkhead/unit-%d", (int)getpid());
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	assert_true(anything_left());
	OK(bh_cgroup_destroy(cgroup, &err));
	assert_false(anything_left());
	bh_cgroup_free(cgroup);
	/* The last one out removes the folder above; others may be using it at the same time on a shared machine. */
	if (!had)
		assert_int_not_equal(access("/sys/fs/cgroup/memory/bulkhead", F_OK) & access("/sys/fs/cgroup/bulkhead", F_OK), 0);
}

static void test_bad_paths_are_refused(void **state)
{
	static const char *const bad[] = { "", "/", "/..", "/a/..", "/./", "/a\nb" };
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup = NULL;

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++)
		assert_int_equal(bh_cgroup_create(bad[i], &none, &cgroup, &err), -EINVAL);
	assert_null(cgroup);
}

static void test_nested_folders_are_removed(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;

	(void)state;
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	assert_int_equal(mkdirat(bh_cgroup_any_fd(cgroup), "a", 0755), 0);
	assert_int_equal(mkdirat(bh_cgroup_any_fd(cgroup), "a/b", 0755), 0);
	assert_int_equal(mkdirat(bh_cgroup_any_fd(cgroup), "c", 0755), 0);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_failure_leaves_nothing(void **state)
{
	struct bh_spec_resources r = { .cpu = { .cpus = (char *)"4095" }, .memory = { .limit = BH_SOME(64 * MIB) } };
	struct bh_cgroup *cgroup = NULL;

	(void)state;
	NEED("cpuset");
	assert_true(bh_cgroup_create(path, &r, &cgroup, &err) < 0);
	assert_null(cgroup);
	assert_non_null(strstr(err.message, "'4095'"));
	assert_non_null(strstr(err.message, "cpuset.cpus"));
	assert_false(anything_left());
}

static void test_mount_sources(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;
	const char *name;
	size_t count = 0;
	int fd;

	(void)state;
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	while (bh_cgroup_mount_source(cgroup, count, &name, &fd) == 0) {
		assert_true(fd >= 0);
		assert_true(host.version == 2 ? !*name : *name);
		count++;
	}
	assert_true(count >= 1);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

/* v2: a folder that has processes hands no controllers down. They are somebody's and stay; the limit is left out. */
static void test_processes_of_others_stay(void **state)
{
	struct bh_spec_resources none = { 0 }, r = { .pids_limit = BH_SOME(5) };
	struct bh_cgroup *parent, *child;
	char parent_path[sizeof path - 8], text[256];
	bh_auto_free pid_t *pids = NULL;
	size_t count = 0;
	pid_t pid;

	(void)state;
	NEED("pids");
	if (host.version == 1) {
		print_message("# lab: only on v2\n");
		skip();
	}
	snprintf(parent_path, sizeof parent_path, "%.40s", path);
	OK(bh_cgroup_create(parent_path, &none, &parent, &err));
	pid = spawn(parent, wait_forever, NULL);
	snprintf(path, sizeof path, "%s/child", parent_path);
	bh_log_set_level(BH_LOG_ERROR);
	OK(bh_cgroup_create(path, &r, &child, &err));
	bh_log_set_level(BH_LOG_WARNING);
	assert_false(bh_cgroup_read(child->folders[FOLDER_UNIFIED].fd, "pids.max", text, sizeof text));
	OK(bh_cgroup_destroy(child, &err));
	bh_cgroup_free(child);
	OK(bh_cgroup_pids(parent, &pids, &count, &err));
	assert_int_equal(count, 1);
	kill(pid, SIGKILL);
	wait_status(pid);
	OK(bh_cgroup_destroy(parent, &err));
	bh_cgroup_free(parent);
}

/* --- limits ------------------------------------------------------------------------------------------------------------- */

static int take_memory(void *arg)
{
	size_t size = *(size_t *)arg;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return 1;
	memset(memory, 1, size);
	return 0;
}

static void test_memory_limit_kills(void **state)
{
	struct bh_spec_resources r = { .memory = { .limit = BH_SOME(32 * MIB), .swap = BH_SOME(32 * MIB) } };
	size_t too_much = 80 * MIB, enough = 4 * MIB;
	struct bh_cgroup_stats stats;
	struct bh_cgroup *cgroup;
	char text[1024] = "";
	int status, fd;

	(void)state;
	NEED("memory");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	fd = bh_cgroup_oom_fd(cgroup);
	OK(fd);
	status = wait_status(spawn(cgroup, take_memory, &enough));
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
	assert_int_equal(bh_cgroup_parse_oom_kills(text), 0);
	status = wait_status(spawn(cgroup, take_memory, &too_much));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	assert_true(pread(fd, text, sizeof text - 1, 0) > 0);
	assert_int_equal(bh_cgroup_parse_oom_kills(text), 1);
	close(fd);
	OK(bh_cgroup_stats(cgroup, &stats, &err));
	assert_int_equal(stats.oom_kills, 1);
	assert_int_equal(stats.memory_limit, 32 * MIB);
	assert_true(stats.memory_max_usage > 28 * MIB || stats.memory_max_usage == 0 /* memory.peak: since 5.19 */);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_memory_can_be_raised_and_lowered(void **state)
{
	struct bh_spec_resources r = { .memory = { .limit = BH_SOME(32 * MIB), .swap = BH_SOME(48 * MIB), .reservation = BH_SOME(16 * MIB) } };
	const char *file = host.version == 2 ? "memory.max" : "memory.limit_in_bytes";
	const char *swap_file = host.version == 2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
	static const int sizes[] = { 128, 24, 512 };
	struct bh_cgroup *cgroup;
	char text[256];
	int fd;

	(void)state;
	NEED("memory");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	read_value(cgroup, FOLDER_MEMORY, host.version == 2 ? "memory.low" : "memory.soft_limit_in_bytes", text);
	assert_string_equal(text, "16777216");
	for (size_t i = 0; i < BH_ARRAY_SIZE(sizes); i++) {
		bh_auto_free char *expected = bh_printf("%d", sizes[i] * MIB);
		bh_auto_free char *expected_swap = bh_printf("%d", (host.version == 2 ? sizes[i] : 2 * sizes[i]) * MIB);

		r.memory.limit.value = sizes[i] * MIB;
		r.memory.swap.value = 2ll * sizes[i] * MIB;
		OK(bh_cgroup_update(cgroup, &r, &err));
		read_value(cgroup, FOLDER_MEMORY, file, text);
		assert_string_equal(text, expected);
		fd = cgroup->folders[host.version == 2 ? FOLDER_UNIFIED : FOLDER_MEMORY].fd;
		if (bh_cgroup_read(fd, swap_file, text, sizeof text)) {
			text[strcspn(text, "\n")] = '\0';
			assert_string_equal(text, expected_swap);
		}
	}
	r.memory.limit.value = r.memory.swap.value = -1;
	OK(bh_cgroup_update(cgroup, &r, &err));
	read_value(cgroup, FOLDER_MEMORY, file, text);
	assert_true(host.version == 2 ? bh_streq(text, "max") : strlen(text) >= 18);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static int fork_many(void *arg)
{
	int made = 0;

	(void)arg;
	for (int i = 0; i < 40; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			wait_forever(NULL);
		}
		if (pid < 0)
			break;
		made++;
	}
	return made;
}

static void test_pids_limit_stops_forks(void **state)
{
	struct bh_spec_resources r = { .pids_limit = BH_SOME(6) };
	struct bh_cgroup_stats stats;
	struct bh_cgroup *cgroup;
	int status;

	(void)state;
	NEED("pids");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	status = wait_status(spawn(cgroup, fork_many, NULL));
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 5);
	OK(bh_cgroup_stats(cgroup, &stats, &err));
	assert_int_equal(stats.pids_limit, 6);
	OK(bh_cgroup_kill(cgroup, &err));
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static int spin(void *arg)
{
	int64_t end_ns = bh_monotonic_ns() + *(int64_t *)arg;
	struct timespec used;

	while (bh_monotonic_ns() < end_ns)
		;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (int)((used.tv_sec * 1000000000 + used.tv_nsec) * 100 / *(int64_t *)arg);
}

static void test_cpu_quota_holds(void **state)
{
	struct bh_spec_resources r = { .cpu = { .quota = BH_SOME(20000), .period = BH_SOME(100000), .shares = BH_SOME(512) } };
	int64_t time_ns = 1000000000;
	struct bh_cgroup_stats stats;
	struct bh_cgroup *cgroup;
	char text[256];
	int status;

	(void)state;
	NEED("cpu");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	status = wait_status(spawn(cgroup, spin, &time_ns));
	assert_true(WIFEXITED(status));
	/* 20 % of a core; one period may begin before and one end after. */
	assert_in_range(WEXITSTATUS(status), 5, 32);
	OK(bh_cgroup_stats(cgroup, &stats, &err));
	assert_true(stats.cpu_throttled_periods > 0);
	assert_true(stats.cpu_throttled_ns > 0);
	assert_true(stats.cpu_usage_ns > 50000000 && stats.cpu_usage_ns < 500000000);
	read_value(cgroup, FOLDER_CPU, host.version == 2 ? "cpu.weight" : "cpu.shares", text);
	assert_string_equal(text, host.version == 2 ? "59" : "512");
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_update_adds_limits_to_running_processes(void **state)
{
	struct bh_spec_resources r = { 0 };
	struct bh_cgroup_stats stats;
	struct bh_cgroup *cgroup;
	char text[256];
	pid_t pid;

	(void)state;
	NEED("cpu");
	NEED("pids");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	pid = spawn(cgroup, wait_forever, NULL);
	r.cpu.quota = (struct bh_opt_i64)BH_SOME(50000);
	r.pids_limit = (struct bh_opt_i64)BH_SOME(9);
	OK(bh_cgroup_update(cgroup, &r, &err));
	OK(bh_cgroup_stats(cgroup, &stats, &err));
	assert_int_equal(stats.pids_current, 1);
	assert_int_equal(stats.pids_limit, 9);
	/* A new period alone keeps the quota; burst and quota can be lowered together. */
	r = (struct bh_spec_resources){ .cpu = { .period = BH_SOME(200000) } };
	OK(bh_cgroup_update(cgroup, &r, &err));
	read_value(cgroup, FOLDER_CPU, host.version == 2 ? "cpu.max" : "cpu.cfs_quota_us", text);
	assert_string_equal(text, host.version == 2 ? "50000 200000" : "50000");
	r = (struct bh_spec_resources){ .cpu = { .quota = BH_SOME(80000), .burst = BH_SOME(70000) } };
	OK(bh_cgroup_update(cgroup, &r, &err));
	r = (struct bh_spec_resources){ .cpu = { .quota = BH_SOME(30000), .burst = BH_SOME(20000) } };
	OK(bh_cgroup_update(cgroup, &r, &err));
	read_value(cgroup, FOLDER_CPU, host.version == 2 ? "cpu.max.burst" : "cpu.cfs_burst_us", text);
	assert_string_equal(text, "20000");
	kill(pid, SIGKILL);
	wait_status(pid);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static int own_cpus(void *arg)
{
	cpu_set_t set;

	(void)arg;
	return sched_getaffinity(0, sizeof set, &set) < 0 ? 255 : CPU_COUNT(&set) * 10 + CPU_ISSET(0, &set);
}

static void test_cpuset(void **state)
{
	struct bh_spec_resources r = { .cpu = { .cpus = (char *)"0" } };
	struct bh_cgroup *cgroup;

	(void)state;
	NEED("cpuset");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	assert_int_equal(wait_status(spawn(cgroup, own_cpus, NULL)), 11 << 8);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

/* The major and minor number of the disk below /, /var or a loop device: something that takes a throttle. */
static bool find_disk(int64_t *ret_major, int64_t *ret_minor)
{
	bh_auto_buf struct bh_buf text = { 0 };
	const char *line;

	if (bh_read_file_at(AT_FDCWD, "/proc/partitions", 1u << 16, &text, NULL) < 0)
		return false;
	for (line = text.data; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		long long major, minor, blocks;
		char name[64];

		if (sscanf(line, " %lld %lld %lld %63s", &major, &minor, &blocks, name) != 4 || blocks < 1 || bh_has_prefix(name, "ram") ||
		    name[strlen(name) - 1] <= '9')
			continue;
		*ret_major = major;
		*ret_minor = minor;
		return true;
	}
	return false;
}

static void test_block_io(void **state)
{
	struct bh_spec_throttle read_bps = { .rate = 1 * MIB }, write_iops = { .rate = 120 };
	struct bh_spec_resources r = {
		.block_io = { .weight = BH_SOME(300), .read_bps = &read_bps, .read_bps_count = 1, .write_iops = &write_iops, .write_iops_count = 1 }
	};
	struct bh_cgroup *cgroup;
	bh_auto_free char *expected = NULL;
	char text[256];

	(void)state;
	NEED(host.version == 2 ? "io" : "blkio");
	if (!find_disk(&read_bps.major, &read_bps.minor)) {
		print_message("# no disk\n");
		skip();
	}
	write_iops.major = read_bps.major;
	write_iops.minor = read_bps.minor;
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	read_value(cgroup, FOLDER_BLKIO, host.version == 2 ? "io.max" : "blkio.throttle.read_bps_device", text);
	expected = bh_printf(host.version == 2 ? "%lld:%lld rbps=1048576 wbps=max riops=max wiops=120" : "%lld:%lld 1048576",
			     (long long)read_bps.major, (long long)read_bps.minor);
	assert_string_equal(text, expected);
	if (host.version == 1) {
		read_value(cgroup, FOLDER_BLKIO, "blkio.bfq.weight", text);
		assert_string_equal(text, "300");
	}
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void test_huge_pages(void **state)
{
	struct bh_spec_hugepage_limit limit = { .page_size = (char *)"2MB", .limit = 4 * MIB };
	struct bh_spec_hugepage_limit evil = { .page_size = (char *)"../x", .limit = 1 };
	struct bh_spec_resources r = { .hugepage_limits = &limit, .hugepage_limit_count = 1 };
	struct bh_cgroup *cgroup;
	int folder;
	char text[256];

	(void)state;
	NEED("hugetlb");
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	folder = cgroup->folders[FOLDER_HUGETLB].fd >= 0 ? FOLDER_HUGETLB : FOLDER_UNIFIED;
	assert_true(bh_cgroup_read(cgroup->folders[folder].fd, folder == FOLDER_UNIFIED ? "hugetlb.2MB.max" : "hugetlb.2MB.limit_in_bytes", text,
				   sizeof text));
	assert_string_equal(text, "4194304\n");
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	r.hugepage_limits = &evil;
	assert_int_equal(bh_cgroup_create(path, &r, &cgroup, &err), -EINVAL);
}

/* --- devices ------------------------------------------------------------------------------------------------------------ */

static int try_devices(void *arg)
{
	char *folder = arg;
	bh_auto_free char *node = bh_printf("%s/node", folder);
	int result = 0, fd;

	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	result |= fd >= 0 ? 1 : 0;
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	result |= fd >= 0 ? 2 : 0;
	fd = open("/dev/zero", O_WRONLY | O_CLOEXEC);
	result |= fd < 0 && errno == EPERM ? 4 : 0;
	fd = open("/dev/full", O_RDONLY | O_CLOEXEC);
	result |= fd < 0 && errno == EPERM ? 8 : 0;
	result |= mknod(node, S_IFCHR | 0600, makedev(1, 5)) < 0 && errno == EPERM ? 16 : 0;
	result |= mknod(node, S_IFCHR | 0600, makedev(1, 7)) == 0 ? 32 : 0;
	unlink(node);
	return result;
}

static void test_device_rules(void **state)
{
	struct bh_spec_device_rule rules[] = {
		{ false, 'a', -1, -1, "rwm" }, { true, 'c', 1, 3, "rw" },  { true, 'c', 1, 3, "m" },
		{ true, 'c', 1, 5, "r" },      { true, 'c', 1, 7, "rwm" }, { false, 'c', 1, 7, "rw" },
	};
	struct bh_spec_resources r = { .devices = rules, .device_count = BH_ARRAY_SIZE(rules) };
	char folder[] = "/tmp/bulkhead-unit.XXXXXX";
	struct bh_cgroup *cgroup;
	int status;

	(void)state;
	NEED("devices");
	assert_non_null(mkdtemp(folder));
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	status = wait_status(spawn(cgroup, try_devices, folder));
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	/* A folder with "deny all, then allow all" must not be left with the denial. */
	rules[5] = (struct bh_spec_device_rule){ true, 'a', -1, -1, "rwm" };
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	assert_int_equal(WEXITSTATUS(wait_status(spawn(cgroup, try_devices, folder))) & 3, 3);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	rmdir(folder);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 63);
}

static void test_device_rules_are_reduced(void **state)
{
	struct bh_spec_device_rule rules[] = {
		{ true, 'c', 9, 9, "rwm" },  { false, 'a', -1, -1, "rwm" }, { true, 'c', 1, 3, "r" },   { true, 'c', 1, 3, "w" },
		{ true, 'b', 8, -1, "rwm" }, { true, 'b', 8, 1, "r" },      { false, 'c', 1, -1, "w" }, { true, 'a', 5, 0, "m" },
	};
	struct bh_spec_device_rule hole[] = { { false, 'a', -1, -1, "rwm" }, { true, 'c', 1, -1, "rwm" }, { false, 'c', 1, 5, "w" } };
	static const char *const expected[] = { "c 1:3 r", "b 8:* rwm", "b 8:1 r", "c 5:0 m", "b 5:0 m" };
	struct bh_device_set set;
	char text[64];

	(void)state;
	OK(bh_device_set_from_rules(rules, BH_ARRAY_SIZE(rules), &set, &err));
	assert_false(set.allow_all);
	assert_int_equal(set.count, BH_ARRAY_SIZE(expected));
	for (size_t i = 0; i < set.count; i++) {
		bh_device_rule_format(&set.exceptions[i], text);
		assert_string_equal(text, expected[i]);
	}
	bh_device_set_clear(&set);
	/* What can't be said exactly must not be weakened in silence. */
	assert_int_equal(bh_device_set_from_rules(hole, BH_ARRAY_SIZE(hole), &set, &err), -EINVAL);
}

/* --- freeze, kill ------------------------------------------------------------------------------------------------------- */

__attribute__((noreturn)) static int count_up(void *arg)
{
	volatile uint64_t *counter = arg;

	for (;;)
		(*counter)++;
}

static void wait_ms(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&t, NULL);
}

static void test_freeze_stops_and_thaw_continues(void **state)
{
	volatile uint64_t *counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;
	uint64_t before, after;
	bool frozen = true;
	pid_t pid;

	(void)state;
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	pid = spawn(cgroup, count_up, (void *)counter);
	OK(bh_cgroup_is_frozen(cgroup, &frozen, &err));
	assert_false(frozen);
	for (int round = 0; round < 3; round++) {
		OK(bh_cgroup_freeze(cgroup, true, &err));
		OK(bh_cgroup_is_frozen(cgroup, &frozen, &err));
		assert_true(frozen);
		before = *counter;
		wait_ms(30);
		assert_true(*counter == before);
		OK(bh_cgroup_freeze(cgroup, false, &err));
		after = *counter;
		for (int i = 0; i < 100 && *counter == after; i++)
			wait_ms(10);
		assert_true(*counter > after);
	}
	/* A frozen one can be killed and removed. */
	OK(bh_cgroup_freeze(cgroup, true, &err));
	OK(bh_cgroup_kill(cgroup, &err));
	assert_true(WIFSIGNALED(wait_status(pid)));
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	munmap((void *)counter, 4096);
}

static int fork_family(void *arg)
{
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			fork();
			break;
		}
	wait_forever(arg);
}

static void test_kill_reaches_all(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;
	size_t count = 0;
	pid_t pid;

	(void)state;
	assert_return_code(prctl(PR_SET_CHILD_SUBREAPER, 1), errno);
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	pid = spawn(cgroup, fork_family, NULL);
	for (int i = 0; i < 200 && count < 7; i++) {
		bh_auto_free pid_t *pids = NULL;

		OK(bh_cgroup_pids(cgroup, &pids, &count, &err));
		wait_ms(5);
	}
	assert_int_equal(count, 7);
	OK(bh_cgroup_signal(cgroup, SIGCONT, &err));
	OK(bh_cgroup_kill(cgroup, &err));
	assert_true(WIFSIGNALED(wait_status(pid)));
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
	while (waitpid(-1, NULL, 0) > 0)
		;
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void test_remove_by_path(void **state)
{
	struct bh_spec_resources r = { .pids_limit = BH_SOME(9) };
	struct bh_cgroup *cgroup;
	pid_t pid;

	(void)state;
	OK(bh_cgroup_remove(path, &err));
	bh_log_set_level(BH_LOG_ERROR);
	OK(bh_cgroup_create(path, &r, &cgroup, &err));
	bh_log_set_level(BH_LOG_WARNING);
	bh_cgroup_free(cgroup);
	OK(bh_cgroup_remove(path, &err));
	assert_false(anything_left());
	/* With a process, a frozen one, and a folder of its own. */
	OK(bh_cgroup_create(path, &(struct bh_spec_resources){ 0 }, &cgroup, &err));
	pid = spawn(cgroup, wait_forever, NULL);
	assert_int_equal(mkdirat(bh_cgroup_any_fd(cgroup), "nested", 0755), 0);
	OK(bh_cgroup_freeze(cgroup, true, &err));
	bh_cgroup_free(cgroup);
	OK(bh_cgroup_remove(path, &err));
	assert_false(anything_left());
	assert_true(WIFSIGNALED(wait_status(pid)));
}

static void test_destroy_gives_up_on_the_living(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup;
	int64_t start_ns = bh_monotonic_ns();
	pid_t pid;

	(void)state;
	OK(bh_cgroup_create(path, &none, &cgroup, &err));
	pid = spawn(cgroup, wait_forever, NULL);
	assert_int_equal(bh_cgroup_destroy(cgroup, &err), -EBUSY);
	assert_non_null(strstr(err.message, "processes are still inside"));
	assert_true(bh_monotonic_ns() - start_ns < 8ll * 1000000000);
	kill(pid, SIGKILL);
	wait_status(pid);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

/* --- words -------------------------------------------------------------------------------------------------------------- */

static void test_weights(void **state)
{
	static const struct {
		uint64_t shares, weight;
	} pairs[] = { { 0, 1 }, { 2, 1 }, { 10, 4 }, { 102, 17 }, { 512, 59 }, { 1024, 100 }, { 2048, 174 }, { 262144, 10000 }, { 1u << 30, 10000 } };
	uint64_t last = 0;

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(pairs); i++)
		assert_int_equal(bh_cgroup_weight_from_shares(pairs[i].shares), pairs[i].weight);
	for (uint64_t shares = 2; shares <= 262144; shares += 97) {
		uint64_t weight = bh_cgroup_weight_from_shares(shares);

		assert_true(weight >= last && weight <= 10000);
		last = weight;
	}
}

static void test_plan_for_both_versions(void **state)
{
	struct bh_spec_resources r = {
		.memory = { .limit = BH_SOME(100), .swap = BH_SOME(-1), .swappiness = BH_SOME(0) },
		.cpu = { .quota = BH_SOME(-1), .period = BH_SOME(5000), .idle = BH_SOME(1) },
		.pids_limit = BH_SOME(-1),
	};
	static const struct {
		enum bh_cgroup_folder controller;
		int version;
		const char *expected;
	} cases[] = {
		{ FOLDER_MEMORY, 1, "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=-1 memory.swappiness=0 " },
		{ FOLDER_MEMORY, 2, "memory.swap.max=max memory.max=100 " },
		{ FOLDER_CPU, 1, "cpu.idle=1 cpu.cfs_period_us=5000 cpu.cfs_quota_us=-1 " },
		{ FOLDER_CPU, 2, "cpu.idle=1 cpu.max=max 5000 " },
		{ FOLDER_PIDS, 1, "pids.max=max " },
		{ FOLDER_PIDS, 2, "pids.max=max " },
		{ FOLDER_DEVICES, 1, "" },
	};

	(void)state;
	bh_log_set_level(BH_LOG_ERROR);
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_cgroup_writes writes = { 0 };
		bh_auto_buf struct bh_buf text = { 0 };

		OK(bh_cgroup_plan(cases[i].controller, NULL, cases[i].version, &r, &writes, &err));
		bh_buf_adds(&text, "");
		for (size_t n = 0; n < writes.count; n++)
			bh_buf_addf(&text, "%s=%s ", writes.items[n].file, writes.items[n].value);
		assert_string_equal(text.data, cases[i].expected);
		bh_cgroup_writes_clear(&writes);
	}
	r.memory.swap.value = 50;
	struct bh_cgroup_writes writes = { 0 };

	assert_int_equal(bh_cgroup_plan(FOLDER_MEMORY, NULL, 2, &r, &writes, &err), -EINVAL);
	bh_cgroup_writes_clear(&writes);
	bh_strv_add(&r.unified, "../cgroup.procs=1");
	assert_int_equal(bh_cgroup_plan_unified(&r, &writes, &err), -EINVAL);
	bh_strv_clear(&r.unified);
	bh_cgroup_writes_clear(&writes);
	bh_log_set_level(BH_LOG_WARNING);
}

static void test_oom_parser(void **state)
{
	(void)state;
	assert_int_equal(bh_cgroup_parse_oom_kills("oom_kill_disable 7\nunder_oom 0\noom_kill 3\n"), 3);
	assert_int_equal(bh_cgroup_parse_oom_kills("low 0\noom 9\noom_kill 12\noom_group_kill 1\n"), 12);
	assert_int_equal(bh_cgroup_parse_oom_kills(""), 0);
	assert_int_equal(bh_cgroup_parse_oom_kills("oom_kill"), 0);
}

#define REAL(test) cmocka_unit_test_setup_teardown(test, new_path, check_nothing_left)

static int read_host(void **state)
{
	(void)state;
	bh_cgroup_host_clear(&host);
	return bh_cgroup_host(&host, &err);
}

static int run_real(const char *layout)
{
	const struct CMUnitTest tests[] = {
		REAL(test_enter_list_destroy),
		REAL(test_below_a_folder_of_ours),
		REAL(test_bad_paths_are_refused),
		REAL(test_nested_folders_are_removed),
		REAL(test_failure_leaves_nothing),
		REAL(test_mount_sources),
		REAL(test_processes_of_others_stay),
		REAL(test_memory_limit_kills),
		REAL(test_memory_can_be_raised_and_lowered),
		REAL(test_pids_limit_stops_forks),
		REAL(test_cpu_quota_holds),
		REAL(test_update_adds_limits_to_running_processes),
		REAL(test_cpuset),
		REAL(test_block_io),
		REAL(test_huge_pages),
		REAL(test_device_rules),
		REAL(test_freeze_stops_and_thaw_continues),
		REAL(test_kill_reaches_all),
		REAL(test_remove_by_path),
		REAL(test_destroy_gives_up_on_the_living),
	};

	print_message("# layout: %s\n", layout);
	return cmocka_run_group_tests_name(layout, tests, read_host, NULL);
}

int main(void)
{
	const struct CMUnitTest words[] = {
		cmocka_unit_test(test_device_rules_are_reduced),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_plan_for_both_versions),
		cmocka_unit_test(test_oom_parser),
	};
	int failed = cmocka_run_group_tests(words, NULL, NULL);

	failed += run_real("the machine's own");
	if (host.version == 2)
		return failed;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("# no private mount namespace: %s\n", strerror(errno));
		return 1;
	}
	if (host.hybrid && umount2("/sys/fs/cgroup/unified", MNT_DETACH) == 0)
		failed += run_real("pure v1");
	if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0)
		failed += run_real("v2 core");
	return failed;
}
