/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The newer objects of `process` (runtime-spec config.md): scheduler, ioPriority, execCPUAffinity; and the checks that
 * hold for the process of a container as well as for one that `exec` adds. What is wrong is told in runc's words where
 * runc has some.
 */
#include "oci/spec-internal.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>

const struct bh_field bh_spec_scheduler_fields[] = {
	FIELD("policy", STRING, bh_spec_process, scheduler.policy),   FIELD("nice", I64, bh_spec_process, scheduler.nice),
	FIELD("priority", I64, bh_spec_process, scheduler.priority),  FIELD("flags", STRINGS, bh_spec_process, scheduler.flags),
	FIELD("runtime", U64, bh_spec_process, scheduler.runtime_ns), FIELD("deadline", U64, bh_spec_process, scheduler.deadline_ns),
	FIELD("period", U64, bh_spec_process, scheduler.period_ns),   { 0 },
};

const struct bh_field bh_spec_io_priority_fields[] = {
	NEEDED("class", STRING, bh_spec_process, io_priority.class),
	FIELD("priority", I64, bh_spec_process, io_priority.priority),
	{ 0 },
};

const struct bh_field bh_spec_affinity_fields[] = {
	FIELD("initial", STRING, bh_spec_process, exec_cpu_affinity.initial),
	FIELD("final", STRING, bh_spec_process, exec_cpu_affinity.final),
	{ 0 },
};

/* --- lists of numbers --------------------------------------------------------------------------------------------- */

static const char *parse_one(const char *text, unsigned max, unsigned *ret_number)
{
	uint64_t number = 0;

	if (!isdigit((unsigned char)*text))
		return NULL;
	for (; isdigit((unsigned char)*text); text++) {
		number = number * 10 + (unsigned)(*text - '0');
		if (number >= max)
			return NULL;
	}
	*ret_number = (unsigned)number;
	return text;
}

int bh_parse_number_list(const char *text, unsigned max, void (*add)(void *context, unsigned number), void *context)
{
	while (*text) {
		unsigned first = 0, last;

		text = parse_one(text, max, &first);
		last = first;
		if (text && *text == '-')
			text = parse_one(text + 1, max, &last);
		if (!text || last < first || (*text && (*text != ',' || !text[1])))
			return -EINVAL;
		for (unsigned n = first; add && n <= last; n++)
			add(context, n);
		text += *text == ',';
	}
	return 0;
}

/* --- checks ------------------------------------------------------------------------------------------------------- */

static int check_scheduler(const struct bh_spec_scheduler *s, struct bh_error *err)
{
	bool fixed = bh_streq(s->policy, "SCHED_FIFO") || bh_streq(s->policy, "SCHED_RR");
	bool shared = bh_streq(s->policy, "SCHED_OTHER") || bh_streq(s->policy, "SCHED_BATCH");

	if (!s->set)
		return 0;
	if (!s->policy || !*s->policy)
		return bh_error_text(err, EINVAL, "process.scheduler: scheduler policy is required");
	if (shared && (s->nice < -20 || s->nice > 19))
		return bh_error_text(err, EINVAL, "process.scheduler: invalid scheduler.nice: %lld when scheduler.policy is %s", (long long)s->nice,
				     s->policy);
	if (s->priority && !fixed)
		return bh_error_text(err, EINVAL, "process.scheduler: scheduler.priority can only be specified for SchedFIFO or SchedRR policy");
	if (!bh_streq(s->policy, "SCHED_DEADLINE") && (s->runtime_ns || s->deadline_ns || s->period_ns))
		return bh_error_text(err, EINVAL,
				     "process.scheduler: scheduler runtime/deadline/period can only be specified for SchedDeadline policy");
	return 0;
}

static int check_io_priority(const struct bh_spec_process *process, struct bh_error *err)
{
	static const char *const classes[] = { "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE" };
	int64_t priority = process->io_priority.priority;

	if (!process->io_priority.set)
		return 0;
	if (priority < 0 || priority > 7)
		return bh_error_text(err, EINVAL, "process.ioPriority: invalid ioPriority.Priority: %lld", (long long)priority);
	for (size_t i = 0; i < BH_ARRAY_SIZE(classes); i++)
		if (bh_streq(process->io_priority.class, classes[i]))
			return 0;
	return bh_error_text(err, EINVAL, "process.ioPriority: invalid ioPriority.Class: \"%.40s\"", process->io_priority.class);
}

#define CPU_MAX 8192 /* NR_CPUS of the largest kernels */

static int check_affinity(const char *name, const char *list, struct bh_error *err)
{
	if (!list || bh_parse_number_list(list, CPU_MAX, NULL, NULL) == 0)
		return 0;
	return bh_error_text(err, EINVAL, "process.execCPUAffinity.%s: '%.100s' is not a list of CPUs", name, list);
}

static int check_rlimits(const struct bh_spec_process *process, struct bh_error *err)
{
	for (size_t i = 0; i < process->rlimit_count; i++)
		for (size_t j = 0; j < i; j++)
			if (bh_streq(process->rlimits[i].type, process->rlimits[j].type))
				return bh_error_text(err, EINVAL, "process.rlimits[%zu].type: %.40s is listed twice", i, process->rlimits[i].type);
	return 0;
}

/* To setresuid(2) and its kin it means "as it is": the process would keep the runtime's. */
#define NO_ID UINT32_MAX

static int check_user(const struct bh_spec_process *process, struct bh_error *err)
{
	bool bad = process->user.uid == NO_ID || process->user.gid == NO_ID;

	for (size_t i = 0; !bad && i < process->user.additional_gid_count; i++)
		bad = process->user.additional_gids[i] == NO_ID;
	return bad ? bh_error_text(err, EINVAL, "process.user: %u is not a user or group id", NO_ID) : 0;
}

int bh_spec_check_process(const struct bh_spec_process *process, struct bh_error *err)
{
	int r = check_rlimits(process, err);

	if (r == 0)
		r = check_user(process, err);
	if (r == 0 && process->cwd[0] != '/')
		r = bh_error_text(err, EINVAL, "process.cwd: '%.200s' is not absolute", process->cwd);
	if (r == 0)
		r = check_scheduler(&process->scheduler, err);
	if (r == 0)
		r = check_io_priority(process, err);
	if (r == 0)
		r = check_affinity("initial", process->exec_cpu_affinity.initial, err);
	return r < 0 ? r : check_affinity("final", process->exec_cpu_affinity.final, err);
}
