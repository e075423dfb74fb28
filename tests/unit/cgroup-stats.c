/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 60
// lab: always
/* All that is counted, as JSON with runc's names; out-of-memory events and the end. On the real kernel, with real load. */
#include "cgroup/cgroup-internal.h"
#include "cgroup-test.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/sched.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define MIB (1024 * 1024)

static struct bh_cgroup_host host;
static struct bh_strv made; /* folders of the present test's cgroup */

static struct bh_cgroup *make(const struct bh_spec_resources *resources)
{
	static int number;
	bh_auto_free char *path = bh_printf("/bulkhead-stats-%d-%d", (int)getpid(), number++);
	struct bh_cgroup_request request = { .path = path, .resources = resources, .every_hierarchy = true };
	struct bh_cgroup *cgroup = NULL;

	OK(bh_cgroup_make(&request, &cgroup, &err));
	bh_strv_clear(&made);
	bh_cgroup_paths(cgroup, &made);
	return cgroup;
}

/* What a test that failed in the middle leaves. */
static int clean_up(void **state)
{
	int r = bh_cgroup_remove_paths(&made, NULL, NULL);

	(void)state;
	bh_strv_clear(&made);
	return r;
}

static pid_t spawn(const struct bh_cgroup *cgroup, void (*work)(void))
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_return_code(pipe2(ready, O_CLOEXEC), errno);
	pid = fork_into(cgroup);
	if (pid == 0) {
		work();
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	(void)!read(ready[0], &byte, 1);
	close(ready[0]);
	return pid;
}

static void burn_and_take(void)
{
	char *memory = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct timespec used = { 0 };

	if (memory != MAP_FAILED)
		memset(memory, 1, 8 * MIB);
	/* Of this process alone: others may have the processors meanwhile. */
	while (used.tv_sec == 0 && used.tv_nsec < 60000000)
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
}

/* "memory.usage.usage" -> the number, or -1. */
static int64_t number_at(json_object *object, const char *path)
{
	bh_auto_free char *copy = bh_strdup(path);
	char *rest = copy, *key;

	while (object && (key = strsep(&rest, "/")))
		if (!json_object_object_get_ex(object, key, &object))
			return -1;
	return json_object_is_type(object, json_type_int) ? json_object_get_int64(object) : -1;
}

static json_object *stats_of(struct bh_cgroup *cgroup)
{
	bh_auto_buf struct bh_buf text = { 0 };
	json_object *object;

	OK(bh_cgroup_write_stats(cgroup, NULL, "[{\"Name\":\"lo\"}]", &text, &err));
	object = json_tokener_parse(text.data);
	if (!object)
		fail_msg("no JSON: %s", text.data);
	return object;
}

static void test_fields(void **state)
{
	static const char *const always[] = { "cpu/usage/kernel",         "cpu/usage/user",       "memory/usage/limit",
					      "memory/usage/failcnt",     "memory/swap/limit",    "memory/kernel/limit",
					      "memory/kernelTCP/failcnt", "cpuset/cpu_exclusive", "cpuset/sched_load_balance" };
	static const char *const objects[] = { "cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces" };
	struct bh_spec_resources r = { .pids_limit = BH_SOME(20), .memory.limit = BH_SOME(64 * MIB) };
	struct bh_cgroup *cgroup = make(&r);
	pid_t pid = spawn(cgroup, burn_and_take);
	json_object *stats = stats_of(cgroup), *part;

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(objects); i++)
		assert_true(json_object_object_get_ex(stats, objects[i], &part));
	for (size_t i = 0; i < BH_ARRAY_SIZE(always); i++)
		if (number_at(stats, always[i]) < 0)
			fail_msg("%s is missing: %s", always[i], json_object_to_json_string(stats));
	assert_true(number_at(stats, "cpu/usage/total") >= 50000000);
	assert_int_equal(number_at(stats, "pids/current"), 1);
	assert_int_equal(number_at(stats, "pids/limit"), 20);
	assert_int_equal(number_at(stats, "memory/usage/limit"), 64 * MIB);
	assert_true(number_at(stats, "memory/usage/usage") >= 8 * MIB);
	assert_true(number_at(stats, "memory/usage/max") >= 8 * MIB || host.version == 2);
	assert_true(number_at(stats, host.version == 2 ? "memory/raw/anon" : "memory/raw/rss") >= 8 * MIB);
	if (host.version == 1) {
		assert_true(json_object_object_get_ex(stats, "cpuset", &part) && json_object_object_get_ex(part, "cpus", &part));
		assert_true(json_object_array_length(part) >= 1);
	}
	json_object_put(stats);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	OK(bh_cgroup_destroy(cgroup, &err));
	struct bh_buf text = { 0 };

	assert_int_equal(bh_cgroup_write_stats(cgroup, NULL, NULL, &text, &err), -ENOENT);
	bh_buf_clear(&text);
	bh_cgroup_free(cgroup);
}

static void test_unlimited_pids_are_left_out(void **state)
{
	struct bh_spec_resources none = { 0 };
	struct bh_cgroup *cgroup = make(&none);
	json_object *stats = stats_of(cgroup);

	(void)state;
	assert_int_equal(number_at(stats, "pids/limit"), -1);
	json_object_put(stats);
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void take_all(void)
{
	char *memory = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		memset(memory, 1, 64 * MIB);
}

/* One read can tell both: what was seen counts for the next question too. */
static bool wait_for(struct bh_cgroup_watch *watch, bool want_oom)
{
	static bool seen_oom, seen_end;
	struct pollfd p = { .fd = watch->fd, .events = POLLIN };

	while (!(want_oom ? seen_oom : seen_end) && poll(&p, 1, 10000) > 0) {
		bool oom, ended;

		bh_cgroup_watch_read(watch, &oom, &ended);
		seen_oom |= oom;
		seen_end |= ended;
	}
	return want_oom ? seen_oom : seen_end;
}

static void test_watch(void **state)
{
	struct bh_spec_resources r = { .memory.limit = BH_SOME(16 * MIB), .memory.swap = BH_SOME(16 * MIB) };
	struct bh_cgroup *cgroup = make(&r);
	struct bh_cgroup_watch watch;
	pid_t pid;

	(void)state;
	OK(bh_cgroup_watch_open(cgroup, &watch, &err));
	pid = spawn(cgroup, take_all);
	assert_true(wait_for(&watch, true));
	waitpid(pid, NULL, 0);
	if (host.version == 2)
		assert_true(wait_for(&watch, false));
	OK(bh_cgroup_destroy(cgroup, &err));
	if (host.version == 1)
		assert_true(wait_for(&watch, false));
	bh_cgroup_watch_close(&watch);
	bh_cgroup_watch_close(&watch);
	bh_cgroup_free(cgroup);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_fields, clean_up),
		cmocka_unit_test_teardown(test_unlimited_pids_are_left_out, clean_up),
		cmocka_unit_test_teardown(test_watch, clean_up),
	};

	if (bh_cgroup_host(&host, &err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
