/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's options for resources, security and namespaces, turned into the OCI spec. One function per option family;
 * the table at the end runs them in order. Wrong values give Docker's words.
 */
#include "engine/engine-internal.h"

#include "base/log.h"
#include "linux/seccomp.h"
#include "net/net.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

void bh_create_options_preset(struct bh_create_options *o)
{
	o->stop_timeout = BH_UNSET;
	o->oom_score_adj = BH_UNSET;
	o->memory_swap = BH_UNSET;
	o->memory_swappiness = BH_UNSET;
	o->pids_limit = BH_UNSET;
	o->cpu_quota = BH_UNSET;
	o->shm_size = BH_UNSET;
	o->sig_proxy = true;
	o->pull = "missing";
}

#define MEMORY_MIN (6u << 20) /* Docker's floor: less can't even start a process */
#define CPU_PERIOD_DEFAULT 100000

static int apply_memory(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_resources *res = &spec->resources;

	if (o->memory > 0 && o->memory < (int64_t)MEMORY_MIN)
		return bh_error_text(err, EINVAL, "Minimum memory limit allowed is 6MB");
	if (o->memory > 0)
		res->memory.limit = (struct bh_opt_i64)BH_SOME(o->memory);
	if (o->memory_reservation > 0) {
		if (o->memory > 0 && o->memory_reservation > o->memory)
			return bh_error_text(err, EINVAL, "Minimum memory limit can not be less than memory reservation limit, see usage");
		res->memory.reservation = (struct bh_opt_i64)BH_SOME(o->memory_reservation);
	}
	if (o->memory_swap != BH_UNSET && o->memory_swap != 0) {
		if (o->memory <= 0)
			return bh_error_text(err, EINVAL, "You should always set the Memory limit when using Memoryswap limit, see usage");
		if (o->memory_swap > 0 && o->memory_swap < o->memory)
			return bh_error_text(err, EINVAL, "Minimum memoryswap limit should be larger than memory limit, see usage");
		res->memory.swap = (struct bh_opt_i64)BH_SOME(o->memory_swap);
	} else if (o->memory > 0) {
		/* Docker: as much swap again as memory. */
		res->memory.swap = (struct bh_opt_i64)BH_SOME(o->memory > INT64_MAX / 2 ? -1 : 2 * o->memory);
	}
	if (o->memory_swappiness != BH_UNSET && o->memory_swappiness != -1) {
		if (o->memory_swappiness < 0 || o->memory_swappiness > 100)
			return bh_error_text(err, EINVAL, "Invalid value: %lld, valid memory swappiness range is 0-100",
					     (long long)o->memory_swappiness);
		res->memory.swappiness = (struct bh_opt_u64)BH_SOME((uint64_t)o->memory_swappiness);
	}
	res->memory.disable_oom_killer = o->oom_kill_disable;
	return 0;
}

static int apply_cpu(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_resources *res = &spec->resources;

	if (o->cpus_nano && (o->cpu_period || o->cpu_quota != BH_UNSET))
		return bh_error_text(err, EINVAL, "Conflicting options: CPUs and CPU Period/Quota cannot both be set");
	if (o->cpus_nano) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);
		int64_t quota = o->cpus_nano / (1000000000 / CPU_PERIOD_DEFAULT);

		if (o->cpus_nano > online * 1000000000L || quota < 1000)
			return bh_error_text(err, EINVAL, "Range of CPUs is from 0.01 to %ld.00, as there are only %ld CPUs available", online, online);
		res->cpu.period = (struct bh_opt_u64)BH_SOME(CPU_PERIOD_DEFAULT);
		res->cpu.quota = (struct bh_opt_i64)BH_SOME(quota);
	}
	if (o->cpu_period) {
		if (o->cpu_period < 1000 || o->cpu_period > 1000000)
			return bh_error_text(err, EINVAL, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
		res->cpu.period = (struct bh_opt_u64)BH_SOME((uint64_t)o->cpu_period);
	}
	if (o->cpu_quota != BH_UNSET && o->cpu_quota != 0) {
		if (o->cpu_quota > 0 && o->cpu_quota < 1000)
			return bh_error_text(err, EINVAL, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
		res->cpu.quota = (struct bh_opt_i64)BH_SOME(o->cpu_quota);
	}
	if (o->cpu_shares < 0)
		return bh_error_text(err, EINVAL, "invalid CPU shares (%lld): value must be a positive integer", (long long)o->cpu_shares);
	if (o->cpu_shares)
		res->cpu.shares = (struct bh_opt_u64)BH_SOME((uint64_t)o->cpu_shares);
	res->cpu.cpus = bh_strdup(o->cpuset_cpus);
	res->cpu.mems = bh_strdup(o->cpuset_mems);
	return 0;
}

static int block_device(const char *path, int64_t *ret_major, int64_t *ret_minor, struct bh_error *err)
{
	struct stat st;

	if (*path != '/')
		return bh_error_text(err, EINVAL, "bad format for device path: %s", path);
	if (stat(path, &st) < 0)
		return bh_error_set(err, errno, "stat %s", path);
	if (!S_ISBLK(st.st_mode))
		return bh_error_text(err, EINVAL, "%s is not a block device", path);
	*ret_major = major(st.st_rdev);
	*ret_minor = minor(st.st_rdev);
	return 0;
}

/* "/dev/sda:1mb" lists. */
static int apply_throttle(const struct bh_strv *values, bool bytes, struct bh_spec_throttle **ret_list, size_t *ret_count, struct bh_error *err)
{
	struct bh_spec_throttle *list = values->count ? bh_calloc(values->count, sizeof *list) : NULL;

	*ret_list = list;
	for (size_t i = 0; i < values->count; i++) {
		const char *colon = strrchr(values->items[i], ':');
		bh_auto_free char *path = bh_strndup(values->items[i], colon ? (size_t)(colon - values->items[i]) : 0);
		int r;

		if (!colon || (bytes ? bh_parse_bytes(colon + 1, &list[i].rate) : bh_parse_uint(colon + 1, INT64_MAX, &list[i].rate)) < 0)
			return bh_error_text(err, EINVAL, "invalid rate for device: %s. The correct format is <device-path>:<number>%s",
					     values->items[i], bytes ? "[<unit>]" : "");
		r = block_device(path, &list[i].major, &list[i].minor, err);
		if (r < 0)
			return r;
		*ret_count = i + 1;
	}
	return 0;
}

static int apply_weight_devices(const struct bh_create_options *o, struct bh_spec_resources *res, struct bh_error *err)
{
	size_t count = o->blkio_weight_device.count;

	if (count)
		res->block_io.weight_devices = bh_calloc(count, sizeof *res->block_io.weight_devices);
	for (size_t i = 0; i < count; i++) {
		const char *item = o->blkio_weight_device.items[i], *colon = strrchr(item, ':');
		struct bh_spec_weight_device *device = &res->block_io.weight_devices[i];
		bh_auto_free char *path = bh_strndup(item, colon ? (size_t)(colon - item) : 0);
		int r;

		if (!colon || bh_parse_uint(colon + 1, 1000, &device->weight.value) < 0 || device->weight.value < 10)
			return bh_error_text(err, EINVAL, "invalid weight for device: %s", item);
		device->weight.set = true;
		r = block_device(path, &device->major, &device->minor, err);
		if (r < 0)
			return r;
		res->block_io.weight_device_count = i + 1;
	}
	return 0;
}

static int apply_block_io(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_resources *res = &spec->resources;
	const struct {
		const struct bh_strv *values;
		bool bytes;
		struct bh_spec_throttle **list;
		size_t *count;
	} families[] = {
		{ &o->device_read_bps, true, &res->block_io.read_bps, &res->block_io.read_bps_count },
		{ &o->device_write_bps, true, &res->block_io.write_bps, &res->block_io.write_bps_count },
		{ &o->device_read_iops, false, &res->block_io.read_iops, &res->block_io.read_iops_count },
		{ &o->device_write_iops, false, &res->block_io.write_iops, &res->block_io.write_iops_count },
	};

	if (o->blkio_weight && (o->blkio_weight < 10 || o->blkio_weight > 1000))
		return bh_error_text(err, EINVAL, "Range of blkio weight is from 10 to 1000");
	if (o->blkio_weight)
		res->block_io.weight = (struct bh_opt_u64)BH_SOME((uint64_t)o->blkio_weight);
	for (size_t i = 0; i < BH_ARRAY_SIZE(families); i++) {
		int r = apply_throttle(families[i].values, families[i].bytes, families[i].list, families[i].count, err);

		if (r < 0)
			return r;
	}
	return apply_weight_devices(o, res, err);
}

static int apply_hugetlb(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_resources *res = &spec->resources;

	if (o->hugetlb_limit.count)
		res->hugepage_limits = bh_calloc(o->hugetlb_limit.count, sizeof *res->hugepage_limits);
	for (size_t i = 0; i < o->hugetlb_limit.count; i++) {
		const char *item = o->hugetlb_limit.items[i], *colon = strchr(item, ':');

		if (!colon || bh_parse_bytes(colon + 1, &res->hugepage_limits[i].limit) < 0)
			return bh_error_text(err, EINVAL, "invalid hugetlb limit '%s': the format is <page-size>:<bytes>, for example 2MB:64m", item);
		res->hugepage_limits[i].page_size = bh_strndup(item, (size_t)(colon - item));
		res->hugepage_limit_count = i + 1;
	}
	return 0;
}

static int apply_pids(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	if (o->oom_score_adj != BH_UNSET) {
		if (o->oom_score_adj < -1000 || o->oom_score_adj > 1000)
			return bh_error_text(err, EINVAL, "Invalid value %lld, range for oom score adj is [-1000, 1000]", (long long)o->oom_score_adj);
		spec->process.oom_score_adj = (struct bh_opt_i64)BH_SOME(o->oom_score_adj);
	}
	if (o->pids_limit != BH_UNSET && o->pids_limit != 0)
		spec->resources.pids_limit = (struct bh_opt_i64)BH_SOME(o->pids_limit);
	return 0;
}

static int capability_set(const struct bh_strv *names, uint64_t all, bool *ret_all, uint64_t *ret_set, struct bh_error *err)
{
	for (size_t i = 0; i < names->count; i++) {
		int number;

		if (strcasecmp(names->items[i], "ALL") == 0) {
			*ret_all = true;
			continue;
		}
		number = bh_capability_number(names->items[i]);
		if (number < 0)
			return bh_error_text(err, EINVAL, "invalid capability: '%s'", names->items[i]);
		if (!(all >> number & 1))
			return bh_error_text(err, EINVAL, "capability '%s' is not available here: this process does not have it itself",
					     names->items[i]);
		*ret_set |= UINT64_C(1) << number;
	}
	return 0;
}

/* What we can hand on: nobody gives more than he has. */
static uint64_t own_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

static int apply_capabilities(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	uint64_t all = own_capabilities(), add = 0, drop = 0, set;
	bool add_all = false, drop_all = false;
	int r;

	if (o->privileged) {
		uint64_t *sets[] = { &spec->process.capabilities.bounding, &spec->process.capabilities.effective,
				     &spec->process.capabilities.permitted };

		for (size_t i = 0; i < BH_ARRAY_SIZE(sets); i++)
			*sets[i] &= all;
		return 0;
	}
	r = capability_set(&o->cap_add, all, &add_all, &add, err);
	if (r == 0)
		r = capability_set(&o->cap_drop, UINT64_MAX, &drop_all, &drop, err);
	if (r < 0)
		return r;
	if (add_all)
		set = all & ~drop;
	else if (drop_all)
		set = add;
	else
		set = ((bh_capability_default_set() & all) & ~drop) | add;
	spec->process.capabilities.set = true;
	spec->process.capabilities.bounding = set;
	spec->process.capabilities.effective = set;
	spec->process.capabilities.permitted = set;
	spec->process.capabilities.inheritable = 0;
	spec->process.capabilities.ambient = 0;
	return 0;
}

#define SECCOMP_PROFILE_MAX (4u << 20)

static int apply_seccomp_option(const char *value, struct bh_spec *spec, struct bh_error *err)
{
	bh_auto_buf struct bh_buf profile = { 0 };
	struct bh_spec_seccomp seccomp;
	int r;

	if (bh_streq(value, "unconfined")) {
		spec->seccomp.source = BH_SECCOMP_NONE;
		return 0;
	}
	if (bh_streq(value, "builtin") || bh_streq(value, "default")) {
		spec->seccomp.source = BH_SECCOMP_DEFAULT;
		return 0;
	}
	r = bh_read_file_at(AT_FDCWD, value, SECCOMP_PROFILE_MAX, &profile, err);
	if (r < 0)
		return bh_error_prefix(err, "opening seccomp profile (%s) failed", value);
	r = bh_seccomp_profile_parse(profile.data, profile.length, spec->process.capabilities.bounding, &seccomp, err);
	if (r < 0)
		return bh_error_prefix(err, "seccomp profile %s", value);
	bh_seccomp_spec_clear(&spec->seccomp);
	spec->seccomp = seccomp;
	return 0;
}

static int apply_paths_option(const char *key, const char *value, struct bh_spec *spec)
{
	bh_auto_strv struct bh_strv paths = bh_strv_split(value, ':');

	if (bh_streq(key, "mask")) {
		bh_strv_extend(&spec->masked_paths, paths.items);
		return 0;
	}
	for (size_t p = 0; p < paths.count; p++) {
		struct bh_strv *lists[] = { &spec->masked_paths, &spec->readonly_paths };

		for (size_t l = 0; l < BH_ARRAY_SIZE(lists); l++)
			for (size_t i = lists[l]->count; i-- > 0;)
				if (bh_streq(paths.items[p], "ALL") || bh_streq(paths.items[p], lists[l]->items[i]))
					bh_strv_remove(lists[l], i);
	}
	return 0;
}

static int apply_security_option(const char *option, struct bh_spec *spec, struct bh_error *err)
{
	size_t length = strcspn(option, "=:");
	bh_auto_free char *key = bh_strndup(option, length);
	const char *value = option[length] ? option + length + 1 : "";
	bool on = true;

	if (bh_streq(key, "no-new-privileges")) {
		if (option[length] && bh_parse_bool(value, &on) < 0)
			return bh_error_text(err, EINVAL, "invalid --security-opt \"%s\"", option);
		spec->process.no_new_privileges = on;
		return 0;
	}
	if (bh_streq(key, "seccomp"))
		return apply_seccomp_option(value, spec, err);
	if (bh_streq(key, "systempaths") && bh_streq(value, "unconfined"))
		return apply_paths_option("unmask", "ALL", spec);
	if (bh_streq(key, "mask") || bh_streq(key, "unmask"))
		return apply_paths_option(key, value, spec);
	if (bh_streq(key, "apparmor")) {
		bh_free_ptr(&spec->process.apparmor_profile);
		if (!bh_streq(value, "unconfined"))
			spec->process.apparmor_profile = bh_strdup(value);
		return 0;
	}
	if (bh_streq(key, "label")) {
		if (bh_streq(value, "disable"))
			return 0;
		return bh_error_text(err, EOPNOTSUPP, "--security-opt %s: SELinux labels need a host with SELinux", option);
	}
	return bh_error_text(err, EINVAL, "invalid --security-opt 1: \"%s\"", option);
}

static int apply_security(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < o->security_opt.count; i++) {
		int r = apply_security_option(o->security_opt.items[i], spec, err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < o->sysctl.count; i++) {
		if (!strchr(o->sysctl.items[i], '='))
			return bh_error_text(err, EINVAL, "invalid sysctl '%s': the format is name=value", o->sysctl.items[i]);
		bh_strv_add(&spec->sysctl, o->sysctl.items[i]);
	}
	return 0;
}

static int parse_limit(const char *text, uint64_t *ret_value)
{
	if (bh_streq(text, "-1") || bh_streq(text, "unlimited")) {
		*ret_value = RLIM_INFINITY;
		return 0;
	}
	return bh_parse_uint(text, UINT64_MAX, ret_value);
}

static int apply_ulimits(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	static const char *const names[] = { "as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock",    "msgqueue",
					     "nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "sigpending", "stack" };

	if (o->ulimit.count)
		spec->process.rlimits = bh_calloc(o->ulimit.count, sizeof *spec->process.rlimits);
	for (size_t i = 0; i < o->ulimit.count; i++) {
		const char *item = o->ulimit.items[i], *equals = strchr(item, '='), *colon = equals ? strchr(equals, ':') : NULL;
		bh_auto_free char *name = bh_strndup(item, equals ? (size_t)(equals - item) : 0);
		bh_auto_free char *soft = equals ? bh_strndup(equals + 1, colon ? (size_t)(colon - equals - 1) : strlen(equals + 1)) : NULL;
		struct bh_spec_rlimit *limit = &spec->process.rlimits[i];
		size_t n = 0;

		while (n < BH_ARRAY_SIZE(names) && !bh_streq(names[n], name))
			n++;
		if (!equals || n == BH_ARRAY_SIZE(names))
			return bh_error_text(err, EINVAL, "invalid ulimit type: %s", equals ? name : item);
		if (parse_limit(soft, &limit->soft) < 0 || (colon && parse_limit(colon + 1, &limit->hard) < 0))
			return bh_error_text(err, EINVAL, "invalid ulimit argument: %s", item);
		if (!colon)
			limit->hard = limit->soft;
		if (limit->soft > limit->hard)
			return bh_error_text(err, EINVAL, "ulimit soft limit must be less than or equal to hard limit: %s", item);
		limit->type = bh_printf("RLIMIT_%s", name);
		for (char *c = limit->type; *c; c++)
			*c = (char)toupper((unsigned char)*c);
		spec->process.rlimit_count = i + 1;
	}
	return 0;
}

static void add_device(struct bh_spec *spec, const char *path, const struct stat *st, const char *access)
{
	struct bh_spec_device *device;
	struct bh_spec_device_rule *rule;

	spec->devices = bh_realloc(spec->devices, (spec->device_count + 1) * sizeof *spec->devices);
	device = &spec->devices[spec->device_count++];
	*device = (struct bh_spec_device){
		.path = bh_strdup(path),
		.type = S_ISBLK(st->st_mode) ? 'b' : 'c',
		.major = major(st->st_rdev),
		.minor = minor(st->st_rdev),
		.mode_set = true,
		.file_mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
	};
	spec->resources.devices = bh_realloc(spec->resources.devices, (spec->resources.device_count + 1) * sizeof *spec->resources.devices);
	rule = &spec->resources.devices[spec->resources.device_count++];
	*rule = (struct bh_spec_device_rule){ .allow = true, .type = device->type, .major = device->major, .minor = device->minor };
	snprintf(rule->access, sizeof rule->access, "%s", access);
}

static int add_device_folder(struct bh_spec *spec, const char *host, const char *inside, const char *access, struct bh_error *err)
{
	bh_auto_closedir DIR *dir = opendir(host);
	struct dirent *entry;

	if (!dir)
		return bh_error_set(err, errno, "open %s", host);
	while ((entry = readdir(dir))) {
		bh_auto_free char *source = bh_path_join(host, entry->d_name), *target = bh_path_join(inside, entry->d_name);
		struct stat st;

		if (stat(source, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
			add_device(spec, target, &st, access);
	}
	return 0;
}

static bool is_access(const char *text)
{
	return *text && strlen(text) <= 3 && !text[strspn(text, "rwm")];
}

static int apply_devices(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < o->device.count; i++) {
		bh_auto_strv struct bh_strv parts = bh_strv_split(o->device.items[i], ':');
		const char *host = parts.items[0], *inside = host, *access = "rwm";
		struct stat st;
		int r = 0;

		if (parts.count > 3 || (parts.count == 3 && !is_access(parts.items[2])))
			return bh_error_text(err, EINVAL, "invalid device specification: %s", o->device.items[i]);
		if (parts.count == 2 && is_access(parts.items[1]))
			access = parts.items[1];
		else if (parts.count >= 2)
			inside = parts.items[1];
		if (parts.count == 3)
			access = parts.items[2];
		if (*inside != '/')
			return bh_error_text(err, EINVAL, "invalid device path in container: %s", inside);
		if (stat(host, &st) < 0)
			return bh_error_set(err, errno, "error gathering device information while adding custom device \"%s\"", host);
		if (S_ISDIR(st.st_mode))
			r = add_device_folder(spec, host, inside, access, err);
		else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
			add_device(spec, inside, &st, access);
		else
			r = bh_error_text(err, EINVAL, "error gathering device information while adding custom device \"%s\": not a device node", host);
		if (r < 0)
			return r;
	}
	return 0;
}

static int device_number(const char *text, int64_t *ret_number)
{
	if (bh_streq(text, "*")) {
		*ret_number = -1;
		return 0;
	}
	return bh_parse_int(text, 0, INT32_MAX, ret_number);
}

static int apply_device_rules(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < o->device_cgroup_rule.count; i++) {
		struct bh_spec_device_rule rule = { .allow = true };
		char major_text[16], minor_text[16], access[8];
		int end = 0;

		if (sscanf(o->device_cgroup_rule.items[i], "%c %15[0-9*]:%15[0-9*] %7[rwm]%n", &rule.type, major_text, minor_text, access, &end) != 4 ||
		    o->device_cgroup_rule.items[i][end] || !strchr("abc", rule.type) || !is_access(access) ||
		    device_number(major_text, &rule.major) < 0 || device_number(minor_text, &rule.minor) < 0)
			return bh_error_text(err, EINVAL, "invalid device cgroup format '%s'", o->device_cgroup_rule.items[i]);
		snprintf(rule.access, sizeof rule.access, "%.3s", access);
		spec->resources.devices = bh_realloc(spec->resources.devices, (spec->resources.device_count + 1) * sizeof rule);
		spec->resources.devices[spec->resources.device_count++] = rule;
	}
	return 0;
}

static int namespace_mode(struct bh_engine *engine, const char *option, const char *value, const char *modes, struct bh_spec_namespace *ns,
			  struct bh_error *err)
{
	bh_auto_strv struct bh_strv allowed = bh_strv_split(modes, '|');

	if (!value || !*value || bh_streq(value, "private") || bh_streq(value, "shareable"))
		return 0;
	if (bh_strv_contains(&allowed, "container:") && bh_has_prefix(value, "container:")) {
		struct bh_container peer;
		int r = bh_engine_find(engine, value + strlen("container:"), &peer, err);

		if (r < 0)
			return r;
		/* The peer's pid is known only at start: start.c puts the path in. */
		ns->path = bh_printf("container:%s", peer.id);
		bh_container_clear(&peer);
		return 0;
	}
	if (bh_has_prefix(value, "ns:")) {
		ns->path = bh_strdup(value + strlen("ns:"));
		return 0;
	}
	if (bh_streq(value, "host") && bh_strv_contains(&allowed, "host")) {
		ns->present = false;
		return 0;
	}
	return bh_error_text(err, EINVAL, "--%s: invalid mode: %s", option, value);
}

static int apply_time_offset(const char *text, struct bh_spec *spec, struct bh_error *err)
{
	bh_auto_strv struct bh_strv parts = bh_strv_split(text, ',');

	for (size_t i = 0; i < parts.count; i++) {
		const char *equals = strchr(parts.items[i], '=');
		int64_t value;

		if (!equals || bh_parse_int(equals + 1, -INT64_C(10000000000), INT64_C(10000000000), &value) < 0)
			return bh_error_text(err, EINVAL, "invalid --time-offset '%s': the format is monotonic=SECONDS,boottime=SECONDS", text);
		if (bh_has_prefix(parts.items[i], "monotonic="))
			spec->time_offsets.monotonic_secs = value;
		else if (bh_has_prefix(parts.items[i], "boottime="))
			spec->time_offsets.boottime_secs = value;
		else
			return bh_error_text(err, EINVAL, "invalid --time-offset '%s': unknown clock", text);
	}
	spec->time_offsets.set = true;
	spec->namespaces[BH_NS_TIME].present = true;
	return 0;
}

static int apply_namespaces(struct bh_engine *engine, const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	int r = namespace_mode(engine, "pid", o->pid, "host|container:", &spec->namespaces[BH_NS_PID], err);

	if (r == 0)
		r = namespace_mode(engine, "ipc", o->ipc, "host|container:", &spec->namespaces[BH_NS_IPC], err);
	if (r == 0)
		r = namespace_mode(engine, "uts", o->uts, "host", &spec->namespaces[BH_NS_UTS], err);
	if (r == 0)
		r = namespace_mode(engine, "cgroupns", o->cgroupns, "host", &spec->namespaces[BH_NS_CGROUP], err);
	if (r == 0 && o->time_offset)
		r = apply_time_offset(o->time_offset, spec, err);
	if (r == 0 && bh_streq(o->ipc, "host")) {
		struct bh_spec_mount *shm = bh_spec_find_mount(spec, "/dev/shm");

		if (shm) { /* the host's, since its IPC objects are shared */
			bh_spec_remove_mount(spec, "/dev/shm");
			bh_spec_add_mount(spec, "/dev/shm", "bind", "/dev/shm", "rbind,rprivate");
		}
	}
	return r;
}

static int apply_shm_size(const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	struct bh_spec_mount *shm = bh_spec_find_mount(spec, "/dev/shm");

	if (o->shm_size == BH_UNSET)
		return 0;
	if (o->shm_size <= 0)
		return bh_error_text(err, EINVAL, "SHM size can not be less than 0");
	for (size_t i = 0; shm && bh_streq(shm->type, "tmpfs") && i < shm->options.count; i++) {
		if (!bh_has_prefix(shm->options.items[i], "size="))
			continue;
		free(shm->options.items[i]);
		shm->options.items[i] = bh_printf("size=%lld", (long long)o->shm_size);
	}
	return 0;
}

static int apply_network(struct bh_engine *engine, const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	const struct bh_network_driver *driver;
	struct bh_microvm_network tap = { 0 };
	const char *argument;
	int r;

	if (bh_microvm_network_is_tap(o->network)) {
		if (!bh_streq(o->isolation, "vm"))
			return bh_error_text(err, EINVAL, "--network tap: only a microVM has a tap device (--isolation vm)");
		r = bh_microvm_network_parse(o->network, &tap, err);
		bh_microvm_network_clear(&tap);
		return r;
	}
	r = bh_network_driver_find(o->network, &driver, &argument, err);
	if (r < 0)
		return r;
	if (driver == &bh_network_container)
		return namespace_mode(engine, "network", o->network, "container:", &spec->namespaces[BH_NS_NETWORK], err);
	spec->namespaces[BH_NS_NETWORK].present = driver->own_namespace;
	return 0;
}

int bh_engine_apply_options(struct bh_engine *engine, const struct bh_create_options *o, struct bh_spec *spec, struct bh_error *err)
{
	static int (*const families[])(const struct bh_create_options *, struct bh_spec *, struct bh_error *) = {
		apply_memory,   apply_cpu,     apply_block_io, apply_hugetlb,      apply_pids,     apply_capabilities,
		apply_security, apply_ulimits, apply_devices,  apply_device_rules, apply_shm_size,
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(families); i++)
		r = families[i](o, spec, err);
	if (r == 0)
		r = apply_namespaces(engine, o, spec, err);
	if (r == 0)
		r = apply_network(engine, o, spec, err);
	return r;
}

static int add_env_file(struct bh_strv *env, const char *path, struct bh_error *err)
{
	bh_auto_buf struct bh_buf content = { 0 };
	bh_auto_strv struct bh_strv lines = { 0 };
	int r = bh_read_file_at(AT_FDCWD, path, 1u << 20, &content, err);

	if (r < 0)
		return r;
	lines = bh_strv_split(content.data, '\n');
	for (size_t i = 0; i < lines.count; i++) {
		char *line = lines.items[i] + strspn(lines.items[i], " \t");
		const char *value;

		if (!*line || *line == '#')
			continue;
		if (strcspn(line, "= \t") != strcspn(line, "="))
			return bh_error_text(err, EINVAL, "invalid env file %s: variable '%s' contains whitespaces", path, line);
		value = strchr(line, '=') ? "" : getenv(line);
		if (strchr(line, '=')) {
			bh_env_set(env, line);
		} else if (value) {
			bh_auto_free char *pair = bh_printf("%s=%s", line, value);

			bh_env_set(env, pair);
		}
	}
	return 0;
}

int bh_engine_add_env(struct bh_strv *env, const struct bh_strv *files, const struct bh_strv *values, struct bh_error *err)
{
	for (size_t i = 0; i < files->count; i++) {
		int r = add_env_file(env, files->items[i], err);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < values->count; i++) {
		const char *item = values->items[i];
		bh_auto_free char *pair = NULL;

		if (!*item || *item == '=')
			return bh_error_text(err, EINVAL, "invalid environment variable: %s", item);
		if (!strchr(item, '=')) {
			if (!getenv(item))
				continue;
			pair = bh_printf("%s=%s", item, getenv(item));
		}
		bh_env_set(env, pair ? pair : item);
	}
	return 0;
}
