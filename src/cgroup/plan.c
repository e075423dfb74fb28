/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From linux.resources (runtime-spec config-linux.md) to files and values.
 *
 * One function per controller and version, in one table. They only say what is to be written; cgroup.c writes it. A value
 * that the specification allows but that means "leave as it is" (0 for most limits, as runc and Docker treat it) gives no
 * write. Names that come from the configuration and become part of a file name (huge page sizes, keys of the unified map)
 * are checked here, so no value can lead out of the cgroup's folder.
 */
#include "cgroup/cgroup-internal.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <net/if.h>

/* cpu.shares range of v1, cpu.weight range of v2 (kernel: Documentation/admin-guide/cgroup-v2.rst). */
#define SHARES_MIN 2
#define SHARES_MAX 262144
#define WEIGHT_MAX 10000

/* What the functions below may look at. */
struct bh_cgroup_planner {
	const struct bh_spec_resources *resources;
	bool strict;
	int memory_fd; /* to compare with what is in use; -1 */
};

void bh_cgroup_writes_clear(struct bh_cgroup_writes *writes)
{
	for (size_t i = 0; i < writes->count; i++)
		free(writes->items[i].value);
	free(writes->items);
	*writes = (struct bh_cgroup_writes){ 0 };
}

static struct bh_cgroup_write *add(struct bh_cgroup_writes *writes, enum bh_cgroup_folder folder, const char *file, char *value)
{
	struct bh_cgroup_write *write;

	writes->items = bh_grow(writes->items, &writes->capacity, writes->count + 1, sizeof *writes->items);
	write = &writes->items[writes->count++];
	*write = (struct bh_cgroup_write){ .folder = folder, .value = value };
	snprintf(write->file, sizeof write->file, "%s", file);
	return write;
}

static struct bh_cgroup_write *add_number(struct bh_cgroup_writes *writes, enum bh_cgroup_folder folder, const char *file, int64_t value)
{
	return add(writes, folder, file, bh_printf("%lld", (long long)value));
}

/* "max" for anything below zero. */
static struct bh_cgroup_write *add_limit(struct bh_cgroup_writes *writes, enum bh_cgroup_folder folder, const char *file, int64_t value)
{
	return value < 0 ? add(writes, folder, file, bh_strdup("max")) : add_number(writes, folder, file, value);
}

static void warn_kernel_memory(const struct bh_spec_resources *r)
{
	if (r->memory.kernel.set && r->memory.kernel.value != 0)
		bh_warn_once("linux.resources.memory.kernel is ignored: kernels since 5.16 account kernel memory in memory.limit");
	if (r->memory.kernel_tcp.set && r->memory.kernel_tcp.value != 0)
		bh_warn_once("linux.resources.memory.kernelTCP is ignored: deprecated by the runtime specification");
}

/* The limits that a change would break at once are refused first, if that was asked for: the kernel would reclaim and kill. */
static int check_usage(const struct bh_cgroup_planner *p, const char *file, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;
	const int64_t limit = r->memory.limit.set ? r->memory.limit.value : 0, swap = r->memory.swap.set ? r->memory.swap.value : 0;
	uint64_t usage;

	if (!r->memory.check_before_update || (limit <= 0 && swap <= 0) || p->memory_fd < 0)
		return 0;
	usage = bh_cgroup_read_number(p->memory_fd, file, 0);
	if (swap > 0 && (uint64_t)swap <= usage)
		return bh_error_text(err, EBUSY, "rejecting memory+swap limit %lld <= usage %llu", (long long)swap, (unsigned long long)usage);
	if (limit > 0 && (uint64_t)limit <= usage)
		return bh_error_text(err, EBUSY, "rejecting memory limit %lld <= usage %llu", (long long)limit, (unsigned long long)usage);
	return 0;
}

static int memory_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;
	const int64_t limit = r->memory.limit.set ? r->memory.limit.value : 0;
	const int64_t swap = r->memory.swap.set ? r->memory.swap.value : 0;
	const uint64_t swappiness = r->memory.swappiness.set ? r->memory.swappiness.value : UINT64_MAX;

	if (limit)
		add_number(w, FOLDER_MEMORY, "memory.limit_in_bytes", limit);
	/* memory + swap can't be below memory: without a limit on memory there can be none on the sum. */
	if (swap || limit == -1)
		add_number(w, FOLDER_MEMORY, "memory.memsw.limit_in_bytes", swap ? swap : -1)->optional = !swap;
	if (r->memory.reservation.set && r->memory.reservation.value)
		add_number(w, FOLDER_MEMORY, "memory.soft_limit_in_bytes", r->memory.reservation.value);
	/* -1 (unset) comes as a huge number. */
	if (swappiness <= 100)
		add_number(w, FOLDER_MEMORY, "memory.swappiness", (int64_t)swappiness);
	else if (swappiness != UINT64_MAX)
		return bh_error_text(err, EINVAL, "invalid value:%llu. valid memory swappiness range is 0-100", (unsigned long long)swappiness);
	if (r->memory.disable_oom_killer)
		add_number(w, FOLDER_MEMORY, "memory.oom_control", 1);
	warn_kernel_memory(r);
	return check_usage(p, "memory.usage_in_bytes", err);
}

static int memory_v2(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;
	const int64_t limit = r->memory.limit.set ? r->memory.limit.value : 0;
	const int64_t swap = r->memory.swap.set ? r->memory.swap.value : 0;

	/* Swap first: a lower memory limit pushes pages out as soon as it holds. A kernel without swap accounting has no such
	 * file; to allow all or to forbid it changes nothing there. */
	if (swap < 0 || limit < 0) {
		add(w, FOLDER_MEMORY, "memory.swap.max", bh_strdup("max"))->optional = true;
	} else if (swap > 0) {
		/* The specification's value is memory + swap; v2 counts swap alone. */
		if (limit <= 0)
			return bh_error_text(err, EINVAL, "unable to set swap limit without memory limit");
		if (swap < limit)
			return bh_error_text(err, EINVAL, "memory+swap limit should be >= memory limit (%lld, %lld)", (long long)swap,
					     (long long)limit);
		add_number(w, FOLDER_MEMORY, "memory.swap.max", swap - limit)->optional = swap == limit;
	}
	if (limit)
		add_limit(w, FOLDER_MEMORY, "memory.max", limit);
	if (r->memory.reservation.set && r->memory.reservation.value)
		add_limit(w, FOLDER_MEMORY, "memory.low", r->memory.reservation.value);
	if (r->memory.swappiness.set && r->memory.swappiness.value != UINT64_MAX)
		bh_warn_once("linux.resources.memory.swappiness is ignored: cgroup v2 has no such setting");
	if (r->memory.disable_oom_killer)
		bh_warn_once("linux.resources.memory.disableOOMKiller is ignored: cgroup v2 has no such setting");
	warn_kernel_memory(r);
	return check_usage(p, "memory.current", err);
}

/*
 * cpu.shares (2..262144, default 1024) to cpu.weight (1..10000, default 100). The classic straight line maps 1024 to 39,
 * so that a container with default shares gets less than half of what a service of the host gets. The curve that runc
 * (since 1.3.2) and crun (since 1.23) use runs through (2, 1), (1024, 100) and (262144, 10000):
 * log10(weight) = (log2(shares)^2 + 125 * log2(shares)) / 612 - 7 / 34.
 */
uint64_t bh_cgroup_weight_from_shares(uint64_t shares)
{
	double l, weight;

	if (shares <= SHARES_MIN)
		return 1;
	if (shares >= SHARES_MAX)
		return WEIGHT_MAX;
	l = log2((double)shares);
	weight = ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
	return BH_MIN((uint64_t)weight, (uint64_t)WEIGHT_MAX);
}

static void realtime(const struct bh_spec_resources *r, struct bh_cgroup_writes *w)
{
	/* Only where the kernel has CONFIG_RT_GROUP_SCHED; elsewhere there is no file, and the write says so. */
	if (r->cpu.realtime_period.set && r->cpu.realtime_period.value)
		add_number(w, FOLDER_CPU, "cpu.rt_period_us", (int64_t)r->cpu.realtime_period.value);
	if (r->cpu.realtime_runtime.set && r->cpu.realtime_runtime.value)
		add_number(w, FOLDER_CPU, "cpu.rt_runtime_us", r->cpu.realtime_runtime.value);
}

/* The kernel takes what is out of range for the nearest value in it; a runtime's caller is told. */
static int check_shares(const struct bh_cgroup_planner *p, struct bh_error *err)
{
	uint64_t shares = p->resources->cpu.shares.set ? p->resources->cpu.shares.value : 0;

	if (!p->strict || !shares)
		return 0;
	if (shares > SHARES_MAX)
		return bh_error_text(err, EINVAL, "the maximum allowed cpu-shares is %d", SHARES_MAX);
	return shares < SHARES_MIN ? bh_error_text(err, EINVAL, "the minimum allowed cpu-shares is %d", SHARES_MIN) : 0;
}

/* An idle cgroup has no weight of its own: the kernel refuses one. */
static bool has_weight(const struct bh_spec_resources *r)
{
	return r->cpu.shares.set && r->cpu.shares.value && !(r->cpu.idle.set && r->cpu.idle.value == 1);
}

static int cpu_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;

	if (r->cpu.idle.set)
		add_number(w, FOLDER_CPU, "cpu.idle", r->cpu.idle.value);
	if (has_weight(r))
		add_number(w, FOLDER_CPU, "cpu.shares", (int64_t)r->cpu.shares.value);
	realtime(r, w);
	if (r->cpu.period.set && r->cpu.period.value)
		add_number(w, FOLDER_CPU, "cpu.cfs_period_us", (int64_t)r->cpu.period.value);
	if (r->cpu.quota.set && r->cpu.quota.value)
		add_number(w, FOLDER_CPU, "cpu.cfs_quota_us", r->cpu.quota.value < 0 ? -1 : r->cpu.quota.value);
	if (r->cpu.burst.set)
		add_number(w, FOLDER_CPU, "cpu.cfs_burst_us", (int64_t)r->cpu.burst.value);
	return check_shares(p, err);
}

static int cpu_v2(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;
	const int64_t quota = r->cpu.quota.set ? r->cpu.quota.value : 0;
	const uint64_t period = r->cpu.period.set ? r->cpu.period.value : 0;

	(void)err;
	if (r->cpu.idle.set)
		add_number(w, FOLDER_CPU, "cpu.idle", r->cpu.idle.value);
	if (has_weight(r))
		add_number(w, FOLDER_CPU, "cpu.weight", (int64_t)bh_cgroup_weight_from_shares(r->cpu.shares.value));
	realtime(r, w);
	if (quota || period) {
		bh_auto_buf struct bh_buf value = { 0 };

		if (quota > 0)
			bh_buf_addf(&value, "%lld", (long long)quota);
		else
			bh_buf_adds(&value, "max");
		/* Without a period the kernel keeps the present one. */
		if (period)
			bh_buf_addf(&value, " %llu", (unsigned long long)period);
		add(w, FOLDER_CPU, "cpu.max", bh_buf_take(&value));
	}
	if (r->cpu.burst.set)
		add_number(w, FOLDER_CPU, "cpu.max.burst", (int64_t)r->cpu.burst.value);
	return 0;
}

static int cpuset(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;

	(void)err;
	if (r->cpu.cpus && *r->cpu.cpus)
		add(w, FOLDER_CPUSET, "cpuset.cpus", bh_strdup(r->cpu.cpus));
	if (r->cpu.mems && *r->cpu.mems)
		add(w, FOLDER_CPUSET, "cpuset.mems", bh_strdup(r->cpu.mems));
	return 0;
}

static int pids(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;

	(void)err;
	if (r->pids_limit.set && r->pids_limit.value)
		add_limit(w, FOLDER_PIDS, "pids.max", r->pids_limit.value);
	return 0;
}

static void throttle(const struct bh_spec_throttle *items, size_t count, const char *file, const char *key, struct bh_cgroup_writes *w)
{
	for (size_t i = 0; i < count; i++)
		add(w, FOLDER_BLKIO, file,
		    bh_printf("%lld:%lld %s%llu", (long long)items[i].major, (long long)items[i].minor, key, (unsigned long long)items[i].rate));
}

static int blkio_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;

	(void)err;
	if (r->block_io.weight.set && r->block_io.weight.value) {
		add_number(w, FOLDER_BLKIO, "blkio.weight", (int64_t)r->block_io.weight.value);
		add_number(w, FOLDER_BLKIO, "blkio.bfq.weight", (int64_t)r->block_io.weight.value)->alternative = true;
	}
	if (r->block_io.leaf_weight.set && r->block_io.leaf_weight.value)
		add_number(w, FOLDER_BLKIO, "blkio.leaf_weight", (int64_t)r->block_io.leaf_weight.value);
	for (size_t i = 0; i < r->block_io.weight_device_count; i++) {
		const struct bh_spec_weight_device *d = &r->block_io.weight_devices[i];

		if (d->weight.set) {
			bh_auto_free char *value = bh_printf("%lld:%lld %llu", (long long)d->major, (long long)d->minor,
							     (unsigned long long)d->weight.value);

			add(w, FOLDER_BLKIO, "blkio.weight_device", bh_strdup(value));
			add(w, FOLDER_BLKIO, "blkio.bfq.weight_device", BH_TAKE_PTR(value))->alternative = true;
		}
		if (d->leaf_weight.set)
			add(w, FOLDER_BLKIO, "blkio.leaf_weight_device",
			    bh_printf("%lld:%lld %llu", (long long)d->major, (long long)d->minor, (unsigned long long)d->leaf_weight.value));
	}
	throttle(r->block_io.read_bps, r->block_io.read_bps_count, "blkio.throttle.read_bps_device", "", w);
	throttle(r->block_io.write_bps, r->block_io.write_bps_count, "blkio.throttle.write_bps_device", "", w);
	throttle(r->block_io.read_iops, r->block_io.read_iops_count, "blkio.throttle.read_iops_device", "", w);
	throttle(r->block_io.write_iops, r->block_io.write_iops_count, "blkio.throttle.write_iops_device", "", w);
	return 0;
}

/* 10..1000 to io.weight's 1..10000, as the specification's users expect it (runc, crun). */
uint64_t bh_cgroup_io_weight(uint64_t weight)
{
	return weight <= 10 ? 1 : 1 + (BH_MIN(weight, 1000u) - 10) * 9999 / 990;
}

static int blkio_v2(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_spec_resources *r = p->resources;

	(void)err;
	if (r->block_io.weight.set && r->block_io.weight.value) {
		add_number(w, FOLDER_BLKIO, "io.bfq.weight", (int64_t)r->block_io.weight.value);
		add(w, FOLDER_BLKIO, "io.weight", bh_printf("default %llu", (unsigned long long)bh_cgroup_io_weight(r->block_io.weight.value)))
			->alternative = true;
	}
	for (size_t i = 0; i < r->block_io.weight_device_count; i++) {
		const struct bh_spec_weight_device *d = &r->block_io.weight_devices[i];

		if (!d->weight.set)
			continue;
		add(w, FOLDER_BLKIO, "io.bfq.weight",
		    bh_printf("%lld:%lld %llu", (long long)d->major, (long long)d->minor, (unsigned long long)d->weight.value));
		add(w, FOLDER_BLKIO, "io.weight",
		    bh_printf("%lld:%lld %llu", (long long)d->major, (long long)d->minor, (unsigned long long)bh_cgroup_io_weight(d->weight.value)))
			->alternative = true;
	}
	throttle(r->block_io.read_bps, r->block_io.read_bps_count, "io.max", "rbps=", w);
	throttle(r->block_io.write_bps, r->block_io.write_bps_count, "io.max", "wbps=", w);
	throttle(r->block_io.read_iops, r->block_io.read_iops_count, "io.max", "riops=", w);
	throttle(r->block_io.write_iops, r->block_io.write_iops_count, "io.max", "wiops=", w);
	return 0;
}

/* "2MB", "1GB", "64KB": becomes part of a file's name. */
static bool page_size_is_valid(const char *text)
{
	size_t digits = text ? strspn(text, "0123456789") : 0;

	return digits > 0 && digits < 8 && strchr("KMG", text[digits]) && bh_streq(text + digits + 1, "B");
}

static int hugetlb(const struct bh_spec_resources *r, const char *suffix, struct bh_cgroup_writes *w, struct bh_error *err)
{
	for (size_t i = 0; i < r->hugepage_limit_count; i++) {
		const struct bh_spec_hugepage_limit *limit = &r->hugepage_limits[i];
		bh_auto_free char *value = bh_printf("%llu", (unsigned long long)limit->limit);
		char file[64];

		if (!page_size_is_valid(limit->page_size))
			return bh_error_text(err, EINVAL, "linux.resources.hugepageLimits: bad page size '%s'",
					     limit->page_size ? limit->page_size : "");
		snprintf(file, sizeof file, "hugetlb.%s.%s", limit->page_size, suffix);
		add(w, FOLDER_HUGETLB, file, bh_strdup(value));
		/* Reserved pages are counted apart since 5.7; a limit on both is what the specification means. */
		snprintf(file, sizeof file, "hugetlb.%s.rsvd.%s", limit->page_size, suffix);
		add(w, FOLDER_HUGETLB, file, BH_TAKE_PTR(value))->optional = true;
	}
	return 0;
}

static int hugetlb_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	return hugetlb(p->resources, "limit_in_bytes", w, err);
}

static int hugetlb_v2(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	return hugetlb(p->resources, "max", w, err);
}

/* The same file and format on both versions. What isn't given stays as it is ("max" in a new cgroup). */
static int rdma(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	(void)err;
	for (size_t i = 0; i < p->resources->rdma_count; i++) {
		const struct bh_spec_rdma_limit *limit = &p->resources->rdma[i];
		bh_auto_buf struct bh_buf value = { 0 };

		bh_buf_adds(&value, limit->device);
		if (limit->hca_handles.set)
			bh_buf_addf(&value, " hca_handle=%llu", (unsigned long long)limit->hca_handles.value);
		if (limit->hca_objects.set)
			bh_buf_addf(&value, " hca_object=%llu", (unsigned long long)limit->hca_objects.value);
		if (limit->hca_handles.set || limit->hca_objects.set)
			add(w, FOLDER_RDMA, "rdma.max", bh_buf_take(&value));
	}
	return 0;
}

static int net_cls_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const struct bh_opt_u64 *class_id = &p->resources->network.class_id;

	if (!class_id->set || !class_id->value)
		return 0;
	if (class_id->value > UINT32_MAX)
		return bh_error_text(err, ERANGE, "linux.resources.network.classID: %llu is more than 32 bits", (unsigned long long)class_id->value);
	add_number(w, FOLDER_NET_CLS, "net_cls.classid", (int64_t)class_id->value);
	return 0;
}

static int net_prio_v1(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	for (size_t i = 0; i < p->resources->network.priority_count; i++) {
		const struct bh_spec_interface_priority *priority = &p->resources->network.priorities[i];
		size_t length = strlen(priority->name);

		/* A word of a line; the kernel looks for an interface of that name. */
		if (length == 0 || length >= IFNAMSIZ || strcspn(priority->name, " \t\n/") != length)
			return bh_error_text(err, EINVAL, "linux.resources.network.priorities[%zu]: '%.32s' is no interface's name", i, priority->name);
		add(w, FOLDER_NET_PRIO, "net_prio.ifpriomap", bh_printf("%s %u", priority->name, (unsigned)priority->priority));
	}
	return 0;
}

/* v2 has no such controllers: packets are classified by nftables or BPF on the cgroup. */
static int net_cls_v2(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err)
{
	const char *field = p->resources->network.priority_count ? "priorities" : "classID";

	(void)w;
	if (!p->resources->network.priority_count && !(p->resources->network.class_id.set && p->resources->network.class_id.value))
		return 0;
	if (p->strict)
		return bh_error_text(err, ENOTSUP, "linux.resources.network.%s: cgroup v2 has no such setting", field);
	bh_warn_once("linux.resources.network.%s is ignored: cgroup v2 has no such setting", field);
	return 0;
}

typedef int plan_function(const struct bh_cgroup_planner *p, struct bh_cgroup_writes *w, struct bh_error *err);

static plan_function *const plans[FOLDER_COUNT][2] = {
	[FOLDER_MEMORY] = { memory_v1, memory_v2 },
	[FOLDER_CPU] = { cpu_v1, cpu_v2 },
	[FOLDER_CPUSET] = { cpuset, cpuset },
	[FOLDER_PIDS] = { pids, pids },
	[FOLDER_BLKIO] = { blkio_v1, blkio_v2 },
	[FOLDER_HUGETLB] = { hugetlb_v1, hugetlb_v2 },
	[FOLDER_RDMA] = { rdma, rdma },
	[FOLDER_NET_CLS] = { net_cls_v1, net_cls_v2 },
	[FOLDER_NET_PRIO] = { net_prio_v1, NULL },
};

int bh_cgroup_plan(enum bh_cgroup_folder controller, const struct bh_cgroup *cgroup, int version, const struct bh_spec_resources *resources,
		   struct bh_cgroup_writes *writes, struct bh_error *err)
{
	plan_function *plan = plans[controller][version - 1];
	struct bh_cgroup_planner planner = {
		.resources = resources,
		.strict = cgroup && cgroup->strict,
		.memory_fd = cgroup ? cgroup->folders[version == 2 ? FOLDER_UNIFIED : FOLDER_MEMORY].fd : -1,
	};

	return plan ? plan(&planner, writes, err) : 0;
}

static bool key_is_valid(const char *key, size_t length)
{
	if (length == 0 || length >= 64 || *key == '.' || !memchr(key, '.', length))
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)key[i]) && !strchr("._-", key[i]))
			return false;
	return true;
}

static int bad_key(const char *item, const char *equals, struct bh_error *err)
{
	int length = equals ? (int)BH_MIN(equals - item, 128) : 0;

	if (memchr(item, '/', (size_t)length))
		return bh_error_text(err, EINVAL, "unified resource \"%.*s\" must be a file name (no slashes)", length, item);
	return bh_error_text(err, EINVAL, "unified resource \"%.*s\" must be in the form CONTROLLER.PARAMETER", length, item);
}

int bh_cgroup_plan_unified(const struct bh_spec_resources *resources, struct bh_cgroup_writes *writes, struct bh_error *err)
{
	for (size_t i = 0; i < resources->unified.count; i++) {
		const char *item = resources->unified.items[i], *equals = strchr(item, '=');
		char key[64];

		if (!equals || !key_is_valid(item, (size_t)(equals - item)))
			return bad_key(item, equals, err);
		snprintf(key, sizeof key, "%.*s", (int)(equals - item), item);
		add(writes, FOLDER_UNIFIED, key, bh_strdup(equals + 1))->unified = true;
	}
	return 0;
}
