/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.resources and annotations as properties of a systemd unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).
 *
 * The same set that runc gives: systemd has to know the limits, or it would write its own over them at the next reload. What
 * systemd has no property for is written to the cgroup's files afterwards, and so is all that it knows, exactly: CPUQuota is a
 * whole percentage there. Properties of systemd 244 and later are taken for granted.
 */
#include "cgroup/systemd-internal.h"

#include "base/file.h"
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>

#define DEFAULT_PERIOD_US 100000
/* The highest number in a list of cpus or memory nodes, plus one. */
#define BITS_MAX 8192
#define PROC_DEVICES_MAX 65536

void bh_unit_properties_open(struct bh_unit_properties *p, struct bh_buf *out)
{
	p->out = out;
	p->mark = bh_dbus_open_array(out, 8);
}

void bh_unit_properties_close(struct bh_unit_properties *p)
{
	bh_dbus_close_array(p->out, p->mark, 8);
}

static void open_property(struct bh_unit_properties *p, const char *name, const char *signature)
{
	bh_dbus_align(p->out, 8);
	bh_dbus_put_string(p->out, name);
	if (signature)
		bh_dbus_put_signature(p->out, signature);
	bh_explain("cgroup", "unit property", name);
}

void bh_unit_property_string(struct bh_unit_properties *p, const char *name, const char *value)
{
	open_property(p, name, "s");
	bh_dbus_put_string(p->out, value);
}

void bh_unit_property_bool(struct bh_unit_properties *p, const char *name, bool value)
{
	open_property(p, name, "b");
	bh_dbus_put_u32(p->out, value);
}

void bh_unit_property_u64(struct bh_unit_properties *p, const char *name, uint64_t value)
{
	open_property(p, name, "t");
	bh_dbus_put_u64(p->out, value);
}

void bh_unit_property_pid(struct bh_unit_properties *p, const char *name, pid_t pid)
{
	size_t mark;

	open_property(p, name, "au");
	mark = bh_dbus_open_array(p->out, 4);
	bh_dbus_put_u32(p->out, (uint32_t)pid);
	bh_dbus_close_array(p->out, mark, 4);
}

/* --- cpu ------------------------------------------------------------------------------------------------------------------ */

/* Microseconds per second, rounded up to the whole percentages that systemd counts in. */
static void add_quota(struct bh_unit_properties *p, int64_t quota, uint64_t period)
{
	uint64_t per_second = UINT64_MAX;

	if (period)
		bh_unit_property_u64(p, "CPUQuotaPeriodUSec", period);
	if (!quota && !period)
		return;
	if (quota > 0) {
		per_second = (uint64_t)((__extension__(unsigned __int128) quota * 1000000) / (period ? period : DEFAULT_PERIOD_US));
		per_second = (per_second + 9999) / 10000 * 10000;
	}
	bh_unit_property_u64(p, "CPUQuotaPerSecUSec", per_second);
}

/* "0-3,7" as a bit mask, lowest byte first. */
static int add_mask(struct bh_unit_properties *p, const char *name, const char *list, struct bh_error *err)
{
	uint8_t mask[BITS_MAX / 8] = { 0 };
	size_t used = 0, array;

	for (const char *at = list;; at++) {
		unsigned long first, last;
		char *end;

		at += strspn(at, " \n");
		if (!isdigit((unsigned char)*at))
			return bh_error_text(err, EINVAL, "%s=\"%.64s\" conversion error: not a list of numbers", name, list);
		first = last = strtoul(at, &end, 10);
		if (*end == '-' && isdigit((unsigned char)end[1]))
			last = strtoul(end + 1, &end, 10);
		if (first > last || last >= BITS_MAX)
			return bh_error_text(err, EINVAL, "%s=\"%.64s\" conversion error: bad range", name, list);
		for (unsigned long bit = first; bit <= last; bit++)
			mask[bit / 8] |= (uint8_t)(1u << bit % 8);
		used = BH_MAX(used, last / 8 + 1);
		at = end + strspn(end, " \n");
		if (!*at)
			break;
		if (*at != ',')
			return bh_error_text(err, EINVAL, "%s=\"%.64s\" conversion error: not a list of numbers", name, list);
	}
	open_property(p, name, "ay");
	array = bh_dbus_open_array(p->out, 1);
	bh_buf_add(p->out, mask, used);
	bh_dbus_close_array(p->out, array, 1);
	return 0;
}

static int add_cpuset(struct bh_unit_properties *p, const struct bh_spec_resources *r, struct bh_error *err)
{
	int result = 0;

	if (r->cpu.cpus && *r->cpu.cpus)
		result = add_mask(p, "AllowedCPUs", r->cpu.cpus, err);
	if (result == 0 && r->cpu.mems && *r->cpu.mems)
		result = add_mask(p, "AllowedMemoryNodes", r->cpu.mems, err);
	return result;
}

/* --- devices -------------------------------------------------------------------------------------------------------------- */

static void put_device(struct bh_buf *out, const char *device, const char *access)
{
	bh_dbus_align(out, 8);
	bh_dbus_put_string(out, device);
	bh_dbus_put_string(out, access);
}

/* The name of a major number in /proc/devices ("136 pts"), or NULL. Owned by the caller. */
static char *device_group(const char *devices, char type, int64_t major)
{
	const char *section = strstr(devices, type == 'c' ? "Character devices:\n" : "Block devices:\n");

	for (const char *line = section ? strchr(section, '\n') : NULL; line && line[1] && line[1] != '\n'; line = strchr(line + 1, '\n')) {
		long long number;
		char name[64];

		if (sscanf(line + 1, "%lld %63[^\n]", &number, name) == 2 && number == major)
			return bh_strdup(name);
	}
	return NULL;
}

/* Devices are named by path or by group ("char-pts", "char-*"): there is no way to name a number that no driver has. */
static void add_device(struct bh_buf *out, const char *devices, const struct bh_spec_device_rule *rule)
{
	const char *kind = rule->type == 'b' ? "block" : "char";
	bh_auto_free char *name = NULL;

	if (rule->major < 0 && rule->minor >= 0) {
		bh_warn_once("device rule for minor number %lld of any driver: systemd has no such rule", (long long)rule->minor);
		return;
	}
	if (rule->major < 0) {
		name = bh_printf("%s-*", kind);
	} else if (rule->minor < 0) {
		bh_auto_free char *group = device_group(devices, rule->type, rule->major);

		if (!group)
			return;
		name = bh_printf("%s-%s", kind, group);
	} else {
		name = bh_printf("/dev/%s/%lld:%lld", kind, (long long)rule->major, (long long)rule->minor);
	}
	put_device(out, name, rule->access);
}

static int add_devices(struct bh_unit_properties *p, const struct bh_spec_resources *r, struct bh_error *err)
{
	bh_auto_buf struct bh_buf devices = { 0 };
	struct bh_device_set set = { 0 };
	size_t array;
	int result;

	if (r->device_count == 0)
		return 0;
	result = bh_device_set_from_rules(r->devices, r->device_count, &set, err);
	if (result < 0)
		return result;
	/* A list that forbids some things and allows the rest is for our own filter alone. */
	bh_unit_property_string(p, "DevicePolicy", set.allow_all ? "auto" : "strict");
	if (bh_read_file_at(AT_FDCWD, "/proc/devices", PROC_DEVICES_MAX, &devices, NULL) < 0)
		bh_buf_adds(&devices, "");
	/* An empty list first: it takes back what was set before. */
	open_property(p, "DeviceAllow", "a(ss)");
	array = bh_dbus_open_array(p->out, 8);
	bh_dbus_close_array(p->out, array, 8);
	if (!set.allow_all) {
		open_property(p, "DeviceAllow", "a(ss)");
		array = bh_dbus_open_array(p->out, 8);
		for (size_t i = 0; i < set.count; i++)
			add_device(p->out, devices.data, &set.exceptions[i]);
		bh_dbus_close_array(p->out, array, 8);
	}
	bh_device_set_clear(&set);
	return 0;
}

/* --- the unified map -------------------------------------------------------------------------------------------------------- */

static int bad_unified(const char *key, const char *value, struct bh_error *err)
{
	return bh_error_text(err, EINVAL, "unified resource \"%s\" value conversion error: \"%.64s\"", key, value);
}

static int add_unified_number(struct bh_unit_properties *p, const char *property, const char *key, const char *value, struct bh_error *err)
{
	uint64_t number = UINT64_MAX;

	if (!bh_streq(value, "max") && bh_parse_uint(value, UINT64_MAX, &number) < 0)
		return bad_unified(key, value, err);
	bh_unit_property_u64(p, property, number);
	return 0;
}

static int add_unified_quota(struct bh_unit_properties *p, const char *key, const char *value, struct bh_error *err)
{
	bh_auto_strv struct bh_strv words = bh_strv_split(value, ' ');
	uint64_t period = DEFAULT_PERIOD_US;
	int64_t quota = 0;

	if (words.count < 1 || words.count > 2 || (!bh_streq(words.items[0], "max") && bh_parse_int(words.items[0], 1, INT64_MAX, &quota) < 0) ||
	    (words.count == 2 && (bh_parse_uint(words.items[1], UINT32_MAX, &period) < 0 || !period)))
		return bad_unified(key, value, err);
	add_quota(p, quota, period);
	return 0;
}

/* Keys that aren't here have no property; they are written to the file only. */
static int add_unified(struct bh_unit_properties *p, const char *key, const char *value, struct bh_error *err)
{
	static const struct {
		const char *key, *property;
		char kind; /* n: a number or "max"; q: a quota; m: a mask */
	} known[] = {
		{ "cpu.max", NULL, 'q' },
		{ "cpu.weight", "CPUWeight", 'n' },
		{ "cpuset.cpus", "AllowedCPUs", 'm' },
		{ "cpuset.mems", "AllowedMemoryNodes", 'm' },
		{ "memory.high", "MemoryHigh", 'n' },
		{ "memory.low", "MemoryLow", 'n' },
		{ "memory.max", "MemoryMax", 'n' },
		{ "memory.min", "MemoryMin", 'n' },
		{ "memory.swap.max", "MemorySwapMax", 'n' },
		{ "pids.max", "TasksMax", 'n' },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(known); i++) {
		if (!bh_streq(key, known[i].key))
			continue;
		if (known[i].kind == 'q')
			return add_unified_quota(p, key, value, err);
		return known[i].kind == 'm' ? add_mask(p, known[i].property, value, err) : add_unified_number(p, known[i].property, key, value, err);
	}
	return 0;
}

static int add_unified_map(struct bh_unit_properties *p, const struct bh_strv *unified, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < unified->count; i++) {
		const char *equals = strchr(unified->items[i], '=');
		bh_auto_free char *key = equals ? bh_strndup(unified->items[i], (size_t)(equals - unified->items[i])) : NULL, *value = NULL;
		size_t length;

		if (!key)
			continue;
		equals += 1 + strspn(equals + 1, " \t\n");
		for (length = strlen(equals); length && isspace((unsigned char)equals[length - 1]); length--)
			;
		value = bh_strndup(equals, length);
		r = add_unified(p, key, value, err);
	}
	return r;
}

/* --- all ----------------------------------------------------------------------------------------------------------------------- */

static int add_v1(struct bh_unit_properties *p, const struct bh_spec_resources *r, struct bh_error *err)
{
	(void)err;
	if (r->memory.limit.set && r->memory.limit.value)
		bh_unit_property_u64(p, "MemoryLimit", (uint64_t)r->memory.limit.value);
	if (r->cpu.shares.set && r->cpu.shares.value)
		bh_unit_property_u64(p, "CPUShares", r->cpu.shares.value);
	if (r->block_io.weight.set && r->block_io.weight.value)
		bh_unit_property_u64(p, "BlockIOWeight", r->block_io.weight.value);
	return 0;
}

static int add_memory_v2(struct bh_unit_properties *p, const struct bh_spec_resources *r, struct bh_error *err)
{
	const int64_t limit = r->memory.limit.set ? r->memory.limit.value : 0, swap = r->memory.swap.set ? r->memory.swap.value : 0;

	/* -1, unlimited, is systemd's CGROUP_LIMIT_MAX as it stands. */
	if (limit)
		bh_unit_property_u64(p, "MemoryMax", (uint64_t)limit);
	if (r->memory.reservation.set && r->memory.reservation.value)
		bh_unit_property_u64(p, "MemoryLow", (uint64_t)r->memory.reservation.value);
	if (swap > 0 && limit <= 0)
		return bh_error_text(err, EINVAL, "unable to set swap limit without memory limit");
	if (swap > 0 && swap < limit)
		return bh_error_text(err, EINVAL, "memory+swap limit should be >= memory limit");
	if (swap < 0 || limit < 0)
		bh_unit_property_u64(p, "MemorySwapMax", UINT64_MAX);
	else if (swap > 0)
		bh_unit_property_u64(p, "MemorySwapMax", (uint64_t)(swap - limit));
	return 0;
}

static int add_v2(struct bh_unit_properties *p, const struct bh_spec_resources *r, struct bh_error *err)
{
	if (r->cpu.shares.set && r->cpu.shares.value)
		bh_unit_property_u64(p, "CPUWeight", bh_cgroup_weight_from_shares(r->cpu.shares.value));
	if (r->block_io.weight.set && r->block_io.weight.value)
		bh_unit_property_u64(p, "IOWeight", bh_cgroup_io_weight(r->block_io.weight.value));
	return add_memory_v2(p, r, err);
}

int bh_unit_properties_from_resources(struct bh_unit_properties *p, int version, const struct bh_spec_resources *r, struct bh_error *err)
{
	int result = add_devices(p, r, err);

	if (result == 0)
		result = version == 2 ? add_v2(p, r, err) : add_v1(p, r, err);
	if (result < 0)
		return result;
	add_quota(p, r->cpu.quota.set ? r->cpu.quota.value : 0, r->cpu.period.set ? r->cpu.period.value : 0);
	if (r->pids_limit.set && (r->pids_limit.value > 0 || r->pids_limit.value == -1))
		bh_unit_property_u64(p, "TasksMax", (uint64_t)r->pids_limit.value);
	result = add_cpuset(p, r, err);
	return result < 0 ? result : add_unified_map(p, &r->unified, err);
}

/* --- annotations ----------------------------------------------------------------------------------------------------------------- */

#define ANNOTATION "org.systemd.property."
#define NAME_MAX_LENGTH 128

static int add_annotation(struct bh_unit_properties *p, const char *annotation, struct bh_error *err)
{
	const char *at = annotation + strlen(ANNOTATION), *equals = strchr(at, '=');
	size_t length = equals ? (size_t)(equals - at) : 0;
	char name[NAME_MAX_LENGTH + 8];
	struct bh_dbus_value value = { 0 };
	int r;

	if (length < 3 || length > NAME_MAX_LENGTH)
		return bh_error_text(err, EINVAL, "annotation %.64s name incorrect: too short or too long", annotation);
	for (size_t i = 0; i < length; i++)
		if (!isalpha((unsigned char)at[i]))
			return bh_error_text(err, EINVAL, "annotation %.64s name incorrect: contains non-alphabetic character", annotation);
	snprintf(name, sizeof name, "%.*s", (int)length, at);
	r = bh_dbus_value_parse(equals + 1, &value, err);
	/* Many are documented in seconds but are microseconds on the bus. */
	if (r == 0 && length > 3 && bh_streq(name + length - 3, "Sec") && islower((unsigned char)name[length - 4])) {
		snprintf(name + length - 3, sizeof name - length + 3, "USec");
		r = bh_dbus_value_to_usec(&value);
		if (r < 0)
			r = bh_error_text(err, EINVAL, "'%.64s': not a number", equals + 1);
	}
	if (r < 0) {
		bh_dbus_value_clear(&value);
		return bh_error_prefix(err, "annotation %.*s value parse error", (int)(equals - annotation), annotation);
	}
	open_property(p, name, NULL);
	bh_dbus_put_value(p->out, &value);
	bh_dbus_value_clear(&value);
	return 0;
}

int bh_unit_properties_from_annotations(struct bh_unit_properties *p, const struct bh_strv *annotations, struct bh_error *err)
{
	int r = 0;

	for (size_t i = 0; annotations && r == 0 && i < annotations->count; i++)
		if (bh_has_prefix(annotations->items[i], ANNOTATION))
			r = add_annotation(p, annotations->items[i], err);
	return r;
}
