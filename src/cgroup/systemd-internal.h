/* SPDX-License-Identifier: Apache-2.0 */
/* The systemd driver's own parts; see systemd.c. */
#pragma once

#include "cgroup/cgroup-internal.h"
#include "cgroup/dbus-internal.h"

/* systemd-properties.c: an array "a(sv)" of unit properties, in a body that is aligned at 0. */
struct bh_unit_properties {
	struct bh_buf *out;
	size_t mark;
};
void bh_unit_properties_open(struct bh_unit_properties *p, struct bh_buf *out);
void bh_unit_properties_close(struct bh_unit_properties *p);
void bh_unit_property_string(struct bh_unit_properties *p, const char *name, const char *value);
void bh_unit_property_bool(struct bh_unit_properties *p, const char *name, bool value);
void bh_unit_property_u64(struct bh_unit_properties *p, const char *name, uint64_t value);
void bh_unit_property_pid(struct bh_unit_properties *p, const char *name, pid_t pid);
/* What runc sets for linux.resources; `version` of the cgroup layout. */
int bh_unit_properties_from_resources(struct bh_unit_properties *p, int version, const struct bh_spec_resources *resources, struct bh_error *err);
/* Annotations "org.systemd.property.NAME=VALUE"; others are passed over. */
int bh_unit_properties_from_annotations(struct bh_unit_properties *p, const struct bh_strv *annotations, struct bh_error *err);

/* systemd.c: "slice:prefix:name" (or nothing) taken apart. */
struct bh_unit_name {
	char *slice, *unit; /* "system.slice", "runc-x.scope" */
};
int bh_unit_name_parse(const char *cgroups_path, const char *id, bool user, struct bh_unit_name *ret_name, struct bh_error *err);
void bh_unit_name_clear(struct bh_unit_name *name);
