/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 120
// lab: systemd
/*
 * The systemd driver against a real systemd: scopes with limits, their properties, update, removal, failures; the system's manager
 * and a user's. Where the first process isn't systemd all of it is skipped, and the lab runs it.
 */
#include "cgroup/systemd-internal.h"
#include "cgroup-test.h"

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct bh_cgroup_host host;
static char id[64];

static int set_up(void **state)
{
	static int number;

	(void)state;
	snprintf(id, sizeof id, "unit-%d-%d", (int)getpid(), number++);
	bh_error_clear(&err);
	return 0;
}

#define NEED_SYSTEMD                                                               \
	do {                                                                       \
		if (access("/run/systemd/system", F_OK) < 0) {                     \
			print_message("# lab: the first process isn't systemd\n"); \
			skip();                                                    \
		}                                                                  \
	} while (0)

/* Output of "systemctl ARGUMENTS", without the last line break. Owned by the caller. */
static char *systemctl(const char *arguments)
{
	bh_auto_free char *line = bh_printf("systemctl %s 2>&1", arguments);
	struct bh_buf text = { 0 };
	char *const argv[] = { (char *)"sh", (char *)"-c", line, NULL };
	int out[2];
	pid_t pid;

	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		execv("/bin/sh", argv);
		_exit(127);
	}
	close(out[1]);
	OK(bh_read_fd(out[0], 65536, &text));
	close(out[0]);
	waitpid(pid, NULL, 0);
	while (text.length && text.data[text.length - 1] == '\n')
		text.data[--text.length] = '\0';
	return bh_buf_take(&text);
}

static void expect_property(const char *unit, const char *property, const char *value)
{
	bh_auto_free char *arguments = bh_printf("show --value -p %s %s", property, unit), *is = systemctl(arguments);

	if (!bh_streq(is, value))
		fail_msg("%s of %s is '%s', not '%s'", property, unit, is, value);
}

static pid_t spawn(const struct bh_cgroup *cgroup)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork_into(cgroup);
	if (pid == 0) {
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

/* A limit by v1's controller and file, and by v2's. */
static void expect_file(const struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *v1_file, const char *v1_value, const char *v2_file,
			const char *v2_value)
{
	char text[256];

	assert_true(bh_cgroup_read(cgroup->folders[host.version == 2 ? FOLDER_UNIFIED : folder].fd, host.version == 2 ? v2_file : v1_file, text,
				   sizeof text));
	text[strcspn(text, "\n")] = '\0';
	assert_string_equal(text, host.version == 2 ? v2_value : v1_value);
}

/* --- tests ------------------------------------------------------------------------------------------------------------------- */

static const char limits[] =
	"{\"memory\":{\"limit\":33554432,\"swap\":33554432,\"reservation\":25165824},\"cpu\":{\"shares\":100,\"quota\":500000,\"period\":1000000,"
	"\"cpus\":\"0\"},\"pids\":{\"limit\":20},"
	"\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rwm\"},"
	"{\"allow\":true,\"type\":\"c\",\"major\":136,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"access\":\"m\"}]}";

static void test_scope(void **state)
{
	(void)state;
	NEED_SYSTEMD; /* before anything is allocated: skipping is a long jump */

	struct bh_spec spec = { 0 }, other = { 0 };
	bh_auto_free char *path = bh_printf("machine.slice:bh-test:%s", id), *unit = bh_printf("bh-test-%s.scope", id);
	bh_auto_free char *folder = bh_printf("/sys/fs/cgroup%s/machine.slice/%s", host.version == 2 ? "" : "/systemd", unit);
	struct bh_strv annotations = { 0 }, paths = { 0 };
	struct bh_cgroup_request request = {
		.path = path, .name = id, .resources = &spec.resources, .every_hierarchy = true, .strict = true, .systemd = true, .annotations = &annotations
	};
	struct bh_cgroup *cgroup = NULL, *again = NULL;
	static const char more[] =
		"{\"memory\":{\"limit\":67108864,\"swap\":67108864},\"pids\":{\"limit\":10},\"cpu\":{\"quota\":600000,\"period\":900000}}";
	int64_t start;
	pid_t pid;

	OK(bh_spec_parse_resources(limits, strlen(limits), &spec, &err));
	if (host.version == 2) {
		bh_strv_add(&spec.resources.unified, "memory.high=30000000");
		bh_strv_add(&spec.resources.unified, "memory.min=131072");
	}
	bh_strv_add(&annotations, "org.systemd.property.TimeoutStopUSec=uint64 123456789");
	bh_strv_add(&annotations, "org.systemd.property.CollectMode='inactive-or-failed'");
	bh_strv_add(&annotations, "org.systemd.property.After=['dbus.service', 'dbus.socket']");
	bh_strv_add(&annotations, "org.systemd.property.RuntimeMaxSec=uint32 4000");
	bh_strv_add(&annotations, "other=thing");
	start = bh_monotonic_ns();
	OK(bh_cgroup_make(&request, &cgroup, &err));
	print_message("# made in %.1f ms\n", (double)(bh_monotonic_ns() - start) / 1e6);
	assert_string_equal(bh_cgroup_unit(cgroup), unit);
	assert_int_equal(access(folder, F_OK), 0);
	pid = spawn(cgroup);
	bh_cgroup_paths(cgroup, &paths);
	/* The placeholder goes; the container's process keeps the scope alive. */
	bh_cgroup_free(cgroup);
	expect_property(unit, "ActiveState", "active");
	expect_property(unit, "Slice", "machine.slice");
	if (host.version == 2) {
		expect_property(unit, "MemoryMax", "33554432");
		expect_property(unit, "MemoryLow", "25165824");
		expect_property(unit, "MemorySwapMax", "0");
		expect_property(unit, "MemoryHigh", "30000000");
		expect_property(unit, "MemoryMin", "131072");
	} else {
		expect_property(unit, "MemoryLimit", "33554432");
	}
	expect_property(unit, "TasksMax", "20");
	expect_property(unit, "CPUQuotaPerSecUSec", "500ms");
	expect_property(unit, "CPUQuotaPeriodUSec", "1s");
	expect_property(unit, "AllowedCPUs", "0");
	expect_property(unit, "Delegate", "yes");
	expect_property(unit, "DevicePolicy", "strict");
	expect_property(unit, "TimeoutStopUSec", "2min 3.456789s");
	expect_property(unit, "RuntimeMaxUSec", "1h 6min 40s");
	expect_property(unit, "CollectMode", "inactive-or-failed");
	OK(bh_cgroup_open_paths(&paths, unit, &again, &err));
	expect_file(again, FOLDER_MEMORY, "memory.limit_in_bytes", "33554432", "memory.max", "33554432");
	expect_file(again, FOLDER_PIDS, "pids.max", "20", "pids.max", "20");
	expect_file(again, FOLDER_CPU, "cpu.cfs_quota_us", "500000", "cpu.max", "500000 1000000");
	OK(bh_spec_parse_resources(more, strlen(more), &other, &err));
	OK(bh_cgroup_update(again, &other.resources, &err));
	expect_property(unit, host.version == 2 ? "MemoryMax" : "MemoryLimit", "67108864");
	expect_property(unit, "TasksMax", "10");
	expect_property(unit, "CPUQuotaPerSecUSec", "670ms");
	expect_file(again, FOLDER_MEMORY, "memory.limit_in_bytes", "67108864", "memory.max", "67108864");
	expect_file(again, FOLDER_CPU, "cpu.cfs_period_us", "900000", "cpu.max", "600000 900000");
	bh_cgroup_free(again);
	OK(bh_cgroup_remove_paths(&paths, unit, &err));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_not_equal(access(folder, F_OK), 0);
	expect_property(unit, "LoadState", "not-found");
	/* Once more is no error. */
	OK(bh_cgroup_remove_paths(&paths, unit, &err));
	bh_strv_clear(&paths);
	bh_strv_clear(&annotations);
	bh_spec_clear(&spec);
	bh_spec_clear(&other);
}

static void test_default_name_and_slice(void **state)
{
	(void)state;
	NEED_SYSTEMD; /* before anything is allocated: skipping is a long jump */

	struct bh_spec_resources none = { 0 };
	struct bh_cgroup_request request = { .path = "", .name = id, .resources = &none, .strict = true, .systemd = true };
	bh_auto_free char *unit = bh_printf("runc-%s.scope", id);
	struct bh_cgroup *cgroup, *second = NULL;
	pid_t pid;

	OK(bh_cgroup_make(&request, &cgroup, &err));
	assert_string_equal(bh_cgroup_unit(cgroup), unit);
	pid = spawn(cgroup);
	expect_property(unit, "Slice", "system.slice");
	/* A second of the same name is refused, and the first one lives on. */
	assert_true(bh_cgroup_make(&request, &second, &err) < 0);
	assert_non_null(strstr(err.message, "UnitExists"));
	assert_int_equal(kill(pid, 0), 0);
	OK(bh_cgroup_freeze(cgroup, true, &err));
	OK(bh_cgroup_freeze(cgroup, false, &err));
	OK(bh_cgroup_kill(cgroup, &err));
	OK(bh_cgroup_destroy(cgroup, &err));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	expect_property(unit, "LoadState", "not-found");
	bh_cgroup_free(cgroup);
}

static void test_failure_leaves_no_unit(void **state)
{
	(void)state;
	NEED_SYSTEMD; /* before anything is allocated: skipping is a long jump */

	struct bh_spec_resources bad = { .hugepage_limits = &(struct bh_spec_hugepage_limit){ (char *)"64KB", 65536 }, .hugepage_limit_count = 1 };
	struct bh_spec_resources none = { 0 };
	struct bh_strv annotations = { 0 };
	struct bh_cgroup_request request = { .path = "", .name = id, .resources = &bad, .strict = true, .systemd = true, .annotations = &annotations };
	bh_auto_free char *unit = bh_printf("runc-%s.scope", id);
	struct bh_cgroup *cgroup = NULL;

	assert_true(bh_cgroup_make(&request, &cgroup, &err) < 0);
	expect_property(unit, "LoadState", "not-found");
	request.resources = &none;
	bh_strv_add(&annotations, "org.systemd.property.NoSuchThing=true");
	assert_true(bh_cgroup_make(&request, &cgroup, &err) < 0);
	assert_non_null(strstr(err.message, "unable to start unit"));
	bh_strv_clear(&annotations);
	request.path = "/a/b";
	assert_int_equal(bh_cgroup_make(&request, &cgroup, &err), -EINVAL);
	assert_non_null(strstr(err.message, "slice:prefix:name"));
	request.path = "x:y:z";
	assert_int_equal(bh_cgroup_make(&request, &cgroup, &err), -EINVAL);
	assert_non_null(strstr(err.message, "invalid slice name"));
}

/* The runtime is killed before the container is inside: the placeholder dies with it, and systemd drops the empty scope. */
static void test_killed_runtime(void **state)
{
	(void)state;
	NEED_SYSTEMD; /* before anything is allocated: skipping is a long jump */

	struct bh_spec_resources none = { 0 };
	struct bh_cgroup_request request = { .path = "", .name = id, .resources = &none, .strict = true, .systemd = true };
	bh_auto_free char *unit = bh_printf("runc-%s.scope", id);
	int64_t deadline = bh_monotonic_ns() + 30ll * 1000000000;
	int ready[2];
	char byte;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork();
	if (pid == 0) {
		struct bh_cgroup *cgroup;

		(void)!write(ready[1], bh_cgroup_make(&request, &cgroup, &err) < 0 ? "n" : "y", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	for (;;) {
		bh_auto_free char *arguments = bh_printf("show --value -p LoadState %s", unit), *is = systemctl(arguments);

		if (bh_streq(is, "not-found"))
			break;
		assert_true(bh_monotonic_ns() < deadline);
	}
}

/* As user 1000, inside that user's own tree of cgroups: 0, or the line of what failed. */
static int as_user(void)
{
	struct bh_spec_resources limits_of_user = { .pids_limit = BH_SOME(17) };
	struct bh_cgroup_request request = { .path = "", .name = id, .resources = &limits_of_user, .strict = true, .systemd = true, .rootless = true };
	struct bh_strv paths = { 0 };
	struct bh_cgroup *cgroup = NULL;
	char text[64];
	int r = bh_cgroup_make(&request, &cgroup, &err);

	/* v1 gives users nothing. */
	if (host.version == 1)
		return r == -ENOTSUP ? 0 : __LINE__;
	if (r < 0) {
		print_message("# %s\n", err.message);
		return __LINE__;
	}
	bh_cgroup_paths(cgroup, &paths);
	if (!bh_has_prefix(bh_cgroup_unit(cgroup), "user:runc-") || paths.count != 1 || !strstr(paths.items[0], "/user@1000.service/"))
		return __LINE__;
	if (!bh_cgroup_read(bh_cgroup_any_fd(cgroup), "pids.max", text, sizeof text) || !bh_streq(text, "17\n"))
		return __LINE__;
	if (bh_cgroup_kill(cgroup, &err) < 0 || bh_cgroup_destroy(cgroup, &err) < 0) {
		print_message("# %s\n", err.message);
		return __LINE__;
	}
	return 0;
}

static void test_user_manager(void **state)
{
	(void)state;
	NEED_SYSTEMD; /* before anything is allocated: skipping is a long jump */

	bh_auto_free char *started = NULL;
	int status;
	pid_t pid;

	started = systemctl("start user@1000.service");
	if (*started) {
		bh_auto_free char *why = systemctl("status --no-pager user@1000.service");

		fail_msg("%s: %s", started, why);
	}
	pid = fork();
	if (pid == 0) {
		setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1);
		if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 || setresuid(1000, 1000, 1000) < 0)
			_exit(1);
		_exit(as_user() ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	free(started);
	started = systemctl("stop user@1000.service");
	assert_int_equal(status, 0);
}

#define REAL(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		REAL(test_scope),          REAL(test_default_name_and_slice), REAL(test_failure_leaves_no_unit),
		REAL(test_killed_runtime), REAL(test_user_manager),
	};

	if (bh_cgroup_host(&host, &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
