/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two parts of linux.resources whose form needs more than a row in a table (runtime-spec config-linux.md, "Network" and
 * "RDMA"): rdma is a map whose keys are the devices.
 */
#include "oci/spec-internal.h"

#include <ctype.h>

#define RDMA_DEVICES_MAX 256

static const struct bh_field priority_fields[] = {
	NEEDED("name", STRING, bh_spec_interface_priority, name),
	NEEDED("priority", U32, bh_spec_interface_priority, priority),
	{ 0 },
};

const struct bh_field bh_spec_network_fields[] = {
	FIELD("classID", OPT_U64, bh_spec, resources.network.class_id),
	ARRAY("priorities", bh_spec, resources.network.priorities, resources.network.priority_count, priority_fields),
	{ 0 },
};

static const struct bh_field rdma_fields[] = {
	FIELD("hcaHandles", OPT_U64, bh_spec_rdma_limit, hca_handles),
	FIELD("hcaObjects", OPT_U64, bh_spec_rdma_limit, hca_objects),
	{ 0 },
};

/* Becomes a word of a line in rdma.max. */
static bool is_device_name(const char *name)
{
	size_t length = strlen(name);

	for (size_t i = 0; i < length; i++)
		if (!isgraph((unsigned char)name[i]))
			return false;
	return length > 0 && length < 64;
}

static int parse_rdma(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	struct bh_spec_resources *resources = &((struct bh_spec *)at)->resources;

	if (!json_object_is_type(value, json_type_object))
		return bh_schema_error(path, err, "expected an object");
	if (resources->rdma)
		return bh_schema_error(path, err, "is given twice");
	if (json_object_object_length(value) > RDMA_DEVICES_MAX)
		return bh_schema_error(path, err, "has too many devices (at most %d)", RDMA_DEVICES_MAX);
	resources->rdma = bh_calloc((size_t)json_object_object_length(value) + 1, sizeof *resources->rdma);
	json_object_object_foreach(value, device, limit)
	{
		struct bh_json_path here = { path, device, 0 };
		struct bh_spec_rdma_limit *entry = &resources->rdma[resources->rdma_count];
		int r;

		if (!is_device_name(device))
			return bh_schema_error(&here, err, "not a name of a device");
		resources->rdma_count++;
		entry->device = bh_strdup(device);
		r = bh_schema_parse(limit, rdma_fields, entry, &here, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool write_rdma(const void *at, struct bh_buf *out)
{
	const struct bh_spec_resources *resources = &((const struct bh_spec *)at)->resources;

	bh_buf_addc(out, '{');
	for (size_t i = 0; i < resources->rdma_count; i++) {
		bh_buf_adds(out, i ? "," : "");
		bh_buf_add_json(out, resources->rdma[i].device);
		bh_buf_addc(out, ':');
		bh_schema_write(rdma_fields, &resources->rdma[i], out);
	}
	bh_buf_addc(out, '}');
	return resources->rdma_count > 0;
}

static void clear_rdma(void *at)
{
	struct bh_spec_resources *resources = &((struct bh_spec *)at)->resources;

	for (size_t i = 0; i < resources->rdma_count; i++)
		free(resources->rdma[i].device);
	free(resources->rdma);
	resources->rdma = NULL;
	resources->rdma_count = 0;
}

const struct bh_field_codec bh_spec_rdma_codec = { parse_rdma, write_rdma, clear_rdma };
