/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the kernel treats the process: scheduler, I/O priority, CPU affinity, memory policy, execution domain.
 *
 * All of them are inherited over fork and execve, so the process that becomes the workload sets them for itself while it
 * still has its privileges. One case is different: a task of the deadline policy can't fork, and one that resets on
 * fork would lose its policy in the process that `exec` clones last; there the caller sets the policy of that process.
 *
 * Errors use runc's words.
 */
#include "container/container-internal.h"

#include "base/log.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <linux/mempolicy.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/syscall.h>

struct word {
	const char *name;
	uint64_t value;
};

static bool find_word(const struct word *words, size_t count, const char *name, uint64_t *ret_value)
{
	for (size_t i = 0; i < count; i++) {
		if (!bh_streq(words[i].name, name))
			continue;
		*ret_value = words[i].value;
		return true;
	}
	return false;
}

/* --- scheduler ---------------------------------------------------------------------------------------------------- */

/* struct sched_attr of sched_setattr(2): the header that has it can't be included beside <sched.h> everywhere. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t clamp_min, clamp_max;
};

#ifndef SCHED_ISO
#define SCHED_ISO 4 /* reserved by the kernel, which refuses it */
#endif

static const struct word policies[] = {
	{ "SCHED_OTHER", SCHED_NORMAL },      { "SCHED_FIFO", SCHED_FIFO }, { "SCHED_RR", SCHED_RR },
	{ "SCHED_BATCH", SCHED_BATCH },       { "SCHED_ISO", SCHED_ISO },   { "SCHED_IDLE", SCHED_IDLE },
	{ "SCHED_DEADLINE", SCHED_DEADLINE },
};

static const struct word scheduler_flags[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK },   { "SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM },
	{ "SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN },         { "SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY },
	{ "SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS },       { "SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX },
};

static int to_scheduling(const struct bh_spec_scheduler *s, struct scheduling *ret, struct bh_error *err)
{
	struct scheduling attributes = { .size = sizeof attributes,
					 .nice = (int32_t)s->nice,
					 .priority = (uint32_t)s->priority,
					 .runtime = s->runtime_ns,
					 .deadline = s->deadline_ns,
					 .period = s->period_ns };
	uint64_t value;

	if (!find_word(policies, BH_ARRAY_SIZE(policies), s->policy, &value))
		return bh_error_text(err, EINVAL, "process.scheduler: invalid scheduler policy: %.40s", s->policy);
	attributes.policy = (uint32_t)value;
	for (size_t i = 0; i < s->flags.count; i++) {
		if (!find_word(scheduler_flags, BH_ARRAY_SIZE(scheduler_flags), s->flags.items[i], &value))
			return bh_error_text(err, EINVAL, "process.scheduler: invalid scheduler flag: %.40s", s->flags.items[i]);
		attributes.flags |= value;
	}
	*ret = attributes;
	return 0;
}

static bool survives_fork(const struct scheduling *attributes)
{
	return attributes->policy != SCHED_DEADLINE && !(attributes->flags & SCHED_FLAG_RESET_ON_FORK);
}

static int set_scheduler(const struct bh_job *job, pid_t pid, struct bh_error *err)
{
	const char *cpus = job->spec->resources.cpu.cpus;
	struct scheduling attributes;
	int r = to_scheduling(&job->process->scheduler, &attributes, err);

	if (r < 0 || (job->exec && (pid != 0) == survives_fork(&attributes)))
		return r;
	if (syscall(SYS_sched_setattr, pid, &attributes, 0) < 0) {
		if (pid && errno == ESRCH)
			return 0;
		if (errno == EPERM && attributes.policy == SCHED_DEADLINE && cpus && *cpus)
			return bh_error_text(err, EPERM, "process scheduler can't be used together with AllowedCPUs");
		return bh_error_set(err, errno, "error setting scheduler");
	}
	bh_explain("scheduler", "policy", job->process->scheduler.policy);
	return 0;
}

int bh_caller_schedule(const struct bh_job *job, pid_t pid, struct bh_error *err)
{
	return job->exec && job->process->scheduler.set ? set_scheduler(job, pid, err) : 0;
}

/* --- I/O priority, personality, memory policy ---------------------------------------------------------------------- */

static int set_io_priority(const struct bh_spec_process *process, struct bh_error *err)
{
	static const struct word classes[] = {
		{ "IOPRIO_CLASS_RT", IOPRIO_CLASS_RT },
		{ "IOPRIO_CLASS_BE", IOPRIO_CLASS_BE },
		{ "IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE },
	};
	uint64_t class;

	if (!find_word(classes, BH_ARRAY_SIZE(classes), process->io_priority.class, &class))
		return bh_error_text(err, EINVAL, "process.ioPriority: invalid ioPriority.Class: \"%.40s\"", process->io_priority.class);
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << IOPRIO_CLASS_SHIFT) | (uint64_t)process->io_priority.priority) < 0)
		return bh_error_set(err, errno, "failed to set io priority");
	bh_explain("io-priority", "class", process->io_priority.class);
	return 0;
}

static int set_personality(const struct bh_spec *spec, struct bh_error *err)
{
	unsigned long domain = bh_streq(spec->personality.domain, "LINUX32") ? PER_LINUX32 : PER_LINUX;

	if (personality(domain) < 0)
		return bh_error_set(err, errno, "linux.personality: set_personality");
	bh_explain("personality", "domain", spec->personality.domain);
	return 0;
}

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5
#endif
#define MPOL_WEIGHTED_INTERLEAVE_6_9 6 /* its name is in no older header */
#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING (1 << 13)
#endif
#define NODES_MAX 1024 /* MAX_NUMNODES of the largest kernels */

struct nodes {
	unsigned long bits[NODES_MAX / (8 * sizeof(long))];
};

static void add_node(void *context, unsigned number)
{
	struct nodes *nodes = context;

	nodes->bits[number / (8 * sizeof(long))] |= 1UL << number % (8 * sizeof(long));
}

static const struct word memory_modes[] = {
	{ "MPOL_DEFAULT", MPOL_DEFAULT },
	{ "MPOL_PREFERRED", MPOL_PREFERRED },
	{ "MPOL_BIND", MPOL_BIND },
	{ "MPOL_INTERLEAVE", MPOL_INTERLEAVE },
	{ "MPOL_LOCAL", MPOL_LOCAL },
	{ "MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY },
	{ "MPOL_WEIGHTED_INTERLEAVE", MPOL_WEIGHTED_INTERLEAVE_6_9 },
};

static const struct word memory_flags[] = {
	{ "MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES },
	{ "MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES },
	{ "MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING },
};

const char *bh_memory_policy_mode(size_t index)
{
	return index < BH_ARRAY_SIZE(memory_modes) ? memory_modes[index].name : NULL;
}

const char *bh_memory_policy_flag(size_t index)
{
	return index < BH_ARRAY_SIZE(memory_flags) ? memory_flags[index].name : NULL;
}

static int to_memory_policy(const struct bh_spec *spec, uint64_t *ret_mode, struct nodes *ret_nodes, struct bh_error *err)
{
	const char *list = spec->memory_policy.nodes ? spec->memory_policy.nodes : "";
	struct nodes nodes = { 0 };
	uint64_t mode, flag;

	if (!find_word(memory_modes, BH_ARRAY_SIZE(memory_modes), spec->memory_policy.mode, &mode))
		return bh_error_text(err, EINVAL, "linux.memoryPolicy: invalid memory policy mode \"%.40s\"", spec->memory_policy.mode);
	for (size_t i = 0; i < spec->memory_policy.flags.count; i++) {
		if (!find_word(memory_flags, BH_ARRAY_SIZE(memory_flags), spec->memory_policy.flags.items[i], &flag))
			return bh_error_text(err, EINVAL, "linux.memoryPolicy: invalid memory policy flag \"%.40s\"",
					     spec->memory_policy.flags.items[i]);
		mode |= flag;
	}
	if (bh_parse_number_list(list, NODES_MAX, add_node, &nodes) < 0)
		return bh_error_text(err, EINVAL, "linux.memoryPolicy: invalid memory policy nodes \"%.100s\"", list);
	*ret_mode = mode;
	*ret_nodes = nodes;
	return 0;
}

static int set_memory_policy(const struct bh_spec *spec, struct bh_error *err)
{
	const char *list = spec->memory_policy.nodes;
	struct nodes nodes;
	uint64_t mode;
	int r = to_memory_policy(spec, &mode, &nodes, err);

	if (r < 0)
		return r;
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_set_mempolicy, (int)mode, list && *list ? nodes.bits : NULL, list && *list ? NODES_MAX + 1 : 0) < 0)
		return bh_error_set(err, errno, "linux.memoryPolicy: set_mempolicy %s", spec->memory_policy.mode);
	bh_explain("memory-policy", "mode", spec->memory_policy.mode, "nodes", list);
	return 0;
}

int bh_child_schedule(struct bh_job *job, struct bh_error *err)
{
	const struct bh_spec *spec = job->spec;
	int r = spec->personality.set ? set_personality(spec, err) : 0;

	if (r == 0 && spec->memory_policy.set)
		r = set_memory_policy(spec, err);
	if (r == 0 && job->process->io_priority.set)
		r = set_io_priority(job->process, err);
	if (r == 0 && job->process->scheduler.set)
		r = set_scheduler(job, 0, err);
	return r;
}

int bh_check_schedule(const struct bh_spec *spec, const struct bh_spec_process *process, struct bh_error *err)
{
	struct scheduling attributes;
	struct nodes nodes;
	uint64_t mode;
	int r = process->scheduler.set ? to_scheduling(&process->scheduler, &attributes, err) : 0;

	return r == 0 && spec->memory_policy.set ? to_memory_policy(spec, &mode, &nodes, err) : r;
}

/* --- CPU affinity of a further process ----------------------------------------------------------------------------- */

#define CPUS_MAX 8192

struct cpus {
	unsigned long bits[CPUS_MAX / (8 * sizeof(long))];
};

static void add_cpu(void *context, unsigned number)
{
	struct cpus *cpus = context;

	cpus->bits[number / (8 * sizeof(long))] |= 1UL << number % (8 * sizeof(long));
}

static bool given(const char *list)
{
	return list && *list;
}

/* The mask as runc's debug log has it. */
static void debug_mask(const struct cpus *cpus)
{
	bh_auto_buf struct bh_buf text = { 0 };
	size_t i = BH_ARRAY_SIZE(cpus->bits) - 1;

	while (i && !cpus->bits[i])
		i--;
	bh_buf_addf(&text, "%lx", cpus->bits[i]);
	while (i--)
		bh_buf_addf(&text, "%0*lx", (int)(2 * sizeof(long)), cpus->bits[i]);
	bh_debug("nsexec: affinity: 0x%s", text.data);
}

static int set_affinity(const char *list, const char *which, struct bh_error *err)
{
	struct cpus cpus = { 0 };

	if (bh_parse_number_list(list, CPUS_MAX, add_cpu, &cpus) < 0 || syscall(SYS_sched_setaffinity, 0, sizeof cpus, &cpus) < 0)
		return bh_error_set(err, errno, "process.execCPUAffinity.%s: set the CPU affinity to %.100s", which, list);
	bh_explain("affinity", which, list);
	debug_mask(&cpus);
	return 0;
}

/* The clone may already be the entry into the container's cgroup, so the mask must be there before. */
pid_t bh_job_clone_with_affinity(struct bh_job *job, struct bh_error *err)
{
	const char *initial = job->process->exec_cpu_affinity.initial;
	struct cpus own = { 0 };
	pid_t pid;

	if (given(initial)) {
		int r = syscall(SYS_sched_getaffinity, 0, sizeof own, &own) < 0 ? bh_error_set(err, errno, "read the CPU affinity") :
										  set_affinity(initial, "initial", err);

		if (r < 0)
			return r;
	}
	pid = bh_job_clone(job, 0, NULL);
	if (pid != 0 && given(initial))
		syscall(SYS_sched_setaffinity, 0, sizeof own, &own);
	return pid < 0 ? bh_error_set(err, -pid, "clone") : pid;
}

/* Once in the container's cgroup: for exec the final mask; without one, if there was an initial one or the caller's own shall
 * not count, all that the cgroup allows. */
int bh_child_affinity(struct bh_job *job, struct bh_error *err)
{
	const char *final = job->process->exec_cpu_affinity.final;
	bool initial = job->exec && given(job->process->exec_cpu_affinity.initial);
	struct cpus all;

	if (job->exec && given(final))
		return set_affinity(final, "final", err);
	if (!initial && !job->all_cpus)
		return 0;
	memset(&all, 0xff, sizeof all);
	if (syscall(SYS_sched_setaffinity, 0, sizeof all, &all) < 0 && initial)
		return bh_error_set(err, errno, "reset the CPU affinity");
	return 0;
}
