/* SPDX-License-Identifier: Apache-2.0 */
/* The `vm` object (runtime-spec config-vm.md), for whoever makes virtual machines. */
#include "oci/spec-internal.h"

static const struct bh_field hypervisor_fields[] = {
	FIELD("path", STRING, bh_spec, vm.hypervisor.path),
	FIELD("parameters", STRINGS, bh_spec, vm.hypervisor.parameters),
	{ 0 },
};

static const struct bh_field kernel_fields[] = {
	FIELD("path", STRING, bh_spec, vm.kernel.path),
	FIELD("parameters", STRINGS, bh_spec, vm.kernel.parameters),
	FIELD("initrd", STRING, bh_spec, vm.kernel.initrd),
	{ 0 },
};

static const struct bh_field image_fields[] = {
	FIELD("path", STRING, bh_spec, vm.image.path),
	FIELD("format", STRING, bh_spec, vm.image.format),
	{ 0 },
};

static const struct bh_field io_memory_fields[] = {
	NEEDED("firstGFN", U64, bh_spec_io_memory, first_gfn),
	NEEDED("firstMFN", U64, bh_spec_io_memory, first_mfn),
	NEEDED("nrMFNs", U64, bh_spec_io_memory, mfn_count),
	{ 0 },
};

static int parse_irq(json_object *value, void *at, const struct bh_json_path *path, struct bh_error *err)
{
	int64_t number = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;

	if (number < 0 || number > UINT32_MAX)
		return bh_schema_error(path, err, "expected an interrupt number");
	*(uint32_t *)at = (uint32_t)number;
	return 0;
}

static bool write_irq(const void *at, struct bh_buf *out)
{
	bh_buf_addf(out, "%u", *(const uint32_t *)at);
	return true;
}
static const struct bh_field_codec irq_codec = { parse_irq, write_irq, NULL };

static const struct bh_field hw_config_fields[] = {
	FIELD("deviceTree", STRING, bh_spec, vm.hw_config.device_tree),
	FIELD("vcpus", U32, bh_spec, vm.hw_config.vcpus),
	FIELD("memory", U64, bh_spec, vm.hw_config.memory_bytes),
	FIELD("dtdevs", STRINGS, bh_spec, vm.hw_config.dtdevs),
	ARRAY("iomems", bh_spec, vm.hw_config.io_memories, vm.hw_config.io_memory_count, io_memory_fields),
	{ .name = "irqs",
	  .type = BH_FIELD_ARRAY,
	  .offset = AT(bh_spec, vm.hw_config.irqs),
	  .extra = AT(bh_spec, vm.hw_config.irq_count),
	  .size = sizeof(uint32_t),
	  .codec = &irq_codec },
	{ 0 },
};

const struct bh_field bh_spec_vm_fields[] = {
	OBJECT("hypervisor", hypervisor_fields),
	OBJECT("kernel", kernel_fields),
	OBJECT("image", image_fields),
	OBJECT("hwConfig", hw_config_fields),
	{ 0 },
};
