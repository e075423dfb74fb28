/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json <-> struct bh_spec.
 *
 * The tables below follow the runtime specification's chapters (config.md, config-linux.md) field by field, in its
 * order; the walkers in schema.c do the work; the smaller objects have their tables in spec-process.c, spec-linux.c and
 * spec-vm.c. Fields of other platforms are unknown names and so ignored, as the specification asks. docs/spec.md says of
 * each field who applies or refuses it.
 *
 * Three things go beyond the tables: `seccomp` absent means no filter, and the annotation io.bulkhead.seccomp=default
 * stands for the built-in profile; device numbers default to "any" (-1) in rules; and a few checks that concern several
 * fields run at the end.
 */
#include "oci/spec-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "oci/spec.h"

#include <errno.h>

#define SECCOMP_ANNOTATION "io.bulkhead.seccomp="

/* --- codecs ------------------------------------------------------------------------------------------------------- */

static int parse_capability_set(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	bh_auto_strv struct bh_strv unknown = { 0 };
	bh_auto_free char *names = NULL;
	uint64_t set = 0;

	if (!json_object_is_type(value, json_type_array))
		return bh_schema_error(path, err, "expected an array of capability names");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct bh_json_path here = { path, NULL, i };
		const char *name;
		int number, r = bh_schema_string(json_object_array_get_idx(value, i), &here, &name, err);

		if (r < 0)
			return r;
		number = bh_capability_number(name);
		if (number < 0)
			bh_strv_add(&unknown, name);
		else
			set |= UINT64_C(1) << number;
	}
	*(uint64_t *)at = set;
	/* The specification: a value that can't be mapped is logged, not fatal. In runc's words, once for all sets. */
	if (!unknown.count)
		return 0;
	names = bh_strv_join(&unknown, " ");
	bh_warn_once("ignoring unknown or unavailable capabilities: [%.400s]", names);
	return 0;
}

static bool write_capability_set(const void *at, struct bh_buf *out)
{
	uint64_t set = *(const uint64_t *)at;
	bool first = true;

	bh_buf_addc(out, '[');
	for (int i = 0; bh_capability_name(i); i++) {
		if (!(set >> i & 1))
			continue;
		bh_buf_addf(out, "%s\"%s\"", first ? "" : ",", bh_capability_name(i));
		first = false;
	}
	bh_buf_addc(out, ']');
	return set != 0;
}
static const struct bh_field_codec capability_set = { parse_capability_set, write_capability_set, NULL };

static const char *const namespace_names[BH_NS_COUNT] = {
	[BH_NS_PID] = "pid", [BH_NS_NETWORK] = "network", [BH_NS_MOUNT] = "mount",   [BH_NS_IPC] = "ipc",
	[BH_NS_UTS] = "uts", [BH_NS_USER] = "user",       [BH_NS_CGROUP] = "cgroup", [BH_NS_TIME] = "time",
};

struct named_namespace {
	char *type, *path;
};
static const struct bh_field namespace_fields[] = {
	NEEDED("type", STRING, named_namespace, type),
	FIELD("path", STRING, named_namespace, path),
	{ 0 },
};

static int parse_namespace(json_object *value, struct bh_spec_namespace *namespaces, const struct bh_json_path *path, struct bh_error *err)
{
	struct named_namespace named = { 0 };
	int type = 0, r = bh_schema_parse(value, namespace_fields, &named, path, err);

	while (r == 0 && type < BH_NS_COUNT && !bh_streq(named.type, namespace_names[type]))
		type++;
	/* In the words of runc. */
	if (r == 0 && type == BH_NS_COUNT)
		r = bh_schema_error(path, err, "namespace {\"%.40s\" \"%.200s\"} does not exist", named.type, named.path ? named.path : "");
	else if (r == 0 && namespaces[type].present)
		r = bh_schema_error(path, err, "malformed spec file: duplicated ns {\"%.40s\" \"%.200s\"}", named.type, named.path ? named.path : "");
	else if (r == 0 && named.path && *named.path && *named.path != '/')
		r = bh_schema_error(path, err, "the path '%.200s' is not absolute", named.path);
	if (r == 0) {
		namespaces[type].present = true;
		if (named.path && *named.path)
			namespaces[type].path = BH_TAKE_PTR(named.path);
	}
	bh_schema_clear(namespace_fields, &named);
	return r;
}

static int parse_namespaces(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	if (!json_object_is_type(value, json_type_array))
		return bh_schema_error(path, err, "expected an array");
	for (size_t i = 0; i < json_object_array_length(value); i++) {
		struct bh_json_path here = { path, NULL, i };
		int r = parse_namespace(json_object_array_get_idx(value, i), at, &here, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static bool write_namespaces(const void *at, struct bh_buf *out)
{
	const struct bh_spec_namespace *namespaces = at;
	bool first = true;

	bh_buf_addc(out, '[');
	for (int i = 0; i < BH_NS_COUNT; i++) {
		if (!namespaces[i].present)
			continue;
		bh_buf_addf(out, "%s{\"type\":\"%s\"", first ? "" : ",", namespace_names[i]);
		if (namespaces[i].path) {
			bh_buf_adds(out, ",\"path\":");
			bh_buf_add_json(out, namespaces[i].path);
		}
		bh_buf_addc(out, '}');
		first = false;
	}
	bh_buf_addc(out, ']');
	return !first;
}

static void clear_namespaces(void *at)
{
	struct bh_spec_namespace *namespaces = at;

	for (int i = 0; i < BH_NS_COUNT; i++) {
		free(namespaces[i].path);
		namespaces[i] = (struct bh_spec_namespace){ 0 };
	}
}
static const struct bh_field_codec namespaces_codec = { parse_namespaces, write_namespaces, clear_namespaces };

static int parse_gid(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;

	if (number < 0 || number > UINT32_MAX)
		return bh_schema_error(path, err, "expected a group number");
	*(uint32_t *)at = (uint32_t)number;
	return 0;
}

static bool write_gid(const void *at, struct bh_buf *out)
{
	bh_buf_addf(out, "%u", *(const uint32_t *)at);
	return true;
}
static const struct bh_field_codec gid_codec = { parse_gid, write_gid, NULL };

/* A one-letter type, as in devices. */
static int parse_letter(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	const char *text;
	int r = bh_schema_string(value, path, &text, err);

	if (r < 0)
		return r;
	if (!*text || text[1] || !strchr("abcup", *text))
		return bh_schema_error(path, err, "unknown device type '%.40s'", text);
	*(char *)at = *text;
	return 0;
}

static bool write_letter(const void *at, struct bh_buf *out)
{
	char text[2] = { *(const char *)at, '\0' };

	bh_buf_add_json(out, text);
	return *text != '\0';
}
static const struct bh_field_codec letter = { parse_letter, write_letter, NULL };

static int parse_access(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	const char *text;
	char *ret_access = at;
	int r = bh_schema_string(value, path, &text, err);

	if (r < 0)
		return r;
	/* As runc takes them: each once, in any order; an "a" among them says nothing. */
	if (text[strspn(text, "rwma")])
		return bh_schema_error(path, err, "expected letters of \"rwm\"");
	for (const char *known = "rwm"; *known; known++)
		if (strchr(text, *known))
			*ret_access++ = *known;
	*ret_access = '\0';
	return 0;
}

static bool write_access(const void *at, struct bh_buf *out)
{
	bh_buf_add_json(out, at);
	return *(const char *)at != '\0';
}
static const struct bh_field_codec access_codec = { parse_access, write_access, NULL };

/* Device numbers of rules: a missing one means any, which is -1 here and also written as -1. */
struct rule_numbers {
	struct bh_opt_i64 major, minor;
	struct bh_spec_device_rule rule;
};
static const struct bh_field rule_fields[] = {
	NEEDED("allow", BOOL, rule_numbers, rule.allow),
	CODED("type", rule_numbers, rule.type, &letter),
	FIELD("major", OPT_I64, rule_numbers, major),
	FIELD("minor", OPT_I64, rule_numbers, minor),
	CODED("access", rule_numbers, rule.access, &access_codec),
	{ 0 },
};

static int parse_rule(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	struct rule_numbers numbers = { 0 };
	int r = bh_schema_parse(value, rule_fields, &numbers, path, err);

	if (r < 0)
		return r;
	if (!numbers.rule.type)
		numbers.rule.type = 'a';
	if (!strchr("abc", numbers.rule.type))
		return bh_schema_error(path, err, "a rule is for type a, b or c");
	if (!*numbers.rule.access)
		snprintf(numbers.rule.access, sizeof numbers.rule.access, "rwm");
	numbers.rule.major = numbers.major.set ? numbers.major.value : -1;
	numbers.rule.minor = numbers.minor.set ? numbers.minor.value : -1;
	*(struct bh_spec_device_rule *)at = numbers.rule;
	return 0;
}

static bool write_rule(const void *at, struct bh_buf *out)
{
	const struct bh_spec_device_rule *rule = at;
	struct rule_numbers numbers = {
		.rule = *rule,
		.major = { rule->major >= 0, rule->major },
		.minor = { rule->minor >= 0, rule->minor },
	};

	bh_schema_write(rule_fields, &numbers, out);
	return true;
}
static const struct bh_field_codec rule_codec = { parse_rule, write_rule, NULL };

/* --- tables: config.md -------------------------------------------------------------------------------------------- */

static const struct bh_field id_map_fields[] = {
	NEEDED("containerID", U32, bh_id_map, container_id),
	NEEDED("hostID", U32, bh_id_map, host_id),
	NEEDED("size", U32, bh_id_map, size),
	{ 0 },
};

static const struct bh_field mount_fields[] = {
	NEEDED("destination", STRING, bh_spec_mount, destination),
	FIELD("type", STRING, bh_spec_mount, type),
	FIELD("source", STRING, bh_spec_mount, source),
	FIELD("options", STRINGS, bh_spec_mount, options),
	ARRAY("uidMappings", bh_spec_mount, uid_mappings, uid_mapping_count, id_map_fields),
	ARRAY("gidMappings", bh_spec_mount, gid_mappings, gid_mapping_count, id_map_fields),
	{ 0 },
};

static const struct bh_field root_fields[] = {
	FIELD("path", STRING, bh_spec, root.path),
	FIELD("readonly", BOOL, bh_spec, root.readonly),
	{ 0 },
};

static const struct bh_field console_fields[] = {
	NEEDED("height", U16, bh_spec_process, console_size.height),
	NEEDED("width", U16, bh_spec_process, console_size.width),
	{ 0 },
};

static const struct bh_field user_fields[] = {
	FIELD("uid", U32, bh_spec_process, user.uid),
	FIELD("gid", U32, bh_spec_process, user.gid),
	FLAGGED("umask", U32, bh_spec_process, user.umask, user.umask_set),
	{ .name = "additionalGids",
	  .type = BH_FIELD_ARRAY,
	  .offset = AT(bh_spec_process, user.additional_gids),
	  .extra = AT(bh_spec_process, user.additional_gid_count),
	  .size = sizeof(uint32_t),
	  .codec = &gid_codec },
	{ 0 },
};

static const struct bh_field capability_fields[] = {
	CODED("bounding", bh_spec_process, capabilities.bounding, &capability_set),
	CODED("effective", bh_spec_process, capabilities.effective, &capability_set),
	CODED("inheritable", bh_spec_process, capabilities.inheritable, &capability_set),
	CODED("permitted", bh_spec_process, capabilities.permitted, &capability_set),
	CODED("ambient", bh_spec_process, capabilities.ambient, &capability_set),
	{ 0 },
};

static const struct bh_field rlimit_fields[] = {
	NEEDED("type", STRING, bh_spec_rlimit, type),
	NEEDED("soft", U64, bh_spec_rlimit, soft),
	NEEDED("hard", U64, bh_spec_rlimit, hard),
	{ 0 },
};

static const struct bh_field process_fields[] = {
	FIELD("terminal", BOOL, bh_spec_process, terminal),
	FLAGGED_OBJECT("consoleSize", console_fields, bh_spec_process, console_size.set),
	OBJECT("user", user_fields),
	FIELD("args", STRINGS, bh_spec_process, args),
	FIELD("env", STRINGS, bh_spec_process, env),
	NEEDED("cwd", STRING, bh_spec_process, cwd),
	FLAGGED_OBJECT("capabilities", capability_fields, bh_spec_process, capabilities.set),
	ARRAY("rlimits", bh_spec_process, rlimits, rlimit_count, rlimit_fields),
	FIELD("noNewPrivileges", BOOL, bh_spec_process, no_new_privileges),
	FIELD("apparmorProfile", STRING, bh_spec_process, apparmor_profile),
	FIELD("selinuxLabel", STRING, bh_spec_process, selinux_label),
	FIELD("oomScoreAdj", OPT_I64, bh_spec_process, oom_score_adj),
	FLAGGED_OBJECT("scheduler", bh_spec_scheduler_fields, bh_spec_process, scheduler.set),
	FLAGGED_OBJECT("ioPriority", bh_spec_io_priority_fields, bh_spec_process, io_priority.set),
	OBJECT("execCPUAffinity", bh_spec_affinity_fields),
	{ 0 },
};

static const struct bh_field hook_fields[] = {
	NEEDED("path", STRING, bh_spec_hook, path),
	FIELD("args", STRINGS, bh_spec_hook, args),
	FLAGGED("env", STRINGS, bh_spec_hook, env, env_given),
	FIELD("timeout", I64, bh_spec_hook, timeout_s),
	{ 0 },
};

#define HOOKS(json, member) ARRAY(json, bh_spec, hooks.member.items, hooks.member.count, hook_fields)
static const struct bh_field hooks_fields[] = {
	HOOKS("prestart", prestart),
	HOOKS("createRuntime", create_runtime),
	HOOKS("createContainer", create_container),
	HOOKS("startContainer", start_container),
	HOOKS("poststart", poststart),
	HOOKS("poststop", poststop),
	{ 0 },
};

/* --- tables: config-linux.md -------------------------------------------------------------------------------------- */

static const struct bh_field device_fields[] = {
	CODED("type", bh_spec_device, type, &letter),
	NEEDED("path", STRING, bh_spec_device, path),
	FIELD("major", I64, bh_spec_device, major),
	FIELD("minor", I64, bh_spec_device, minor),
	FLAGGED("fileMode", U32, bh_spec_device, file_mode, mode_set),
	FIELD("uid", U32, bh_spec_device, uid),
	FIELD("gid", U32, bh_spec_device, gid),
	{ 0 },
};

static const struct bh_field memory_fields[] = {
	FIELD("limit", OPT_I64, bh_spec, resources.memory.limit),
	FIELD("reservation", OPT_I64, bh_spec, resources.memory.reservation),
	FIELD("swap", OPT_I64, bh_spec, resources.memory.swap),
	FIELD("kernel", OPT_I64, bh_spec, resources.memory.kernel),
	FIELD("kernelTCP", OPT_I64, bh_spec, resources.memory.kernel_tcp),
	FIELD("swappiness", OPT_U64, bh_spec, resources.memory.swappiness),
	FIELD("disableOOMKiller", BOOL, bh_spec, resources.memory.disable_oom_killer),
	FIELD("useHierarchy", BOOL, bh_spec, resources.memory.use_hierarchy),
	FIELD("checkBeforeUpdate", BOOL, bh_spec, resources.memory.check_before_update),
	{ 0 },
};

static const struct bh_field cpu_fields[] = {
	FIELD("shares", OPT_U64, bh_spec, resources.cpu.shares),
	FIELD("quota", OPT_I64, bh_spec, resources.cpu.quota),
	FIELD("burst", OPT_U64, bh_spec, resources.cpu.burst),
	FIELD("period", OPT_U64, bh_spec, resources.cpu.period),
	FIELD("realtimeRuntime", OPT_I64, bh_spec, resources.cpu.realtime_runtime),
	FIELD("realtimePeriod", OPT_U64, bh_spec, resources.cpu.realtime_period),
	FIELD("cpus", STRING, bh_spec, resources.cpu.cpus),
	FIELD("mems", STRING, bh_spec, resources.cpu.mems),
	FIELD("idle", OPT_I64, bh_spec, resources.cpu.idle),
	{ 0 },
};

static const struct bh_field pids_fields[] = {
	FIELD("limit", OPT_I64, bh_spec, resources.pids_limit),
	{ 0 },
};

static const struct bh_field weight_device_fields[] = {
	NEEDED("major", I64, bh_spec_weight_device, major),
	NEEDED("minor", I64, bh_spec_weight_device, minor),
	FIELD("weight", OPT_U64, bh_spec_weight_device, weight),
	FIELD("leafWeight", OPT_U64, bh_spec_weight_device, leaf_weight),
	{ 0 },
};

static const struct bh_field throttle_fields[] = {
	NEEDED("major", I64, bh_spec_throttle, major),
	NEEDED("minor", I64, bh_spec_throttle, minor),
	NEEDED("rate", U64, bh_spec_throttle, rate),
	{ 0 },
};

#define THROTTLE(json, member) ARRAY(json, bh_spec, resources.block_io.member, resources.block_io.member##_count, throttle_fields)
static const struct bh_field block_io_fields[] = {
	FIELD("weight", OPT_U64, bh_spec, resources.block_io.weight),
	FIELD("leafWeight", OPT_U64, bh_spec, resources.block_io.leaf_weight),
	ARRAY("weightDevice", bh_spec, resources.block_io.weight_devices, resources.block_io.weight_device_count, weight_device_fields),
	THROTTLE("throttleReadBpsDevice", read_bps),
	THROTTLE("throttleWriteBpsDevice", write_bps),
	THROTTLE("throttleReadIOPSDevice", read_iops),
	THROTTLE("throttleWriteIOPSDevice", write_iops),
	{ 0 },
};

static const struct bh_field hugepage_fields[] = {
	NEEDED("pageSize", STRING, bh_spec_hugepage_limit, page_size),
	NEEDED("limit", U64, bh_spec_hugepage_limit, limit),
	{ 0 },
};

static const struct bh_field resource_fields[] = {
	{ .name = "devices",
	  .type = BH_FIELD_ARRAY,
	  .offset = AT(bh_spec, resources.devices),
	  .extra = AT(bh_spec, resources.device_count),
	  .size = sizeof(struct bh_spec_device_rule),
	  .codec = &rule_codec },
	OBJECT("memory", memory_fields),
	OBJECT("cpu", cpu_fields),
	OBJECT("pids", pids_fields),
	OBJECT("blockIO", block_io_fields),
	ARRAY("hugepageLimits", bh_spec, resources.hugepage_limits, resources.hugepage_limit_count, hugepage_fields),
	FIELD("unified", MAP, bh_spec, resources.unified),
	OBJECT("network", bh_spec_network_fields),
	{ .name = "rdma", .type = BH_FIELD_CUSTOM, .offset = 0, .extra = BH_FIELD_NOWHERE, .codec = &bh_spec_rdma_codec },
	{ 0 },
};

static const struct bh_field seccomp_arg_fields[] = {
	NEEDED("index", U32, bh_spec_seccomp_arg, index),
	NEEDED("value", U64, bh_spec_seccomp_arg, value),
	FIELD("valueTwo", U64, bh_spec_seccomp_arg, value_two),
	NEEDED("op", STRING, bh_spec_seccomp_arg, op),
	{ 0 },
};

static const struct bh_field seccomp_rule_fields[] = {
	NEEDED("names", STRINGS, bh_spec_seccomp_rule, names),
	NEEDED("action", STRING, bh_spec_seccomp_rule, action),
	FLAGGED("errnoRet", U32, bh_spec_seccomp_rule, errno_ret, errno_set),
	ARRAY("args", bh_spec_seccomp_rule, args, arg_count, seccomp_arg_fields),
	{ 0 },
};

static const struct bh_field seccomp_fields[] = {
	NEEDED("defaultAction", STRING, bh_spec, seccomp.default_action),
	FLAGGED("defaultErrnoRet", U32, bh_spec, seccomp.default_errno_ret, seccomp.default_errno_set),
	FIELD("architectures", STRINGS, bh_spec, seccomp.architectures),
	FLAGGED("flags", STRINGS, bh_spec, seccomp.flags, seccomp.flags_set),
	FIELD("listenerPath", STRING, bh_spec, seccomp.listener_path),
	FIELD("listenerMetadata", STRING, bh_spec, seccomp.listener_metadata),
	ARRAY("syscalls", bh_spec, seccomp.rules, seccomp.rule_count, seccomp_rule_fields),
	{ 0 },
};

/* The filter is an object of its own only when its source is RULES; the source is no JSON field. */
static int parse_seccomp(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	struct bh_spec *spec = at;

	spec->seccomp.source = BH_SECCOMP_RULES;
	return bh_schema_parse(value, seccomp_fields, spec, path, err);
}

static bool write_seccomp(const void *at, struct bh_buf *out)
{
	const struct bh_spec *spec = at;

	bh_schema_write(seccomp_fields, spec, out);
	return spec->seccomp.source == BH_SECCOMP_RULES;
}

static void clear_seccomp(void *at)
{
	bh_schema_clear(seccomp_fields, at);
}
static const struct bh_field_codec seccomp_codec = { parse_seccomp, write_seccomp, clear_seccomp };

static const struct bh_field linux_fields[] = {
	CODED("namespaces", bh_spec, namespaces, &namespaces_codec),
	ARRAY("uidMappings", bh_spec, uid_mappings, uid_mapping_count, id_map_fields),
	ARRAY("gidMappings", bh_spec, gid_mappings, gid_mapping_count, id_map_fields),
	{ .name = "timeOffsets", .type = BH_FIELD_CUSTOM, .offset = 0, .extra = AT(bh_spec, time_offsets.set), .codec = &bh_spec_time_offsets_codec },
	ARRAY("devices", bh_spec, devices, device_count, device_fields),
	FIELD("cgroupsPath", STRING, bh_spec, cgroups_path),
	OBJECT("resources", resource_fields),
	FIELD("sysctl", MAP, bh_spec, sysctl),
	FIELD("rootfsPropagation", STRING, bh_spec, rootfs_propagation),
	FIELD("mountLabel", STRING, bh_spec, mount_label),
	FIELD("maskedPaths", STRINGS, bh_spec, masked_paths),
	FIELD("readonlyPaths", STRINGS, bh_spec, readonly_paths),
	{ .name = "seccomp", .type = BH_FIELD_CUSTOM, .offset = 0, .extra = BH_FIELD_NOWHERE, .codec = &seccomp_codec },
	FLAGGED_OBJECT("intelRdt", bh_spec_intel_rdt_fields, bh_spec, intel_rdt.set),
	FLAGGED_OBJECT("personality", bh_spec_personality_fields, bh_spec, personality.set),
	{ .name = "netDevices", .type = BH_FIELD_CUSTOM, .offset = 0, .extra = BH_FIELD_NOWHERE, .codec = &bh_spec_net_devices_codec },
	FLAGGED_OBJECT("memoryPolicy", bh_spec_memory_policy_fields, bh_spec, memory_policy.set),
	{ 0 },
};

/* `process` has its own structure inside the spec, since exec takes one alone. */
static int parse_process(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	return bh_schema_parse(value, process_fields, at, path, err);
}

static bool write_process(const void *at, struct bh_buf *out)
{
	bh_schema_write(process_fields, at, out);
	return true;
}

static void clear_process(void *at)
{
	bh_schema_clear(process_fields, at);
}
static const struct bh_field_codec process_codec = { parse_process, write_process, clear_process };

static const struct bh_field spec_fields[] = {
	NEEDED("ociVersion", STRING, bh_spec, oci_version),
	OBJECT("root", root_fields),
	ARRAY("mounts", bh_spec, mounts, mount_count, mount_fields),
	{ .name = "process", .type = BH_FIELD_CUSTOM, .offset = AT(bh_spec, process), .extra = AT(bh_spec, has_process), .codec = &process_codec },
	FIELD("hostname", STRING, bh_spec, hostname),
	FIELD("domainname", STRING, bh_spec, domainname),
	OBJECT("hooks", hooks_fields),
	FIELD("annotations", MAP, bh_spec, annotations),
	OBJECT("linux", linux_fields),
	FLAGGED_OBJECT("vm", bh_spec_vm_fields, bh_spec, vm.set),
	{ 0 },
};

/* --- checks over several fields ----------------------------------------------------------------------------------- */

static int check_version(const char *version, struct bh_error *err)
{
	/* Semantic versioning: every 1.x configuration is understood, nothing else. */
	if (!bh_has_prefix(version, "1."))
		return bh_error_text(err, EINVAL, "ociVersion: '%.40s' is not a version 1 configuration", version);
	return 0;
}

static int check_hooks(const struct bh_spec_hooks *hooks, const char *name, struct bh_error *err)
{
	for (size_t i = 0; i < hooks->count; i++) {
		if (hooks->items[i].path[0] != '/')
			return bh_error_text(err, EINVAL, "hooks.%s[%zu].path: '%.200s' is not absolute", name, i, hooks->items[i].path);
		if (hooks->items[i].timeout_s < 0)
			return bh_error_text(err, EINVAL, "hooks.%s[%zu].timeout: must not be negative", name, i);
	}
	return 0;
}

static int check_all_hooks(const struct bh_spec *spec, struct bh_error *err)
{
	const struct {
		const struct bh_spec_hooks *hooks;
		const char *name;
	} all[] = {
		{ &spec->hooks.prestart, "prestart" },
		{ &spec->hooks.create_runtime, "createRuntime" },
		{ &spec->hooks.create_container, "createContainer" },
		{ &spec->hooks.start_container, "startContainer" },
		{ &spec->hooks.poststart, "poststart" },
		{ &spec->hooks.poststop, "poststop" },
	};

	for (size_t i = 0; i < BH_ARRAY_SIZE(all); i++) {
		int r = check_hooks(all[i].hooks, all[i].name, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_devices(const struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < spec->device_count; i++) {
		const struct bh_spec_device *d = &spec->devices[i];

		if (!d->type || !strchr("cbup", d->type))
			return bh_error_text(err, EINVAL, "linux.devices[%zu].type: expected c, b, u or p", i);
		if (d->path[0] != '/')
			return bh_error_text(err, EINVAL, "linux.devices[%zu].path: '%.200s' is not absolute", i, d->path);
		if (d->major < 0 || d->minor < 0 || d->major > UINT32_MAX || d->minor > UINT32_MAX)
			return bh_error_text(err, EINVAL, "linux.devices[%zu]: the device number is out of range", i);
	}
	return 0;
}

static int check(const struct bh_spec *spec, struct bh_error *err)
{
	int r = check_version(spec->oci_version, err);

	if (r == 0)
		r = check_all_hooks(spec, err);
	if (r == 0)
		r = check_devices(spec, err);
	if (r < 0)
		return r;
	if (spec->has_process)
		r = bh_spec_check_process(&spec->process, err);
	if (r == 0)
		r = bh_spec_check_linux(spec, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < spec->mount_count; i++)
		if (!spec->mounts[i].destination[0])
			return bh_error_text(err, EINVAL, "mounts[%zu].destination: is empty", i);
	return 0;
}

/* As runc: a relative destination is one below the root. */
static void make_destinations_absolute(struct bh_spec *spec)
{
	for (size_t i = 0; i < spec->mount_count; i++) {
		char **destination = &spec->mounts[i].destination;
		char *absolute = **destination == '/' ? NULL : bh_printf("/%s", *destination);

		if (!absolute)
			continue;
		bh_info("mount %s: relative destination path is **deprecated**, using it as relative to /", *destination);
		free(*destination);
		*destination = absolute;
	}
}

/* --- entry points ------------------------------------------------------------------------------------------------- */

static void take_seccomp_annotation(struct bh_spec *spec)
{
	for (size_t i = spec->annotations.count; i-- > 0;) {
		if (!bh_has_prefix(spec->annotations.items[i], SECCOMP_ANNOTATION))
			continue;
		if (bh_streq(spec->annotations.items[i], SECCOMP_ANNOTATION "default") && spec->seccomp.source == BH_SECCOMP_NONE)
			spec->seccomp.source = BH_SECCOMP_DEFAULT;
		bh_strv_remove(&spec->annotations, i);
	}
}

static int read_json(const char *json, size_t length, json_object **ret_object, struct bh_error *err)
{
	json_tokener *tokener;
	json_object *object;
	size_t end;
	int r = 0;

	if (length > BH_SPEC_JSON_MAX)
		return bh_error_text(err, EFBIG, "the configuration is larger than %u bytes", BH_SPEC_JSON_MAX);
	tokener = json_tokener_new_ex(BH_SPEC_JSON_DEPTH);
	if (!tokener)
		return bh_error_set(err, ENOMEM, "allocate a JSON parser");
	/* Strictly JSON: with it json-c wants nothing behind the end, not even what is allowed there. */
	json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_STRICT);
	while (length > 0 && strchr(" \t\r\n", json[length - 1]) && json[length - 1])
		length--;
	object = json_tokener_parse_ex(tokener, json, (int)length);
	end = json_tokener_get_parse_end(tokener);
	if (!object)
		r = bh_error_text(err, EINVAL, "not valid JSON at byte %zu: %s", end, json_tokener_error_desc(json_tokener_get_error(tokener)));
	if (r == 0 && end < length)
		r = bh_error_text(err, EINVAL, "not valid JSON at byte %zu: text after the end", end);
	json_tokener_free(tokener);
	if (r < 0)
		json_object_put(object);
	else
		*ret_object = object;
	return r;
}

int bh_spec_parse(const char *json, size_t length, struct bh_spec *ret_spec, struct bh_error *err)
{
	struct bh_spec spec = { 0 };
	json_object *object = NULL;
	int r = read_json(json, length, &object, err);

	if (r < 0)
		return r;
	r = bh_schema_parse(object, spec_fields, &spec, NULL, err);
	json_object_put(object);
	if (r == 0)
		r = check(&spec, err);
	if (r < 0) {
		bh_spec_clear(&spec);
		return r;
	}
	make_destinations_absolute(&spec);
	take_seccomp_annotation(&spec);
	*ret_spec = spec;
	return 0;
}

int bh_spec_parse_process(const char *json, size_t length, struct bh_spec_process *ret_process, struct bh_error *err)
{
	static const struct bh_json_path path = { NULL, "process", 0 };
	struct bh_spec_process process = { 0 };
	json_object *object = NULL;
	int r = read_json(json, length, &object, err);

	if (r < 0)
		return r;
	r = bh_schema_parse(object, process_fields, &process, &path, err);
	json_object_put(object);
	if (r == 0)
		r = bh_spec_check_process(&process, err);
	if (r < 0)
		bh_spec_process_clear(&process);
	else
		*ret_process = process;
	return r;
}

void bh_spec_process_clear(struct bh_spec_process *process)
{
	bh_schema_clear(process_fields, process);
	*process = (struct bh_spec_process){ 0 };
}

int bh_spec_parse_resources(const char *json, size_t length, struct bh_spec *ret_spec, struct bh_error *err)
{
	const struct bh_json_path path = { .name = "resources" };
	struct bh_spec spec = { 0 };
	json_object *object = NULL;
	int r = read_json(json, length, &object, err);

	if (r < 0)
		return r;
	r = bh_schema_parse(object, resource_fields, &spec, &path, err);
	json_object_put(object);
	if (r < 0)
		bh_spec_clear(&spec);
	else
		*ret_spec = spec;
	return r;
}

void bh_spec_write(const struct bh_spec *spec, struct bh_buf *out)
{
	struct bh_spec copy = *spec;
	bh_auto_strv struct bh_strv annotations = { 0 };

	if (spec->seccomp.source == BH_SECCOMP_DEFAULT) {
		bh_strv_extend(&annotations, spec->annotations.items);
		bh_strv_add(&annotations, SECCOMP_ANNOTATION "default");
		copy.annotations = annotations;
	}
	bh_schema_write(spec_fields, &copy, out);
}

void bh_spec_clear(struct bh_spec *spec)
{
	bh_schema_clear(spec_fields, spec);
	*spec = (struct bh_spec){ 0 };
}
