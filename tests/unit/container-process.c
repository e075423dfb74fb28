/* SPDX-License-Identifier: Apache-2.0 */
// timeout: 300
// lab: always
/*
 * The container driver: the newer settings of `process` and how the kernel then treats it (runtime-spec config.md,
 * "process"; config-linux.md, "personality", "memory policy"). Needs root.
 */
#pragma GCC diagnostic ignored "-Wunused-function" /* of the fixture */
#include "container-test.h"

#include <sched.h>

/* nice, real-time priority and policy of the first process. */
#define SCHEDULING "cut -d' ' -f19,40,41 /proc/1/stat"

static void set_scheduler(struct bh_spec *s, const char *policy, int64_t nice, int64_t priority)
{
	free(s->process.scheduler.policy);
	s->process.scheduler.set = true;
	s->process.scheduler.policy = bh_strdup(policy);
	s->process.scheduler.nice = nice;
	s->process.scheduler.priority = priority;
}

/* Where the kernel gives no real-time time to this cgroup, nobody can have these policies. */
static bool has_realtime(void)
{
	struct sched_param p = { .sched_priority = 1 };
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(sched_setscheduler(0, SCHED_FIFO, &p) < 0);
	waitpid(pid, &status, 0);
	return status == 0;
}

static void test_scheduler(void **state)
{
	static const struct {
		const char *policy;
		int64_t nice, priority;
		const char *expected;
		bool realtime;
	} cases[] = {
		{ "SCHED_OTHER", 7, 0, "7 0 0\n", false }, { "SCHED_OTHER", -3, 0, "-3 0 0\n", false }, { "SCHED_BATCH", 2, 0, "2 0 3\n", false },
		{ "SCHED_IDLE", 0, 0, "0 0 5\n", false },  { "SCHED_FIFO", 0, 10, "0 10 1\n", true },   { "SCHED_RR", 0, 20, "0 20 2\n", true },
	};
	bool realtime = has_realtime();

	for (size_t i = 0; i < BH_ARRAY_SIZE(cases); i++) {
		struct bh_spec *s = fixture(state);

		if (cases[i].realtime && !realtime)
			continue;
		set_scheduler(s, cases[i].policy, cases[i].nice, cases[i].priority);
		assert_int_equal(run(s, SCHEDULING), 0);
		assert_string_equal(output, cases[i].expected);
	}
}

static void test_scheduler_deadline(void **state)
{
	struct bh_spec *s = fixture(state);

	if (!has_realtime())
		skip();
	set_scheduler(s, "SCHED_DEADLINE", 0, 0);
	s->process.scheduler.runtime_ns = 1000000;
	s->process.scheduler.deadline_ns = 10000000;
	s->process.scheduler.period_ns = 10000000;
	bh_strv_add(&s->process.scheduler.flags, "SCHED_FLAG_RESET_ON_FORK");
	assert_int_equal(run(s, SCHEDULING "; cut -d' ' -f41 /proc/self/stat; true"), 0);
	/* The shell has the policy, what it starts has not. */
	expect(" 6\n0\n");
}

static void test_scheduler_refused(void **state)
{
	struct bh_spec *s = fixture(state);

	set_scheduler(s, "SCHED_FAIR", 0, 0);
	assert_int_equal(run(s, "true"), 125);
	expect_error("invalid scheduler policy: SCHED_FAIR");
	set_scheduler(s, "SCHED_OTHER", 0, 0);
	bh_strv_add(&s->process.scheduler.flags, "SCHED_FLAG_NONE");
	assert_int_equal(run(s, "true"), 125);
	expect_error("invalid scheduler flag: SCHED_FLAG_NONE");
	bh_strv_clear(&s->process.scheduler.flags);
	set_scheduler(s, "SCHED_FIFO", 0, 1000);
	assert_int_equal(run(s, "true"), 125);
	expect_error("error setting scheduler");
}

static void test_io_priority(void **state)
{
	struct bh_spec *s = fixture(state);

	s->process.io_priority.set = true;
	s->process.io_priority.class = bh_strdup("IOPRIO_CLASS_BE");
	s->process.io_priority.priority = 6;
	assert_int_equal(run(s, "busybox ionice -p 1"), 0);
	assert_string_equal(output, "best-effort: prio 6\n");
	free(s->process.io_priority.class);
	s->process.io_priority.class = bh_strdup("IOPRIO_CLASS_RT");
	s->process.io_priority.priority = 0;
	assert_int_equal(run(s, "busybox ionice -p 1"), 0);
	assert_string_equal(output, "realtime: prio 0\n");
	free(s->process.io_priority.class);
	s->process.io_priority.class = bh_strdup("IOPRIO_CLASS_IDLE");
	assert_int_equal(run(s, "busybox ionice -p 1"), 0);
	expect("idle");
}

static void test_personality(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_container_process p;

	s->personality.set = true;
	s->personality.domain = bh_strdup("LINUX32");
	assert_int_equal(run(s, "busybox uname -m"), 0);
	assert_string_equal(output, "i686\n");
	set_command(s, "sleep 61");
	start(s, &p);
	assert_int_equal(exec_in(s, &p, "busybox uname -m"), 0);
	assert_string_equal(output, "i686\n");
	kill(p.pid, SIGKILL);
	finish(&p);
	s->personality.domain[5] = '\0';
	assert_int_equal(run(s, "busybox uname -m"), 0);
	assert_string_equal(output, "x86_64\n");
}

static void test_memory_policy(void **state)
{
	struct bh_spec *s = fixture(state);

	s->memory_policy.set = true;
	s->memory_policy.mode = bh_strdup("MPOL_FANCY");
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.memoryPolicy: invalid memory policy mode \"MPOL_FANCY\"");
	free(s->memory_policy.mode);
	s->memory_policy.mode = bh_strdup("MPOL_BIND");
	s->memory_policy.nodes = bh_strdup("x");
	assert_int_equal(run(s, "true"), 125);
	expect_error("invalid memory policy nodes \"x\"");
	free(s->memory_policy.nodes);
	s->memory_policy.nodes = bh_strdup("0");
	bh_strv_add(&s->memory_policy.flags, "MPOL_F_FANCY");
	assert_int_equal(run(s, "true"), 125);
	expect_error("invalid memory policy flag \"MPOL_F_FANCY\"");
	bh_strv_clear(&s->memory_policy.flags);
	bh_strv_add(&s->memory_policy.flags, "MPOL_F_STATIC_NODES");
	if (access("/proc/self/numa_maps", F_OK) < 0)
		skip();
	assert_int_equal(run(s, "grep -q bind=static:0 /proc/self/numa_maps && echo bound"), 0);
	assert_string_equal(output, "bound\n");
	free(s->memory_policy.nodes);
	s->memory_policy.nodes = bh_strdup("1023");
	assert_int_equal(run(s, "true"), 125);
	expect_error("linux.memoryPolicy: set_mempolicy MPOL_BIND");
}

/* --- exec --------------------------------------------------------------------------------------------------------- */

static int exec_process(struct bh_spec *spec, struct bh_container_process *container, struct bh_spec_process *process, const char *script)
{
	const char *const args[] = { "sh", "-c", script };
	struct bh_container_exec exec = { .init_pid = container->pid, .init_pidfd = container->pidfd, .spec = spec, .process = process, .stdio = &stdio };
	struct bh_container_process p;
	int r;

	start_output();
	bh_strv_add(&process->env, "PATH=/bin");
	for (size_t i = 0; i < BH_ARRAY_SIZE(args); i++)
		bh_strv_add(&process->args, args[i]);
	r = bh_container_exec(&exec, &p, &error);
	bh_strv_clear(&process->env);
	bh_strv_clear(&process->args);
	return r < 0 ? error.exit_code : finish(&p);
}

static void test_exec_settings(void **state)
{
	struct bh_spec *s = fixture(state);
	struct bh_spec_process process = { .cwd = (char *)"/" };
	struct bh_container_process p;
	cpu_set_t before, after;

	set_command(s, "sleep 62");
	start(s, &p);
	process.exec_cpu_affinity.initial = (char *)"0";
	process.exec_cpu_affinity.final = (char *)"1";
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
		assert_int_equal(exec_process(s, &p, &process, "grep Cpus_allowed_list /proc/self/status"), 0);
		assert_string_equal(output, "Cpus_allowed_list:\t1\n");
		process.exec_cpu_affinity.final = NULL;
		assert_int_equal(exec_process(s, &p, &process, "grep Cpus_allowed_list /proc/self/status"), 0);
		expect("0-");
		assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
		assert_memory_equal(&before, &after, sizeof before);
	}
	process.exec_cpu_affinity.initial = (char *)"8000";
	assert_int_equal(exec_process(s, &p, &process, "true"), 125);
	expect_error("process.execCPUAffinity.initial: set the CPU affinity to 8000");
	process.exec_cpu_affinity.initial = NULL;
	process.scheduler = (struct bh_spec_scheduler){ .set = true, .policy = (char *)"SCHED_BATCH", .nice = 4 };
	process.io_priority.set = true;
	process.io_priority.class = (char *)"IOPRIO_CLASS_BE";
	process.io_priority.priority = 1;
	assert_int_equal(exec_process(s, &p, &process, "cut -d' ' -f19,40,41 /proc/$$/stat; busybox ionice -p $$"), 0);
	assert_string_equal(output, "4 0 3\nbest-effort: prio 1\n");
	/* One that would be lost on the way by the clone: it comes from outside, maybe a moment later. */
	bh_strv_add(&process.scheduler.flags, "SCHED_FLAG_RESET_ON_FORK");
	assert_int_equal(exec_process(s, &p, &process, "while :; do read -r line </proc/$$/stat; set -- $line; test ${41} = 3 && break; done"), 0);
	bh_strv_clear(&process.scheduler.flags);
	kill(p.pid, SIGKILL);
	finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_scheduler),   TEST(test_scheduler_deadline), TEST(test_scheduler_refused), TEST(test_io_priority),
		TEST(test_personality), TEST(test_memory_policy),      TEST(test_exec_settings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
