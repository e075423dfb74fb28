/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime configuration: reading, writing, defaults, and the words for what is wrong. */
#include "oci/spec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <linux/capability.h>

#include <cmocka.h>

#define MINIMAL "\"ociVersion\":\"1.2.0\""

static int parse(const char *json, struct bh_spec *spec, struct bh_error *err)
{
	bh_error_clear(err);
	return bh_spec_parse(json, strlen(json), spec, err);
}

/* Every field once; written again it must give the same text. */
static const char complete[] =
	"{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
	"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\",\"options\":[\"nosuid\"],"
	"\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":1}],\"gidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":1}]}],"
	"\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80},\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,"
	"\"additionalGids\":[5,6]},\"args\":[\"sh\"],\"env\":[\"A=b\"],\"cwd\":\"/\",\"capabilities\":{\"bounding\":[\"CAP_CHOWN\","
	"\"CAP_KILL\"],\"effective\":[\"CAP_KILL\"],\"inheritable\":[\"CAP_CHOWN\"],\"permitted\":[\"CAP_KILL\"],\"ambient\":[\"CAP_CHOWN\"]},"
	"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1,\"hard\":18446744073709551615}],\"noNewPrivileges\":true,"
	"\"apparmorProfile\":\"p\",\"selinuxLabel\":\"l\",\"oomScoreAdj\":-5,"
	"\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"nice\":3,\"flags\":[\"SCHED_FLAG_RESET_ON_FORK\"],\"runtime\":1,\"deadline\":2,"
	"\"period\":3},\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":4},"
	"\"execCPUAffinity\":{\"initial\":\"0-1\",\"final\":\"0\"}},\"hostname\":\"h\",\"domainname\":\"d\","
	"\"hooks\":{\"prestart\":[{\"path\":\"/a\",\"args\":[\"a\"],\"env\":[\"X=1\"],\"timeout\":3}],\"createRuntime\":[{\"path\":\"/b\"}],"
	"\"createContainer\":[{\"path\":\"/c\"}],\"startContainer\":[{\"path\":\"/d\"}],\"poststart\":[{\"path\":\"/e\"}],"
	"\"poststop\":[{\"path\":\"/f\"}]},\"annotations\":{\"k\":\"v=w\",\"a=b=\":\"c\",\"\":\"empty\"},"
	"\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/proc/1/ns/net\"},{\"type\":\"mount\"},"
	"{\"type\":\"user\"},{\"type\":\"time\"}],\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
	"\"gidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
	"\"timeOffsets\":{\"monotonic\":{\"secs\":-7,\"nanosecs\":8},\"boottime\":{\"secs\":9}},"
	"\"devices\":[{\"type\":\"c\",\"path\":\"/dev/x\",\"major\":1,\"minor\":3,\"fileMode\":438,\"uid\":1,\"gid\":2}],"
	"\"cgroupsPath\":\"/x\",\"resources\":{\"devices\":[{\"allow\":false,\"type\":\"a\",\"access\":\"rwm\"},"
	"{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":0,\"access\":\"r\"}],"
	"\"memory\":{\"limit\":-1,\"reservation\":1,\"swap\":2,\"kernel\":3,\"kernelTCP\":4,\"swappiness\":0,\"disableOOMKiller\":true,"
	"\"useHierarchy\":true},\"cpu\":{\"shares\":2,\"quota\":-1,\"burst\":1,\"period\":4,\"realtimeRuntime\":5,\"realtimePeriod\":6,"
	"\"cpus\":\"0\",\"mems\":\"0\",\"idle\":1},\"pids\":{\"limit\":0},\"blockIO\":{\"weight\":10,\"leafWeight\":11,"
	"\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":1,\"leafWeight\":2}],"
	"\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}],\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":2}],"
	"\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":3}],\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":4}]},"
	"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":9}],\"unified\":{\"memory.high\":\"1\"}},"
	"\"sysctl\":{\"net.core.somaxconn\":\"256\"},\"rootfsPropagation\":\"slave\",\"mountLabel\":\"m\",\"maskedPaths\":[\"/a\"],"
	"\"readonlyPaths\":[\"/b\"],\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,"
	"\"architectures\":[\"SCMP_ARCH_X86_64\"],\"flags\":[\"F\"],\"listenerPath\":\"/l\",\"listenerMetadata\":\"x\","
	"\"syscalls\":[{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"errnoRet\":2,"
	"\"args\":[{\"index\":0,\"value\":1,\"valueTwo\":2,\"op\":\"SCMP_CMP_EQ\"}]}]},"
	"\"intelRdt\":{\"closID\":\"c\",\"schemata\":[\"L3:0=f\"],\"l3CacheSchema\":\"L3:0=3\",\"memBwSchema\":\"MB:0=9\",\"enableCMT\":true,"
	"\"enableMBM\":true,\"enableMonitoring\":true},\"personality\":{\"domain\":\"LINUX32\"},"
	"\"netDevices\":{\"eth0\":{\"name\":\"inside\"},\"eth1\":{}},"
	"\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"0-1\",\"flags\":[\"MPOL_F_STATIC_NODES\"]}},"
	"\"vm\":{\"hypervisor\":{\"path\":\"/h\",\"parameters\":[\"a=b\"]},\"kernel\":{\"path\":\"/k\",\"parameters\":[\"quiet\"],\"initrd\":\"/i\"},"
	"\"image\":{\"path\":\"/m\",\"format\":\"raw\"},\"hwConfig\":{\"deviceTree\":\"/d\",\"vcpus\":2,\"memory\":4294967296,\"dtdevs\":[\"x\"],"
	"\"iomems\":[{\"firstGFN\":1,\"firstMFN\":2,\"nrMFNs\":3}],\"irqs\":[4,5]}}}";

static void test_round_trip(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec spec = { 0 };

	(void)state;
	if (parse(complete, &spec, &err) < 0)
		fail_msg("%s", err.message);
	bh_spec_write(&spec, &out);
	assert_string_equal(out.data, complete);
	bh_spec_clear(&spec);
}

static void test_values(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec s = { 0 };

	(void)state;
	assert_int_equal(parse(complete, &s, &err), 0);
	assert_true(s.has_process && s.process.terminal && s.process.console_size.set && s.process.user.umask_set);
	assert_int_equal(s.process.console_size.width, 80);
	assert_int_equal(s.process.user.additional_gids[1], 6);
	assert_true(s.process.capabilities.set);
	assert_int_equal(s.process.capabilities.bounding, 1 << CAP_CHOWN | 1 << CAP_KILL);
	assert_true(s.process.rlimits[0].hard == UINT64_MAX);
	assert_int_equal(s.process.oom_score_adj.value, -5);
	assert_int_equal(s.hooks.prestart.items[0].timeout_s, 3);
	assert_string_equal(s.annotations.items[0], "k=v=w");
	assert_string_equal(bh_map_get(&s.annotations, "k"), "v=w");
	assert_string_equal(bh_map_get(&s.annotations, "a=b="), "c");
	assert_string_equal(bh_map_get(&s.annotations, ""), "empty");
	assert_null(bh_map_get(&s.annotations, "k=v"));
	assert_null(bh_map_get(&s.annotations, "a"));
	assert_int_equal(s.process.scheduler.period_ns, 3);
	assert_string_equal(s.net_devices[0].name, "inside");
	assert_null(s.net_devices[1].name);
	assert_int_equal(s.vm.hw_config.irqs[1], 5);
	assert_true(s.vm.set && s.memory_policy.set && s.personality.set && s.intel_rdt.enable_monitoring);
	assert_true(s.namespaces[BH_NS_NETWORK].present && !s.namespaces[BH_NS_IPC].present);
	assert_string_equal(s.namespaces[BH_NS_NETWORK].path, "/proc/1/ns/net");
	assert_int_equal(s.time_offsets.monotonic_secs, -7);
	assert_int_equal(s.resources.devices[0].major, -1);
	assert_int_equal(s.resources.devices[1].minor, 0);
	assert_true(s.resources.memory.limit.set && s.resources.memory.limit.value == -1);
	assert_true(s.resources.memory.swappiness.set && s.resources.memory.swappiness.value == 0);
	assert_true(s.resources.pids_limit.set && s.resources.pids_limit.value == 0);
	assert_int_equal(s.resources.block_io.write_iops[0].rate, 4);
	assert_int_equal(s.seccomp.source, BH_SECCOMP_RULES);
	assert_int_equal(s.seccomp.rules[0].args[0].value_two, 2);
	bh_spec_clear(&s);
	assert_null(s.mounts);
}

/* What is wrong, and the JSON path the error must name. */
static const struct {
	const char *json, *words;
} wrong[] = {
	{ "", "not valid JSON" },
	{ "[]", "expected an object" },
	{ "{}", "ociVersion: is missing" },
	{ "{\"ociVersion\":1}", "ociVersion: expected a string" },
	{ "{\"ociVersion\":\"2.0.0\"}", "ociVersion: '2.0.0' is not a version 1" },
	{ "{\"ociVersion\":\"1.0\\u0000\"}", "ociVersion: holds a NUL byte" },
	{ "{" MINIMAL "} x", "not valid JSON at byte 23" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"x\"}}", "process.cwd: 'x' is not absolute" },
	{ "{" MINIMAL ",\"process\":{}}", "process.cwd: is missing" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"args\":[1]}}", "process.args[0]: expected a string" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"args\":\"sh\"}}", "process.args: expected an array" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":-1,\"gid\":0}}}", "process.user.uid: must not be negative" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":4294967296,\"gid\":0}}}", "process.user.uid: the number is too large" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":\"0\",\"gid\":0}}}", "process.user.uid: expected an integer" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"user\":{\"uid\":1.0,\"gid\":0}}}", "process.user.uid: expected an integer" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"noNewPrivileges\":1}}", "process.noNewPrivileges: expected true or false" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"period\":1}}}", "process.scheduler: scheduler runtime" },
	{ "{" MINIMAL ",\"mounts\":[{\"type\":\"proc\"}]}", "mounts[0].destination: is missing" },
	{ "{" MINIMAL ",\"hooks\":{\"poststop\":[{\"path\":\"x\"}]}}", "hooks.poststop[0].path: 'x' is not absolute" },
	{ "{" MINIMAL ",\"linux\":{\"namespaces\":[{\"type\":\"x\"}]}}", "linux.namespaces[0]: namespace {\"x\" \"\"} does not exist" },
	{ "{" MINIMAL ",\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]}}",
	  "linux.namespaces[1]: malformed spec file: duplicated ns {\"pid\" \"\"}" },
	{ "{" MINIMAL ",\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"x\"}]}}", "is not absolute" },
	{ "{" MINIMAL ",\"linux\":{\"resources\":{\"memory\":{\"limit\":9223372036854775808}}}}",
	  "linux.resources.memory.limit: the number is too large" },
	{ "{" MINIMAL ",\"linux\":{\"resources\":{\"memory\":{\"limit\":\"1\"}}}}", "linux.resources.memory.limit: expected an integer" },
	{ "{" MINIMAL ",\"linux\":{\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"x\"}]}}}",
	  "linux.resources.devices[0].access: expected letters" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"scheduler\":{\"nice\":1}}}", "scheduler policy is required" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"nice\":20}}}",
	  "invalid scheduler.nice: 20 when scheduler.policy is SCHED_BATCH" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"priority\":1}}}",
	  "scheduler.priority can only be specified for SchedFIFO or SchedRR" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":8}}}",
	  "process.ioPriority: invalid ioPriority.Priority: 8" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"ioPriority\":{\"class\":\"x\"}}}", "invalid ioPriority.Class: \"x\"" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"execCPUAffinity\":{\"initial\":\"1-0\"}}}",
	  "process.execCPUAffinity.initial: '1-0' is not a list of CPUs" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"execCPUAffinity\":{\"final\":\"0,\"}}}", "process.execCPUAffinity.final: '0,'" },
	{ "{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"execCPUAffinity\":{\"final\":\"99999\"}}}", "is not a list of CPUs" },
	{ "{" MINIMAL
	  ",\"process\":{\"cwd\":\"/\",\"rlimits\":[{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0},{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0}]}}",
	  "process.rlimits[1].type: RLIMIT_CORE is listed twice" },
	{ "{" MINIMAL ",\"linux\":{\"personality\":{\"domain\":\"HURD\"}}}", "linux.personality: invalid personality domain HURD" },
	{ "{" MINIMAL ",\"linux\":{\"personality\":{\"domain\":\"LINUX\",\"flags\":[\"x\"]}}}", "linux.personality.flags: 'x' is not supported" },
	{ "{" MINIMAL ",\"linux\":{\"intelRdt\":{\"closID\":\"../x\"}}}", "linux.intelRdt: invalid intelRdt.ClosID \"../x\"" },
	{ "{" MINIMAL ",\"linux\":{\"netDevices\":{\"eth0\":{}}}}", "linux.netDevices: unable to move network devices without a private NET namespace" },
	{ "{" MINIMAL ",\"linux\":{\"netDevices\":{\"eth/0\":{}}}}", "invalid network device name \"eth/0\"" },
	{ "{" MINIMAL ",\"linux\":{\"netDevices\":{\"eth0\":{\"name\":\"0123456789abcdef\"}}}}", "linux.netDevices.eth0: invalid network device name" },
	{ "{" MINIMAL ",\"linux\":{\"netDevices\":{\"a\":{\"name\":\"c\"},\"b\":{\"name\":\"c\"}}}}", "two devices would be named \"c\"" },
	{ "{" MINIMAL ",\"linux\":{\"memoryPolicy\":{}}}", "linux.memoryPolicy.mode: is missing" },
	{ "{" MINIMAL ",\"linux\":{\"timeOffsets\":{\"realtime\":{\"secs\":1}}}}", "linux.timeOffsets.realtime: is no clock" },
	{ "{" MINIMAL ",\"linux\":{\"timeOffsets\":{\"monotonic\":{\"secs\":1}}}}", "time namespace isn't enabled in the config" },
	{ "{" MINIMAL ",\"linux\":{\"timeOffsets\":{\"monotonic\":{\"nanosecs\":1000000000}}}}", "nanosecs must be below one second" },
	{ "{" MINIMAL ",\"linux\":{\"rootfsPropagation\":\"public\"}}", "rootfsPropagation=public is not supported" },
	{ "{" MINIMAL ",\"linux\":{\"devices\":[{\"path\":\"/dev/x\"}]}}", "linux.devices[0].type" },
	{ "{" MINIMAL ",\"linux\":{\"uidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":1}]}}", "user namespace isn't enabled" },
	{ "{" MINIMAL ",\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", "not valid JSON" },
};

static void test_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < BH_ARRAY_SIZE(wrong); i++) {
		struct bh_error err = BH_ERROR_INIT;
		struct bh_spec spec = { 0 };

		if (parse(wrong[i].json, &spec, &err) >= 0)
			fail_msg("%s is accepted", wrong[i].json);
		if (!strstr(err.message, wrong[i].words))
			fail_msg("%s: got '%s', expected '%s'", wrong[i].json, err.message, wrong[i].words);
		assert_null(spec.oci_version);
	}
}

static void test_ignored(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec s = { 0 };

	(void)state;
	/* Unknown names, other platforms, empty objects, and null. */
	assert_int_equal(
		parse("{" MINIMAL
		      ",\"unknown\":{},\"windows\":{\"x\":1},\"hostname\":null,\"linux\":{\"intelRdt\":{},\"personality\":null},\"zos\":{\"x\":1},\"solaris\":{},\"process\":{\"cwd\":\"/\",\"commandLine\":\"x\",\"user\":{\"uid\":0,\"gid\":0,\"username\":\"x\"}}}",
		      &s, &err),
		0);
	assert_null(s.hostname);
	bh_spec_clear(&s);
	assert_int_equal(parse("{" MINIMAL ",\"process\":{\"cwd\":\"/\",\"capabilities\":{\"bounding\":[\"CAP_FUTURE\",\"CAP_KILL\"]}}}", &s, &err), 0);
	assert_int_equal(s.process.capabilities.bounding, 1 << CAP_KILL);
	bh_spec_clear(&s);
}

static void test_relative_destination(void **state)
{
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec s = { 0 };

	(void)state;
	assert_int_equal(parse("{" MINIMAL ",\"mounts\":[{\"destination\":\"tmp\"}]}", &s, &err), 0);
	assert_string_equal(s.mounts[0].destination, "/tmp");
	bh_spec_clear(&s);
}

static void add_bit(void *context, unsigned number)
{
	*(uint64_t *)context |= UINT64_C(1) << number;
}

static void test_number_lists(void **state)
{
	static const char *const bad[] = { "x", "1-", "-1", "1,,2", ",1", "1,", "2-1", "64", "18446744073709551616", "1 ", "0x1", "1-2-3" };
	uint64_t set = 0;

	(void)state;
	assert_int_equal(bh_parse_number_list("0-2,7,63", 64, add_bit, &set), 0);
	assert_true(set == (UINT64_C(7) | UINT64_C(1) << 7 | UINT64_C(1) << 63));
	assert_int_equal(bh_parse_number_list("", 64, add_bit, &set), 0);
	for (size_t i = 0; i < BH_ARRAY_SIZE(bad); i++)
		assert_int_equal(bh_parse_number_list(bad[i], 64, NULL, NULL), -EINVAL);
}

static void test_process_alone(void **state)
{
	static const char json[] = "{\"cwd\":\"/\",\"args\":[\"sh\"],\"scheduler\":{\"policy\":\"SCHED_RR\",\"priority\":5}}";
	static const char bad[] = "{\"cwd\":\"x\"}";
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec_process p = { 0 };

	(void)state;
	assert_int_equal(bh_spec_parse_process(json, strlen(json), &p, &err), 0);
	assert_string_equal(p.args.items[0], "sh");
	assert_int_equal(p.scheduler.priority, 5);
	bh_spec_process_clear(&p);
	assert_true(bh_spec_parse_process(bad, strlen(bad), &p, &err) < 0);
	assert_string_equal(err.message, "process.cwd: 'x' is not absolute");
	assert_true(bh_spec_parse_process("{}", 2, &p, &err) < 0);
	assert_string_equal(err.message, "process.cwd: is missing");
}

static void test_size_limit(void **state)
{
	bh_auto_free char *large = bh_calloc(1, BH_SPEC_JSON_MAX + 2);
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec s = { 0 };

	(void)state;
	memset(large, ' ', BH_SPEC_JSON_MAX + 1);
	assert_true(bh_spec_parse(large, BH_SPEC_JSON_MAX + 1, &s, &err) < 0);
	assert_non_null(strstr(err.message, "larger than"));
}

static void test_defaults(void **state)
{
	bh_auto_buf struct bh_buf out = { 0 };
	struct bh_error err = BH_ERROR_INIT;
	struct bh_spec s = { 0 }, again = { 0 };

	(void)state;
	bh_spec_default(&s);
	/* Docker's fourteen: the value a container shows in /proc/self/status. */
	assert_true(s.process.capabilities.effective == 0xa80425fb);
	assert_non_null(bh_spec_find_mount(&s, "/dev/shm/"));
	assert_non_null(bh_spec_find_mount(&s, "//sys/./fs/cgroup"));
	bh_spec_remove_mount(&s, "/dev/shm");
	assert_null(bh_spec_find_mount(&s, "/dev/shm"));
	bh_spec_write(&s, &out);
	if (bh_spec_parse(out.data, out.length, &again, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(again.seccomp.source, BH_SECCOMP_DEFAULT);
	assert_int_equal(again.annotations.count, 0);
	bh_spec_privileged(&s);
	assert_int_equal(s.seccomp.source, BH_SECCOMP_NONE);
	assert_int_equal(s.masked_paths.count, 0);
	assert_false(bh_strv_contains(&bh_spec_find_mount(&s, "/sys")->options, "ro"));
	assert_true(s.process.capabilities.bounding == bh_capability_all_set());
	bh_spec_clear(&s);
	bh_spec_clear(&again);
}

static void test_capability_names(void **state)
{
	(void)state;
	assert_int_equal(bh_capability_number("CAP_SYS_ADMIN"), CAP_SYS_ADMIN);
	assert_int_equal(bh_capability_number("net_raw"), CAP_NET_RAW);
	assert_int_equal(bh_capability_number("CAP_CHECKPOINT_RESTORE"), CAP_LAST_CAP);
	assert_int_equal(bh_capability_number("CAP_"), -1);
	assert_int_equal(bh_capability_number("x"), -1);
	assert_string_equal(bh_capability_name(CAP_BPF), "CAP_BPF");
	assert_null(bh_capability_name(CAP_LAST_CAP + 1));
	assert_null(bh_capability_name(-1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_size_limit),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_capability_names),
		cmocka_unit_test(test_relative_destination),
		cmocka_unit_test(test_number_lists),
		cmocka_unit_test(test_process_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
