/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device rules (linux.resources.devices): an ordered list, the last matching rule decides.
 *
 * The kernel's v1 files and a short BPF program both want "all denied (or allowed) but these", so the list is reduced once:
 * a rule for all devices starts over; other rules merge into an entry with the same device, or add one. A later rule that
 * goes with the base behaviour takes access away from the entries that it covers.
 */
#include "cgroup/cgroup-internal.h"

#include <errno.h>

static unsigned access_bits(const char *access)
{
	unsigned bits = 0;

	for (; *access; access++)
		bits |= *access == 'r' ? 1u : *access == 'w' ? 2u : *access == 'm' ? 4u : 0;
	return bits;
}

static void set_access(struct bh_spec_device_rule *rule, unsigned bits)
{
	snprintf(rule->access, sizeof rule->access, "%s%s%s", bits & 1 ? "r" : "", bits & 2 ? "w" : "", bits & 4 ? "m" : "");
}

/* Does `wide` speak of every device that `narrow` speaks of? */
static bool covers(const struct bh_spec_device_rule *wide, const struct bh_spec_device_rule *narrow)
{
	return (wide->type == 'a' || wide->type == narrow->type) && (wide->major < 0 || wide->major == narrow->major) &&
	       (wide->minor < 0 || wide->minor == narrow->minor);
}

/* -EINVAL if the rule would have to punch a hole into a wider entry: neither of the kernel's forms can say that, and
 * leaving the rule out would give away what it forbids. */
static int take_away(struct bh_device_set *set, const struct bh_spec_device_rule *rule)
{
	unsigned bits = access_bits(rule->access);
	size_t kept = 0;

	for (size_t i = 0; i < set->count; i++) {
		struct bh_spec_device_rule *e = &set->exceptions[i];

		if (covers(rule, e))
			set_access(e, access_bits(e->access) & ~bits);
		else if (covers(e, rule) && (access_bits(e->access) & bits))
			return -EINVAL;
		if (*e->access)
			set->exceptions[kept++] = *e;
	}
	set->count = kept;
	return 0;
}

static void add_exception(struct bh_device_set *set, const struct bh_spec_device_rule *rule)
{
	for (size_t i = 0; i < set->count; i++) {
		struct bh_spec_device_rule *e = &set->exceptions[i];

		if (e->type == rule->type && e->major == rule->major && e->minor == rule->minor) {
			set_access(e, access_bits(e->access) | access_bits(rule->access));
			return;
		}
	}
	set->exceptions = bh_grow(set->exceptions, &set->capacity, set->count + 1, sizeof *set->exceptions);
	set->exceptions[set->count] = *rule;
	set_access(&set->exceptions[set->count++], access_bits(rule->access));
}

static int add_rule(struct bh_device_set *set, const struct bh_spec_device_rule *rule)
{
	if (rule->allow == set->allow_all)
		return take_away(set, rule);
	add_exception(set, rule);
	return 0;
}

int bh_device_set_from_rules(const struct bh_spec_device_rule *rules, size_t count, struct bh_device_set *ret_set, struct bh_error *err)
{
	/* A new cgroup has its parent's rights: everything, for all we know. */
	struct bh_device_set set = { .allow_all = true };

	for (size_t i = 0; i < count; i++) {
		struct bh_spec_device_rule rule = rules[i];
		bool all = rule.type == 'a' || rule.type == 0;
		int r;

		set_access(&rule, *rules[i].access ? access_bits(rules[i].access) : 7);
		if (all && rule.major < 0 && rule.minor < 0 && access_bits(rule.access) == 7) {
			set.count = 0;
			set.allow_all = rule.allow;
			continue;
		}
		rule.type = all ? 'c' : rule.type;
		r = add_rule(&set, &rule);
		rule.type = 'b';
		if (r == 0 && all)
			r = add_rule(&set, &rule);
		if (r < 0) {
			bh_device_set_clear(&set);
			return bh_error_text(err, EINVAL,
					     "linux.resources.devices[%zu]: an exception from a rule for several devices is not supported", i);
		}
	}
	*ret_set = set;
	return 0;
}

void bh_device_set_clear(struct bh_device_set *set)
{
	free(set->exceptions);
	*set = (struct bh_device_set){ 0 };
}

void bh_device_set_subtract(const struct bh_device_set *set, struct bh_spec_device_rule *rule)
{
	for (size_t i = 0; i < set->count; i++) {
		const struct bh_spec_device_rule *e = &set->exceptions[i];

		if (e->type == rule->type && e->major == rule->major && e->minor == rule->minor)
			set_access(rule, access_bits(rule->access) & ~access_bits(e->access));
	}
}

/* "5", "*" */
static int parse_number_or_any(const char *text, int64_t *ret_number)
{
	if (bh_streq(text, "*")) {
		*ret_number = -1;
		return 0;
	}
	return bh_parse_int(text, 0, UINT32_MAX, ret_number);
}

int bh_device_set_from_list(const char *list, struct bh_device_set *ret_set, struct bh_error *err)
{
	bh_auto_strv struct bh_strv lines = bh_strv_split(list, '\n');
	struct bh_device_set set = { 0 };

	for (size_t i = 0; i < lines.count; i++) {
		struct bh_spec_device_rule rule = { .allow = true };
		char major[16], minor[16];

		if (!*lines.items[i])
			continue;
		/* A list that allows all is one line: "a *:* rwm". */
		if (sscanf(lines.items[i], "%c %15[0-9*]:%15[0-9*] %3[rwm]", &rule.type, major, minor, rule.access) != 4 ||
		    !strchr("abc", rule.type) || parse_number_or_any(major, &rule.major) < 0 || parse_number_or_any(minor, &rule.minor) < 0) {
			bh_device_set_clear(&set);
			return bh_error_text(err, EINVAL, "devices.list: unexpected line '%.64s'", lines.items[i]);
		}
		if (rule.type == 'a')
			set.allow_all = true;
		else
			add_exception(&set, &rule);
	}
	*ret_set = set;
	return 0;
}

/*
 * What every container of an OCI runtime gets beside its configuration (runtime-spec config-linux.md, "Default Devices"): the
 * listed devices, its terminals; and mknod of any device, which gives access to none.
 */
static const struct {
	const char *path; /* a device of the configuration at the same path takes its place */
	struct bh_spec_device_rule rule;
} runtime_rules[] = {
	{ NULL, { true, 'c', -1, -1, "m" } },        { NULL, { true, 'b', -1, -1, "m" } },
	{ "/dev/null", { true, 'c', 1, 3, "rwm" } }, { "/dev/random", { true, 'c', 1, 8, "rwm" } },
	{ "/dev/full", { true, 'c', 1, 7, "rwm" } }, { "/dev/tty", { true, 'c', 5, 0, "rwm" } },
	{ "/dev/zero", { true, 'c', 1, 5, "rwm" } }, { "/dev/urandom", { true, 'c', 1, 9, "rwm" } },
	{ NULL, { true, 'c', 136, -1, "rwm" } }, /* /dev/pts */
	{ NULL, { true, 'c', 5, 2, "rwm" } },    /* /dev/ptmx */
};

static bool has_device(const struct bh_spec *spec, const char *path)
{
	for (size_t i = 0; path && i < spec->device_count; i++)
		if (bh_streq(spec->devices[i].path, path))
			return true;
	return false;
}

void bh_cgroup_add_runtime_device_rules(struct bh_spec *spec)
{
	size_t count = spec->resources.device_count, capacity = 0;
	struct bh_spec_device_rule *rules = bh_grow(NULL, &capacity, count + BH_ARRAY_SIZE(runtime_rules) + 1, sizeof *rules);
	size_t total = 0;

	rules[total++] = (struct bh_spec_device_rule){ false, 'a', -1, -1, "rwm" };
	if (count)
		memcpy(rules + total, spec->resources.devices, count * sizeof *rules);
	total += count;
	for (size_t i = 0; i < BH_ARRAY_SIZE(runtime_rules); i++)
		if (!has_device(spec, runtime_rules[i].path))
			rules[total++] = runtime_rules[i].rule;
	free(spec->resources.devices);
	spec->resources.devices = rules;
	spec->resources.device_count = total;
}

static const char *number_or_any(int64_t number, char text[24])
{
	snprintf(text, 24, "%lld", (long long)number);
	return number < 0 ? "*" : text;
}

void bh_device_rule_format(const struct bh_spec_device_rule *rule, char ret_text[64])
{
	char major[24], minor[24];

	snprintf(ret_text, 64, "%c %s:%s %s", rule->type ? rule->type : 'a', number_or_any(rule->major, major), number_or_any(rule->minor, minor),
		 rule->access);
}
