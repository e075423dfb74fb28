/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 60
// lab: always
/* linux.resources as an OCI runtime takes them: read from JSON, planned for both versions, applied strictly, changed while the
 * container runs. */
#include "cgroup/cgroup-internal.h"
#include "cgroup-test.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
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

#define MIB (1024ll * 1024)

static struct bh_cgroup_host host;
static struct bh_strv made; /* folders of the present test's cgroup */

static struct bh_spec parse(const char *json)
{
	struct bh_spec spec = { 0 };

	OK(bh_spec_parse_resources(json, strlen(json), &spec, &err));
	return spec;
}

/* "file=value file=value " of one controller. */
static char *planned(enum bh_cgroup_folder controller, int version, const struct bh_spec *spec)
{
	struct bh_cgroup_writes writes = { 0 };
	struct bh_buf text = { 0 };

	OK(bh_cgroup_plan(controller, NULL, version, &spec->resources, &writes, &err));
	for (size_t n = 0; n < writes.count; n++)
		bh_buf_addf(&text, "%s=%s ", writes.items[n].file, writes.items[n].value);
	bh_cgroup_writes_clear(&writes);
	return bh_buf_take(&text);
}

static void test_plans(void **state)
{
	static const struct {
		const char *json;
		enum bh_cgroup_folder controller;
		int version;
		const char *expected;
	} cases[] = {
		{ "{\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":10000},\"b\":{\"hcaObjects\":0}}}", FOLDER_RDMA, 1,
		  "rdma.max=mlx5_1 hca_handle=3 hca_object=10000 rdma.max=b hca_object=0 " },
		{ "{\"rdma\":{\"mlx4_0\":{}}}", FOLDER_RDMA, 2, "" },
		{ "{\"network\":{\"classID\":1048577}}", FOLDER_NET_CLS, 1, "net_cls.classid=1048577 " },
		{ "{\"network\":{\"priorities\":[{\"name\":\"eth0\",\"priority\":500},{\"name\":\"eth1\",\"priority\":1}]}}", FOLDER_NET_PRIO, 1,
		  "net_prio.ifpriomap=eth0 500 net_prio.ifpriomap=eth1 1 " },
		{ "{\"cpu\":{\"idle\":1,\"shares\":100}}", FOLDER_CPU, 2, "cpu.idle=1 " },
		{ "{\"cpu\":{\"idle\":0,\"shares\":1024}}", FOLDER_CPU, 2, "cpu.idle=0 cpu.weight=100 " },
		{ "{\"cpu\":{\"burst\":500,\"period\":100000,\"quota\":2000,\"realtimeRuntime\":5,\"realtimePeriod\":10}}", FOLDER_CPU, 1,
		  "cpu.rt_period_us=10 cpu.rt_runtime_us=5 cpu.cfs_period_us=100000 cpu.cfs_quota_us=2000 cpu.cfs_burst_us=500 " },
		{ "{\"memory\":{\"limit\":100,\"swap\":100}}", FOLDER_MEMORY, 2, "memory.swap.max=0 memory.max=100 " },
		{ "{\"memory\":{\"limit\":-1}}", FOLDER_MEMORY, 1, "memory.limit_in_bytes=-1 memory.memsw.limit_in_bytes=-1 " },
		{ "{\"memory\":{\"swappiness\":18446744073709551615,\"disableOOMKiller\":true,\"useHierarchy\":true}}", FOLDER_MEMORY, 1,
		  "memory.oom_control=1 " },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4096}]}", FOLDER_HUGETLB, 2, "hugetlb.2MB.max=4096 hugetlb.2MB.rsvd.max=4096 " },
		{ "{\"blockIO\":{\"weight\":750}}", FOLDER_BLKIO, 2, "io.bfq.weight=750 io.weight=default 7475 " },
	};

	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec spec = parse(cases[i].json);
		bh_auto_free char *text = planned(cases[i].controller, cases[i].version, &spec);

		assert_string_equal(text, cases[i].expected);
		bh_spec_clear(&spec);
	}
}

static void test_refusals(void **state)
{
	static const struct {
		const char *json;
		enum bh_cgroup_folder controller;
		int version;
		const char *words;
	} cases[] = {
		{ "{\"network\":{\"priorities\":[{\"name\":\"a b\",\"priority\":1}]}}", FOLDER_NET_PRIO, 1, "no interface's name" },
		{ "{\"network\":{\"classID\":4294967296}}", FOLDER_NET_CLS, 1, "32 bits" },
		{ "{\"network\":{\"classID\":1}}", FOLDER_NET_CLS, 2, "cgroup v2 has no such setting" },
		{ "{\"memory\":{\"swappiness\":101}}", FOLDER_MEMORY, 1, "valid memory swappiness range is 0-100" },
		{ "{\"memory\":{\"swap\":101}}", FOLDER_MEMORY, 2, "unable to set swap limit without memory limit" },
		{ "{\"memory\":{\"limit\":102,\"swap\":101}}", FOLDER_MEMORY, 2, "memory+swap limit should be >= memory limit" },
		{ "{\"cpu\":{\"shares\":1}}", FOLDER_CPU, 1, "the minimum allowed cpu-shares is 2" },
		{ "{\"cpu\":{\"shares\":262145}}", FOLDER_CPU, 1, "the maximum allowed cpu-shares is 262144" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"../2MB\",\"limit\":1}]}", FOLDER_HUGETLB, 1, "bad page size" },
	};
	static const char *const bad[] = { "{\"rdma\":[]}",
					   "{\"rdma\":{\"a b\":{}}}",
					   "{\"rdma\":{\"\":{}}}",
					   "{\"rdma\":{\"a\":{\"hcaHandles\":-1}}}",
					   "{\"network\":{\"classID\":\"x\"}}",
					   "{\"memory\":{\"checkBeforeUpdate\":1}}" };
	struct bh_cgroup strict = { .strict = true, .root_fd = -1 };
	struct bh_spec spec = { 0 };

	(void)state;
	for (size_t i = 0; i < FOLDER_COUNT; i++)
		strict.folders[i].fd = -1;
	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec parsed = parse(cases[i].json);
		struct bh_cgroup_writes writes = { 0 };

		assert_true(bh_cgroup_plan(cases[i].controller, &strict, cases[i].version, &parsed.resources, &writes, &err) < 0);
		if (!strstr(err.message, cases[i].words))
			fail_msg("%s", err.message);
		bh_cgroup_writes_clear(&writes);
		bh_spec_clear(&parsed);
	}
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++)
		assert_true(bh_spec_parse_resources(bad[i], strlen(bad[i]), &spec, &err) < 0);
}

/* What is read is written again. */
static void test_written_again(void **state)
{
	static const char config[] = "{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"resources\":{\"memory\":{\"checkBeforeUpdate\":true},"
				     "\"network\":{\"classID\":7,\"priorities\":[{\"name\":\"eth0\",\"priority\":0}]},"
				     "\"rdma\":{\"hfi\":{\"hcaObjects\":5}}}}}";
	struct bh_spec spec, again;
	bh_auto_buf struct bh_buf text = { 0 };

	(void)state;
	OK(bh_spec_parse(config, strlen(config), &spec, &err));
	bh_spec_write(&spec, &text);
	OK(bh_spec_parse(text.data, text.length, &again, &err));
	assert_true(again.resources.memory.check_before_update);
	assert_int_equal(again.resources.network.class_id.value, 7);
	assert_int_equal(again.resources.network.priority_count, 1);
	assert_string_equal(again.resources.network.priorities[0].name, "eth0");
	assert_int_equal(again.resources.rdma_count, 1);
	assert_string_equal(again.resources.rdma[0].device, "hfi");
	assert_false(again.resources.rdma[0].hca_handles.set);
	assert_int_equal(again.resources.rdma[0].hca_objects.value, 5);
	bh_spec_clear(&spec);
	bh_spec_clear(&again);
}

/* --- on the real kernel ------------------------------------------------------------------------------------------------- */

static struct bh_cgroup *make(const struct bh_spec_resources *resources)
{
	static int number;
	bh_auto_free char *path = bh_printf("/bulkhead-resources-%d-%d", (int)getpid(), number++);
	struct bh_cgroup_request request = { .path = path, .resources = resources, .every_hierarchy = true, .strict = true };
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

static void remove_it(struct bh_cgroup *cgroup)
{
	OK(bh_cgroup_destroy(cgroup, &err));
	bh_cgroup_free(cgroup);
}

static void expect(struct bh_cgroup *cgroup, enum bh_cgroup_folder folder, const char *v1_file, const char *v1_value, const char *v2_file,
		   const char *v2_value)
{
	char text[256];
	const char *file = host.version == 2 ? v2_file : v1_file, *value = host.version == 2 ? v2_value : v1_value;

	if (!file)
		return;
	assert_true(bh_cgroup_read(cgroup->folders[host.version == 2 ? FOLDER_UNIFIED : folder].fd, file, text, sizeof text));
	text[strcspn(text, "\n")] = '\0';
	assert_string_equal(text, value);
}

static void update(struct bh_cgroup *cgroup, const char *json)
{
	struct bh_spec spec = parse(json);

	OK(bh_cgroup_update(cgroup, &spec.resources, &err));
	bh_spec_clear(&spec);
}

static void test_memory_and_swap_up_and_down(void **state)
{
	struct bh_spec spec = parse("{\"memory\":{\"limit\":31457280,\"swap\":52428800}}");
	struct bh_cgroup *cgroup = make(&spec.resources);

	(void)state;
	bh_spec_clear(&spec);
	expect(cgroup, FOLDER_MEMORY, "memory.memsw.limit_in_bytes", "52428800", "memory.swap.max", "20971520");
	update(cgroup, "{\"memory\":{\"limit\":62914560,\"swap\":83886080}}");
	expect(cgroup, FOLDER_MEMORY, "memory.limit_in_bytes", "62914560", "memory.max", "62914560");
	expect(cgroup, FOLDER_MEMORY, "memory.memsw.limit_in_bytes", "83886080", "memory.swap.max", "20971520");
	update(cgroup, "{\"memory\":{\"limit\":31457280,\"swap\":31457280}}");
	expect(cgroup, FOLDER_MEMORY, "memory.limit_in_bytes", "31457280", "memory.max", "31457280");
	expect(cgroup, FOLDER_MEMORY, "memory.memsw.limit_in_bytes", "31457280", "memory.swap.max", "0");
	update(cgroup, "{\"memory\":{\"limit\":-1}}");
	expect(cgroup, FOLDER_MEMORY, "memory.limit_in_bytes", "9223372036854771712", "memory.max", "max");
	expect(cgroup, FOLDER_MEMORY, "memory.memsw.limit_in_bytes", "9223372036854771712", "memory.swap.max", "max");
	remove_it(cgroup);
}

static void test_quota_and_period(void **state)
{
	struct bh_spec spec = parse("{\"cpu\":{\"quota\":500000,\"period\":1000000,\"shares\":100}}");
	struct bh_cgroup *cgroup = make(&spec.resources);

	(void)state;
	bh_spec_clear(&spec);
	update(cgroup, "{\"cpu\":{\"period\":900000}}");
	expect(cgroup, FOLDER_CPU, "cpu.cfs_quota_us", "500000", "cpu.max", "500000 900000");
	update(cgroup, "{\"cpu\":{\"quota\":600000}}");
	expect(cgroup, FOLDER_CPU, "cpu.cfs_period_us", "900000", "cpu.max", "600000 900000");
	update(cgroup, "{\"cpu\":{\"quota\":-1}}");
	expect(cgroup, FOLDER_CPU, "cpu.cfs_quota_us", "-1", "cpu.max", "max 900000");
	update(cgroup, "{\"cpu\":{\"quota\":5000,\"period\":10000,\"burst\":2500}}");
	expect(cgroup, FOLDER_CPU, "cpu.cfs_burst_us", "2500", "cpu.max.burst", "2500");
	/* A burst above the quota that is set now, but not above the new one; and down again. */
	update(cgroup, "{\"cpu\":{\"burst\":9000,\"quota\":20000,\"period\":100000}}");
	update(cgroup, "{\"cpu\":{\"burst\":0,\"quota\":1000}}");
	expect(cgroup, FOLDER_CPU, "cpu.cfs_quota_us", "1000", "cpu.max", "1000 100000");
	for (int i = 0; i < 3; i++) {
		update(cgroup, "{\"cpu\":{\"idle\":1,\"shares\":200}}");
		expect(cgroup, FOLDER_CPU, "cpu.idle", "1", "cpu.idle", "1");
		update(cgroup, "{\"cpu\":{\"idle\":0,\"shares\":200}}");
		expect(cgroup, FOLDER_CPU, "cpu.shares", "200", "cpu.idle", "0");
	}
	remove_it(cgroup);
}

/* A child in the cgroup that holds memory, or opens a device again and again, until it is killed. */
static pid_t spawn(const struct bh_cgroup *cgroup, void (*work)(int), int *ret_fd)
{
	int out[2];
	char byte = 0;
	pid_t pid;

	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	pid = fork_into(cgroup);
	if (pid == 0) {
		work(out[1]);
		_exit(0);
	}
	close(out[1]);
	assert_int_equal(read(out[0], &byte, 1), 1);
	*ret_fd = out[0];
	return pid;
}

__attribute__((noreturn)) static void hold_memory(int fd)
{
	char *memory = mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		memset(memory, 1, 16 * MIB);
	(void)!write(fd, "r", 1);
	for (;;)
		pause();
}

static void test_check_before_update(void **state)
{
	struct bh_spec none = { 0 }, low = parse("{\"memory\":{\"limit\":8388608,\"checkBeforeUpdate\":true}}");
	struct bh_cgroup *cgroup = make(&none.resources);
	int fd;
	pid_t pid = spawn(cgroup, hold_memory, &fd);

	(void)state;
	assert_true(bh_cgroup_update(cgroup, &low.resources, &err) < 0);
	assert_non_null(strstr(err.message, "rejecting memory limit 8388608 <= usage "));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(fd);
	bh_spec_clear(&low);
	remove_it(cgroup);
}

/* /dev/null stays allowed through all changes: not one open may fail. Writes '-' if one does, 'z' for each open of /dev/zero. */
static void open_devices(int fd)
{
	(void)!write(fd, "r", 1);
	for (;;) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC), zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

		if (null < 0)
			(void)!write(fd, "-", 1);
		if (zero >= 0)
			(void)!write(fd, "z", 1);
		close(null);
		close(zero);
	}
}

static void test_device_rules_change(void **state)
{
	static const char with[] =
		"{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rwm\"},"
		"{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":5,\"access\":\"r\"}]}";
	static const char without[] =
		"{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rw\"}]}";
	struct bh_spec spec = parse(without);
	struct bh_cgroup *cgroup = make(&spec.resources);
	char seen[65536];
	ssize_t n;
	int fd;
	pid_t pid = spawn(cgroup, open_devices, &fd);

	(void)state;
	bh_spec_clear(&spec);
	for (int i = 0; i < 20; i++) {
		update(cgroup, with);
		assert_true(read(fd, seen, 1) == 1);
		assert_int_equal(*seen, 'z');
		update(cgroup, without);
	}
	/* What was written before the last change is old; then nothing more comes. */
	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((n = read(fd, seen, sizeof seen)) > 0)
		assert_null(memchr(seen, '-', (size_t)n));
	kill(pid, SIGCONT);
	for (int i = 0; i < 50; i++)
		sched_yield();
	assert_true(read(fd, seen, sizeof seen) <= 1);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(fd);
	remove_it(cgroup);
}

/* A wide rule comes and goes: what the narrow one beside it allows stays. */
static void test_wide_device_rules(void **state)
{
	static const char wide[] = "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"access\":\"rwm\"}]}";
	static const char narrow[] =
		"{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":3,\"access\":\"rwm\"}]}";
	struct bh_spec spec = parse(wide);
	struct bh_cgroup *cgroup = make(&spec.resources);
	char seen[65536];
	ssize_t n;
	int fd;
	pid_t pid = spawn(cgroup, open_devices, &fd);

	(void)state;
	bh_spec_clear(&spec);
	for (int i = 0; i < 10; i++) {
		update(cgroup, narrow);
		update(cgroup, wide);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	while ((n = read(fd, seen, sizeof seen)) > 0)
		assert_null(memchr(seen, '-', (size_t)n));
	close(fd);
	remove_it(cgroup);
}

/* Does one of the exceptions allow all of it? */
static bool allows(const struct bh_device_set *set, const struct bh_spec_device_rule *rule)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct bh_spec_device_rule *e = &set->exceptions[i];

		if (e->type == rule->type && (e->major < 0 || e->major == rule->major) && (e->minor < 0 || e->minor == rule->minor) &&
		    rule->access[strspn(rule->access, e->access)] == '\0')
			return true;
	}
	return false;
}

static void test_runtime_rules(void **state)
{
	struct bh_spec_device own = { .path = (char *)"/dev/full", .type = 'c', .major = 9, .minor = 9 };
	struct bh_spec spec = parse("{\"devices\":[{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"r\"}]}");
	struct bh_spec_device_rule null = { true, 'c', 1, 3, "rwm" }, full = { true, 'c', 1, 7, "r" }, disk = { true, 'b', 8, 1, "rm" },
				   kmsg = { true, 'c', 1, 11, "r" };
	struct bh_device_set set;

	(void)state;
	spec.devices = &own;
	spec.device_count = 1;
	bh_cgroup_add_runtime_device_rules(&spec);
	OK(bh_device_set_from_rules(spec.resources.devices, spec.resources.device_count, &set, &err));
	assert_false(set.allow_all);
	assert_true(allows(&set, &null));
	assert_false(allows(&set, &full));
	assert_false(allows(&set, &kmsg));
	snprintf(disk.access, sizeof disk.access, "r");
	assert_true(allows(&set, &disk));
	bh_device_set_clear(&set);
	spec.devices = NULL;
	spec.device_count = 0;
	bh_spec_clear(&spec);
	OK(bh_device_set_from_list("c 1:3 rwm\nb *:* m\nc 136:* rw\n", &set, &err));
	assert_int_equal(set.count, 3);
	bh_device_set_clear(&set);
	OK(bh_device_set_from_list("a *:* rwm\n", &set, &err));
	assert_true(set.allow_all);
	assert_true(bh_device_set_from_list("c 1;3 rwm\n", &set, &err) < 0);
}

/* In strict mode a controller that isn't there is an error with its name. */
static void test_strict(void **state)
{
	struct bh_spec spec = parse("{\"hugepageLimits\":[{\"pageSize\":\"64KB\",\"limit\":65536}]}");
	bh_auto_free char *path = bh_printf("/bulkhead-resources-%d-strict", (int)getpid());
	struct bh_cgroup_request request = { .path = path, .resources = &spec.resources, .every_hierarchy = true, .strict = true };
	struct bh_cgroup *cgroup = NULL;

	(void)state;
	assert_true(bh_cgroup_make(&request, &cgroup, &err) < 0);
	assert_non_null(strstr(err.message, "hugetlb.64KB."));
	bh_spec_clear(&spec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_plans, clean_up),
		cmocka_unit_test_teardown(test_refusals, clean_up),
		cmocka_unit_test_teardown(test_written_again, clean_up),
		cmocka_unit_test_teardown(test_memory_and_swap_up_and_down, clean_up),
		cmocka_unit_test_teardown(test_quota_and_period, clean_up),
		cmocka_unit_test_teardown(test_check_before_update, clean_up),
		cmocka_unit_test_teardown(test_device_rules_change, clean_up),
		cmocka_unit_test_teardown(test_wide_device_rules, clean_up),
		cmocka_unit_test_teardown(test_runtime_rules, clean_up),
		cmocka_unit_test_teardown(test_strict, clean_up),
	};

	if (bh_cgroup_host(&host, &err) < 0)
		return 1;
	bh_log_set_level(BH_LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
