/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smaller objects of `linux` (runtime-spec config-linux.md): personality, intelRdt, memoryPolicy, netDevices,
 * timeOffsets; and the checks over `linux` that need no kernel. What is wrong is told in runc's words where runc has some.
 *
 * netDevices and timeOffsets are maps whose keys mean something: the device on the host, the clock. Both codecs work on
 * the whole specification.
 */
#include "oci/spec-internal.h"

#include <errno.h>

const struct bh_field bh_spec_personality_fields[] = {
	NEEDED("domain", STRING, bh_spec, personality.domain),
	FIELD("flags", STRINGS, bh_spec, personality.flags),
	{ 0 },
};

const struct bh_field bh_spec_intel_rdt_fields[] = {
	FIELD("closID", STRING, bh_spec, intel_rdt.clos_id),
	FIELD("schemata", STRINGS, bh_spec, intel_rdt.schemata),
	FIELD("l3CacheSchema", STRING, bh_spec, intel_rdt.l3_cache_schema),
	FIELD("memBwSchema", STRING, bh_spec, intel_rdt.mem_bw_schema),
	FIELD("enableCMT", BOOL, bh_spec, intel_rdt.enable_cmt),
	FIELD("enableMBM", BOOL, bh_spec, intel_rdt.enable_mbm),
	FIELD("enableMonitoring", BOOL, bh_spec, intel_rdt.enable_monitoring),
	{ 0 },
};

const struct bh_field bh_spec_memory_policy_fields[] = {
	NEEDED("mode", STRING, bh_spec, memory_policy.mode),
	FIELD("nodes", STRING, bh_spec, memory_policy.nodes),
	FIELD("flags", STRINGS, bh_spec, memory_policy.flags),
	{ 0 },
};

/* --- timeOffsets -------------------------------------------------------------------------------------------------- */

static const struct bh_field monotonic_fields[] = {
	FIELD("secs", I64, bh_spec, time_offsets.monotonic_secs),
	FIELD("nanosecs", U32, bh_spec, time_offsets.monotonic_nanosecs),
	{ 0 },
};

static const struct bh_field boottime_fields[] = {
	FIELD("secs", I64, bh_spec, time_offsets.boottime_secs),
	FIELD("nanosecs", U32, bh_spec, time_offsets.boottime_nanosecs),
	{ 0 },
};

static const struct bh_field time_offset_fields[] = {
	OBJECT("monotonic", monotonic_fields),
	OBJECT("boottime", boottime_fields),
	{ 0 },
};

static int parse_time_offsets(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	struct bh_spec *spec = at;
	int r;

	if (!json_object_is_type(value, json_type_object))
		return bh_schema_error(path, err, "expected an object");
	json_object_object_foreach(value, clock, offset)
	{
		struct bh_json_path here = { path, clock, 0 };

		(void)offset;
		if (!bh_streq(clock, "monotonic") && !bh_streq(clock, "boottime"))
			return bh_schema_error(&here, err, "is no clock of a time namespace");
	}
	r = bh_schema_parse(value, time_offset_fields, spec, path, err);
	if (r == 0 && (spec->time_offsets.monotonic_nanosecs > 999999999 || spec->time_offsets.boottime_nanosecs > 999999999))
		r = bh_schema_error(path, err, "nanosecs must be below one second");
	return r;
}

static bool write_time_offsets(const void *at, struct bh_buf *out)
{
	bh_schema_write(time_offset_fields, at, out);
	return true;
}
const struct bh_field_codec bh_spec_time_offsets_codec = { parse_time_offsets, write_time_offsets, NULL };

/* --- netDevices --------------------------------------------------------------------------------------------------- */

static const struct bh_field net_device_fields[] = {
	FIELD("name", STRING, bh_spec_net_device, name),
	{ 0 },
};

static int parse_net_devices(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	struct bh_spec *spec = at;

	if (!json_object_is_type(value, json_type_object))
		return bh_schema_error(path, err, "expected an object");
	if (spec->net_devices)
		return bh_schema_error(path, err, "is given twice");
	spec->net_devices = bh_calloc((size_t)json_object_object_length(value) + 1, sizeof *spec->net_devices);
	json_object_object_foreach(value, host_name, device)
	{
		struct bh_json_path here = { path, host_name, 0 };
		struct bh_spec_net_device *d = &spec->net_devices[spec->net_device_count++];
		int r;

		d->host_name = bh_strdup(host_name);
		r = bh_schema_parse(device, net_device_fields, d, &here, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool write_net_devices(const void *at, struct bh_buf *out)
{
	const struct bh_spec *spec = at;

	bh_buf_addc(out, '{');
	for (size_t i = 0; i < spec->net_device_count; i++) {
		bh_buf_adds(out, i ? "," : "");
		bh_buf_add_json(out, spec->net_devices[i].host_name);
		bh_buf_addc(out, ':');
		bh_schema_write(net_device_fields, &spec->net_devices[i], out);
	}
	bh_buf_addc(out, '}');
	return spec->net_device_count > 0;
}

static void clear_net_devices(void *at)
{
	struct bh_spec *spec = at;

	for (size_t i = 0; i < spec->net_device_count; i++) {
		free(spec->net_devices[i].host_name);
		free(spec->net_devices[i].name);
	}
	free(spec->net_devices);
	spec->net_devices = NULL;
	spec->net_device_count = 0;
}
const struct bh_field_codec bh_spec_net_devices_codec = { parse_net_devices, write_net_devices, clear_net_devices };

/* --- checks ------------------------------------------------------------------------------------------------------- */

#define INTERFACE_NAME_MAX 15 /* IFNAMSIZ without the end */

/* The kernel's own rule (dev_valid_name), and no colon, which is an alias. */
static bool is_interface_name(const char *name)
{
	if (!*name || strlen(name) > INTERFACE_NAME_MAX || bh_streq(name, ".") || bh_streq(name, ".."))
		return false;
	return !name[strcspn(name, "/: \t\r\n\v\f")];
}

static int check_net_devices(const struct bh_spec *spec, struct bh_error *err)
{
	for (size_t i = 0; i < spec->net_device_count; i++) {
		const struct bh_spec_net_device *d = &spec->net_devices[i];
		const char *name = d->name && *d->name ? d->name : d->host_name;

		if (!is_interface_name(d->host_name))
			return bh_error_text(err, EINVAL, "linux.netDevices: invalid network device name \"%.40s\"", d->host_name);
		if (!is_interface_name(name))
			return bh_error_text(err, EINVAL, "linux.netDevices.%s: invalid network device name \"%.40s\"", d->host_name, name);
		for (size_t j = 0; j < i; j++) {
			const char *other = spec->net_devices[j].name && *spec->net_devices[j].name ? spec->net_devices[j].name :
												      spec->net_devices[j].host_name;

			if (bh_streq(name, other))
				return bh_error_text(err, EINVAL, "linux.netDevices: two devices would be named \"%s\"", name);
		}
	}
	if (spec->net_device_count && !spec->namespaces[BH_NS_NETWORK].present)
		return bh_error_text(err, EINVAL, "linux.netDevices: unable to move network devices without a private NET namespace");
	return 0;
}

static int check_personality(const struct bh_spec *spec, struct bh_error *err)
{
	if (!spec->personality.set)
		return 0;
	if (!bh_streq(spec->personality.domain, "LINUX") && !bh_streq(spec->personality.domain, "LINUX32"))
		return bh_error_text(err, EINVAL, "linux.personality: invalid personality domain %.40s", spec->personality.domain);
	if (spec->personality.flags.count)
		return bh_error_text(err, EINVAL, "linux.personality.flags: '%.40s' is not supported", spec->personality.flags.items[0]);
	return 0;
}

static int check_intel_rdt(const struct bh_spec *spec, struct bh_error *err)
{
	const char *id = spec->intel_rdt.clos_id;

	/* "/" is the default group. */
	if (id && !bh_streq(id, "/") && (bh_streq(id, ".") || bh_streq(id, "..") || strchr(id, '/')))
		return bh_error_text(err, EINVAL, "linux.intelRdt: invalid intelRdt.ClosID \"%.100s\"", id);
	return 0;
}

static int check_user_namespace(const struct bh_spec *spec, struct bh_error *err)
{
	if (!spec->namespaces[BH_NS_USER].present && (spec->uid_mapping_count || spec->gid_mapping_count))
		return bh_error_text(err, EINVAL,
				     "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config");
	return 0;
}

static int check_time_namespace(const struct bh_spec *spec, struct bh_error *err)
{
	if (spec->time_offsets.set && !spec->namespaces[BH_NS_TIME].present)
		return bh_error_text(err, EINVAL,
				     "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config");
	return 0;
}

static int check_propagation(const struct bh_spec *spec, struct bh_error *err)
{
	static const char *const words[] = {
		"", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable",
	};

	for (size_t i = 0; spec->rootfs_propagation && i < BH_ARRAY_SIZE(words); i++)
		if (bh_streq(spec->rootfs_propagation, words[i]))
			return 0;
	return spec->rootfs_propagation ?
		       bh_error_text(err, EINVAL, "linux.rootfsPropagation: rootfsPropagation=%.40s is not supported", spec->rootfs_propagation) :
		       0;
}

int bh_spec_check_linux(const struct bh_spec *spec, struct bh_error *err)
{
	static int (*const checks[])(const struct bh_spec *, struct bh_error *) = {
		check_net_devices, check_personality, check_intel_rdt, check_user_namespace, check_time_namespace, check_propagation,
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < BH_ARRAY_SIZE(checks); i++)
		r = checks[i](spec, err);
	return r;
}
