/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that describe the runtime configuration share: how their tables are written, and whose table is where. */
#pragma once

#include "oci/schema-internal.h"
#include "oci/spec.h"

#define AT(structure, member) (unsigned short)offsetof(struct structure, member)
#define FIELD(json, kind, structure, member)                                                                        \
	{                                                                                                           \
		.name = (json), .type = BH_FIELD_##kind, .offset = AT(structure, member), .extra = BH_FIELD_NOWHERE \
	}
#define NEEDED(json, kind, structure, member)                                                                                         \
	{                                                                                                                             \
		.name = (json), .type = BH_FIELD_##kind, .offset = AT(structure, member), .extra = BH_FIELD_NOWHERE, .required = true \
	}
#define FLAGGED(json, kind, structure, member, flag)                                                                   \
	{                                                                                                              \
		.name = (json), .type = BH_FIELD_##kind, .offset = AT(structure, member), .extra = AT(structure, flag) \
	}
#define OBJECT(json, table)                                                                           \
	{                                                                                             \
		.name = (json), .type = BH_FIELD_OBJECT, .extra = BH_FIELD_NOWHERE, .fields = (table) \
	}
#define FLAGGED_OBJECT(json, table, structure, flag)                                                     \
	{                                                                                                \
		.name = (json), .type = BH_FIELD_OBJECT, .extra = AT(structure, flag), .fields = (table) \
	}
#define ARRAY(json, structure, items, count, table)                                                                    \
	{                                                                                                              \
		.name = (json), .type = BH_FIELD_ARRAY, .offset = AT(structure, items), .extra = AT(structure, count), \
		.size = sizeof(*((struct structure *)0)->items), .fields = (table)                                     \
	}
#define CODED(json, structure, member, coder)                                                                                         \
	{                                                                                                                             \
		.name = (json), .type = BH_FIELD_CUSTOM, .offset = AT(structure, member), .extra = BH_FIELD_NOWHERE, .codec = (coder) \
	}

/* spec-process.c: scheduler, ioPriority, execCPUAffinity; and what must hold for every `process` object. */
extern const struct bh_field bh_spec_scheduler_fields[], bh_spec_io_priority_fields[], bh_spec_affinity_fields[];
int bh_spec_check_process(const struct bh_spec_process *process, struct bh_error *err);

/* spec-linux.c: the smaller objects of `linux`. Their codecs work on the whole struct bh_spec. */
extern const struct bh_field bh_spec_personality_fields[], bh_spec_intel_rdt_fields[], bh_spec_memory_policy_fields[];
extern const struct bh_field_codec bh_spec_time_offsets_codec, bh_spec_net_devices_codec;
int bh_spec_check_linux(const struct bh_spec *spec, struct bh_error *err);

/* spec-vm.c */
extern const struct bh_field bh_spec_vm_fields[];

/* spec-resources.c: linux.resources.network and .rdma; the codec works on the whole struct bh_spec. */
extern const struct bh_field bh_spec_network_fields[];
extern const struct bh_field_codec bh_spec_rdma_codec;
