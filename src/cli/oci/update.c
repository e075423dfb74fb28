/* SPDX-License-Identifier: Apache-2.0 */
/*
 * update: new limits for a container that exists, from a JSON file of the resources object or from single flags.
 *
 * What isn't given stays as it is. Devices are never touched: what an update carries for them is left out, as device
 * rules are made at creation and other programs add their own.
 */
#include "cli/oci/oci.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

struct update_options {
	const char *resources, *cpuset_cpus, *cpuset_mems, *l3_cache_schema, *mem_bw_schema;
	const char *numbers[16]; /* indexed by `limits` below */
	int64_t blkio_weight, pids_limit;
};

enum number_kind { UNSIGNED, SIGNED, BYTES };

/* Numbers are kept as text until here, since "not given" and 0 differ. */
struct limit {
	enum number_kind kind;
	size_t offset; /* of the bh_opt_u64 or bh_opt_i64 in struct bh_spec_resources */
};

enum {
	CPU_PERIOD,
	CPU_QUOTA,
	CPU_BURST,
	CPU_SHARE,
	CPU_RT_PERIOD,
	CPU_RT_RUNTIME,
	CPU_IDLE,
	MEMORY,
	MEMORY_RESERVATION,
	MEMORY_SWAP,
	KERNEL_MEMORY,
	KERNEL_MEMORY_TCP
};

static const struct limit limits[] = {
	[CPU_PERIOD] = { UNSIGNED, offsetof(struct bh_spec_resources, cpu.period) },
	[CPU_QUOTA] = { SIGNED, offsetof(struct bh_spec_resources, cpu.quota) },
	[CPU_BURST] = { UNSIGNED, offsetof(struct bh_spec_resources, cpu.burst) },
	[CPU_SHARE] = { UNSIGNED, offsetof(struct bh_spec_resources, cpu.shares) },
	[CPU_RT_PERIOD] = { UNSIGNED, offsetof(struct bh_spec_resources, cpu.realtime_period) },
	[CPU_RT_RUNTIME] = { SIGNED, offsetof(struct bh_spec_resources, cpu.realtime_runtime) },
	[CPU_IDLE] = { SIGNED, offsetof(struct bh_spec_resources, cpu.idle) },
	[MEMORY] = { BYTES, offsetof(struct bh_spec_resources, memory.limit) },
	[MEMORY_RESERVATION] = { BYTES, offsetof(struct bh_spec_resources, memory.reservation) },
	[MEMORY_SWAP] = { BYTES, offsetof(struct bh_spec_resources, memory.swap) },
	[KERNEL_MEMORY] = { BYTES, offsetof(struct bh_spec_resources, memory.kernel) },
	[KERNEL_MEMORY_TCP] = { BYTES, offsetof(struct bh_spec_resources, memory.kernel_tcp) },
};

#define TEXT(option_name, field, argument, words)                                                                      \
	{                                                                                                              \
		0, option_name, BH_OPTION_STRING, offsetof(struct update_options, field), argument, words, NULL, false \
	}
#define NUMBER(option_name, index, argument, words) TEXT(option_name, numbers[index], argument, words)

static const struct bh_option options[] = {
	{ 'r', "resources", BH_OPTION_STRING, offsetof(struct update_options, resources), "FILE",
	  "JSON of the resources object, - is standard input; the other options are ignored then", NULL, false },
	{ 0, "blkio-weight", BH_OPTION_INT, offsetof(struct update_options, blkio_weight), "N", "Block I/O weight, 10 to 1000", NULL, false },
	NUMBER("cpu-period", CPU_PERIOD, "MICROSECONDS", "Period of the CPU quota; 0 is the system's default"),
	NUMBER("cpu-quota", CPU_QUOTA, "MICROSECONDS", "CPU time within a period"),
	NUMBER("cpu-burst", CPU_BURST, "MICROSECONDS", "Unused CPU time that may be kept for later"),
	NUMBER("cpu-share", CPU_SHARE, "N", "CPU shares, relative to others"),
	NUMBER("cpu-rt-period", CPU_RT_PERIOD, "MICROSECONDS", "Period of the realtime quota"),
	NUMBER("cpu-rt-runtime", CPU_RT_RUNTIME, "MICROSECONDS", "Realtime CPU time within a period"),
	NUMBER("cpu-idle", CPU_IDLE, "0|1", "1: run only when nobody else wants the CPU"),
	TEXT("cpuset-cpus", cpuset_cpus, "LIST", "CPUs to use (0-3,7)"),
	TEXT("cpuset-mems", cpuset_mems, "LIST", "Memory nodes to use"),
	NUMBER("memory", MEMORY, "BYTES", "Memory limit; -1: none"),
	NUMBER("memory-reservation", MEMORY_RESERVATION, "BYTES", "Soft limit of memory"),
	NUMBER("memory-swap", MEMORY_SWAP, "BYTES", "Limit of memory and swap together; -1: unlimited swap"),
	{ 0, "kernel-memory", BH_OPTION_STRING, offsetof(struct update_options, numbers[KERNEL_MEMORY]), "BYTES", "Ignored", NULL, true },
	{ 0, "kernel-memory-tcp", BH_OPTION_STRING, offsetof(struct update_options, numbers[KERNEL_MEMORY_TCP]), "BYTES", "Ignored", NULL, true },
	{ 0, "pids-limit", BH_OPTION_INT, offsetof(struct update_options, pids_limit), "N", "Largest number of processes; -1: no limit", NULL, false },
	TEXT("l3-cache-schema", l3_cache_schema, "SCHEMA", "Intel RDT: L3 cache schema"),
	TEXT("mem-bw-schema", mem_bw_schema, "SCHEMA", "Intel RDT: memory bandwidth schema"),
	{ 0 },
};

static const char *option_name(size_t index)
{
	for (const struct bh_option *o = options; o->name; o++)
		if (o->offset == offsetof(struct update_options, numbers) + index * sizeof(char *))
			return o->name;
	return "";
}

static int set_limit(const struct limit *limit, const char *name, const char *text, struct bh_spec_resources *resources, struct bh_error *err)
{
	void *field = (char *)resources + limit->offset;
	uint64_t number = 0;
	int64_t signed_number = 0;
	int r;

	if (limit->kind == UNSIGNED)
		r = bh_parse_uint(text, UINT64_MAX, &number);
	else if (limit->kind == SIGNED || bh_streq(text, "-1"))
		r = bh_parse_int(text, INT64_MIN, INT64_MAX, &signed_number);
	else
		r = bh_parse_bytes(text, &number);
	if (r == 0 && limit->kind == BYTES && number > INT64_MAX)
		r = -ERANGE;
	if (r < 0)
		return bh_error_text(err, -r, "invalid value for %s: %s", name, text);
	if (limit->kind == UNSIGNED)
		*(struct bh_opt_u64 *)field = (struct bh_opt_u64)BH_SOME(number);
	else
		*(struct bh_opt_i64 *)field = (struct bh_opt_i64)BH_SOME(signed_number ? signed_number : (int64_t)number);
	return 0;
}

static int from_flags(const struct update_options *o, struct bh_spec_resources *resources, struct bh_error *err)
{
	for (size_t i = 0; i < BH_ARRAY_SIZE(limits); i++) {
		int r = o->numbers[i] && *o->numbers[i] ? set_limit(&limits[i], option_name(i), o->numbers[i], resources, err) : 0;

		if (r < 0)
			return r;
	}
	if (o->blkio_weight < 0 || o->blkio_weight > UINT16_MAX)
		return bh_error_text(err, ERANGE, "invalid value for blkio-weight: %lld", (long long)o->blkio_weight);
	if (o->blkio_weight)
		resources->block_io.weight = (struct bh_opt_u64)BH_SOME((uint64_t)o->blkio_weight);
	if (o->pids_limit)
		resources->pids_limit = (struct bh_opt_i64)BH_SOME(o->pids_limit);
	resources->cpu.cpus = o->cpuset_cpus && *o->cpuset_cpus ? bh_strdup(o->cpuset_cpus) : NULL;
	resources->cpu.mems = o->cpuset_mems && *o->cpuset_mems ? bh_strdup(o->cpuset_mems) : NULL;
	return 0;
}

static int from_file(const char *path, struct bh_spec *ret_spec, struct bh_error *err)
{
	bh_auto_buf struct bh_buf text = { 0 };
	int r;

	if (bh_streq(path, "-")) {
		r = bh_read_fd(STDIN_FILENO, BH_SPEC_JSON_MAX, &text);
		if (r < 0)
			return bh_error_set(err, -r, "read the resources");
	} else {
		r = bh_read_file_at(AT_FDCWD, path, BH_SPEC_JSON_MAX, &text, err);
		if (r < 0)
			return r;
	}
	return bh_spec_parse_resources(text.data, text.length, ret_spec, err);
}

/* runc's order of things: memory without a limit has no swap limit either, and idle excludes shares. */
static void fix_up(struct bh_spec_resources *resources)
{
	if (resources->memory.limit.set && resources->memory.limit.value == -1 && !resources->memory.swap.set)
		resources->memory.swap = (struct bh_opt_i64)BH_SOME(-1);
	if (resources->memory.kernel.set || resources->memory.kernel_tcp.set)
		bh_warn("Kernel memory settings are ignored and will be removed");
	resources->memory.kernel.set = resources->memory.kernel_tcp.set = false;
	free(resources->devices);
	resources->devices = NULL;
	resources->device_count = 0;
}

static int update(const struct update_options *o, struct bh_bundle *bundle, struct bh_error *err)
{
	struct bh_spec spec = { 0 };
	int r;

	if (o->l3_cache_schema && *o->l3_cache_schema)
		return bh_error_text(err, EOPNOTSUPP, "Intel RDT/CAT: l3 cache schema is not enabled");
	if (o->mem_bw_schema && *o->mem_bw_schema)
		return bh_error_text(err, EOPNOTSUPP, "Intel RDT/MBA: memory bandwidth schema is not enabled");
	r = o->resources && *o->resources ? from_file(o->resources, &spec, err) : from_flags(o, &spec.resources, err);
	if (r == 0) {
		fix_up(&spec.resources);
		r = bh_bundle_update(bundle, &spec.resources, err);
	}
	bh_spec_clear(&spec);
	return r;
}

static int run(void *arg, int argc, char **argv)
{
	struct bh_bundle bundle = BH_BUNDLE_INIT_VALUE;
	struct bh_error err = BH_ERROR_INIT;
	int r = bh_oci_open(argv, false, &bundle, &err);

	(void)argc;
	if (r == 0)
		r = update(arg, &bundle, &err);
	bh_bundle_close(&bundle);
	return r < 0 ? bh_oci_fail(&err, 1) : 0;
}

const struct bh_command bh_oci_command_update = {
	.name = "update",
	.synopsis = "[OPTIONS] CONTAINER",
	.summary = "Change the resource limits of a container",
	.description = "Limits that are not given stay as they are. Sizes take the units k, m and g. The rules for devices can not be changed.",
	.sets = { options },
	.options_size = sizeof(struct update_options),
	.min_arguments = 1,
	.max_arguments = 1,
	.run = run,
};
